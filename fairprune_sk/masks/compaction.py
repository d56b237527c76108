"""From a masked network to a plain one, and from there to a smaller one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fairprune_sk.masks.coupling import find_units
from fairprune_sk.masks.trial import alike
from fairprune_sk.masks.units import Units, cut
from fairprune_sk.networks.calls import forward, main_output, watching


def with_tensors(
    module: nn.Module, tensors: Mapping[str, Tensor], device: torch.device
) -> nn.Module:
    """Copy a module, with other values in its parameters and buffers.

    Parameters
    ----------
    module : nn.Module
    tensors : dict of Tensor
        By the name of the parameter or buffer, such as those of a masked network.
    device : torch.device

    Returns
    -------
    nn.Module
        A plain module in evaluation mode: no hooks, no renamed parameters.
    """
    network = copy.deepcopy(module).to(device)
    own = dict(network.named_parameters()) | dict(network.named_buffers())
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    return network.eval()


def shrink(network: nn.Module, X: Any) -> nn.Module:
    """Cut out of a network what its zero weights have made useless, in place.

    A unit that nobody reads goes. So does one that reads nothing: what it then puts out is a
    constant, which moves into the biases of the layers that read it. One may leave another
    without purpose, so this goes on until nothing is left to cut; each layer keeps one unit.
    Predictions stay the same, up to rounding.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode. One with a method ``drop_unread_inputs`` is asked to do that as well.
    X : Tensor of shape (n, ...), or dict of them
        A few rows that it takes, on its device.

    Returns
    -------
    nn.Module
        The same network, or where it cannot be cut a copy as it was.
    """
    before = copy.deepcopy(network)
    trained = {name: p.requires_grad for name, p in network.named_parameters()}
    network = _shrunk(network, X)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trained[name])
    with torch.no_grad():
        expected, output = (forward(net, X) for net in (before, network))
    # The last word has the network itself: no trace sees every way that a forward may go.
    return network if alike(expected, output) else before


def _shrunk(network: nn.Module, X: Any) -> nn.Module:
    while True:
        try:
            units = find_units(network, X)
        except ValueError:  # what cannot be traced cannot be cut, and works as it is
            return network
        with torch.no_grad():
            _fold_constants(network, units, X)
        gone = _norms(network, units, "in") == 0.0
        # The last unit of a layer stays, whatever it does.
        for layer in range(int(units.layer_of_unit.max()) + 1 if units.n_units else 0):
            members = (units.layer_of_unit == layer).nonzero().flatten()
            if gone[members].all():
                gone[members[0]] = False
        if not gone.any():
            break
        cut(network, units, ~gone)
    drop: Any = getattr(network, "drop_unread_inputs", None)
    if drop is not None:
        drop()
    return network


def _channel_weights(layer: Any, side: str) -> Tensor | None:
    """Weights by channel, shape (n_channels, ...); None for a layer without weight matrix."""
    if isinstance(layer, nn.Parameter):
        return layer.movedim(-1, 0).unsqueeze(-1)
    weight = getattr(layer, "weight", None)
    if isinstance(layer, nn.Embedding):
        return layer.weight.t()
    if weight is None or weight.ndim < 2:
        return None
    transposed = isinstance(layer, nn.modules.conv._ConvTransposeNd)
    if (side == "out") != transposed:
        return weight
    channels = weight.transpose(0, 1)
    # In a grouped convolution each input channel of the weight stands for one of every group.
    return channels.repeat(getattr(layer, "groups", 1), *[1] * (weight.ndim - 1))


def _norms(network: nn.Module, units: Units, side: str) -> Tensor:
    """Sum of the absolute weights on one side of each unit, shape (n_units,)."""
    layers = dict(network.named_modules())
    parameters = dict(network.named_parameters())
    total = torch.zeros(units.n_units, dtype=torch.float64)
    for piece in units.slices:
        weight = _channel_weights(layers.get(piece.layer, parameters.get(piece.layer)), piece.side)
        if piece.side != side or weight is None:
            continue
        sizes = weight.detach().abs().flatten(1).sum(1).double().cpu()
        inside = piece.unit >= 0
        total.index_add_(0, piece.unit[inside], sizes[inside])
    return total


def _fold_constants(network: nn.Module, units: Units, X: Any) -> None:
    """Move what units without inputs put out into the biases of those who read it."""
    constant = (_norms(network, units, "out") == 0.0) & (_norms(network, units, "in") > 0.0)
    if not constant.any():
        return
    layers = dict(network.named_modules())
    readers = [piece for piece in units.slices if piece.side == "in"]
    values = _inputs(network, [layers[piece.layer] for piece in readers], X)
    foldable = constant.clone()
    for piece, value in zip(readers, values, strict=True):
        # A convolution pads with zeros, which are no constant; a layer without bias has no place.
        layer = layers[piece.layer]
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            continue
        nonzero = (piece.unit >= 0) & (value != 0.0).cpu()
        foldable[piece.unit[nonzero]] = False
    for piece, value in zip(readers, values, strict=True):
        layer = layers[piece.layer]
        channels = ((piece.unit >= 0) & foldable[piece.unit]).nonzero().flatten()
        if not len(channels):
            continue
        channels = channels.to(value.device)
        if isinstance(layer, nn.Linear):
            if layer.bias is not None:
                layer.bias.add_(layer.weight[:, channels] @ value[channels])
            layer.weight[:, channels] = 0.0
        else:
            per_group = layer.in_channels // layer.groups
            layer.weight[:, channels % per_group] = 0.0


def _inputs(network: nn.Module, layers: list[Any], X: Any) -> list[Tensor]:
    """Value of each input channel of some layers, at one place of one row."""
    seen: dict[nn.Module, Tensor] = {}
    with watching(layers, lambda layer, args: seen.update({layer: args[0]})):
        forward(network, X)
    return [
        seen[layer].reshape(-1, layer.in_features)[0]
        if isinstance(layer, nn.Linear)
        # The middle of a channel, since its rim may have been padded.
        else seen[layer][0].flatten(1)[:, seen[layer][0, 0].numel() // 2]
        for layer in layers
    ]


def read_columns(network: nn.Module, X: Tensor) -> Tensor:
    """Find the columns of a table that a network reads.

    A column is not read where every layer that takes the table itself has zero weights for it,
    and other values in it change nothing: the table may go other ways as well.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    X : Tensor of shape (n, n_columns)
        A few rows.

    Returns
    -------
    Tensor of shape (n_columns,), bool
        On the CPU.
    """
    read = torch.zeros(X.shape[1], dtype=torch.bool)
    encoding = getattr(network, "encoding", None)
    if encoding is not None:
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Linear))
        read[encoding.columns[first.weight.any(dim=0)].cpu()] = True
        return read
    readers: list[Any] = []
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        with watching(linear, lambda m, args: readers.append(m) if args[0] is X else None):
            expected = main_output(network(X))
        if not readers:
            return ~read
        for layer in readers:
            read |= layer.weight.any(dim=0).cpu()
        for column in (~read).nonzero().flatten().tolist():
            other = X.clone()
            other[:, column] = torch.linspace(-1e3, 1e3, len(X), device=X.device)
            read[column] = not torch.equal(main_output(network(other)), expected)
    return read


def reached_sparsity(masks: dict[str, Tensor]) -> float:
    """Fraction of the prunable weights that the masks remove."""
    n_weights = sum(mask.numel() for mask in masks.values())
    return 1.0 - sum(int(mask.sum()) for mask in masks.values()) / n_weights
