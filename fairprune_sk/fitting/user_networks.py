"""The networks that users pass, checked before anything is trained."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.dataset import Dataset, unpack_data
from skorch.exceptions import SkorchException
from skorch.utils import to_numpy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fairprune_sk.fitting.outputs import FEWEST_ROWS, criterion_of, device_of, reads_probabilities
from fairprune_sk.fitting.training import seeded
from fairprune_sk.fitting.weighing import WeightedDataset
from fairprune_sk.networks.batch import n_rows, on_device, streams, take, writable
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
    if isinstance(network, NeuralNet):
        _check_nonlinearity(network, X)
    return network


def module_of(network: nn.Module | NeuralNet) -> nn.Module:
    """Return the module that will be pruned, or one of the same shapes if it has to be built."""
    if isinstance(network, nn.Module):
        return network
    return plain(_initialized(network).module_)


def _initialized(net: NeuralNet) -> NeuralNet:
    if getattr(net, "initialized_", False):
        return net
    try:
        return clone(net).initialize()
    except (TypeError, SkorchException) as error:  # such as a criterion that needs arguments
        raise ValueError(
            f"Got a skorch {type(net).__name__} that skorch cannot initialize: {error}"
        ) from error


def _check_frozen(net: Any, classes: np.ndarray) -> NeuralNet:
    if not isinstance(net, NeuralNet):
        raise ValueError(
            f"Got a frozen {type(net).__name__}, but expected a fitted skorch "
            "NeuralNetClassifier or NeuralNetBinaryClassifier."
        )
    if not getattr(net, "initialized_", False) or not len(net.history):
        raise ValueError(
            "Got a frozen net that was never trained, or trimmed for prediction (its history is "
            "empty): fit it first, or pass it without FrozenEstimator to have it trained here."
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
    return isinstance(criterion_of(_initialized(net)), (nn.NLLLoss, nn.CrossEntropyLoss))


def n_outputs(module: nn.Module, X: Any) -> int:
    """Return the number of logits that a module gives for each row."""
    output = _try(module, X)
    return 1 if output.ndim == 1 else output.shape[1]


def _try(module: nn.Module, X: Any, n: int = 2) -> Any:
    """Output of a module in evaluation mode for the first rows."""
    try:
        with evaluating(module):
            few = on_device(take(X, slice(0, n)), device_of(module))
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
    _check_methods(net)
    initialized = _initialized(net)
    others = [name for name in initialized._modules if name != "module"]
    if others:
        raise ValueError(
            f"Got a skorch {type(net).__name__} with modules {others} beside its module, but one "
            "network can be pruned: make them layers of the module, or of the criterion."
        )
    criterion = criterion_of(initialized)
    if sample_weight is not None and not hasattr(criterion, "reduction"):
        raise ValueError(
            f"Got sample_weight or class_weight with a skorch net whose criterion "
            f"{type(criterion).__name__} has no `reduction`, but weights need the loss of each "
            "row: use one of torch's criteria, or leave the weights out."
        )
    if sample_weight is not None and len(initialized._criteria) > 1:
        raise ValueError(
            f"Got sample_weight or class_weight with a skorch net of criteria "
            f"{initialized._criteria}, but only one can weigh rows: leave the weights out."
        )


# Methods that stand between the module and the loss or the prediction. The pruned network is a
# module that stands alone, in files and exports too: what a net does around it would be lost.
_AROUND_THE_MODULE = (
    *("infer", "train_step", "train_step_single", "evaluation_step"),
    *("forward_iter", "predict_proba", "predict"),
)
# Methods that may do something to the table while a net is trained.
_OF_TRAINING = ("fit", "partial_fit", "fit_loop", "run_single_epoch")


def _own(net: NeuralNet, methods: tuple[str, ...]) -> list[str]:
    """Which of these methods a net has from its user, not from skorch or this package."""

    def package(method: str) -> str:
        owner = next(c for c in type(net).__mro__ if method in vars(c))
        return owner.__module__.partition(".")[0]

    known = ("skorch", "fairprune_sk")
    return [name for name in methods if name in vars(net) or package(name) not in known]


def _check_methods(net: NeuralNet) -> None:
    """Refuse a net that does more to a batch than its module and its loss do."""
    name, trained = type(net).__name__, getattr(net, "initialized_", False)
    if own := _own(net, _AROUND_THE_MODULE):
        raise ValueError(
            f"Got a skorch {name} with {', '.join(own)} of its own, but expected skorch's: pruning "
            "and the pruned network call the module itself. Let the module's forward do what "
            "belongs to the network, and get_loss what belongs to the loss."
        )
    if (own := _own(net, _OF_TRAINING)) and not trained:
        raise ValueError(
            f"Got a skorch {name} with {', '.join(own)} of its own, but expected skorch's: it is "
            "trained here without them. Fit it first and pass it inside FrozenEstimator."
        )


def _check_nonlinearity(net: NeuralNet, X: Any) -> None:
    """Refuse a net whose probabilities are not those of its module's outputs."""
    with seeded(0, torch.device("cpu")):
        net = _initialized(net)
        reads_probabilities(net, _try(plain(net.module_), X, FEWEST_ROWS))


