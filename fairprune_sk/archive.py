"""Files of data: JSON that keeps the type of each value, and tensors; nothing in them is run.

A file is a zip of three members: ``fairprune_sk.json`` with the format's version and the checksums
of the other two, ``state.json`` and ``tensors.safetensors``. The checksums show damage and careless
edits; they are no signature.
"""

from __future__ import annotations

import datetime
import glob
import hashlib
import io
import json
import os
import secrets
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

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

if sys.platform != "win32":
    import fcntl

VERSION = 3
"""Of the format: files of another one are refused."""

MAX_BYTES = 2**32
"""No member of a file is larger."""

# Nor larger than this, and so many times the file, so that a small file cannot fill the memory:
# zeros, of which a deflated file holds a thousand in a byte, are few in a network.
_MIN_BYTES, _BYTES_PER_BYTE = 2**26, 64
# Values in the JSON, which takes twenty times its size once it is read: categories in a sequence,
# which shrink best, are 1.2 for each byte of the file.
_MIN_VALUES, _VALUES_PER_BYTE = 10**5, 2
_MANIFEST_BYTES = 1000

_KINDS = "biufUO"  # of numpy's types

_TEMPORARY = ".fairprune_sk"  # ends the names of files that are being written

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
    if kind is set:
        return {"set": each(sorted(value, key=repr))}
    if kind is dict:
        return {"dict": [[*each([k]), as_json(v, tensors, str(k))] for k, v in value.items()]}
    if isinstance(value, Tensor):
        key = f"state/{len(tensors)}"
        tensors[key] = value.detach().cpu().clone().contiguous()
        return {"tensor": key}
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        if value.dtype.kind == "U":
            value = value.astype(f"<U{_longest(value.ravel())}")
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
        case "set", values:
            return set(values)
        case "dict", items:
            return dict(items)
        case "tensor", key:
            return tensors.pop(key)  # each is named once, and held once
        case "array", [dtype, shape, values]:
            return _array(np.dtype(dtype), shape, values)
        case "scalar", [dtype, value]:
            return np.dtype(dtype).type(value)
        case "dtype", name:
            return np.dtype(name)
        case "frame", [np.ndarray() as values, index, columns]:  # a number would fill any shape
            return pd.DataFrame(values, index=index, columns=columns)
        case "interval", [left, right, closed]:
            return pd.Interval(left, right, closed)
        case "object", [name, arguments]:
            return _CLASSES[name](**arguments)
    raise ValueError(f"no data is called {tag!r}")


def _array(dtype: np.dtype, shape: list[int], values: list[Any]) -> np.ndarray:
    if dtype.kind not in _KINDS:
        raise ValueError(f"no array is of type {dtype}")
    if dtype.kind == "U" and dtype != f"<U{_longest(values)}":
        raise ValueError(f"an array of type {dtype} holds no text of that length")
    return np.fromiter(values, dtype, len(values)).reshape(shape)


def _longest(texts: Iterable[str]) -> int:
    """Characters of the longest text; numpy knows no type of 0."""
    return max(map(len, texts), default=0) or 1


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as a whole or not at all: beside it first, then in its place.

    What writers that were killed have left beside it is removed.
    """
    target = Path(path).resolve()
    _remove_orphans(target)
    temporary, file = _opened_beside(target)
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()  # or it cannot be renamed; elsewhere it stays locked until it is
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _opened_beside(target: Path) -> tuple[Path, IO[bytes]]:
    """Open a new file beside another, locked for as long as its writer lives."""
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}{_TEMPORARY}")
        file = open(path, "xb")
        _lock(file)
        if path.exists():  # nobody took it for an orphan before it was locked
            return path, file
        file.close()


def _remove_orphans(target: Path) -> None:
    """Remove what writers have left: the lock of one that was killed went with it."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.????????{_TEMPORARY}"):
        with suppress(OSError), open(path, "r+b") as file:
            _lock(file, wait=False)  # an error while its writer lives
            path.unlink()


