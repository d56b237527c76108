"""Granularities: what is removed together, and the projection of scores onto masks.

A :class:`Granularity` is a choice of the user's, without a network: single weights, neurons, a
pattern. Its :class:`Layout` is that choice for one network: which scores there are, and which
weights a mask keeps for them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from fairprune_sk.masks.coupling import find_units
from fairprune_sk.masks.units import Units

SCOPES = ("global", "layer")

LEAST_PER_RANK = 0.75
"""Weights for each rank of a hidden layer without which the default network may end constant.

On Adult and COMPAS none of 14 fits did at this number, 2 of 14 at two thirds of it, and 3 of 8 at
a third (docs/method.md).
"""


def prunable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Every weight matrix of a module, by name: parameters with two or more axes.

    Embeddings and the output layer count; biases and normalisation parameters do not.
    """
    return {name: p for name, p in module.named_parameters() if p.ndim >= 2 and p.numel() > 0}


def n_removed(n_weights: int, sparsity: float) -> int:
    """Return the smallest number of removed weights that reaches a sparsity."""
    # 0.9 * 10 is 9.000000000000002 in floating point: one weight too many without the slack.
    return math.ceil(sparsity * n_weights - 1e-9 * n_weights)


class Layout(ABC):
    """What can be removed from one network."""

    lr_factor: ClassVar[float] = 1.0
    """Factor on the learning rate of the weights."""

    weight_decay_factor: ClassVar[float] = 1.0
    """Factor on the weight decay that is chosen by table size."""

    cuts: ClassVar[bool] = True
    """Whether units that have become useless may be cut out afterwards."""

    by_unit: frozenset[str] = frozenset()
    """Scores whose first axis is the unit that their weights lead into."""

    @property
    def min_sparsity(self) -> float:
        """Smallest sparsity that the granularity allows."""
        return 0.0

    @property
    @abstractmethod
    def max_sparsity(self) -> float:
        """Largest sparsity that leaves every layer connected."""

    def to(self, device: torch.device) -> Layout:
        """Return the same layout on another device."""
        return self

    @abstractmethod
    def scores(self, importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mask scores in [0, 1] from an importance in [0, 1] of each weight."""

    @abstractmethod
    def score_gradients(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients with respect to the scores from those with respect to each weight's mask."""

    @abstractmethod
    def project(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Masks that keep what has the largest scores.

        Parameters
        ----------
        scores : dict of Tensor
            As :meth:`scores` gives them.
        sparsity : float
            Fraction of weights to remove, in [0, 1).

        Returns
        -------
        dict of Tensor, bool
            For each weight matrix, by name; True keeps. At least ``sparsity`` of all weights
            are removed.
        """


@dataclass(frozen=True)
class Granularity(ABC):
    """What is removed together.

    Parameters
    ----------
    scope : {"global", "layer"}
        Whether the scores of the whole network compete with each other, or each layer loses the
        same fraction.
    """

    scope: str = "global"

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise ValueError(f"Got scope={self.scope!r}, but expected 'global' or 'layer'.")

    @abstractmethod
    def layout(self, module: nn.Module, X: Any) -> Layout:
        """Look at a network.

        Parameters
        ----------
        module : nn.Module
        X : Tensor of shape (n, ...), or dict of them
            A few rows that it takes.

        Returns
        -------
        Layout
            On the module's device.

        Raises
        ------
        ValueError
            If the network cannot be pruned in this way.
        """


# ------------------------------------------------------------------------------ single weights


@dataclass(frozen=True)
class WeightLayout(Layout):
    """Single weights of one network.

    Attributes
    ----------
    shapes : dict of torch.Size
        Of each weight matrix.
    scope : {"global", "layer"}
    by_unit : frozenset of str
        Those of linear and convolutional layers.
    """

    shapes: Mapping[str, torch.Size]
    scope: str = "global"
    by_unit: frozenset[str] = frozenset()

    @property
    def max_sparsity(self) -> float:
        """Largest sparsity at which networks were seen to learn: below it some end constant.

        :data:`LEAST_PER_RANK` weights for each rank of the hidden layers, and one for each layer.
        """
        *hidden, _ = self.shapes.values()
        ranks = sum(min(shape[0], shape[1:].numel()) for shape in hidden)
        kept = max(LEAST_PER_RANK * ranks, len(self.shapes))
        return 1.0 - kept / sum(shape.numel() for shape in self.shapes.values())

    def scores(self, importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scores of the weights are their importance."""
        return dict(importance)

    def score_gradients(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients of the weights' masks are those of the scores."""
        return dict(gradients)

    def project(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Keep the ``(1 - sparsity) * n`` largest scores, and one of each layer among them."""
        if self.scope == "layer":
            return {name: _largest({name: score}, sparsity)[name] for name, score in scores.items()}
        return _largest(scores, sparsity)


def _largest(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    flat = [score.flatten() for score in scores.values()]
    sizes = [len(score) for score in flat]
    ranked = torch.cat(flat)
    n_kept = max(len(ranked) - n_removed(len(ranked), sparsity), len(flat))
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


class Unstructured(Granularity):
    """Single weights. Every layer keeps its best, so that the network never falls apart."""

    def layout(self, module: nn.Module, X: Any = None) -> WeightLayout:
        """Every weight on its own."""
        return WeightLayout(_shapes(module), self.scope, _by_unit(module))


# ------------------------------------------------------------------------------------ patterns


@dataclass(frozen=True)
class PatternLayout(WeightLayout):
    """Single weights of one network, at most n in each m along the inputs.

    Attributes
    ----------
    n, m : int
    """

    n: int = 2
    m: int = 4

    cuts: ClassVar[bool] = False  # a missing column would shift the pattern

    @property
    def min_sparsity(self) -> float:
        """What the pattern itself removes."""
        return 1.0 - self.n / self.m

    def project(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Keep the largest scores among those that are n of m; others only below that sparsity."""
        # On the way to the pattern's own sparsity, a bonus lets what fits it stay longest.
        ranked = {name: score + 2.0 * self._fits(score) for name, score in scores.items()}
        return super().project(ranked, sparsity)

    def _fits(self, score: Tensor) -> Tensor:
        """Whether a weight is among the n largest of its m, with the last m padded."""
        rows = score.flatten(1)
        width = rows.shape[1]
        blocks = F.pad(rows, (0, -width % self.m), value=-1.0).unflatten(1, (-1, self.m))
        kept = torch.zeros_like(blocks).scatter_(2, blocks.topk(self.n, dim=2).indices, 1.0)
        return kept.flatten(1)[:, :width].view_as(score)


@dataclass(frozen=True)
class Pattern(Granularity):
    """At most n weights in each m beside each other along the inputs, such as 2:4.

    The pattern comes on top of the sparsity, which counts as everywhere. Inputs that m does not
    divide are padded for the pattern, and the padding is not counted.

    Parameters
    ----------
    n, m : int
        ``0 < n < m``.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.n < self.m:
            raise ValueError(f"Got n={self.n}, m={self.m}, but expected 0 < n < m.")

    def layout(self, module: nn.Module, X: Any = None) -> PatternLayout:
        """Every weight in its block."""
        return PatternLayout(_shapes(module), self.scope, _by_unit(module), self.n, self.m)


# --------------------------------------------------------------------------------------- units


@dataclass(frozen=True)
class UnitLayout(Layout):
    """Neurons, filters and attention heads of one network.

    Attributes
    ----------
    units : Units
    shapes : dict of torch.Size
        Of each weight matrix.
    scope : {"global", "layer"}
    """

    units: Units
    shapes: Mapping[str, torch.Size]
    scope: str = "global"

    # Few units have to take over the work of many, and decay holds them back from it: on a
    # development split of Adult at 97%, rate and decay of single weights lost 4 points, these 0.5.
    lr_factor: ClassVar[float] = 3.0
    weight_decay_factor: ClassVar[float] = 0.1

    def to(self, device: torch.device) -> UnitLayout:
        """Return the same units on another device."""
        return replace(self, units=self.units.to(device))

    @property
    def max_sparsity(self) -> float:
        """All but one unit of each layer."""
        layer = self.units.layer_of_unit
        first = torch.stack([(layer == i).nonzero()[0, 0] for i in range(int(layer.max()) + 1)])
        kept = torch.zeros_like(layer, dtype=torch.bool).index_fill(0, first, True)
        left = sum(int(mask.sum()) for mask in self.units.masks(kept, self.shapes).values())
        return 1.0 - left / sum(shape.numel() for shape in self.shapes.values())

    def scores(self, importance: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean importance of a unit's weights, against that of its layer: x / (1 + x).

        Layers of few inputs and layers of many compete on equal terms: none is starved because
        its weights are small or few.
        """
        sizes = self.units.sums({k: torch.ones_like(v) for k, v in importance.items()})
        return {"units": self.relative(self.units.sums(importance) / sizes.clamp_min(1.0))}

    def relative(self, mean: Tensor) -> Tensor:
        """Scores in [0, 1) of quantities of the units, against those of their layers."""
        layer = self.units.layer_of_unit
        n_layers = int(layer.max()) + 1
        total = mean.new_zeros(n_layers).index_add(0, layer, mean)
        count = mean.new_zeros(n_layers).index_add(0, layer, torch.ones_like(mean))
        relative = mean / (total / count).clamp_min(1e-12)[layer]
        return relative / (1.0 + relative)

    def score_gradients(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add up over each unit, whose mask stands in for the masks of all its weights."""
        return {"units": self.units.sums(gradients)}

    def project(self, scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
        """Take away units, the smallest scores first, until few enough weights are left."""
        order = self._order(scores["units"])
        n_weights = sum(shape.numel() for shape in self.shapes.values())
        budget = n_weights - n_removed(n_weights, sparsity)
        # As a tensor, since a number would have to be waited for.
        n_gone = (self.units.kept_weights(order, self.shapes) > budget + 0.5).sum()
        rank = torch.empty_like(order).index_copy_(
            0, order, torch.arange(len(order), device=order.device)
        )
        return self.units.masks(rank >= n_gone, self.shapes)

    def _order(self, score: Tensor) -> Tensor:
        """Units in the order in which they go; the best of each layer goes last of all."""
        layer = self.units.layer_of_unit
        by_score = score.argsort()
        # A stable sort by layer of what is sorted by score: the rank of each unit in its layer.
        by_layer = by_score[layer[by_score].argsort(stable=True)]
        count = torch.zeros_like(layer).index_add(0, layer, torch.ones_like(layer))
        end = count.cumsum(0)
        place = torch.arange(len(layer), device=layer.device)
        left = end[layer[by_layer]] - place  # 1 for the best of a layer
        if self.scope == "layer":
            key = 1.0 - left / count[layer[by_layer]]
        else:
            key = score[by_layer]
        key = torch.where(left == 1, torch.inf, key)
        return by_layer[key.argsort(stable=True)]


@dataclass(frozen=True)
class Neuron(Granularity):
    """Hidden neurons, convolution filters and attention heads, with all that is coupled to them.

    Sparsity counts weights here too: a neuron takes its row, and its column in every layer that
    reads it. Every layer keeps its best unit.

    Parameters
    ----------
    scope : {"layer", "global"}
        Whether each layer loses the same fraction of its units (the default here: one threshold
        for all layers leaves some with a unit or two, and at 97% of COMPAS with a constant
        classifier), or all units compete with each other.
    """

    scope: str = "layer"

    def layout(self, module: nn.Module, X: Any) -> UnitLayout:
        """Find the units and their coupling."""
        units = find_units(module, X)
        if not units.n_units:
            reasons = "".join(f" Layer {name!r}: {why}." for name, why in units.uncut.items())
            raise ValueError(
                f"Got {type(module).__name__} without a hidden unit that could be cut.{reasons} "
                "Use granularity='unstructured'."
            )
        return UnitLayout(units, _shapes(module), self.scope)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in prunable_parameters(module).items()}


GRANULARITIES: dict[str, Granularity] = {
    "unstructured": Unstructured(),
    "neuron": Neuron(),
    "1:2": Pattern(n=1, m=2),
    "2:4": Pattern(n=2, m=4),
    "4:8": Pattern(n=4, m=8),
}
"""Granularities by the name that ``FairPruner(granularity=...)`` takes."""


def _by_unit(module: nn.Module) -> frozenset[str]:
    """Weight matrices of linear and convolutional layers; rows of others may be tokens."""
    return frozenset(
        f"{name}.weight" if name else "weight"
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | _ConvNd)
    )