def labels_for(net: NeuralNet, y: np.ndarray) -> np.ndarray:
    """Class codes in the type that a net of this class takes."""
    return y.astype(np.float32 if isinstance(net, NeuralNetBinaryClassifier) else y.dtype)


def check_rows(net: NeuralNet, X: Any, y: np.ndarray, weight: np.ndarray | None) -> None:
    """Refuse, before training, a net whose dataset or iterators change the rows that they read.

    Parameters
    ----------
    net : NeuralNet
        Checked; how it reads rows for training does not matter where it is trained already.
    X : ndarray of shape (n, ...), or dict of them
        Rows of the first batches are looked for in it.
    y : ndarray of shape (n,)
        Class codes.
    weight : ndarray of shape (n,) or None

    Raises
    ------
    ValueError
        With the names of what stands between the table and the network.
    """
    labels, X = labels_for(net, y), writable(X)
    known_rows = X
    if streams(X):  # a few images over and over, so that no others need be decoded
        X = take(X, np.arange(len(y)) % 8)
        known_rows = X[:8].read()
    with seeded(0, torch.device("cpu")):
        trained, net = getattr(net, "initialized_", False), _initialized(net)
        if not trained:
            data = X
            if weight is not None:
                data = WeightedDataset(net.get_dataset(X, labels), weight)
            dataset, _ = net.get_split_datasets(data, labels)
            for rows, seen in _first(net.get_iterator(dataset, training=True)):
                pair = isinstance(seen, (tuple, list))  # labels and weights
                known = np.isin(to_numpy(seen[0] if pair else seen), labels).all()
                if not (known and pair == (weight is not None) and _are_among(rows, known_rows)):
                    raise _changed_rows(net, "iterator_train", "train_split")
        for rows, _ in _first(net.get_iterator(net.get_dataset(X), training=False)):
            if not _are_among(rows, known_rows):
                raise _changed_rows(net, "iterator_valid")


def _first(iterator: Any) -> list[tuple[Any, Any]]:
    """Hand out the first batch, as X and y, or nothing where there is none."""
    return [unpack_data(batch) for batch in itertools.islice(iterator, 1)]


def _are_among(rows: Any, X: Any, n_tried: int = 8) -> bool:
    """Whether the first rows of a batch are each one of a table, with equal values."""
    seen, table = (part if isinstance(part, Mapping) else {"X": part} for part in (rows, X))
    if seen.keys() != table.keys():
        return False
    few = {name: to_numpy(value)[:n_tried] for name, value in seen.items()}
    if any(few[name].shape[1:] != value.shape[1:] for name, value in table.items()):
        return False
    return all(_is_among(take(few, i), table) for i in range(n_rows(few)))


def _is_among(row: dict[str, np.ndarray], table: Mapping[str, np.ndarray]) -> bool:
    """Whether a table has a row: sought by one value of it first, since tables may be large."""
    found = np.arange(n_rows(table))
    for name, column in table.items():
        middle = tuple(size // 2 for size in column.shape[1:])
        found = found[_equal(column[(found, *middle)], row[name][middle])]
    step = max(1, 1_000_000 // sum(value.size for value in row.values()))
    for some in (found[start : start + step] for start in range(0, len(found), step)):
        equal = [_equal(column[some], row[name]) for name, column in table.items()]
        if np.all([part.reshape(len(some), -1).all(1) for part in equal], axis=0).any():
            return True
    return False


def _equal(values: np.ndarray, value: np.ndarray) -> np.ndarray:
    return (values == value) | ((values != values) & (value != value))


def _changed_rows(net: NeuralNet, *settings: str) -> ValueError:
    """Name what a net's user put between the table and a batch."""
    own = _own(net, ("get_dataset", "get_split_datasets", "get_iterator")) + [
        name
        for name, value in vars(net).items()
        if name.startswith(("dataset", *settings)) and not (value is Dataset or value is DataLoader)
    ]
    return ValueError(
        f"Got a skorch {type(net).__name__} whose {', '.join(own)} changes the rows of X or y, but "
        "the pruning phase and predictions read X as it is: do that in the module's forward, or "
        "before fit."
    )
