"""Columns of a table: what they hold, whether they still do, and which of them hurt."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from fairprune_sk.datasets.columns import (
    CONSTANT,
    FEWEST_ROWS,
    KINDS,
    date_formats,
    identifies,
    is_constant,
    kind_of,
)
from fairprune_sk.exceptions import SuspectColumnWarning, warn_at_caller
from fairprune_sk.networks.batch import in_blocks
from fairprune_sk.networks.encoding import is_number, some_rows

# Rows on which a single column is tried, and the share of them that it must get right.
TRIED_ROWS, LEAK_ACCURACY = 2000, 0.995

# Rows of a table on disk that its columns are judged by.
READ_ROWS = 2**17

# What a scale could be computed of in 64 bits.
LARGEST_INPUT = 1e300


def check_columns(X: pd.DataFrame, *, encoded: bool) -> None:
    """Refuse, by name, columns with values that no network can read.

    Parameters
    ----------
    X : DataFrame of shape (n, n_columns)
    encoded : bool
        Whether they are about to become categories, as in ``fit``, or are compared with those.

    Raises
    ------
    ValueError
        If a column holds complex numbers, infinity, numbers beyond ``LARGEST_INPUT``, or values
        that are no categories, or of several types.
    """
    for i, name in enumerate(X.columns):
        column = X.iloc[:, i]
        kind = kind_of(column)
        if kind == "complex numbers":
            raise ValueError(f"Got column {name!r} with {kind}, but expected real ones.")
        if kind == "numbers":
            if _largest(column) > LARGEST_INPUT:
                raise ValueError(
                    f"Input X contains infinity, or numbers beyond {LARGEST_INPUT:g}, in column "
                    f"{name!r}: replace them with a number, or with NaN for 'missing'."
                )
        elif kind not in KINDS:
            try:
                known = column.astype(object).dropna()
                known.nunique()  # values that can be told apart
                if encoded:
                    values = known.unique()[:, None]
                    OrdinalEncoder().fit(values).transform(values)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"Got column {name!r} with values such as {known.iloc[0]!r}, which are no "
                    f"categories ({error}), but expected numbers, text, booleans or dates."
                ) from error


def _largest(column: pd.Series) -> float:
    """Find the largest magnitude of a column of numbers, infinity where one is none in 64 bits."""
    if not is_number(column.dtype):
        column = column.astype(object).dropna()
    try:
        values = np.abs(column.to_numpy(dtype=np.float64, na_value=np.nan))
    except OverflowError:
        return np.inf
    return float(np.max(values, where=~np.isnan(values), initial=0.0))


def like_those_of_fit(X: pd.DataFrame, kinds: list[str]) -> pd.DataFrame:
    """Refuse, by name, columns that hold something else than they did in ``fit``.

    Numbers that are written as text become numbers.

    Parameters
    ----------
    X : DataFrame of shape (n, n_columns)
    kinds : list of str
        What each column held in ``fit``; see :func:`kind_of`.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If a column holds something else, and nothing that means the same.
    """
    changed = {}
    for i, expected in enumerate(kinds):
        column = X.iloc[:, i]
        found = kind_of(column)
        if expected in (found, "nothing") or not column.notna().any():
            continue
        if expected == "numbers" and found == "booleans":  # True is 1
            continue
        if expected == "booleans" and found == "numbers" and column.dropna().isin([0, 1]).all():
            continue
        if expected == "numbers" and found == "text":
            numbers = pd.to_numeric(column, errors="coerce")
            if (numbers.notna() == column.notna()).all():
                changed[i] = numbers
                continue
        example = column.dropna().astype(object).iloc[0]  # as plain Python prints it
        raise ValueError(
            f"Got column {X.columns.tolist()[i]!r} with {found}, such as {example!r}, but expected "
            f"{expected}, as in fit: convert it to what it was then."
        )
    if not changed:
        return X
    columns = [changed.get(i, X.iloc[:, i]) for i in range(X.shape[1])]
    return pd.concat(columns, axis=1).set_axis(X.columns, axis=1)


def warn_of_columns(X: pd.DataFrame, y: np.ndarray) -> None:
    """Warn of columns by name that teach a network nothing, or too much.

    Parameters
    ----------
    X : DataFrame of shape (n, n_columns), or ParquetTable
        Of which some rows are read.
    y : ndarray of shape (n,), int64
        Class codes.

    Warns
    -----
    SuspectColumnWarning
        Of constant columns, columns that name the rows, dates that are text, and columns that
        predict the target almost alone.
    """
    if in_blocks(X):
        rows = some_rows(len(X), READ_ROWS)
        X, y = X[rows].to_pandas(), y[rows]
    if len(X) < FEWEST_ROWS:
        return
    found: dict[str, list[str]] = {}
    tried = np.random.default_rng(0).permutation(len(X))[:TRIED_ROWS]
    for i, name in enumerate(X.columns):
        what = _suspicion(X.iloc[:, i]) or _leak(X.iloc[tried, i], y[tried])
        if what:
            found.setdefault(what, []).append(repr(name))
    for what, names in found.items():
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        warn_at_caller(f"{', '.join(names[:5])}{more}: {what}", SuspectColumnWarning)


def _suspicion(column: pd.Series) -> str:
    """Say what is wrong with a column, whatever the target, and what to do."""
    if is_constant(column):
        return f"{CONSTANT}. Drop it."
    if date_formats(column):
        return (
            "dates as text, each a category of its own. Turn it into dates: pandas.to_datetime, or "
            "fairprune_sk.datasets.TableCleaner."
        )
    how = identifies(column)
    return how and f"{how}; a network learns it by heart. Drop it, or make groups of it."


def _leak(column: pd.Series, y: np.ndarray) -> str:
    """Say whether a column alone predicts the target, on rows that it was not learned on."""
    fewest = np.bincount(y)[np.unique(y)].min()
    if fewest < FEWEST_ROWS / 2:
        return ""
    if kind_of(column) == "numbers" and pd.api.types.is_numeric_dtype(column):
        # By rank: a tree splits the same, whatever the scale.
        values = column.rank().to_numpy(dtype=np.float64, na_value=np.nan)[:, None]
    else:
        categories = column.astype(object).where(column.notna(), None).to_numpy()[:, None]
        values = OrdinalEncoder().fit_transform(categories.astype(str))
    tree = DecisionTreeClassifier(max_leaf_nodes=16, min_samples_leaf=5, random_state=0)
    right = cross_val_predict(tree, values, y, cv=2) == y
    if min(right[y == label].mean() for label in np.unique(y)) < LEAK_ACCURACY:
        return ""
    return (
        "predicts the target almost alone, as what is known only after the outcome does (a leak). "
        "Drop it, unless it is known when a prediction is made."
    )
