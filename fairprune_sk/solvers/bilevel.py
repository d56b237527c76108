"""Bi-level pruning: masks at the upper level, weights at the lower, in one backward pass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fairprune_sk.fairness.objective import Enforcement, FairnessTerm, LagrangianTerm
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.masks.importance import IMPORTANCES
from fairprune_sk.networks.batch import Batch
from fairprune_sk.solvers.base import (
    LEVELS,
    Problem,
    Solver,
    SolverState,
    copied,
    cubic_ramp,
    derivatives,
    half_cosine_after,
    load_tensors,
)


def mask_gradient(weight: Tensor, mask: Tensor, grad: Tensor, gamma: float | None) -> Tensor:
    """Gradient of the upper level with respect to the mask, the lower level's answer included.

    With ``z = m ⊙ θ`` and ``θ*(m) = argmin ℓ(m ⊙ θ) + γ/2 ‖θ‖²``, the chain rule gives
    ``(θ + m ⊙ dθ*/dm) ⊙ g``, and BiP's closed form sets ``dθ*/dm = −(1/γ) diag(g)``: exact where
    ℓ is linear in z, with an error that falls as 1/γ elsewhere.

    Parameters
    ----------
    weight, mask, grad : Tensor
        θ, m and g = ∂L/∂z, of one shape.
    gamma : float or None
        Curvature γ of the lower level; ``None`` leaves its answer out (first order).

    Returns
    -------
    Tensor
        ``θ ⊙ g − (1/γ) (m ⊙ g) ⊙ g``.

    References
    ----------
    Zhang et al., "Advancing Model Pruning via Bi-level Optimization" (NeurIPS 2022), eq. 8.
    """
    if gamma is None:
        return weight * grad
    return weight * grad - (mask * grad) * grad / gamma


@dataclass
class Scores:
    """Mask scores that are learned.

    Attributes
    ----------
    values : dict of nn.Parameter
        Scores in [0, 1] of what can be removed.
    optimizer : Optimizer
    previous : Batch or None
        The batch before, for masks that learn from it.
    """

    values: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    previous: Batch | None = None

    def state_dict(self) -> dict[str, Any]:
        """Copy scores, momentum and the batch."""
        previous = None if self.previous is None else vars(self.previous)
        parts = {"values": self.values, "optimizer": self.optimizer.state_dict()}
        return copied({**parts, "previous": previous})

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take them over."""
        load_tensors(self.values, saved["values"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if saved["previous"] is None:
            self.previous = None
        else:
            device = next(iter(self.values.values())).device
            self.previous = Batch(**saved["previous"]).to(device)


@dataclass(frozen=True)
class Bip(Solver):
    """BiP: bi-level pruning without fairness, with one batch for both levels.

    Zhang et al., "Advancing Model Pruning via Bi-level Optimization" (NeurIPS 2022). Sparsity
    rises along a cubic ramp (Zhu and Gupta, arXiv 1710.01878), the mask goes on learning at full
    sparsity, and then is frozen while the weights settle.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    gamma : float
        Curvature γ of the lower level in the implicit gradient, positive. Independent of
        ``weight_decay``.
    implicit_gradient : {"closed_form", "first_order"}
        Whether the mask's gradient foresees the weights' answer.
    upper_batch : {"same", "previous"}
        Whether the mask learns from the batch that the weights learn from, or from the one
        before, as in BiP: another pass through the network.
    importance : {"lamp", "magnitude", "uniform", "normal", "constant"}
        What the mask scores start from.
    ramp_end, freeze_start : float
        Fractions of training at which the sparsity is reached and the mask is frozen.
    mask_momentum : float
        Momentum of the gradient descent on the scores.
    """

    gamma: float = 1.0
    implicit_gradient: str = "closed_form"
    upper_batch: str = "same"
    importance: str = "lamp"
    ramp_end: float = 0.5
    freeze_start: float = 0.75
    mask_momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("gamma", self.gamma > 0, "a positive number")
        gradients = ("closed_form", "first_order")
        self._check(
            "implicit_gradient",
            self.implicit_gradient in gradients,
            "'closed_form' or 'first_order'",
        )
        self._check("upper_batch", self.upper_batch in ("same", "previous"), "'same' or 'previous'")
        self._check("importance", self.importance in IMPORTANCES, f"one of {sorted(IMPORTANCES)}")
        if not 0.0 <= self.ramp_end < self.freeze_start <= 1.0:
            raise ValueError(
                f"Got ramp_end={self.ramp_end!r} and freeze_start={self.freeze_start!r}, but "
                "expected 0 <= ramp_end < freeze_start <= 1."
            )

    def settled(self, progress: float) -> bool:
        """Whether the mask is frozen."""
        return progress >= self.freeze_start

    def lr_factor(self, progress: float) -> float:
        """Constant along the ramp, then a half cosine."""
        return half_cosine_after(progress, self.ramp_end)

    def sparsity_at(self, progress: float, sparsity: float, start: float = 0.0) -> float:
        """Sparsity after a fraction of training, on the cubic ramp from start to final value."""
        if progress >= self.ramp_end:
            return sparsity
        return cubic_ramp(progress / self.ramp_end, start, sparsity)

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Every weight kept, scores from the importance."""
        scores = problem.layout.scores(IMPORTANCES[self.importance](state.prunable()))
        parameters = {name: nn.Parameter(score) for name, score in scores.items()}
        optimizer = torch.optim.SGD(
            parameters.values(), lr=problem.mask_lr, momentum=self.mask_momentum
        )
        return replace(state, own=Scores(parameters, optimizer))

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Masks that keep what has the largest scores."""
        start = 0.0 if problem.start is None else problem.start.sparsity
        sparsity = self.sparsity_at(progress, problem.sparsity, start)
        scores = {name: score.detach() for name, score in state.own.values.items()}
        return replace(state, masks=problem.layout.project(scores, sparsity))

    def learns_masks(self, progress: float) -> bool:
        """Until they are settled."""
        return not self.settled(progress)

    def step(self, state: SolverState) -> None:
        """Step of the weights and of the scores."""
        super().step(state)
        state.own.optimizer.step()
        state.own.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for score in state.own.values.values():
                score.clamp_(0.0, 1.0)

    def set_score_gradients(
        self,
        problem: Problem,
        state: SolverState,
        z: dict[str, Tensor],
        seen: dict[str, Tensor],
        lower: dict[str, Tensor],
        batch: Batch,
    ) -> SolverState:
        """Give the scores :func:`mask_gradient`, straight through the projection.

        In units of its root mean square over the network, so that ``mask_lr`` means the same for
        every loss, table and network size. What leads into a unit that nothing reads any more, or
        that is 0 for every row, has none, and would keep its place for nothing: it sinks, by a
        step of that root mean square, until weights that are of use take its place.
        """
        objective = None if seen["upper"] is seen["lower"] else seen["upper"]
        if self.upper_batch == "previous":
            if state.own.previous is not None:
                objective = self.upper_objective(problem, state, z, state.own.previous)
            state = replace(state, own=replace(state.own, previous=batch))
        upper = lower
        if objective is not None:
            upper = dict(zip(z, derivatives(objective, list(z.values())), strict=True))
        gamma = self.gamma if self.implicit_gradient == "closed_form" else None
        with torch.no_grad():
            by_name = problem.layout.score_gradients(
                {
                    name: mask_gradient(state.weights[name], mask, upper[name], gamma)
                    for name, mask in state.masks.items()
                }
            )
            n_scores = sum(gradient.numel() for gradient in by_name.values())
            scores = state.own.values
            norm = torch.linalg.vector_norm(
                torch.stack([torch.linalg.vector_norm(by_name[name]) for name in scores])
            )
            unit = (norm / n_scores**0.5).clamp_min(1e-30)
            for name, score in scores.items():
                gradient = by_name[name].div_(unit)
                if name in problem.layout.by_unit:
                    idle = ~gradient.flatten(1).any(1)
                    gradient = gradient + idle.view(-1, *[1] * (gradient.ndim - 1))
                score.grad = gradient
        return state

    def upper_objective(
        self, problem: Problem, state: SolverState, z: dict[str, Tensor], batch: Batch
    ) -> Tensor:
        """Objective of the upper level on a batch that is not the weights'."""
        return problem.evaluate({**z, **state.buffers}, batch)[1]


@dataclass(frozen=True)
class BilevelSolver(Bip):
    """Bi-level fair pruning (Dai et al., arXiv 2312.10181).

    Parameters
    ----------
    weight_decay, gamma, implicit_gradient, upper_batch, importance, ramp_end, freeze_start, \
mask_momentum
        As for :class:`~fairprune_sk.solvers.Bip`.
    enforcement : Enforcement
        How the bound is enforced.
    constrained_levels : tuple of {"upper", "lower"}
        The levels that see the fairness term: masks, weights, both or none (the ablations of the
        paper's Figure 7).
    """

    enforcement: Enforcement = Enforcement()
    constrained_levels: tuple[str, ...] = LEVELS

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_enforcement(self.enforcement)
        self._check(
            "constrained_levels",
            set(self.constrained_levels) <= set(LEVELS),
            "a tuple with 'upper', 'lower', both or none",
        )

    def fairness_term(self, parity: Parity, memory: float, weight: float) -> FairnessTerm:
        """Enforce the bound."""
        return LagrangianTerm(parity, memory, self.enforcement, weight)

    def levels(self, progress: float) -> tuple[str, ...]:
        """Those of the hyperparameter."""
        return self.constrained_levels

    def upper_objective(
        self, problem: Problem, state: SolverState, z: dict[str, Tensor], batch: Batch
    ) -> Tensor:
        """Loss and penalty; the multipliers learn from the weights' batch."""
        logits, loss = problem.evaluate({**z, **state.buffers}, batch)
        term = problem.fairness
        if "upper" not in self.constrained_levels or term is None:
            return loss
        assert state.fairness is not None
        return loss + term.penalty(term.measure(state.fairness, logits, batch), logits, batch)
