"""A cut is tried before it is trusted: a trace does not see everything that a forward does."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fairprune_sk.masks.units import Units, cut
from fairprune_sk.networks.calls import forward, watching

_NOT_OF_USERS = tuple(f"{path.parent}/" for path in (Path(torch.__file__), Path(__file__).parent))


def alike(expected: Any, output: Any) -> bool:
    """Whether two networks have put out the same, up to rounding.

    Parameters
    ----------
    expected, output : Tensor, or tuple or dict of them

    Returns
    -------
    bool
        All tensors are compared, each on its own scale: the outputs of an untrained network may
        be smaller than any tolerance.
    """
    pairs = list(zip(_tensors(expected), _tensors(output), strict=True))
    return all(
        a.shape == b.shape and torch.allclose(a, b, atol=1e-4 * float(a.abs().max()), rtol=1e-3)
        for a, b in pairs
    )


def _tensors(output: Any) -> list[Tensor]:
    return [t.double() for t in tree_leaves(output) if isinstance(t, Tensor) and t.numel()]


def tried(units: Units, module: nn.Module, X: Any) -> tuple[Units, list[str]]:
    """Leave out the units of those layers whose cut does not give what a mask gives.

    Parameters
    ----------
    units : Units
    module : nn.Module
        It is not changed.
    X : Tensor of shape (n, ...), or dict of them

    Returns
    -------
    units : Units
    failed : list of str
        For each value of ``layer_of_unit`` that came, what went wrong; empty if nothing did.
    """
    network = _stirred(copy.deepcopy(module).eval())
    parameters = {name: p for name, p in network.named_parameters() if p.ndim >= 2}
    failed = []
    for layer in range(int(units.layer_of_unit.max()) + 1 if units.n_units else 0):
        members = units.layer_of_unit == layer
        kept = ~members
        kept[members.nonzero().flatten()[::2]] = True
        alone = units.only(members.cpu())
        masks = units.masks(kept, {name: parameters[name].shape for name in alone.weights})
        with torch.no_grad():
            before = {name: parameters[name].clone() for name in masks}
            for name, mask in masks.items():
                parameters[name].mul_(mask)
            expected = forward(network, X)
            for name, values in before.items():
                parameters[name].copy_(values)
            with _restored(network):
                failed.append(_failure(network, units, kept, X, expected))
    if any(failed):
        right = torch.tensor([not why for why in failed])
        units = units.only(right[units.layer_of_unit.cpu()])
    return units, failed


def _failure(network: nn.Module, units: Units, kept: Tensor, X: Any, expected: Any) -> str:
    """Cut, and say what is wrong then; nothing where nothing is."""
    entered: list[str] = []
    names = {layer: name for name, layer in network.named_modules() if name}
    try:
        cut(network, units, kept)
        with watching(names, lambda layer, args: entered.append(names[layer])):
            output = forward(network, X)
    except (RuntimeError, ValueError, IndexError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith(_NOT_OF_USERS)]
        place = f" at `{own[-1].line}`" if own else ""
        layer = f" after layer {entered[-1]!r}" if entered else ""
        return f"without half of its channels forward stops{layer}{place}"
    return "" if alike(expected, output) else "what is cut and what is masked differ"


def _stirred(network: nn.Module) -> nn.Module:
    """Give parameters that are constant random values, in place.

    Behind a last layer of zeros, or a scale of 1e-6, as networks start with, no cut is seen.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and (parameter == parameter.flatten()[:1]).all():
                noise = torch.rand(parameter.shape, generator=generator) - 0.5
                parameter.add_(noise.to(parameter))
    return network


@contextmanager
def _restored(network: nn.Module) -> Iterator[None]:
    """Let layers with parameters be afterwards what they were, if no tensor is written to.

    A deep network has a hundred layers to try: to copy it for each takes seconds.
    """
    states = [
        (layer, {key: v.copy() if isinstance(v, dict) else v for key, v in vars(layer).items()})
        for layer in network.modules()
        if layer._parameters
    ]
    try:
        yield
    finally:
        for layer, state in states:
            vars(layer).clear()
            vars(layer).update(state)
