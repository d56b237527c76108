"""Calling a network, whatever it takes and gives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def forward(module: nn.Module, X: Any, parameters: dict[str, Tensor] | None = None) -> Any:
    """Call a module on an array or a dict of inputs.

    Parameters
    ----------
    module : nn.Module
    X : Tensor of shape (n, ...), or dict of them
        A dict is passed as keyword arguments, as skorch does.
    parameters : dict of Tensor, optional
        To take the place of the module's own.

    Returns
    -------
    Tensor of shape (n, ...), or tuple
        Of several outputs the first predicts; a net's own loss may read them all.
    """
    args, kwargs = ((), dict(X)) if isinstance(X, Mapping) else ((X,), {})
    if parameters is None:
        return module(*args, **kwargs)
    return functional_call(module, parameters, args, kwargs)


def twin(module: nn.Module) -> nn.Module:
    """Return a module of its own in evaluation mode, with the very tensors of a module.

    What predicts must leave no trace on a network that other threads predict with: modes and
    hooks are the twin's own.

    Parameters
    ----------
    module : nn.Module
        Compiled or not.

    Returns
    -------
    nn.Module
        Not compiled.
    """
    module = plain(module)
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared).eval()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while, without gradients."""
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, training in modes.items():
            layer.training = training


@contextmanager
def watching(
    layers: Iterable[nn.Module], note: Callable[[nn.Module, tuple[Any, ...]], None]
) -> Iterator[None]:
    """Tell of every call of some layers for a while: the way to see inside any network.

    Parameters
    ----------
    layers : iterable of nn.Module
    note : callable
        Told the layer and its positional arguments, before the layer is called.
    """
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def main_output(output: Any) -> Any:
    """Return the output of a module that predicts: the first of several, as for skorch."""
    return output[0] if isinstance(output, tuple) else output


def plain(module: nn.Module) -> nn.Module:
    """Return the module inside a compiled one, or the module itself."""
    return getattr(module, "_orig_mod", module)
