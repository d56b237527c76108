"""Masks that let weights come back: sparse from the first step on, or sparse and dense in turns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from fairprune_sk.fairness.constraints import Constraint
from fairprune_sk.fairness.objective import Enforcement, FairnessTerm, LagrangianTerm
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.masks.granularity import Layout, PatternLayout, WeightLayout, n_removed
from fairprune_sk.masks.importance import IMPORTANCES
from fairprune_sk.networks.batch import Batch
from fairprune_sk.solvers.base import (
    LEVELS,
    Problem,
    Solver,
    SolverState,
    load_tensors,
)
from fairprune_sk.solvers.rewinding import REWINDS, check_rewind, rewound

DENSITIES = ("erk", "uniform")


def weights_of_layers(
    shapes: Mapping[str, torch.Size], n_kept: int, densities: str = "erk"
) -> dict[str, int]:
    """Share weights out among layers.

    Parameters
    ----------
    shapes : dict of torch.Size
        Of each weight matrix.
    n_kept : int
        All weights that are kept, at least one for each layer.
    densities : {"erk", "uniform"}
        Erdős–Rényi(-kernel): the density of a layer is in proportion to the sum of its axes over
        their product, so that small layers keep more (Mocanu et al., Nature Communications 2018;
        Evci et al., ICML 2020); or the same density for all.

    Returns
    -------
    dict of int
        Between 1 and the layer's size; they sum to ``n_kept``.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk.solvers.moving import weights_of_layers
    >>> shapes = {"hidden": torch.Size([100, 100]), "output": torch.Size([2, 100])}
    >>> weights_of_layers(shapes, 150), weights_of_layers(shapes, 510, "uniform")
    ({'hidden': 99, 'output': 51}, {'hidden': 500, 'output': 10})
    """
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    share = {
        name: float(sum(shape) if densities == "erk" else sizes[name])
        for name, shape in shapes.items()
    }
    ideal: dict[str, float] = {}
    while len(ideal) < len(sizes):
        open_ = [name for name in sizes if name not in ideal]
        left = n_kept - sum(ideal.values())
        unit = left / sum(share[name] for name in open_)
        full = [name for name in open_ if share[name] * unit >= sizes[name]]
        ideal |= {name: float(sizes[name]) for name in full}
        if not full:
            ideal |= {name: share[name] * unit for name in open_}
    counts = {name: min(max(int(ideal[name]), 1), sizes[name]) for name in sizes}
    while (missing := n_kept - sum(counts.values())) != 0:
        sign = 1 if missing > 0 else -1
        movable = [n for n in counts if (counts[n] < sizes[n] if sign > 0 else counts[n] > 1)]
        counts[max(movable, key=lambda name: sign * (ideal[name] - counts[name]))] += sign
    return counts


@dataclass(frozen=True)
class Moving(Solver):
    """Masks that follow magnitudes and gradients; the weights see the fairness term.

    What is grown and what is dropped follows from the same objective as the steps of the weights.
    """

    # As for what is pruned at one stroke.
    weight_decay: float | str = 0.1
    enforcement: Enforcement = Enforcement()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_enforcement(self.enforcement)

    def fairness_term(self, parity: Parity, memory: float, weight: float) -> FairnessTerm:
        """Enforce the bound."""
        return LagrangianTerm(parity, memory, self.enforcement, weight)

    def levels(self, progress: float) -> tuple[str, ...]:
        """Return both: weights and mask follow the same gradients."""
        return LEVELS


@dataclass
class Updates:
    """Steps that are behind, and the number of weights of each layer.

    Attributes
    ----------
    n_steps : int
    kept : dict of int
        It follows from problem and solver, and is not saved.
    fraction : float
        Of them, what moves in this step.
    """

    n_steps: int
    kept: dict[str, int]
    fraction: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the steps."""
        return {"n_steps": self.n_steps}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take them over."""
        self.n_steps = saved["n_steps"]


@dataclass(frozen=True)
class Rigl(Moving):
    """RigL: sparse from the first step on; the smallest weights make way for the largest gradients.

    Evci et al., "Rigging the Lottery: Making All Tickets Winners" (ICML 2020, arXiv 1911.11134).
    Each layer has its number of weights. Every ``delta_t`` steps a fraction of them, the smallest,
    is dropped, and as many grow where the gradient of the objective is largest; they start at 0.
    The fraction falls from ``alpha`` along a half cosine, to 0 at ``stop``. A weight that would be
    dropped and grown at once stays as it is.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    enforcement : Enforcement
        How the bound is enforced.
    delta_t : int
        Steps between two updates of the mask.
    alpha : float
        Fraction of a layer's weights that the first update moves, in (0, 1].
    stop : float
        Fraction of training after which the mask is frozen.
    densities : {"erk", "uniform"}
        How many weights a layer has; see :func:`weights_of_layers`.
    rewind_to : {"initial", "dense"}
        A random mask on the weights before the dense phase, as in the paper, or the largest
        weights of each layer of the dense network.
    """

    delta_t: int = 10
    alpha: float = 0.3
    stop: float = 0.75
    densities: str = "erk"
    rewind_to: str = "initial"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.delta_t, Integral) and self.delta_t >= 1
        self._check("delta_t", whole, "a positive whole number")
        self._check("alpha", 0.0 < self.alpha <= 1.0, "a number in (0, 1]")
        self._check("stop", 0.0 < self.stop <= 1.0, "a number in (0, 1]")
        self._check("densities", self.densities in DENSITIES, "'erk' or 'uniform'")
        self._check("rewind_to", self.rewind_to in REWINDS, "'initial' or 'dense'")

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Refuse units and patterns, and initial weights that nobody knows."""
        super().check(layout, constraint, knows_initial_weights)
        if not isinstance(layout, WeightLayout) or isinstance(layout, PatternLayout):
            raise ValueError(
                "Got solver=Rigl for units or a pattern, but it drops and grows single weights: "
                "use granularity='unstructured'."
            )
        check_rewind(self, knows_initial_weights)

    def settled(self, progress: float) -> bool:
        """Whether the mask is frozen."""
        return progress >= self.stop

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """As many weights in each layer as it has to the end."""
        shapes = {name: mask.shape for name, mask in state.masks.items()}
        n_weights = sum(shape.numel() for shape in shapes.values())
        n_kept = max(n_weights - n_removed(n_weights, problem.sparsity), len(shapes))
        kept = weights_of_layers(shapes, n_kept, self.densities)
        if self.rewind_to == "initial" and problem.initial is not None:
            state = rewound(state, problem.initial)
            scores = IMPORTANCES["uniform"](state.prunable())
        else:
            scores = {name: weight.abs() for name, weight in state.prunable().items()}
        masks = {name: largest(score, kept[name]) for name, score in scores.items()}
        return replace(state, masks=masks, own=Updates(0, kept))

    def step(self, state: SolverState) -> None:
        """Step of the weights, which counts."""
        super().step(state)
        state.own.n_steps += 1

    def fraction(self, progress: float) -> float:
        """Fraction of a layer's weights that an update moves."""
        return 0.5 * self.alpha * (1.0 + math.cos(math.pi * min(progress / self.stop, 1.0)))

    def learns_masks(self, progress: float) -> bool:
        """Until the mask is frozen."""
        return not self.settled(progress)

    def gradients(
        self, problem: Problem, state: SolverState, batch: Batch, progress: float
    ) -> tuple[SolverState, dict[str, Tensor]]:
        """Gradients of one batch, under the mask that follows from them where one is due."""
        own = state.own
        due = own.n_steps > 0 and own.n_steps % self.delta_t == 0
        state = replace(state, own=replace(own, fraction=self.fraction(progress) if due else 0.0))
        return super().gradients(problem, state, batch, progress)

    @torch.no_grad()
    def set_score_gradients(
        self,
        problem: Problem,
        state: SolverState,
        z: dict[str, Tensor],
        seen: dict[str, Tensor],
        lower: dict[str, Tensor],
        batch: Batch,
    ) -> SolverState:
        """Drop and grow: there are no scores, but gradients of all weights, masked or not."""
        masks = dict(state.masks)
        for name, mask in state.masks.items():
            n_kept = state.own.kept[name]
            n_moved = int(state.own.fraction * n_kept)
            if not n_moved:
                continue
            stays = largest(torch.where(mask, z[name].abs(), -1.0), n_kept - n_moved)
            grown = largest(torch.where(stays, -1.0, lower[name].abs()), n_moved)
            masks[name] = stays | grown
            weight, old = state.weights[name], ~grown | mask
            weight.mul_(old)
            for moment in ("exp_avg", "exp_avg_sq"):
                state.lower.state[weight][moment].mul_(old)
        return replace(state, masks=masks)


