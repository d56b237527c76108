"""Tables and notes as a terminal shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import pandas as pd

LINE_WIDTH = 100


def wrapped(line: str) -> str:
    """Break a line that is too long for the terminal."""
    return textwrap.fill(line, LINE_WIDTH, subsequent_indent="  ")


def laid_out(notes: Iterable[str]) -> str:
    """Lay out notes below each other, under their heading."""
    lines = [textwrap.fill(f"- {note}", LINE_WIDTH, subsequent_indent="  ") for note in notes]
    return "\n".join(["Notes", *lines])


def text_of(table: pd.DataFrame) -> str:
    """Lay out a table of strings; a name too long for the line goes on in the next lines.

    Names of two levels (stratum, group) become a line for each stratum, above its groups.
    """
    widths = [max(map(len, [name, *table[name]])) for name in table.columns]
    room = max(LINE_WIDTH - sum(widths) - 2 * len(widths), 14)
    blank = [""] * len(widths)
    rows = [["", *table.columns]]

    def add(name: str, indent: str, cells: Iterable[str]) -> None:
        lines = textwrap.wrap(name, room, initial_indent=indent, subsequent_indent=indent + "  ")
        first, *more = lines or [""]
        rows.extend([[first, *cells], *([line, *blank] for line in more)])

    stratum = None
    for name, *cells in table.itertuples():
        if not isinstance(name, tuple):
            add(str(name), "  ", cells)
        elif name == ("overall", ""):
            add(name[0], "  ", cells)
        else:
            if name[0] != stratum:
                stratum = name[0]
                add(stratum, "  ", blank)
            add(name[1], "    ", cells)
    name_width = max(len(name) for name, *_ in rows)
    lines = []
    for name, *cells in rows:
        cells = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([name.ljust(name_width), *cells]).rstrip())
    return "\n".join(lines)
