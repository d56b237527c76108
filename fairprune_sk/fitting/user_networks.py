"""The networks that users pass, checked before anything is trained."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import Tensor, nn

from fairprune_sk.fitting.outputs import device_of
from fairprune_sk.networks.batch import n_rows, on_device, take
from fairprune_sk.networks.calls import evaluating, forward, main_output, plain


def check_estimator(
    estimator: Any, X: Any, classes: np.ndarray, sample_weight: Any
) -> nn.Module | NeuralNet:
    """Turn what the user passed into an untrained module, an untrained net or a trained net.

    Parameters
    ----------
    estimator : nn.Module class or instance, skorch net, or FrozenEstimator around one
    X : ndarray of shape (n, ...), or dict of them
        What the network will read.
    classes : ndarray of shape (n_classes,)
    sample_weight : Any
        None if there are no weights.

    Returns
    -------
    nn.Module or NeuralNet
        A copy, unless it is frozen.

    Raises
    ------
    ValueError
        If it cannot serve as a classifier of these classes, or cannot take weights.
    """
    if isinstance(estimator, FrozenEstimator):
        network: Any = _check_frozen(estimator.estimator, classes)
    elif isinstance(estimator, NeuralNet):
        network = clone(estimator)
    else:
        network = build_module(estimator, X, len(classes))
    if isinstance(network, NeuralNet):
        _check_net(network, classes, sample_weight)
    _check_output(network, X, len(classes))
    return network


def module_of(network: nn.Module | NeuralNet) -> nn.Module:
    """Return the module that will be pruned, or one of the same shapes if it has to be built."""
    if isinstance(network, nn.Module):
        return network
    return plain(_initialized(network).module_)


def _initialized(net: NeuralNet) -> NeuralNet:
    return net if getattr(net, "initialized_", False) else clone(net).initialize()


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
    # The net may have been trained on the labels themselves, or on their codes.
    if not (
        np.array_equal(net.classes_, classes)
        or np.array_equal(net.classes_, np.arange(len(classes)))
    ):
        raise ValueError(
            f"Got a frozen net with classes {list(net.classes_)}, but y has {list(classes)}."
        )
    return net


def build_module(estimator: Any, X: Any, n_classes: int) -> nn.Module:
    """Make a module of a user's: a copy of an instance, or one of a class for these columns."""
    if isinstance(estimator, nn.Module):
        return copy.deepcopy(estimator)
    if not (isinstance(estimator, type) and issubclass(estimator, nn.Module)):
        raise ValueError(
            f"Got estimator={estimator!r}, but expected None, a torch.nn.Module class or "
            "instance, a skorch classifier, or one inside FrozenEstimator."
        )
    known = {"n_outputs": 1 if n_classes == 2 else n_classes}
    if not isinstance(X, Mapping):
        known["n_features"] = int(np.prod(X.shape[1:]))
    parameters = inspect.signature(estimator).parameters
    try:
        return estimator(**{name: value for name, value in known.items() if name in parameters})
    except TypeError as error:
        raise ValueError(
            f"Got estimator={estimator.__name__}, which cannot be made from n_features and "
            f"n_outputs alone ({error}): pass an instance, or wrap it in a skorch classifier."
        ) from error


def _check_output(network: nn.Module | NeuralNet, X: Any, n_classes: int) -> None:
    """Refuse, before training, a module whose output does not fit the classes or the loss."""
    n = min(2, n_rows(X))
    output = _try(module_of(network), X)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    by_row: list[tuple[int, ...]] = [(n,), (n, 1)]
    by_class: list[tuple[int, ...]] = [(n, n_classes)]
    if isinstance(network, NeuralNetBinaryClassifier):
        expected, words = by_row, "one logit for each row"
    elif n_classes == 2 and not (isinstance(network, NeuralNet) and _needs_each_class(network)):
        expected, words = by_row + by_class, "one logit for each row, or one for each class of y"
    else:
        expected, words = by_class, f"{n_classes} logits for each row, one for each class of y"
    if shape not in expected:
        raise ValueError(
            f"Got a module whose output for {n} rows has shape {shape}, but expected {words}."
        )


def _needs_each_class(net: NeuralNet) -> bool:
    return isinstance(plain(_initialized(net).criterion_), (nn.NLLLoss, nn.CrossEntropyLoss))


def n_outputs(module: nn.Module, X: Any) -> int:
    """Return the number of logits that a module gives for each row."""
    output = _try(module, X)
    return 1 if output.ndim == 1 else output.shape[1]


def _try(module: nn.Module, X: Any) -> Any:
    """Output of a module in evaluation mode for the first two rows."""
    try:
        with evaluating(module):
            few = on_device(take(X, slice(0, 2)), device_of(module))
            return main_output(forward(module, few))
    except Exception as error:
        inputs = f"inputs {list(X)}" if isinstance(X, Mapping) else f"X of shape {X.shape}"
        raise ValueError(
            f"Got {inputs}, but the forward of {type(module).__name__} fails on the first rows: "
            f"{error}"
        ) from error


def _check_net(net: NeuralNet, classes: np.ndarray, sample_weight: Any) -> None:
    if not is_classifier(net):
        raise ValueError(
            f"Got a skorch {type(net).__name__}, but expected a NeuralNetClassifier or "
            "NeuralNetBinaryClassifier."
        )
    if isinstance(net, NeuralNetBinaryClassifier):
        if len(classes) > 2:
            raise ValueError(
                f"Got a NeuralNetBinaryClassifier, but y has {len(classes)} classes: expected a "
                "NeuralNetClassifier with a logit for each."
            )
        if net.threshold != 0.5:
            raise ValueError(
                f"Got a NeuralNetBinaryClassifier with threshold={net.threshold}, but expected "
                "0.5: that is the decision whose fairness is held. Wrap FairPruner in "
                "scikit-learn's FixedThresholdClassifier to decide otherwise."
            )
    criterion = plain(_initialized(net).criterion_)
    if sample_weight is not None and not hasattr(criterion, "reduction"):
        raise ValueError(
            f"Got sample_weight or class_weight with a skorch net whose criterion "
            f"{type(criterion).__name__} has no `reduction`, but weights need the loss of each "
            "row: use one of torch's criteria, or leave the weights out."
        )
