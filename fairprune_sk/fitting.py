"""What happens between the checks of ``fit`` and its fitted attributes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from fairprune_sk.batch import Batch
from fairprune_sk.calls import forward
from fairprune_sk.constraints import hard_outcome
from fairprune_sk.dense import objective_loss
from fairprune_sk.encoding import is_number
from fairprune_sk.exceptions import CollapseWarning, ConstraintNotMetWarning
from fairprune_sk.granularity import GRANULARITIES, Granularity, Layout, prunable_parameters
from fairprune_sk.outputs import class_logits
from fairprune_sk.parity import Parity
from fairprune_sk.pruning import Candidate, PruningNet
from fairprune_sk.resident import ResidentIterator, ResidentTable
from fairprune_sk.solvers import SOLVERS, Problem, Solver, Start

# A pruned network that predicts a class for less than this share of the rows for which the dense
# one does has bought its small gap by hardly predicting it.
COLLAPSE_SHARE = 0.25

# Tables of one batch have no use for rows in an order, or one by one.
MERGED_ROWS = 2048


def merge_repeated_rows(
    X: Any, y: np.ndarray, columns: list[np.ndarray], weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Find the distinct rows of a small table, in an order of their own, and their weights.

    Two rows that are alike teach what one row of twice the weight does, and a row without weight
    teaches nothing: on a table of one batch, fits with weights and fits with repeated rows are
    then the same to the last bit.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n, n_features)
    y : ndarray of shape (n,)
    columns : list of ndarray of shape (n,)
        What else must be alike: cells. The order does not depend on it, so that the dense network
        is the same whatever is constrained.
    weight : ndarray of shape (n,) or None

    Returns
    -------
    index : ndarray of shape (n_distinct,), int64
        A representative of each distinct row that has weight.
    weight : ndarray of shape (n_distinct,) or None
        Sums of their weights; None where all are alike.
    """
    frame = pd.DataFrame(X)
    # Whole numbers and the same numbers as floats are alike.
    plain = pd.DataFrame(
        {
            i: column.astype(float if is_number(column.dtype) else object)
            for i, (_, column) in enumerate(frame.items())
        }
    )
    rows = pd.util.hash_pandas_object(plain, index=False).to_numpy()
    label, other = (
        pd.util.hash_pandas_object(pd.DataFrame(np.column_stack(values)), index=False).to_numpy()
        for values in ([y], [y, *columns])
    )
    # An odd factor keeps the two apart: equal hashes must not cancel.
    rows = rows * np.uint64(0x9E3779B97F4A7C15) ^ label
    weight = np.ones(len(rows)) if weight is None else weight
    pairs = np.column_stack([rows, other])
    _, index, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    total = np.bincount(inverse, weight)
    index, total = index[total > 0], total[total > 0]
    return index, None if (total == total[0]).all() else total


def layout_of(granularity: str | Granularity, module: nn.Module, X: Any, sparsity: float) -> Layout:
    """Look at what can be removed from a network, and refuse a sparsity that it cannot reach.

    Parameters
    ----------
    granularity : str or Granularity
    module : nn.Module
    X : Tensor of shape (n, ...), or dict of them
        A few rows, on the module's device.
    sparsity : float

    Returns
    -------
    Layout

    Raises
    ------
    ValueError
        If the sparsity is out of reach, with the smallest or largest that is not; or if there
        is nothing to prune.
    """
    if not prunable_parameters(module):
        raise ValueError(f"Got {type(module).__name__} without a weight matrix to prune.")
    chosen = GRANULARITIES[granularity] if isinstance(granularity, str) else granularity
    layout = chosen.layout(module, X)
    if sparsity > layout.max_sparsity:
        raise ValueError(
            f"Got sparsity={sparsity!r}, but with granularity={granularity!r} this network allows "
            f"at most {layout.max_sparsity:.4f}: every layer keeps at least one unit."
        )
    if sparsity < layout.min_sparsity:
        raise ValueError(
            f"Got sparsity={sparsity!r}, but granularity={granularity!r} alone removes "
            f"{layout.min_sparsity:g}: ask for that sparsity or a larger one."
        )
    return layout


def solver_of(settings: Any) -> Solver:
    """Solver that an estimator was given, by name or as it is."""
    return SOLVERS[settings.solver]() if isinstance(settings.solver, str) else settings.solver


