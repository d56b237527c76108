"""Export of pruned networks: ONNX with the table's own columns as inputs, and torch.export."""

from __future__ import annotations

import copy
import importlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fairprune_sk.archive import write_atomically
from fairprune_sk.export.onnx_graph import assembled, columns_of, onnx_inputs
from fairprune_sk.fitting.fitted import Fitted
from fairprune_sk.fitting.outputs import class_logits, device_of
from fairprune_sk.networks.batch import take
from fairprune_sk.networks.calls import evaluating, forward

TOLERANCE = 1e-5
"""Largest difference of a probability to that of the estimator."""

_ROWS_CHECKED = 64


class _Probabilities(nn.Module):
    """Network whose output is the probability of each class, as ``predict_proba`` gives it."""

    def __init__(self, fitted: Fitted):
        super().__init__()
        self.network = copy.deepcopy(fitted.network).cpu().eval()
        self.probabilities = fitted.probabilities

    def scores(self, X: Any) -> Tensor:
        return class_logits(forward(self.network, X), self.probabilities)

    def forward(self, X: Any) -> Any:
        scores = self.scores(X)
        if scores.shape[1] > 1:
            return scores.softmax(dim=1)
        return torch.cat([torch.sigmoid(-scores), torch.sigmoid(scores)], dim=1)


class _ProbabilitiesAndCode(_Probabilities):
    """And the code of the predicted class."""

    def forward(self, X: Any) -> tuple[Tensor, Tensor]:
        scores = self.scores(X)
        code = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).to(torch.int64)
        return super().forward(X), code


def to_torch_export(
    fitted: Fitted, path: str | os.PathLike[str] | None = None, X: Any = None
) -> ExportedProgram:
    """Export the pruned network; see :meth:`FairPruner.to_torch_export`.

    Parameters
    ----------
    fitted : Fitted
    path : str or path, optional
    X : as for ``predict``, checked, optional
    """
    program = _traced(fitted, _Probabilities(fitted), example_inputs(fitted, X, 3))
    if path is not None:
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        write_atomically(path, buffer.getvalue())
    return program


def to_onnx(fitted: Fitted, path: str | os.PathLike[str], X: Any = None) -> None:
    """Export the pruned network with its encoding; see :meth:`FairPruner.to_onnx`.

    Parameters
    ----------
    fitted : Fitted
    path : str or path
    X : as for ``predict``, checked, optional
    """
    onnx = _imported("onnx")
    _imported("onnxscript")
    runtime = None if X is None else _imported("onnxruntime")
    columns = [] if fitted.encoder is None else columns_of(fitted)
    inputs = example_inputs(fitted, X, 3)
    program = _traced(fitted, _ProbabilitiesAndCode(fitted), inputs)
    with _quiet(fitted):
        network = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(inputs) if isinstance(inputs, dict) else ["X"],
            output_names=["probabilities", "code"],
            verbose=False,
        )
    assert network is not None
    model = assembled(onnx, fitted, columns, network.model_proto)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    if runtime is not None:
        rows = _first_rows(X, _ROWS_CHECKED)
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (got,) = session.run(["probabilities"], onnx_inputs(fitted, rows))
        difference = np.abs(got - fitted.probabilities_of(rows)).max()
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"Got probabilities from onnxruntime that differ by {difference:.1e} from those "
                f"of the estimator, but expected at most {TOLERANCE:g}: nothing was written."
            )
    write_atomically(path, content)


def example_inputs(fitted: Fitted, X: Any, n_rows: int) -> Any:
    """Make inputs of the network: the first rows of X, over and over, or random ones.

    Parameters
    ----------
    fitted : Fitted
    X : as for ``predict``, checked, or None
    n_rows : int

    Returns
    -------
    Tensor of shape (n_rows, ...), or dict of them

    Raises
    ------
    ValueError
        If X is None and the network takes no matrix.
    """
    if X is not None:
        table = fitted.table(_first_rows(X, n_rows))
        return table.take(torch.arange(n_rows) % len(table)).X
    draws, encoder = np.random.default_rng(0), fitted.encoder
    if encoder is not None:
        numbers = [draws.uniform(edges[0], edges[-1], n_rows) for edges in encoder.edges_]
        columns = [*numbers, *(draws.integers(n, size=n_rows) for n in encoder.n_categories_)]
        return torch.from_numpy(np.column_stack(columns).astype(np.float32))
    network = fitted.network
    try:
        size = (n_rows, fitted.n_features or 0)
        inputs = torch.from_numpy(draws.normal(size=size).astype(np.float32))
        with evaluating(network):
            forward(network, inputs[:2].to(device_of(network)))
    except Exception as error:
        raise ValueError(
            f"Got X=None, but {type(network).__name__} takes no matrix of shape (n, n_features_in_"
            "): pass a few rows as X."
        ) from error
    return inputs


def _first_rows(X: Any, n_rows: int) -> Any:
    """First rows of a checked table."""
    return X.head(n_rows) if isinstance(X, pd.DataFrame) else take(X, slice(0, n_rows))


def _traced(fitted: Fitted, module: nn.Module, inputs: Any) -> ExportedProgram:
    rows = {0: Dim("n")}
    dynamic = dict.fromkeys(inputs, rows) if isinstance(inputs, dict) else rows
    with _quiet(fitted):
        return torch.export.export(
            module.eval(), (inputs,), dynamic_shapes=(dynamic,), strict=False
        )


@contextmanager
def _quiet(fitted: Fitted) -> Iterator[None]:
    """Trace without gradients and noise; name the network if it cannot be traced."""
    # That operators of torchvision are absent is no news: it is no dependency.
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # torch 2.13 copies objects of a class that it has deprecated.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    except Exception as error:
        raise ValueError(
            f"Got {type(fitted.network).__name__}, which torch cannot export: {error}"
        ) from error
    finally:
        logger.setLevel(level)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"to_onnx needs {name}: pip install fairprune_sk[onnx]") from error
