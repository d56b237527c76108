"""Groups: from the sensitive features that a user passes to group codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd


def sensitive_frame(sensitive_features: Any, n_rows: int) -> pd.DataFrame:
    """Sensitive features as a DataFrame with one column for each feature.

    Parameters
    ----------
    sensitive_features : Series, DataFrame, ndarray, list or dict of arrays
        One value (or one row of values) for each row of X. Several columns stand for their
        intersections.
    n_rows : int
        Number of rows of X.

    Returns
    -------
    DataFrame of shape (n_rows, n_sensitive_features)
        With string column names and a plain index.

    Raises
    ------
    ValueError
        If the shape does not fit, or a value is missing.
    """
    if isinstance(sensitive_features, pd.DataFrame):
        frame = sensitive_features.reset_index(drop=True)
    elif isinstance(sensitive_features, pd.Series):
        name = sensitive_features.name
        frame = sensitive_features.reset_index(drop=True).to_frame(
            "sensitive_feature" if name is None else name
        )
    elif isinstance(sensitive_features, Mapping):
        frame = pd.DataFrame({k: np.asarray(v) for k, v in sensitive_features.items()})
    else:
        array = (
            sensitive_features
            if hasattr(sensitive_features, "__array__")
            # An object array: numpy would turn a list such as [1, "a"] into strings.
            else np.array(list(sensitive_features), dtype=object)
        )
        array = np.asarray(array)
        if array.ndim not in (1, 2):
            raise ValueError(
                f"Got sensitive_features with {array.ndim} dimensions, but expected one column "
                "(n,) or several columns (n, k)."
            )
        frame = pd.DataFrame(array).infer_objects()
        frame.columns = (
            ["sensitive_feature"]
            if frame.shape[1] == 1
            else [f"sensitive_feature_{i}" for i in range(frame.shape[1])]
        )
    frame.columns = [str(name) for name in frame.columns]
    if frame.shape[1] == 0:
        raise ValueError("Got sensitive_features without a column, but expected at least one.")
    if len(frame) != n_rows:
        raise ValueError(
            f"Got sensitive_features with {len(frame)} rows, but X has {n_rows} rows: "
            "they must describe the same rows."
        )
    missing = frame.isna().any(axis=1)
    if missing.any():
        raise ValueError(
            f"Got sensitive_features with missing values in {int(missing.sum())} rows (the first "
            f"is row {int(missing.to_numpy().argmax())}), but every row needs a group: drop "
            "these rows, or fill them with a value of their own, such as 'unknown'."
        )
    return frame


def group_codes(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Code the rows of a frame by the distinct combinations of their values.

    Parameters
    ----------
    frame : DataFrame of shape (n, k)

    Returns
    -------
    codes : ndarray of shape (n,), int64
    groups : ndarray of shape (n_groups,), object
        The value of each group, or a tuple of values where there are several columns; sorted,
        and only those that occur.
    """
    # Values that compare equal but differ in type (1 and "1") stay different groups; categories
    # that do not occur are no groups.
    plain = frame.astype(object)
    ngroup = plain.groupby(list(plain.columns), sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(ngroup, return_index=True)
    values = [
        row[0] if len(row) == 1 else row
        for row in plain.iloc[first].itertuples(index=False, name=None)
    ]
    try:
        order = sorted(range(len(values)), key=values.__getitem__)
    except TypeError:  # values of several types have no order of their own
        order = sorted(range(len(values)), key=lambda i: str(values[i]))
    groups = np.empty(len(values), dtype=object)
    groups[:] = [values[i] for i in order]
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values))
    return rank[ngroup], groups


def group_name(group: Any) -> str:
    """Name of a group for messages and tables: ``"Female"``, or ``"Female, Black"``."""
    return ", ".join(str(value) for value in group) if isinstance(group, tuple) else str(group)
