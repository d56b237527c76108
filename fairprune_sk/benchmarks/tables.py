"""What a benchmark runs on: tables with a target and sensitive features, by name or from a file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import fairlearn.datasets
import numpy as np
import pandas as pd

from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.groups import MISSING

OTHER = "Other"
"""Name of the group of all values that have none of their own."""


def _as_tuple(values: Any) -> tuple:
    return (values,) if isinstance(values, str) else tuple(values)


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


@dataclass(frozen=True)
class TableDescription:
    """What the columns of a table mean.

    Parameters
    ----------
    target : str
        Column with the target, which has two values.
    sensitive : tuple of str
        One or more columns with sensitive features.
    positive : optional
        The target's positive value; not needed where the target is 0 and 1, or boolean.
    drop : tuple of str, default=()
        Columns that are no features, such as identifiers or row weights.
    groups : dict of tuple, default={}
        For a sensitive column, the values that are groups of their own; all others become
        ``"Other"``. A sensitive column that is not named has a group for each value.
    categories : tuple of str, default=()
        Columns whose numbers are codes of categories.
    na_values : tuple, default=()
        What stands for a missing value, besides an empty cell and pandas' usual words.
    sensitive_is_feature : bool, default=True
        Whether the sensitive columns are features too, with their raw values.
    missing_sensitive : {"error", "group"}, default="error"
        What becomes of rows without a sensitive value: an error, or a group ``"missing"``.

    Raises
    ------
    ValueError
        If the fields contradict each other.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.tables import TableDescription
    >>> TableDescription(target="hired", positive="yes", sensitive="sex").sensitive
    ('sex',)
    """

    target: str
    sensitive: tuple[str, ...]
    positive: Any = None
    drop: tuple[str, ...] = ()
    groups: Mapping[str, tuple] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    na_values: tuple = ()
    sensitive_is_feature: bool = True
    missing_sensitive: str = "error"

    def __post_init__(self) -> None:
        for name in ("sensitive", "drop", "categories", "na_values"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        groups = {column: _as_tuple(kept) for column, kept in self.groups.items()}
        object.__setattr__(self, "groups", groups)
        if not self.sensitive:
            raise ValueError("Got no sensitive column, but expected at least one.")
        strangers = sorted(set(groups) - set(self.sensitive))
        if strangers:
            raise ValueError(
                f"Got groups for {strangers}, but expected sensitive columns only: "
                f"{list(self.sensitive)}."
            )
        twice = [c for c in (*self.sensitive, *self.drop) if c == self.target]
        if twice:
            raise ValueError(
                f"Got target={self.target!r}, which is among the sensitive or dropped columns, "
                "but expected a column of its own."
            )
        if self.missing_sensitive not in ("error", "group"):
            raise ValueError(
                f"Got missing_sensitive={self.missing_sensitive!r}, but expected 'error' or "
                "'group'."
            )

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TableDescription:
        """Make a description from a dict of its fields.

        Parameters
        ----------
        content : dict

        Returns
        -------
        TableDescription

        Raises
        ------
        ValueError
            If a field is unknown or absent.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(content) - set(known))
        if unknown:
            raise ValueError(f"Got {unknown} in a table's description, but expected {known}.")
        absent = [name for name in ("target", "sensitive") if name not in content]
        if absent:
            raise ValueError(f"Got a table's description without {absent}, which it needs.")
        return cls(**content)

    @classmethod
    def from_file(cls, path: Any) -> TableDescription:
        """Read a description from a small JSON or TOML file.

        Parameters
        ----------
        path : str or path
            Ends with ".json" or ".toml".

        Returns
        -------
        TableDescription

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is neither JSON nor TOML, or its fields are not those of a description.
        """
        path = _existing(path, "a table's description")
        readers: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": tomllib.loads}
        if path.suffix not in readers:
            raise ValueError(f"Got {str(path)!r}, but expected a .json or .toml file.")
        try:
            content = readers[path.suffix](path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"Got {str(path)!r}, which cannot be read: {error}.") from error
        if not isinstance(content, Mapping):
            raise ValueError(f"Got {str(path)!r}, but expected names and values.")
        return cls.from_dict(content)


