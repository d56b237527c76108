"""The file that a benchmark adds every fit to, and goes on from."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

SUFFIXES = (".sqlite", ".db")

_CHECKSUM = "checksum"  # of the other values in a row: a column

# Seconds to wait while another run adds a fit to the same file.
_PATIENCE = 60.0


class ResultsFile:
    """An SQLite file with a table named ``fits``; several runs may add to it.

    What a row holds is bounded when it is written (CHECK), and is the same when it is read: beside
    SQLite's own check of the file, each row has a checksum of its values.

    Parameters
    ----------
    path : str or path
        The folder is made if need be.
    columns : dict of str
        The columns that every file of results has, each with the condition that its values meet in
        SQL, such as ``"BETWEEN 0 AND 1"``, or an empty one.
    keys : list of str
        Those that tell one row from every other, texts and numbers; a row that comes again
        takes the place of the one that is there.

    Raises
    ------
    ValueError
        If results cannot be written there, or what is there are none, or were damaged.
    """

    def __init__(self, path: str | os.PathLike[str], columns: dict[str, str], keys: list[str]):
        self.path = Path(path)
        if self.path.suffix not in SUFFIXES or self.path.is_dir():
            raise ValueError(
                f"Got results={str(path)!r}, but expected a file named *.sqlite or *.db."
            )
        self._columns = list(columns)
        self._names = ", ".join(map(_quoted, columns))
        # A missing number meets every condition. A text meets none of BETWEEN two numbers.
        checks = [
            f"CONSTRAINT {_quoted(name)} CHECK ({_quoted(name)} {check})"
            for name, check in columns.items()
            if check
        ]
        table = ", ".join([self._names, _CHECKSUM, *checks])
        # A missing number is like any other here, though NULLs differ from each other in SQL.
        row = ", ".join(f"IFNULL({_quoted(key)}, '')" for key in keys)
        with self._telling():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._transaction() as connection:
                connection.execute(f"CREATE TABLE IF NOT EXISTS fits ({table})")
                found = {name for _, name, *_ in connection.execute("PRAGMA table_info(fits)")}
                if missing := [name for name in (*columns, _CHECKSUM) if name not in found]:
                    raise ValueError(
                        f"Got results={str(path)!r} without the columns {missing}: expected a "
                        "file that a benchmark has written."
                    )
                connection.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS one_each ON fits ({row})")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what SQLite says of a file into a ValueError that names it."""
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise ValueError(
                f"Got results={str(self.path)!r}, but nothing can be written there: {error}."
            ) from error
        except (sqlite3.DatabaseError, UnicodeError) as error:
            raise ValueError(f"Got results={str(self.path)!r}: {error}.") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, also where the disk is full or the process is killed; one at a time."""
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as connection, connection:
            connection.create_function("checksum_of", -1, _checksum_of, deterministic=True)
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def read(self) -> pd.DataFrame:
        """Read all results.

        Raises
        ------
        ValueError
            If the file was damaged, or a row is not as it was written.
        """
        with self._telling(), self._transaction() as connection:
            (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise ValueError(
                    f"Got results={str(self.path)!r}, which was damaged ({found}): use another "
                    "file, or a copy."
                )
            changed = connection.execute(
                f"SELECT rowid FROM fits WHERE {_CHECKSUM} IS NOT checksum_of({self._names})"
            ).fetchall()
            if changed:
                rows = ", ".join(str(row) for (row,) in changed)
                raise ValueError(
                    f"Got results={str(self.path)!r} with {len(changed)} rows that are not as they "
                    f"were written. To have them done again: DELETE FROM fits WHERE rowid IN "
                    f"({rows})."
                )
            return pd.read_sql_query(f"SELECT {self._names} FROM fits", connection)

    def add(self, results: pd.DataFrame) -> None:
        """Add rows; what else is there stays as it is.

        Raises
        ------
        sqlite3.IntegrityError
            If a value does not meet the condition of its column.
        """
        results = results[self._columns]
        marks = ", ".join(f"?{i}" for i in range(1, len(self._columns) + 1))
        plain = results.astype(object).where(results.notna(), None)
        with self._transaction() as connection:
            connection.executemany(
                f"INSERT OR REPLACE INTO fits ({self._names}, {_CHECKSUM}) "
                f"VALUES ({marks}, checksum_of({marks}))",
                plain.itertuples(index=False, name=None),
            )


def _checksum_of(*values: Any) -> str:
    """Checksum of a row, as SQLite gives its values."""
    return hashlib.blake2b(repr(values).encode(), digest_size=8).hexdigest()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
