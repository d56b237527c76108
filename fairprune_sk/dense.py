"""The dense phase: the network that is pruned afterwards, trained or taken as it is."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairprune_sk.training import DenseNet, ResidentIterator, ResidentTable, train


def check_estimator(
    estimator: Any, X: np.ndarray, classes: np.ndarray, sample_weight: Any
) -> nn.Module | NeuralNet:
    """Turn what the user passed into an untrained module, an untrained net or a trained net.

    Parameters
    ----------
    estimator : nn.Module class or instance, skorch net, or FrozenEstimator around one
    X : ndarray of shape (n, ...)
        What the network will read.
    classes : ndarray of shape (2,)
    sample_weight : Any
        None if there are no weights.

    Returns
    -------
    nn.Module or NeuralNet
        A copy, unless it is frozen.

    Raises
    ------
    ValueError
        If it cannot serve as a binary classifier.
    """
    if isinstance(estimator, FrozenEstimator):
        return _check_frozen(estimator.estimator, classes)
    if isinstance(estimator, NeuralNet):
        if sample_weight is not None:
            raise ValueError(
                f"Got sample_weight with estimator={type(estimator).__name__}(...), but a skorch "
                "net trains without weights: pass the module itself (or None for the default "
                "network), or leave the weights out."
            )
        return clone(estimator)
    module = _build_module(estimator, X)
    _check_output(module, X)
    return module


def module_of(network: nn.Module | NeuralNet) -> nn.Module:
    """Return the module that will be pruned, or one of the same shapes if it has to be built."""
    if isinstance(network, nn.Module):
        return network
    if getattr(network, "initialized_", False):
        return network.module_
    return clone(network).initialize().module_


def fit_dense(
    network: nn.Module | NeuralNet,
    X: np.ndarray,
    y: np.ndarray,
    table: ResidentTable,
    device: torch.device,
    verbose: int,
) -> NeuralNet:
    """Train the dense network; a net that is already trained is returned as it is.

    Parameters
    ----------
    network : nn.Module or NeuralNet
        From :func:`check_estimator`.
    X : ndarray of shape (n, ...)
    y : ndarray of shape (n,)
        Labels, 0 and 1.
    table : ResidentTable
        The same rows on the device.
    device : torch.device
    verbose : int

    Returns
    -------
    NeuralNet
    """
    if isinstance(network, NeuralNet):
        if getattr(network, "initialized_", False):
            return network
        binary = isinstance(network, NeuralNetBinaryClassifier)
        return train(network, X, y.astype(np.float32 if binary else np.int64))
    n = len(y)
    batch_size = int(np.clip(n // 128, 256, 8192))
    steps = -(-n // batch_size)
    # Small tables overfit within a few epochs, tiny ones need a minimum of steps.
    epochs = max(int(np.clip(n // 1000, 10, 30)), -(-150 // steps))
    schedule = LRScheduler(CosineAnnealingLR, step_every="batch", T_max=epochs * steps)
    net = DenseNet(
        network,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0.5,
        lr=2e-3,
        max_epochs=epochs,
        batch_size=batch_size,
        dataset=ResidentTable,
        iterator_train=ResidentIterator,
        iterator_train__shuffle=True,
        iterator_valid=ResidentIterator,
        train_split=None,
        callbacks=[("lr_schedule", schedule)],
        device=device,
        verbose=verbose,
    )
    return train(net, table)


def _check_frozen(net: Any, classes: np.ndarray) -> NeuralNet:
    if not isinstance(net, NeuralNet):
        raise ValueError(
            f"Got a frozen {type(net).__name__}, but expected a fitted skorch "
            "NeuralNetClassifier or NeuralNetBinaryClassifier."
        )
    if not getattr(net, "initialized_", False) or not len(net.history):
        raise ValueError(
            "Got a frozen net that was never trained (its history is empty): fit it first, or "
            "pass it without FrozenEstimator to have it trained here."
        )
    # The net may have been trained on the labels themselves, or on their codes 0 and 1.
    if not (np.array_equal(net.classes_, classes) or np.array_equal(net.classes_, [0, 1])):
        raise ValueError(
            f"Got a frozen net with classes {list(net.classes_)}, but y has {list(classes)}."
        )
    return net


def _build_module(estimator: Any, X: np.ndarray) -> nn.Module:
    if isinstance(estimator, nn.Module):
        return copy.deepcopy(estimator)
    if not (isinstance(estimator, type) and issubclass(estimator, nn.Module)):
        raise ValueError(
            f"Got estimator={estimator!r}, but expected None, a torch.nn.Module class or "
            "instance, a skorch classifier, or one inside FrozenEstimator."
        )
    known = {"n_features": int(np.prod(X.shape[1:])), "n_outputs": 1}
    parameters = inspect.signature(estimator).parameters
    try:
        return estimator(**{name: value for name, value in known.items() if name in parameters})
    except TypeError as error:
        raise ValueError(
            f"Got estimator={estimator.__name__}, which cannot be made from n_features and "
            f"n_outputs alone ({error}): pass an instance, or wrap it in a skorch classifier."
        ) from error


def _check_output(module: nn.Module, X: np.ndarray) -> None:
    """Refuse, before training, a module that does not give one logit for each row."""
    rows = torch.from_numpy(np.ascontiguousarray(X[:2]))
    training = module.training
    module.eval()
    with torch.no_grad():
        output = module(rows)
    module.train(training)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape not in ((len(rows),), (len(rows), 1)):
        raise ValueError(
            f"Got a module whose output for {len(rows)} rows has shape {shape}, but expected one "
            "logit for each row: wrap networks with other outputs in a skorch "
            "NeuralNetClassifier with the criterion that fits."
        )
