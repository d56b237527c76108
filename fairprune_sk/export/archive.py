"""Files of data: JSON that keeps the type of each value, and tensors; nothing in them is run.

A file is a zip of three members: ``fairprune_sk.json`` with the format's version and the checksums
of the other two, ``state.json`` and ``tensors.safetensors``. The checksums show damage and careless
edits; they are no signature.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.reductions import Moment
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from fairprune_sk.fairness.constraints import CONSTRAINTS
from fairprune_sk.fairness.requirement import MOMENTS
from fairprune_sk.masks.granularity import GRANULARITIES
from fairprune_sk.solvers import SOLVERS, Enforcement

VERSION = 2
"""Of the format: files of another one are refused."""

MAX_BYTES = 2**32
"""No member of a file is larger: a small file cannot fill the memory."""

_MANIFEST, _STATE, _TENSORS = "fairprune_sk.json", "state.json", "tensors.safetensors"

_CLASSES: dict[str, type] = {
    Enforcement.__name__: Enforcement,
    **{c.__name__: c for names in (CONSTRAINTS, SOLVERS) for c in names.values()},
    **{type(granularity).__name__: type(granularity) for granularity in GRANULARITIES.values()},
    **{f"fairlearn.{c.__name__}": c for c in MOMENTS.values()},
}
"""Every class that a file may name."""

_SCALARS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "float": (float, repr, float),  # those that JSON has not: infinities and NaN
    "timestamp": (pd.Timestamp, pd.Timestamp.isoformat, pd.Timestamp),
    "timedelta": (pd.Timedelta, pd.Timedelta.isoformat, pd.Timedelta),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
}


def as_json(value: Any, tensors: dict[str, Tensor], where: str = "") -> Any:
    """Turn data into JSON; what JSON has not becomes a dict with the name of its type.

    Parameters
    ----------
    value : Any
    tensors : dict of Tensor
        Where tensors go, which are stored elsewhere.
    where : str
        What the message calls the value.

    Returns
    -------
    None, bool, int, float, str, list or dict

    Raises
    ------
    ValueError
        If there is something that is no data.
    """

    def each(values: Any) -> list[Any]:
        return [as_json(v, tensors, where) for v in values]

    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and np.isfinite(value)):
        return value
    if kind is list:
        return each(value)
    if kind is tuple:
        return {"tuple": each(value)}
    if kind is dict:
        return {"dict": [[*each([k]), as_json(v, tensors, str(k))] for k, v in value.items()]}
    if isinstance(value, Tensor):
        key = f"state/{len(tensors)}"
        tensors[key] = value.detach().cpu().clone().contiguous()
        return {"tensor": key}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufUO":
        return {"array": [value.dtype.str, list(value.shape), each(value.ravel().tolist())]}
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return {"scalar": [value.dtype.str, *each([value.item()])]}
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, pd.DataFrame):
        return {"frame": each([value.to_numpy(), list(value.index), list(value.columns)])}
    if kind is pd.Interval:
        return {"interval": each([value.left, value.right, value.closed])}
    for tag, (scalar, write, _) in _SCALARS.items():
        if kind is scalar:
            return {tag: write(value)}
    name = f"fairlearn.{kind.__name__}" if isinstance(value, Moment) else kind.__name__
    if _CLASSES.get(name) is kind:
        return {"object": [name, as_json(_arguments(value), tensors, where)]}
    raise ValueError(
        f"Got {where}={value!r}, which a file without code cannot hold: expected numbers, strings "
        "and other data, or an object of this package's own classes."
    )


def _arguments(value: Any) -> dict[str, Any]:
    """Arguments that make an object again."""
    if not isinstance(value, Moment):
        return dict(vars(value))
    if value.ratio == 1.0:
        return {"difference_bound": value.eps}
    return {"ratio_bound": value.ratio, "ratio_bound_slack": value.eps}


def from_json(data: Any, tensors: dict[str, Tensor]) -> Any:
    """Read what :func:`as_json` wrote.

    Parameters
    ----------
    data : None, bool, int, float, str, list or dict
    tensors : dict of Tensor

    Returns
    -------
    Any
        The value, of the same type.
    """
    if isinstance(data, list):
        return [from_json(value, tensors) for value in data]
    if not isinstance(data, dict):
        return data
    ((tag, content),) = data.items()
    if tag in _SCALARS:
        return _SCALARS[tag][2](content)
    content = from_json(content, tensors)
    match tag, content:
        case "tuple", values:
            return tuple(values)
        case "dict", items:
            return dict(items)
        case "tensor", key:
            return tensors[key].clone()
        case "array", [dtype, shape, values]:
            return np.fromiter(values, np.dtype(dtype), len(values)).reshape(shape)
        case "scalar", [dtype, value]:
            return np.dtype(dtype).type(value)
        case "dtype", name:
            return np.dtype(name)
        case "frame", [values, index, columns]:
            return pd.DataFrame(values, index=index, columns=columns)
        case "interval", [left, right, closed]:
            return pd.Interval(left, right, closed)
        case "object", [name, arguments]:
            return _CLASSES[name](**arguments)
    raise ValueError(f"no data is called {tag!r}")


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole or not at all: beside it first, then in its place."""
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def network_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each with memory of its own on the CPU."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named}


def compressed(members: Mapping[str, bytes]) -> bytes:
    """Zip of the members; the same ones give the same bytes. Zeros among weights shrink."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def write_file(path: str | os.PathLike[str], data: Any, tensors: dict[str, Tensor]) -> None:
    """Write JSON and tensors, with their checksums.

    Raises
    ------
    ValueError
        If either has more than ``MAX_BYTES``.
    """
    members = {
        _STATE: json.dumps(data, allow_nan=False).encode(),
        _TENSORS: tensors_to_bytes(tensors),
    }
    if max(map(len, members.values())) > MAX_BYTES:
        raise ValueError(f"Got a network of more than {MAX_BYTES} bytes, the most that is read.")
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    manifest = json.dumps({"version": VERSION, "sha256": digests}).encode()
    write_atomically(path, compressed({_MANIFEST: manifest, **members}))


def read_file(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Tensor]]:
    """Read JSON and tensors, after every check that a file allows.

    Raises
    ------
    ValueError
        If the file is truncated, was changed, is foreign, or comes from a later version.
    """
    content = Path(path).read_bytes()
    ours = content[30 : 30 + len(_MANIFEST)] == _MANIFEST.encode()  # a zip names members there
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        manifest = json.loads(_member(archive, _MANIFEST))
        version, digests = int(manifest["version"]), manifest["sha256"]
    except Exception as error:
        what = "is truncated or damaged" if ours else "was not written by fairprune_sk"
        raise ValueError(f"Got {path}, which {what} ({len(content)} bytes).") from error
    if version != VERSION:
        age = "a newer" if version > VERSION else "an older"
        raise ValueError(
            f"Got {path} of format version {version}, but expected {VERSION}: it was written by "
            f"{age} fairprune_sk."
        )
    try:
        members = [_member(archive, name) for name in (_STATE, _TENSORS)]
        found = [hashlib.sha256(member).hexdigest() for member in members]
        if found != [digests[name] for name in (_STATE, _TENSORS)]:
            raise ValueError("a checksum does not match")
        return json.loads(members[0]), tensors_from_bytes(members[1])
    except Exception as error:
        raise ValueError(
            f"Got {path}, which was changed or damaged after it was saved: {error}."
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_BYTES:
        raise ValueError(f"{name} has more than {MAX_BYTES} bytes")
    return archive.read(name)
