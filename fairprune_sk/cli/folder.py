"""What ``fairprune fit`` leaves: one folder with a network, its settings and its test rows."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from sklearn.pipeline import Pipeline, make_pipeline

from fairprune_sk._version import __version__
from fairprune_sk.datasets.cleaning import TableCleaner
from fairprune_sk.datasets.csv_files import existing
from fairprune_sk.datasets.description import TableDescription
from fairprune_sk.datasets.files import read_frame, stem_of
from fairprune_sk.datasets.roles import Roles, with_roles
from fairprune_sk.datasets.tables import names_of
from fairprune_sk.pruner import FairPruner, load

MODEL, SETTINGS, TEST_ROWS = "model.fairprune", "settings.json", "test_rows.csv"
SURFACE, ONNX = "surface.csv", "model.onnx"
REPORTS = {"html": "report.html", "json": "report.json", "md": "report.md"}
WRITTEN = {MODEL, SETTINGS, TEST_ROWS, SURFACE, ONNX, *REPORTS.values()}
"""Names of all that the command writes into a folder."""


@dataclass(frozen=True, eq=False)
class FittedFolder:
    """A folder that was fitted.

    Attributes
    ----------
    path : Path
    pruner : FairPruner
    cleaner : TableCleaner
        From columns of the file to those that the pruner takes.
    description : TableDescription
        What the columns of the table are for.
    settings : dict
        All that ``settings.json`` holds.
    test_rows : ndarray of int64
        Rows of the table that the fit has not seen, counted from 0.
    """

    path: Path
    pruner: FairPruner
    cleaner: TableCleaner
    description: TableDescription
    settings: dict[str, Any]
    test_rows: np.ndarray

    @property
    def pipeline(self) -> Pipeline:
        """The two as one classifier of tables, fitted."""
        return make_pipeline(self.cleaner, self.pruner)

    def features(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Make the columns that the pruner takes from a table as it was read.

        Parameters
        ----------
        frame : DataFrame of shape (n, n_columns)

        Returns
        -------
        DataFrame of shape (n, n_features)
        """
        codes = {c: names_of(frame[c]) for c in self.description.categories if c in frame}
        return self.cleaner.transform(frame.assign(**codes))

    def unseen(self, data: Path | None = None, new: Path | None = None) -> tuple[Roles, str]:
        """Read rows that the fit has not seen.

        Parameters
        ----------
        data : Path, optional
            The file of the fit, where it is no longer at its place.
        new : Path, optional
            A file of other people, all of whom are taken.

        Returns
        -------
        roles : Roles
            Their features are ready for the pruner.
        what : str
            Which rows they are, in words.

        Raises
        ------
        OSError
            If there is no such file.
        ValueError
            If the file is not that of the fit, or ``new`` is.
        """
        known = self.settings["data"]
        if new is not None:
            if digest_of(existing(new, "new rows")) == known["digest"]:
                raise ValueError(
                    f"Got {str(new)!r} as new rows, but this is the very file of the fit, most of "
                    "whose rows the network was trained on: leave --new out for its test rows."
                )
            roles = with_roles(read_frame(new, self.description.na_values), *self._named())
            what = f"all {len(roles.y):,} rows of {new}, taken for people that the fit has not seen"
            return self._ready(roles), what
        path = Path(known["path"]) if data is None else existing(data, "--data")
        if not path.is_file():
            raise FileNotFoundError(
                f"The table of this fit is no longer at {str(path)!r}: say where it is with "
                "--data, or name a file of other people with --new."
            )
        if digest_of(path) != known["digest"]:
            raise ValueError(
                f"Got {str(path)!r}, which is not the file of the fit, or was changed since: its "
                "test rows are rows of that file. Restore it, or name a file of people that the "
                "fit has not seen with --new."
            )
        roles = with_roles(read_frame(path, self.description.na_values), *self._named())
        tested = np.flatnonzero(np.isin(roles.rows, self.test_rows))
        what = f"{len(tested):,} rows of {path.name} that were set aside before the fit"
        return self._ready(roles.take(tested)), what

    def _named(self) -> tuple[TableDescription, str]:
        return self.description, self.settings["data"]["name"]

    def _ready(self, roles: Roles) -> Roles:
        cleaned = self.cleaner.transform(roles.X)
        return Roles(**{**vars(roles), "X": cleaned})


