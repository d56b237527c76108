"""Fitted values as files that hold data alone: loading one never runs code from it."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.history import History
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from fairprune_sk.archive import (
    VERSION,
    as_json,
    from_json,
    naming,
    network_tensors,
    read_file,
    write_file,
)
from fairprune_sk.datasets.columns import KINDS
from fairprune_sk.exceptions import warn_at_caller
from fairprune_sk.fitting.fitted import Fitted
from fairprune_sk.fitting.outputs import class_logits, device_of
from fairprune_sk.fitting.training import BinaryNet, MulticlassNet
from fairprune_sk.fitting.user_networks import build_module
from fairprune_sk.networks.calls import evaluating, forward, main_output, plain
from fairprune_sk.networks.default import TabularNetwork
from fairprune_sk.networks.encoding import TableEncoder

# Layers whose forward reads its sizes off the weights, or off plain integers, which are stored.
_RESIZABLE = (nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.PReLU)

# What of a fitted value is data as it is.
_DATA = [f.name for f in fields(Fitted) if f.name not in ("encoder", "dense", "network", "history")]


def write_fitted(
    path: str | os.PathLike[str], fitted: Fitted, parameters: Mapping[str, Any]
) -> None:
    """Write a fitted value, and the parameters of its estimator, to a file without code.

    Parameters
    ----------
    path : str or path
    fitted : Fitted
    parameters : dict
        Without the network that was asked for.

    Raises
    ------
    ValueError
        If something is no data, such as a constraint of one's own.

    Warns
    -----
    UserWarning
        If ``callbacks``, or a ``random_state`` that is no integer, are left out.
    """
    parameters = {**parameters, "checkpoint": None}  # a file of this machine, and of that fit
    for name in ("callbacks", "random_state"):
        value = parameters[name]
        if value is not None and not isinstance(value, int | np.integer):
            warn_at_caller(f"Not saved: {name}={value!r}, which is no data.", UserWarning)
            parameters[name] = None
    dense, encoder = fitted.dense_module, fitted.encoder
    networks = {"network": fitted.network} | ({} if fitted.slim else {"dense": dense})
    tensors = {
        f"{name}/{key}": tensor
        for name, network in networks.items()
        for key, tensor in network_tensors(network).items()
    }
    state = {
        "parameters": parameters,
        "fitted": {name: getattr(fitted, name) for name in _DATA},
        "encoder": None if encoder is None else vars(encoder),
        "architecture": type(dense).__name__ if encoder is None else _architecture(dense),
        "binary": isinstance(fitted.dense, NeuralNetBinaryClassifier),
        "sizes": _changed_sizes(dense, fitted.network),
        "probe": _probe(fitted),
        "history": _epochs(fitted.history),
        "dense_history": _epochs(fitted.dense.history),
    }
    write_file(path, as_json(state, tensors), tensors)


def read_fitted(
    path: str | os.PathLike[str], modules: Any = None
) -> tuple[dict[str, Any], Fitted, Any]:
    """Read what :func:`write_fitted` wrote.

    Parameters
    ----------
    path : str or path
    modules : nn.Module instance or class, callable that returns one, or skorch net
        The dense network, where it is not the default one; see :func:`fairprune_sk.load`.

    Returns
    -------
    parameters : dict
        Of the estimator.
    fitted : Fitted
    estimator : Any
        What ``modules`` gave.

    Raises
    ------
    ValueError
        If the file is not as it was written, or the module is not of its architecture.
    """
    data, tensors = read_file(path)
    with naming(path, f"whose state is not as version {VERSION} writes it"):
        state = from_json(data, tensors)
        known, architecture = state["fitted"], state["architecture"]
        parameters, sizes = dict(state["parameters"]), state["sizes"]
        encoder: TableEncoder | None = None
        built: nn.Module
        if state["encoder"] is not None:
            encoder = TableEncoder()
            encoder.__dict__.update(state["encoder"])
            built = _default_network(encoder, architecture, tensors, known["slim"])
    if (modules is None) == (encoder is None):
        expected = "no modules" if encoder is not None else f"modules=<the dense {architecture}>"
        raise ValueError(f"Got modules={modules!r} for {path}, but expected {expected}.")
    net = clone(modules).initialize() if isinstance(modules, NeuralNet) else None
    if net is not None:
        built = plain(net.module_)
    elif isinstance(modules, type):
        with naming(path, "which does not say for which table it is"):
            n = known["schema"].get("n_features_in_", 0)
            X, n_classes = np.empty((0, n), dtype=np.float32), len(known["classes"])
        built = build_module(modules, X, n_classes)
    elif modules is not None:
        modules = modules if isinstance(modules, nn.Module) else modules()
        built = copy.deepcopy(modules)
    with naming(path, "whose network cannot be built again"):
        network = copy.deepcopy(built).eval()
        _resize(network, sizes)
        resized = _fill(network, tensors, "network")
        dense: Any
        if known["slim"]:
            dense = SimpleNamespace(module_=built, history=History())  # its shape is known
        else:
            _fill(built, tensors, "dense")
            built.eval()
            dense = net or _dense_net(built, state["binary"], known["probabilities"])
            dense.history_ = _history(state["dense_history"])
        history = _history(state["history"])
        fitted = Fitted(**known, encoder=encoder, dense=dense, network=network, history=history)
        _check_probe(fitted, state["probe"], resized)
    return parameters, fitted, modules


def _default_network(
    encoder: TableEncoder, architecture: dict[str, Any], tensors: dict[str, Tensor], slim: bool
) -> TabularNetwork:
    """Build the default network without memory, after checking that the tensors fill it."""
    edges, n_categories = encoder.edges_, encoder.n_categories_
    n_inputs = sum(len(edge) - 1 for edge in edges) + sum(n_categories)
    widths = [n_inputs, *architecture["hidden"], architecture["n_outputs"]]
    expected = sorted(zip(widths[1:], widths[:-1], strict=True))
    dense = [tensor for name, tensor in tensors.items() if name.startswith("dense/")]
    found = sorted(tuple(tensor.shape) for tensor in dense if tensor.ndim == 2)
    if min([*n_categories, *widths]) < 1 or not (slim or expected == found):
        raise ValueError(f"weights of shapes {found} for layers of {expected}")
    with torch.device("meta"):
        return TabularNetwork([edge.to("meta") for edge in edges], n_categories, **architecture)


def _architecture(dense: Any) -> dict[str, Any]:
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
        raise ValueError("Got a network with layers that the dense network has not.")
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
    source = {name: name if name in stored else first.get(id(old), "") for name, old in own.items()}
    if "" in source.values() or not stored.keys() <= own.keys():
        raise ValueError(
            f"Got a {type(module).__name__} with parameters {sorted(own)}, but expected those of "
            f"the saved network: {sorted(stored)}."
        )
    resized, put = [], dict[str, Tensor]()
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
    criterion: type[nn.Module]
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


def _probe(fitted: Fitted) -> Tensor | None:
    """Output of the network for made-up rows; None if it takes no matrix."""
    encoder, network = fitted.encoder, fitted.network
    n = fitted.n_features or 1
    if encoder is not None:
        n = len(encoder.edges_) + len(encoder.n_categories_)
    try:
        with evaluating(network):
            X = torch.linspace(-2.0, 2.0, 8 * n, device=device_of(network)).view(8, n)
            return main_output(forward(network, X)).float().cpu()
    except Exception:  # images, several inputs
        return None


def _check_probe(fitted: Fitted, expected: Tensor | None, resized: list[nn.Module]) -> None:
    """Refuse a network that does not compute what the saved one did."""
    name, got = type(fitted.network).__name__, _probe(fitted)
    if expected is None and fitted.encoder is None:
        unsure = {type(layer).__name__ for layer in resized if not isinstance(layer, _RESIZABLE)}
        if unsure:
            raise ValueError(
                f"Got a {name} with layers of other sizes than the dense network's, but {unsure} "
                "cannot be resized without rows to try it on."
            )
        return
    n_columns = 1 if len(fitted.classes) == 2 else len(fitted.classes)
    if got is not None and class_logits(got, fitted.probabilities).shape[1] != n_columns:
        raise ValueError(f"outputs of shape {tuple(got.shape)} for classes {fitted.classes}")
    if (
        got is None
        or expected is None
        or not torch.allclose(got, expected, rtol=1e-3, atol=1e-4, equal_nan=True)
    ):
        raise ValueError(
            f"Got a {name} that does not compute what the saved network did: pass modules with "
            "the code and the settings of that one."
        )


def example_row(fitted: Fitted) -> pd.DataFrame | np.ndarray | None:
    """Make a row without any value, as the default network's encoder takes it.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    DataFrame or ndarray of shape (1, n_features), or None
        None for a network of the user's.

    Raises
    ------
    ValueError
        If what the columns hold has no name that is known.
    """
    if fitted.encoder is None:
        return None
    if "_kinds" not in fitted.schema:
        return np.full((1, fitted.schema["n_features_in_"]), np.nan)
    kinds = fitted.schema["_kinds"]
    if unknown := {kind for kind in kinds if not kind.endswith(" values")} - set(KINDS):
        raise ValueError(f"columns of the kinds {sorted(unknown)}")
    dtypes = {"numbers": "float64", "dates": "datetime64[ns]", "durations": "timedelta64[ns]"}
    is_number = ~fitted.encoder._categorical
    columns = [
        pd.Series([None], dtype=dtypes[kind] if numeric else "object")
        for kind, numeric in zip(kinds, is_number, strict=True)
    ]
    return pd.concat(columns, axis=1, keys=fitted.schema.get("feature_names_in_"))
