"""Two proportions: by how much one exceeds the other at most, in finite samples.

Bounds are Buehler's: outcomes (x1, x2) are ordered once and for all, by an approximate upper
limit, and the bound of an outcome is the largest value that leaves it, or one that ranks below
it, a probability of more than alpha. The approximate limit only ranks: what holds does not rest
on it. Limits of the same level rank best (Kabaila and Lloyd).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, gammaln, ndtri

_N_CELLS = 12
"""Cells of the nuisance rate's interval, and parts of each that is looked at more closely."""

_DEPTH = 2
"""How often: the finest cells are a 144th of the interval; finer ones gain 1% of a distance."""

_NUISANCE_SHARE = 0.02
"""Part of alpha that goes to the interval of the nuisance rate (Berger and Boos)."""

_LOG_OUTSIDE = 20.0
"""-log of the probability in each tail of a binomial that is not summed: 2e-9."""

_SLACK = 1e-8
"""Added to every probability: the four tails that were cut off, and rounding."""

_PRECISION = 4e-3
"""Of a bound, as a part of its distance from what was seen; it is rounded upwards."""

_WIDER = 0.02
"""By how much of its distance a bound is usually above the approximate limit."""

_EPS = np.finfo(float).eps
_TINY = 1e-12  # a rate of 0 in a logarithm


class Counts(NamedTuple):
    """Hits among rows."""

    hits: int
    n: int

    @property
    def rate(self) -> float:
        """Share of the hits; 0 without rows."""
        return self.hits / max(self.n, 1)