def largest(score: Tensor, n: int) -> Tensor:
    """Mask of the n largest scores of a layer, whatever ties there are."""
    mask = torch.zeros(score.numel(), dtype=torch.bool, device=score.device)
    return mask.index_fill_(0, score.flatten().topk(n, sorted=False).indices, True).view_as(score)


@dataclass
class Phases:
    """The phase that a run is in: even ones are compressed, odd ones dense.

    Attributes
    ----------
    current : int
    """

    current: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return it."""
        return {"current": self.current}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take it over."""
        self.current = saved["current"]


@dataclass(frozen=True)
class AcDc(Moving):
    """AC/DC: compressed and dense phases in turns, ending compressed.

    Peste et al., "AC/DC: Alternating Compressed/DeCompressed Training of Deep Neural Networks"
    (NeurIPS 2021, arXiv 2106.12379). At the start of a compressed phase the largest weights are
    kept, and the mask stays until its end; in a dense phase all weights are trained, and those
    that were removed start at 0. The dense network that the fit begins with is the paper's dense
    phase at the start. The optimiser forgets its moments where a dense phase begins.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    enforcement : Enforcement
        How the bound is enforced.
    n_cycles : int
        Compressed phases that are each followed by a dense one; all of the same length.
    stop : float
        Fraction of training after which the last phase begins, compressed to the end.
    importance : {"lamp", "magnitude", "uniform", "normal", "constant"}
        What compares the weights of different layers; within a layer both of the first rank by
        magnitude.
    """

    n_cycles: int = 4
    stop: float = 0.75
    importance: str = "lamp"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.n_cycles, Integral) and self.n_cycles >= 1
        self._check("n_cycles", whole, "a positive whole number")
        self._check("stop", 0.0 < self.stop <= 1.0, "a number in (0, 1]")
        self._check("importance", self.importance in IMPORTANCES, f"one of {sorted(IMPORTANCES)}")

    def settled(self, progress: float) -> bool:
        """Whether the last phase has begun."""
        return progress >= self.stop

    def phase(self, progress: float) -> int:
        """Return the number of the phase of the step that ends at this progress."""
        if progress >= 1.0:  # what ends there is compressed, also where stop is 1
            return 2 * self.n_cycles
        return min(int(progress / self.stop * 2 * self.n_cycles + 1e-9), 2 * self.n_cycles)

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Compress the dense network a first time."""
        return replace(self._compressed(problem, state), own=Phases(0))

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Compress or decompress where a phase begins."""
        phase = self.phase(progress)
        if phase == state.own.current:
            return state
        if phase % 2:
            load_tensors(state.weights, state.masked())
            state.lower.state.clear()
            masks = {name: torch.ones_like(mask) for name, mask in state.masks.items()}
            state = replace(state, masks=masks)
        else:
            state = self._compressed(problem, state)
        return replace(state, own=Phases(phase))

    def _compressed(self, problem: Problem, state: SolverState) -> SolverState:
        scores = problem.layout.scores(IMPORTANCES[self.importance](state.prunable()))
        return replace(state, masks=problem.layout.project(scores, problem.sparsity))
