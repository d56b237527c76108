"""Tables on disk, read some rows at a time: Parquet files, and folders of them."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

BLOCK_ROWS = 2**17
"""Rows of a block at most; it is read from one row group."""


def _pyarrow_dataset() -> Any:
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install fairprune_sk[parquet]") from error
    return pyarrow.dataset


@dataclass(eq=False)
class ParquetTable:
    """Columns of Parquet files, indexed like an array of shape (n, n_columns), that stay on disk.

    An index of rows (a slice, integers, booleans) gives the ``ParquetTable`` of those rows and
    reads nothing. :meth:`to_pandas` reads them all, :meth:`blocks` some at a time: row groups in
    which no row is asked for are not opened.

    ``FairPruner.fit`` encodes such a table once, into a temporary file (``TMPDIR`` says where), and
    learns from there; ``predict`` reads it block by block.

    Parameters
    ----------
    source : str, path or pyarrow.dataset.Dataset
        A file, a folder of files (with columns in the names of folders, as Hive has them), or a
        dataset of Parquet files.
    columns : sequence of str, default=None
        Columns of the table, in order; by default all.

    Raises
    ------
    ImportError
        Without pyarrow.
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If it is no Parquet, or has no such column.

    Examples
    --------
    >>> import tempfile
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import ParquetTable, make_biased_classification
    >>> X, y, s = make_biased_classification(400, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X.assign(approved=y, sex=s["sex"]).to_parquet(f"{folder}/loans.parquet")
    ...     table = ParquetTable(f"{folder}/loans.parquet")
    ...     X, y = table.drop(["approved", "sex"]), table.column("approved")
    ...     pruner = FairPruner(sparsity=0.5, tolerance=1, max_epochs=4, random_state=0)
    ...     _ = pruner.fit(X, y, sensitive_features=table.column("sex"))
    ...     predicted = pruner.predict(X[:10])
    >>> X.shape, predicted.shape
    ((400, 12), (10,))
    """

    source: Any
    columns: Sequence[str] | None = None
    _rows: np.ndarray | None = field(default=None, init=False, repr=False)
    _ends: np.ndarray = field(init=False, repr=False)
    _prepare: Callable[[pd.DataFrame], pd.DataFrame] | None = field(
        default=None, init=False, repr=False
    )

    def __post_init__(self) -> None:
        known = self._dataset().schema.names
        if isinstance(self.columns, str):
            raise ValueError(f"Got columns={self.columns!r}, but expected a list of names.")
        self.columns = [*known] if self.columns is None else [*self.columns]
        _check_among(self.columns, known)
        if len({*self.columns}) < len(self.columns):
            raise ValueError(f"Got columns={self.columns}, but expected each once.")
        # Where each row group ends, in the order of files: all that is kept of the files.
        counts = [fragment.row_groups[0].num_rows for fragment in self._row_groups()]
        self._ends = np.cumsum([0, *counts])

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return len(self), len(self.columns or ())

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._rows is None else len(self._rows)

    def __getitem__(self, index: Any) -> ParquetTable:
        if isinstance(index, tuple):  # scikit-learn writes X[rows, ...]
            index = tuple(part for part in index if part is not ...)[0]
        if isinstance(index, int | np.integer):
            raise TypeError(f"Got row {index}, but expected a slice, integers or booleans.")
        rows = np.arange(len(self)) if self._rows is None else self._rows
        return self._with(_rows=rows[np.asarray(index) if isinstance(index, list) else index])

    def drop(self, columns: str | Sequence[str]) -> ParquetTable:
        """Return the table without some of its columns.

        Parameters
        ----------
        columns : str or sequence of str

        Raises
        ------
        ValueError
            If there is no such column.
        """
        names = [columns] if isinstance(columns, str) else [*columns]
        own = self.columns or ()
        _check_among(names, own)
        return self._with(columns=[name for name in own if name not in names])

    def column(self, name: str) -> pd.Series:
        """Read one column of the files, whether it is one of the table's or not.

        Parameters
        ----------
        name : str

        Returns
        -------
        Series of shape (n,)
            Text as categories, which take a byte or two a row.

        Raises
        ------
        ValueError
            If there is no such column.
        """
        _check_among([name], self._dataset().schema.names)
        parts = [block[name] for block in self._with(columns=[name], _prepare=None).blocks()]
        if isinstance(parts[0].dtype, pd.CategoricalDtype):
            values = pd.Series(pd.api.types.union_categoricals(parts), name=name)
        else:
            values = pd.concat(parts, ignore_index=True)
        return values.iloc[self.places()].reset_index(drop=True)

    def to_pandas(self) -> pd.DataFrame:
        """Read all rows into memory."""
        frame = pd.concat([*self.blocks()], ignore_index=True)
        return frame.iloc[self.places()].reset_index(drop=True)

    def places(self) -> np.ndarray:
        """Place of each row among those that :meth:`blocks` gives, in the order of the files."""
        if self._rows is None or (np.diff(self._rows) > 0).all():
            return np.arange(len(self))
        return np.unique(self._rows, return_inverse=True)[1]

    def blocks(self) -> Iterator[pd.DataFrame]:
        """Read the rows some at a time, each once, in the order of the files.

        Yields
        ------
        DataFrame of shape (n_rows, n_columns)
            Of at most :data:`BLOCK_ROWS` rows.
        """
        wanted = None if self._rows is None else np.unique(self._rows)
        coming = deque[Future]()
        with ThreadPoolExecutor(1) as ahead:  # the next row group is read while this one is used
            for fragment, (first, end) in zip(
                self._row_groups(), pairwise(self._ends), strict=True
            ):
                within = None
                if wanted is not None:
                    within = wanted[slice(*np.searchsorted(wanted, [first, end]))] - first
                    if not len(within):
                        continue
                coming.append(ahead.submit(self._table_of, fragment, within))
                if len(coming) == 2:
                    yield from self._in_blocks(coming.popleft().result())
            for table in coming:
                yield from self._in_blocks(table.result())

    def prepared(self, prepare: Callable[[pd.DataFrame], pd.DataFrame]) -> ParquetTable:
        """Return the same rows, each block of which goes through a function when it is read."""
        return self._with(_prepare=prepare)

    def digest(self) -> str:
        """Name the rows, by files, their sizes and times; not by what is in them."""
        files = []
        for file in self._dataset().files:
            stat = os.stat(file) if os.path.exists(file) else None
            files.append((file, stat and (stat.st_size, stat.st_mtime_ns)))
        rows = None if self._rows is None else self._rows.tobytes()
        return repr((files, self.columns, rows))

    def _with(self, **changed: Any) -> ParquetTable:
        """Return the same table, seen otherwise."""
        table = copy.copy(self)
        vars(table).update(changed)
        return table

    def _dataset(self) -> Any:
        dataset = _pyarrow_dataset()
        if isinstance(self.source, dataset.Dataset):
            found = self.source
        else:
            path = os.fspath(self.source)
            if not os.path.exists(path):
                raise FileNotFoundError(f"Got {path}, but there is no such file or folder.")
            try:
                found = dataset.dataset(path, format="parquet", partitioning="hive")
            except (OSError, ValueError) as error:
                raise ValueError(f"Got {path}, but expected Parquet: {error}") from error
        if not isinstance(getattr(found, "format", None), dataset.ParquetFileFormat):
            raise ValueError(f"Got {self.source!r}, but expected Parquet files.")
        if not found.files:
            raise ValueError(f"Got {self.source!r}, but expected a Parquet file in there.")
        return found

    def _row_groups(self) -> Iterator[Any]:
        """Row groups of all files, as fragments of one each."""
        for fragment in self._dataset().get_fragments():
            yield from fragment.split_by_row_group()

    def _table_of(self, fragment: Any, rows: np.ndarray | None) -> Any:
        """Read a row group, and keep some of its rows."""
        table = fragment.to_table(schema=self._dataset().schema, columns=self.columns)
        return table if rows is None else table.take(rows)

    def _in_blocks(self, table: Any) -> Iterator[pd.DataFrame]:
        """Turn a table of pyarrow into DataFrames of few rows; text becomes categories."""
        import pyarrow as pa

        for i, column in enumerate(table.schema):
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                table = table.set_column(i, column.name, table.column(i).dictionary_encode())
        for start in range(0, table.num_rows, BLOCK_ROWS):
            block = table.slice(start, BLOCK_ROWS).to_pandas(date_as_object=False)
            yield block if self._prepare is None else self._prepare(block)


def _check_among(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse columns that are not there."""
    if strange := [name for name in names if name not in known]:
        raise ValueError(f"Got columns {strange}, but expected some of {[*known]}.")
