"""Which channels of a network hang together, and so become one unit.

They are read off Torch-Pruning's dependency graph (Fang et al., "DepGraph: Towards Any Structural
Pruning", CVPR 2023), and joined where the graph does not reach: heads, embeddings, what is used
twice. What comes out is tried, by a cut, before it is trusted.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from scipy.cluster.hierarchy import DisjointSet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fairprune_sk.masks.tracing import Item, coupled_groups, operations
from fairprune_sk.masks.trial import tried
from fairprune_sk.masks.units import READS, WRITES, Slice, Units, is_depthwise
from fairprune_sk.networks.calls import evaluating, forward, watching

# Layers whose output at one unit depends on all units that they read: without one of them, the
# others change. Units that end in such a layer stay.
_MIXING = (nn.LayerNorm, nn.GroupNorm, nn.MultiheadAttention, nn.RNNBase)


def find_units(module: nn.Module, X: Any) -> Units:
    """Find the units of a network.

    Parameters
    ----------
    module : nn.Module
        On any device; it is not changed. Attention layers may say themselves how their channels
        hang together, by an attribute ``d_head`` beside linear layers ``q``, ``k``, ``v``, ``o``.
    X : Tensor of shape (n, ...), or dict of them
        A few rows, to trace the network with.

    Returns
    -------
    Units
        On the device of the module.

    Raises
    ------
    ValueError
        If the network cannot be traced; the message names the layer that was reached.
    """
    names = {child: name for name, child in module.named_modules()}
    alone = {p: n for n, p in _embeddings(module).items() if n not in names.values()}
    owned = {parameter: name for name, parameter in module.named_parameters()}
    heads = {name: layer for name, layer in module.named_modules() if _has_heads(layer)}
    # What attention does to channels is known here, and guessed at by a trace.
    inner = {(f"{name}.{part}", WRITES) for name in heads for part in "qkv"}
    inner |= {(f"{name}.o", READS) for name in heads}
    joined = DisjointSet()  # of (layer, side, channel)
    stays: dict[tuple[Any, ...], str] = {}  # and why
    passed: dict[str, list[str]] = {}
    groups = coupled_groups(module, X)  # says what is wrong with a forward that fails
    once = _used_once(module, X)
    for group in groups:
        root = (names[group[0].node.module], WRITES)
        passed[root[0]] = operations(group)
        if root in inner:
            continue
        for item in group:
            layer = item.node.module
            if getattr(layer, "split_sizes", None):
                _join_parts(joined, root, layer.split_sizes, item)
            if layer in alone and item.node.pruning_dim == layer.ndim - 1:
                side = (alone[layer], WRITES)
            elif layer in names:
                side = (names[layer], _side(layer, item.handler))
            else:  # an operation, without channels of its own
                if isinstance(layer, nn.Parameter):
                    why = f"parameter {owned[layer]!r} has its channels on an axis before its last"
                    stays |= {(*root, int(r)): why for r in item.root_idxs}
                continue
            if side in inner:
                continue
            for channel, r in zip(item.idxs, item.root_idxs, strict=True):
                _join(joined, (*root, int(r)), (*side, int(channel)))
                if why := _why_not(layer, side[0], once):
                    stays[(*side, int(channel))] = why
    for name, layer in heads.items():
        _join_heads(joined, name, layer)
    _join_embeddings(joined, module, X)
    for name, child in module.named_modules():
        if isinstance(child, _ConvNd) and child.groups > 1 and not is_depthwise(child):
            _join_positions(joined, name, child)
    wanted = _numbered(joined, stays, module)
    units, failed = tried(wanted, module, X)
    return replace(units, uncut=_uncut(module, units, joined, stays, wanted, failed, passed))


def _why_not(layer: Any, name: str, once: set[nn.Module]) -> str:
    """Why no channel of a layer may go; empty if nothing is in the way."""
    if isinstance(layer, _MIXING):
        return f"layer {name!r} ({type(layer).__name__}) makes each channel from all of them"
    if isinstance(layer, nn.Module) and layer not in once:
        return f"layer {name!r} is not called once with parameters of its own"
    return ""


def _uncut(
    module: nn.Module,
    units: Units,
    joined: DisjointSet,
    stays: dict[tuple[Any, ...], str],
    wanted: Units,
    failed: list[str],
    passed: dict[str, list[str]],
) -> dict[str, str]:
    """Say of each layer with channels that stay why they do; outputs of the network stay."""
    why_root = {joined[channel]: why for channel, why in stays.items() if channel in joined}
    number = {(s.layer, s.side): s.unit for s in wanted.slices}
    left = {s.layer: s.unit for s in units.slices if s.side == WRITES}
    uncut = {}
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear | _ConvNd):
            continue
        n = _n_channels(layer, WRITES)
        here = left.get(name, torch.full((n,), -1))
        if (here >= 0).all():
            continue
        channel = (name, WRITES, int((here < 0).nonzero()[0]))
        tried_unit = int(number[channel[:2]][channel[2]]) if channel[:2] in number else -1
        between = passed.get(name, [])
        if channel not in joined:
            uncut[name] = "a forward pass does not call it as a layer"
        elif why := why_root.get(joined[channel]):
            uncut[name] = why
        elif tried_unit >= 0:
            uncut[name] = failed[int(wanted.layer_of_unit[tried_unit])]
            if between:
                uncut[name] += f"; its channels pass {', '.join(between)}"
        elif "output" not in between:
            uncut[name] = f"its channels are lost in {', '.join(between)}"
    return uncut


def _used_once(module: nn.Module, X: Any) -> set[nn.Module]:
    """Layers that are called once, with parameters of their own: a cut suits their one use."""
    calls = Counter[nn.Module]()
    with evaluating(module), watching(module.modules(), lambda m, args: calls.update([m])):
        forward(module, X)
    owners: dict[int, int] = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {
        layer
        for layer in module.modules()
        if calls[layer] == 1
        and all(owners[id(parameter)] == 1 for parameter in layer.parameters(recurse=False))
    }


def _join(joined: DisjointSet, a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    """Note that two channels belong together."""
    joined.add(a)
    joined.add(b)
    joined.merge(a, b)


def _side(layer: nn.Module, handler: Callable[..., Any]) -> str:
    """Whether a pruning function takes channels that the layer reads, or that it writes."""
    if isinstance(layer, _ConvNd) and is_depthwise(layer):
        return WRITES  # what it reads is what it writes
    return READS if handler.__name__.endswith("in_channels") else WRITES


def _has_heads(module: nn.Module) -> bool:
    return hasattr(module, "d_head") and all(hasattr(module, name) for name in "qkvo")


def _join_heads(joined: DisjointSet, name: str, layer: Any) -> None:
    """All channels of a head belong together, in its three inputs and its output."""
    for channel in range(layer.q.out_features):
        root = (f"{name}.q", WRITES, channel // layer.d_head * layer.d_head)
        for part in "qkv":
            _join(joined, root, (f"{name}.{part}", WRITES, channel))
        _join(joined, root, (f"{name}.o", READS, channel))


def _join_positions(joined: DisjointSet, name: str, layer: _ConvNd) -> None:
    """Join the channels at one place in all groups of a convolution: groups stay of one size."""
    for side, n in ((WRITES, layer.out_channels), (READS, layer.in_channels)):
        for channel in range(n):
            _join(joined, (name, side, channel % (n // layer.groups)), (name, side, channel))


def _embeddings(module: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters whose last axis holds the dimensions of an embedding, by the slice's name.

    Those of ``nn.Embedding``, and those that belong to no layer that is known here.
    """
    known = (nn.Linear, _ConvNd, _NormBase, nn.PReLU, nn.Embedding, *_MIXING)
    found: dict[str, nn.Parameter] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Embedding):
            found[name] = layer.get_parameter("weight")
        elif not isinstance(layer, known):
            for key, parameter in layer.named_parameters(recurse=False):
                if parameter.ndim and parameter.shape[-1] > 1:
                    found[f"{name}.{key}".lstrip(".")] = parameter
    return found


