"""The dependency graph of a network, with the axes that its operations really work on.

Torch-Pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023) takes axis 1 for
channels wherever tensors are split or joined. Behind linear layers they are on the last axis, and
an image or a row of tokens can be split along other axes as well, where channels pass as they are.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch_pruning._helpers import _HybridIndex
from torch_pruning.dependency.index_mapping import (
    _ConcatIndexMapping,
    _FlattenIndexMapping,
    _SplitIndexMapping,
)
from torch_pruning.ops import OPTYPE

from fairprune_sk.networks.calls import watching

# No tensor of a trace has as many axes: Torch-Pruning then leaves the channels as they are.
_NO_AXIS = 0


@dataclass
class Item:
    """One side of a node, with those of its channels that hang together with a root's.

    Attributes
    ----------
    node : torch_pruning.dependency.Node
    handler : callable
        What would prune these channels.
    idxs, root_idxs : list of int
        Pairs: a channel, and one of the root that it hangs together with.
    """

    node: Any
    handler: Callable[..., Any]
    idxs: list[int]
    root_idxs: list[int]


def coupled_groups(module: nn.Module, X: Any) -> list[list[Item]]:
    """Coupled channels of each convolution and linear layer, from Torch-Pruning.

    Parameters
    ----------
    module : nn.Module
    X : Tensor of shape (n, ...), or dict of them
        A few rows, to trace the network with.

    Returns
    -------
    list of list of Item
        The first of each group is its root.

    Raises
    ------
    ValueError
        If the network cannot be traced; the message names the layer that was reached.
    """
    entered: list[str] = []
    names = {child: name for name, child in module.named_modules() if name}
    wanted = {name: p.requires_grad for name, p in module.named_parameters()}
    training = module.training
    module.eval()
    try:
        for parameter in module.parameters():
            parameter.requires_grad_(True)  # the trace follows gradients
        with (
            warnings.catch_warnings(),
            torch.enable_grad(),
            watching(names, lambda child, args: entered.append(names[child])),
        ):
            warnings.simplefilter("ignore")
            graph = _Graph().build_dependency(module, example_inputs=X, verbose=False)
            return list(graph.groups())
    except Exception as error:
        layer = f"layer {entered[-1]!r}" if entered else "its first layer"
        raise ValueError(
            f"Got {type(module).__name__}, whose units cannot be found: tracing it stopped after "
            f"{layer} ({type(error).__name__}: {error}). Use granularity='unstructured'."
        ) from error
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(wanted[name])
        module.train(training)


def operations(group: list[Item]) -> list[str]:
    """Name the operations that move the channels of a group, such as ``"split_with_sizes"``.

    Only those where they are lost, if there is one; ``"output"`` where they leave the network.
    """
    nodes = [item.node for item in group]
    lost = [node.called.replace("unsafe_", "") + _before(node) for node in nodes if node.ends]
    if lost:
        return list(dict.fromkeys(lost))
    moving = [node for node in nodes if node.type in _PASSING and node.called]
    names = [node.called for node in moving if node.called not in _INSIDE_LINEAR]
    names += ["output" for node in nodes if node.type == OPTYPE.OUTPUT or not node.outputs]
    return list(dict.fromkeys(names))


def _before(node: Any) -> str:
    """Name the layer that an operation comes before."""
    ahead = [node]
    for reader in ahead:
        if reader.type not in _PASSING:
            return f" before layer {reader._name!r}"
        ahead += [reader for reader in reader.outputs if reader not in ahead]
    return ""


def _named(grad_fn: Any) -> str:
    name = re.sub(r"Backward\d*$", "", grad_fn.name())
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


class _Graph(tp.DependencyGraph):
    """Torch-Pruning's graph, in which splits and concatenations know the axis of the channels."""

    def _build_dependency(self, module2node: dict[Any, Any]) -> None:
        super()._build_dependency(module2node)
        stand_ins = {}
        nodes = list(module2node.values())
        for node in nodes:
            node.ends = False
            shapes = [_shapes(maker.grad_fn)[0] for maker in node.inputs]
            node.called = "" if _shapes(node.grad_fn)[0] in shapes else _named(node.grad_fn)
        for node in nodes:
            if _channel_axis(node) is None and _read_axis(node) is not None:
                _end_at(node)
        for kind, mapped in _MAPPED.items():
            for node in nodes:
                if node.type != kind:
                    continue
                if (axis := _read_axis(node)) is not None:
                    stand_ins[node] = mapped(node, axis)
                elif kind == OPTYPE.RESHAPE:  # no guess
                    stand_ins[node] = SimpleNamespace(_saved_self_sizes=())
        # Only now, since the ways from node to node are found by what they were called with.
        for node, stand_in in stand_ins.items():
            node.grad_fn = stand_in

    def groups(self) -> Iterator[list[Item]]:
        """Walk from each convolution and linear layer that no other has reached in full.

        ``get_all_groups`` keeps one root for each channel that it comes to again, and may walk
        round and round where channels are split up and put together.
        """
        reached: dict[nn.Module, set[int]] = {}
        for layer in self.module2node:
            if not isinstance(layer, _ConvNd | nn.Linear):
                continue
            channels = range(self.get_out_channels(layer))
            if reached.get(layer, set()).issuperset(channels):
                continue
            group = self._walk(layer, channels)
            for item in group:
                if self.is_out_channel_pruning_fn(item.handler):
                    reached.setdefault(item.node.module, set()).update(item.idxs)
            yield group

    def _walk(self, layer: nn.Module, channels: Iterable[int]) -> list[Item]:
        root, pruner = self.module2node[layer], self.get_pruner_of_module(layer)
        pairs = {_HybridIndex(idx=i, root_idx=i): None for i in channels}
        seen = {(root, pruner.prune_out_channels): pairs}
        ahead = [(root, pruner.prune_out_channels, list(pairs))]
        while ahead:
            node, handler, found = ahead.pop()
            for dep in node.dependencies:
                if not dep.is_triggered_by(handler):
                    continue
                there = found
                for mapping in filter(None, dep.index_mapping):
                    there = mapping(there)
                known = seen.setdefault((dep.target, dep.handler), {})
                new = {pair: None for pair in there if pair not in known}
                if new:
                    known |= new
                    ahead.append((dep.target, dep.handler, list(new)))
        return [
            Item(node, handler, [p.idx for p in pairs], [p.root_idx for p in pairs])
            for (node, handler), pairs in seen.items()
            if pairs
        ]