def wilson(
    rate: np.ndarray | float, n: np.ndarray | float, z: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's limits of a proportion: they rise with the rate.

    Parameters
    ----------
    rate, n : ndarray or float
        Share of hits, and the rows that it is of.
    z : float
        Normal quantile.

    Returns
    -------
    low, high : ndarray
    """
    n = np.maximum(n, 1)
    middle = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    return np.clip(middle - half, 0.0, rate), np.clip(middle + half, rate, 1.0)


def excess_of(rate1: float, rate2: float, comparison: str) -> float:
    """By how much one rate exceeds another: p1 − p2, or 1 − p2 / p1.

    Rates of 0 are equal; the ratio of a rate to 0 is unbounded.
    """
    if comparison == "difference":
        return rate1 - rate2
    return 1 - rate2 / rate1 if rate1 > 0 else (0.0 if rate2 == 0 else -np.inf)


def approximate_limit(
    rate1: np.ndarray | float,
    n1: np.ndarray | float,
    rate2: np.ndarray | float,
    n2: np.ndarray | float,
    z: float,
    comparison: str,
) -> np.ndarray:
    """Approximate upper limit of p1 − p2, or of log(p1 / p2): rises with p1, falls with p2.

    Of p1 + √(a(p1)² + b²), with a = Wilson's limit minus p1, the derivative is at least 1 + a',
    and a' is at least −1, since Wilson's limit rises. So it is for logarithms, and for p2.
    """
    high, low = wilson(rate1, n1, z)[1], wilson(rate2, n2, z)[0]
    if comparison == "ratio":
        rate1, high, rate2, low = (np.log(np.maximum(p, _TINY)) for p in (rate1, high, rate2, low))
    return rate1 - rate2 + np.hypot(high - rate1, rate2 - low)


def _pmf(x: np.ndarray, n: int, p: np.ndarray) -> np.ndarray:
    """Binomial probabilities, shape (len(p), len(x))."""
    ways = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    log_hit = np.log(np.maximum(p, np.finfo(float).tiny))[:, None]
    log_miss = np.log1p(-np.minimum(p, 1 - _EPS))[:, None]
    return np.exp(ways + x * log_hit + (n - x) * log_miss)


def _where_mass_is(n: int, p: np.ndarray) -> np.ndarray:
    """Outcomes outside of which no binomial of these rates has more than two tails' mass.

    By Bernstein's inequality, P[|X − np| ≥ t] ≤ 2 exp(−t² / (2 (np(1 − p) + t / 3))).
    """
    tail = _LOG_OUTSIDE / 3
    tail = tail + np.sqrt(tail**2 + 2 * _LOG_OUTSIDE * n * p * (1 - p))
    first, last = np.floor((n * p - tail).min()), np.ceil((n * p + tail).max())
    return np.arange(max(int(first), 0), min(int(last), n) + 1)


@dataclass(frozen=True)
class Excess:
    """By how much rate 1 exceeds rate 2, judged from counts of independent rows.

    The excess is p1 − p2 or, of ratios, 1 − p2 / p1. It is at most :meth:`upper` with a
    confidence of 1 − ``alpha`` in samples of any size: conditional on the numbers of rows, the
    chance of a bound below the true excess is at most ``alpha`` for all p1 and p2.

    The rate of the larger group is the nuisance. It is taken from its Clopper-Pearson interval
    of level 1 − ``alpha`` / 50 (Berger and Boos). Outcomes that rank at most as high as the one
    seen become less likely as p1 rises and more likely as p2 rises, so a cell of the interval
    is covered by its worst corner, not by points on a grid. Cells whose corner is not excluded
    are divided once, to a 144th of the interval.

    Parameters
    ----------
    first, second : Counts
        A group without rows may have any rate.
    alpha : float
    comparison : {"difference", "ratio"}

    References
    ----------
    Buehler: Confidence intervals for the product of two binomial parameters. JASA, 1957.
    Berger, Boos: P values maximized over a confidence set for the nuisance parameter. JASA, 1994.
    Kabaila, Lloyd: The efficiency of Buehler confidence limits. Statistics & Probability
    Letters, 2003.
    Newcombe: Interval estimation for the difference between independent proportions. Statistics
    in Medicine, 1998: the limits that rank.
    """

    first: Counts
    second: Counts
    alpha: float
    comparison: str = "difference"

    @property
    def seen(self) -> float:
        """Excess of the rates that were seen."""
        return excess_of(self.first.rate, self.second.rate, self.comparison)

    @cached_property
    def rank(self) -> float:
        """Approximate upper limit: what orders the outcomes."""
        return float(self._ranks(np.array([self.first.hits]), np.array([self.second.hits]))[0])

    def _ranks(self, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        n1, n2 = max(self.first.n, 1), max(self.second.n, 1)
        z = -float(ndtri(self.alpha))
        return approximate_limit(x1 / n1, n1, x2 / n2, n2, z, self.comparison)

    @cached_property
    def _known(self) -> np.ndarray:
        """What :meth:`_least` has found, by x1; -1 where it has not looked."""
        return np.full(self.first.n + 1, -1)

    def _least(self, x1: np.ndarray) -> np.ndarray:
        """For each x1 the least x2 with which it ranks at most as what was seen; n2 + 1: none."""
        new = x1[self._known[x1] < 0]
        low, high = np.zeros(len(new), dtype=int), np.full(len(new), self.second.n + 1)
        limit = self.rank + 1e-12  # ties are ties whatever the rounding
        while (low < high).any():
            middle = (low + high) // 2
            inside = self._ranks(new, np.minimum(middle, self.second.n)) <= limit
            inside |= middle == high  # found
            low, high = np.where(inside, low, middle + 1), np.where(inside, middle, high)
        self._known[new] = high
        return self._known[x1]

    @cached_property
    def _interval(self) -> tuple[float, float]:
        """Clopper-Pearson interval of the nuisance rate."""
        hits, n = max(self.first, self.second, key=lambda counts: counts.n)
        tail = _NUISANCE_SHARE * self.alpha / 2
        low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
        high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
        return low, high

    def _rates(
        self, low: np.ndarray, high: np.ndarray, excess: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least p1 and largest p2 of each cell of the nuisance with at least this excess.

        Beyond [0, 1] on the one side a cell cannot have it; on the other it asks nothing.
        """
        ratio = self.comparison == "ratio"
        if self.first.n < self.second.n:
            return (low / (1 - excess) if ratio else low + excess), high
        return low, (high * (1 - excess) if ratio else high - excess)

    def _probability(self, p1: np.ndarray, p2: np.ndarray) -> np.ndarray:
        """Probability of all outcomes that rank at most as the one seen, shape (len(p1),)."""
        p1, p2 = np.clip(p1, 0.0, 1.0), np.clip(p2, 0.0, 1.0)
        x1, x2 = _where_mass_is(self.first.n, p1), _where_mass_is(self.second.n, p2)
        # P[X2 >= x2], with a 0 behind the last.
        tail = np.cumsum(_pmf(x2, self.second.n, p2)[:, ::-1], axis=1)[:, ::-1]
        tail = np.pad(tail, ((0, 0), (0, 1)))
        at = np.clip(self._least(x1) - x2[0], 0, len(x2))
        return np.einsum("kx,kx->k", _pmf(x1, self.first.n, p1), tail[:, at]) + _SLACK

    def excluded(self, excess: float) -> bool:
        """Whether the data exclude that the true excess is this one or a larger one."""
        if excess >= 1:
            return excess > 1 and self.comparison == "difference"
        level = (1 - _NUISANCE_SHARE) * self.alpha
        low, high = (np.array([end]) for end in self._interval)
        for _ in range(_DEPTH):
            ends = np.linspace(low, high, _N_CELLS + 1)
            low, high = ends[:-1].ravel(), ends[1:].ravel()
            p1, p2 = self._rates(low, high, excess)
            possible = (p1 <= 1) & (p2 >= 0)
            low, high, p1, p2 = (values[possible] for values in (low, high, p1, p2))
            if len(low) == 0:
                return True
            probability = self._probability(p1, p2)
            if (probability <= level).all():
                return True
            # One pair of rates that is possible, and likely enough, settles it.
            middle = (low + high)[[probability.argmax()]] / 2
            p1, p2 = self._rates(middle, middle, excess)
            if p1 <= 1 and p2 >= 0 and self._probability(p1, p2) > level:
                return False
            low, high = low[probability > level], high[probability > level]
        return False

    def upper(self) -> float:
        """Upper bound of the excess; rounded up, by a 250th of its distance from what was seen."""
        limits = (-1.0, 1.0) if self.comparison == "difference" else (-1e6, 1.0)
        guess = self.rank if self.comparison == "difference" else -np.expm1(-self.rank)
        guess = float(np.clip(guess, *limits))
        reach = max(guess - float(np.clip(self.seen, *limits)), 1e-4)
        guess = min(guess + _WIDER * reach, limits[1])
        low, high = self._bracket(guess, 4 * _PRECISION * reach, *limits)
        while high - low > _PRECISION * reach:
            middle = (low + high) / 2
            low, high = (low, middle) if self.excluded(middle) else (middle, high)
        return high

    def _bracket(self, guess: float, step: float, least: float, most: float) -> tuple[float, float]:
        """Find a value that is not excluded and one that is, or an end, around a guess."""
        if self.excluded(guess):
            high = guess
            for low in _away(guess, -step):
                if low <= least or not self.excluded(low):
                    return max(low, least), high
                high = low
        low = guess
        for high in _away(guess, step):
            if high >= most or self.excluded(high):
                return low, min(high, most)
            low = high
        raise AssertionError("unreachable")


def _away(start: float, step: float) -> Iterator[float]:
    """Values away from a start, in steps that double."""
    while True:
        start += step
        yield start
        step *= 2


@lru_cache(maxsize=4096)
def upper_excess(first: Counts, second: Counts, alpha: float, comparison: str) -> float:
    """Upper bound of an :class:`Excess`; tables have many pairs of equal counts."""
    return Excess(first, second, alpha, comparison).upper()


def lower_excess(first: Counts, second: Counts, alpha: float, comparison: str) -> float:
    """Lower bound: what the second rate exceeds the first by at most, seen from the first."""
    other = upper_excess(second, first, alpha, comparison)
    if comparison == "difference":
        return -other
    return -other / (1 - other) if other < 1 else -np.inf
