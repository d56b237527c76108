"""What comes out of a network: logits, whatever its last layer and loss are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier
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

    Parameters
    ----------
    net : NeuralNet
    table : ResidentTable
        A few of its rows are tried.

    Returns
    -------
    bool
    """
    module = twin(net.module_)
    X = table.take(slice(0, FEWEST_ROWS)).X
    with torch.no_grad():
        output = main_output(forward(module, on_device(X, device_of(module))))
    return reads_probabilities(net, output)


def reads_probabilities(net: NeuralNet, output: Tensor) -> bool:
    """Whether a net takes outputs of its module for probabilities, not for logits.

    Its ``predict_nonlinearity`` says so, where that gives probabilities; otherwise its criterion.
    skorch feeds NLLLoss with probabilities and takes their logarithm itself. A net that does
    otherwise gives log-probabilities, some of them negative, and those are logits.

    Parameters
    ----------
    net : NeuralNet
        Initialized.
    output : Tensor of shape (n,), (n, 1) or (n, n_classes)

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        If what the net would predict are other probabilities or labels than either reading gives.
    """
    criterion = criterion_of(net)
    by_criterion = isinstance(criterion, nn.BCELoss) or (
        isinstance(criterion, nn.NLLLoss) and bool((output >= 0).all())
    )
    own = {reading: _by_class(output, reading) for reading in (by_criterion, not by_criterion)}
    seen = output.reshape(-1) if isinstance(net, NeuralNetBinaryClassifier) else output
    predicted = torch.as_tensor(net._get_predict_nonlinearity()(seen))
    if predicted.shape != own[by_criterion].shape:
        return by_criterion  # nothing by class: skorch's own predict does not work with it
    total = predicted.sum(1)
    if (predicted >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3):
        readings = [r for r, p in own.items() if torch.allclose(p, predicted, atol=1e-4)]
    else:
        largest = own[by_criterion].gather(1, predicted.argmax(1, keepdim=True))[:, 0]
        same = torch.allclose(largest, own[by_criterion].amax(1), atol=1e-5, equal_nan=True)
        readings = [by_criterion] if same else []
    if not readings:
        nonlinearity = net.predict_nonlinearity
        name = getattr(nonlinearity, "__name__", nonlinearity)
        raise ValueError(
            f"Got a skorch {type(net).__name__} with predict_nonlinearity={name}, which gives "
            "other probabilities than the softmax or sigmoid of the module's outputs, or these "
            "themselves, but the network is pruned by those: leave it out, or let the module's "
            "forward do it. CalibratedClassifierCV calibrates what was pruned."
        )
    return readings[0]


def criterion_of(net: NeuralNet) -> Any:
    """Return the criterion of an initialized net, the first of several, whatever its name."""
    first, *_ = net._criteria or ["criterion"]  # skorch lists those that are modules
    return plain(getattr(net, f"{first}_"))


def _by_class(output: Tensor, probabilities: bool) -> Tensor:
    """Probabilities that outputs of a module are read as, shape (n, n_classes)."""
    logits = class_logits(output, probabilities)
    if logits.shape[1] == 1:
        return torch.cat([-logits, logits], dim=1).sigmoid()
    return logits.softmax(1)


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
    # In one piece from the start: thousands of small ones would keep the allocator from giving back
    # what lies between them.
    whole, start = torch.empty(0), 0
    with torch.no_grad():
        for batch in ResidentIterator(table, table.evaluation_rows):
            part = function(module, on_device(batch.X, device))
            if start == 0:
                whole = torch.empty(len(table), *part.shape[1:], dtype=part.dtype)
            whole[start : start + len(part)] = part
            start += len(part)
    return whole[:n]


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
