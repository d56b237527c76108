"""What came out of a fit, on rows that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from fairprune_sk.assessment.report import FairnessReport, fairness_report
from fairprune_sk.cli.screen import Screen, in_lines
from fairprune_sk.datasets.roles import Roles
from fairprune_sk.pruner import FairPruner


def report_on(pruner: FairPruner, rows: Roles) -> FairnessReport:
    """Report on rows whose features are ready for the pruner."""
    return fairness_report(
        pruner,
        rows.X,
        rows.y,
        sensitive_features=rows.sensitive,
        control_features=rows.control,
    )


def write_reports(report: FairnessReport, places: dict[str, Path]) -> None:
    """Write a report as "html", "json" and "md", each to its place."""
    writers = {"html": report.to_html, "json": report.to_json, "md": report.to_markdown}
    for kind, path in places.items():
        writers[kind](path)


def outcome_of(report: FairnessReport, pruner: FairPruner) -> dict[str, Any]:
    """Say in plain values what came out."""
    certificate = report.certificate
    return {
        "answer": report.answer,
        "alarms": report.alarms,
        "verdict": None if certificate is None else certificate.verdict,
        "sparsity": pruner.sparsity_,
        "unseen_gap": pruner.unseen_gap_,
        "n_test_rows": report.n_rows,
        "overall": report.overall,
        "gaps": report.differences,
    }


def show_outcome(report: FairnessReport, pruner: FairPruner, screen: Screen) -> None:
    """Show the answer and the accuracy, as the report begins."""
    screen.say()
    for alarm in report.alarms:
        screen.show(in_lines(alarm), fg="red")
    for i, line in enumerate(report.answer):
        screen.show(in_lines(line), bold=i == 0)
    dense, pruned = (report.overall.loc["accuracy", name] for name in ("dense", "pruned"))
    if isinstance(dense, pd.Series):  # of several classes, that of none in particular
        dense, pruned = dense.iloc[0], pruned.iloc[0]
    screen.say(
        f"Accuracy on these {report.n_rows:,} rows {pruned:.3f}, of the dense network {dense:.3f}; "
        f"{pruner.sparsity_:.1%} of the weights are gone."
    )
