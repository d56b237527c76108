"""The results of a benchmark: their columns, what can be used of them, and choices among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

DATA_SET = ["table", "sensitive", "constraint"]
"""Columns that name a data set."""

CELL = [*DATA_SET, "sparsity"]
"""Columns that name a cell."""

FIT = [*CELL, "method", "tolerance"]
"""Columns that name a fit, up to its seed."""

UNAWARE = ("magnitude", "lottery_ticket", "snip", "grasp", "fpgm", "bip", "random")
"""Methods that prune without looking at groups."""

VALUES = {"accuracy": True, "gap": False, "hypervolume": True}
"""What methods are compared by, and whether more of it is better."""

EQUAL = 1e-12  # differences of fractions that are rounding alone


def checked(results: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Check results, and mark the fits that cannot be used.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the package.
    columns : sequence of str
        Columns that are needed beside those that name a fit, accuracy, gap and error.

    Returns
    -------
    DataFrame
        With a column ``failed``; accuracy, gap and ``columns`` are NaN where it is True.

    Raises
    ------
    ValueError
        If a column is missing, or a fit is there twice.
    """
    figures = list(dict.fromkeys(["accuracy", "gap", *columns]))
    needed = [*FIT, "seed", "error", *figures]
    missing = [name for name in needed if name not in results]
    if missing:
        raise ValueError(f"Got results without {missing}, but expected the columns {needed}.")
    frame = results.reset_index(drop=True)
    # A grid made of sums or read from a file has 0.7 and 0.7000000000000001.
    frame = frame.assign(
        sparsity=frame["sparsity"].astype(float).round(9),
        tolerance=frame["tolerance"].astype(float).round(9),
    )
    twice = frame.duplicated([*FIT, "seed"])
    if twice.any():
        first = frame.loc[twice, [*FIT, "seed"]].iloc[0].to_dict()
        raise ValueError(f"Got more than one row of {first}, but expected one for each seed.")
    # An empty string that went through a CSV file comes back as NaN.
    error = frame["error"].astype(object).fillna("").astype(str) != ""
    failed = error | frame[["accuracy", "gap"]].isna().any(axis=1)
    frame[figures] = frame[figures].astype(float)
    frame.loc[failed, figures] = np.nan
    return frame.assign(failed=failed)


def at_every_sparsity(frame: pd.DataFrame) -> pd.DataFrame:
    """Let dense methods, those that were only run at sparsity 0, take part at every sparsity.

    Parameters
    ----------
    frame : DataFrame
        With the columns of a cell, and ``method``.

    Returns
    -------
    DataFrame
        Their rows are repeated at each other sparsity of the same data set.
    """
    dense = frame.groupby("method")["sparsity"].transform("max") == 0
    others = frame.loc[~dense & (frame["sparsity"] > 0), CELL].drop_duplicates()
    repeated = frame[dense].drop(columns="sparsity").merge(others, on=DATA_SET)
    parts = [part for part in (frame, repeated[frame.columns]) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else frame


def at_tolerance(frame: pd.DataFrame, tolerance: float | None) -> pd.DataFrame:
    """Keep one tolerance of each method.

    Parameters
    ----------
    frame : DataFrame
        With the columns ``method`` and ``tolerance``.
    tolerance : float or None
        The one to keep of the methods that were fitted at several.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If a method has several tolerances and this is not one of them.
    """
    kept = []
    for method, part in frame.groupby("method", sort=False):
        found = sorted(part["tolerance"].dropna().unique().tolist())
        if len(found) > 1:
            if tolerance is None or not np.isclose(found, tolerance).any():
                raise ValueError(
                    f"Got tolerance={tolerance}, but expected one of {found}, at which "
                    f"{method!r} was fitted."
                )
            part = part[np.isclose(part["tolerance"], tolerance)]
        kept.append(part)
    return pd.concat(kept).sort_index() if kept else frame


def only_present(frame: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """Check that methods are in the results."""
    found = frame["method"].unique().tolist()
    methods = [methods] if isinstance(methods, str) else list(methods)
    for method in methods:
        if method not in found:
            raise ValueError(f"Got the method {method!r}, but expected one of {found}.")
    return methods


def at_sparsity(frame: pd.DataFrame, sparsity: float) -> pd.DataFrame:
    """Keep one sparsity."""
    kept = frame[np.isclose(frame["sparsity"], sparsity)]
    if kept.empty:
        found = sorted(frame["sparsity"].unique().tolist())
        raise ValueError(f"Got sparsity={sparsity}, but expected one of {found}.")
    return kept
