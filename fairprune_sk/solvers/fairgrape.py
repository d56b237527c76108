"""Pruning that keeps the same share of importance for each group."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor

from fairprune_sk.solvers.base import Problem, SolverState
from fairprune_sk.solvers.gradients import loss_gradients
from fairprune_sk.solvers.gradual import Gradual
from fairprune_sk.solvers.rewinding import Rounds


@dataclass(frozen=True)
class FairGrape(Gradual):
    """FairGRAPE: keep of the weights' importance the same share for each group.

    Lin, Kim and Joo, "FairGRAPE: Fairness-aware GRAdient Pruning mEthod for Face Attribute
    Classification" (ECCV 2022). The importance of a weight for a group is ``(g θ)²``, with g the
    gradient of that group's mean loss; weights are kept one after the other, each for the group
    that has kept the smallest share so far. Pruning and training take turns. The loss knows no
    fairness.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    ramp_end : float
        Fraction of training at which the sparsity is reached.
    n_rounds : int
        Rounds of pruning, spread over that part.
    """

    n_rounds: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.n_rounds, Integral) and self.n_rounds >= 1
        self._check("n_rounds", whole, "a positive whole number")

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """No round is behind."""
        return replace(state, own=Rounds())

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Prune where a round begins: the first at once, the last at the end of the ramp."""
        begun = int(self._position(progress) * max(self.n_rounds - 1, 1) + 1e-9) + (
            self.n_rounds > 1
        )
        if state.own.done >= begun:
            return state
        sparsity = 1.0 - (1.0 - problem.sparsity) ** (begun / self.n_rounds)
        masks = self._masks(problem, state, sparsity)
        return replace(state, masks=masks, own=Rounds(begun))

    def _masks(self, problem: Problem, state: SolverState, sparsity: float) -> dict[str, Tensor]:
        weights = state.masked()
        assert problem.fairness is not None
        importances = []
        for group in range(problem.fairness.parity.n_groups):
            gradients = loss_gradients(problem, weights, state.buffers, group)
            squares = {name: (weights[name] * gradients[name]).square() for name in state.masks}
            importances.append(problem.layout.score_gradients(squares))
        names = list(importances[0])
        flat = torch.stack([torch.cat([i[name].flatten() for name in names]) for i in importances])
        scores = equal_shares(flat).split([importances[0][name].numel() for name in names])
        by_name = {
            name: score.view_as(importances[0][name])
            for name, score in zip(names, scores, strict=True)
        }
        return problem.layout.project(by_name, sparsity)


def equal_shares(importance: Tensor, n_turns: int = 1000) -> Tensor:
    """Rank items so that each group keeps the same share of its importance, however many stay.

    Parameters
    ----------
    importance : Tensor of shape (n_groups, n_items), not negative
        Of each item for each group.
    n_turns : int
        Turns in which the items are handed out: in each, the group with the smallest share gets
        its most important ones of those that are left.

    Returns
    -------
    Tensor of shape (n_items,)
        Scores in (0, 1], the first item handed out with the largest.
    """
    share = importance.double()
    share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
    orders = share.argsort(dim=1, descending=True)
    n_groups, n_items = share.shape
    size = -(-n_items // n_turns)
    left = torch.ones(n_items, dtype=torch.bool, device=share.device)
    # A group to which nothing matters would always have kept least.
    kept = [0.0 if total > 0 else math.inf for total in share.sum(1).tolist()]
    position = [0] * n_groups
    ranked = []
    n_ranked = 0
    while n_ranked < n_items:
        group = min(range(n_groups), key=kept.__getitem__)
        found = orders.new_empty(0)
        while len(found) < min(size, n_items - n_ranked):
            window = orders[group, position[group] : position[group] + size]
            found = torch.cat([found, window[left[window]]])
            position[group] += size
        taken, rest = found[:size], found[size:]
        # What was looked at beyond the turn's items is looked at again.
        if len(rest):
            position[group] = int((orders[group] == rest[0]).nonzero())
        left[taken] = False
        ranked.append(taken)
        n_ranked += len(taken)
        kept = [k + float(s) for k, s in zip(kept, share[:, taken].sum(1), strict=True)]
    order = torch.cat(ranked)
    ranks = torch.arange(n_items, 0, -1, device=order.device, dtype=importance.dtype)
    return torch.empty_like(ranks).index_copy_(0, order, ranks / n_items)