def pruning_net(
    settings: Any,
    module: nn.Module,
    layout: Layout,
    dense: NeuralNet,
    probabilities: bool,
    table: ResidentTable,
    parity: Parity | None,
    start: Start | None,
    initial: dict[str, Tensor] | None,
) -> PruningNet:
    """Set up the pruning phase.

    Parameters
    ----------
    settings : FairPruner
        For its parameters.
    module : nn.Module
        The network to prune, of its own, on the device of the table.
    layout : Layout
        What can be removed from it.
    dense : NeuralNet
        The trained net whose loss is used.
    probabilities : bool
        Whether the module gives probabilities.
    table : ResidentTable
    parity : Parity or None
    start : Start or None
    initial : dict of Tensor or None
        The weights before the dense phase, where they are known.

    Returns
    -------
    PruningNet
    """
    solver = solver_of(settings)
    n = len(table)
    batch_size = min(2048 if settings.batch_size == "auto" else int(settings.batch_size), n)
    n_batches = -(-n // batch_size)
    max_epochs = settings.max_epochs
    if max_epochs == "auto":
        # Small tables need steps, large ones passes; the ramp needs a few epochs in any case.
        max_epochs = max(-(-400 // n_batches), min(32, -(-4000 // n_batches)), 8)
    fairness = None
    if parity is not None:
        # Sums over about one epoch, and no more than twenty batches: longer memories lag behind
        # the network, and the multipliers overshoot.
        memory = 1.0 - 1.0 / min(n_batches, 20)
        fairness = solver.fairness_term(parity, memory, float(settings.fairness_weight))
    loss = objective_loss(dense, probabilities, table.device)

    def evaluate(parameters: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        output = forward(module, batch.X, parameters)
        return class_logits(output, probabilities), loss(output, batch)

    return PruningNet(
        module,
        Problem(
            module,
            evaluate,
            fairness,
            layout,
            float(settings.sparsity),
            n_rows=n,
            lr=settings.lr,
            mask_lr=settings.mask_lr,
            batches=lambda: iter(ResidentIterator(table, table.evaluation_rows)),
            initial=initial,
            start=start,
        ),
        solver,
        lr=settings.lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        callbacks=settings.callbacks,
        device=table.device,
        verbose=settings.verbose,
    )


def dense_outcomes(logits: Tensor, table: ResidentTable, parity: Parity) -> Tensor:
    """Outcomes of the dense network that a constraint counts, shape (n, n_outcomes)."""
    return hard_outcome(parity.outcome_logits(logits.to(table.device), table.rows.y))


def warn_about(
    best: Candidate, parity: Parity | None, dense_rates: list[float], classes: Any
) -> None:
    """Warn about a result that is not what was asked for.

    Parameters
    ----------
    best : Candidate
    parity : Parity or None
    dense_rates : list of float
        Selection rates of the dense network, by column of the logits.
    classes : ndarray of shape (n_classes,)
    """
    if parity is not None and best.violation > 0.0:
        requirement = parity.requirement
        warnings.warn(
            f"No pruned network met {type(requirement.constraint).__name__}: the gap on the "
            f"training rows is {best.gap:.4f}, the tolerance {requirement.tolerance:g}. Allow a "
            "larger tolerance, a lower sparsity, more max_epochs or a larger fairness_weight; very "
            "small groups may need merging.",
            ConstraintNotMetWarning,
            stacklevel=5,
        )
    columns = classes[1:] if len(classes) == 2 else classes
    for label, rate, dense_rate in zip(columns, best.selection_rates, dense_rates, strict=True):
        if rate < COLLAPSE_SHARE * dense_rate or (rate == 1.0 and dense_rate < 1.0):
            warnings.warn(
                f"The pruned network collapsed: it predicts {str(label)!r} for {rate:.1%} of the "
                f"training rows, the dense one for {dense_rate:.1%}. A gap between rates near 0 "
                "or 1 is small without being fair. Allow a lower sparsity or a larger tolerance, "
                "or, with tolerance=None, a smaller fairness_weight.",
                CollapseWarning,
                stacklevel=5,
            )
            return


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of a name; "auto" is the current GPU where there is one."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
