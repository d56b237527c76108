"""What comes out of a network: logits, whatever its last layer and loss are."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from fairprune_sk.training import EVALUATION_ROWS, ResidentIterator, ResidentTable


def margin(net: NeuralNet, output: Any) -> Tensor:
    """Logit of the positive class from the output of a net's module.

    Parameters
    ----------
    net : NeuralNet
        The trained skorch net; its criterion says what the outputs mean.
    output : Tensor of shape (n,), (n, 1) or (n, 2), or a tuple that begins with one
        Logits, or probabilities where the net's criterion takes those.

    Returns
    -------
    Tensor of shape (n,)
    """
    output = output[0] if isinstance(output, tuple) else output
    if output.ndim == 2 and output.shape[1] == 1:
        output = output[:, 0]
    criterion = getattr(net, "criterion_", None)
    tiny = torch.finfo(output.dtype).tiny
    if output.ndim == 1:
        if isinstance(criterion, nn.BCELoss):
            return output.clamp_min(tiny).log() - (1.0 - output).clamp_min(tiny).log()
        return output
    if isinstance(criterion, nn.NLLLoss):
        # skorch's classifier feeds NLLLoss with probabilities, and takes their logarithm itself.
        output = output.clamp_min(tiny).log()
    return output[:, 1] - output[:, 0]


def logits(net: NeuralNet, module: nn.Module, table: ResidentTable) -> Tensor:
    """Logits of a module on a whole table, batch by batch, on the CPU.

    Parameters
    ----------
    net : NeuralNet
        The trained skorch net whose criterion the module was trained for.
    module : nn.Module
    table : ResidentTable

    Returns
    -------
    Tensor of shape (n,)
    """
    device = device_of(module)
    parts = []
    module.eval()
    with torch.no_grad():
        for X, _ in ResidentIterator(table, EVALUATION_ROWS):
            parts.append(margin(net, module(X.to(device))).cpu())
    return torch.cat(parts)


def hidden(module: nn.Module, table: ResidentTable) -> Tensor:
    """Last hidden layer of a module on a whole table, shape (n, n_hidden), on the CPU."""
    device = device_of(module)
    module.eval()
    batches = ResidentIterator(table, EVALUATION_ROWS)
    return torch.cat([last_hidden(module, X.to(device)).cpu() for X, _ in batches])


def device_of(module: nn.Module) -> torch.device:
    """Device of a module's parameters."""
    return next(module.parameters()).device


def last_hidden(module: nn.Module, X: Tensor) -> Tensor:
    """Input of the last linear layer that a forward pass goes through.

    Parameters
    ----------
    module : nn.Module
    X : Tensor of shape (n, ...)

    Returns
    -------
    Tensor of shape (n, n_hidden)
    """
    seen: list[Tensor] = []
    # Hooks for the time of this one call: the only way to see an inner value of any module.
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
    ]
    if not handles:
        raise ValueError(
            f"Got {type(module).__name__} without a linear layer, but transform returns the "
            "inputs of the last one."
        )
    try:
        with torch.no_grad():
            module(X)
    finally:
        for handle in handles:
            handle.remove()
    return seen[-1].flatten(start_dim=1)