def _end_at(node: Any) -> None:
    """Follow no channels behind an operation that mixes them with other numbers, such as a view."""
    node.ends = True
    node.dependencies.clear()
    for reader in node.outputs:
        reader.dependencies[:] = [dep for dep in reader.dependencies if dep.target is not node]


def _read_axis(node: Any) -> int | None:
    """Axis of the channels in what an operation takes; None where it cannot be told."""
    return next((a for i in node.inputs if (a := _channel_axis(i)) is not None), None)


def _channel_axis(node: Any) -> int | None:
    """Axis of the channels in what an operation puts out; None where it cannot be told."""
    if not hasattr(node, "channel_axis"):  # once, since many ways lead to an early one
        node.channel_axis = _found_axis(node)
    return node.channel_axis


def _found_axis(node: Any) -> int | None:
    layer, shape = node.module, _shapes(node.grad_fn)[0]
    if isinstance(layer, _ConvNd | _NormBase | nn.GroupNorm):
        return 1
    if node.type not in _PASSING or isinstance(layer, nn.Parameter):
        return len(shape) - 1
    axis = _read_axis(node)
    if axis is None:
        return None
    made, name = node.grad_fn, _named(node.grad_fn)
    if name == "permute":
        return [d % len(shape) for d in made._saved_dims].index(axis)
    if name == "transpose":
        swapped = {
            (first := _axis(made._saved_dim0, len(shape))): (
                second := _axis(made._saved_dim1, len(shape))
            )
        }
        swapped[second] = first
        return swapped.get(axis, axis)
    if node.type == OPTYPE.RESHAPE:
        return _axis_behind(made._saved_self_sym_sizes, shape, axis)
    if name in ("select", "unbind"):
        return axis - (_axis(made._saved_dim, len(shape) + 1) < axis)
    if name in ("mean", "sum", "amax") and len(made._saved_self_sym_sizes) > len(shape):
        return axis - sum(_axis(d, len(made._saved_self_sym_sizes)) < axis for d in made._saved_dim)
    return axis if axis < len(shape) else None


def _axis_behind(before: Sequence[int], after: Sequence[int], axis: int) -> int | None:
    """Axis that the channels are on after a reshape: as many numbers come before them as did."""
    ahead = math.prod(before[:axis])
    places = [a for a in range(len(after)) if math.prod(after[:a]) == ahead]
    alike = [a for a in places if after[a] == before[axis]]
    if not places:
        return None
    behind = alike[0] if alike else places[-1]
    # Into heads, whose channels go as the operations behind it want?
    return None if after[behind] < before[axis] and len(before) > 2 else behind


def _shapes(grad_fn: Any) -> list[tuple[int, ...]]:
    """Shapes of the outputs of an operation."""
    return [tuple(output.shape) for output in grad_fn._input_metadata]


def _axis(saved: int, n_axes: int) -> int:
    """Return an axis counted from the front; autograd keeps -1 as the largest number."""
    return (saved - 2**64 if saved >= 2**63 else saved) % n_axes


