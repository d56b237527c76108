"""Pruning and fairness one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from fairprune_sk.fairness.constraints import Constraint
from fairprune_sk.fairness.objective import Enforcement, FairnessTerm, LagrangianTerm
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.masks.granularity import Layout
from fairprune_sk.networks.batch import Batch
from fairprune_sk.solvers.base import Problem, Solver, SolverState, half_cosine
from fairprune_sk.solvers.bilevel import Bip


@dataclass(frozen=True)
class _TwoStages(Solver):
    """Pruning without fairness, and fair training of the weights, one after the other."""

    enforcement: Enforcement = Enforcement()
    switch: float = 0.5
    pruning: Solver = field(default_factory=Bip)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_enforcement(self.enforcement)
        self._check("switch", 0.0 < self.switch < 1.0, "a number in (0, 1)")
        alone = isinstance(self.pruning, Solver) and not isinstance(self.pruning, _TwoStages)
        self._check("pruning", alone, "a solver with one stage, such as Bip() or Snip()")

    @property
    def needs_groups(self) -> bool:
        """Whether the pruning does."""
        return self.pruning.needs_groups

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Both stages have to work on it."""
        super().check(layout, constraint, knows_initial_weights)
        self.pruning.check(layout, constraint, knows_initial_weights)

    def fairness_term(self, parity: Parity, memory: float, weight: float) -> FairnessTerm:
        """Enforce the bound."""
        return LagrangianTerm(parity, memory, self.enforcement, weight)

    def _first(self, progress: float) -> float:
        """Progress of the first stage."""
        return min(progress / self.switch, 1.0)

    def _second(self, progress: float) -> float:
        """Progress of the second stage; negative before it begins."""
        return (progress - self.switch) / (1.0 - self.switch)


@dataclass(frozen=True)
class PruneThenFair(_TwoStages):
    """Prune, then make the weights that are left fair (P&F in Dai et al., arXiv 2312.10181).

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    enforcement : Enforcement
        How the bound is enforced in the fair stage.
    switch : float
        Fraction of the steps that goes into the first stage.
    pruning : Solver
        The first stage, without fairness: any of the above.
    """

    def levels(self, progress: float) -> tuple[str, ...]:
        """Weights in the second stage."""
        return ("lower",) if progress >= self.switch else ()

    def settled(self, progress: float) -> bool:
        """Whether the second stage has begun: earlier networks are no candidates."""
        return progress >= self.switch

    def lr_factor(self, progress: float) -> float:
        """Each stage with a schedule of its own."""
        if progress < self.switch:
            return self.pruning.lr_factor(self._first(progress))
        return half_cosine(self._second(progress))

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """As the first stage begins."""
        return self.pruning.begin(problem, state)

    def step(self, state: SolverState) -> None:
        """Step of the first stage; in the second, its scores have no gradients."""
        self.pruning.step(state)

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Masks of the first stage."""
        return self.pruning.move(problem, state, self._first(progress))

    def cut(self, problem: Problem, state: SolverState) -> SolverState:
        """As the first stage would."""
        return self.pruning.cut(problem, state)

    def gradients(
        self, problem: Problem, state: SolverState, batch: Batch, progress: float
    ) -> tuple[SolverState, dict[str, Tensor]]:
        """Those of the stage."""
        if progress < self.switch:
            first = self._first(progress)
            return self.pruning.gradients(_unaware(problem), state, batch, first)
        return super().gradients(problem, state, batch, progress)


@dataclass(frozen=True)
class FairThenPrune(_TwoStages):
    """Make the dense network fair, then prune it (F&P in Dai et al., arXiv 2312.10181).

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    enforcement : Enforcement
        How the bound is enforced in the fair stage.
    switch : float
        Fraction of the steps that goes into the first stage.
    pruning : Solver
        The second stage, without fairness: any of the above.
    """

    def levels(self, progress: float) -> tuple[str, ...]:
        """Weights in the first stage."""
        return ("lower",) if progress < self.switch else ()

    def settled(self, progress: float) -> bool:
        """Whether the mask of the second stage is."""
        return progress >= self.switch and self.pruning.settled(self._second(progress))

    def lr_factor(self, progress: float) -> float:
        """Each stage with a schedule of its own."""
        if progress < self.switch:
            return half_cosine(self._first(progress))
        return self.pruning.lr_factor(self._second(progress))

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Every weight is kept at first."""
        return state

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Masks of the second stage."""
        if progress < self.switch:
            return state
        inner = self._begun(problem, state)
        return _outer(self.pruning.move(problem, inner, self._second(progress)))

    def cut(self, problem: Problem, state: SolverState) -> SolverState:
        """As the second stage would."""
        return _outer(self.pruning.cut(problem, self._begun(problem, state)))

    def step(self, state: SolverState) -> None:
        """Step of the stage."""
        if state.own is None:
            super().step(state)
        else:
            self.pruning.step(_inner(state))

    def restore(
        self, problem: Problem, saved: dict[str, Any], state: SolverState | None = None
    ) -> SolverState:
        """State as it was saved, in the stage that it was in."""
        state = self.init(problem) if state is None else state
        if saved["own"] is not None:
            state = _outer(self._begun(problem, state))
        state.load_state_dict(saved)
        return state

    def _begun(self, problem: Problem, state: SolverState) -> SolverState:
        """State as the pruning knows it, which begins with the network as it is then."""
        return self.pruning.begin(problem, state) if state.own is None else _inner(state)

    def gradients(
        self, problem: Problem, state: SolverState, batch: Batch, progress: float
    ) -> tuple[SolverState, dict[str, Tensor]]:
        """Those of the stage."""
        if state.own is None:
            return super().gradients(problem, state, batch, progress)
        second = max(self._second(progress), 0.0)
        inner, step = self.pruning.gradients(_unaware(problem), _inner(state), batch, second)
        return _outer(inner), step


@dataclass
class _Second:
    """That the second stage has begun, with what its solver keeps."""

    own: Any

    def state_dict(self) -> dict[str, Any]:
        return {"own": None if self.own is None else self.own.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        if self.own is not None:
            self.own.load_state_dict(saved["own"])


def _unaware(problem: Problem) -> Problem:
    """Problem of the pruning: rates are measured, and nothing is asked of them."""
    term = problem.fairness
    if term is None:
        return problem
    return replace(problem, fairness=FairnessTerm(term.parity, term.memory))


def _inner(state: SolverState) -> SolverState:
    return replace(state, own=state.own.own)


def _outer(state: SolverState) -> SolverState:
    return replace(state, own=_Second(state.own))
