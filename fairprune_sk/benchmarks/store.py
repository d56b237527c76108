"""The file that a benchmark adds every fit to, and goes on from."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd

SUFFIXES = (".sqlite", ".db")

# Seconds to wait while another run adds a fit to the same file.
_PATIENCE = 60.0


class ResultsFile:
    """An SQLite file with a table named ``fits``; several runs may add to it.

    Parameters
    ----------
    path : str or path
        The folder is made if need be.
    columns : list of str
        That every file of results has.
    keys : list of str
        Those that tell one row from every other, texts and numbers; a row that comes again
        takes the place of the one that is there.

    Raises
    ------
    ValueError
        If results cannot be written there, or what is there are none.
    """

    def __init__(self, path: str | os.PathLike[str], columns: list[str], keys: list[str]):
        self.path = Path(path)
        if self.path.suffix not in SUFFIXES or self.path.is_dir():
            raise ValueError(
                f"Got results={str(path)!r}, but expected a file named *.sqlite or *.db."
            )
        # A missing number is like any other here, though NULLs differ from each other in SQL.
        row = ", ".join(f"IFNULL({_quoted(key)}, '')" for key in keys)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._transaction() as connection:
                names = ", ".join(map(_quoted, columns))
                connection.execute(f"CREATE TABLE IF NOT EXISTS fits ({names})")
                found = {name for _, name, *_ in connection.execute("PRAGMA table_info(fits)")}
                if missing := [name for name in columns if name not in found]:
                    raise ValueError(
                        f"Got results={str(path)!r} without the columns {missing}: expected a "
                        "file that a benchmark has written."
                    )
                connection.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS one_each ON fits ({row})")
        except (OSError, sqlite3.OperationalError) as error:
            raise ValueError(
                f"Got results={str(path)!r}, but nothing can be written there: {error}."
            ) from error
        except sqlite3.DatabaseError as error:
            raise ValueError(f"Got results={str(path)!r}: {error}.") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, also where the disk is full or the process is killed."""
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as connection, connection:
            yield connection

    def read(self) -> pd.DataFrame:
        """Read all results."""
        with self._transaction() as connection:
            return pd.read_sql_query("SELECT * FROM fits", connection)

    def add(self, results: pd.DataFrame) -> None:
        """Add rows; what else is there stays as it is."""
        names = ", ".join(map(_quoted, results.columns))
        marks = ", ".join("?" * results.shape[1])
        plain = results.astype(object).where(results.notna(), None)
        with self._transaction() as connection:
            connection.executemany(
                f"INSERT OR REPLACE INTO fits ({names}) VALUES ({marks})",
                plain.itertuples(index=False, name=None),
            )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
