"""The objective of both levels: the loss, and the fairness term that goes with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from fairprune_sk.fairness.constraints import CellSums, hard_outcome, soft_outcome
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.networks.batch import Batch

# An empty cell counts as this many rows: its difference is 0, and its term must be, not 0 / 0.
NO_ROWS = 1e-9


@dataclass(frozen=True, eq=False)
class FairnessState:
    """What the fairness term remembers between batches.

    Attributes
    ----------
    multipliers : Tensor of shape (n_cells,)
        One multiplier for each cell, signed: above 0 where a rate is pressed down.
    running : CellSums
        Sums of the hard outcomes over the last batches, older ones fading out.
    """

    multipliers: Tensor
    running: CellSums


def beyond(value: Tensor, bound: Tensor) -> Tensor:
    """Return what of a value lies outside ``[-bound, bound]``, with its sign."""
    return value - value.clamp(-bound, bound)


def augmented_lagrangian(
    difference: Tensor, bound: float, multipliers: Tensor, rho: Tensor
) -> Tensor:
    """Augmented Lagrangian of ``-bound <= difference <= bound``, summed over the last axis.

    Each side is an inequality of its own, but only one of the two can bind: one signed multiplier
    μ stands for both, above 0 where a difference is pressed down. With ``a = beyond(μ + ρ·d, ρ·b)``
    the term is ``(a² − μ²) / 2ρ``, and its derivative is a. (Nocedal and Wright, Numerical
    Optimization, 2nd ed., section 17.4.)

    Parameters
    ----------
    difference : Tensor of shape (..., n_cells)
    bound : float
        Not negative.
    multipliers : Tensor of shape (..., n_cells)
    rho : Tensor of shape (..., n_cells)
        Curvature of the penalty, positive.

    Returns
    -------
    Tensor of shape (...)
    """
    active = beyond(multipliers + rho * difference, rho * bound)
    return ((active.square() - multipliers.square()) / (2.0 * rho)).sum(-1)


def check_hyperparameter(owner: Any, name: str, fine: bool, expected: str) -> None:
    """Refuse a hyperparameter of a solver, or of a part of it, by name."""
    if not fine:
        raise ValueError(f"Got {name}={getattr(owner, name)!r}, but expected {expected}.")


def is_positive(value: Any) -> bool:
    """Whether a hyperparameter is a positive number."""
    return isinstance(value, Real) and float(value) > 0


@dataclass(frozen=True)
class Enforcement:
    """How a bound is enforced by multipliers, and how fast.

    Parameters
    ----------
    rho, multiplier_lr : float
        Curvature of the augmented Lagrangian, and step of its multipliers for one batch, of a cell
        that holds a quarter of the rows that are compared; of others in proportion.
    temperature : float
        Of the soft group rates: 1.0 blurs the decision, 0.25 has little gradient.
    """

    rho: float = 10.0
    multiplier_lr: float = 0.1
    temperature: float = 0.5

    def __post_init__(self) -> None:
        for name in ("rho", "multiplier_lr", "temperature"):
            check_hyperparameter(self, name, is_positive(getattr(self, name)), "a positive number")


@dataclass(frozen=True)
class FairnessTerm:
    """The fairness part of an objective that knows none: rates are measured, nothing is asked.

    A step makes three moves: :meth:`measure` what the network does, take the :meth:`penalty` into
    the objective, and let the multipliers :meth:`ascend`. Each gives a value and changes none.

    Parameters
    ----------
    parity : Parity
    memory : float
        Share of the running sums that survives one batch, in [0, 1).
    """

    parity: Parity
    memory: float

    def init(self, like: Tensor, multipliers: Tensor | None = None) -> FairnessState:
        """State before the first batch, of the type and on the device of ``like``.

        Parameters
        ----------
        like : Tensor
        multipliers : Tensor of shape (n_cells,), optional
            To go on from; by default zero.

        Returns
        -------
        FairnessState
        """
        zeros = like.new_zeros(self.parity.n_cells)
        multipliers = zeros.clone() if multipliers is None else multipliers.to(zeros)
        return FairnessState(multipliers, CellSums(zeros, zeros.clone()))

    @torch.no_grad()
    def measure(self, state: FairnessState, logits: Tensor, batch: Batch) -> FairnessState:
        """State with the hard outcomes of a batch among the running sums.

        Averaging over batches matters, since the absolute difference of two noisy rates is
        biased upwards.

        Parameters
        ----------
        state : FairnessState
        logits : Tensor of shape (n, n_columns)
        batch : Batch
            With cells, and with weights and the dense network's outcomes where there are any.

        Returns
        -------
        FairnessState
        """
        sums = self.parity.sums(hard_outcome, logits, batch)
        running = (old * self.memory + new for old, new in zip(state.running, sums, strict=True))
        return replace(state, running=CellSums(*running))

    def penalty(self, state: FairnessState, logits: Tensor, batch: Batch) -> Tensor:
        """Return what is added to the loss of a batch, shape (); differentiable in ``logits``.

        Parameters
        ----------
        state, logits, batch
            As for :meth:`measure`.
        """
        return logits.new_zeros(())

    def ascend(self, state: FairnessState) -> FairnessState:
        """State with the multipliers after one step, for the rates that were measured."""
        return state


@dataclass(frozen=True)
class LagrangianTerm(FairnessTerm):
    """An augmented Lagrangian of the bound, or a fixed penalty where there is no bound.

    The soft rates of a batch give the direction in which to move, the hard rates of the last
    batches say how far the network is from the bound: what is enforced is what fairlearn will
    measure, not its smooth stand-in (the proxy constraints of Cotter et al., "Two-Player Games
    for Efficient Non-Convex Constrained Optimization", ALT 2019).

    Parameters
    ----------
    parity, memory
        As for :class:`FairnessTerm`. Without a tolerance, the term is the fixed penalty
        ``weight * Σ |difference|`` of Dai et al.
    enforcement : Enforcement
    weight : float
        Weight of the fixed penalty, or the factor on ``rho`` and ``multiplier_lr``.
    """

    enforcement: Enforcement
    weight: float

    def strength(self, state: FairnessState) -> Tensor:
        """Factor on ``rho`` and ``multiplier_lr`` of each cell, shape (n_cells,).

        ``weight`` times 4 times the cell's share of the rows: ``weight`` for a quarter of them.
        To move the rate of a cell costs loss in proportion to its rows, so the multiplier that it
        needs is in proportion to its share. With one strength for all cells a row of a small group
        weighs a hundred times what its loss does, and a dozen groups leave no network standing.
        """
        rows = state.running.weight.clamp_min(NO_ROWS)
        share = self.parity.n_outcomes * rows / rows.sum(-1, keepdim=True)
        return self.weight * 4.0 * share

    def penalty(self, state: FairnessState, logits: Tensor, batch: Batch) -> Tensor:
        """Return the term; see the class."""
        soft = partial(soft_outcome, temperature=self.enforcement.temperature)
        soft_difference = self.parity.differences(self.parity.sums(soft, logits, batch))
        # The value is the measured one, the gradient that of the soft rates.
        measured = self.parity.differences(state.running)
        difference = measured + soft_difference - soft_difference.detach()
        bound = self.parity.enforced_bound
        if bound is None:
            return self.weight * difference.abs().sum(-1)
        rho = self.enforcement.rho * self.strength(state)
        return augmented_lagrangian(difference, bound, state.multipliers, rho)

    @torch.no_grad()
    def ascend(self, state: FairnessState) -> FairnessState:
        """Multipliers move against a rate that is beyond the bound, and back where it is within.

        With signs, what noise adds to a difference in one batch it takes off in another. A
        multiplier of the absolute difference would climb on noise alone, wherever the bound is
        smaller than that.
        """
        bound = self.parity.enforced_bound
        if bound is None:
            return state
        measured = self.parity.differences(state.running)
        step = self.enforcement.multiplier_lr * self.strength(state)
        moved = state.multipliers + step * measured
        return replace(state, multipliers=beyond(moved, step * bound))
