"""What every solver shares: the problem, the iterate, and a step of the weights under a mask."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from fairprune_sk.batch import Batch
from fairprune_sk.constraints import Constraint
from fairprune_sk.granularity import Layout, prunable_parameters
from fairprune_sk.importance import IMPORTANCES
from fairprune_sk.objective import (
    Enforcement,
    FairnessState,
    FairnessTerm,
    check_hyperparameter,
)
from fairprune_sk.parity import Parity

LEVELS = ("upper", "lower")


@dataclass(frozen=True)
class Start:
    """Where an earlier run ended: the network itself comes as the problem's module.

    Attributes
    ----------
    sparsity : float
    multipliers : Tensor of shape (n_cells,) or None
    """

    sparsity: float
    multipliers: Tensor | None


@dataclass(frozen=True)
class Problem:
    """What a solver has to solve: one network, one objective, one budget.

    Attributes
    ----------
    module : nn.Module
        The network; its parameters are updated in place.
    evaluate : callable
        ``evaluate(parameters, batch)`` gives the logits of the network with these parameters,
        shape (n, n_columns), and the mean loss.
    fairness : FairnessTerm or None
    layout : Layout
        What can be removed.
    sparsity : float
    n_rows : int
        Rows of the training table.
    lr, mask_lr : float
        Learning rates of the weights and of the mask scores.
    batches : callable
        ``batches()`` goes once over the training table.
    initial : dict of Tensor or None
        The weights before the dense phase, where they are known.
    start : Start, optional
        Where an earlier run ended, to go on from there.
    """

    module: nn.Module
    evaluate: Callable[[dict[str, Tensor], Batch], tuple[Tensor, Tensor]]
    fairness: FairnessTerm | None
    layout: Layout
    sparsity: float
    n_rows: int
    lr: float
    mask_lr: float
    batches: Callable[[], Iterable[Batch]]
    initial: Mapping[str, Tensor] | None = None
    start: Start | None = None


@dataclass
class SolverState:
    """The iterate: weights (the module's own parameters), masks, scores, multipliers.

    Attributes
    ----------
    weights : dict of nn.Parameter
        Every parameter of the module; those without ``requires_grad`` are masked, not trained.
    masks : dict of Tensor
        For each prunable parameter; True keeps.
    fairness : FairnessState or None
    lower : Optimizer
        Of the weights.
    scores : dict of nn.Parameter
        Scores in [0, 1] of what can be removed, where they are learned.
    upper : Optimizer or None
        Of the scores.
    stage : int
        Rounds of pruning that are behind, for solvers with several.
    switched : bool
        Whether the second stage has begun, for solvers with two.
    memory : Any
        What a solver looks back at: a batch, earlier weights.
    """

    weights: dict[str, nn.Parameter]
    masks: dict[str, Tensor]
    fairness: FairnessState | None
    lower: torch.optim.Optimizer
    scores: dict[str, nn.Parameter]
    upper: torch.optim.Optimizer | None = None
    stage: int = 0
    switched: bool = False
    memory: Any = None

    def masked(self) -> dict[str, Tensor]:
        """Parameters of the masked network, ``z = m ⊙ θ``, cut off from the graph."""
        return {
            name: (weight * self.masks[name] if name in self.masks else weight).detach()
            for name, weight in self.weights.items()
        }

    def prunable(self) -> dict[str, Tensor]:
        """Those of :meth:`masked` that can be removed."""
        masked = self.masked()
        return {name: masked[name] for name in self.masks}


def half_cosine(phase: float) -> float:
    """Factor on a learning rate, from 1 at phase 0 down to 0.01 at phase 1."""
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(phase, 1.0)))


def half_cosine_after(progress: float, start: float) -> float:
    """Factor on a learning rate: 1 until a fraction of training is done, then a half cosine."""
    return 1.0 if progress <= start else half_cosine((progress - start) / (1.0 - start))


def cubic_ramp(phase: float, start: float, end: float) -> float:
    """Sparsity between two, steep at first (Zhu and Gupta, arXiv 1710.01878); phase in [0, 1]."""
    return end + (start - end) * (1.0 - phase) ** 3


def without_smallest(problem: Problem, state: SolverState, sparsity: float) -> SolverState:
    """Mask the smallest of the weights that are left; what is gone has magnitude 0, and stays."""
    scores = problem.layout.scores(IMPORTANCES["magnitude"](state.prunable()))
    return replace(state, masks=problem.layout.project(scores, sparsity))


@dataclass(frozen=True)
class Solver(ABC):
    """A pruning algorithm: which mask, and how the weights are trained under it.

    The training loop asks for an iterate (:meth:`init`), and then, for each batch, for the masks
    (:meth:`move`, until they are :meth:`settled`), for gradients (:meth:`gradients`) and for a
    step (:meth:`step`). Progress is the fraction of the steps that are done, in [0, 1].

    Parameters
    ----------
    weight_decay : float or "auto"
        Of AdamW, on all weights. "auto" is 70,000 / n for n rows, between 2 and 5: the fewer
        the rows, the less a gap that vanished in training says about other rows, and the more
        the weights must be held back. For neurons it is a tenth of that.
    """

    weight_decay: float | str = "auto"

    def __post_init__(self) -> None:
        decay = self.weight_decay
        fine = decay == "auto" or (isinstance(decay, Real) and float(decay) >= 0)
        self._check("weight_decay", fine, "a number that is not negative, or 'auto'")

    def _check(self, name: str, fine: bool, expected: str) -> None:
        check_hyperparameter(self, name, fine, expected)

    def _check_enforcement(self, enforcement: Enforcement) -> None:
        fine = isinstance(enforcement, Enforcement)
        self._check("enforcement", fine, "an Enforcement, such as Enforcement(rho=5.0)")

    @property
    def needs_groups(self) -> bool:
        """Whether rows of each group are needed, beyond the constraint."""
        return False

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Refuse, before any training, what the solver cannot work on.

        Parameters
        ----------
        layout : Layout
        constraint : Constraint or None
        knows_initial_weights : bool
            Whether the weights before the dense phase will be known.

        Raises
        ------
        ValueError
        """
        if self.needs_groups and constraint is None:
            raise ValueError(
                f"Got solver={type(self).__name__} without a constraint, but it works on groups: "
                "pass a constraint and sensitive_features."
            )

    def fairness_term(self, parity: Parity, memory: float, weight: float) -> FairnessTerm:
        """Fairness part of the objective; here rates are only measured.

        Parameters
        ----------
        parity : Parity
        memory : float
            Share of the measured sums that survives one batch.
        weight : float
            ``fairness_weight``.

        Returns
        -------
        FairnessTerm
        """
        return FairnessTerm(parity, memory)

    def levels(self, progress: float) -> tuple[str, ...]:
        """Levels that see the fairness term: "upper" (masks), "lower" (weights), both or none."""
        return ()

    def settled(self, progress: float) -> bool:
        """Whether the mask does not move any more; here it never does."""
        return True

    def lr_factor(self, progress: float) -> float:
        """Factor on the learning rate of the weights."""
        return half_cosine(progress)

    def init(self, problem: Problem) -> SolverState:
        """State before the first step."""
        weights = dict(problem.module.named_parameters())
        masks = {
            name: torch.ones_like(parameter, dtype=torch.bool)
            for name, parameter in prunable_parameters(problem.module).items()
        }
        fairness = None
        if problem.fairness is not None:
            multipliers = None if problem.start is None else problem.start.multipliers
            like = next(iter(weights.values())).new_zeros(1)
            fairness = problem.fairness.init(like, multipliers)
        decay = self.weight_decay
        if decay == "auto":
            factor = problem.layout.weight_decay_factor
            decay = min(max(70_000 / problem.n_rows, 2.0), 5.0) * factor
        trained = [weight for weight in weights.values() if weight.requires_grad]
        rate = problem.lr * problem.layout.lr_factor
        lower = torch.optim.AdamW(trained, lr=rate, weight_decay=float(decay), fused=True)
        return self.begin(problem, SolverState(weights, masks, fairness, lower, {}))

    @abstractmethod
    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Set up masks, and scores where they are learned, for weights that are trained."""

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Masks for the step that ends at this progress; those of progress 1 are final."""
        return state

    def cut(self, problem: Problem, state: SolverState) -> SolverState:
        """Masks of the full sparsity for the weights as they are: training stopped early."""
        return self.move(problem, state, 1.0)

    def gradients(
        self, problem: Problem, state: SolverState, batch: Batch, progress: float
    ) -> tuple[SolverState, dict[str, Tensor]]:
        """Set the gradients of weights and scores from one batch.

        The weights get ``m ⊙ g``, with g the gradient with respect to ``z = m ⊙ θ``.

        Parameters
        ----------
        problem, state
        batch : Batch
        progress : float

        Returns
        -------
        state : SolverState
            With the multipliers after this batch.
        step : dict of Tensor
            "loss" of the batch, and "y_pred", its logits.
        """
        z = {name: value.requires_grad_() for name, value in state.masked().items()}
        logits, loss = problem.evaluate(z, batch)
        objective, levels, term = loss, self.levels(progress), problem.fairness
        if term is not None and state.fairness is not None:
            fairness = term.measure(state.fairness, logits, batch)
            if levels:
                objective = loss + term.penalty(fairness, logits, batch)
                fairness = term.ascend(fairness)
            state = replace(state, fairness=fairness)
        seen = {level: objective if level in levels else loss for level in LEVELS}
        moving = bool(state.scores) and not self.settled(progress)
        # Parameters that the network does not use have a gradient of zero.
        lower = dict(
            zip(
                z,
                torch.autograd.grad(
                    seen["lower"],
                    list(z.values()),
                    retain_graph=moving and seen["upper"] is not seen["lower"],
                    materialize_grads=True,
                ),
                strict=True,
            )
        )
        if moving:
            state = self.set_score_gradients(problem, state, z, seen, lower, batch)
        with torch.no_grad():
            for name, weight in state.weights.items():
                if weight.requires_grad:
                    grad = lower[name]
                    weight.grad = grad.mul_(state.masks[name]) if name in state.masks else grad
        return state, {"loss": loss.detach(), "y_pred": logits.detach()}

    def set_score_gradients(
        self,
        problem: Problem,
        state: SolverState,
        z: dict[str, Tensor],
        seen: dict[str, Tensor],
        lower: dict[str, Tensor],
        batch: Batch,
    ) -> SolverState:
        """Set the gradients of the scores, for solvers that learn them.

        Parameters
        ----------
        problem, state
        z : dict of Tensor
            Parameters of the masked network.
        seen : dict of Tensor
            The objective of each level, with its graph where the levels differ.
        lower : dict of Tensor
            Gradients of the lower level with respect to z; not to be changed.
        batch : Batch

        Returns
        -------
        SolverState
        """
        raise NotImplementedError(f"{type(self).__name__} has scores, but no gradients for them.")

    def step(self, state: SolverState) -> None:
        """Step along the gradients, and leave none behind: they are as large as the network."""
        for optimizer in (state.lower, state.upper):
            if optimizer is not None:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for score in state.scores.values():
                score.clamp_(0.0, 1.0)
