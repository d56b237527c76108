"""Fitted estimators as files that hold data alone: loading one never runs code from it."""

from __future__ import annotations

import copy
import os
import warnings
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.history import History
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from fairprune_sk.calls import evaluating, forward, main_output
from fairprune_sk.data import VERSION, as_json, from_json, network_tensors, read_file, write_file
from fairprune_sk.dense import _build_module
from fairprune_sk.encoding import TableEncoder
from fairprune_sk.modules import TabularNetwork
from fairprune_sk.outputs import device_of
from fairprune_sk.pruner import FairPruner
from fairprune_sk.training import BinaryNet, MulticlassNet, plain

# Layers whose forward reads its sizes off the weights, or off plain integers, which are stored.
_RESIZABLE = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.PReLU)

# Of scikit-learn's callbacks and routing, not of the fit.
_SHELL = {"_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_metadata_request"}


def save(pruner: FairPruner, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to a file without code: weights as safetensors, the rest as JSON.

    An interrupted or failed write leaves a file that was there before as it was.

    Parameters
    ----------
    pruner : FairPruner
        Fitted.
    path : str or path

    Raises
    ------
    ValueError
        If a parameter or a fitted attribute is no data, such as a constraint of one's own.

    Warns
    -----
    UserWarning
        If ``callbacks``, or a ``random_state`` that is no integer, are left out.

    Examples
    --------
    >>> import tempfile
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> from fairprune_sk.persistence import load, save
    >>> X, y, _ = make_biased_classification(200, random_state=0)
    >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(pruner, f"{folder}/pruner.fairprune")
    ...     loaded = load(f"{folder}/pruner.fairprune")
    >>> bool((loaded.predict_proba(X) == pruner.predict_proba(X)).all())
    True
    """
    check_is_fitted(pruner)
    parameters = pruner.get_params(deep=False)
    apart = {*parameters, *_SHELL, "dense_estimator_", "encoder_", "history_"}
    attributes = {name: value for name, value in vars(pruner).items() if name not in apart}
    networks = {k: v for k, v in attributes.items() if isinstance(v, nn.Module)}
    del parameters["estimator"]
    for name in ("callbacks", "random_state"):
        value = parameters[name]
        if value is not None and not isinstance(value, int | np.integer):
            warnings.warn(f"Not saved: {name}={value!r}, which is no data.", stacklevel=2)
            parameters[name] = None
    dense = plain(pruner.dense_estimator_.module_)
    default = pruner.encoder_ is not None
    tensors = {
        f"{name}/{key}": tensor
        for name, network in {"dense": dense, **networks}.items()
        for key, tensor in network_tensors(network).items()
    }
    state = {
        "parameters": parameters,
        "attributes": {k: v for k, v in attributes.items() if k not in networks},
        "encoder": vars(pruner.encoder_) if default else None,
        "architecture": _architecture(dense) if default else type(dense).__name__,
        "binary": isinstance(pruner.dense_estimator_, NeuralNetBinaryClassifier),
        "sizes": {name: _changed_sizes(dense, network) for name, network in networks.items()},
        "probe": _probe(pruner),
        "history": _epochs(pruner.history_),
        "dense_history": _epochs(pruner.dense_estimator_.history),
    }
    write_file(path, as_json(state, tensors), tensors)


def load(path: str | os.PathLike[str], *, modules: Any = None) -> FairPruner:
    """Read an estimator that :func:`save` wrote. No code in the file is run; it holds none.

    Parameters
    ----------
    path : str or path
    modules : nn.Module instance or class, callable that returns one, or skorch net
        For an estimator that was fitted with a network of the user's: the same dense network, as
        code cannot come from the file. Its weights do not matter; the object is not changed.

    Returns
    -------
    FairPruner
        Predicts to the same bits as the one that was saved, on the CPU. Its ``estimator`` is
        None, or what ``modules`` gave.

    Raises
    ------
    ValueError
        If the file is truncated, was changed, is foreign, or comes from a later version; or if
        the module is not of the saved architecture.
    """
    data, tensors = read_file(path)
    try:
        state = from_json(data, tensors)
        attributes, architecture = state["attributes"], state["architecture"]
        pruner = FairPruner(**state["parameters"])
        encoder = None
        if state["encoder"] is not None:
            encoder = TableEncoder()
            vars(encoder).update(state["encoder"])
            built = TabularNetwork(encoder.edges_, encoder.n_categories_, **architecture)
    except Exception as error:  # whatever strange data leads to
        raise ValueError(
            f"Got {path}, whose state is not as version {VERSION} writes it: {error!r}."
        ) from error
    if (modules is None) == (encoder is None):
        expected = "no modules" if encoder is not None else f"modules=<the dense {architecture}>"
        raise ValueError(f"Got modules={modules!r} for {path}, but expected {expected}.")
    net = clone(modules).initialize() if isinstance(modules, NeuralNet) else None
    if net is not None:
        built = plain(net.module_)
    elif isinstance(modules, type):
        X = np.empty((0, attributes.get("n_features_in_", 0)), dtype=np.float32)
        built = _build_module(modules, X, len(attributes["classes_"]))
    elif modules is not None:
        modules = modules if isinstance(modules, nn.Module) else modules()
        built = copy.deepcopy(modules)
    networks = {name: copy.deepcopy(built).eval() for name in state["sizes"]}
    _fill(built, tensors, "dense")
    resized: list[nn.Module] = []
    for name, network in networks.items():
        _resize(network, state["sizes"][name])
        resized += _fill(network, tensors, name)
    for name, value in {**attributes, **networks, "estimator": modules}.items():
        setattr(pruner, name, value)
    pruner.encoder_ = encoder
    pruner.dense_estimator_ = net or _dense_net(built, state["binary"], pruner._probabilities)
    pruner.dense_estimator_.history_ = _history(state["dense_history"])
    pruner.history_ = _history(state["history"])
    _check_probe(pruner, state["probe"], resized)
    return pruner


def _architecture(dense: nn.Module) -> dict[str, Any]:
    """Arguments of the default network beside its bins and categories."""
    hidden = [layer.out_features for layer in dense.hidden if isinstance(layer, nn.Linear)]
    dropout = [layer.p for layer in dense.hidden if isinstance(layer, nn.Dropout)]
    return {
        "hidden": hidden,
        "dropout": dropout[0] if dropout else 0.0,
        "n_outputs": dense.output.out_features,
    }


def _sizes(layer: nn.Module) -> dict[str, Any]:
    """Integers of a layer, such as ``in_features``, and tuples of them."""

    def is_size(value: Any) -> bool:
        return type(value) is int or (type(value) is tuple and all(map(is_size, value)))

    return {k: v for k, v in vars(layer).items() if not k.startswith("_") and is_size(v)}


def _changed_sizes(dense: nn.Module, network: nn.Module) -> dict[str, dict[str, Any]]:
    """Sizes that are not those of the dense network, by layer."""
    before, after = dict(dense.named_modules()), dict(network.named_modules())
    if {n: type(layer) for n, layer in before.items()} != {n: type(v) for n, v in after.items()}:
        raise ValueError("Got a network_ with layers that the dense network has not.")
    changed = {
        name: {k: v for k, v in _sizes(layer).items() if _sizes(before[name]).get(k) != v}
        for name, layer in after.items()
    }
    return {name: sizes for name, sizes in changed.items() if sizes}


def _resize(module: nn.Module, sizes: dict[str, dict[str, Any]]) -> None:
    layers = dict(module.named_modules())
    for name, values in sizes.items():
        for size, value in values.items():
            if type(getattr(layers.get(name), size, None)) is not type(value):
                raise ValueError(f"Got {type(module).__name__} without {size} of layer {name!r}.")
            setattr(layers[name], size, value)


def _fill(module: nn.Module, tensors: dict[str, Tensor], part: str) -> list[nn.Module]:
    """Put stored tensors in the place of a module's own; return the layers that changed shape."""
    stored = {k.removeprefix(f"{part}/"): v for k, v in tensors.items() if k.startswith(f"{part}/")}
    own: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    own |= dict(module.named_buffers(remove_duplicate=False))
    # A tensor of several names is stored under the first: tied weights stay tied.
    first = {id(old): name for name, old in reversed(own.items()) if name in stored}
    source = {name: name if name in stored else first.get(id(old)) for name, old in own.items()}
    if None in source.values() or not stored.keys() <= own.keys():
        raise ValueError(
            f"Got a {type(module).__name__} with parameters {sorted(own)}, but expected those of "
            f"the saved network: {sorted(stored)}."
        )
    resized, put = [], {}
    for name, old in own.items():
        tensor = stored[source[name]].clone()  # clone: in memory aligned as torch does it
        path, _, leaf = name.rpartition(".")
        layer = module.get_submodule(path)
        if old.shape != tensor.shape:
            if part == "dense":
                raise ValueError(
                    f"Got a {type(module).__name__} whose {name} has shape {tuple(old.shape)}, but "
                    f"expected {tuple(tensor.shape)}, as in the dense network that was saved."
                )
            resized.append(layer)
        if isinstance(old, nn.Parameter):
            tensor = nn.Parameter(tensor, requires_grad=old.requires_grad)
        setattr(layer, leaf, put.setdefault(source[name], tensor))
    return resized


def _dense_net(module: nn.Module, binary: bool, probabilities: bool) -> NeuralNet:
    """Skorch net around a trained module, as the dense phase leaves it."""
    if binary:
        criterion = nn.BCELoss if probabilities else nn.BCEWithLogitsLoss
    else:
        criterion = nn.NLLLoss if probabilities else nn.CrossEntropyLoss
    kind = BinaryNet if binary else MulticlassNet
    return kind(module, criterion=criterion, train_split=None, verbose=0).initialize()


def _epochs(history: History) -> list[dict[str, Any]]:
    """Numbers and words of each epoch, without its batches."""
    kept = (bool, int, float, str)
    return [{k: v for k, v in row.items() if isinstance(v, kept)} for row in history]


def _history(epochs: list[dict[str, Any]]) -> History:
    return History({"batches": [], **epoch} for epoch in epochs)


def _probe(pruner: FairPruner) -> Tensor | None:
    """Output of the network for made-up rows; None if it takes no matrix."""
    encoder = pruner.encoder_
    n = getattr(pruner, "n_features_in_", 1)
    if encoder is not None:
        n = len(encoder.edges_) + len(encoder.n_categories_)
    try:
        with evaluating(pruner.network_):
            X = torch.linspace(-2.0, 2.0, 8 * n, device=device_of(pruner.network_)).view(8, n)
            return main_output(forward(pruner.network_, X)).float().cpu()
    except Exception:  # images, several inputs
        return None


def _check_probe(pruner: FairPruner, expected: Tensor | None, resized: list[nn.Module]) -> None:
    """Refuse a network that does not compute what the saved one did."""
    name, got = type(pruner.network_).__name__, _probe(pruner)
    if expected is None:
        unsure = {type(layer).__name__ for layer in resized if not isinstance(layer, _RESIZABLE)}
        if unsure:
            raise ValueError(
                f"Got a {name} with layers of other sizes than the dense network's, but {unsure} "
                "cannot be resized without rows to try it on."
            )
    elif got is None or not torch.allclose(got, expected, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ValueError(
            f"Got a {name} that does not compute what the saved network did: pass modules with "
            "the code and the settings of that one."
        )
