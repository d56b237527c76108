"""What every solver shares: the problem, the iterate, and a step of the weights under a mask."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fairprune_sk.distributed import gradients_over_processes, over_processes
from fairprune_sk.fairness.constraints import CellSums, Constraint
from fairprune_sk.fairness.objective import (
    Enforcement,
    FairnessState,
    FairnessTerm,
    check_hyperparameter,
)
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.masks.granularity import Layout, prunable_parameters
from fairprune_sk.masks.importance import IMPORTANCES
from fairprune_sk.networks.batch import Batch
from fairprune_sk.networks.default import TabularNetwork

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
        The network as it is at the start; a solver leaves it alone.
    evaluate : callable
        ``evaluate(tensors, batch)`` gives the logits of the network with these parameters and
        buffers, shape (n, n_columns), and the mean loss. Buffers may change in place.
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


class Own(Protocol):
    """What one solver keeps in its state beyond what all keep."""

    def state_dict(self) -> dict[str, Any]:
        """Return copies of what is kept, as tensors, numbers, and dicts and lists of them."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave, in place."""


@dataclass
class SolverState:
    """The iterate: weights, masks and multipliers. It owns its tensors: no module shares them.

    Attributes
    ----------
    weights : dict of nn.Parameter
        Every parameter of the network; those without ``requires_grad`` are masked, not trained.
    buffers : dict of Tensor
        Running statistics and the like, which change in training.
    masks : dict of Tensor
        For each prunable parameter; True keeps.
    fairness : FairnessState or None
    lower : Optimizer
        Of the weights.
    own : Own or None
        What this solver alone keeps, such as scores that are learned.
    """

    weights: dict[str, nn.Parameter]
    buffers: dict[str, Tensor]
    masks: dict[str, Tensor]
    fairness: FairnessState | None
    lower: torch.optim.Optimizer
    own: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Copy all that a run needs to go on from here, as tensors and numbers.

        Returns
        -------
        dict
            For :meth:`Solver.restore`, through a file or not.
        """
        fairness = None
        if self.fairness is not None:
            running = self.fairness.running
            fairness = [self.fairness.multipliers, running.outcome, running.weight]
        parts = {
            "weights": self.weights,
            "buffers": self.buffers,
            "masks": self.masks,
            "fairness": fairness,
            "lower": self.lower.state_dict(),
            "own": None if self.own is None else self.own.state_dict(),
        }
        return copied(parts)

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave for the same problem and solver, in place.

        Parameters
        ----------
        saved : dict
        """
        saved = copied(saved)
        load_tensors(self.weights, saved["weights"])
        load_tensors(self.buffers, saved["buffers"])
        load_tensors(self.masks, saved["masks"])
        if saved["fairness"] is not None:
            device = next(iter(self.weights.values())).device
            multipliers, *running = (tensor.to(device) for tensor in saved["fairness"])
            self.fairness = FairnessState(multipliers, CellSums(*running))
        self.lower.load_state_dict(saved["lower"])
        if self.own is not None:
            self.own.load_state_dict(saved["own"])

    def tensors(self) -> dict[str, Tensor]:
        """Parameters of the masked network, and its buffers: what it computes with."""
        return {**self.masked(), **self.buffers}

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


def copied(value: Any) -> Any:
    """Copy dicts and lists of tensors, each tensor cut off from graph and owner."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [copied(part) for part in value]
    return value


@torch.no_grad()
def load_tensors(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Write saved tensors into those of the same names."""
    for name, tensor in own.items():
        tensor.copy_(saved[name])


def derivatives(objective: Tensor, at: list[Tensor], *, retain_graph: bool = False) -> list[Tensor]:
    """Gradients of an objective over the rows of all processes; 0 for what it does not use."""
    gradients = torch.autograd.grad(
        objective, at, retain_graph=retain_graph, materialize_grads=True
    )
    return gradients_over_processes(list(gradients))


