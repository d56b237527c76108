"""Means over the seeds of a benchmark: intervals, a test, and many tests at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fairprune_sk.benchmarks.statistics.results import EQUAL


class Interval(NamedTuple):
    """A mean and its confidence interval.

    Attributes
    ----------
    mean, low, high : float
    """

    mean: float
    low: float
    high: float


class TTest(NamedTuple):
    """A test of whether a mean is 0, and the mean's confidence interval.

    Attributes
    ----------
    statistic, p_value : float
        Of the test.
    mean, low, high : float
        In the units of what was compared.
    """

    statistic: float
    p_value: float
    mean: float
    low: float
    high: float


def mean_interval(values: Any, confidence: float = 0.95) -> Interval:
    """Mean of independent values and Student's t interval of it.

    Parameters
    ----------
    values : array-like of shape (n,)
        One for each seed.
    confidence : float
        Probability that the interval covers the mean.

    Returns
    -------
    Interval
        ``mean``, ``low``, ``high``, in the units of the values. The ends are NaN for fewer than
        two values, the mean is for none.

    Raises
    ------
    ValueError
        If a value is NaN, or the confidence is not in (0, 1).

    Examples
    --------
    >>> from fairprune_sk.benchmarks.statistics import mean_interval
    >>> mean, low, high = mean_interval([0.80, 0.82, 0.84])
    >>> print(f"{mean:.2f} [{low:.3f}, {high:.3f}]")
    0.82 [0.770, 0.870]
    """
    if not 0 < confidence < 1:
        raise ValueError(f"Got confidence={confidence}, but expected a number in (0, 1).")
    v = np.asarray(values, dtype=float)
    if np.isnan(v).any():
        raise ValueError(
            f"Got {np.isnan(v).sum()} NaN of {len(v)} values, but expected numbers: leave failed "
            "fits out first."
        )
    if len(v) < 2:
        return Interval(float(v[0]) if len(v) else np.nan, np.nan, np.nan)
    mean = float(v.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)))
    return Interval(mean, mean - half, mean + half)


def corrected_t_test(
    differences: Any,
    n_train: float,
    n_test: float,
    *,
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TTest:
    """Test whether a mean difference is 0, with Nadeau and Bengio's corrected resampled t-test.

    Random splits of one table share rows, so that J differences are not independent and the
    usual variance of their mean, s² / J, is too small. Here it is (1/J + n_test/n_train) · s².

    Parameters
    ----------
    differences : array-like of shape (J,)
        Of two methods, one for each split.
    n_train, n_test : float
        Rows of the two parts of a split. With ``n_test=0`` this is the usual t-test.
    alternative : {"two-sided", "greater", "less"}
        What the p-value is of: a mean that is not 0, above 0, or below 0.
    confidence : float
        Of the interval, which has two sides for every alternative.

    Returns
    -------
    TTest
        ``statistic``, ``p_value``, ``mean``, ``low``, ``high``. All but the mean are NaN for one
        difference. Where all differences are the same, they have no variance: the p-value is
        that of a statistic of 0 if they are 0, and of ±infinity if they are not.

    Raises
    ------
    ValueError
        If there is no difference, one is NaN, or n_train is not positive.

    References
    ----------
    C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine Learning 52, 2003.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.statistics import corrected_t_test
    >>> test = corrected_t_test([0.02, 0.03, 0.01, 0.02], n_train=800, n_test=200)
    >>> print(f"{test.mean:.3f} [{test.low:.3f}, {test.high:.3f}] p={test.p_value:.3f}")
    0.020 [0.002, 0.038] p=0.041
    """
    tails = {
        "two-sided": lambda t, df: 2 * stats.t.sf(abs(t), df),
        "greater": stats.t.sf,
        "less": stats.t.cdf,
    }
    if alternative not in tails:
        raise ValueError(f"Got alternative={alternative!r}, but expected one of {list(tails)}.")
    if not 0 < confidence < 1:
        raise ValueError(f"Got confidence={confidence}, but expected a number in (0, 1).")
    if not (n_train > 0 and n_test >= 0):
        raise ValueError(f"Got n_train={n_train}, n_test={n_test}, but expected counts of rows.")
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or not len(d) or np.isnan(d).any():
        raise ValueError(f"Got differences={d.tolist()}, but expected at least one, and no NaN.")
    mean, df = float(d.mean()), len(d) - 1
    if df == 0:
        return TTest(np.nan, np.nan, mean, np.nan, np.nan)
    if np.ptp(d) <= EQUAL:
        statistic = 0.0 if abs(mean) <= EQUAL else float(np.copysign(np.inf, mean))
        return TTest(statistic, float(tails[alternative](statistic, df)), mean, mean, mean)
    scale = float(np.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1)))
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * scale
    p_value = float(tails[alternative](mean / scale, df))
    return TTest(mean / scale, p_value, mean, mean - half, mean + half)


def holm(p_values: Any) -> np.ndarray:
    """Adjust p-values for their number, by Holm's step-down method.

    Parameters
    ----------
    p_values : array-like of shape (n,)
        NaN for a test that could not be made, which does not count.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> from fairprune_sk.benchmarks.statistics import holm
    >>> holm([0.01, float("nan"), 0.04])
    array([0.02,  nan, 0.04])
    """
    p = np.asarray(p_values, dtype=float)
    adjusted, made = np.full(len(p), np.nan), ~np.isnan(p)
    if made.any():
        adjusted[made] = multipletests(p[made], method="holm")[1]
    return adjusted
