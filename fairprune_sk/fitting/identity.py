"""Which fit it is: a digest of all that decides what comes out of it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from torch import Tensor, nn

from fairprune_sk._version import __version__
from fairprune_sk.archive import as_json
from fairprune_sk.fitting.memory import code_hash, digest_of
from fairprune_sk.fitting.task import Given, Settings
from fairprune_sk.networks.batch import fingerprint
from fairprune_sk.networks.calls import plain

# Parameters that do not decide what comes out; those that are told apart otherwise.
_NO_SETTINGS = ("checkpoint", "memory", "verbose", "warm_start")
_OTHERWISE = ("estimator", "callbacks", "device", "random_state")


def identity_of(
    parameters: Mapping[str, Any], given: Given, settings: Settings, seed: int | None, last: Any
) -> str:
    """Digest of all that decides what comes out of a fit: data, settings, network and versions.

    Parameters
    ----------
    parameters : dict
        Of the estimator.
    given : Given
    settings : Settings
    seed : int or None
        None where no seed was asked for.
    last : Fitted or None
        What a warm start goes on from.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the network, or another object, has code that cannot be told from other code.
    """
    digest = hashlib.blake2b(digest_size=16)

    def add(*parts: Any) -> None:
        for part in parts:
            tensor = part.detach().cpu().contiguous().numpy() if isinstance(part, Tensor) else part
            if isinstance(tensor, np.ndarray) and tensor.dtype.kind != "O":
                digest.update(f"{tensor.dtype}{tensor.shape}".encode())
                digest.update(np.ascontiguousarray(tensor).tobytes())
            else:
                digest.update(repr(tensor).encode())

    add(__version__, torch.__version__, settings.device.type, seed, _digest_of_rows(given.X))
    add(given.y, given.classes.tolist(), given.positive, given.weight, given.group, given.cell)
    add(None if given.groups is None else given.groups.tolist(), sorted(given.schema))
    if last is not None:
        add(*last.masks.values(), *last.kept.values(), *last.dense_module.state_dict().values())
        add(last.multipliers)
    plain_settings = {
        name: value
        for name, value in sorted(parameters.items())
        if name not in (*_NO_SETTINGS, *_OTHERWISE)
    }
    estimator = parameters["estimator"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            add(code_hash(plain_settings), *_network_parts(estimator))
            add([_look_of(callback) for callback in parameters["callbacks"] or []])
        except Exception as error:
            raise ValueError(
                f"Got checkpoint with estimator={type(estimator).__name__}, whose code cannot be "
                "told from other code once the process is gone: define its classes and functions "
                f"in a module, without lambdas ({error})."
            ) from error
    return digest.hexdigest()


def hint_on(estimator: Any) -> str:
    """Say what makes a network another one without the user's will; empty where nothing does.

    Parameters
    ----------
    estimator : None, nn.Module class or instance, skorch net, or FrozenEstimator

    Returns
    -------
    str
    """
    module = estimator.module if isinstance(estimator, NeuralNet) else estimator
    if not isinstance(module, nn.Module):
        return ""
    return (
        " The network is an instance, whose first weights are others in every process: pass its "
        "class, or call torch.manual_seed before it is made."
    )


def _digest_of_rows(X: Any) -> str:
    """Digest of the values of a table, whatever its layout in memory."""
    if not isinstance(X, pd.DataFrame):
        return fingerprint(X)
    digest = hashlib.blake2b(digest_size=16)
    for i, name in enumerate(X.columns):
        column = X.iloc[:, i]
        digest.update(repr((name, str(column.dtype))).encode())
        digest.update(pd.util.hash_pandas_object(column, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _network_parts(estimator: Any) -> list[Any]:
    """List what tells the network that was asked for from others: code, settings, weights."""
    if isinstance(estimator, FrozenEstimator):
        net = estimator.estimator
        weights = getattr(net, "module_", None)
        return ["frozen", *_network_parts(net), *([] if weights is None else _of_module(weights))]
    if isinstance(estimator, nn.Module):
        return _of_module(estimator)
    if isinstance(estimator, NeuralNet):
        parameters = estimator.get_params(deep=False)
        callbacks = parameters.pop("callbacks", None) or []
        parameters.pop("verbose", None)
        parts: list[Any] = [code_hash(type(estimator))]
        for name, value in sorted(parameters.items()):
            parts += [name, *(_network_parts(value) if isinstance(value, nn.Module) else [])]
            parts += [] if isinstance(value, nn.Module) else [code_hash(value)]
        many = isinstance(callbacks, list | tuple)
        return [*parts, *[_look_of(callback) for callback in callbacks if many]]
    return [code_hash(estimator)]


def _of_module(module: nn.Module) -> list[Any]:
    layers = [(name, digest_of(layer)) for name, layer in plain(module).named_modules()]
    return [layers, *plain(module).state_dict().values()]


def _look_of(callback: Any) -> Any:
    """Name and settings of a callback, as far as they are data."""
    named, own = callback if isinstance(callback, tuple) else ("", callback)
    if isinstance(own, type):
        return named, own.__qualname__
    settings = []
    for name, value in sorted(own.get_params(deep=False).items()):
        try:
            settings.append((name, as_json(value, {})))
        except ValueError:
            settings.append((name, type(value).__qualname__))
    return named, type(own).__qualname__, settings
