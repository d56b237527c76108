"""Pruning in rounds, with earlier weights put back after each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral

from fairprune_sk.fairness.constraints import Constraint
from fairprune_sk.masks.granularity import Layout
from fairprune_sk.solvers.base import (
    Problem,
    Solver,
    SolverState,
    copied,
    half_cosine,
    without_smallest,
)
from fairprune_sk.solvers.rewinding import REWINDS, Rounds, check_rewind, rewound


@dataclass(frozen=True)
class LotteryTicket(Solver):
    """Iterative magnitude pruning with rewinding: the lottery ticket.

    Frankle and Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks"
    (ICLR 2019). Each round removes the same fraction of the weights that are left, the smallest
    of the network just trained, puts the rest back to what they were, and trains again.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    n_rounds : int
        The first one prunes the dense network. All share the steps of the pruning phase.
    rewind_to : {"initial", "dense"}
        The weights before the dense phase, as in the paper, or after it (late rewinding of
        Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020).
    """

    weight_decay: float | str = 0.1
    n_rounds: int = 4
    rewind_to: str = "initial"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.n_rounds, Integral) and self.n_rounds >= 1
        self._check("n_rounds", whole, "a positive whole number")
        self._check("rewind_to", self.rewind_to in REWINDS, "'initial' or 'dense'")

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Refuse where the initial weights are asked for and not known."""
        super().check(layout, constraint, knows_initial_weights)
        check_rewind(self, knows_initial_weights)

    def settled(self, progress: float) -> bool:
        """Whether the last round has begun."""
        return progress >= (self.n_rounds - 1) / self.n_rounds

    def lr_factor(self, progress: float) -> float:
        """Half a cosine for each round."""
        return half_cosine((progress * self.n_rounds) % 1.0)

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Prune the dense network a first time."""
        weights = problem.initial
        if self.rewind_to == "dense" or weights is None:
            weights = copied({**state.weights, **state.buffers})
        return self._next_round(problem, replace(state, own=Rounds(0, dict(weights))))

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Prune and rewind where a round begins."""
        begun = min(int(progress * self.n_rounds + 1e-9) + 1, self.n_rounds)
        while state.own.done < begun:
            state = self._next_round(problem, state)
        return state

    def cut(self, problem: Problem, state: SolverState) -> SolverState:
        """Prune without rewinding: nobody would train the ticket."""
        return without_smallest(problem, state, problem.sparsity)

    def _next_round(self, problem: Problem, state: SolverState) -> SolverState:
        own = replace(state.own, done=state.own.done + 1)
        share = own.done / self.n_rounds
        state = without_smallest(problem, state, 1.0 - (1.0 - problem.sparsity) ** share)
        return replace(rewound(state, own.weights), own=own)
