"""Fair training as a sequence of reweighted ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fairlearn.reductions import ExponentiatedGradient

from fairprune_sk.benchmarks.competitors.base import Competitor
from fairprune_sk.benchmarks.competitors.families import fit_encoder
from fairprune_sk.fairness.requirement import MOMENTS


class Reduction(Competitor):
    """The reductions approach: a mixture of classifiers, each fitted to reweighted rows.

    fairlearn's ``ExponentiatedGradient`` [1]_. It bounds each group against all rows together; a
    bound of ``tolerance / 2`` there keeps any two groups within ``tolerance`` of each other.
    Predictions draw one classifier of the mixture for each row, and with them the gap holds on
    average over draws; ``random_state`` fixes the draws.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="logistic"
        As for :class:`Unconstrained`. The table is encoded once, not for each refit.
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
    tolerance : float in (0, 1], default=0.05
        Largest gap between two groups on the training rows: a difference of rates.
    max_iter : int >= 1 or None, default=None
        Iterations, each of which refits about three times. None is fairlearn's 50 for
        "logistic" and "boosting", and 10 for "mlp", where a refit is a training of the network:
        see ``converged_``.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    reduction_ : ExponentiatedGradient
        Fitted, for the encoded table.
    converged_ : bool
        Whether the duality gap fell below fairlearn's threshold, a part of the standard error
        of the accuracy, within ``max_iter``.
    needs_sensitive_features : bool
        False: ``predict`` does not need them.

    References
    ----------
    .. [1] Agarwal, Beygelzimer, Dudik, Langford, Wallach, "A Reductions Approach to Fair
       Classification", ICML 2018.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Reduction
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = Reduction("logistic", tolerance=0.03, random_state=0)
    >>> fair.fit(X, y, sensitive_features=s["sex"]).predict(X).shape
    (1000,)
    """

    def __init__(
        self,
        base: str = "logistic",
        *,
        constraint: str = "equalized_odds",
        tolerance: float = 0.05,
        max_iter: int | None = None,
        random_state: Any = None,
    ):
        self.base = base
        self.constraint = constraint
        self.tolerance = tolerance
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> Reduction:
        """Fit the mixture.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        Reduction
        """
        X, y, groups = self._start(X, y, sensitive_features)
        self.encoder_, classifier = fit_encoder(self.base, X, y, self._seed)
        max_iter = self.max_iter
        if max_iter is None:
            max_iter = 10 if self.base == "mlp" else 50
        self.reduction_ = ExponentiatedGradient(
            classifier,
            MOMENTS[self.constraint](difference_bound=self.tolerance / 2),
            max_iter=max_iter,
        )
        with _fairlearn():
            self.reduction_.fit(self.encoder_.transform(X), y, sensitive_features=groups)
        self.converged_ = bool(self.reduction_.best_gap_ < self.reduction_.nu)
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels, the same at each call.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n,)
        """
        return self.classes_[self.reduction_.predict(self._encoded(X), random_state=self._seed)]


@contextmanager
def _fairlearn() -> Iterator[None]:
    """Hide what pandas tells fairlearn's authors about their code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
