"""CSV files as people have them."""

from __future__ import annotations

import bz2
import csv
import difflib
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

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
    >>> from fairprune_sk.datasets import read_csv
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "loans.csv"
    ...     _ = path.write_text("income; sex\n1,5; f\n2,5; ?\n", encoding="cp1252")
    ...     read_csv(path)
       income  sex
    0     1.5    f
    1     2.5  NaN
    """
    path = existing(path, "a table")
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


def existing(path: Any, what: str) -> Path:
    """Return the path of a file that is there; ``what`` is what a message says it was given for."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"Got {str(path)!r} for {what}, which is a folder, but expected a file: name a file "
            "in it."
        )
    if not path.is_file():
        raise FileNotFoundError(f"Got {str(path)!r} for {what}, but there is no such file.")
    return path
