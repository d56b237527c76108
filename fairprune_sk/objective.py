"""The objective of both levels: the loss, and the fairness term that goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fairprune_sk.batch import Batch
from fairprune_sk.constraints import (
    Cells,
    CellSums,
    cell_sums,
    differences,
    hard_outcome,
    soft_outcome,
)


@dataclass
class FairnessState:
    """What the fairness term remembers between batches.

    Attributes
    ----------
    multipliers : Tensor of shape (..., n_cells)
        One multiplier for each cell, never negative.
    running : CellSums
        Sums of the hard outcomes over the last batches, older ones fading out.
    """

    multipliers: Tensor
    running: CellSums


def augmented_lagrangian(violation: Tensor, multipliers: Tensor, rho: float) -> Tensor:
    """Augmented Lagrangian of inequality constraints, summed over the last axis.

    ``(max(0, λ + ρ·v)² − λ²) / 2ρ`` for each violation v: its derivative is ``max(0, λ + ρ·v)``.
    (Nocedal and Wright, Numerical Optimization, 2nd ed., section 17.4.)

    Parameters
    ----------
    violation, multipliers : Tensor of shape (..., n_cells)
    rho : float
        Curvature of the penalty, positive.

    Returns
    -------
    Tensor of shape (...)
    """
    active = (multipliers + rho * violation).clamp_min(0.0)
    return ((active.square() - multipliers.square()) / (2.0 * rho)).sum(-1)


@dataclass(frozen=True)
class FairnessTerm:
    """The fairness part of the objective, with its hyperparameters.

    The soft rates of a batch give the direction in which to move, the hard rates of the last
    batches say how far the network is from the bound: what is enforced is what fairlearn will
    measure, not its smooth stand-in (the proxy constraints of Cotter et al., "Two-Player Games
    for Efficient Non-Convex Constrained Optimization", ALT 2019). Averaging over batches matters,
    since the absolute difference of two noisy rates is biased upwards.

    Parameters
    ----------
    cells : Cells
    bound : float or None
        Allowed difference between a cell and its event's pooled rate; ``None`` for the fixed
        penalty ``weight * Σ |difference|`` of Dai et al. instead of multipliers.
    weight : float
        Penalty weight, or the factor on ``rho`` and ``multiplier_lr``.
    rho, multiplier_lr, temperature : float
    memory : float
        Share of the running sums that survives one batch, in [0, 1).
    """

    cells: Cells
    bound: float | None
    weight: float
    rho: float
    multiplier_lr: float
    temperature: float
    memory: float

    def init(self, like: Tensor, multipliers: Tensor | None = None) -> FairnessState:
        """State before the first batch, on the device of ``like``, with its leading axes.

        Parameters
        ----------
        like : Tensor of shape (..., any)
        multipliers : Tensor of shape (..., n_cells), optional
            To go on from; by default zero.

        Returns
        -------
        FairnessState
        """
        zeros = like.new_zeros(*like.shape[:-1], self.cells.n_cells)
        multipliers = zeros.clone() if multipliers is None else multipliers.to(zeros)
        return FairnessState(multipliers, CellSums(zeros, like.new_zeros(self.cells.n_cells)))

    def __call__(
        self, state: FairnessState, logits: Tensor, batch: Batch
    ) -> tuple[Tensor, FairnessState]:
        """Fairness term of one batch, and the state after it.

        Parameters
        ----------
        state : FairnessState
        logits : Tensor of shape (..., n, n_columns)
        batch : Batch
            With cells, and weights and outcomes of the dense network where there are any.

        Returns
        -------
        term : Tensor of shape (...)
            Differentiable in ``logits``.
        state : FairnessState
        """
        cells = self.cells
        outcome_logits = cells.outcome_logits(logits, batch.y)
        soft = outcome_sums(cells, soft_outcome(outcome_logits, self.temperature), batch)
        soft_difference = differences(soft, cells)
        with torch.no_grad():
            running = self._running(state, outcome_logits, batch)
            measured = differences(running, cells)
        # The value is the measured one, the gradient that of the soft rates.
        difference = measured + soft_difference - soft_difference.detach()
        if self.bound is None:
            term = self.weight * difference.abs().sum(-1)
            return term, FairnessState(state.multipliers, running)
        rho = self.rho * self.weight
        term = augmented_lagrangian(difference.abs() - self.bound, state.multipliers, rho)
        step = self.multiplier_lr * self.weight * (measured.abs() - self.bound)
        return term, FairnessState((state.multipliers + step).clamp_min(0.0), running)

    def watch(self, state: FairnessState, logits: Tensor, batch: Batch) -> FairnessState:
        """State after a batch that nobody constrains: rates are measured, multipliers stay.

        Parameters
        ----------
        state, logits, batch
            As for a call.

        Returns
        -------
        FairnessState
        """
        outcome_logits = self.cells.outcome_logits(logits, batch.y)
        return FairnessState(state.multipliers, self._running(state, outcome_logits, batch))

    def _running(self, state: FairnessState, outcome_logits: Tensor, batch: Batch) -> CellSums:
        hard = outcome_sums(self.cells, hard_outcome(outcome_logits), batch)
        return CellSums(
            state.running.outcome * self.memory + hard.outcome,
            state.running.weight * self.memory + hard.weight,
        )


def outcome_sums(cells: Cells, outcome: Tensor, batch: Batch) -> CellSums:
    """Sum the outcomes of a batch in each cell, less those of the dense network where it counts.

    Parameters
    ----------
    cells : Cells
    outcome : Tensor of shape (..., n, n_outcomes)
    batch : Batch
        As for :class:`FairnessTerm`.

    Returns
    -------
    CellSums
    """
    assert batch.cell is not None
    if batch.reference is not None:
        outcome = outcome - batch.reference
    return cell_sums(outcome, batch.cell, cells.n_cells, batch.weight)
