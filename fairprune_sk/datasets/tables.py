"""Tables with a target and sensitive features: from CSV files as people have them, or by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import fairlearn.datasets
import numpy as np
import pandas as pd

from fairprune_sk.datasets.columns import kind_of
from fairprune_sk.datasets.csv_files import check_columns, existing
from fairprune_sk.datasets.description import TABLES, TableDescription, as_description, beside
from fairprune_sk.datasets.files import read_frame, stem_of
from fairprune_sk.datasets.synthetic import make_biased_classification
from fairprune_sk.fairness.groups import MISSING

OTHER = "Other"
"""Name of the group of all values that have none of their own."""


@dataclass(frozen=True)
class Table:
    """A table with two classes and one or more sensitive features.

    Attributes
    ----------
    name : str
    X : DataFrame of shape (n, n_features)
        The features, with raw values: numbers, categories, missing values.
    y : ndarray of shape (n,), int64
        1 where the target is positive, otherwise 0.
    sensitive : DataFrame of shape (n, n_sensitive_features)
        The name of each row's group, as strings, for each sensitive feature.
    """

    name: str
    X: pd.DataFrame
    y: np.ndarray
    sensitive: pd.DataFrame


def table_from_frame(frame: pd.DataFrame, description: TableDescription, name: str) -> Table:
    """Split a DataFrame into features, target and sensitive features.

    Parameters
    ----------
    frame : DataFrame of shape (n, n_columns)
    description : TableDescription
    name : str
        Of the table.

    Returns
    -------
    Table

    Raises
    ------
    ValueError
        If columns are absent; if the target misses values, or has not two, the positive one
        among them; if a sensitive feature misses values, or has one group only.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.datasets import TableDescription, table_from_frame
    >>> frame = pd.DataFrame({"age": [30, 40], "sex": ["f", "m"], "hired": ["yes", "no"]})
    >>> about = TableDescription(target="hired", positive="yes", sensitive="sex")
    >>> table_from_frame(frame, about, "jobs").y
    array([1, 0])
    """
    check_described(frame.columns, description, name)
    if description.missing_sensitive == "leave_out":
        frame = frame.dropna(subset=list(description.sensitive))
    frame = frame.reset_index(drop=True)
    y = _target(frame[description.target], description.positive)
    sensitive = pd.DataFrame(
        {column: group_names(frame[column], description) for column in description.sensitive}
    )
    dropped = [description.target, *description.drop]
    if not description.sensitive_is_feature:
        dropped += description.sensitive
    X = frame.drop(columns=dropped)
    if X.shape[1] == 0:
        raise ValueError(f"Got the table {name!r} without a feature, but expected at least one.")
    codes = [column for column in description.categories if column in X]
    X = X.assign(**{column: names_of(X[column]) for column in codes})
    return Table(name, X, y, sensitive)


def read_table(path: Any, description: Any, name: str | None = None) -> Table:
    """Read a table from a CSV, TSV, Parquet or Feather file.

    The file is read by :func:`read_frame`. A full stop at the end of the target's values, which
    UCI's test files have, does not count.

    Parameters
    ----------
    path : str or path
        Of text with a header, compressed or not.
    description : TableDescription, dict of its fields, or path of a JSON or TOML file
    name : str, optional
        Of the table; by default that of the file.

    Returns
    -------
    Table

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        As for :func:`read_frame` and :func:`table_from_frame`.
    """
    path = existing(path, "a table")
    description = as_description(description)
    name = stem_of(path) if name is None else name
    return table_from_frame(read_frame(path, description.na_values), description, name)


def load_table(
    source: Any, folder: Any = None, *, description: Any = None, **options: Any
) -> Table:
    """Load a table by its name, from a file, generated, or downloaded by fairlearn.

    Parameters
    ----------
    source : Table, str or path
        A Table is returned as it is. A name in ``TABLES`` is looked for in ``folder``.
        ``"synthetic"`` is :func:`fairprune_sk.datasets.make_biased_classification`, whose
        sensitive columns are no features. ``"fairlearn:adult"`` and the like (see ``FETCHED``)
        are downloaded by ``fairlearn.datasets``. All else is the path of a file.
    folder : str or path, optional
        Where named tables are; by default the current folder.
    description : TableDescription, dict of its fields, or path, optional
        For a name, in place of its own; for a path, by default the file of the same name that
        ends with ".json" or ".toml".
    **options
        Arguments of the generator, such as ``n_samples`` and ``random_state`` (0 by default), or
        of fairlearn's function, such as ``data_home`` or ``states``.

    Returns
    -------
    Table

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ConnectionError
        If a download failed.
    ValueError
        If the source is unknown, or its columns are not as described.

    Examples
    --------
    >>> from fairprune_sk.datasets import load_table
    >>> table = load_table("synthetic", n_samples=100)
    >>> table.X.shape, list(table.sensitive)
    ((100, 12), ['sex', 'origin'])
    """
    if isinstance(source, Table):
        return source
    generated = source == "synthetic" or str(source).startswith("fairlearn:")
    if options and not generated:
        raise ValueError(
            f"Got {sorted(options)} with source={str(source)!r}, but only generated and "
            "downloaded tables take options."
        )
    if generated and description is not None:
        raise ValueError(f"Got a description with source={source!r}, which has its own.")
    if source == "synthetic":
        X, y, s = make_biased_classification(**{"random_state": 0, **options})
        return Table("synthetic", X, y.to_numpy(), s.astype(str))
    if generated:
        return _fetch(source.removeprefix("fairlearn:"), options)
    if str(source) in TABLES:
        name = str(source)
        description = TABLES[name] if description is None else description
        folder = Path("." if folder is None else folder)
        plain = folder / f"{name}.csv"
        return read_table(plain if plain.is_file() else f"{plain}.gz", description, name)
    names = [*TABLES, "synthetic", *(f"fairlearn:{name}" for name in FETCHED)]
    if Path(source).suffix == "" or (description is None and not Path(source).is_file()):
        raise ValueError(
            f"Got source={str(source)!r}, but expected a Table, the path of a CSV file, or one "
            f"of {names}."
        )
    if description is None:
        description = beside(Path(source))
    return read_table(source, description)


# --- fairlearn's tables ---


class _Fetched(NamedTuple):
    """A table of fairlearn: its fetcher, its columns, and its target as 0 and 1."""

    function: str
    description: TableDescription
    positive: Callable[[pd.Series], pd.Series]


_TARGET = "target"


def _described(sensitive: tuple[str, ...], **more: Any) -> TableDescription:
    return TableDescription(target=_TARGET, sensitive=sensitive, **more)


def _is(*values: str) -> Callable[[pd.Series], pd.Series]:
    return lambda target: names_of(target).str.strip().isin(values)


FETCHED: Mapping[str, _Fetched] = MappingProxyType(
    {
        "adult": _Fetched(
            "fetch_adult",
            _described(("sex", "race"), groups={"race": ("White", "Black")}, drop=("fnlwgt",)),
            _is(">50K", ">50K."),
        ),
        # The target is stored as "1" (no) and "2" (yes).
        "bank_marketing": _Fetched("fetch_bank_marketing", _described(("marital",)), _is("2")),
        "credit_card": _Fetched(
            "fetch_credit_card",
            _described(("SEX",), categories=("SEX", "EDUCATION", "MARRIAGE")),
            _is("1"),
        ),
        # Other forms of the target are among the columns.
        "diabetes_hospital": _Fetched(
            "fetch_diabetes_hospital",
            _described(
                ("race",),
                groups={"race": ("Caucasian", "AfricanAmerican")},
                drop=("readmitted", "readmit_binary"),
                missing_sensitive="group",
            ),
            _is("1", "True"),
        ),
        "acs_income": _Fetched(
            "fetch_acs_income",
            _described(
                ("SEX", "RAC1P"),
                groups={"RAC1P": (1, 2)},
                categories=("COW", "MAR", "OCCP", "POBP", "RELP", "SEX", "RAC1P"),
            ),
            lambda income: income > 50_000,
        ),
    }
)
"""fairlearn's tables of two classes, by the names that follow ``"fairlearn:"``."""


