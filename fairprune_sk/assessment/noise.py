"""How much of a gap is noise, which fairlearn does not tell: estimates that do not lean.

What gap groups with equal rates would show (:func:`noise_floor`), and what the measured gap says
about that of the people whom the rows were drawn from (:func:`gap_estimate`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from fairprune_sk.assessment.gaps import (
    Cells,
    check_gap_method,
    checked_cells,
    compare_rates,
    gaps_by_class,
    largest_gap,
)
from fairprune_sk.assessment.rates import check_confidence_level
from fairprune_sk.fairness.constraints import Constraint
from fairprune_sk.fairness.intervals import TINY, interval_of_gap

N_DRAWS = 1000
"""Draws behind each noise floor and each correction."""

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


def _redrawn_gaps(
    cells: Cells,
    shares: np.ndarray,
    n_draws: int,
    random_state: Any,
    gap_method: str = "between_groups",
) -> np.ndarray:
    """Gaps after the outcomes of each cell's rows are redrawn, shape (n_draws,)."""
    rng = check_random_state(random_state)
    gaps = []
    chunk = max(1, _CHUNK // (cells.n.size * len(cells.patterns)))
    for start in range(0, n_draws, chunk):
        drawn = _multinomial(cells.n, shares, min(chunk, n_draws - start), rng)
        rates = drawn @ cells.patterns / np.maximum(cells.n, 1)[..., None]
        gaps.append(largest_gap(compare_rates(rates, cells.n, cells.comparison, gap_method)))
    return np.concatenate(gaps)


class GapEstimate(NamedTuple):
    """What the rows that were measured say about the gap of the people they were drawn from.

    Attributes
    ----------
    gap : float
        As it was measured; it leans upwards.
    corrected : float
        Less what it leans upwards.
    low, high : float
        Confidence interval of the population's gap.
    noise_floor : float
        Mean gap that groups with equal rates would show on these rows.
    parity_high : float
        What parity shows at most in a share ``confidence_level`` of the draws.
    """

    gap: float
    corrected: float
    low: float
    high: float
    noise_floor: float
    parity_high: float


def estimate_of(
    cells: Cells, confidence_level: float, gap_method: str = "between_groups", random_state: Any = 0
) -> GapEstimate:
    """Estimate the gap behind some cells; see :func:`gap_estimate`."""
    gap = float(largest_gap(gaps_by_class(cells, gap_method)))
    if np.isnan(gap):  # in one event of several, say
        return GapEstimate(*[np.nan] * 6)
    parity = _redrawn_gaps(cells, cells.pooled, N_DRAWS, random_state, gap_method)
    shares = _shrunken(cells)
    truth = float(largest_gap(gaps_by_class(cells._replace(shares=shares), gap_method)))
    redrawn = _redrawn_gaps(cells, shares, N_DRAWS, random_state, gap_method)
    lean = max(float(redrawn.mean()) - truth, 0.0)  # below 0 by chance of the draws only
    low, high = gap_interval(cells, confidence_level, gap_method)
    parity_high = float(np.quantile(parity, confidence_level))
    corrected = max(gap - lean, 0.0)
    return GapEstimate(gap, corrected, low, high, float(parity.mean()), parity_high)


def _shrunken(cells: Cells) -> np.ndarray:
    """Shares that are as far apart as the true ones, of the shape of ``cells.shares``.

    Rates that were seen are spread by noise as well. Their spread beyond that, the estimated
    variance between groups, says how far they go towards their mean: by the root of its share, so
    that as much spread is left as is true (Louis, "Estimating a population of parameter values
    using Bayes and empirical Bayes methods", JASA 1984).
    """
    some = (cells.weight > 0)[..., None]
    n_groups = np.maximum(some.sum(-2, keepdims=True), 1)
    mean = np.where(some, cells.shares, 0.0).sum(-2, keepdims=True) / n_groups
    _, variance = _judged(cells)
    apart = np.where(some, ((cells.shares - mean) @ cells.patterns) ** 2, 0.0)
    seen = apart.sum(-2, keepdims=True) / np.maximum(n_groups - 1, 1)
    noise = np.where(some, variance, 0.0)
    between = np.maximum(seen - noise.sum(-2, keepdims=True) / n_groups, 0.0)
    # Outcomes of one block are drawn together, and so they move together.
    between, noise = between.sum(-1, keepdims=True), noise.sum(-1, keepdims=True)
    left = np.sqrt(between / np.maximum(between + noise, TINY))
    return mean + left * (cells.shares - mean)


def _judged(cells: Cells) -> tuple[np.ndarray, np.ndarray]:
    """Rates of each cell and their variances, shape (..., n_groups, n_outcomes), for an interval.

    Two rows are added to each cell, spread over what an outcome can be: one success and one
    failure for a rate, as Agresti and Caffo do. Where nobody was selected among few rows, the rate
    is not known without error.
    """
    values = [np.union1d(column, [0, 1]) for column in cells.patterns.T]
    first, second = (np.array([np.mean(v**k) for v in values]) for k in (1, 2))
    n = cells.n[..., None]
    mean = (n * (cells.shares @ cells.patterns) + 2 * first) / (n + 2)
    square = (n * (cells.shares @ cells.patterns**2) + 2 * second) / (n + 2)
    return mean, (square - mean**2) / (n + 2)


def gap_interval(
    cells: Cells, confidence_level: float, gap_method: str = "between_groups"
) -> tuple[float, float]:
    """Confidence interval of a gap: :func:`interval_of_gap`, judged as Agresti and Caffo do.

    Parameters
    ----------
    cells : Cells
    confidence_level : float
    gap_method : {"between_groups", "to_overall"}

    Returns
    -------
    low, high : float
        NaN where there is nothing to compare.

    References
    ----------
    Agresti, Caffo: Simple and effective confidence intervals for proportions and differences of
    proportions result from adding two successes and two failures. The American Statistician, 2000.
    """
    rates, variance = _judged(cells)
    return interval_of_gap(
        rates, variance, cells.weight, cells.comparison, confidence_level, gap_method
    )


def gap_estimate(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    control_features: Any = None,
    missing_sensitive: str = "error",
    constraint: str | Constraint = "equalized_odds",
    gap_method: str = "between_groups",
    pos_label: Any = None,
    sample_weight: Any = None,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> GapEstimate:
    """Estimate the gap of a population from rows that were drawn from it.

    A gap is a largest difference, so the measured one leans upwards, most at parity. It is
    corrected by what redrawn rows lean: rates are drawn towards their mean until they are as far
    apart as the true ones, their gap is redrawn as often as there are draws, and by how much the
    redrawn ones are larger on average is taken off. The interval is :func:`gap_interval`'s.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, control_features, missing_sensitive, constraint, gap_method
        As for :func:`fairness_gap`.
    pos_label, sample_weight
        As for :func:`noise_floor`.
    confidence_level : float
        Of the interval, in (0, 1).
    random_state : int, RandomState or None

    Returns
    -------
    GapEstimate
        ``gap``, ``corrected``, ``low``, ``high``, ``noise_floor``: fractions in [0, 1], NaN where
        the gap is undefined.

    Raises
    ------
    ValueError
        As for :func:`fairness_gap`.

    Notes
    -----
    No estimate of a largest difference is without bias for all rates. Over tables with 2 to 8
    groups of 100 to 10,000 rows, with gaps from 0 to 0.2, the corrected gap leans by 0.4 times as
    much as the measured one on average, towards 0 in some. The interval covers in at least 95% of
    resamples in each of them, and in nearly all where there are many groups, for which it is wide.
    Neither knows that a classifier was fitted on the rows, or chosen by them.

    Examples
    --------
    >>> import numpy as np
    >>> from fairprune_sk.assessment import gap_estimate
    >>> y_true, y_pred = np.random.RandomState(0).randint(2, size=(2, 1000))
    >>> sex = np.repeat(["Female", "Male"], 500)
    >>> found = gap_estimate(y_true, y_pred, sensitive_features=sex)
    >>> print(f"{found.gap:.3f} {found.corrected:.3f}, {found.low:.3f} to {found.high:.3f}")
    0.009 0.000, 0.000 to 0.096
    """
    check_gap_method(gap_method)
    check_confidence_level(confidence_level)
    cells = checked_cells(
        y_true, y_pred, sensitive_features, control_features, missing_sensitive, constraint,
        pos_label, sample_weight,
    )  # fmt: skip
    return estimate_of(cells, confidence_level, gap_method, random_state)


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
