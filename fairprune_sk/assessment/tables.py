"""The tables of a report, as every rendering shows them: terminal, page, Markdown and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fairprune_sk.assessment.gaps import in_words
from fairprune_sk.assessment.notes import HEADINGS
from fairprune_sk.assessment.rates import CLASS_RATES
from fairprune_sk.documents.blocks import Cell, Change, Span, Table
from fairprune_sk.fairness.groups import counted

if TYPE_CHECKING:
    from fairprune_sk.assessment.findings import FairnessReport


def title_of(report: FairnessReport) -> str:
    """Say what was measured, in one or two lines."""
    *strata, by = report.by_group.index.names
    n_groups = report.by_group.index.get_level_values(-1).nunique()
    title = f"Fairness report: {counted(report.n_rows, 'row')}, "
    title += f"{counted(n_groups, 'group')} by {by}"
    title += "".join(f" within strata of {name}" for name in strata)
    if len(report.by_class):
        title += f", {len(report.by_class)} classes"
    else:
        title += f", positive label {report.pos_label!r}"
    if len(report.size):
        title += f"\nSparsity {report.size['sparsity']:.1%}: {weights_left(report)} weights left"
    return title


def weights_left(report: FairnessReport) -> str:
    """Count the weights: ``1,234 of 12,340``."""
    return f"{report.size['n_nonzero']:,.0f} of {report.size['n_weights']:,.0f}"


def networks_of(report: FairnessReport) -> list[str]:
    """Name what was measured: dense and pruned network, or one value."""
    return [name for name in report.overall if name != "change"]


def _cells(values: np.ndarray) -> list[Cell]:
    """Cells of an array with a column for each network."""
    return [Change(*row) if len(row) == 2 else float(row[0]) for row in values.astype(float)]


def _arrow(report: FairnessReport) -> str:
    return " (dense→pruned)" if len(networks_of(report)) == 2 else ""


def _within(report: FairnessReport) -> str:
    return " within strata" if report.by_group.index.nlevels > 1 else ""


def rates_table(report: FairnessReport) -> Table:
    """Rates overall and by group: all of two classes, of more those of no single class."""
    table = _rates(report, None)
    if len(report.performance_reduction):
        table["acc. lost"] = [*map(float, report.performance_reduction)][:-1]
    return Table(f"Rates{_arrow(report)}", table, n_totals=1)


def class_table(report: FairnessReport, label: Any) -> Table:
    """Rates of one class of several, overall and by group."""
    caption = f"Class {label!r} against the rest{_arrow(report)}"
    return Table(caption, _rates(report, label), n_totals=1)


def _rates(report: FairnessReport, label: Any) -> pd.DataFrame:
    networks = networks_of(report)
    several, index = len(report.by_class) > 0, report.by_group.index
    path = () if not several else ("" if label is None else label,)
    count = "count" if label is None else "positives"
    total = report.n_rows if label is None else report.by_class.loc[label, ("positives", "")]
    if index.nlevels == 1:
        names = pd.Index(["overall", *index], name=index.name)
    else:
        names = pd.Index([("overall", ""), *index]).set_names(index.names)
    rates = pd.DataFrame(index=names)
    rates["rows" if label is None else "positives"] = [
        int(n) for n in (total, *report.by_group[(count, *path, "")])
    ]
    for metric, heading in HEADINGS.items():
        if several and (metric in CLASS_RATES) != (label is not None):
            continue
        row = (metric, *path) if several else metric
        by_group = report.by_group[[(metric, *path, name) for name in networks]].to_numpy()
        overall = report.overall.loc[[row], networks].to_numpy()
        rates[heading] = _cells(np.vstack([overall, by_group]))
    return rates


def gaps_table(report: FairnessReport) -> Table:
    """Every gap, with what is known of it."""
    gaps = pd.DataFrame(index=pd.Index(map(in_words, report.differences.index), name="notion"))
    gaps["gap"] = _cells(report.differences[networks_of(report)].to_numpy())
    gaps["corrected"] = report.differences["corrected"].to_numpy(float)
    gaps[f"{report.confidence_level * 100:g}% interval"] = [
        Span(*ends) for ends in report.differences[["low", "high"]].to_numpy(float)
    ]
    gaps["noise floor"] = report.differences["noise_floor"].to_numpy(float)
    over = ", largest over the classes" if len(report.by_class) else ""
    return Table(
        f"Gaps between groups{_within(report)}{_arrow(report)}{over}",
        gaps,
        note="corrected: without what a largest difference leans upwards; noise floor: mean gap "
        "on these rows if groups had equal rates",
    )


def class_gaps_table(report: FairnessReport) -> Table:
    """Gaps of each of several classes."""
    labels = pd.Index([repr(label) for label in report.by_class.index], name="class")
    table = pd.DataFrame(index=labels)
    for gap in report.by_class.columns.unique(0).drop("positives"):
        table[in_words(gap)] = _cells(report.by_class[gap].to_numpy())
    return Table(f"Gaps between groups{_within(report)}{_arrow(report)} by class", table)


def tables_of(report: FairnessReport) -> list[Table]:
    """Every table, in the order in which a report shows them."""
    labels = list(report.by_class.index)
    tables = [rates_table(report), *(class_table(report, label) for label in labels)]
    tables.append(gaps_table(report))
    return [*tables, class_gaps_table(report)] if labels else tables
