"""Attack files of fitted estimators: change them, with checksums that fit, and load them.

A checksum shows damage; whoever changes a file on purpose writes another one. Whatever a file
holds, `fairprune_sk.load` must give an estimator that predicts, or a ValueError that names it.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from attack_rules import BrokenRuleError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from fairprune_sk import FairPruner, load
from fairprune_sk.datasets import make_biased_classification

FOLDER = tempfile.TemporaryDirectory()

MANIFEST, STATE, TENSORS = "fairprune_sk.json", "state.json", "tensors.safetensors"

# What takes the place of a value: numbers that are too large, too small or none, other types.
STRANGERS = [
    None,
    True,
    -1,
    0,
    3,
    10**9,
    0.5,
    -1e300,
    "",
    "text",
    [],
    {},
    {"float": "nan"},
    {"float": "inf"},
    {"tuple": [1, 2]},
    {"dict": []},
    {"array": ["<f8", [2], [0.0, 1.0]]},
    {"array": ["<U100000000", [2], ["a", "b"]]},
    {"tensor": "state/0"},
    {"object": ["BilevelSolver", {"dict": []}]},
]

GOOD = ("refused by name", "predicts as before", "predicts otherwise", "is for another table")
"""What may come of a file; everything else is a fault."""

# Errors of an estimator whose file says that it was fitted on other columns.
OF_ANOTHER_TABLE = ("X has ", "The feature names should match", "Got column ")


@dataclass
class Contents:
    """What a file holds, to be changed."""

    manifest: dict[str, Any]
    state: Any
    tensors: dict[str, torch.Tensor]

    @classmethod
    def of(cls, content: bytes) -> Contents:
        """Take a file apart."""
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            manifest, state = (json.loads(archive.read(name)) for name in (MANIFEST, STATE))
            return cls(manifest, state, tensors_from_bytes(archive.read(TENSORS)))

    def file(self) -> bytes:
        """Put it together again, with checksums that fit."""
        state = json.dumps(self.state).encode()
        members = {STATE: state, TENSORS: tensors_to_bytes(self.tensors)}
        digests = {name: hashlib.sha256(member).hexdigest() for name, member in members.items()}
        if "sha256" in self.manifest:
            self.manifest["sha256"] = digests
        members = {MANIFEST: json.dumps(self.manifest).encode(), **members}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member)
        return buffer.getvalue()


def random_place(value: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return a list or dict within a value, and a place in it: shallow ones are more likely."""
    place = (None, None)
    while isinstance(value, list | dict) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        place = (value, keys[rng.integers(len(keys))])
        value = value[place[1]]
        if rng.random() < 0.1:
            break
    return place


def replace(contents: Contents, rng: np.random.Generator) -> None:
    """Put a stranger in the place of a value."""
    parent, key = random_place(contents.state, rng)
    parent[key] = copy.deepcopy(STRANGERS[rng.integers(len(STRANGERS))])


def remove(contents: Contents, rng: np.random.Generator) -> None:
    """Take a value out."""
    parent, key = random_place(contents.state, rng)
    del parent[key]


def double(contents: Contents, rng: np.random.Generator) -> None:
    """Repeat a value."""
    parent, key = random_place(contents.state, rng)
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))


def swap(contents: Contents, rng: np.random.Generator) -> None:
    """Exchange two values."""
    (one, i), (other, j) = (random_place(contents.state, rng) for _ in range(2))
    one[i], other[j] = copy.deepcopy(other[j]), copy.deepcopy(one[i])


def nudge(contents: Contents, rng: np.random.Generator) -> None:
    """Change a number or a word a little."""
    for _ in range(100):
        parent, key = random_place(contents.state, rng)
        value = parent[key]
        if isinstance(value, str):
            parent[key] = value[:-1] if rng.random() < 0.5 else value + "x"
        elif isinstance(value, int | float):
            parent[key] = -value if rng.random() < 0.3 else value * 2 + 1
        else:
            continue
        return


def change_tensor(contents: Contents, rng: np.random.Generator) -> None:
    """Change the shape, the type or the values of a tensor, or take it away."""
    names = sorted(contents.tensors)
    name = names[rng.integers(len(names))]
    tensor = contents.tensors.pop(name)
    changes: list[Callable[[], torch.Tensor | None]] = [
        lambda: None,
        lambda: tensor[:-1],
        lambda: torch.cat([tensor, tensor]) if tensor.ndim else tensor[None],
        lambda: tensor.T if tensor.ndim == 2 else tensor[None],
        lambda: tensor.to(torch.int64 if tensor.is_floating_point() else torch.float32),
        lambda: torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else ~tensor,
        lambda: tensor * 1e30 if tensor.is_floating_point() else tensor * 0,
        lambda: contents.tensors[names[rng.integers(len(names))]],
    ]
    try:
        changed = changes[rng.integers(len(changes))]()
    except (IndexError, KeyError, RuntimeError):  # nothing to take from
        changed = None
    if changed is not None:
        contents.tensors[name] = changed.clone().contiguous()


