"""Pairs of groups under one condition: which there are, and how many rows would tell them apart."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fairprune_sk.assessment.proportions import Counts, approximate_limit, excess_of
from fairprune_sk.assessment.rates import Rows
from fairprune_sk.fairness.groups import counted
from fairprune_sk.fairness.requirement import Requirement

_MOST_ROWS = 10**6
"""Where more rows of a cell than this are needed, the gap is at the tolerance: none is named."""

_MARGIN = 1.05
"""On the distance of an approximate limit from what was seen: exact bounds are up to 4% wider."""


class Sample(NamedTuple):
    """Rows with a group, with what one classifier predicts, and names for all codes."""

    rows: Rows
    y_pred: np.ndarray
    labels: list[Any]
    groups: list[str]
    strata: list[str] | None


class Pair(NamedTuple):
    """Two groups under one condition."""

    event: int
    outcome: int
    stratum: int
    group: int
    other: int
    first: Counts
    second: Counts

    def gap(self, comparison: str) -> float:
        """By how much the first rate exceeds the second; NaN without rows."""
        if min(self.first.n, self.second.n) == 0:
            return np.nan
        return excess_of(self.first.rate, self.second.rate, comparison)


def ordered_pairs(hits: np.ndarray, n: np.ndarray, rows: np.ndarray) -> list[Pair]:
    """Ordered pairs of groups that have rows in a stratum, for every condition.

    Parameters
    ----------
    hits : ndarray of shape (n_events, n_blocks, n_strata, n_groups, n_outcomes)
    n : ndarray of shape (n_events, n_blocks, n_strata, n_groups)
    rows : ndarray of shape (n_strata, n_groups)
    """
    n_events, n_blocks, n_strata, _, n_outcomes = hits.shape
    pairs = []
    for event, block, outcome, stratum in np.ndindex(n_events, n_blocks, n_outcomes, n_strata):
        here = hits[event, block, stratum, :, outcome].astype(int)
        cell = [Counts(int(x), int(m)) for x, m in zip(here, n[event, block, stratum], strict=True)]
        found = np.flatnonzero(rows[stratum]).tolist()
        # Events come in the order of their declaration turned round.
        at = (n_events - 1 - event, block * n_outcomes + outcome, stratum)
        pairs += [Pair(*at, i, j, cell[i], cell[j]) for i in found for j in found if i != j]
    return pairs


def group_name_in(sample: Sample, stratum: int, group: int) -> str:
    """Name of a group, with its stratum where there are several: ``"North: Female"``."""
    name = sample.groups[group]
    return name if sample.strata is None else f"{sample.strata[stratum]}: {name}"


def rows_needed(
    pairs: list[Pair],
    bounds: pd.DataFrame,
    rows: np.ndarray,
    requirement: Requirement,
    alpha: float,
) -> pd.Series:
    """About how many rows of each (stratum, group) would decide; only those that lack some.

    Where no pair was seen above the tolerance, each has to come below it; otherwise the one
    that needs the fewest rows has to come out above.
    """
    kind, tolerance = requirement.constraint.comparison, float(requirement.tolerance or 0.0)
    above = (bounds["gap"] > tolerance) & (requirement.gap_method == "between_groups")
    plans: list[dict[tuple[int, int], float]] = []
    for p, seen_above, upper in zip(pairs, above, bounds["upper"], strict=True):
        if above.any():
            if not seen_above:
                continue
            level, target = alpha / len(pairs), -tolerance
            target = np.log1p(-tolerance) if kind == "ratio" and tolerance < 1 else target
            n2, n1 = _enough(p.second, p.first, level, kind, target)
        elif upper > tolerance:
            target = -np.log1p(-tolerance) if kind == "ratio" else tolerance
            n1, n2 = _enough(p.first, p.second, alpha, kind, target)
        else:
            continue
        plans.append({})
        for group, cell, n in ((p.group, p.first, n1), (p.other, p.second, n2)):
            if n > cell.n:
                total = n / cell.n * rows[p.stratum, group] if cell.n else np.inf
                plans[-1][p.stratum, group] = np.ceil(total)
    if above.any():
        return pd.Series(min(plans, key=lambda plan: sum(plan.values())), dtype=float)
    needed: dict[tuple[int, int], float] = {}
    for plan in plans:
        for key, total in plan.items():
            needed[key] = max(total, needed.get(key, 0.0))
    return pd.Series(needed, dtype=float)


def _enough(
    first: Counts, second: Counts, alpha: float, comparison: str, target: float
) -> tuple[float, float]:
    """Rows of two cells with which the excess of the first comes out at most at the target.

    The smaller cell is brought up first, then both.
    """
    if min(first.n, second.n) == 0:
        return first.n or np.inf, second.n or np.inf
    z = -float(ndtri(alpha))

    def limit(n1: float, n2: float) -> float:
        return float(approximate_limit(first.rate, n1, second.rate, n2, z, comparison))

    seen = limit(1e30, 1e30)  # of so many rows a limit is the rates' own

    def short(n: int) -> bool:
        return seen + _MARGIN * (limit(max(first.n, n), max(second.n, n)) - seen) > target

    if short(_MOST_ROWS):
        return np.inf, np.inf
    low, high = min(first.n, second.n), _MOST_ROWS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if short(middle) else (low, middle)
    return max(first.n, high), max(second.n, high)


def too_small(
    sample: Sample, requirement: Requirement, pairs: list[Pair], alpha: float
) -> list[str]:
    """Name the cells that no equality of rates could certify: those without rows, the small."""
    constraint, tolerance = requirement.constraint, requirement.tolerance
    z = -float(ndtri(alpha))
    found: dict[str, str] = {}
    for p in pairs:
        if p.first.n > p.second.n:  # of a pair the smaller one is to blame
            continue
        rate = (p.first.hits + p.second.hits) / max(p.first.n + p.second.n, 1)
        kind = constraint.comparison
        limit = max(
            float(approximate_limit(rate, a.n, rate, b.n, z, kind))
            for a, b in ((p.first, p.second), (p.second, p.first))
        )
        limit = -np.expm1(-limit) if kind == "ratio" else limit
        if p.first.n == 0 or (tolerance is not None and limit > tolerance):
            event = constraint.events[p.event]
            of = f" of {sample.labels[p.outcome]!r}" if len(sample.labels) > 2 else ""
            of = "" if not constraint.one_vs_rest else of
            name = f"{group_name_in(sample, p.stratum, p.group)} ({event}{of}"
            found[name] = f"{name}: {counted(p.first.n, 'row')})"
    return list(found.values())
