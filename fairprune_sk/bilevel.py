"""Bi-level pruning: masks at the upper level, weights at the lower, in one backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fairprune_sk.granularity import Layout, prunable_parameters
from fairprune_sk.importance import IMPORTANCES
from fairprune_sk.objective import FairnessState, FairnessTerm

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
    start : Start, optional
        Where an earlier run ended, to go on from there.
    """

    module: nn.Module
    evaluate: Callable[[dict[str, Tensor], Any], tuple[Tensor, Tensor]]
    fairness: FairnessTerm | None
    layout: Layout
    sparsity: float
    start: Start | None = None


@dataclass
class BilevelState:
    """The iterate: weights (the module's own parameters), scores, masks, multipliers.

    Attributes
    ----------
    weights : dict of nn.Parameter
        Every parameter of the module; those without ``requires_grad`` are masked, not trained.
    scores : dict of Tensor
        Scores in [0, 1] of what can be removed.
    masks : dict of Tensor
        Their projection, for each prunable parameter; True keeps.
    fairness : FairnessState or None
    """

    weights: dict[str, nn.Parameter]
    scores: dict[str, nn.Parameter]
    masks: dict[str, Tensor]
    fairness: FairnessState | None

    def masked(self) -> dict[str, Tensor]:
        """Parameters of the masked network, ``z = m ⊙ θ``, cut off from the graph."""
        return {
            name: (weight * self.masks[name] if name in self.masks else weight).detach()
            for name, weight in self.weights.items()
        }


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