def change_manifest(contents: Contents, rng: np.random.Generator) -> None:
    """Change the version, or take something out."""
    versions = [0, -5, 1.9, 2.9, 10**30, "2", True, None, [2], {}]
    if rng.random() < 0.8:
        contents.manifest["version"] = versions[rng.integers(len(versions))]
    else:
        contents.manifest.pop(["version", "sha256"][rng.integers(2)])


CHANGES = (replace, replace, replace, remove, double, swap, nudge, nudge, change_tensor)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Change a file once or twice, with checksums that fit.

    Parameters
    ----------
    content : bytes
        Of a file that an estimator was saved to.
    rng : Generator

    Returns
    -------
    bytes
    """
    contents = Contents.of(content)
    for _ in range(rng.integers(1, 3)):
        change = change_manifest if rng.random() < 0.05 else CHANGES[rng.integers(len(CHANGES))]
        try:
            change(contents, rng)
        except TypeError:  # two changes, the first of which left nothing for the second
            pass
    return contents.file()


@dataclass
class Saved:
    """A file of an estimator, and what it is to predict.

    Attributes
    ----------
    content : bytes
    modules : nn.Module or None
        As `load` takes it.
    X : DataFrame or ndarray of shape (n, n_features)
    expected : ndarray of shape (n, n_classes)
        Probabilities for X.
    """

    content: bytes
    modules: Any
    X: Any
    expected: np.ndarray


def outcome(path: Path, saved: Saved) -> str:
    """Load a file and predict with it.

    Parameters
    ----------
    path : path
        Of a changed file.
    saved : Saved
        What it was.

    Returns
    -------
    str
        One of :data:`GOOD`, or a fault.
    """
    try:
        loaded = load(path, modules=saved.modules)
    except Exception as error:
        if not isinstance(error, ValueError):
            return f"{type(error).__name__} while loading"
        return "refused by name" if str(path) in str(error) else "an error without the file's name"
    try:
        probabilities = loaded.predict_proba(saved.X)
        loaded.predict(saved.X), loaded.predict_dense(saved.X), loaded.transform(saved.X)
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith(OF_ANOTHER_TABLE):
            return "is for another table"
        return f"loads, but cannot predict: {type(error).__name__}: {str(error)[:60]}"
    same = np.array_equal(probabilities, saved.expected)
    return f"predicts {'as before' if same else 'otherwise'}"


def fit_and_save(own: bool, path: Path) -> Saved:
    """Fit an estimator on a small table, with a network of the user's or not, and save it."""
    X, y, s = make_biased_classification(200, random_state=0)
    X = X.assign(since=pd.Timestamp(2020, 1, 1) + pd.to_timedelta(np.arange(200) % 90, unit="D"))
    estimator = None
    if own:
        X = X.select_dtypes("number").fillna(0.0).to_numpy()
        torch.manual_seed(0)
        estimator = nn.Sequential(nn.Linear(X.shape[1], 16), nn.ReLU(), nn.Linear(16, 1))
    pruner = FairPruner(
        estimator, tolerance=1.0, max_epochs=2, granularity="neuron", random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs are not meant to be good
        pruner.fit(X, y, sensitive_features=s["sex"])
    pruner.save(path)
    return Saved(path.read_bytes(), estimator, X[:20], pruner.predict_proba(X[:20]))


@cache
def saved_file(own: bool) -> Saved:
    """Fit and save once, for all cases."""
    return fit_and_save(own, Path(FOLDER.name) / "a.fairprune")


def case(rng: np.random.Generator) -> str:
    """Change a file, of the default network or of one of the user's, and say what comes of it.

    Raises
    ------
    BrokenRuleError
        If that is not in :data:`GOOD`.
    """
    saved, path = saved_file(bool(rng.integers(4) == 0)), Path(FOLDER.name) / "b.fairprune"
    path.write_bytes(mutated(saved.content, rng))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        what = outcome(path, saved)
    if what not in GOOD:
        raise BrokenRuleError(what)
    return what
