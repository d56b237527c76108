"""The ONNX graph around an exported network: from the columns of a table, to labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from fairprune_sk.fitting.fitted import Fitted

_DTYPES: dict[type, Any] = {str: object, int: np.int64, float: np.float64}
_LARGEST = 2**62  # integers beyond it stand for "missing" and "unknown"


def onnx_inputs(fitted: Fitted, X: Any) -> dict[str, np.ndarray]:
    """Make the inputs of the exported model from the rows of a table.

    Parameters
    ----------
    fitted : Fitted
    X : as for ``predict``, checked

    Returns
    -------
    dict of ndarray
        By the name of the input.
    """
    if fitted.encoder is None:
        return dict(X) if isinstance(X, Mapping) else {"X": np.asarray(X)}
    numbers, categories = (iter(part.T) for part in fitted.encoder._split(pd.DataFrame(X)))
    return {
        column.name: column.tokens(next(categories if column.keys is not None else numbers))
        for column in columns_of(fitted)
    }


@dataclass(frozen=True)
class Column:
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


def columns_of(fitted: Fitted) -> list[Column]:
    """Find the columns of the table of a default network, in their order."""
    encoder, names = fitted.encoder, fitted.feature_names
    assert encoder is not None
    if names is None:
        names = np.array([f"x{i}" for i in range(len(encoder._categorical))], dtype=object)
    taken, codes, columns = {"probabilities", "label"}, iter(encoder.codes_), []
    for name, is_category in zip(names, encoder._categorical, strict=True):
        while name in taken:
            name += "_"
        taken.add(name)
        columns.append(_category(name, next(codes)) if is_category else Column(name))
    return columns


def _category(name: str, codes: dict[Any, float]) -> Column:
    """Input for categories: integers, or else what ``str`` makes of them."""
    known = [value for value in codes if value is not None]
    kind: type
    missing: Any
    unknown: Any
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
    return Column(
        name, kind, missing, unknown, keys, {tokens[v]: code for v, code in codes.items()}
    )


def assembled(onnx: Any, fitted: Fitted, columns: list[Column], network: Any) -> Any:
    """Put the encoding of the table before a network, and the labels behind it.

    Parameters
    ----------
    onnx : module
        The package, which is no dependency.
    fitted : Fitted
    columns : list of Column
        Of the table; none where the network has inputs of its own.
    network : onnx.ModelProto
        With the outputs "probabilities" and "code".

    Returns
    -------
    onnx.ModelProto
    """
    make, to_tensor = onnx.helper, onnx.numpy_helper.from_array
    double, single = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT
    prefix = "network/"
    while any(column.name.startswith(prefix) for column in columns):
        prefix = f"_{prefix}"
    model = onnx.compose.add_prefix(network, prefix, rename_inputs=bool(columns))
    graph, constants, nodes = model.graph, list[Any](), list[Any]()

    def constant(name: str, array: Any) -> str:
        constants.append(to_tensor(np.asarray(array), f"{prefix}encoder/{name}"))
        return constants[-1].name

    def node(operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{prefix}encoder/{operator}_{len(nodes)}"
        nodes.append(make.make_node(operator, inputs, [output], output, **attributes))
        return output

    if columns:
        encoder, parts = fitted.encoder, []
        assert encoder is not None
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
            if column.codes is not None:
                arrays = {
                    "keys_tensor": np.array(list(column.codes), dtype=_DTYPES[column.kind]),
                    "values_tensor": np.array(list(column.codes.values()), dtype=np.float32),
                    "default_tensor": np.array([-1.0], dtype=np.float32),
                }
                table: dict[str, Any] = {name: to_tensor(a) for name, a in arrays.items()}
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
    classes = to_tensor(_plain_classes(fitted.classes), f"{prefix}classes")
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
            make.make_tensor_value_info("label", classes.data_type, ["n"]),
            make.make_tensor_value_info("probabilities", single, ["n", len(fitted.classes)]),
        ]
    )
    words = {column.name: column.missing for column in columns if column.keys is not None}
    make.set_model_props(model, {"missing": json.dumps(words)} if words else {})
    return model


def _plain_classes(classes: np.ndarray) -> np.ndarray:
    """Labels in a type that ONNX has."""
    if classes.dtype.kind == "O":
        classes = np.array(classes.tolist())
    if classes.dtype.kind not in "biufU":
        raise ValueError(f"Got classes {list(classes)}, but ONNX has only strings and numbers.")
    widest = {"b": bool, "f": np.float64, "U": object}
    return classes.astype(widest.get(classes.dtype.kind, np.int64))
