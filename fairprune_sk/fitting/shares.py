"""Checks of a fit on several processes: what it can do, and whether all were asked the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fairprune_sk.distributed import world
from fairprune_sk.networks.batch import n_rows, streams

FEWEST_ROWS = 32
"""Rows that each process needs."""

# Parameters that may be other objects, or other values, in each process.
_OWN = ("estimator", "callbacks", "device", "random_state", "verbose", "solver", "constraint")


def check_shares(parameters: Mapping[str, Any], X: Any, schema: Mapping[str, Any]) -> None:
    """Refuse, on all processes alike, what a fit on several of them cannot do.

    Parameters
    ----------
    parameters : dict
        Of the estimator.
    X : DataFrame, ndarray or dict of ndarray
        Rows of this process, checked.
    schema : dict
        What is remembered of X.

    Raises
    ------
    ValueError
        If a parameter has no meaning for several processes, one has too few rows, or they have
        other columns or other parameters.
    """
    if world().size == 1:
        return
    asked = {name: repr(value) for name, value in parameters.items() if name not in _OWN}
    asked |= {name: type(parameters[name]).__name__ for name in ("solver", "constraint")}
    columns = {name: str(value) for name, value in schema.items()}
    every = world().gathered((unfit(parameters, X), asked, columns))
    for rank, (message, others, theirs) in enumerate(every):
        if message:
            raise ValueError(f"{message} (process {rank} of {world().size})")
        for first, own in ((every[0][1], others), (every[0][2], theirs)):
            for name in sorted(first.keys() | own.keys()):
                if first.get(name) != own.get(name):
                    raise ValueError(
                        f"Got {name}={own.get(name)} in process {rank} and {first.get(name)} in "
                        "process 0, but expected the same parameters and columns in all."
                    )


def unfit(parameters: Mapping[str, Any], X: Any) -> str:
    """Say what a fit on several processes cannot do; empty where it can."""
    estimator = parameters["estimator"]
    for name in ("checkpoint", "memory"):
        if parameters[name] is not None:
            return f"Got {name} in data_parallel(), where fits are not kept: leave it out."
    if parameters["warm_start"]:
        return "Got warm_start=True in data_parallel(), where every fit begins anew."
    if isinstance(estimator, NeuralNet | FrozenEstimator) or (
        isinstance(estimator, type) and issubclass(estimator, NeuralNet)
    ):
        return (
            f"Got {type(estimator).__name__} in data_parallel(), but expected None or a module: a "
            "skorch net trains by a loop of its own, which knows no other processes."
        )
    if isinstance(estimator, nn.Module) and any(
        isinstance(layer, _BatchNorm) for layer in estimator.modules()
    ):
        return (
            f"Got {type(estimator).__name__} with batch normalisation in data_parallel(), but its "
            "statistics would be those of each process: use LayerNorm or GroupNorm."
        )
    if streams(X):
        return "Got images from disk in data_parallel(), which takes tables and arrays."
    if n_rows(X) < FEWEST_ROWS:
        return f"Got {n_rows(X)} rows, but expected at least {FEWEST_ROWS} in each process."
    return ""
