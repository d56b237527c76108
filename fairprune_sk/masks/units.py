"""Units of a network: hidden neurons, convolution filters and attention heads, and their cut.

A unit is what can be cut out of a network and leave a smaller network behind: a neuron's row in
its own layer, its place in the normalisation that follows, its column in every layer that reads
it, and all that is coupled with these through shortcuts, depthwise convolutions or concatenation.
:mod:`fairprune_sk.masks.coupling` finds out which slices belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

READS, WRITES = "in", "out"


@dataclass(frozen=True)
class Slice:
    """One side of one layer, and the unit that each of its channels belongs to.

    Attributes
    ----------
    layer : str
        Name of the module.
    side : {"out", "in"}
        Whether the layer writes these channels, or reads them.
    unit : Tensor of shape (n_channels,), int64
        -1 for a channel that belongs to no unit.
    """

    layer: str
    side: str
    unit: Tensor


@dataclass(frozen=True)
class Units:
    """All units of a network.

    Attributes
    ----------
    layer_of_unit : Tensor of shape (n_units,), int64
        Units with the same number stand beside each other in one layer (or in several coupled
        ones); one of them must stay.
    slices : tuple of Slice
    weights : dict
        For each weight, by its name, the unit of each index along its axes:
        ``{name: {axis: Tensor}}``, with -1 for an index that belongs to no unit.
    uncut : dict of str
        Why outputs of a convolution or linear layer are no units, by the layer's name.
    """

    layer_of_unit: Tensor
    slices: tuple[Slice, ...]
    weights: dict[str, dict[int, Tensor]]
    uncut: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_units(self) -> int:
        """How many there are."""
        return len(self.layer_of_unit)

    def to(self, device: torch.device) -> Units:
        """Return the same units on another device."""
        weights = {
            name: {axis: unit.to(device) for axis, unit in axes.items()}
            for name, axes in self.weights.items()
        }
        return replace(self, layer_of_unit=self.layer_of_unit.to(device), weights=weights)

    def only(self, wanted: Tensor) -> Units:
        """Keep some of the units: a mask of shape (n_units,), on the CPU."""
        number = torch.cat([wanted.cumsum(0) - 1, torch.tensor([-1])])
        number[:-1][~wanted] = -1
        layer = self.layer_of_unit[wanted.to(self.layer_of_unit.device)]
        _, layer = torch.unique(layer, return_inverse=True)
        slices = [Slice(s.layer, s.side, number[s.unit]) for s in self.slices]
        weights: dict[str, dict[int, Tensor]] = {}
        for name, axes in self.weights.items():
            for axis, unit in axes.items():
                unit = number.to(unit.device)[unit]
                if (unit >= 0).any():
                    weights.setdefault(name, {})[axis] = unit
        return Units(layer, tuple(s for s in slices if (s.unit >= 0).any()), weights)

    def masks(self, kept: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
        """Masks of the weights that belong to kept units only.

        Parameters
        ----------
        kept : Tensor of shape (n_units,), bool
        shapes : dict
            Shape of each weight.

        Returns
        -------
        dict of Tensor, bool
        """
        # The last entry stands for "no unit", and is found there by -1.
        kept = torch.cat([kept, kept.new_ones(1)])
        masks = {}
        for name, shape in shapes.items():
            mask = kept.new_ones(shape)
            for axis, unit in self.weights.get(name, {}).items():
                mask &= _along(kept[unit], axis, mask.ndim)
            masks[name] = mask
        return masks

    def sums(self, values: Mapping[str, Tensor]) -> Tensor:
        """Sum a quantity of the weights over each unit, shape (n_units,).

        Parameters
        ----------
        values : dict of Tensor
            Of each weight's shape.
        """
        like = next(iter(values.values()))
        total = like.new_zeros(self.n_units + 1)
        for name, axes in self.weights.items():
            for axis, unit in axes.items():
                other = [i for i in range(values[name].ndim) if i != axis]
                # -1 goes to the last entry, which is cut off.
                index = unit.where(unit >= 0, self.n_units)
                total = total.index_add(0, index, values[name].sum(other))
        return total[:-1]

    @cached_property
    def _sizes(self) -> dict[str, dict[int, Tensor]]:
        """How many indices along each axis of each weight belong to each unit."""

        def count(unit: Tensor) -> Tensor:
            index = unit.where(unit >= 0, self.n_units)
            zeros = torch.zeros(self.n_units + 1, dtype=torch.float64, device=unit.device)
            return zeros.index_add(0, index, torch.ones_like(index, dtype=zeros.dtype))[:-1]

        return {
            name: {axis: count(unit) for axis, unit in axes.items()}
            for name, axes in self.weights.items()
        }

    def kept_weights(self, order: Tensor, shapes: Mapping[str, torch.Size]) -> Tensor:
        """Count the weights left after the first k units are gone, for every k.

        Parameters
        ----------
        order : Tensor of shape (n_units,), int64
            Units, the first to go first.
        shapes : dict
            Shape of each weight.

        Returns
        -------
        Tensor of shape (n_units + 1,), float64
        """
        total = torch.zeros(self.n_units + 1, dtype=torch.float64, device=order.device)
        for name, shape in shapes.items():
            left = torch.full_like(total, float(shape.numel()))
            for axis, sizes in self._sizes.get(name, {}).items():
                gone = torch.cat([total.new_zeros(1), sizes[order].cumsum(0)])
                left = left * (shape[axis] - gone) / shape[axis]
            total += left
        return total


def _along(values: Tensor, axis: int, ndim: int) -> Tensor:
    shape = [1] * ndim
    shape[axis] = -1
    return values.view(shape)


def is_depthwise(layer: _ConvNd) -> bool:
    """Whether each of the channels is convolved by itself."""
    return layer.groups > 1 and layer.groups == layer.in_channels == layer.out_channels


def cut(module: nn.Module, units: Units, kept: Tensor) -> None:
    """Cut units out of a network, in place.

    Parameters
    ----------
    module : nn.Module
    units : Units
        Of this module.
    kept : Tensor of shape (n_units,), bool
    """
    kept = torch.cat([kept.cpu(), torch.ones(1, dtype=torch.bool)])
    layers = dict(module.named_modules())
    for piece in units.slices:
        gone = (~kept[piece.unit]).nonzero().flatten().tolist()
        if gone and piece.layer not in layers:
            _cut_parameter(module, piece.layer, kept[piece.unit])
        elif gone:
            _cutter(layers[piece.layer], piece.side)(layers[piece.layer], gone)


def _cut_parameter(module: nn.Module, name: str, kept: Tensor) -> None:
    """Cut dimensions out of a parameter that belongs to no layer, along its last axis."""
    owner, _, key = name.rpartition(".")
    layer = module.get_submodule(owner)
    parameter = getattr(layer, key)
    small = parameter.detach()[..., kept.to(parameter.device)].clone()
    setattr(layer, key, nn.Parameter(small, requires_grad=parameter.requires_grad))


def _cutter(layer: nn.Module, side: str) -> Callable[[nn.Module, list[int]], Any]:
    """Torch-Pruning's function that takes channels out of a layer."""
    if isinstance(layer, nn.Linear):
        return tp.prune_linear_in_channels if side == READS else tp.prune_linear_out_channels
    if isinstance(layer, _ConvNd):
        if is_depthwise(layer):
            return tp.prune_depthwise_conv_out_channels
        return tp.prune_conv_in_channels if side == READS else tp.prune_conv_out_channels
    if isinstance(layer, nn.PReLU):
        return tp.prune_prelu_out_channels
    if isinstance(layer, nn.Embedding):
        return tp.prune_embedding_out_channels
    return tp.prune_batchnorm_out_channels
