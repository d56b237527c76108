"""Markdown and JSON: the blocks of a document as plain text and as data."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from fairprune_sk.documents.blocks import (
    Block,
    Chart,
    Charts,
    Document,
    Figures,
    Items,
    Table,
    Terms,
    Text,
    Verdict,
    kind_of,
)

FORMAT = 1
"""Version of the JSON: it rises when a reader of an earlier one would stumble."""


# --- Markdown ---


def as_markdown(document: Document) -> str:
    """Write a document as Markdown; a chart becomes what it says in words."""
    parts = [f"# {_plain(document.title)}", _plain(document.subtitle)]
    for section in document.sections:
        parts.append(f"## {_plain(section.title)}")
        parts += [_block(block) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"**{_plain(block.text)}**" if block.strong else _plain(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {_plain(item)}" for item in block.items)
    if isinstance(block, Terms):
        return "\n".join(f"- **{_plain(term)}**: {_plain(text)}" for term, text in block.items)
    if isinstance(block, Figures):
        lines = []
        for label, value, remark in block.items:
            lines.append(f"- **{_plain(label)}**: {value}" + (f" ({remark})" if remark else ""))
        return "\n".join(lines)
    if isinstance(block, Verdict):
        return "\n\n".join([f"**{block.word}.** {_plain(block.text)}", *map(_plain, block.more)])
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Charts):
        return "\n\n".join(map(_block, block.charts))
    return f"*{_plain(block.title)}* (a picture in words): {_plain(block.text)}"


def _table(table: Table) -> str:
    """Write a table in the form that GitHub and others know."""
    strings = table.strings()
    head = [*(str(name or "") for name in strings.index.names), *map(str, strings.columns)]
    rows = [
        [*names, *cells]
        for names, cells in zip(table.row_names(), strings.to_numpy().tolist(), strict=True)
    ]
    rule = ["---"] * strings.index.nlevels + ["---:"] * strings.shape[1]
    lines = [head, rule, *rows]
    text = "\n".join(f"| {' | '.join(map(_in_cell, line))} |" for line in lines)
    note = f"\n\n({_plain(table.note)})" if table.note else ""
    return f"{_plain(table.caption)}\n\n{text}{note}"


def _plain(text: str) -> str:
    """Keep what Markdown or the HTML inside it would take for its own signs."""
    for sign in "\\`*_[]<>":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _in_cell(text: str) -> str:
    return text if set(text) <= set("-:") else _plain(text).replace("|", "\\|")


# --- JSON ---


def as_json(document: Document, **facts: Any) -> str:
    """Write a document as JSON, numbers in full precision; NaN and infinity become null.

    Parameters
    ----------
    document : Document
    **facts
        What machines want to find at a fixed place; it comes before the sections.
    """
    content = {"format": FORMAT, "title": document.title, "subtitle": document.subtitle}
    sections = [
        {
            "key": section.key,
            "title": section.title,
            "blocks": [_data(block) for block in section.blocks],
        }
        for section in document.sections
    ]
    data = _finite({**content, **facts, "sections": sections})
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _data(block: Any) -> dict[str, Any]:
    if isinstance(block, Table):
        frame = block.frame
        rows = [
            {"name": list(names), **dict(zip(map(str, frame.columns), cells, strict=True))}
            for names, cells in zip(
                block.row_names(), frame.itertuples(index=False, name=None), strict=True
            )
        ]
        return {"kind": "table", "caption": block.caption, "note": block.note, "rows": rows}
    if isinstance(block, Charts):
        return {"kind": "charts", "charts": [_data(chart) for chart in block.charts]}
    if isinstance(block, Chart):
        rows = [{"name": n, "marks": [m._asdict() for m in marks]} for n, marks in block.rows]
        lines = [line._asdict() for line in block.lines]
        shown = {"title": block.title, "text": block.text, "rows": rows, "lines": lines}
        return {"kind": "chart", **shown}
    assert is_dataclass(block)
    return {"kind": kind_of(block)} | {f.name: getattr(block, f.name) for f in fields(block)}


def _finite(value: Any) -> Any:
    """Turn a value into what JSON has."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return _finite(value._asdict())
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
