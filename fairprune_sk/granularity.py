"""Granularities: which weights may go together, and the projection of scores onto masks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


def prunable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Every weight matrix of a module, by name: parameters with two or more axes.

    Embeddings and the output layer count; biases and normalisation parameters do not.
    """
    return {name: p for name, p in module.named_parameters() if p.ndim >= 2 and p.numel() > 0}


def n_removed(n_weights: int, sparsity: float) -> int:
    """Return the smallest number of removed weights that reaches a sparsity."""
    # 0.9 * 10 is 9.000000000000002 in floating point: one weight too many without the slack.
    return math.ceil(sparsity * n_weights - 1e-9 * n_weights)


class Granularity(ABC):
    """Which units can be removed, as the projection of mask scores onto binary masks."""

    @abstractmethod
    def max_sparsity(self, shapes: dict[str, torch.Size]) -> float:
        """Largest sparsity that leaves every layer connected."""

    @abstractmethod
    def project(self, scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Masks that keep the units with the largest scores.

        Parameters
        ----------
        scores : dict of Tensor
            Mask scores by parameter name, each of its parameter's shape.
        sparsity : float
            Fraction of weights to remove, in [0, 1).

        Returns
        -------
        dict of Tensor, bool
            True keeps. At least ``sparsity`` of the weights are removed.
        """


class Unstructured(Granularity):
    """Single weights, ranked over the whole network (``scope="global"``).

    Every layer keeps its best weight, so that the network never falls apart.
    """

    def max_sparsity(self, shapes: dict[str, torch.Size]) -> float:
        """All but one weight of each layer."""
        return 1.0 - len(shapes) / sum(shape.numel() for shape in shapes.values())

    def project(self, scores: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Keep the ``(1 - sparsity) * n`` largest scores, and one of each layer among them."""
        flat = [score.flatten() for score in scores.values()]
        sizes = [len(score) for score in flat]
        ranked = torch.cat(flat)
        n_kept = len(ranked) - n_removed(len(ranked), sparsity)
        if n_kept == len(ranked):
            return {name: torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()}
        offset = 0
        best = []
        for score in flat:
            best.append(score.argmax() + offset)
            offset += len(score)
        # index_fill_, since assigning a number by index copies it to a GPU and waits for it.
        ranked.index_fill_(0, torch.stack(best), torch.inf)
        # top-k by index, not by a threshold: ties at the threshold must not change the count.
        kept = torch.zeros_like(ranked, dtype=torch.bool)
        kept.index_fill_(0, ranked.topk(n_kept, sorted=False).indices, True)
        return {
            name: mask.view_as(scores[name])
            for name, mask in zip(scores, kept.split(sizes), strict=True)
        }


GRANULARITIES: dict[str, type[Granularity]] = {"unstructured": Unstructured}
"""Every granularity by the name that ``FairPruner(granularity=...)`` takes."""
