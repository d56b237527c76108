"""Export of pruned networks: ONNX with the table's own columns as inputs, and torch.export."""

from __future__ import annotations

import copy
import importlib
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fairprune_sk.outputs import class_logits, device_of, evaluating, forward
from fairprune_sk.persistence import PortableEncoder, write_atomically
from fairprune_sk.pruner import FairPruner

TOLERANCE = 1e-5
"""Largest difference of a probability to that of the estimator."""

_ROWS_CHECKED = 64
_DTYPES: dict[type, Any] = {str: object, int: np.int64, float: np.float64}
_LARGEST = 2**62  # integers beyond it stand for "missing" and "unknown"


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
    :func:`onnx_inputs` makes the inputs from a table.

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
    >>> from fairprune_sk.export import onnx_inputs, to_onnx
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
    columns = [] if pruner.encoder_ is None else _columns(pruner)
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
    model = _assembled(onnx, pruner, columns, network.model_proto)
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


def onnx_inputs(pruner: FairPruner, X: Any) -> dict[str, np.ndarray]:
    """Make the inputs of the exported model from the rows of a table.

    Parameters
    ----------
    pruner : FairPruner
        Fitted.
    X : as for ``predict``

    Returns
    -------
    dict of ndarray
        By the name of the input.
    """
    check_is_fitted(pruner)
    X = pruner._check_X(X, reset=False)
    if pruner.encoder_ is None:
        return dict(X) if isinstance(X, Mapping) else {"X": np.asarray(X)}
    numbers, categories = (iter(part.T) for part in pruner.encoder_._split(pd.DataFrame(X)))
    return {
        column.name: column.tokens(next(categories if column.keys is not None else numbers))
        for column in _columns(pruner)
    }


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
        return table.rows(torch.arange(n_rows) % len(table))[0]
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


@dataclass(frozen=True)
class _Column:
    """A column of the table as an input of the model."""

    name: str
    kind: type = float
    missing: Any = np.nan
    unknown: Any = None
    keys: dict[Any, Any] | None = None  # by category; None for a column of numbers
    codes: dict[Any, float] | None = None  # by key

    def tokens(self, values: np.ndarray) -> np.ndarray:
        """Values as the model reads them, shape (n, 1)."""
        if self.keys is None:
            return values.reshape(-1, 1)
        keys, taken = {**self.keys, None: self.missing}, {*self.keys.values(), self.missing}

        def token(value: Any) -> Any:
            if value in keys:
                return keys[value]
            # An unknown category goes in as it is, unless it would be taken for a known one.
            fits = isinstance(value, self.kind) and value not in taken
            return value if fits and (self.kind is str or abs(value) < _LARGEST) else self.unknown

        return np.array(list(map(token, values)), dtype=_DTYPES[self.kind]).reshape(-1, 1)


def _columns(pruner: FairPruner) -> list[_Column]:
    """Columns of the table in their order."""
    encoder = PortableEncoder.of(pruner.encoder_)
    names = getattr(pruner, "feature_names_in_", [f"x{i}" for i in range(pruner.n_features_in_)])
    taken, codes, columns = {"probabilities", "label"}, iter(encoder.codes_), []
    for name, is_category in zip(names, encoder._categorical, strict=True):
        while name in taken:
            name += "_"
        taken.add(name)
        columns.append(_category(name, next(codes)) if is_category else _Column(name))
    return columns


def _category(name: str, codes: dict[Any, float]) -> _Column:
    """Input for categories: integers, or else what ``str`` makes of them."""
    known = [value for value in codes if value is not None]
    if known and all(isinstance(v, Integral | np.bool_) and abs(int(v)) < _LARGEST for v in known):
        kind, missing, unknown = int, -(2**63), 1 - 2**63
    else:
        kind, missing, unknown = str, "", "<unknown>"
    keys = {value: kind(value) for value in known}
    if len(set(keys.values())) < len(known):
        raise ValueError(
            f"Got column {name!r} with categories that are equal as strings, but ONNX has only "
            "strings and numbers: make them strings that differ."
        )
    while missing in keys.values():
        missing = f"{missing}<missing>"
    while unknown in keys.values():
        unknown = f"{unknown}<unknown>"
    tokens = {**keys, None: missing}
    return _Column(
        name, kind, missing, unknown, keys, {tokens[v]: code for v, code in codes.items()}
    )


