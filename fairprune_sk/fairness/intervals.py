"""Interval of a gap, from the rates behind it and how well each is known."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

TINY = np.finfo(float).tiny
"""Least divisor, where a weight may be 0: what is divided is 0 as well then."""


def interval_of_gap(
    rates: np.ndarray,
    variance: np.ndarray,
    weight: np.ndarray,
    comparison: str,
    confidence_level: float,
    gap_method: str = "between_groups",
) -> tuple[float, float]:
    """Confidence interval of a gap, from intervals of every comparison behind it.

    The gap is one comparison, the truly largest. It is below the upper ends of all with at least
    the probability that it is below its own, so upper ends need no correction for how many there
    are; the lower ends do (Bonferroni).

    Parameters
    ----------
    rates, variance : ndarray of shape (..., n_groups, n_outcomes)
        Of each cell, and of its rate as an estimate.
    weight : ndarray of shape (..., n_groups)
        Of the rows in each cell, 0 where it does not count.
    comparison : {"difference", "ratio"}
    confidence_level : float
    gap_method : {"between_groups", "to_overall"}

    Returns
    -------
    low, high : float
        NaN where there is nothing to compare.
    """
    some = np.broadcast_to((weight > 0)[..., None], rates.shape)
    some = some & (some.sum(-2, keepdims=True) >= 2)
    share = np.where(some, weight[..., None], 0.0)
    share = share / np.maximum(share.sum(-2, keepdims=True), TINY)
    overall = (share * rates).sum(-2, keepdims=True)
    if comparison == "ratio":  # a difference of logarithms
        variance = variance / np.maximum(rates, TINY) ** 2
        share = share * rates / np.maximum(overall, TINY)
        rates, overall = (np.log(np.maximum(rate, TINY)) for rate in (rates, overall))
    variance = np.where(some, variance, 0.0)
    if gap_method == "to_overall":
        # A group is a part of what it is compared with.
        of_overall = (share**2 * variance).sum(-2, keepdims=True)
        errors = np.sqrt(variance * (1 - 2 * share) + of_overall)
        pairs = [(rates - overall, errors, some), (overall - rates, errors, some)]
    else:
        groups = [np.s_[..., g : g + 1, :] for g in range(rates.shape[-2])]
        other = ~np.eye(len(groups), dtype=bool)[:, :, None]
        pairs = [
            (rates[g] - rates, np.sqrt(variance[g] + variance), some[g] & some & other[i])
            for i, g in enumerate(groups)
        ]
    n_compared = sum(int(known.sum()) for _, _, known in pairs)
    if not n_compared:
        return np.nan, np.nan
    alpha = (1 - confidence_level) / 2
    z_low, z_high = norm.isf([alpha / n_compared, alpha])
    low = max(float((d - z_low * e)[known].max(initial=0.0)) for d, e, known in pairs)
    high = max(float((d + z_high * e)[known].max(initial=0.0)) for d, e, known in pairs)
    if comparison == "ratio":
        low, high = 1 - np.exp(-low), 1 - np.exp(-high)
    return float(low), float(min(high, 1.0))
