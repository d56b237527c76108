"""A rule for the ``refit`` of a search: the sparsest network within limits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from numbers import Real
from typing import Any

import numpy as np

from fairprune_sk.exceptions import ConstraintNotMetWarning

# 0.8 - 0.6 is a hair above 0.2 in floating point, and yet within a limit of 0.2.
_ROUNDING = 1e-9

_LIMITS = ("max_gap", "max_accuracy_loss", "min_accuracy")


@dataclass(frozen=True, eq=False)
class SparsestWithin:
    """Rule for ``refit=``; :func:`sparsest_within` makes one and says what it does.

    It equals the name of the accuracy's score: ``search.score`` looks the score that it gives up
    under ``refit``, which may be a name, and finds no other rule.
    """

    max_gap: float | None = None
    max_accuracy_loss: float | None = None
    min_accuracy: float | None = None
    gap: str = "gap"
    accuracy: str = "accuracy"
    sparsity: str | None = None

    def __post_init__(self) -> None:
        """Check the limits."""
        for name in _LIMITS:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and 0 <= float(value) <= 1):
                raise ValueError(f"Got {name}={value!r}, but expected a number in [0, 1] or None.")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return other == self.accuracy
        return isinstance(other, SparsestWithin) and astuple(self) == astuple(other)

    def __hash__(self) -> int:
        return hash(self.accuracy)

    def __call__(self, cv_results: Mapping[str, Any]) -> int:
        """Choose a candidate.

        Parameters
        ----------
        cv_results : dict of arrays of shape (n_candidates,)
            As ``GridSearchCV.cv_results_``.

        Returns
        -------
        int
            Index of the chosen candidate.

        Raises
        ------
        ValueError
            If a column is missing, every candidate has failed, or the gap's scores are not
            minus a gap.

        Warns
        -----
        ConstraintNotMetWarning
            If no candidate is within the limits.
        """
        sparsity = self._sparsity(cv_results)
        accuracy = self._mean(cv_results, self.accuracy)
        gap = np.zeros(len(accuracy))
        if self.max_gap is not None:
            gap = -self._mean(cv_results, self.gap)
        if (gap < -_ROUNDING).any():
            raise ValueError(
                f"Got 'mean_test_{self.gap}' above 0, but expected minus a gap, as "
                "make_fairness_scorer() scores it without a tolerance."
            )
        failed = np.isnan(accuracy + gap)
        if failed.all():
            raise ValueError("Got no candidate with scores: they are NaN, every one has failed.")

        excess = np.zeros(len(accuracy))
        if self.max_gap is not None:
            excess += np.maximum(gap - self.max_gap, 0.0)
        if self.max_accuracy_loss is not None:
            excess += np.maximum(np.nanmax(accuracy) - self.max_accuracy_loss - accuracy, 0.0)
        if self.min_accuracy is not None:
            excess += np.maximum(self.min_accuracy - accuracy, 0.0)
        excess = np.where(failed, np.inf, np.where(excess > _ROUNDING, excess, 0.0))
        best = int(np.lexsort((-accuracy, -sparsity, excess))[0])
        if excess[best] > 0.0:
            limits = [f"{n}={getattr(self, n)}" for n in _LIMITS if getattr(self, n) is not None]
            reached = f"accuracy {np.nanmax(accuracy):.4f}"
            chosen = f"accuracy {accuracy[best]:.4f}"
            if self.max_gap is not None:
                reached += f", gap {np.nanmin(gap):.4f}"
                chosen += f", gap {gap[best]:.4f}"
            warnings.warn(
                f"No candidate is within {', '.join(limits)}. The best figures reached, each by "
                f"itself: {reached}. Candidate {best} comes closest: {chosen}. Allow more, or "
                "search lower sparsities.",
                ConstraintNotMetWarning,
                stacklevel=2,
            )
        return best

    def _mean(self, cv_results: Mapping[str, Any], name: str) -> np.ndarray:
        """Mean test score of each candidate."""
        if f"mean_test_{name}" not in cv_results:
            prefix = "mean_test_"
            scores = [key.removeprefix(prefix) for key in cv_results if key.startswith(prefix)]
            raise ValueError(
                f"Got no score {name!r}, but expected one of {scores}, the scores of this search: "
                "name yours with accuracy= and gap=."
            )
        return np.asarray(cv_results[f"mean_test_{name}"], dtype=np.float64)

    def _sparsity(self, cv_results: Mapping[str, Any]) -> np.ndarray:
        """Sparsity of each candidate; -inf where a candidate does not set it."""
        params = [key.removeprefix("param_") for key in cv_results if key.startswith("param_")]
        names = [name for name in params if f"__{name}".endswith("__sparsity")]
        if self.sparsity is not None:
            names = [name for name in params if name == self.sparsity]
        if len(names) != 1:
            raise ValueError(
                f"Got {names or 'no sparsity'} among the searched parameters {params}, but "
                "expected one: search over the sparsity, and say sparsity= where there are several."
            )
        column = np.ma.asarray(cv_results[f"param_{names[0]}"]).astype(np.float64)
        return np.ma.filled(column, -np.inf)


def sparsest_within(
    *,
    max_gap: float | None = None,
    max_accuracy_loss: float | None = None,
    min_accuracy: float | None = None,
    gap: str = "gap",
    accuracy: str = "accuracy",
    sparsity: str | None = None,
) -> SparsestWithin:
    """Make a rule for ``refit=`` of a search: the sparsest candidate within the limits.

    Parameters
    ----------
    max_gap : float in [0, 1] or None, default=None
        Largest allowed mean gap. ``None``, here and below: no limit.
    max_accuracy_loss : float in [0, 1] or None, default=None
        How far the mean accuracy may lie below that of the most accurate candidate.
    min_accuracy : float in [0, 1] or None, default=None
        Smallest allowed mean accuracy.
    gap, accuracy : str, default="gap" and "accuracy"
        Names of the scores in ``scoring``; the gap's scores are minus the gap.
    sparsity : str or None, default=None
        Searched parameter to maximise. ``None`` is the one that is named ``sparsity`` or ends in
        ``__sparsity``.

    Returns
    -------
    SparsestWithin
        Called with ``cv_results_``, it returns the index of the candidate: among those within
        the limits the sparsest, then the most accurate. Where there is none, it warns and
        returns the candidate that exceeds the limits by least in sum. Failed candidates (NaN)
        are never chosen.

    Raises
    ------
    ValueError
        If a limit is not a number in [0, 1].

    See Also
    --------
    make_fairness_scorer : Make the scorer of the gap.

    Notes
    -----
    With several scores and a rule for ``refit``, scikit-learn sets no ``best_score_``.
    ``search.score`` gives the score that ``accuracy`` names.

    Examples
    --------
    ``GridSearchCV(..., scoring={"accuracy": "accuracy", "gap": make_fairness_scorer()},
    refit=rule)`` calls the rule with its results:

    >>> from fairprune_sk.assessment import sparsest_within
    >>> rule = sparsest_within(max_gap=0.05, max_accuracy_loss=0.01)
    >>> rule({
    ...     "param_sparsity": [0.5, 0.9, 0.95],
    ...     "mean_test_accuracy": [0.850, 0.845, 0.846],
    ...     "mean_test_gap": [-0.02, -0.04, -0.09],
    ... })
    1
    """
    return SparsestWithin(max_gap, max_accuracy_loss, min_accuracy, gap, accuracy, sparsity)