def _fetch(name: str, options: Mapping[str, Any]) -> Table:
    if name not in FETCHED:
        raise ValueError(
            f"Got source='fairlearn:{name}', but fairlearn's tables are "
            f"{[f'fairlearn:{known}' for known in FETCHED]}."
        )
    function, description, positive = FETCHED[name]
    try:
        bunch = getattr(fairlearn.datasets, function)(as_frame=True, **options)
    except OSError as error:
        raise ConnectionError(
            f"Got source='fairlearn:{name}', which fairlearn downloads, but the download failed "
            f"({error}): go online, or pass data_home=..., a folder that has it."
        ) from error
    # Positions, since the features need not be indexed from 0 on.
    frame = bunch.data.reset_index(drop=True)
    target = bunch.target.reset_index(drop=True)
    frame[_TARGET] = positive(target).astype(int).mask(target.isna())
    present = tuple(column for column in description.drop if column in frame)
    return table_from_frame(frame, replace(description, drop=present), name)


# --- checks ---


def check_described(columns: pd.Index, description: TableDescription, name: str) -> None:
    """Check that a table has the columns that its description names."""
    needed = [description.target, *description.sensitive, *description.drop, *description.control]
    check_columns(columns, [*needed, *description.categories], f"the table {name!r}")
    twice = [c for c in dict.fromkeys(needed) if list(columns).count(c) > 1]
    if twice:
        raise ValueError(f"Got the table {name!r} with several columns named {twice}.")


