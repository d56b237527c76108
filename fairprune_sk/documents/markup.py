"""HTML: a page of its own, or a fragment for a notebook."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fairprune_sk._version import __version__
from fairprune_sk.documents.blocks import Block, Document, Table, kind_of, shown, sort_key
from fairprune_sk.documents.drawing import drawn

MOST_ROWS = 200
"""Rows of a table that are written; a browser shows no more at ease, and a file stays small."""

_FOLDER = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    """Load the templates, which escape whatever comes from a user's data."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.globals |= {"kind_of": kind_of, "drawn": drawn, "rows_of": _rows}
    return environment


@cache
def _part(name: str) -> str:
    """Read a style sheet or a script, as it stands in a page."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """Name a style or script for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _rows(table: Table) -> dict[str, Any]:
    """Rows of a table as a template writes them, and how many are left out."""
    frame = table.frame.iloc[:MOST_ROWS]
    names = table.row_names()[:MOST_ROWS]
    rows = [
        (name, [(shown(cell), sort_key(cell)) for cell in cells])
        for name, cells in zip(names, frame.itertuples(index=False, name=None), strict=True)
    ]
    return {
        "totals": rows[: table.n_totals],
        "rows": rows[table.n_totals :],
        "more": len(table.frame) - len(frame),
    }


def page(document: Document) -> str:
    """Write a document as one HTML file that fetches nothing.

    The page forbids itself to load anything, and to run any script but its own: a policy in its
    head names them by their digests.

    Parameters
    ----------
    document : Document

    Returns
    -------
    str
    """
    style, script = _part("blocks.css") + _part("page.css"), _part("page.js")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html")
        .render(
            document=document,
            style=style,
            script=script,
            policy=policy,
            version=__version__,
        )
    )


def fragment(blocks: tuple[Block, ...]) -> str:
    """Write blocks for a notebook: their colours are those of the notebook, light or dark.

    Parameters
    ----------
    blocks : tuple of Block

    Returns
    -------
    str
        A ``div`` with its style; no script.
    """
    template = _environment().get_template("fragment.html")
    return template.render(blocks=blocks, style=_part("blocks.css"))
