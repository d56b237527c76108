"""Pruning bit by bit, between steps of training."""

from __future__ import annotations

from dataclasses import dataclass

from fairprune_sk.solvers.base import Problem, Solver, SolverState, half_cosine_after


@dataclass(frozen=True)
class Gradual(Solver):
    """Prune bit by bit in the first part of training, then train what is left."""

    ramp_end: float = 0.5

    @property
    def needs_groups(self) -> bool:
        """FairGRAPE and Balancing Act do; one that does not has to say so."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("ramp_end", 0.0 < self.ramp_end <= 1.0, "a number in (0, 1]")

    def settled(self, progress: float) -> bool:
        """Whether the sparsity is reached."""
        return progress >= self.ramp_end

    def lr_factor(self, progress: float) -> float:
        """Constant while pruning, then a half cosine."""
        return half_cosine_after(progress, self.ramp_end)

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Every weight is kept at first."""
        return state

    def _position(self, progress: float) -> float:
        """Where on the ramp, in [0, 1]."""
        return min(progress / self.ramp_end, 1.0)