def _join_embeddings(joined: DisjointSet, module: nn.Module, X: Any) -> None:
    """Join each dimension of an embedding with the channels of the linear layers that read it.

    A trace starts at layers, and takes a flattened axis for channels first. So this is tried
    out: a dimension is changed, and the inputs of the linear layers are looked at. A layer reads
    an embedding where each of its inputs follows one dimension; further on, they follow many.
    """
    embeddings = _embeddings(module)
    readers = [n for n, m in module.named_modules() if isinstance(m, nn.Linear)]
    if not embeddings or not readers:
        return
    own = dict(copy.deepcopy(module).eval().named_modules())
    net = own[""]
    names = {own[name]: name for name in readers}

    def inputs() -> dict[str, Tensor]:
        seen: dict[str, Tensor] = {}
        with watching(names, lambda m, args: seen.update({names[m]: args[0].detach().clone()})):
            forward(net, X)
        return {n: v.reshape(-1, v.shape[-1]) for n, v in seen.items() if v.ndim >= 2}

    with torch.no_grad():
        before = inputs()
        for name, parameter in _embeddings(net).items():
            follows: dict[str, list[Tensor]] = {reader: [] for reader in before}
            for j in range(parameter.shape[-1]):
                kept = parameter[..., j].clone()
                change = 1.0 + torch.rand_like(kept)
                if not follows:
                    continue  # drawn all the same, so that later random numbers stay
                parameter[..., j] += change
                after = inputs()
                parameter[..., j] = kept
                for reader, rows in list(follows.items()):
                    rows.append((after[reader] != before[reader]).any(0))
                    if (sum(rows[:-1], torch.zeros_like(rows[-1])) & rows[-1]).any():
                        del follows[reader]  # an input of it follows several dimensions
            for reader, rows in follows.items():
                changed = torch.stack(rows)  # (dimension, input)
                if not changed.any(1).all() or (changed.sum(0) > 1).any():
                    continue
                for j, channel in changed.nonzero().tolist():
                    _join(joined, (name, WRITES, j), (reader, READS, channel))


