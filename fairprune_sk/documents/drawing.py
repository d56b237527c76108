"""Charts as SVG, drawn so that one picture serves a telephone, a wide screen and paper.

Horizontal places are per cent and sizes are pixels, so text keeps its size whatever the width.
Colours come from the style sheet, which knows light, dark and paper. Marks differ in shape as well
as in colour. No library draws such pictures: text would be scaled with them, or turned into
outlines, and a report must not depend on an extra.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from fairprune_sk.documents.blocks import Change, Chart, Line, Mark, Span, shown

_LEFT, _RIGHT = 3.0, 97.0  # per cent: ends of the axis, with room for half a mark
_NAME_WIDTH = 30  # characters of a name in a line, on a telephone
_LEGEND_WIDTH = 300  # pixels, on a telephone
_LETTER = 7.0  # pixels of a letter, at most on average
_LINE, _LANE, _BETWEEN = 17, 14, 10  # pixels: a line of text, a lane of marks, between rows
_MOST_TICKS = 5


class Drawing(NamedTuple):
    """What a template needs to write a chart."""

    height: int
    legend: list[dict[str, Any]]
    ticks: list[tuple[float, str]]
    lines: list[tuple[float, int]]
    rows: list[dict[str, Any]]
    bottom: int


def ticks_between(low: float, high: float) -> list[float]:
    """Round numbers that cover a range, at most six of them.

    Examples
    --------
    >>> from fairprune_sk.documents.drawing import ticks_between
    >>> ticks_between(0.0, 0.23)
    [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]
    """
    span = max(high - low, 1e-6)
    power = 10.0 ** math.floor(math.log10(span / _MOST_TICKS))
    step = next(s * power for s in (1, 2, 5, 10, 20) if span / (s * power) <= _MOST_TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def drawn(chart: Chart) -> Drawing:
    """Lay out a chart.

    Parameters
    ----------
    chart : Chart

    Returns
    -------
    Drawing
    """
    ticks = _ticks(chart)
    low, high = ticks[0], ticks[-1]

    def at(value: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (value - low) / (high - low), 2)

    legend, y = _legend(chart)
    rows = []
    looks = [look for look, _ in chart.series]
    for label, marks in chart.rows:
        parts = textwrap.wrap(label, _NAME_WIDTH) or [""]
        y += _BETWEEN
        names = [(y + _LINE * (i + 1) - 4, line) for i, line in enumerate(parts)]
        value_y = names[0][0]
        y += _LINE * len(parts) + 2
        placed, first = [], y
        for mark in sorted(marks, key=lambda mark: looks.index(mark.series)):
            known = not (math.isnan(mark.value) and math.isnan(mark.low))
            if known:
                y += _LANE
                placed.append(_placed(mark, at, y - _LANE // 2))
        rows.append(
            {
                "names": names,
                "value": (value_y, _value_of(marks)),
                "marks": placed,
                "lanes": (first - 1, y + 2),
            }
        )
    bottom = y + 4
    lines = [(at(line.value), i) for i, line in _drawable(chart.lines)]
    places = [(at(tick), f"{tick:g}") for tick in ticks]
    return Drawing(bottom + 22, legend, places, lines, rows, bottom)


def _drawable(lines: Iterable[Line]) -> list[tuple[int, Line]]:
    return [(i, line) for i, line in enumerate(lines) if not math.isnan(line.value)]


def _ticks(chart: Chart) -> list[float]:
    values = [v for _, marks in chart.rows for mark in marks for v in mark[1:]]
    values += [line.value for line in chart.lines]
    known = [v for v in values if not math.isnan(v)] or [0.0, 1.0]
    low = min(known) if chart.low is None else chart.low
    return ticks_between(low, max(*known, low))


def _placed(mark: Mark, at: Any, y: int) -> dict[str, Any]:
    """Place a mark; one without a value is an interval alone."""
    value = None if math.isnan(mark.value) else at(mark.value)
    span = None if math.isnan(mark.low) else (at(mark.low), at(mark.high))
    return {"look": mark.series, "y": y, "value": value, "span": span}


def _value_of(marks: tuple[Mark, ...]) -> str:
    """Write the values of a row, for its right end."""
    if len(marks) == 2:
        return shown(Change(marks[0].value, marks[1].value))
    [mark] = marks
    if not np.isnan(mark.value):
        return shown(float(mark.value))
    return shown(Span(mark.low, mark.high))


def _legend(chart: Chart) -> tuple[list[dict[str, Any]], int]:
    """Place the words for marks and lines, in as many lines as a telephone needs."""
    words = [(look, name) for look, name in chart.series]
    words += [(f"line{i}", line.label) for i, line in _drawable(chart.lines)]
    placed, x, y = [], 0.0, 14
    for look, text in words:
        width = 22 + _LETTER * len(text)
        if x and x + width > _LEGEND_WIDTH:
            x, y = 0.0, y + _LINE + 2
        placed.append({"look": look, "text": text, "x": x, "y": y})
        x += width + 12
    return placed, y + 4