def _lock(file: IO[bytes], wait: bool = True) -> None:
    if sys.platform != "win32":  # where an open file cannot be removed anyway
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def network_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each with memory of its own on the CPU."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in named}


def compressed(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Zip of the members; the same ones give the same bytes. Zeros among weights shrink."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def write_file(
    path: str | os.PathLike[str],
    data: Any,
    tensors: dict[str, Tensor],
    compression: int = zipfile.ZIP_DEFLATED,
) -> None:
    """Write JSON and tensors, with their checksums.

    Parameters
    ----------
    path : str or path
    data : None, bool, int, float, str, list or dict
    tensors : dict of Tensor
    compression : int
        As the module zipfile names it: ``ZIP_STORED`` is fast, where a file is not to last.

    Raises
    ------
    ValueError
        If either has more bytes than are read.
    """
    members = {
        _STATE: json.dumps(data, allow_nan=False).encode(),
        _TENSORS: tensors_to_bytes(tensors),
    }
    digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
    manifest = json.dumps({"version": VERSION, "sha256": digests}).encode()
    content = compressed({_MANIFEST: manifest, **members}, compression)
    most = _most_bytes(content)
    if max(map(len, members.values())) > most or _too_many_values(members[_STATE], content):
        raise ValueError(
            f"Got a network whose {_STATE} or {_TENSORS} has more than {most} bytes, the most "
            f"that is read from a file of {len(content)}."
        )
    write_atomically(path, content)


def read_file(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Tensor]]:
    """Read JSON and tensors, after every check that a file allows.

    Raises
    ------
    ValueError
        If the file is truncated, was changed, is foreign, comes from a later version, or holds
        more than a file of its size does. The message names the file.
    """
    content = Path(path).read_bytes()
    what = "is truncated or damaged" if is_ours(content) else "was not written by fairprune_sk"
    with naming(path, f"which {what} ({len(content)} bytes)"):
        archive = zipfile.ZipFile(io.BytesIO(content))
        manifest = json.loads(_member(archive, _MANIFEST, _MANIFEST_BYTES))
        version, digests = manifest["version"], manifest["sha256"]
    if type(version) is not int or version != VERSION:
        age = "a newer" if type(version) is int and version > VERSION else "an older"
        raise ValueError(
            f"Got {path} of format version {version}, but expected {VERSION}: it was written by "
            f"{age} fairprune_sk."
        )
    with naming(path, "which was changed or damaged after it was saved"):
        most = _most_bytes(content)
        state, tensors = (_member(archive, name, most) for name in (_STATE, _TENSORS))
        for name, member in ((_STATE, state), (_TENSORS, tensors)):
            if hashlib.sha256(member).hexdigest() != digests[name]:
                raise ValueError("a checksum does not match")
        if _too_many_values(state, content):
            raise ValueError(f"{_STATE} has more values than a file of this size holds")
        return json.loads(state.decode()), tensors_from_bytes(tensors)


def is_ours(content: bytes) -> bool:
    """Whether a file begins as those do that this module writes: a zip names members there."""
    return content[30 : 30 + len(_MANIFEST)] == _MANIFEST.encode()


@contextmanager
def naming(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn whatever a strange file leads to into a ValueError that names it and says what it is."""
    try:
        yield
    except Exception as error:
        why = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"Got {path}, {what}: {why}") from error


def _most_bytes(content: bytes) -> int:
    return min(MAX_BYTES, _MIN_BYTES + _BYTES_PER_BYTE * len(content))


def _too_many_values(state: bytes, content: bytes) -> bool:
    n_values = sum(map(state.count, (b",", b"[", b"{")))  # at most: text may hold these as well
    return n_values > _MIN_VALUES + _VALUES_PER_BYTE * len(content)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > most:
        raise ValueError(f"{name} has more than {most} bytes")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in another way than this package does")
    with archive.open(info) as member:
        return member.read(info.file_size)  # no more, whatever the size in the file's head says
