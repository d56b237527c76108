"""Tables from files: text with any separator, Parquet, Feather."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from fairprune_sk.datasets.csv_files import existing, read_csv

_READERS: tuple[tuple[bytes, str, Callable[[Path], pd.DataFrame]], ...] = (
    (b"PAR1", "a Parquet file", pd.read_parquet),
    (b"ARROW1", "a Feather file", pd.read_feather),
    (b"FEA1", "a Feather file", pd.read_feather),
)


def read_frame(path: Any, na_values: Iterable = ()) -> pd.DataFrame:
    r"""Read a table from a CSV, TSV, Parquet or Feather file; what it is, its first bytes say.

    Parameters
    ----------
    path : str or path
        Text is read by :func:`read_csv`, compressed or not.
    na_values : iterable, default=()
        What stands for a missing value in text, besides the usual words.

    Returns
    -------
    DataFrame of shape (n, n_columns)
        With names that are text, numbered rows, and pandas' own types.

    Raises
    ------
    OSError
        If there is no such file, or it is a folder.
    ImportError
        If it is a Parquet or Feather file, and pyarrow is not there to read it.
    ValueError
        If it is no table, or has no rows.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fairprune_sk.datasets import read_frame
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "loans.tsv"
    ...     _ = path.write_text("income\tsex\n1\tf\n2\tm\n")
    ...     read_frame(path)
       income sex
    0       1   f
    1       2   m
    """
    path = existing(path, "a table")
    with path.open("rb") as file:
        start = file.read(6)
    for magic, what, reader in _READERS:
        if start.startswith(magic):
            frame = _binary(path, what, reader)
            break
    else:
        frame = read_csv(path, na_values)
    if not len(frame):
        raise ValueError(
            f"Got {str(path)!r} with the columns {list(frame.columns)[:20]} and no rows, but "
            "expected rows."
        )
    return frame


def _binary(path: Path, what: str, reader: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    try:
        frame = reader(path)
    except ImportError as error:
        raise ImportError(
            f"Got {str(path)!r}, {what}, which needs pyarrow: pip install 'fairprune_sk[cli]'"
        ) from error
    except Exception as error:  # pyarrow has many of its own
        raise ValueError(
            f"Got {str(path)!r}, which begins as {what} but cannot be read ({error}): write or "
            "download it again."
        ) from error
    # An index that a table was stored with is a column of it.
    if not isinstance(frame.index, pd.RangeIndex):
        named = [name is not None for name in frame.index.names]
        frame = frame.reset_index(drop=not all(named))
    frame = frame.reset_index(drop=True)
    frame.columns = frame.columns.map(str)
    twice = sorted(frame.columns[frame.columns.duplicated()].unique())
    if twice:
        raise ValueError(
            f"Got {str(path)!r} with several columns named {twice}, but expected different names: "
            "rename or remove all but one."
        )
    return frame


def stem_of(path: Path) -> str:
    """Name of a table's file without what says how it is written.

    Parameters
    ----------
    path : path

    Returns
    -------
    str

    Examples
    --------
    >>> from pathlib import Path
    >>> from fairprune_sk.datasets.files import stem_of
    >>> stem_of(Path("data/loans.2024.csv.gz")), stem_of(Path("loans.parquet"))
    ('loans.2024', 'loans')
    """
    name = path.name
    for endings in ((".gz", ".bz2", ".xz", ".zip"), (".csv", ".tsv", ".txt", ".parquet")):
        name = next((name.removesuffix(end) for end in endings if name.endswith(end)), name)
    return name.removesuffix(".feather") or path.name
