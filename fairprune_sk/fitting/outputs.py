"""What comes out of a network: logits, whatever its last layer and loss are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet
from torch import Tensor, nn

from fairprune_sk.fitting.resident import ResidentIterator, ResidentTable
from fairprune_sk.networks.batch import Batch, on_device, take
from fairprune_sk.networks.calls import forward, main_output, plain, twin, watching

# A few rows go through other kernels (a single one is a matrix times a vector), with other
# rounding: they are evaluated together with copies, so that a row's prediction does not depend
# on the rows beside it.
FEWEST_ROWS = 32


def gives_probabilities(net: NeuralNet, table: ResidentTable) -> bool:
    """Whether the outputs of a trained net's module are probabilities, not logits.

    skorch feeds NLLLoss with probabilities and takes their logarithm itself. A net that does
    otherwise gives log-probabilities, some of them negative, and those are logits.

    Parameters
    ----------
    net : NeuralNet
    table : ResidentTable
        A few of its rows are tried.

    Returns
    -------
    bool
    """
    criterion = plain(net.criterion_)
    if isinstance(criterion, nn.BCELoss):
        return True
    if not isinstance(criterion, nn.NLLLoss):
        return False
    module = twin(net.module_)
    X = table.take(slice(0, FEWEST_ROWS)).X
    with torch.no_grad():
        output = main_output(forward(module, on_device(X, device_of(module))))
    return bool((output >= 0).all())


def class_logits(output: Any, probabilities: bool) -> Tensor:
    """Logits by class from the output of a module.

    Parameters
    ----------
    output : Tensor of shape (n,), (n, 1) or (n, n_classes), or tuple with it as the first
    probabilities : bool
        Whether the outputs are probabilities.

    Returns
    -------
    Tensor of shape (n, n_columns)
        One column, the positive class, where there are two classes, otherwise one for each.
    """
    output = main_output(output)
    output = output.unsqueeze(-1) if output.ndim == 1 else output
    tiny = torch.finfo(output.dtype).tiny
    if output.shape[1] == 1:
        if probabilities:
            return output.clamp_min(tiny).log() - (1.0 - output).clamp_min(tiny).log()
        return output
    if probabilities:
        output = output.clamp_min(tiny).log()
    return output[:, 1:] - output[:, :1] if output.shape[1] == 2 else output


def logits(module: nn.Module, table: ResidentTable, probabilities: bool) -> Tensor:
    """Logits of a module on a whole table, batch by batch, on the CPU.

    Parameters
    ----------
    module : nn.Module
    table : ResidentTable
    probabilities : bool
        Whether the module's outputs are probabilities.

    Returns
    -------
    Tensor of shape (n, n_columns)
    """
    return _over(table, module, lambda net, X: class_logits(forward(net, X), probabilities))


def hidden(module: nn.Module, table: ResidentTable) -> Tensor:
    """Last hidden layer of a module on a whole table, shape (n, n_hidden), on the CPU."""
    return _over(table, module, last_hidden)


def _over(
    table: ResidentTable, module: nn.Module, function: Callable[[nn.Module, Any], Tensor]
) -> Tensor:
    """Apply a function of a module to a table, batch by batch, in evaluation mode."""
    # Of a twin: several threads may predict with one network.
    module, device, n = twin(module), device_of(module), len(table)
    if n < FEWEST_ROWS:
        X = table.take(slice(None)).X
        table = ResidentTable(Batch(take(X, torch.arange(FEWEST_ROWS) % n)))
    with torch.no_grad():
        batches = ResidentIterator(table, table.evaluation_rows)
        parts = [function(module, on_device(batch.X, device)).cpu() for batch in batches]
    return torch.cat(parts)[:n]


def device_of(module: nn.Module) -> torch.device:
    """Device of a module's parameters; the CPU where it has none."""
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def has_hidden(module: nn.Module) -> bool:
    """Whether a module has a linear layer, whose inputs are its last hidden layer."""
    return any(isinstance(layer, nn.Linear) for layer in module.modules())


def last_hidden(module: nn.Module, X: Any) -> Tensor:
    """Input of the last linear layer that a forward pass goes through.

    Parameters
    ----------
    module : nn.Module
    X : Tensor of shape (n, ...), or dict of them

    Returns
    -------
    Tensor of shape (n, n_hidden)
    """
    if not has_hidden(module):
        raise ValueError(
            f"Got {type(module).__name__} without a linear layer, but transform returns the "
            "inputs of the last one."
        )
    seen: list[Tensor] = []
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad(), watching(linear, lambda layer, args: seen.append(args[0])):
        forward(module, X)
    return seen[-1].flatten(start_dim=1)
