"""What a document is made of: frozen values, without a word on how they look."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# --- cells of a table ---


class Change(NamedTuple):
    """A number before and after pruning."""

    dense: float
    pruned: float


class Span(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float


Cell = str | int | float | Change | Span


def number(value: float) -> str:
    """Three decimals, never "-0.000", and a dash for NaN."""
    return "–" if np.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def shown(cell: Cell) -> str:
    """Write a cell for people: ``0.853→0.848``, ``0.020 to 0.051``, ``1,234``."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Change):
        return "→".join(map(number, cell))
    if isinstance(cell, Span):
        return " to ".join(map(number, cell))
    return f"{cell:,}" if isinstance(cell, Integral) else number(cell)


def sort_key(cell: Cell) -> float | None:
    """Return the number that a cell is sorted by; None for text and for NaN."""
    if isinstance(cell, str):
        return None
    value = float(cell[-1] if isinstance(cell, tuple) else cell)
    return None if np.isnan(value) else value


# --- blocks ---


@dataclass(frozen=True)
class Text:
    """A paragraph; ``strong`` where it must not be overlooked."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Terms:
    """Words, and what each means; or, ``compact``, settings and their values."""

    items: tuple[tuple[str, str], ...]
    compact: bool = False


@dataclass(frozen=True)
class Figures:
    """The few figures that matter: (label, value, remark)."""

    items: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Verdict:
    """An answer, or an alarm.

    Attributes
    ----------
    state : {"yes", "no", "open", "alarm"}
        How it looks.
    word : str
        The answer in a word or two.
    text : str
        The answer in a sentence.
    more : tuple of str
        What else is known.
    """

    state: str
    word: str
    text: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Table:
    """A table of cells.

    Attributes
    ----------
    caption : str
    frame : DataFrame
        Of cells; the index holds the names of the rows, in one level or two.
    n_totals : int
        First rows that stay where they are when a reader sorts the others.
    note : str
        What to know of its columns.
    """

    caption: str
    frame: pd.DataFrame
    n_totals: int = 0
    note: str = ""

    def strings(self) -> pd.DataFrame:
        """Return the table as people read it."""
        return self.frame.map(shown)

    def row_names(self) -> list[tuple[str, ...]]:
        """Return the names of each row, one or two."""
        return [
            tuple(map(str, name)) if isinstance(name, tuple) else (str(name),)
            for name in self.frame.index
        ]


class Mark(NamedTuple):
    """A value in a chart, with an interval where it has one."""

    series: str
    value: float
    low: float = np.nan
    high: float = np.nan


class Line(NamedTuple):
    """A value that all others are compared with; its label says the value."""

    label: str
    value: float


@dataclass(frozen=True)
class Chart:
    """Values by name along one axis.

    Attributes
    ----------
    title : str
    text : str
        Says the same in words, for those who do not see it.
    rows : tuple of (str, tuple of Mark)
    series : tuple of (str, str)
        Marks of which kind there are, "dense" or "pruned" (how they look), and what they are.
    lines : tuple of Line
    low : float or None
        Where the axis begins; by default a little below the smallest value.
    """

    title: str
    text: str
    rows: tuple[tuple[str, tuple[Mark, ...]], ...]
    series: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...] = ()
    low: float | None = None


@dataclass(frozen=True)
class Charts:
    """Charts beside each other, where there is room."""

    charts: tuple[Chart, ...]


Block = Text | Items | Terms | Figures | Verdict | Table | Chart | Charts


@dataclass(frozen=True)
class Section:
    """A heading with what is below it; ``key`` names it for links and machines."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A whole page."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def kind_of(block: Any) -> str:
    """Name the kind of a block, as templates and JSON do."""
    return type(block).__name__.lower()
