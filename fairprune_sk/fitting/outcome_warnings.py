"""Warnings about a fit whose result is not what was asked for: what happened, and what may help.

Each piece of advice stands for a situation in which it was seen to help; the tests hold a fit for
each. What helps in one situation harms in another: a larger ``fairness_weight`` ends in a network
that selects nobody, and a lower sparsity as often as not in a larger gap.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fairprune_sk.distributed import over_processes
from fairprune_sk.exceptions import (
    CollapseWarning,
    ConstraintNotMetWarning,
    SmallGroupWarning,
    warn_at_caller,
)
from fairprune_sk.fairness.collapse import hardly_predicted
from fairprune_sk.fairness.constraints import CellSums, pooled_rates, rates
from fairprune_sk.fairness.objective import FairnessTerm
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fitting.dense import Dense
from fairprune_sk.fitting.pruning import (
    Run,
    auto_epochs,
    batches_in,
    class_shares,
    of_each_class,
)
from fairprune_sk.fitting.task import Settings, Task

_SHOWN = 4  # cells named in one message


def warn_about(task: Task, dense: Dense, run: Run) -> None:
    """Warn about a result that is not what was asked for.

    Parameters
    ----------
    task : Task
    dense : Dense
    run : Run

    Warns
    -----
    ConstraintNotMetWarning, CollapseWarning, SmallGroupWarning
    """
    parity, best = task.parity, run.best
    if parity is not None and best.violation > 0.0:
        advice = advice_on_miss(task.settings, over_processes(len(task.rows)), parity, run)
        warn_at_caller(f"{described_miss(parity, run)} {_joined(advice)}", ConstraintNotMetWarning)
    elif parity is not None and (vague := vaguest(parity, run)) is not None:
        warn_at_caller(described_vagueness(parity, vague), SmallGroupWarning)
    if best.collapsed:
        labelled, before = class_shares(task.rows, dense.logits)
        after = of_each_class(best.selection_rates)
        hardly = hardly_predicted(after, labelled, before)
        named = "; ".join(
            f"{str(task.given.classes[k])!r} for {after[k]:.1%} of the training rows, the dense "
            f"one for {before[k]:.1%} (labels: {labelled[k]:.1%})"
            for k in np.flatnonzero(hardly)[:_SHOWN]
        )
        advice = advice_on_collapse(task, run, bool(hardly_predicted(before, labelled).any()))
        warn_at_caller(
            f"The pruned network collapsed: it predicts {named}. A gap between rates near 0 or 1 "
            f"is small without being fair. {_joined(advice)}",
            CollapseWarning,
        )


# --- what happened ---


class Apart(NamedTuple):
    """Two rates that are compared, furthest apart of all."""

    gap: float
    condition: int
    low: int | None
    """Cell of the lower rate; None for all groups together."""
    high: int | None


def furthest_apart(parity: Parity, sums: CellSums) -> Apart:
    """Find the two rates that make the gap.

    Parameters
    ----------
    parity : Parity
    sums : CellSums
        Of one network, over the whole training table.

    Returns
    -------
    Apart
    """
    rate, n_groups = rates(sums).tolist(), parity.n_groups
    pooled = pooled_rates(sums, n_groups).tolist()
    counted = (parity.constrained.to(sums.weight.device) & (sums.weight > 0)).tolist()
    by_ratio = parity.requirement.constraint.comparison == "ratio"
    found = []
    for condition in range(len(parity.conditions)):
        first = condition * n_groups
        compared: list[tuple[float, int | None]] = [
            (rate[cell], cell) for cell in range(first, first + n_groups) if counted[cell]
        ]
        if not compared:
            continue
        if parity.requirement.gap_method == "to_overall":
            compared.append((pooled[first], None))
        (low, low_cell), (high, high_cell) = min(compared, key=_first), max(compared, key=_first)
        gap = high - low
        if by_ratio:
            gap = gap / high if high > 0.0 else 0.0
        found.append(Apart(gap, condition, low_cell, high_cell))
    return max(found, key=_first)


def _first(pair: tuple) -> float:
    return pair[0]


def cell_name(parity: Parity, cell: int) -> str:
    """Name a cell with its rows: ``"'abroad' (31 positive rows)"``."""
    condition = parity.conditions[cell // parity.n_groups]
    rows = "rows" if condition == "all" else f"{condition} rows"
    return f"{parity.groups[cell % parity.n_groups]!r} ({int(parity.n_rows[cell])} {rows})"


def described_miss(parity: Parity, run: Run) -> str:
    """Say what was missed, by how much, and between whom."""
    requirement, best = parity.requirement, run.best
    assert best.sums is not None
    sums = best.sums
    apart, rate = furthest_apart(parity, sums), rates(sums).tolist()
    pooled = pooled_rates(sums, parity.n_groups).tolist()
    found = f"the gap on the training rows is {best.gap:.4f}"
    if parity.unseen:
        found = (
            f"the gap to be expected on unseen rows is {best.gap:.4f} ({best.train_gap:.4f} on the "
            "training rows)"
        )

    def side(cell: int | None) -> str:
        if cell is None:
            return f"{pooled[apart.condition * parity.n_groups]:.3f} for all groups together"
        return f"{rate[cell]:.3f} for {cell_name(parity, cell)}"

    return (
        f"No pruned network met {type(requirement.constraint).__name__}: {found}, "
        f"{best.violation:.4f} above the tolerance {requirement.tolerance:g}. It lies between "
        f"{side(apart.low)} and {side(apart.high)}."
    )


def enforces(settings: Settings, parity: Parity) -> bool:
    """Whether the solver does anything for fairness, or measures it only."""
    return type(settings.solver.fairness_term(parity, 0.0, 1.0)) is not FairnessTerm


def too_few_epochs(settings: Settings, n: int) -> bool:
    """Whether the pruning of n rows is shorter than ``max_epochs="auto"`` makes it."""
    if settings.max_epochs == "auto":
        return False
    return int(settings.max_epochs) < auto_epochs(batches_in(settings, n))


def still_rising(run: Run) -> bool:
    """Whether the multipliers rose in the last quarter: the bound was not reached yet."""
    largest = run.history[:, "max_multiplier"]
    return largest[-1] > largest[-1 - len(largest) // 4]


def small_cells(parity: Parity) -> Tensor:
    """Find constrained cells where one row moves the rate by more than the cell's bound.

    What a solver then enforces is where single rows fall. None are small where fewer than two
    groups would be left to compare in every condition.

    Returns
    -------
    Tensor of shape (n_cells,), bool
    """
    bound, constrained = parity.cell_bound, parity.constrained.cpu()
    if bound is None:
        return torch.zeros_like(constrained)
    small = constrained & (parity.n_rows * bound < 1.0)
    if small.any():
        # As min_group_count cuts, which knows no conditions.
        left = constrained & (parity.n_rows > parity.n_rows[small].max())
        if (left.view(-1, parity.n_groups).sum(1) < 2).all():
            return torch.zeros_like(small)
    return small


class Vague(NamedTuple):
    """The comparison that the rows tell least about, where that is less than the tolerance."""

    cell: int
    other: int
    error: float
    """Standard error of the difference of the two rates, from as many rows."""


def vaguest(parity: Parity, run: Run) -> Vague | None:
    """Find two groups whose rates are known less well than the tolerance is small.

    A network that fits these rows exactly is as far from parity elsewhere as these rows are from
    the population. Only asked where the tolerance is for unseen rows, and is a difference.

    Parameters
    ----------
    parity : Parity
    run : Run

    Returns
    -------
    Vague or None
    """
    tolerance, sums = parity.requirement.tolerance, run.best.sums
    by_ratio = parity.requirement.constraint.comparison == "ratio"
    if not parity.unseen or sums is None or not tolerance or by_ratio:
        return None
    _, variances, weights = parity.judged(sums)
    found = []
    for condition, (variance, weight) in enumerate(zip(variances, weights, strict=True)):
        known = np.flatnonzero(weight > 0)
        if len(known) > 1:
            *_, second, first = known[np.argsort(variance[known])]
            at = condition * parity.n_groups
            error = math.sqrt(variance[first] + variance[second])
            found.append(Vague(at + int(first), at + int(second), error))
    worst = max(found, key=lambda vague: vague.error, default=None)
    return None if worst is None or worst.error <= tolerance else worst


def described_vagueness(parity: Parity, vague: Vague) -> str:
    """Say how little the rows tell, and how many would tell more."""
    tolerance = parity.requirement.tolerance
    assert tolerance is not None
    # An error of half the tolerance leaves a gap beyond it in one sample of twenty.
    times = (2 * vague.error / tolerance) ** 2
    between = f"{cell_name(parity, vague.cell)} and {cell_name(parity, vague.other)}"
    return (
        f"The gap to be expected on unseen rows is within the tolerance {tolerance:g}, but the "
        f"rates of {between} are known to {vague.error:.3f} only (one standard error of their "
        f"difference): the gap may be as much larger. About {times:.0f} times as many rows would "
        "tell; or merge groups, or raise min_group_count to leave small ones out."
    )


# --- what may help ---


def advice_on_miss(settings: Settings, n: int, parity: Parity, run: Run) -> list[str]:
    """Name what was seen to help where the tolerance was missed like this.

    Parameters
    ----------
    settings : Settings
    n : int
        Rows.
    parity : Parity
    run : Run

    Returns
    -------
    list of str
        At least one.
    """
    best, weight = run.best, settings.fairness_weight
    assert best.sums is not None
    if not enforces(settings, parity):
        name = type(settings.solver).__name__
        return [f"solver='bilevel', which enforces a bound: {name} knows no fairness"]
    advice = []
    if weight > 1.0:
        advice.append(f"fairness_weight=1: at {weight:g} the multipliers overshoot")
    rising = still_rising(run)
    if rising and weight < 1.0:
        advice.append(f"fairness_weight=1: at {weight:g} the multipliers were still rising")
    if rising and too_few_epochs(settings, n):
        advice.append(f"max_epochs='auto': after {settings.max_epochs} they were still rising")
    if not advice:
        apart = furthest_apart(parity, best.sums)
        small = small_cells(parity)
        if any(cell is not None and small[cell] for cell in (apart.low, apart.high)):
            advice.append(_fewer_groups(parity, small))
    if not advice:
        # Another fit ends elsewhere, by a hundredth or two.
        met = math.ceil(100 * max(1.5 * best.gap, best.gap + 0.02)) / 100
        advice.append(f"tolerance={met:g}: networks like this meet it")
        tolerance = parity.requirement.tolerance
        if parity.unseen and tolerance and best.train_gap <= tolerance:
            # What is learned by heart falls at least as the root of the rows.
            wanted = n * (best.gap / tolerance) ** 2
            advice.append(f"about {_rounded_up(wanted):,} rows: on those at hand it is met")
    return advice


def _rounded_up(number: float) -> int:
    """Two digits of a large number, upwards."""
    unit = 10 ** max(math.floor(math.log10(number)) - 1, 0)
    return math.ceil(number / unit) * unit


def advice_on_collapse(task: Task, run: Run, dense_too: bool) -> list[str]:
    """Name what was seen to help where the network collapsed like this.

    Parameters
    ----------
    task : Task
    run : Run
    dense_too : bool
        Whether the dense network hardly predicts a class either.

    Returns
    -------
    list of str
        At least one.
    """
    settings, parity = task.settings, task.parity
    if dense_too:
        return ["class_weight='balanced': the dense network hardly predicts a class either"]
    if parity is None or not enforces(settings, parity):
        return ["a lower sparsity"]
    weight = settings.fairness_weight
    if parity.requirement.tolerance is None:
        return [f"a tolerance, or a fairness_weight below {weight:g}: the penalty has no bound"]
    if weight > 1.0:
        return [f"fairness_weight=1: at {weight:g} the multipliers overshoot"]
    small, multipliers = small_cells(parity), run.best.multipliers
    assert multipliers is not None
    if (small & (multipliers.cpu() != 0.0)).any():
        return [_fewer_groups(parity, small)]
    return ["a lower sparsity", "a larger tolerance"]


def _fewer_groups(parity: Parity, small: Tensor) -> str:
    """Name the cells that are too small to hold to the bound, and the ways around them."""
    cells = small.nonzero().flatten().tolist()
    named = ", ".join(cell_name(parity, cell) for cell in cells[:_SHOWN])
    more = f" and {len(cells) - _SHOWN} more" if len(cells) > _SHOWN else ""
    least = int(parity.n_rows[small].max()) + 1
    return (
        f"min_group_count={least}, or merged groups: one row moves the rates of {named}{more} by "
        f"more than the {parity.cell_bound:.3g} that each is held to"
    )


def _joined(advice: list[str]) -> str:
    """Make a sentence of advice."""
    return f"Try {', or '.join(advice)}."
