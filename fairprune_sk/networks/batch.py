"""Rows of a table as tensors, with what is known of each: what every step reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows, and what is known of them; what is not known is None.

    Attributes
    ----------
    X : Tensor of shape (n, ...), or dict of them
        What the network reads.
    y : Tensor of shape (n,), int64
        Class codes.
    weight : Tensor of shape (n,)
        Sample weights, with a mean of 1 over the table.
    cell : Tensor of shape (n, n_outcomes), int64
        Cells of the fairness constraint.
    group : Tensor of shape (n,), int64
        Group codes.
    chance : Tensor of shape (n, n_classes, n_strata * n_groups)
        Probability of each class in each group, where the constraint asks what may be expected.
    reference : Tensor of shape (n, n_classes, n_outcomes)
        Outcomes of the dense network, if a row were of each class, for constraints that count what
        has changed.
    place : Tensor of shape (n,), int64
        Places of the rows in a batch of which other processes have the rest.
    n_whole : int
        Rows of that batch.
    """

    X: Any
    y: Any = None
    weight: Tensor | None = None
    cell: Tensor | None = None
    group: Tensor | None = None
    chance: Tensor | None = None
    reference: Tensor | None = None
    place: Tensor | None = None
    n_whole: int | None = None

    def __len__(self) -> int:
        return n_rows(self.X)

    @property
    def share(self) -> float:
        """Part of the batch that these rows are; 1 where no other process has more of them."""
        return 1.0 if self.n_whole is None else len(self) / self.n_whole

    def take(self, index: Any) -> Batch:
        """Rows by slice, mask or positions."""
        return replace(self, X=take(self.X, index), **self._known(lambda column: column[index]))

    def to(self, device: torch.device) -> Batch:
        """Return the same rows on a device."""
        return replace(
            self, X=on_device(self.X, device), **self._known(lambda column: column.to(device))
        )

    def _known(self, change: Any) -> dict[str, Any]:
        """Change what is known of the rows, each column in the same way."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)[1:-1]}
        return {name: change(value) for name, value in columns.items() if value is not None}


def scaled_weight(weight: np.ndarray) -> np.ndarray:
    """Scale weights by a power of two, to at most 1: only ratios count, and no sum overflows.

    Parameters
    ----------
    weight : ndarray of shape (n,), float64
        Finite, not negative, and not all 0.
    """
    return np.ldexp(weight, -np.frexp(weight.max())[1])


def weight_seen(weight: np.ndarray) -> np.ndarray:
    """Weights as a network sees them, in 32 bits with a mean of 1; 0 where nothing is left."""
    seen = (weight / weight.mean()).astype(np.float32)
    return np.where(seen < np.finfo(np.float32).tiny, 0.0, seen.astype(np.float64))


def n_rows(X: Any) -> int:
    """Rows of an array, or of what a dict holds of them."""
    return len(next(iter(X.values()))) if isinstance(X, Mapping) else len(X)


def take(X: Any, index: Any) -> Any:
    """Rows of an array, or of a dict of them."""
    if isinstance(X, Mapping):
        return {name: value[index] for name, value in X.items()}
    return X[index]


def streams(X: Any) -> bool:
    """Whether X decodes its rows when they are asked for, as ``images.ImageFiles`` does."""
    return callable(getattr(X, "read", None))


def in_blocks(X: Any) -> bool:
    """Whether X is a table that is read some rows at a time, as ``parquet.ParquetTable`` is."""
    return callable(getattr(X, "blocks", None))


def fingerprint(X: Any) -> str:
    """Digest of what a network reads, to know a table again."""
    digest = hashlib.blake2b(digest_size=16)
    if streams(X) or in_blocks(X):  # which files, not what is in them
        return hashlib.blake2b(X.digest().encode(), digest_size=16).hexdigest()
    for array in X.values() if isinstance(X, Mapping) else [X]:
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def on_device(X: Any, device: torch.device) -> Any:
    """Move an array, or a dict of arrays, to a device as tensors of the same layout."""
    if streams(X):
        X = X.read()
    if isinstance(X, Mapping):
        return {name: on_device(value, device) for name, value in X.items()}
    if isinstance(X, np.ndarray):
        X = torch.from_numpy(writable(np.ascontiguousarray(X)))
    return X.to(device)


def writable(X: Any) -> Any:
    """Copy an array, or what a dict holds of them, that must not be written.

    torch shares memory with arrays, and warns of those. DataFrames give them, and memory maps.
    """
    if isinstance(X, Mapping):
        return {name: writable(value) for name, value in X.items()}
    return X if streams(X) or X.flags.writeable else X.copy()


def expected_classes(y: Tensor, chance: Tensor) -> Tensor:
    """Probability of each class; the label itself for a row in no group, of which nothing is known.

    Parameters
    ----------
    y : Tensor of shape (n,), int64
    chance : Tensor of shape (n, n_classes, n_strata * n_groups)

    Returns
    -------
    Tensor of shape (n, n_classes)
    """
    of_class = chance.sum(-1)
    known = of_class.sum(-1, keepdim=True) > 0
    return torch.where(known, of_class, F.one_hot(y, of_class.shape[1]).to(of_class))


def log_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of logits, weighted by the rows' sample weights.

    Parameters
    ----------
    logits : Tensor of shape (n,), (n, 1) or (n, n_classes)
    batch : Batch
        With y, and weights where there are any. Where the chance of each class is known, it takes
        the place of y: what is not looked at cannot be learned by heart.
    """
    y, weight = batch.y, batch.weight
    if not len(y):
        return logits.sum()  # a process without a row of the batch: 0, with a derivative
    if batch.chance is not None:
        y = expected_classes(batch.y, batch.chance)
        y = y[:, 1] if logits.ndim == 1 or logits.shape[1] == 1 else y
    if logits.ndim == 1 or logits.shape[1] == 1:
        y = y.to(logits.dtype).view_as(logits)
        weight = weight if weight is None else weight.view_as(logits)
        return F.binary_cross_entropy_with_logits(logits, y, weight=weight)
    if weight is None:
        return F.cross_entropy(logits, y)
    return (F.cross_entropy(logits, y, reduction="none") * weight).mean()
