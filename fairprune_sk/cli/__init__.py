"""The command ``fairprune``: from a file of a table to a network, a report and an export.

Here belongs what a command line adds: arguments, screens, a folder for each fit. What it does to a
table is :func:`~fairprune_sk.datasets.read_frame`, :func:`~fairprune_sk.datasets.with_roles`,
:func:`~fairprune_sk.datasets.split_rows`, :class:`~fairprune_sk.datasets.TableCleaner` and
:class:`~fairprune_sk.FairPruner`, as a script would.

Needs the extra ``cli``; :func:`read_folder` does not.
"""

from __future__ import annotations

import sys

from fairprune_sk.cli.folder import FittedFolder, read_folder

__all__ = ["FittedFolder", "main", "read_folder"]


def main() -> None:
    """Run the command, or say which extra it needs."""
    try:
        from fairprune_sk.cli.app import app
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("The command fairprune needs click: pip install 'fairprune_sk[cli]'")
    app(prog_name="fairprune")
