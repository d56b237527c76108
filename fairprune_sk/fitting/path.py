"""A path: the networks of several sparsities and tolerances that one dense training leads to."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from fairprune_sk.fitting.checkpoint import Checkpoint, CheckpointFolder, parts_of
from fairprune_sk.fitting.dense import train_dense
from fairprune_sk.fitting.fitted import Fitted, fitted_of
from fairprune_sk.fitting.progress import Bars
from fairprune_sk.fitting.pruning import epochs, prune
from fairprune_sk.fitting.resident import table_of
from fairprune_sk.fitting.task import Given, Settings, task_of
from fairprune_sk.fitting.training import seeded
from fairprune_sk.fitting.unseen import chances

STEP = 0.15
"""Epochs from one cell to the next, as a part of those of a pruning from dense."""


class Point(NamedTuple):
    """One network of a path.

    Attributes
    ----------
    sparsity, tolerance : float
        What was asked for.
    fitted : Fitted
    seconds : float
        What it took beyond the networks before it.
    """

    sparsity: float
    tolerance: float
    fitted: Fitted
    seconds: float


def path(
    given: Given,
    estimator: Any,
    settings: Settings,
    seed: int,
    sparsities: Sequence[float],
    tolerances: Sequence[float],
    kept: CheckpointFolder | None = None,
) -> Iterator[Point]:
    """Train one dense network, and prune it along the sparsities and the tolerances.

    A network goes on from the one of the sparsity before it, that of the smallest sparsity from the
    one of the looser tolerance: its weights, masks and multipliers.
    Chances of the classes, for tolerances of unseen rows, serve all of them.

    Parameters
    ----------
    given : Given
        With a parity, unless all tolerances are 1.
    estimator : None, nn.Module class or instance, or skorch net
    settings : Settings
        Whose sparsity does not count.
    seed : int
    sparsities : sequence of float
        In ascending order.
    tolerances : sequence of float
    kept : CheckpointFolder, optional
        Where each training is kept, to go on from.

    Yields
    ------
    Point
        Sparsities first, then tolerances, the loosest first.
    """

    def file(name: str) -> Checkpoint | None:
        return None if kept is None else kept.file(name)

    start = time.perf_counter()
    chance: Tensor | None = None
    first: Fitted | None = None
    for tolerance in sorted(tolerances, reverse=True):
        given, last = _within(given, tolerance), first
        for sparsity in sparsities:
            here = replace(settings, sparsity=sparsity)
            with seeded(seed, settings.device):
                task = task_of(given, estimator, here, last)
                table = table_of(task.rows, settings.device)
                if last is None:
                    of_task = train_dense(task, table, checkpoint=parts_of(file("dense")).dense)
                else:
                    # Where nothing bound it there are no multipliers to go on from.
                    anew = sparsity == sparsities[0] and not _was_bound(last)
                    n_epochs = math.ceil((1.0 if anew else STEP) * epochs(settings, len(task.rows)))
                    task = replace(task, settings=replace(here, max_epochs=n_epochs))
                    of_task = train_dense(task, table)  # it is there: its logits are computed
                if given.parity is not None and given.parity.unseen:
                    if chance is None:
                        chance = chances(task, estimator, seed, Bars(None), file("unseen"))
                    table = table.expecting(chance)
                part = parts_of(file(f"{sparsity} {tolerance}")).pruning
                run = prune(task, table, of_task, checkpoint=part)
            last = fitted_of(task, of_task, run)
            first = last if sparsity == sparsities[0] else first
            now = time.perf_counter()
            yield Point(sparsity, tolerance, last, now - start)
            start = now


def _was_bound(fitted: Fitted) -> bool:
    return fitted.multipliers is not None and bool(fitted.multipliers.to_numpy().any())


def _within(given: Given, tolerance: float) -> Given:
    """Ask for another tolerance."""
    if given.parity is None:
        return given
    requirement = replace(given.parity.requirement, tolerance=tolerance)
    return replace(given, parity=replace(given.parity, requirement=requirement))