def _join_parts(joined: DisjointSet, root: tuple[str, str], sizes: list[int], item: Item) -> None:
    """Join the channels at one place in all parts of a split: parts stay of one size."""
    if len(set(sizes)) == 1:
        for channel, r in zip(item.idxs, item.root_idxs, strict=True):
            first = item.root_idxs[item.idxs.index(channel % sizes[0])]
            _join(joined, (*root, int(first)), (*root, int(r)))


def _numbered(joined: DisjointSet, fixed: Iterable[tuple[Any, ...]], module: nn.Module) -> Units:
    """Give each set of channels that can be cut its number."""
    members: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for channel in joined:
        members.setdefault(joined[channel], []).append(channel)
    stays = {joined[channel] for channel in fixed if channel in joined}
    layers, embeddings = dict(module.named_modules()), _embeddings(module)
    sets = [
        channels
        for root, channels in members.items()
        # What nobody reads is an output of the network.
        if root not in stays
        and {side for _, side, _ in channels} == {READS, WRITES}
        and all(
            channel < _n_channels(layers.get(name, embeddings.get(name)), side)
            for name, side, channel in channels
        )
    ]
    # Units that touch the same layers on the same sides compete with each other.
    kinds: dict[Any, int] = {}
    layer_of_unit = []
    unit_of: dict[tuple[str, str], dict[int, int]] = {}
    for number, channels in enumerate(sets):
        kind = frozenset((layer, side) for layer, side, _ in channels)
        layer_of_unit.append(kinds.setdefault(kind, len(kinds)))
        for name, side, channel in channels:
            unit_of.setdefault((name, side), {})[channel] = number
    device = next(module.parameters()).device
    slices = []
    weights: dict[str, dict[int, Tensor]] = {}
    for (name, side), units in unit_of.items():
        layer = layers.get(name, embeddings.get(name))
        unit = torch.full((_n_channels(layer, side),), -1, dtype=torch.int64)
        unit[list(units)] = torch.tensor(list(units.values()))
        slices.append(Slice(name, side, unit))
        if isinstance(layer, nn.Embedding):
            weights.setdefault(f"{name}.weight", {})[1] = unit.to(device)
        elif isinstance(layer, nn.Parameter) and layer.ndim >= 2:
            weights.setdefault(name, {})[layer.ndim - 1] = unit.to(device)
        if not isinstance(layer, nn.Linear | _ConvNd):
            continue
        axis = int(side == READS) ^ int(isinstance(layer, _ConvTransposeNd))
        if side == READS and isinstance(layer, _ConvNd):
            unit = unit[: layer.in_channels // layer.groups]
        weights.setdefault(f"{name}.weight", {})[axis] = unit.to(device)
    return Units(torch.tensor(layer_of_unit, device=device), tuple(slices), weights)


def _n_channels(layer: Any, side: str) -> int:
    if isinstance(layer, nn.Parameter):
        return layer.shape[-1]
    if isinstance(layer, nn.Embedding):
        return layer.embedding_dim
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == READS else layer.out_features
    if isinstance(layer, _ConvNd):
        return layer.in_channels if side == READS else layer.out_channels
    if isinstance(layer, _NormBase):
        return layer.num_features
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters
    raise ValueError(
        f"Got a layer {type(layer).__name__} between units, which cannot be cut. Use "
        "granularity='unstructured'."
    )
