"""Groups: from the sensitive features that a user passes to group codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

MISSING = "missing"
"""Name of the group of rows without a value, where these are to be a group."""


def sensitive_frame(
    sensitive_features: Any,
    n_rows: int,
    *,
    missing: str = "error",
    name: str = "sensitive_features",
) -> pd.DataFrame:
    """Sensitive features as a DataFrame with one column for each feature.

    Parameters
    ----------
    sensitive_features : list, tuple, ndarray, Series, DataFrame or dict of arrays
        One value (or one row of values) for each row of X: strings, numbers, booleans,
        categories. Several columns stand for their intersections. Series and DataFrames may be
        of pandas or polars.
    n_rows : int
        Number of rows of X.
    missing : {"error", "group", "ignore"}, default="error"
        What becomes of missing values (None, NaN, NA, null): an error; the value ``"missing"``,
        which makes them a group of their own (together with rows that hold the string
        ``"missing"``, if there are any); or nothing, so that :func:`group_codes` leaves these
        rows without a group.
    name : str, default="sensitive_features"
        What messages call the features; columns without a name are called after it.

    Returns
    -------
    DataFrame of shape (n_rows, n_sensitive_features)
        With string column names and a plain index.

    Raises
    ------
    ValueError
        If the shape does not fit, or a value is missing and must not be.

    Examples
    --------
    >>> from fairprune_sk.fairness.groups import sensitive_frame
    >>> sensitive_frame({"sex": ["Female", "Male", None]}, 3, missing="group")
           sex
    0   Female
    1     Male
    2  missing
    """
    if missing not in ("error", "group", "ignore"):
        raise ValueError(
            f"Got missing_sensitive={missing!r}, but expected 'error', 'group' or 'ignore'."
        )
    columns = _columns(sensitive_features, name)
    if not columns:
        raise ValueError(f"Got {name} without a column, but expected at least one.")
    lengths = [len(values) for _, values in columns]
    if len(set(lengths)) > 1:
        rows = ", ".join(f"{label} ({n})" for (label, _), n in zip(columns, lengths, strict=True))
        raise ValueError(f"Got {name} with columns of different numbers of rows: {rows}.")
    if lengths[0] != n_rows:
        raise ValueError(
            f"Got {name} with {counted(lengths[0], 'row')}, but X has {counted(n_rows, 'row')}: "
            "they must describe the same rows."
        )
    without = np.any([values.isna() for _, values in columns], axis=0)
    if missing == "error" and without.any():
        remedy = "drop these rows, or fill them with a value of their own, such as 'unknown'"
        if name == "sensitive_features":
            remedy += " (or choose missing_sensitive='group' or 'ignore')"
        raise ValueError(
            f"Got {name} with missing values in {counted(int(without.sum()), 'row')} (the first "
            f"is row {int(without.argmax())}), but every row needs a group: {remedy}."
        )
    if missing == "group":
        columns = [(label, _filled(values)) for label, values in columns]
    frame = pd.concat([values for _, values in columns], axis=1)
    frame.columns = [str(label) for label, _ in columns]
    return frame


def _filled(values: pd.Series) -> pd.Series:
    """Replace missing values by a value of their own; a complete column keeps its type."""
    lacking = values.isna()
    return values.astype(object).mask(lacking, MISSING) if lacking.any() else values


def _columns(features: Any, name: str) -> list[tuple[Any, pd.Series]]:
    """Split what a user passes into columns, each with its label."""
    default = name.removesuffix("s")
    if isinstance(features, pd.MultiIndex):
        features = features.to_frame(index=False)
    if isinstance(features, Mapping):
        return [(label, _column(values, name)) for label, values in features.items()]
    if isinstance(features, pd.DataFrame):
        columns = [features.iloc[:, i] for i in range(features.shape[1])]
        return [(c, _column(v, name)) for c, v in zip(features.columns, columns, strict=True)]
    if hasattr(features, "columns"):  # a DataFrame of polars
        return [(label, _column(features[label], name)) for label in features.columns]
    if isinstance(features, pd.Series | pd.Index) or hasattr(features, "to_list"):
        label = getattr(features, "name", None)
        return [(default if label in (None, "") else label, _column(features, name))]
    array = _array(features, name)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"Got {name} with {array.ndim} dimensions, but expected one column (n,) or several "
            "columns (n, k)."
        )
    if array.ndim == 1 or array.shape[1] == 1:
        return [(default, pd.Series(array.reshape(-1)))]
    return [(f"{default}_{i}", pd.Series(v)) for i, v in enumerate(array.T)]


def _column(values: Any, name: str) -> pd.Series:
    """One column as a Series with a plain index."""
    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    if isinstance(values, pd.Index | pd.api.extensions.ExtensionArray):
        return pd.Series(values)
    if hasattr(values, "to_list"):  # a Series of polars: integers with nulls stay integers
        values = values.to_list()
    array = _array(values, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"Got {name} with a column of shape {array.shape}, but expected one value for each row."
        )
    return pd.Series(array)


def _array(values: Any, name: str) -> np.ndarray:
    """Values as an array that keeps the type of each."""
    if hasattr(values, "__array__"):
        return np.asarray(values)
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise ValueError(f"Got {name}={values!r}, but expected a value for each row of X.")
    # An object array: numpy would turn a list such as [1, "a"], or ["a", nan], into strings.
    return np.array(list(values), dtype=object)


def group_codes(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Code the rows of a frame by the distinct combinations of their values.

    Parameters
    ----------
    frame : DataFrame of shape (n, k)

    Returns
    -------
    codes : ndarray of shape (n,), int64
        -1 for a row with a missing value: it belongs to no group.
    groups : ndarray of shape (n_groups,), object
        The value of each group, or a tuple of values where there are several columns; sorted,
        and only those that occur.

    Raises
    ------
    ValueError
        If values cannot be told apart, such as lists.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.fairness.groups import group_codes
    >>> codes, groups = group_codes(pd.DataFrame({"sex": ["Male", None, "Female", "Male"]}))
    >>> codes.tolist(), groups.tolist()
    ([1, -1, 0, 1], ['Female', 'Male'])
    """
    codes = np.zeros(len(frame), dtype=np.int64)
    without = np.zeros(len(frame), dtype=bool)
    for i in range(frame.shape[1]):
        try:
            column, values = pd.factorize(frame.iloc[:, i])  # -1: missing
        except TypeError as error:  # a list in place of a value
            raise ValueError(
                f"Got {frame.columns[i]!r} with values that are no categories ({error}), but "
                "expected strings, numbers, booleans or categories."
            ) from error
        without |= column < 0
        if i == 0:
            codes = column
            continue
        # The product of the number of values so far and of this column's cannot overflow: each
        # is at most the number of rows.
        codes = pd.factorize(codes * max(len(values), 1) + np.maximum(column, 0))[0]
    codes[without] = -1
    # By code, and one more for -1. The last to be written is the first row of each.
    at = np.full(codes.max(initial=-1) + 2, -1)
    at[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    # Combinations that occur only in rows without a group are none.
    found = np.flatnonzero(at[:-1] >= 0)
    rows = frame.iloc[at[found]].astype(object)
    values = [row[0] if len(row) == 1 else row for row in rows.itertuples(index=False, name=None)]
    try:
        order = sorted(range(len(found)), key=values.__getitem__)
    except TypeError:  # values of several types have no order of their own
        order = sorted(range(len(found)), key=lambda i: (str(values[i]), repr(values[i])))
    groups = np.empty(len(found), dtype=object)
    groups[:] = [values[i] for i in order]
    at[found[order]] = np.arange(len(found))
    at[-1] = -1
    return at[codes], groups


def group_name(group: Any) -> str:
    """Name of a group for messages and tables: ``"Female"``, or ``"Female, Black"``."""
    return ", ".join(str(value) for value in group) if isinstance(group, tuple) else str(group)


def check_order(index: Any, **values: Any) -> None:
    """Refuse what holds the labels of another index, but in another order: rows are taken in order.

    A different index (other labels) says nothing about the order, and is taken as it comes.

    Parameters
    ----------
    index : Any
        Something with the index of pandas to compare with, such as X; without one, nothing is
        compared.
    **values : Any
        What goes with it row by row, by the name that the message uses.

    Raises
    ------
    ValueError
        If an index has the same labels in another order.
    """
    own = getattr(index, "index", None)
    if not isinstance(own, pd.Index):
        return
    for name, value in values.items():
        other = getattr(value, "index", None)
        if not isinstance(other, pd.Index) or len(other) != len(own) or other.equals(own):
            continue
        ours, theirs = (np.sort(pd.util.hash_pandas_object(i, index=False)) for i in (own, other))
        if np.array_equal(ours, theirs):
            raise ValueError(
                f"Got {name} with the index labels of the other rows in another order, but rows "
                f"are taken in the order in which they come: pass {name}.loc[X.index], or, if "
                f"they are in the right order already, {name}.to_numpy()."
            )


def counted(n: int, thing: str) -> str:
    """Count things in words: ``"1 row"``, ``"1,200 rows"``."""
    return f"{n:,} {thing}" + ("" if n == 1 else "s")
