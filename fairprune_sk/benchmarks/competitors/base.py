"""What every competitor shares."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fairprune_sk.benchmarks.competitors.families import BASES
from fairprune_sk.benchmarks.competitors.inputs import SEEDS, checked_labels, checked_table
from fairprune_sk.fairness.groups import group_codes, group_name, sensitive_frame

CONSTRAINTS = ("equalized_odds", "demographic_parity")
"""What every fair competitor can hold between groups."""


class Competitor(ClassifierMixin, BaseEstimator):
    """What all of them check, and how they name classes and groups."""

    needs_sensitive_features = False
    # A reduction without slack need not have a solution.
    can_be_exact = False

    def _start(self, X: Any, y: Any, sensitive_features: Any) -> tuple[Any, np.ndarray, Any]:
        """Check parameters and inputs; X as a DataFrame, y as 0 and 1, groups as names."""
        check_parameters(self)
        X = checked_table(self, X, reset=True)
        y, self.classes_ = checked_labels(self, X, y)
        self._seed = check_random_state(self.random_state).randint(SEEDS)
        groups = None
        if hasattr(self, "constraint"):
            groups = self._groups(sensitive_features, len(X))
            self.groups_ = np.unique(groups)
            if len(self.groups_) < 2:
                raise ValueError(
                    f"Got sensitive_features with one group, {str(self.groups_[0])!r}, but "
                    "expected at least two: between which groups should rates be equal?"
                )
        return X, y, groups

    def _groups(self, sensitive_features: Any, n_rows: int) -> np.ndarray:
        """Name of the group of each row."""
        if sensitive_features is None:
            raise ValueError(
                f"Got no sensitive_features, but {type(self).__name__} needs the group of each "
                "row: pass sensitive_features=..."
            )
        codes, groups = group_codes(sensitive_frame(sensitive_features, n_rows))
        return np.array([group_name(group) for group in groups], dtype=str)[codes]

    def _encoded(self, X: Any) -> np.ndarray:
        """Rows to predict, as the classifiers below read them."""
        check_is_fitted(self)
        return self.encoder_.transform(checked_table(self, X, reset=False))


class Bounded(Competitor):
    """A competitor with a base, a constraint and a tolerance, and no more to choose."""

    def __init__(
        self,
        base: str = "logistic",
        *,
        constraint: str = "equalized_odds",
        tolerance: float = 0.05,
        random_state: Any = None,
    ):
        self.base = base
        self.constraint = constraint
        self.tolerance = tolerance
        self.random_state = random_state


def check_parameters(estimator: Any) -> None:
    """Refuse parameters that are not as documented, before any training."""
    choices = {"base": BASES, "constraint": CONSTRAINTS}
    exact = estimator.can_be_exact
    numbers = {
        "tolerance": (
            Real,
            lambda v: (0 if exact else 1e-6) <= v <= 1,
            f"a number in {'[' if exact else '('}0, 1]",
        ),
        "alpha": (Real, lambda v: 0 <= v < np.inf, "a number >= 0"),
        "lr": (Real, lambda v: 0 < v < np.inf, "a number > 0"),
        "max_epochs": (Integral, lambda v: v >= 1, "None or an integer >= 1"),
        "batch_size": (Integral, lambda v: v >= 1, "an integer >= 1"),
        "max_iter": (Integral, lambda v: v >= 1, "None or an integer >= 1"),
    }
    for name, value in estimator.get_params(deep=False).items():
        if name in choices and value not in choices[name]:
            expected = ", ".join(map(repr, choices[name]))
            raise ValueError(f"Got {name}={value!r}, but expected one of {expected}.")
        if name in numbers and not (value is None and name in ("max_iter", "max_epochs")):
            kind, holds, words = numbers[name]
            if not isinstance(value, kind) or isinstance(value, bool) or not holds(value):
                raise ValueError(f"Got {name}={value!r}, but expected {words}.")
        if name == "hidden" and not all(isinstance(n, Integral) and int(n) >= 1 for n in value):
            raise ValueError(f"Got hidden={value!r}, but expected numbers of units, such as (64,).")
