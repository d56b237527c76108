"""The dense phase: the network that is pruned afterwards, trained or taken as it is."""

from __future__ import annotations

import copy
import hashlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_memory
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import get_len
from skorch.history import History
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairprune_sk.batch import Batch, fingerprint, log_loss, on_device, streams, take, writable
from fairprune_sk.calls import evaluating, forward, main_output
from fairprune_sk.outputs import class_logits, device_of
from fairprune_sk.resident import ResidentIterator, ResidentTable
from fairprune_sk.training import BinaryNet, MulticlassNet, plain, train, weighted_loss


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
        network = _build_module(estimator, X, len(classes))
    if isinstance(network, NeuralNet):
        _check_net(network, classes, sample_weight)
    _check_output(network, X, len(classes))
    return network


def module_of(network: nn.Module | NeuralNet) -> nn.Module:
    """Return the module that will be pruned, or one of the same shapes if it has to be built."""
    if isinstance(network, nn.Module):
        return network
    return plain(_initialized(network).module_)


def fit_dense(
    network: nn.Module | NeuralNet,
    X: Any,
    y: np.ndarray,
    sample_weight: np.ndarray | None,
    table: ResidentTable,
    device: torch.device,
    verbose: int,
    callback: Callback | None = None,
) -> NeuralNet:
    """Train the dense network; a net that is already trained is returned as it is.

    Parameters
    ----------
    network : nn.Module or NeuralNet
        From :func:`check_estimator`.
    X : ndarray of shape (n, ...), or dict of them
    y : ndarray of shape (n,), int64
        Class codes.
    sample_weight : ndarray of shape (n,), float32, or None
    table : ResidentTable
        The same rows on the device.
    device : torch.device
    verbose : int
    callback : Callback, optional
        One more, for the time of the training.

    Returns
    -------
    NeuralNet
    """
    if isinstance(network, NeuralNet):
        if getattr(network, "initialized_", False):
            return network
        labels = y.astype(np.float32 if isinstance(network, NeuralNetBinaryClassifier) else y.dtype)
        return train(network, writable(X), labels, sample_weight=sample_weight, callback=callback)
    n = len(y)
    batch_size = int(np.clip(n // 128, 256, 8192))
    steps = -(-n // batch_size)
    # Small tables overfit within a few epochs, tiny ones need a minimum of steps.
    epochs = max(int(np.clip(n // 1000, 10, 30)), -(-150 // steps))
    schedule = LRScheduler(CosineAnnealingLR, step_every="batch", T_max=epochs * steps)
    # torch criteria only for what skorch reads off them: the loss is `log_loss`.
    one_logit = _n_outputs(network, X) == 1
    net = (BinaryNet if one_logit else MulticlassNet)(
        network,
        criterion=nn.BCEWithLogitsLoss if one_logit else nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0.5,
        lr=2e-3,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train=ResidentIterator,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[("lr_schedule", schedule)],
        device=device,
        verbose=verbose,
    )
    return train(net, table, callback=callback)


def fit_dense_once(memory: Any, network: nn.Module | NeuralNet, X: Any, *args: Any) -> NeuralNet:
    """Train the dense network, unless the same training is in the memory already.

    Only networks that this package trains itself are remembered: what a skorch net of the user's
    and its callbacks do besides cannot be.

    Parameters
    ----------
    memory : None, str or joblib.Memory
    network, X, *args
        As for :func:`fit_dense`.

    Returns
    -------
    NeuralNet
    """
    key = None
    if memory is not None and not isinstance(network, NeuralNet) and not streams(X):
        key = _key_of_training(network, X, *args)
    if key is None:
        return fit_dense(network, X, *args)
    train_once = check_memory(memory).cache(_fit_dense, ignore=["network", "X", "args"])
    net, generators = train_once(key, network, X, args)
    device = args[3]
    # The pruning phase draws the same numbers whether the dense one was trained or remembered.
    torch.set_rng_state(generators[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(generators[1], device)
    return net


def _key_of_training(
    network: nn.Module, X: Any, y: np.ndarray, weight: Any, table: Any, device: Any, *_: Any
) -> str | None:
    """Digest of all that decides what comes out of the dense phase; None if there is none."""
    from fairprune_sk import __version__  # known by now: what another version trained is not taken

    layers = []
    for name, layer in network.named_modules():
        own = {k: v for k, v in vars(layer).items() if k not in _REGISTRIES}
        try:
            kind = type(layer)
            pickle.dumps(kind)
            layers.append((name, kind.__module__, kind.__qualname__, joblib.hash(own)))
        except Exception:
            # Something that cannot be pickled, such as a class of a notebook in a process of its
            # own, which has no such notebook: train without the memory.
            return None
    digest = hashlib.blake2b(digest_size=16)
    for part in (layers, fingerprint(X), str(device), torch.__version__, __version__):
        digest.update(repr(part).encode())
    for array in (y, weight, torch.get_rng_state(), *network.state_dict().values()):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


# Of a module: what is in its state, and its layers, which have names of their own.
_REGISTRIES = ("_parameters", "_buffers", "_modules")


def _fit_dense(key: str, network: Any, X: Any, args: tuple) -> tuple[NeuralNet, list[Tensor]]:
    """Train the network, and say where the random generators stand afterwards."""
    net = fit_dense(network, X, *args)
    device = args[3]
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return net, [torch.get_rng_state(), *on_device]


def objective_loss(
    net: NeuralNet, probabilities: bool, device: torch.device
) -> Callable[[Any, Batch], Tensor]:
    """Loss of the pruning phase: that of the net whose module is pruned.

    Parameters
    ----------
    net : NeuralNet
        Trained.
    probabilities : bool
        Whether its module gives probabilities.
    device : torch.device

    Returns
    -------
    callable
        From the module's output (all of several) and the batch to the mean loss.
    """
    if isinstance(net, (BinaryNet, MulticlassNet)):
        return lambda output, batch: log_loss(class_logits(output, probabilities), batch)
    # A net of its own, with the criterion on the device, and a batch for what `get_loss` may
    # record: the user's net stays as it is.
    own = object.__new__(type(net))
    own.__dict__.update(net.__dict__)
    own.__dict__["criterion_"] = copy.deepcopy(plain(net.criterion_)).to(device)
    own.__dict__["device"] = device
    own.__dict__["history_"] = History()
    own.history.new_epoch()
    own.history.new_batch()
    binary = isinstance(net, NeuralNetBinaryClassifier)

    def loss(output: Any, batch: Batch) -> Tensor:
        y = batch.y
        if binary:
            flat = main_output(output).reshape(-1)
            output = (flat, *output[1:]) if isinstance(output, tuple) else flat
            y = y.to(flat.dtype)
        if batch.weight is not None:
            return weighted_loss(own, own.get_loss, output, y, batch.weight, training=True)
        return own.get_loss(output, y, training=True)

    return loss


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


def _build_module(estimator: Any, X: Any, n_classes: int) -> nn.Module:
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
    n = min(2, get_len(X))
    output = _try(module_of(network), X)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    by_row, by_class = [(n,), (n, 1)], [(n, n_classes)]
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


def _n_outputs(module: nn.Module, X: Any) -> int:
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
