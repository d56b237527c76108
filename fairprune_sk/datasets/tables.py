"""Tables with a target and sensitive features: from CSV files as people have them, or by name."""

from __future__ import annotations

import bz2
import csv
import difflib
import gzip
import io
import json
import lzma
import re
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import fairlearn.datasets
import numpy as np
import pandas as pd

from fairprune_sk.datasets.synthetic import make_biased_classification
from fairprune_sk.fairness.groups import MISSING

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
    >>> from fairprune_sk.datasets.tables import TableDescription
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
    >>> from fairprune_sk.datasets.tables import TableDescription, table_from_frame
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

    The file is read by :func:`read_csv`. A full stop at the end of the target's values, which
    UCI's test files have, does not count.

    Parameters
    ----------
    path : str or path
        A CSV file with a header, compressed or not.
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
        As for :func:`read_csv` and :func:`table_from_frame`.
    """
    path = _existing(path, "a table")
    description = _as_description(description)
    name = path.name.split(".csv")[0] if name is None else name
    return table_from_frame(read_csv(path, description.na_values), description, name)


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
    >>> from fairprune_sk.datasets.tables import load_table
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


# --- CSV files ---

_HEAD = 1 << 20
"""Bytes that separator and decimal mark are found from."""

_SEPARATORS = ",;\t|"
_MISSING_WORDS = ("?",)
_OPENERS: tuple[tuple[bytes, Callable[[Path], Any]], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")
_DECIMAL_POINT = re.compile(r"\s*[-+]?\d+\.\d+\s*")


def read_csv(path: Any, na_values: Iterable = ()) -> pd.DataFrame:
    r"""Read a CSV file as people have them.

    Found out from the file: the separator (comma, semicolon, tab or pipe), the encoding (UTF-8,
    UTF-16, otherwise Windows' Western one), decimal commas, and compression (gzip, bzip2, xz; zip
    by its name). White space around names and values does not count.

    Parameters
    ----------
    path : str or path
        The first line that is not empty holds the columns' names.
    na_values : iterable, default=()
        What stands for a missing value, besides an empty cell, ``"?"`` and pandas' usual words.

    Returns
    -------
    DataFrame of shape (n, n_columns)

    Raises
    ------
    OSError
        If there is no such file, or it is a folder.
    ValueError
        If the file is empty or no text, a row has more or fewer values than the header has names
        (the message tells the line), or a name comes twice.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fairprune_sk.datasets.tables import read_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "loans.csv"
    ...     _ = path.write_text("income; sex\n1,5; f\n2,5; ?\n", encoding="cp1252")
    ...     read_csv(path)
       income  sex
    0     1.5    f
    1     2.5  NaN
    """
    path = _existing(path, "a table")
    try:
        encoding, text = _encoding_and_head(path)
        try:
            return _read_csv(path, encoding, text, na_values)
        except UnicodeDecodeError:
            # The head was UTF-8, as that of a Western file may be; Latin-1 decodes every byte.
            for encoding in ("cp1252", "latin-1"):
                try:
                    return _read_csv(path, encoding, text, na_values)
                except UnicodeDecodeError:
                    continue
            raise
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Got {str(path)!r}, which cannot be unpacked ({error}): pack or download it again."
        ) from error
    except UnicodeError as error:
        raise ValueError(
            f"Got {str(path)!r}, which is not text in {encoding} ({error}): save it as UTF-8."
        ) from error
    except pd.errors.ParserError as error:
        raise ValueError(
            f"Got {str(path)!r}, which cannot be read as a table ({error}), but expected a CSV "
            "file: look for a quote that is not closed."
        ) from error


def check_columns(columns: Iterable, wanted: Iterable[str], table: str) -> None:
    """Check that a table has the wanted columns.

    Parameters
    ----------
    columns : iterable
        Names that the table has.
    wanted : iterable of str
    table : str
        What the message calls the table.

    Raises
    ------
    ValueError
        If columns are absent; the message tells the closest names.
    """
    known = list(map(str, columns))
    absent = [name for name in dict.fromkeys(wanted) if name not in known]
    if not absent:
        return
    lowered = {name.lower(): name for name in known}
    close = [difflib.get_close_matches(str(name).lower(), lowered, n=1) for name in absent]
    meant = [repr(lowered[found[0]]) for found in close if found]
    hint = f" Did you mean {', '.join(meant)}?" if meant else ""
    shown = ", ".join(map(repr, known[:50])) + (", ..." if len(known) > 50 else "")
    raise ValueError(f"Got {table} without the columns {absent}, but it has: {shown}.{hint}")


def _open(path: Path) -> IO[bytes]:
    if path.suffix == ".zip":
        archive = zipfile.ZipFile(path)
        return archive.open(archive.namelist()[0])
    with path.open("rb") as file:
        start = file.read(6)
    for magic, opener in _OPENERS:
        if start.startswith(magic):
            return opener(path)
    return path.open("rb")


def _encoding_and_head(path: Path) -> tuple[str, str]:
    with _open(path) as file:
        head = file.read(_HEAD)
    encoding = next((name for bom, name in _BOMS if head.startswith(bom)), None)
    if encoding is None and 0 in head:
        # Western letters in UTF-16 without a mark: every other byte is zero.
        shares = [head[first::2].count(0) / (len(head) / 2) for first in (0, 1)]
        wide = {(True, False): "utf-16-be", (False, True): "utf-16-le"}
        encoding = wide.get((shares[0] > 0.7, shares[1] > 0.7))
    encoding = encoding or "utf-8"
    text = head.decode(encoding, errors="replace" if encoding != "utf-8" else "ignore")
    if head.startswith((b"PK", b"PAR1")) or any(c < " " and c not in "\t\r\n\f" for c in text):
        raise ValueError(
            f"Got {str(path)!r}, which is not text (a workbook or another binary file?), but "
            "expected a CSV file: export the table as CSV."
        )
    if not text.strip("\ufeff \t\r\n"):
        raise ValueError(
            f"Got {str(path)!r}, which is empty, but expected a CSV file: a line with the names "
            "of the columns, then a line for each row."
        )
    # The last line is cut where the file goes on.
    end = text.rfind("\n") if len(head) == _HEAD else -1
    return encoding, text[: end + 1] or text


def _rows(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not empty, with the numbers of their last lines."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            if any(map(str.strip, row)) or len(row) > 1:
                yield reader.line_num, row
    except csv.Error:
        return


def _head_rows(text: str, separator: str) -> list[list[str]]:
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    return [row for _, row in islice(_rows(lines, separator), 1000)]


def _separator(text: str) -> str:
    """Find the separator that most rows agree on with the header; comma if there is none."""

    def agreement(separator: str) -> tuple[float, int]:
        rows = _head_rows(text, separator)
        width = len(rows[0]) if rows else 0
        if width < 2:
            return 0.0, width
        return round(float(np.mean([len(row) == width for row in rows])), 1), width

    return max(_SEPARATORS, key=agreement)


def _read_csv(path: Path, encoding: str, text: str, na_values: Iterable) -> pd.DataFrame:
    separator = _separator(text)
    head = _head_rows(text, separator)
    names = [name.strip() for name in head[0]]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Got {str(path)!r} with several columns named {twice}, but expected different names: "
            "rename or remove all but one."
        )
    cells = [cell for row in head[1:] for cell in row]
    comma = separator != "," and any(map(_DECIMAL_COMMA.fullmatch, cells))
    comma = comma and not any(map(_DECIMAL_POINT.fullmatch, cells))
    words = [*_MISSING_WORDS, *na_values]
    try:
        with _open(path) as file:
            frame = pd.read_csv(
                file,
                sep=separator,
                encoding=encoding,
                decimal="," if comma else ".",
                na_values=words,
                skipinitialspace=True,
                low_memory=False,
            )
    except pd.errors.ParserError:
        _check_widths(path, encoding, separator)
        raise
    # pandas fills short rows up, and takes what the header has no name for as an index.
    if not isinstance(frame.index, pd.RangeIndex) or frame.iloc[:, -1].isna().any():
        _check_widths(path, encoding, separator)
    frame.columns = frame.columns.str.strip()
    for column in frame.columns[[not pd.api.types.is_numeric_dtype(t) for t in frame.dtypes]]:
        frame[column] = _stripped(frame[column], words)
    return frame


def _check_widths(path: Path, encoding: str, separator: str) -> None:
    with _open(path) as file, io.TextIOWrapper(file, encoding, newline="") as lines:
        rows = _rows(lines, separator)
        _, names = next(rows)
        for line, row in rows:
            if len(row) != len(names):
                raise ValueError(
                    f"Got {str(path)!r} with {len(row)} values in line {line}, but expected "
                    f"{len(names)}, as many as the header has names (separator {separator!r}): "
                    "mend that line, or put quotes around values that hold the separator."
                )


def _stripped(column: pd.Series, words: list) -> pd.Series:
    """Values without white space around; numbers where it hid them."""
    # Different values only: a large table repeats few.
    texts = [value for value in column.unique() if isinstance(value, str)]
    spaced = {value: value.strip() for value in texts if value != value.strip()}
    if not spaced:
        return column
    column = column.map(lambda value: spaced.get(value, value))
    column = column.mask(column.isin(["", "NA", *words]))
    try:
        return pd.to_numeric(column)
    except (TypeError, ValueError):
        return column


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
    if path.is_dir():
        raise IsADirectoryError(
            f"Got {str(path)!r} for {what}, which is a folder, but expected a file: name a file "
            "in it."
        )
    if not path.is_file():
        raise FileNotFoundError(f"Got {str(path)!r} for {what}, but there is no such file.")
    return path


def _check_columns(columns: pd.Index, description: TableDescription, name: str) -> None:
    needed = [description.target, *description.sensitive, *description.drop]
    check_columns(columns, [*needed, *description.categories], f"the table {name!r}")
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
