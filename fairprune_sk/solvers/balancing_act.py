"""Pruning that bounds what each group loses beyond the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fairprune_sk.fairness.constraints import Constraint, DegradationParity
from fairprune_sk.fairness.objective import FairnessState, FairnessTerm, is_positive
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.masks.granularity import Layout
from fairprune_sk.networks.batch import Batch
from fairprune_sk.solvers.base import Problem, SolverState, cubic_ramp, without_smallest
from fairprune_sk.solvers.gradual import Gradual


@dataclass(frozen=True)
class ExcessTerm(FairnessTerm):
    """Bound on what pruning takes from a group beyond what it takes from all.

    The Lagrangian of Hashemizadeh et al. (see :class:`BalancingAct`): the excess accuracy gaps,
    over the last batches, move the multipliers; the excess of the group's mean loss, which can be
    differentiated, stands in for them in the objective. A multiplier goes back to 0 as soon as
    its group is within the bound.

    Parameters
    ----------
    parity, memory
        As for :class:`FairnessTerm`.
    multiplier_lr, weight : float
        Step of the multipliers for one batch, and a factor on it.
    """

    multiplier_lr: float
    weight: float

    def penalty(self, state: FairnessState, logits: Tensor, batch: Batch) -> Tensor:
        """Excess loss of each group, times the multipliers that answer to this batch already."""
        # Positive where the prediction is right; its log-loss, without the dense network's.
        batch = replace(batch, reference=None)
        sums = self.parity.sums(lambda right: F.softplus(-right), logits, batch)
        return (self.ascend(state).multipliers * self.parity.differences(sums)).sum(-1)

    @torch.no_grad()
    def ascend(self, state: FairnessState) -> FairnessState:
        """Multipliers rise with the excess, and go back to 0 within the bound."""
        bound = self.parity.cell_bound or 0.0
        # Accuracy against the dense network's: what the group lost beyond the others.
        excess = -self.parity.differences(state.running)
        multipliers = state.multipliers + self.multiplier_lr * self.weight * (excess - bound)
        return replace(
            state, multipliers=torch.where(excess > bound, multipliers.clamp_min(0.0), 0.0)
        )


@dataclass(frozen=True)
class BalancingAct(Gradual):
    """Gradual magnitude pruning that bounds what each group loses beyond the others.

    Hashemizadeh et al., "Balancing Act: Constraining Disparate Impact in Sparse Models" (ICLR
    2024), on the gradual magnitude pruning of Zhu and Gupta (arXiv 1710.01878). Needs
    ``constraint="degradation_parity"``, which is its notion of fairness: groups are compared with
    what the dense network did to them.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    multiplier_lr : float
        Step of the multipliers for one batch.
    ramp_end : float
        Fraction of training at which the sparsity is reached.
    """

    multiplier_lr: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("multiplier_lr", is_positive(self.multiplier_lr), "a positive number")

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

    def fairness_term(self, parity: Parity, memory: float, weight: float) -> FairnessTerm:
        """Bound on the excess accuracy gaps."""
        return ExcessTerm(parity, memory, self.multiplier_lr, weight)

    def levels(self, progress: float) -> tuple[str, ...]:
        """Return the weights: the mask follows their magnitudes."""
        return ("lower",)

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Remove the smallest of the weights that are left."""
        sparsity = cubic_ramp(self._position(progress), 0.0, problem.sparsity)
        return without_smallest(problem, state, sparsity)
