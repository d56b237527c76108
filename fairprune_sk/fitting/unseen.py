"""A tolerance for rows that the fit has not seen: what training rows flatter, by cell.

A network learns its training rows, and with them the rates of their groups: it finds more of the
positive women of the table than of others, and so a gap that is closed there is open elsewhere.
How far each cell's rate falls is measured by cross-fitting, and taken off while the network for
all rows is trained: there the constraint sees rates as they are to be expected on other rows. It
is the correction of an apparent rate by its estimated optimism (Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, section 17.6), signed and cell by cell.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import KFold, StratifiedKFold
from skorch.callbacks import Callback
from torch import Tensor, nn

from fairprune_sk.distributed import over_processes, world
from fairprune_sk.exceptions import DivergedError, warn_at_caller
from fairprune_sk.fairness.constraints import CellSums, hard_outcome, rates
from fairprune_sk.fitting.checkpoint import Checkpoint, Part, parts_of
from fairprune_sk.fitting.dense import train_dense
from fairprune_sk.fitting.fitted import Fitted
from fairprune_sk.fitting.group_validation import rows_in
from fairprune_sk.fitting.outputs import logits
from fairprune_sk.fitting.progress import Bars
from fairprune_sk.fitting.pruning import batch_rows, epochs, prune
from fairprune_sk.fitting.resident import spread_table_of, table_of
from fairprune_sk.fitting.task import Given, Settings, merged_if_small, task_of
from fairprune_sk.fitting.training import seeded
from fairprune_sk.masks.compaction import with_tensors
from fairprune_sk.networks.batch import Batch

N_FOLDS = 2
"""Two are what 2.5 times the time of a fit allows: each learns from half of the rows."""

SPREAD = 0.05
"""How far apart the optimism of groups is taken to be, before any is measured: its prior spread.