TABLES: Mapping[str, TableDescription] = MappingProxyType(
    {
        "adult": TableDescription(
            target="income",
            positive=">50K",
            sensitive=("sex", "race"),
            groups={"race": ("White", "Black")},
            drop=("fnlwgt", "split"),
            na_values=("?",),
        ),
        "compas": TableDescription(
            target="two_year_recid",
            positive=1,
            sensitive=("race", "sex"),
            groups={"race": ("African-American", "Caucasian")},
        ),
    }
)
"""Descriptions of tables that are found as ``<name>.csv`` or ``<name>.csv.gz``."""


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
    >>> from fairprune_sk.benchmarks.tables import TableDescription, table_from_frame
    >>> frame = pd.DataFrame({"age": [30, 40], "sex": ["f", "m"], "hired": ["yes", "no"]})
    >>> about = TableDescription(target="hired", positive="yes", sensitive="sex")
    >>> table_from_frame(frame, about, "jobs").y
    array([1, 0])
    """
    _check_columns(frame.columns, description, name)
    frame = frame.reset_index(drop=True)
    y = _target(frame[description.target], description.positive)
    sensitive = pd.DataFrame(
        {column: _group_names(frame[column], description) for column in description.sensitive}
    )
    dropped = [description.target, *description.drop]
    if not description.sensitive_is_feature:
        dropped += description.sensitive
    X = frame.drop(columns=dropped)
    if X.shape[1] == 0:
        raise ValueError(f"Got the table {name!r} without a feature, but expected at least one.")
    codes = [column for column in description.categories if column in X]
    X = X.assign(**{column: _names(X[column]) for column in codes})
    return Table(name, X, y, sensitive)


def read_table(path: Any, description: Any, name: str | None = None) -> Table:
    """Read a table from a CSV file.

    White space around values does not count, nor does a full stop at the end of the target's
    values, which UCI's test files have.

    Parameters
    ----------
    path : str or path
        A CSV file with a header, compressed (".gz" and the like) or not.
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
        As for :func:`table_from_frame`; columns are checked before the rows are read.
    """
    path = _existing(path, "a table")
    description = _as_description(description)
    name = path.name.split(".csv")[0] if name is None else name
    options: dict[str, Any] = {"skipinitialspace": True}
    header = pd.read_csv(path, nrows=0, **options)
    _check_columns(header.columns, description, name)
    frame = pd.read_csv(path, na_values=list(description.na_values), low_memory=False, **options)
    return table_from_frame(frame, description, name)


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
        are downloaded by ``fairlearn.datasets``. All else is the path of a CSV file.
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
    >>> from fairprune_sk.benchmarks.tables import load_table
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
        description = _beside(Path(source))
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
    return lambda target: _names(target).str.strip().isin(values)


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


def _as_description(description: Any) -> TableDescription:
    if isinstance(description, TableDescription):
        return description
    if isinstance(description, Mapping):
        return TableDescription.from_dict(description)
    return TableDescription.from_file(description)


def _beside(path: Path) -> Path:
    """Find the description of a CSV file in its folder."""
    stem = path.name.split(".csv")[0]
    candidates = [path.with_name(stem + suffix) for suffix in (".json", ".toml")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(
        f"Got the file {str(path)!r} without a description, but expected its target and its "
        f"sensitive columns: pass description=..., or put {candidates[1].name!r} beside it."
    )


def _existing(path: Any, what: str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Got {str(path)!r} for {what}, but there is no such file.")
    return path


def _check_columns(columns: pd.Index, description: TableDescription, name: str) -> None:
    needed = [description.target, *description.sensitive, *description.drop]
    absent = [c for c in [*needed, *description.categories] if c not in columns]
    if absent:
        raise ValueError(
            f"Got the table {name!r} without the columns {absent}, but expected the columns of "
            f"its description among {list(map(str, columns))}."
        )
    twice = [c for c in dict.fromkeys(needed) if list(columns).count(c) > 1]
    if twice:
        raise ValueError(f"Got the table {name!r} with several columns named {twice}.")


def _names(column: pd.Series) -> pd.Series:
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
    values = _labels(column)
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
    (wanted,) = _labels(pd.Series([positive]))
    if wanted not in found:
        raise ValueError(
            f"Got positive={positive!r}, but expected a value of the target {column.name!r}: "
            f"{found}."
        )
    return (values == wanted).to_numpy(dtype=np.int64)


def _labels(column: pd.Series) -> pd.Series:
    """Names of labels, without white space around and a full stop behind them."""
    return _names(column).str.strip().str.removesuffix(".")


def _group_names(column: pd.Series, description: TableDescription) -> pd.Series:
    """Name of each row's group in one sensitive feature."""
    names = _names(column).str.strip()
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