def _assembled(onnx: Any, pruner: FairPruner, columns: list[_Column], network: Any) -> Any:
    """Put the encoding of the table before a network, and the labels behind it."""
    make, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    double, single = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT
    prefix = "network/"
    while any(column.name.startswith(prefix) for column in columns):
        prefix = f"_{prefix}"
    model = onnx.compose.add_prefix(network, prefix, rename_inputs=bool(columns))
    graph, constants, nodes = model.graph, [], []

    def constant(name: str, array: Any) -> str:
        constants.append(to_tensor(np.asarray(array), f"{prefix}encoder/{name}"))
        return constants[-1].name

    def node(operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{prefix}encoder/{operator}_{len(nodes)}"
        nodes.append(make.make_node(operator, inputs, [output], output, **attributes))
        return output

    if columns:
        encoder, parts = PortableEncoder.of(pruner.encoder_), []
        numbers = [column.name for column in columns if column.keys is None]
        if numbers:
            x = node("Concat", numbers, axis=1)
            missing = node("IsNaN", [x])
            x = node("Where", [missing, constant("median", encoder.median_), x])
            if len(encoder.indicated_):
                flags = node("Gather", [missing, constant("flagged", encoder.indicated_)], axis=1)
                x = node("Concat", [x, node("Cast", [flags], to=double)], axis=1)
            x = node("Sub", [x, constant("center", encoder.center_)])
            x = node("Div", [x, constant("scale", encoder.scale_)])
            x = node("Max", [x, constant("low", encoder.low_.astype(np.float64))])
            x = node("Min", [x, constant("high", encoder.high_.astype(np.float64))])
            parts.append(node("Cast", [x], to=single))
        for column in columns:
            if column.keys is not None:
                table = {
                    "keys_tensor": np.array(list(column.codes), dtype=_DTYPES[column.kind]),
                    "values_tensor": np.array(list(column.codes.values()), dtype=np.float32),
                    "default_tensor": np.array([-1.0], dtype=np.float32),
                }
                table = {name: to_tensor(array) for name, array in table.items()}
                parts.append(node("LabelEncoder", [column.name], domain="ai.onnx.ml", **table))
        node("Concat", parts, graph.input[0].name, axis=1)
        kinds = {str: onnx.TensorProto.STRING, int: onnx.TensorProto.INT64, float: double}
        del graph.input[:]
        graph.input.extend(
            make.make_tensor_value_info(column.name, kinds[column.kind], ["n", 1])
            for column in columns
        )
        model.opset_import.append(make.make_opsetid("ai.onnx.ml", 4))
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    del graph.value_info[:]  # where the dimension has another name
    classes = to_tensor(_plain_classes(pruner.classes_), f"{prefix}classes")
    for item in graph.node:
        del item.metadata_props[:]  # paths on this machine
    nodes += graph.node
    node("Identity", [f"{prefix}probabilities"], "probabilities")
    node("Gather", [classes.name, f"{prefix}code"], "label")
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*constants, classes])
    graph.output.extend(
        [
            make.make_tensor_value_info("probabilities", single, ["n", len(pruner.classes_)]),
            make.make_tensor_value_info("label", classes.data_type, ["n"]),
        ]
    )
    missing = {column.name: column.missing for column in columns if column.keys is not None}
    make.set_model_props(model, {"missing": json.dumps(missing)} if missing else {})
    return model


def _plain_classes(classes: np.ndarray) -> np.ndarray:
    """Labels in a type that ONNX has."""
    if classes.dtype.kind == "O":
        classes = np.array(classes.tolist())
    if classes.dtype.kind not in "biufU":
        raise ValueError(f"Got classes {list(classes)}, but ONNX has only strings and numbers.")
    widest = {"b": bool, "f": np.float64, "U": object}
    return classes.astype(widest.get(classes.dtype.kind, np.int64))
