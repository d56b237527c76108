"""Pruning that bounds what each group loses beyond the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fairprune_sk.batch import Batch
from fairprune_sk.constraints import Cells, Constraint, DegradationParity, cell_sums, differences
from fairprune_sk.granularity import Layout
from fairprune_sk.objective import FairnessState, FairnessTerm
from fairprune_sk.solvers.base import Problem, SolverState, cubic_ramp, without_smallest
from fairprune_sk.solvers.gradual import Gradual


@dataclass(frozen=True)
class ExcessTerm(FairnessTerm):
    """Bound on what pruning takes from a group beyond what it takes from all.

    The Lagrangian of Hashemizadeh et al. (see :class:`BalancingAct`): the excess accuracy gaps,
    over the last batches, move the multipliers; the excess of the group's mean loss, which can be
    differentiated, stands in for them in the objective. A multiplier goes back to 0 as soon as
    its group is within the bound.
    """

    def __call__(
        self, state: FairnessState, logits: Tensor, batch: Batch
    ) -> tuple[Tensor, FairnessState]:
        """Term of one batch, and the state after it; see :class:`FairnessTerm`."""
        cells, bound = self.cells, self.bound or 0.0
        # Positive where the prediction is right; its log-loss.
        right = cells.outcome_logits(logits, batch.y)
        assert batch.cell is not None
        sums = cell_sums(F.softplus(-right), batch.cell, cells.n_cells, batch.weight)
        excess_loss = differences(sums, cells)
        with torch.no_grad():
            running = self._running(state, right, batch)
            # Accuracy against the dense network's: what the group lost beyond the others.
            excess = -differences(running, cells)
            multipliers = state.multipliers + self.multiplier_lr * self.weight * (excess - bound)
            multipliers = torch.where(excess > bound, multipliers.clamp_min(0.0), 0.0)
        return (multipliers * excess_loss).sum(-1), FairnessState(multipliers, running)


@dataclass(frozen=True)
class BalancingAct(Gradual):
    """Gradual magnitude pruning that bounds what each group loses beyond the others.

    Hashemizadeh et al., "Balancing Act: Constraining Disparate Impact in Sparse Models" (ICLR
    2024), on the gradual magnitude pruning of Zhu and Gupta (arXiv 1710.01878). Needs
    ``constraint="degradation_parity"``, which is its notion of fairness: groups are compared with
    what the dense network did to them.

    Parameters
    ----------
    rho, temperature, weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`; the first two have no effect here.
    multiplier_lr : float
        Step of the multipliers for one batch.
    ramp_end : float
        Fraction of training at which the sparsity is reached.
    """

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Its constraint is its own."""
        super().check(layout, constraint, knows_initial_weights)
        if not isinstance(constraint, DegradationParity):
            raise ValueError(
                f"Got solver=BalancingAct with constraint={type(constraint).__name__}, but it "
                "bounds what pruning takes from each group: use constraint='degradation_parity'."
            )

    def fairness_term(
        self, cells: Cells, bound: float | None, weight: float, n_batches: int
    ) -> FairnessTerm:
        """Bound on the excess accuracy gaps."""
        term = super().fairness_term(cells, bound, weight, n_batches)
        return ExcessTerm(**vars(term))

    def levels(self, progress: float) -> tuple[str, ...]:
        """Return the weights: the mask follows their magnitudes."""
        return ("lower",)

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Remove the smallest of the weights that are left."""
        sparsity = cubic_ramp(self._position(progress), 0.0, problem.sparsity)
        return without_smallest(problem, state, sparsity)