def _edges(maker: Any, reader: Any) -> list[int]:
    """Numbers of the outputs of one node that another one reads, in the order that it does."""
    return [i for made, i in reader.grad_fn.next_functions if made is maker.grad_fn]


def _map_split(node: Any, axis: int) -> SimpleNamespace:
    """Lead channels to the part of a split that they go to, or to all parts."""
    node.enable_index_mapping = False
    shapes = _shapes(node.grad_fn)
    if _axis(node.grad_fn._saved_dim, len(shapes[0])) == axis:
        sizes = [shape[axis] for shape in shapes]
        parts = list(pairwise(accumulate(sizes, initial=0)))
        node.module.split_sizes = []
        for reader in dict.fromkeys(node.outputs):
            edges = _edges(node, reader)
            there = [d for d in node.dependencies if d.target is reader]
            back = [d for d in reader.dependencies if d.target is node]
            for edge, forth, home in zip(edges, there, back, strict=False):
                forth.index_mapping[0] = _SplitIndexMapping(parts[edge])
                home.index_mapping[0] = _SplitIndexMapping(parts[edge], reverse=True)
        for reader in node.outputs:
            node.module.split_sizes.append(sizes[_edges(node, reader)[0]])
    return SimpleNamespace(_saved_dim=_NO_AXIS, _saved_split_sizes=())


def _map_concatenation(node: Any, axis: int) -> SimpleNamespace:
    """Lead channels to their place behind those of the other parts, or to the same place."""
    node.enable_index_mapping = False
    made = node.grad_fn
    shape = _shapes(made)[0]
    makers = {maker.grad_fn: maker for maker in node.inputs}
    if _axis(made._saved_dim, len(shape)) == axis:
        sizes = [
            None if part is None else _shapes(part)[i][axis] for part, i in made.next_functions
        ]
        if sizes.count(None) == 1:  # what no layer has made, such as the table
            sizes[sizes.index(None)] = shape[axis] - sum(size or 0 for size in sizes)
        if None not in sizes:
            node.module.concat_sizes = sizes
            used: dict[Any, int] = {}
            places = pairwise(accumulate(sizes, initial=0))
            for (part, _), place in zip(made.next_functions, places, strict=True):
                if part not in makers:
                    continue
                maker, k = makers[part], used.setdefault(part, 0)
                used[part] += 1
                there = [d for d in maker.dependencies if d.target is node]
                back = [d for d in node.dependencies if d.target is maker]
                there[k].index_mapping[1] = _ConcatIndexMapping(place)
                back[k].index_mapping[1] = _ConcatIndexMapping(place, reverse=True)
    return SimpleNamespace(_saved_dim=_NO_AXIS)


def _map_slice(node: Any, axis: int) -> SimpleNamespace:
    """Tell Torch-Pruning, which maps slices of four axes along axis 1, which one it is."""
    made = node.grad_fn
    on_channels = _axis(made._saved_dim, len(made._saved_self_sym_sizes)) == axis
    return SimpleNamespace(
        _saved_self_sym_sizes=(0,) * 4, _saved_dim=1 if on_channels else _NO_AXIS
    )


def _map_reshape(node: Any, axis: int) -> SimpleNamespace:
    """Lead a channel to the features that it is flattened to, and such features to a channel."""
    before, after = node.grad_fn._saved_self_sym_sizes, _shapes(node.grad_fn)[0]
    behind = _axis_behind(before, after, axis)
    if behind is not None and before[axis] != after[behind]:
        few, many = sorted((before[axis], after[behind]))
        stride, flattens = many // few, before[axis] < after[behind]
        for maker in node.inputs:
            for dep in maker.dependencies:
                if dep.target is node:
                    dep.index_mapping[1] = _FlattenIndexMapping(stride, reverse=not flattens)
            for dep in node.dependencies:
                if dep.target is maker:  # before the mapping of a split, if there is one
                    first = _FlattenIndexMapping(stride, reverse=flattens)
                    dep.index_mapping = [first, dep.index_mapping[0]]
    return SimpleNamespace(_saved_self_sizes=())


_MAPPED = {
    OPTYPE.SPLIT: _map_split,
    OPTYPE.CONCAT: _map_concatenation,
    OPTYPE.SLICE: _map_slice,
    OPTYPE.RESHAPE: _map_reshape,
}
_INSIDE_LINEAR = {"addmm", "mm", "t", "reshape_alias", "unsafe_view"}
_PASSING = {
    OPTYPE.ELEMENTWISE,
    OPTYPE.EXPAND,
    OPTYPE.UNBIND,
    OPTYPE.OUTPUT,
    OPTYPE.PRELU,
    *_MAPPED,
}
