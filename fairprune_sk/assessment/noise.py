"""How much of a gap is noise: what fairlearn does not tell, and is redrawn here.

Which gap groups with equal rates would show (:func:`noise_floor`), and how far a gap could have
come out otherwise.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from fairprune_sk.assessment.gaps import TINY, Cells, checked_cells, compare_rates, largest_gap
from fairprune_sk.fairness.constraints import Constraint

N_DRAWS = 1000
"""Draws behind each noise floor and each interval."""

_CHUNK = 2_000_000  # numbers drawn at a time


def _multinomial(
    n: np.ndarray, shares: np.ndarray, n_draws: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw exclusive outcomes of n rows, shape (n_draws, *n.shape, n_outcomes)."""
    left, share_left, drawn = n, 1.0, []
    for share in np.moveaxis(shares, -1, 0):
        # Rounding can leave a weighted share a hair above what is left.
        p = np.clip(share / np.maximum(share_left, TINY), 0.0, 1.0)
        drawn.append(rng.binomial(left, p, (n_draws, *n.shape)))
        left, share_left = left - drawn[-1], share_left - share
    return np.stack(drawn, -1)


def _redrawn_gaps(cells: Cells, shares: np.ndarray, n_draws: int, random_state: Any) -> np.ndarray:
    """Gaps after the outcomes of each cell's rows are redrawn, shape (n_draws,)."""
    rng = check_random_state(random_state)
    gaps = []
    chunk = max(1, _CHUNK // (cells.n.size * len(cells.patterns)))
    for start in range(0, n_draws, chunk):
        drawn = _multinomial(cells.n, shares, min(chunk, n_draws - start), rng)
        rates = drawn @ cells.patterns / np.maximum(cells.n, 1)[..., None]
        gaps.append(largest_gap(compare_rates(rates, cells.n, cells.comparison, "between_groups")))
    return np.concatenate(gaps)


class Noise(NamedTuple):
    """What redrawing says about a gap."""

    low: float
    high: float
    """Percentile interval under the bootstrap that is stratified by event, stratum and group."""
    floor: float
    """Mean gap at parity."""
    parity_high: float
    """What parity shows in a share ``confidence_level`` of the draws."""


def gap_noise(cells: Cells, confidence_level: float, random_state: Any) -> Noise:
    """Redraw a gap with the groups' own rates, and with equal ones."""
    own = _redrawn_gaps(cells, cells.shares, N_DRAWS, random_state)
    low, high = np.quantile(own, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    parity = _redrawn_gaps(cells, cells.pooled, N_DRAWS, random_state)
    return Noise(low, high, parity.mean(), np.quantile(parity, confidence_level))


def noise_floor(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    control_features: Any = None,
    missing_sensitive: str = "error",
    constraint: str | Constraint = "equalized_odds",
    pos_label: Any = None,
    sample_weight: Any = None,
    n_draws: int = N_DRAWS,
    random_state: Any = 0,
) -> float:
    """Mean gap that would be seen on these rows if the groups had equal rates.

    A gap is a largest minus a smallest rate, so noise alone makes it positive: more so with
    more groups, and with fewer rows in the smallest. The outcomes of every cell (event, stratum,
    group) are redrawn as Binomial(n_cell, rate over all groups) / n_cell, and the gaps averaged.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels: of {0, 1} or of {-1, 1}, of more than two classes, or of any
        kind with a ``pos_label``.
    sensitive_features : Series, DataFrame, ndarray, list or dict of arrays
        Several columns stand for their intersections.
    control_features : Series, DataFrame, ndarray, list or dict of arrays, optional
        Groups are compared, and have equal rates, within each stratum; the gap is the largest
        of any stratum.
    missing_sensitive : {"error", "group", "ignore"}
        What becomes of rows without a sensitive feature; see :func:`fairness_report`.
    constraint : str or Constraint
        What is compared, by the name that ``FairPruner`` takes, or an object: of
        ``fairprune_sk.fairness``, or of a class of your own. None that is relative to the
        dense network.
    pos_label : object, optional
        The label whose rates are compared. By default 1 of two labels; of more than two,
        each against the rest.
    sample_weight : array-like of shape (n,), optional
        Each cell then has Kish's effective number of rows, (Σw)² / Σw².
    n_draws : int
    random_state : int, RandomState or None

    Returns
    -------
    float
        A fraction in [0, 1], to compare with the gap itself. NaN where the gap is undefined:
        fewer than two groups have rows with that true label.

    Raises
    ------
    ValueError
        If lengths differ, two labels do not say which is positive, or the constraint is unknown.

    Notes
    -----
    Of more than two classes, the gap is the largest over the classes. Their selection rates are
    redrawn together (what one class gets, the others lose), and so are the true positive rates,
    which rest on different rows. False positive rates of different classes rest on rows in
    common, but are redrawn one by one: each is exact, their largest up to a few percent too large.

    Examples
    --------
    Predictions by coin toss are fair, and yet 50 rows a group show a gap:

    >>> import numpy as np
    >>> from fairprune_sk.assessment import noise_floor
    >>> y_true, y_pred = np.random.RandomState(0).randint(2, size=(2, 100))
    >>> sex = np.repeat(["Female", "Male"], 50)
    >>> print(f"{noise_floor(y_true, y_pred, sensitive_features=sex):.2f}")
    0.16
    """
    cells = checked_cells(
        y_true, y_pred, sensitive_features, control_features, missing_sensitive, constraint,
        pos_label, sample_weight,
    )  # fmt: skip
    return float(_redrawn_gaps(cells, cells.pooled, n_draws, random_state).mean())
