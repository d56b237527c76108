"""Export of pruned networks: ONNX with the table's own columns as inputs, and torch.export."""

from __future__ import annotations

import copy
import importlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fairprune_sk.calls import evaluating, forward
from fairprune_sk.data import write_atomically
from fairprune_sk.onnx_graph import assembled, columns_of, onnx_inputs
from fairprune_sk.outputs import class_logits, device_of
from fairprune_sk.pruner import FairPruner

TOLERANCE = 1e-5
"""Largest difference of a probability to that of the estimator."""

_ROWS_CHECKED = 64


class _Probabilities(nn.Module):
    """Network whose output is the probability of each class, as ``predict_proba`` gives it."""

    def __init__(self, pruner: FairPruner):
        super().__init__()
        self.network = copy.deepcopy(pruner.network_).cpu().eval()
        self.probabilities = pruner._probabilities

    def scores(self, X: Any) -> Tensor:
        return class_logits(forward(self.network, X), self.probabilities)

    def forward(self, X: Any) -> Tensor:
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
    pruner: FairPruner, path: str | os.PathLike[str] | None = None, *, X: Any = None
) -> ExportedProgram:
    """Export the pruned network with ``torch.export``, for any number of rows.

    Parameters
    ----------
    pruner : FairPruner
        Fitted.
    path : str or path, optional
        Where to write it, for ``torch.export.load``.
    X : as for ``predict``, optional
        A few rows. Needed where the network takes no matrix.

    Returns
    -------
    ExportedProgram
        From what the network reads (for the default network ``pruner.encoder_.transform(X)``, as
        a tensor) to probabilities of shape (n, n_classes).

    Raises
    ------
    ValueError
        If the network cannot be traced, or X is needed.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> from fairprune_sk.export import to_torch_export
    >>> X, y, _ = make_biased_classification(200, random_state=0)
    >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
    >>> program = to_torch_export(pruner)
    >>> program.module()(torch.from_numpy(pruner.encoder_.transform(X[:5]))).shape
    torch.Size([5, 2])
    """
    check_is_fitted(pruner)
    program = _traced(pruner, _Probabilities(pruner), example_inputs(pruner, X, 3))
    if path is not None:
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        write_atomically(path, buffer.getvalue())
    return program


def to_onnx(pruner: FairPruner, path: str | os.PathLike[str], *, X: Any = None) -> None:
    """Export the pruned network to ONNX, with the encoding of its table.

    For the default network there is one input of shape (n, 1) for each column, named after it
    (``x0``, ``x1``, ... without names; one called "label" or "probabilities" gets a ``_`` after
    it): float64 for numbers, with NaN for a missing value; strings for categories, int64 for those
    that are whole numbers or booleans, where the metadata ``missing`` names the value that stands
    for a missing one. Other networks keep their inputs: ``X``, or the names of the dict.
    :func:`fairprune_sk.onnx_graph.onnx_inputs` makes the inputs from a table.

    The outputs are ``probabilities``, of shape (n, n_classes), and ``label``, of shape (n,).

    Parameters
    ----------
    pruner : FairPruner
        Fitted.
    path : str or path
        The file; it is written as a whole or not at all.
    X : as for ``predict``, optional
        Rows to check the result on, in onnxruntime. Needed where the network takes no matrix.

    Raises
    ------
    ImportError
        Without onnx and onnxscript, or onnxruntime where X is given.
    ValueError
        If the network cannot be traced, or X is needed.
    RuntimeError
        If probabilities differ from those of ``predict_proba`` by more than 1e-5.

    Examples
    --------
    >>> import tempfile
    >>> import onnxruntime
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> from fairprune_sk.export import to_onnx
    >>> from fairprune_sk.onnx_graph import onnx_inputs
    >>> X, y, _ = make_biased_classification(200, random_state=0)
    >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_onnx(pruner, f"{folder}/pruner.onnx", X=X)
    ...     session = onnxruntime.InferenceSession(f"{folder}/pruner.onnx")
    >>> [column.name for column in session.get_inputs()][:3]
    ['age', 'education', 'experience_years']
    >>> session.run(["probabilities"], onnx_inputs(pruner, X[:5]))[0].shape
    (5, 2)
    """
    check_is_fitted(pruner)
    onnx = _imported("onnx")
    _imported("onnxscript")
    runtime = None if X is None else _imported("onnxruntime")
    columns = [] if pruner.encoder_ is None else columns_of(pruner)
    inputs = example_inputs(pruner, X, 3)
    program = _traced(pruner, _ProbabilitiesAndCode(pruner), inputs)
    with _quiet(pruner):
        network = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(inputs) if isinstance(inputs, dict) else ["X"],
            output_names=["probabilities", "code"],
            verbose=False,
        )
    model = assembled(onnx, pruner, columns, network.model_proto)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    if runtime is not None:
        rows = _first_rows(X, _ROWS_CHECKED)
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        (got,) = session.run(["probabilities"], onnx_inputs(pruner, rows))
        difference = np.abs(got - pruner.predict_proba(rows)).max()
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"Got probabilities from onnxruntime that differ by {difference:.1e} from those "
                f"of the estimator, but expected at most {TOLERANCE:g}: nothing was written."
            )
    write_atomically(path, content)


def example_inputs(pruner: FairPruner, X: Any, n_rows: int) -> Any:
    """Make inputs of the network: the first rows of X, over and over, or random ones.

    Parameters
    ----------
    pruner : FairPruner
    X : as for ``predict``, or None
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
        table = pruner._table(_first_rows(X, n_rows))
        return table.take(torch.arange(n_rows) % len(table)).X
    draws, encoder = np.random.default_rng(0), pruner.encoder_
    if encoder is not None:
        columns = [draws.uniform(edges[0], edges[-1], n_rows) for edges in encoder.edges_]
        columns += [draws.integers(n, size=n_rows) for n in encoder.n_categories_]
        return torch.from_numpy(np.column_stack(columns).astype(np.float32))
    network = pruner.network_
    try:
        size = (n_rows, pruner.n_features_in_)
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
    """First rows of whatever ``predict`` takes."""
    if isinstance(X, Mapping):
        return {name: values[:n_rows] for name, values in X.items()}
    return _safe_indexing(X, list(range(min(n_rows, len(X)))))


def _traced(pruner: FairPruner, module: nn.Module, inputs: Any) -> ExportedProgram:
    rows = {0: Dim("n")}
    dynamic = dict.fromkeys(inputs, rows) if isinstance(inputs, dict) else rows
    with _quiet(pruner):
        return torch.export.export(
            module.eval(), (inputs,), dynamic_shapes=(dynamic,), strict=False
        )


@contextmanager
def _quiet(pruner: FairPruner) -> Iterator[None]:
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
            f"Got {type(pruner.network_).__name__}, which torch cannot export: {error}"
        ) from error
    finally:
        logger.setLevel(level)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"to_onnx needs {name}: pip install fairprune_sk[onnx]") from error