def write_folder(
    folder: Path,
    pruner: FairPruner,
    cleaner: TableCleaner,
    description: TableDescription,
    test_rows: np.ndarray,
    settings: dict[str, Any],
) -> None:
    """Write a fit into a folder.

    Parameters
    ----------
    folder : Path
        It is there.
    pruner : FairPruner
    cleaner : TableCleaner
    description : TableDescription
    test_rows : ndarray of int64
    settings : dict
        Of plain values: what else is to be known of the fit.
    """
    pruner.save(folder / MODEL)
    pd.DataFrame({"row": test_rows}).to_csv(folder / TEST_ROWS, index=False)
    content = {
        **settings,
        "description": asdict(description),
        "cleaning": cleaner.to_dict(),
        "versions": versions(),
    }
    (folder / SETTINGS).write_text(json.dumps(content, indent=2, default=str) + "\n", "utf-8")


def read_folder(path: Any) -> FittedFolder:
    """Read the folder that a fit left.

    Parameters
    ----------
    path : str or path

    Returns
    -------
    FittedFolder

    Raises
    ------
    OSError, ValueError
        If it is none, or was changed.

    Examples
    --------
    >>> from fairprune_sk.cli import read_folder
    >>> read_folder("nowhere")
    Traceback (most recent call last):
        ...
    FileNotFoundError: Got 'nowhere', but there is no such folder: fairprune fit makes one.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"Got {str(path)!r}, but there is no such folder: fairprune fit makes one."
        )
    absent = sorted(name for name in (MODEL, SETTINGS, TEST_ROWS) if not (path / name).is_file())
    if absent:
        raise ValueError(
            f"Got the folder {str(path)!r} without {absent}, but expected one that fairprune fit "
            "made."
        )
    try:
        settings = json.loads((path / SETTINGS).read_text("utf-8"))
        description = TableDescription.from_dict(settings["description"])
        cleaner = TableCleaner.from_dict(settings["cleaning"])
        test_rows = pd.read_csv(path / TEST_ROWS)["row"].to_numpy(dtype=np.int64)
        itemgetter("digest", "path", "name")(settings["data"])  # they are there
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Got the folder {str(path)!r} whose {SETTINGS} or {TEST_ROWS} is not as fairprune "
            f"writes it ({type(error).__name__}: {error}): fit again."
        ) from error
    return FittedFolder(path, load(path / MODEL), cleaner, description, settings, test_rows)


def check_free(path: Path, force: bool) -> None:
    """Check, before any work, that a folder may be written.

    Parameters
    ----------
    path : Path
    force : bool
        Whether a folder that an earlier fit left may go.

    Raises
    ------
    OSError
        If it may not, or something else is there.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Got --out {str(path)!r}, but there is no folder {str(path.parent)!r}: make it first."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"Got --out {str(path)!r}, but nothing may be written there.")
    if not path.exists():
        return
    if not force:
        raise FileExistsError(
            f"Got --out {str(path)!r}, which exists: name another folder, or replace it with "
            "--force."
        )
    if not path.is_dir():
        raise FileExistsError(f"Got --out {str(path)!r}, which is no folder: name another one.")
    others = sorted({entry.name for entry in path.iterdir()} - WRITTEN)
    if others:
        raise FileExistsError(
            f"Got --out {str(path)!r} with --force, but it holds {others[:5]}, which fairprune did "
            "not write: move them, or name another folder."
        )


@contextmanager
def new_folder(path: Path, force: bool) -> Iterator[Path]:
    """Fill a folder beside its place, and put it there as a whole, or not at all.

    Parameters
    ----------
    path : Path
        Where it is to be in the end.
    force : bool
        Whether it takes the place of one that was there.

    Yields
    ------
    Path
        The folder to fill.
    """
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    old = draft.with_name(draft.name + "-old")
    try:
        draft.chmod(0o777 & ~_umask())  # mkdtemp's folders are for their owner alone
        yield draft
        check_free(path, force)  # it may have appeared since
        if path.exists():
            path.rename(old)
        draft.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def about_data(path: Path, n_rows: int) -> dict[str, Any]:
    """Say which file a fit is of.

    Parameters
    ----------
    path : Path
    n_rows : int

    Returns
    -------
    dict
    """
    resolved = path.resolve()
    return {
        "name": stem_of(path),
        "path": str(resolved),
        "digest": digest_of(resolved),
        "rows": n_rows,
    }


def digest_of(path: Path) -> str:
    """Digest of a file's bytes.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of what decides about a fit.

    Returns
    -------
    dict
    """
    return {
        "fairprune_sk": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "pandas": pd.__version__,
        "numpy": np.__version__,
    }