What is measured in a cell of few rows is mostly noise, and would only be carried into the fit.
"""


def for_unseen(
    given: Given,
    estimator: Any,
    settings: Settings,
    seed: int,
    bars: Bars,
    checkpoint: Checkpoint | None = None,
) -> Given:
    """Turn the tolerance of the training rows into one for rows that the fit has not seen.

    Parameters
    ----------
    given : Given
        With a parity.
    estimator : None, nn.Module class or instance, or skorch net
        What a frozen one has seen cannot be set aside.
    settings : Settings
    seed : int
    bars : Bars
        Of the fit; all that happens here is one.
    checkpoint : Checkpoint, optional
        Of the fit; one half of the rows is a part of it.

    Returns
    -------
    Given
        Whose parity knows the optimism of its cells.

    Raises
    ------
    DivergedError
        If a network's outputs for the rows held out are not finite.

    Warns
    -----
    UserWarning
        If the network is frozen: the parity stays as it is.
    """
    if isinstance(estimator, FrozenEstimator):
        warn_at_caller(
            "Got tolerance_on='unseen' with a frozen network: which rows it has seen is not known, "
            "so the tolerance is for the training rows. Pass the network without FrozenEstimator, "
            "or set tolerance_on='training' to say so.",
            UserWarning,
        )
        return given
    assert given.parity is not None
    rows = given
    if estimator is None:
        # Weights and repeated rows give the same folds, as they give the same fit.
        rows = merged_if_small(given, by_group=settings.solver.needs_groups)
    n = over_processes(len(rows.y))
    settings = replace(
        settings,
        # As many steps as the fit that is kept, over as many passes through the rows, held back as
        # much: what is learned by heart depends on all three.
        part_of=n,
        max_epochs=epochs(settings, n),
        batch_size=-(-batch_rows(settings, n) // N_FOLDS),
        # The users' callbacks, and the bar, are for that one.
        callbacks=None,
        verbose=0,
    )
    folds: list[tuple[CellSums, CellSums]] = []
    phases = iter(bars.phases("unseen rows", 2 * N_FOLDS))
    for number, (learned, held) in enumerate(_folds_here(rows, seed)):
        part = None if checkpoint is None else checkpoint.part(f"half {number}")
        of_half = next(phases), next(phases)  # those of a half that is there already stay unused
        if part is not None and part.saved is not None:
            seen, unseen = (_sums_on(settings.device, *saved) for saved in part.saved)
            folds.append((seen, unseen))
            continue
        halves = rows.take(learned), rows.take(held)
        with seeded(seed, settings.device):
            sums = _rates_apart(*halves, estimator, settings, of_half, part)
        folds.append(sums)
        if part is not None:
            part.keep([[*of_rows, of_rows.outcome.device.type] for of_rows in sums])
    optimism = optimism_of(rows, folds)
    return replace(given, parity=replace(given.parity, optimism=optimism))


def optimism_of(rows: Given, folds: list[tuple[CellSums, CellSums]]) -> Tensor:
    """Estimate by how much each cell's rate falls, from networks that saw a part of the rows.

    Parameters
    ----------
    rows : Given
        With a parity.
    folds : list of (seen, unseen)
        Of the rows that a network was trained on, and of those that it was not.

    Returns
    -------
    Tensor of shape (n_cells,)

    Raises
    ------
    DivergedError
        If outputs for the rows held out are not finite.
    """
    parity, cell = rows.parity, rows.cell
    assert parity is not None and cell is not None
    seen, unseen = (reduce(CellSums.plus, sums) for sums in zip(*folds, strict=True))
    whole_cell, weight = world().whole(cell.numpy()), world().whole(rows.weight)
    n_rows = rows_in(whole_cell, parity.n_cells, weight)
    optimism = shrunken_optimism(seen, unseen, torch.from_numpy(n_rows), parity.n_groups)
    if not optimism.isfinite().all():
        raise DivergedError(
            "A network of tolerance_on='unseen' has logits that are not finite on the rows that it "
            "was not trained on: look for outliers in X, or set tolerance_on='training'."
        )
    return optimism


def sums_of(fitted: Fitted, given: Given) -> CellSums:
    """Sum hard outcomes of a network by cell, over rows of a constraint on rates.

    Parameters
    ----------
    fitted : Fitted
    given : Given
        With a parity.

    Returns
    -------
    CellSums
    """
    parity, y = given.parity, torch.from_numpy(given.y)
    assert parity is not None
    found = torch.from_numpy(fitted.scores(given.X)).view(len(y), -1)
    weight = None if given.weight is None else torch.from_numpy(given.weight.astype(np.float32))
    outcome = hard_outcome(parity.outcome_logits(found, y))
    return parity.sums(outcome, Batch(found, y, weight, given.cell))


def shrunken_optimism(seen: CellSums, unseen: CellSums, n_rows: Tensor, n_groups: int) -> Tensor:
    """Estimate by how much each cell's rate falls, from rates on rows learned from and held out.

    Cells of few rows are drawn towards the mean of their condition, by as much as noise is a part
    of what was measured there (a normal prior of standard deviation :data:`SPREAD`): what all
    groups share moves no gap.

    Parameters
    ----------
    seen, unseen : CellSums
    n_rows : Tensor of shape (n_cells,)
        Rows in each cell, or their effective number.
    n_groups : int
        The fastest index of a cell.

    Returns
    -------
    Tensor of shape (n_cells,)
        0 for cells without rows.
    """
    known = (seen.weight > 0) & (unseen.weight > 0)
    measured = torch.where(known, rates(seen) - rates(unseen), 0.0)
    n = n_rows.to(measured)
    rate = (rates(unseen).abs() * n + 1) / (n + 2)
    noise = rate * (1 - rate) / (n + 2)
    by_group = (-1, n_groups)
    trust = torch.where(known, 1 / (SPREAD**2 + noise), 0.0).view(by_group)
    total = trust.sum(1, keepdim=True)
    mean = (trust * measured.view(by_group)).sum(1, keepdim=True) / total.clamp_min(1e-30)
    left = SPREAD**2 / (SPREAD**2 + noise)
    drawn = mean + left.view(by_group) * (measured.view(by_group) - mean)
    return torch.where(known, drawn.flatten(), 0.0)


def _sums_on(device: torch.device, outcome: Tensor, weight: Tensor, kind: str) -> CellSums:
    """Put sums from a checkpoint on the kind of device that they were on."""
    where = device if kind == device.type else torch.device(kind)
    return CellSums(outcome.to(where), weight.to(where))


def alike_folds(given: Given, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into those to learn from and those to hold out, alike in classes and groups.

    Parameters
    ----------
    given : Given
    n_folds : int
    seed : int

    Returns
    -------
    list of (learned, held)
        Positions of rows.
    """
    group = np.zeros(len(given.y), dtype=np.int64) if given.group is None else given.group
    strata = given.y * (group.max() + 2) + group
    alike = np.bincount(strata - strata.min()).max() >= n_folds
    folds = (StratifiedKFold if alike else KFold)(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # may be of a single row
        return list(folds.split(np.empty(len(strata)), strata))


def _folds_here(given: Given, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of the rows of all processes: which of those here are learned from, and held out."""
    if world().size == 1:
        return alike_folds(given, N_FOLDS, seed)
    here = world().span(len(given.y))
    whole = replace(given, y=world().whole(given.y), group=world().whole(given.group))
    folds = []
    for parts in alike_folds(whole, N_FOLDS, seed):
        own = [part[(part >= here.start) & (part < here.stop)] - here.start for part in parts]
        folds.append((own[0], own[1]))
    return folds


def _rates_apart(
    learned: Given,
    held: Given,
    estimator: Any,
    settings: Settings,
    phases: tuple[Callback | None, Callback | None],
    part: Part | None = None,
) -> tuple[CellSums, CellSums]:
    """Fit on some rows, and sum hard outcomes by cell over these and over others."""
    task = task_of(learned, estimator, settings)
    table = spread_table_of(task.rows, settings.device)
    parts = parts_of(part)
    dense = train_dense(task, table, phases[0], parts.dense)
    best = prune(task, table, dense, phases[1], parts.pruning).best
    X = held.X if task.encoder is None else task.encoder.transform(held.X)
    parity, others, y = held.parity, table_of(Batch(X), settings.device), torch.from_numpy(held.y)
    assert parity is not None and best.sums is not None

    def outcome(module: nn.Module) -> Tensor:
        found = logits(module, others, dense.probabilities)
        return hard_outcome(parity.outcome_logits(found, y))

    weight = None if held.weight is None else torch.from_numpy(held.weight.astype(np.float32))
    relative = parity.requirement.constraint.relative_to_dense
    rows = Batch(X, y, weight, held.cell, reference=outcome(dense.module) if relative else None)
    tensors = {**best.parameters, **best.buffers}
    pruned = with_tensors(dense.module, tensors, settings.device)
    return best.sums, parity.sums(outcome(pruned), rows)