def half_cosine(phase: float) -> float:
    """Factor on a learning rate, from 1 at phase 0 down to 0.01 at phase 1."""
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(phase, 1.0)))


def half_cosine_after(progress: float, start: float) -> float:
    """Factor on a learning rate: 1 until a fraction of training is done, then a half cosine."""
    return 1.0 if progress <= start else half_cosine((progress - start) / (1.0 - start))


def auto_weight_decay(module: nn.Module, n_rows: int, sparsity: float) -> float:
    """Weight decay of single weights that ``weight_decay="auto"`` takes for a network and table."""
    decay = min(max(70_000 / n_rows, 2.0), 5.0)
    if isinstance(module, TabularNetwork):  # others have the capacity that their author chose
        decay = max(decay, min(20_000 / n_rows, 10.0))
    return decay * min((1.0 - sparsity) / 0.02, 1.0)


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
        Of AdamW, on all weights. "auto" is 70,000 / n for n rows, between 2 and 5, and for the
        default network below 4,000 rows 20,000 / n, at most 10: the fewer the rows, the less a
        gap that vanished in training says about other rows, and the more the weights must be held
        back. Beyond 98% it falls with what is left, which has little room to learn rows by heart.
        For neurons it is a tenth of that.
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
        """State before the first step, with tensors of its own."""
        weights = {
            name: nn.Parameter(weight.detach().clone(), weight.requires_grad)
            for name, weight in problem.module.named_parameters()
        }
        buffers = {name: buffer.clone() for name, buffer in problem.module.named_buffers()}
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
            decay = auto_weight_decay(problem.module, problem.n_rows, problem.sparsity) * factor
        trained = [weight for weight in weights.values() if weight.requires_grad]
        rate = problem.lr * problem.layout.lr_factor
        lower = torch.optim.AdamW(trained, lr=rate, weight_decay=float(decay), fused=True)
        return self.begin(problem, SolverState(weights, buffers, masks, fairness, lower))

    def restore(
        self, problem: Problem, saved: dict[str, Any], state: SolverState | None = None
    ) -> SolverState:
        """State that :meth:`SolverState.state_dict` gave, to go on from there.

        Parameters
        ----------
        problem : Problem
            The same as it was then.
        saved : dict
        state : SolverState, optional
            From :meth:`init`: it is changed in place, and its optimiser stays the same object.

        Returns
        -------
        SolverState
        """
        state = self.init(problem) if state is None else state
        state.load_state_dict(saved)
        return state

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
        tensors = {**z, **state.buffers}
        logits, loss = problem.evaluate(tensors, batch)
        # A module may put another tensor in the place of a buffer.
        buffers = {name: tensors[name].detach() for name in state.buffers}
        state = replace(state, buffers=buffers)
        objective, levels, term = loss, self.levels(progress), problem.fairness
        if term is not None and state.fairness is not None:
            fairness = term.measure(state.fairness, logits, batch)
            if levels:
                objective = loss + term.penalty(fairness, logits, batch)
                fairness = term.ascend(fairness)
            state = replace(state, fairness=fairness)
        seen = {level: objective if level in levels else loss for level in LEVELS}
        learning = self.learns_masks(progress)
        # Parameters that the network does not use have a gradient of zero.
        lower = dict(
            zip(
                z,
                derivatives(
                    seen["lower"],
                    list(z.values()),
                    retain_graph=learning and seen["upper"] is not seen["lower"],
                ),
                strict=True,
            )
        )
        if learning:
            state = self.set_score_gradients(problem, state, z, seen, lower, batch)
        with torch.no_grad():
            for name, weight in state.weights.items():
                if weight.requires_grad:
                    grad = lower[name]
                    weight.grad = grad.mul_(state.masks[name]) if name in state.masks else grad
        return state, {"loss": over_processes(loss.detach()), "y_pred": logits.detach()}

    def learns_masks(self, progress: float) -> bool:
        """Whether masks follow scores that have gradients; here they do not."""
        return False

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
        state.lower.step()
        state.lower.zero_grad(set_to_none=True)
