"""Importances: the mask scores that a run of pruning starts from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def lamp(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Layer-adaptive magnitude: the share of a weight among all weights no larger than it.

    The square root of the LAMP score of Lee et al., "Layer-adaptive Sparsity for the
    Magnitude-based Pruning" (ICLR 2021). It compares weights of different layers, and the
    largest weight of every layer scores 1, so that no layer is starved.

    Parameters
    ----------
    weights : dict of Tensor

    Returns
    -------
    dict of Tensor
        Scores in [0, 1], each of its weight's shape.
    """

    def score(weight: Tensor) -> Tensor:
        squares = weight.flatten().square()
        order = squares.argsort(descending=True)
        ranked = squares[order]
        # In LAMP the denominator of a weight is the sum of all squares that are at least as
        # large: survivors, if everything smaller went first.
        share = ranked / ranked.cumsum(0).clamp_min(torch.finfo(ranked.dtype).tiny)
        return torch.empty_like(share).index_copy_(0, order, share.sqrt()).view_as(weight)

    return {name: score(weight) for name, weight in weights.items()}


def magnitude(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Magnitude in units of the layer's root mean square, scaled to a maximum of 1."""
    tiny = 1e-12
    relative = {k: w.abs() / w.square().mean().sqrt().clamp_min(tiny) for k, w in weights.items()}
    largest = torch.stack([r.amax() for r in relative.values()]).amax().clamp_min(tiny)
    return {name: r / largest for name, r in relative.items()}


def uniform(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Uniform random scores in [0, 1)."""
    return {name: torch.rand_like(weight) for name, weight in weights.items()}


def normal(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random scores of mean 0.5 and standard deviation 0.15, cut to [0, 1]."""
    return {k: (0.5 + 0.15 * torch.randn_like(w)).clamp(0.0, 1.0) for k, w in weights.items()}


def constant(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """All scores 0.5: only the gradient tells weights apart."""
    return {name: torch.full_like(weight, 0.5) for name, weight in weights.items()}


IMPORTANCES: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "lamp": lamp,
    "magnitude": magnitude,
    "uniform": uniform,
    "normal": normal,
    "constant": constant,
}
"""Every importance by the name that ``BilevelSolver(importance=...)`` takes."""