def names_of(column: pd.Series) -> pd.Series:
    """Values as strings, whole numbers without a fraction; missing ones stay missing."""
    if pd.api.types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(object).map(str, na_action="ignore")


def _target(column: pd.Series, positive: Any) -> np.ndarray:
    """Target as 0 and 1."""
    lacking = int(column.isna().sum())
    if lacking:
        raise ValueError(
            f"Got the target {column.name!r} with missing values in {lacking} rows, but every "
            "row needs one: drop these rows first."
        )
    values = labels_of(column)
    found = sorted(values.unique())
    if len(found) != 2:
        more = ", ..." if len(found) > 10 else ""
        raise ValueError(
            f"Got the target {column.name!r} with {len(found)} values "
            f"({', '.join(map(repr, found[:10]))}{more}), but expected two."
        )
    if positive is None:
        truths = {"1", "True"} & set(found)
        if found not in (["0", "1"], ["False", "True"]):
            raise ValueError(
                f"Got the target {column.name!r} with the values {found} without a positive one: "
                "say which it is, positive=..."
            )
        (positive,) = truths
    (wanted,) = labels_of(pd.Series([positive]))
    if wanted not in found:
        raise ValueError(
            f"Got positive={positive!r}, but expected a value of the target {column.name!r}: "
            f"{found}."
        )
    return (values == wanted).to_numpy(dtype=np.int64)


def labels_of(column: pd.Series) -> pd.Series:
    """Names of labels, without white space around and a full stop behind them."""
    return names_of(column).str.strip().str.removesuffix(".")


def _binned(column: pd.Series, edges: tuple) -> pd.Series:
    """Name the bin of each number."""
    if kind_of(column) != "numbers":
        raise ValueError(
            f"Got bins for the column {column.name!r} with {kind_of(column)}, but expected numbers."
        )
    between = [f"{low:g} to below {high:g}" for low, high in pairwise(edges)]
    labels = [f"below {edges[0]:g}", *between, f"{edges[-1]:g} and over"]
    bins = [-np.inf, *edges, np.inf]
    return pd.cut(column.astype(float), bins, right=False, labels=labels).astype(object)


def group_names(column: pd.Series, description: TableDescription) -> pd.Series:
    """Name of each row's group in one sensitive feature."""
    edges = description.bins.get(str(column.name))
    names = names_of(column).str.strip() if edges is None else _binned(column, edges)
    lacking = names.isna()
    if lacking.any() and description.missing_sensitive == "error":
        raise ValueError(
            f"Got the sensitive column {column.name!r} with missing values in "
            f"{int(lacking.sum())} rows, but every row needs a group: drop these rows, or set "
            "missing_sensitive='group' in the description."
        )
    kept = description.groups.get(str(column.name))
    if kept is not None:
        own = [str(value) for value in kept]
        absent = [value for value in own if value not in set(names)]
        if absent:
            raise ValueError(
                f"Got groups {absent} for the sensitive column {column.name!r}, but expected "
                f"values that occur: {sorted(names.dropna().unique())[:50]}."
            )
        names = names.where(names.isin(own) | lacking, OTHER)
    names = names.mask(lacking, MISSING).astype(str)
    if names.nunique() < 2:
        raise ValueError(
            f"Got the sensitive column {column.name!r} with one group, {names.iloc[0]!r}, but "
            "expected at least two to compare."
        )
    return names
