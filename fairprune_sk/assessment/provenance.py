"""Where the numbers of a report come from: what it takes to make them again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from fairprune_sk._version import __version__

PACKAGES = ("torch", "scikit-learn", "skorch", "fairlearn", "numpy", "pandas")
"""Packages whose version may change a number."""

_LONGEST = 80  # characters of a setting


@dataclass(frozen=True)
class Provenance:
    """What was measured, on which rows, with what.

    Attributes
    ----------
    model : str
        Class of the classifier.
    target : str or None
        Name of y, where it has one.
    classes : tuple of str
        Labels; of two, the one that counts as selected comes last.
    columns, columns_read : tuple of str, or None
        Names of the columns of X; those that the network reads, where it tells.
    settings : dict of str
        Parameters of the classifier.
    versions : dict of str
        Python, this package and those that it computes with.
    made : str
        Date and time, with the time zone.
    seen : bool or None
        Whether the table is that of the fit; None where the classifier does not tell.
    weighted : bool
        Whether rows have weights.
    n_without_group : int
        Rows without a sensitive feature.
    checksum : str
        Of labels, groups, strata and predictions of all rows, in their order.
    """

    model: str
    target: str | None
    classes: tuple[str, ...]
    columns: tuple[str, ...] | None
    columns_read: tuple[str, ...] | None
    settings: dict[str, str]
    versions: dict[str, str]
    made: str
    seen: bool | None
    weighted: bool
    n_without_group: int
    checksum: str


def provenance_of(
    estimator: Any, model: Any, X: Any, y: Any, labels: Iterable[Any], **found: Any
) -> Provenance:
    """Describe what was measured.

    Parameters
    ----------
    estimator, model : fitted estimator
        As passed, and the classifier in it.
    X, y : array-like
        As passed.
    labels : iterable
        Classes; of two, the one that counts as selected comes last.
    **found
        ``seen``, ``weighted``, ``n_without_group``, ``checksum``.
    """
    columns = getattr(X, "columns", getattr(estimator, "feature_names_in_", None))
    read = getattr(model, "selected_features_", None)
    if read is not None and np.issubdtype(np.asarray(read).dtype, np.integer):
        read = [f"column {i}" for i in read]
    name = getattr(y, "name", None)
    if name is None and isinstance(y, pd.DataFrame):
        name = y.columns[0]
    return Provenance(
        model=type(model).__name__,
        target=None if name in (None, "") else str(name),
        classes=tuple(map(str, labels)),
        columns=None if columns is None else tuple(map(str, columns)),
        columns_read=None if read is None else tuple(map(str, read)),
        settings=_settings(model),
        versions={"Python": platform.python_version(), "fairprune_sk": __version__}
        | {name: version(name) for name in PACKAGES},
        made=datetime.now().astimezone().isoformat(sep=" ", timespec="minutes"),
        **found,
    )


def _settings(model: Any) -> dict[str, str]:
    """Parameters in writing; an object that takes more than a line, by its class."""
    if not hasattr(model, "get_params"):
        return {}
    written = {name: (repr(value), value) for name, value in model.get_params(deep=False).items()}
    return {
        name: text
        if len(text) <= _LONGEST and "\n" not in text
        else f"{getattr(value, '__name__', type(value).__name__)} ..."
        for name, (text, value) in written.items()
    }


def checksum(*columns: np.ndarray | None) -> str:
    """Digest of some columns of codes; what is None counts as absent."""
    digest = hashlib.sha256()
    for column in columns:
        digest.update(b"-" if column is None else column.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
