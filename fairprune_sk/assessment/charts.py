"""The pictures of a report, each with what it shows in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairprune_sk.assessment.gaps import in_words
from fairprune_sk.assessment.rate_intervals import PROPORTIONS
from fairprune_sk.assessment.tables import networks_of
from fairprune_sk.assessment.words import TITLES
from fairprune_sk.documents.blocks import Chart, Line, Mark, number

if TYPE_CHECKING:
    from fairprune_sk.assessment.findings import FairnessReport

MOST_GROUPS = 24
"""Groups in a picture: those with the most rows. A table has all."""

MOST_CLASSES = 3
"""Classes with pictures of their own: those with the largest gaps."""

_SERIES = {
    "dense": ("dense", "dense network"),
    "pruned": ("pruned", "pruned network"),
    "value": ("pruned", "this model"),
}
"""For each network how its marks look, and what they are."""


def _series(report: FairnessReport) -> tuple[tuple[str, str], ...]:
    return tuple(_SERIES[name] for name in networks_of(report))


def answer_chart(report: FairnessReport) -> Chart | None:
    """Show what is known of the gap that counts, against the tolerance."""
    requirement, estimate = report.requirement, report.estimate
    if requirement is None or estimate is None or requirement.tolerance is None:
        return None
    level, certificate = f"{report.confidence_level * 100:g}%", report.certificate
    rows = [("After pruning, on these rows", Mark("pruned", estimate.gap))]
    if "dense" in networks_of(report):
        rows.insert(0, ("Before pruning, on these rows", Mark("dense", report.dense_gap)))
    if not report.provenance.seen:
        expected = Mark("pruned", estimate.corrected, estimate.low, estimate.high)
        rows.append((f"People not seen: best estimate, {level} interval", expected))
        if certificate is not None:
            bounds = Mark("pruned", np.nan, certificate.lower, certificate.upper)
            rows.append((f"People not seen: certified, {level} confidence", bounds))
    lines = (
        Line(f"tolerance {requirement.tolerance:g}", requirement.tolerance),
        Line(f"noise floor {number(estimate.noise_floor)}", estimate.noise_floor),
    )
    return Chart(
        title=f"Gap in {requirement.constraint.name}: what is known of it",
        text=" ".join(f"{name}: {_said(mark)}." for name, mark in rows)
        + f" Tolerance: {requirement.tolerance:g}. Noise floor, what groups with equal rates "
        f"would show on these rows: {number(estimate.noise_floor)}.",
        rows=tuple((name, (mark,)) for name, mark in rows),
        series=_series(report),
        lines=lines,
        low=0.0,
    )


def _said(mark: Mark) -> str:
    """Write a mark in words."""
    ends = f"{number(mark.low)} to {number(mark.high)}"
    if np.isnan(mark.value):
        return ends
    return number(mark.value) + ("" if np.isnan(mark.low) else f" ({ends})")


def gaps_chart(report: FairnessReport) -> Chart:
    """Show every gap, dense against pruned, the latter with its interval."""
    rows = []
    *dense, shipped = networks_of(report)
    for gap, row in report.differences.iterrows():
        marks = [Mark("dense", row[name]) for name in dense]
        marks.append(Mark("pruned", row[shipped], row["low"], row["high"]))
        rows.append((in_words(str(gap)), tuple(marks)))
    return Chart(
        title="Gaps between groups",
        text=_values_in_words(rows, report),
        rows=tuple(rows),
        series=_series(report),
        low=0.0,
    )


def rate_charts(report: FairnessReport) -> list[Chart]:
    """Show every rate of every group, dense against pruned, with intervals."""
    charts: list[Chart] = []
    largest = _largest_groups(report)
    for metric in ("selection_rate", *(name for name in PROPORTIONS if name != "selection_rate")):
        for label in classes_to_show(report, MOST_CLASSES) or [None]:
            if metric == "accuracy" and charts and charts[-1].title == TITLES[metric]:
                continue  # it belongs to no class: once
            rows = _rate_rows(report, metric, label)
            rows = [rows[i] for i in range(len(rows)) if i in largest]
            more = len(report.by_group) - len(rows)
            title = TITLES[metric]
            title += "" if label is None or metric == "accuracy" else f": class {label!r}"
            note = f" The {len(rows)} groups with the most rows; {more} more are in the table."
            charts.append(
                Chart(
                    title=title,
                    text=_values_in_words(rows, report) + (note if more else ""),
                    rows=tuple(rows),
                    series=_series(report),
                )
            )
    return charts


def classes_to_show(report: FairnessReport, most: int) -> list[Any]:
    """Classes, of more than two, in their order: those with the largest gaps, if they are many."""
    labels = list(report.by_class.index)
    if len(labels) <= most:
        return labels
    gaps = report.by_class.drop(columns="positives", level=0)
    gaps = gaps.xs(networks_of(report)[-1], axis=1, level=1).max(axis=1).fillna(-1.0)
    chosen = set(np.argsort(-gaps.to_numpy(), kind="stable")[:most].tolist())
    return [label for i, label in enumerate(labels) if i in chosen]


def _largest_groups(report: FairnessReport) -> set[int]:
    """Positions of the groups that a picture has room for."""
    several = len(report.by_class) > 0
    count = report.by_group[("count", "", "") if several else ("count", "")].to_numpy()
    return set(np.argsort(-count, kind="stable")[:MOST_GROUPS].tolist())


def _rate_rows(
    report: FairnessReport, metric: str, label: Any
) -> list[tuple[str, tuple[Mark, ...]]]:
    """Place the marks of a rate in each group, in the order of the table."""
    found = report.intervals[report.intervals["metric"] == metric]
    if label is not None and metric != "accuracy":
        found = found[found["class"] == label]
    parts = [found[found["network"] == name] for name in networks_of(report)]
    names = [": ".join(n) if isinstance(n, tuple) else str(n) for n in report.by_group.index]
    looks = [look for look, _ in _series(report)]
    marks = [
        [Mark(look, *values) for values in part[["rate", "low", "high"]].to_numpy(float)]
        for look, part in zip(looks, parts, strict=True)
    ]
    return list(zip(names, zip(*marks, strict=True), strict=True))


def _values_in_words(rows: list[tuple[str, tuple[Mark, ...]]], report: FairnessReport) -> str:
    """Say what a picture shows: all values of a few rows, the ends of many."""
    names = [name for _, name in _series(report)]
    if len(rows) <= 6:
        said = [
            f"{label}: "
            + ", ".join(f"{name} {_said(mark)}" for name, mark in zip(names, marks, strict=True))
            for label, marks in rows
        ]
        return "; ".join(said) + "."
    said = []
    for i, name in enumerate(names):
        values = pd.Series({label: marks[i].value for label, marks in rows}).dropna()
        if len(values):
            low, high = values.idxmin(), values.idxmax()
            said.append(
                f"{name}: from {number(values[low])} ({low}) to {number(values[high])} ({high})"
            )
    return "; ".join(said) + "."
