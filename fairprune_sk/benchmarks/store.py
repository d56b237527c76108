"""The file that a benchmark writes every fit to, and goes on from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

SUFFIXES = (".parquet", ".pq")


class ResultsFile:
    """A Parquet file of results, for one run at a time.

    Parameters
    ----------
    path : str or path
        The folder is made if need be.
    columns : list of str
        That every file of results has.

    Raises
    ------
    ValueError
        If results cannot be written there, or what is there are none.
    """

    def __init__(self, path: str | os.PathLike[str], columns: list[str]):
        self.path = Path(path)
        self.columns = columns
        if self.path.suffix not in SUFFIXES or self.path.is_dir():
            raise ValueError(f"Got results={str(path)!r}, but expected a file named *.parquet.")
        self._partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        self._lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
            self._partial.unlink()
        except OSError as error:
            raise ValueError(
                f"Got results={str(path)!r}, but nothing can be written there: {error}."
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs off the file: each would write over what the other has added."""
        if self._lock.exists() and not _runs(self._lock.read_text()):
            self._lock.unlink()  # of a run that was killed
        try:
            with open(self._lock, "x") as lock:
                lock.write(str(os.getpid()))
        except FileExistsError:
            raise ValueError(
                f"Got results={str(self.path)!r}, which another run (process "
                f"{self._lock.read_text()}) is writing to: wait for it, or use another file. "
                f"{self._lock.name} may be removed where there is no such run."
            ) from None
        try:
            yield
        finally:
            self._lock.unlink(missing_ok=True)

    def read(self) -> pd.DataFrame:
        """Read all results; an empty table where there is no file yet."""
        if not self.path.exists():
            return pd.DataFrame(columns=self.columns)
        try:
            results = pd.read_parquet(self.path)
        except Exception as error:  # pyarrow has many
            raise ValueError(
                f"Got results={str(self.path)!r}, which is no Parquet file: {error}."
            ) from error
        missing = [name for name in self.columns if name not in results]
        if missing:
            raise ValueError(
                f"Got results={str(self.path)!r} without the columns {missing}: expected a file "
                "that a benchmark has written."
            )
        return results

    def write(self, results: pd.DataFrame) -> None:
        """Write beside and move: a crash in between loses nothing."""
        try:
            results.to_parquet(self._partial, index=False)
            self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def _runs(process: str) -> bool:
    """Whether a process of this number exists."""
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass  # somebody else's
    return True