@dataclass(frozen=True)
class BilevelSolver:
    """Bi-level fair pruning (Dai et al., arXiv 2312.10181), with one batch for both levels.

    Sparsity rises along a cubic ramp (Zhu and Gupta, arXiv 1710.01878), the mask goes on learning
    at full sparsity, and then is frozen while the weights settle.

    Parameters
    ----------
    gamma : float
        Curvature γ of the lower level in the implicit gradient, positive. Independent of
        ``weight_decay``.
    implicit_gradient : {"closed_form", "first_order"}
        Whether the mask's gradient foresees the weights' answer.
    constrained_levels : tuple of {"upper", "lower"}
        The levels that see the fairness term: masks, weights, both or none (the ablations of the
        paper's Figure 7).
    importance : {"lamp", "magnitude", "uniform", "normal", "constant"}
        What the mask scores start from.
    rho, multiplier_lr : float
        Curvature of the augmented Lagrangian, and step of its multipliers for one batch.
    temperature : float
        Of the soft group rates: 1.0 blurs the decision, 0.25 has little gradient.
    ramp_end, freeze_start : float
        Fractions of training at which the sparsity is reached and the mask is frozen.
    weight_decay : float or "auto"
        Of AdamW, on all weights. "auto" is 70,000 / n for n rows, between 2 and 5: the fewer
        the rows, the less a gap that vanished in training says about other rows, and the more
        the weights must be held back. For neurons it is a tenth of that.
    mask_momentum : float
        Momentum of the gradient descent on the scores.
    """

    gamma: float = 1.0
    implicit_gradient: str = "closed_form"
    constrained_levels: tuple[str, ...] = LEVELS
    importance: str = "lamp"
    rho: float = 10.0
    multiplier_lr: float = 0.1
    temperature: float = 0.5
    ramp_end: float = 0.5
    freeze_start: float = 0.75
    weight_decay: float | str = "auto"
    mask_momentum: float = 0.9

    def __post_init__(self) -> None:
        for name in ("gamma", "rho", "multiplier_lr", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"Got {name}={getattr(self, name)!r}, but expected a positive number."
                )
        if self.implicit_gradient not in ("closed_form", "first_order"):
            raise ValueError(
                f"Got implicit_gradient={self.implicit_gradient!r}, but expected 'closed_form' "
                "or 'first_order'."
            )
        if not set(self.constrained_levels) <= set(LEVELS):
            raise ValueError(
                f"Got constrained_levels={self.constrained_levels!r}, but expected a tuple with "
                "'upper', 'lower', both or none."
            )
        if self.importance not in IMPORTANCES:
            raise ValueError(
                f"Got importance={self.importance!r}, but expected one of {sorted(IMPORTANCES)}."
            )
        if not 0.0 <= self.ramp_end < self.freeze_start <= 1.0:
            raise ValueError(
                f"Got ramp_end={self.ramp_end!r} and freeze_start={self.freeze_start!r}, but "
                "expected 0 <= ramp_end < freeze_start <= 1."
            )

    def sparsity_at(self, progress: float, sparsity: float, start: float = 0.0) -> float:
        """Sparsity after a fraction of training, on the cubic ramp from start to final value."""
        if progress >= self.ramp_end:
            return sparsity
        return sparsity + (start - sparsity) * (1.0 - progress / self.ramp_end) ** 3

    def lr_factor(self, progress: float) -> float:
        """Factor on the learning rate: constant along the ramp, then a half cosine to 0.01."""
        if progress <= self.ramp_end or self.ramp_end >= 1.0:
            return 1.0
        phase = min((progress - self.ramp_end) / (1.0 - self.ramp_end), 1.0)
        return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * phase))

    def init(self, problem: Problem) -> BilevelState:
        """State before the first step: every weight kept, scores from the importance."""
        weights = dict(problem.module.named_parameters())
        prunable = {n: p.detach() for n, p in prunable_parameters(problem.module).items()}
        scores = problem.layout.scores(IMPORTANCES[self.importance](prunable))
        masks = {n: torch.ones_like(p, dtype=torch.bool) for n, p in prunable.items()}
        fairness = None
        if problem.fairness is not None:
            multipliers = None if problem.start is None else problem.start.multipliers
            like = next(iter(weights.values())).new_zeros(1)
            fairness = problem.fairness.init(like, multipliers)
        parameters = {name: nn.Parameter(score) for name, score in scores.items()}
        return BilevelState(weights, parameters, masks, fairness)

    def optimizers(
        self, problem: Problem, state: BilevelState, lr: float, mask_lr: float, n_rows: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """Optimisers of the lower and of the upper level."""
        decay = self.weight_decay
        if decay == "auto":
            decay = min(max(70_000 / n_rows, 2.0), 5.0) * problem.layout.weight_decay_factor
        trained = [weight for weight in state.weights.values() if weight.requires_grad]
        rate = lr * problem.layout.lr_factor
        lower = torch.optim.AdamW(trained, lr=rate, weight_decay=float(decay), fused=True)
        upper = torch.optim.SGD(state.scores.values(), lr=mask_lr, momentum=self.mask_momentum)
        return lower, upper

    def project(self, problem: Problem, state: BilevelState, sparsity: float) -> BilevelState:
        """Masks that keep the weights with the largest scores."""
        scores = {name: score.detach() for name, score in state.scores.items()}
        return replace(state, masks=problem.layout.project(scores, sparsity))

    def gradients(
        self, problem: Problem, state: BilevelState, batch: Any, frozen: bool
    ) -> tuple[BilevelState, dict[str, Tensor]]:
        """Set the gradients of both levels from one batch.

        The weights get ``m ⊙ g``, the scores :func:`mask_gradient`, straight through the
        projection, in units of its root mean square over the network, so that ``mask_lr`` means
        the same for every loss, table and network size.

        Parameters
        ----------
        problem, state
        batch
            A pair of X and a dict of what is known of the rows (see :class:`FairnessTerm`).
        frozen : bool
            Whether the mask is frozen: then only the weights get a gradient.

        Returns
        -------
        state : BilevelState
            With the multipliers after this batch.
        step : dict of Tensor
            "loss" of the batch, and "y_pred", its logits.
        """
        z = {name: value.requires_grad_() for name, value in state.masked().items()}
        logits, loss = problem.evaluate(z, batch)
        objective = loss
        if problem.fairness is not None and state.fairness is not None:
            _, columns = batch
            term, fairness = problem.fairness(state.fairness, logits, columns)
            state = replace(state, fairness=fairness)
            objective = loss + term
        leaves = list(z.values())
        seen = {level: objective if level in self.constrained_levels else loss for level in LEVELS}
        one_pass = frozen or seen["upper"] is seen["lower"]
        # Parameters that the network does not use have a gradient of zero.
        lower = torch.autograd.grad(
            seen["lower"], leaves, retain_graph=not one_pass, materialize_grads=True
        )
        upper = lower
        if not one_pass:
            upper = torch.autograd.grad(seen["upper"], leaves, materialize_grads=True)
        with torch.no_grad():
            if not frozen:
                self._set_score_gradients(problem, state, dict(zip(z, upper, strict=True)))
            for (name, weight), grad in zip(state.weights.items(), lower, strict=True):
                if weight.requires_grad:
                    weight.grad = grad.mul_(state.masks[name]) if name in state.masks else grad
        return state, {"loss": loss.detach(), "y_pred": logits.detach()}

    def _set_score_gradients(
        self, problem: Problem, state: BilevelState, grads: dict[str, Tensor]
    ) -> None:
        gamma = self.gamma if self.implicit_gradient == "closed_form" else None
        by_name = problem.layout.score_gradients(
            {
                name: mask_gradient(state.weights[name], mask, grads[name], gamma)
                for name, mask in state.masks.items()
            }
        )
        gradients = [by_name[name] for name in state.scores]
        n_scores = sum(gradient.numel() for gradient in gradients)
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(g) for g in gradients])
        )
        unit = (norm / n_scores**0.5).clamp_min(1e-30)
        for score, gradient in zip(state.scores.values(), gradients, strict=True):
            score.grad = gradient.div_(unit)

    def clamp(self, state: BilevelState) -> None:
        """Keep the scores in [0, 1]."""
        with torch.no_grad():
            for score in state.scores.values():
                score.clamp_(0.0, 1.0)


SOLVERS: dict[str, type[BilevelSolver]] = {"bilevel": BilevelSolver}
"""Every solver by the name that ``FairPruner(solver=...)`` takes."""
