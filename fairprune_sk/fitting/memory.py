"""What a memory of dense networks is asked by, and what it hands back."""

from __future__ import annotations

import hashlib
import pickle
import platform
import sys
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from joblib.hashing import NumpyHasher
from torch import nn

# Of a module: what is in its state, and its layers, which have names of their own.
_REGISTRIES = ("_parameters", "_buffers", "_modules")

_METHODS = (FunctionType, staticmethod, classmethod, property)
_CACHED = type(lru_cache(len))

# Of code: all but where it was written.
_OF_CODE = (
    "co_code",
    "co_consts",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_flags",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_exceptiontable",
)


class Sealed:
    """A value that cannot be unpickled once a bit of it has changed.

    What joblib cannot load it takes for lost: it says so, and computes the value anew.

    Parameters
    ----------
    value : Any
    """

    def __init__(self, value: Any):
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        content = pickle.dumps(self.value)
        return _unsealed, (content, hashlib.sha256(content).digest())


def _unsealed(content: bytes, checksum: bytes) -> Sealed:
    if hashlib.sha256(content).digest() != checksum:
        raise ValueError("the checksum of a remembered value does not match: it was damaged")
    return Sealed(pickle.loads(content))


def digest_of(layer: nn.Module) -> str:
    """Digest of what a layer is beside its parameters and buffers: settings, and code.

    Code is the bytecode of the layer's class, of its bases, and of all functions and classes that
    are reached from there as attributes, defaults, closures, or by the names of globals in the
    code, with the values of such globals. Installed packages stand for their code with their
    version.

    It cannot see what is imported within a function, what is looked up under a computed name,
    what a package is changed to without a new version, what compiled extensions do, and what lies
    outside Python, such as files and environment variables.

    Parameters
    ----------
    layer : nn.Module

    Returns
    -------
    str

    Raises
    ------
    Exception
        If the layer or something that its code reaches cannot be pickled.
    """
    own = {name: value for name, value in vars(layer).items() if name not in _REGISTRIES}
    pickle.dumps((type(layer), own))  # what has a digest must be found again by its name as well
    return _CodeHasher().hash((type(layer), own))


def code_hash(value: Any) -> str:
    """Digest of data and of objects with their code, seen as :func:`digest_of` sees it.

    Raises
    ------
    Exception
        If something cannot be pickled.
    """
    return _CodeHasher().hash(value)


class _CodeHasher(NumpyHasher):
    """joblib's hash, which sees the code of functions and classes, not only their names."""

    def __init__(self) -> None:
        super().__init__()
        self._met: dict[int, tuple[int, Any]] = {}

    def save(self, obj: Any) -> None:
        super().save(self._content(obj))

    def _content(self, value: Any) -> Any:
        """Put data and other values in the place of code."""
        match value:
            case frozenset():
                return set(value)  # which joblib puts in order
            case staticmethod() | classmethod():
                return type(value).__name__, value.__func__
            case property():
                return value.fget, value.fset, value.fdel
            case MethodType():
                return value.__func__, value.__self__
            case CodeType():
                return [getattr(value, name) for name in _OF_CODE]
            case ModuleType():
                return value.__name__, _version(value.__name__)
            case FunctionType() | type():
                pass
            case _:
                return ("cached", value.__wrapped__) if isinstance(value, _CACHED) else value
        if id(value) in self._met:  # functions call themselves, classes name themselves
            return "met", self._met[id(value)][0]
        self._met[id(value)] = len(self._met), value  # kept, so that no other has its id
        version = _version(value.__module__)
        name = (value.__module__, value.__qualname__, version)
        if isinstance(value, type):
            return name if version else (*name, value.__bases__, _members(value))
        # What an installed decorator returns has the user's function in its closure.
        closure = [cell.cell_contents for cell in value.__closure__ or ()]
        if version:
            return *name, closure
        code = value.__code__
        reached = list(_reached(set(_names(code)), value.__globals__))
        defaults = (value.__defaults__, value.__kwdefaults__)
        return *name, closure, code, defaults, vars(value), reached


def _members(kind: type) -> list[tuple[str, Any]]:
    """Methods and other attributes of a class, without what Python adds."""
    return [
        (name, member)
        for name, member in sorted(vars(kind).items())
        if isinstance(member, _METHODS) or not (name.startswith("__") or name == "_abc_impl")
    ]


def _names(code: CodeType) -> Iterator[str]:
    """Names in a function's code, and in that of functions within it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _reached(names: set[str], scope: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values of names in a scope, and in modules of the user's own that are among them."""
    for name in sorted(names & scope.keys()):
        value = scope[name]
        yield name, value
        if isinstance(value, ModuleType) and not _version(value.__name__):
            yield from _reached(names - {name}, vars(value))


@cache
def _version(module: str | None) -> str | None:
    """Version of the installed package that a module belongs to; None for code that may change."""
    top = str(module).partition(".")[0]
    if top in sys.stdlib_module_names:
        return platform.python_version()
    package = sys.modules.get(top)
    path = Path(getattr(package, "__file__", None) or "")
    if {"site-packages", "dist-packages"}.isdisjoint(path.parts):
        return None
    version = getattr(package, "__version__", None)
    return None if version is None else str(version)
