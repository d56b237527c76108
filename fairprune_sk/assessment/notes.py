"""What a report says of its numbers: what they mean, and which rest on too few rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from fairprune_sk.assessment.gaps import gaps_by_class, in_words, largest_gap, notion_cells
from fairprune_sk.assessment.noise import GapEstimate
from fairprune_sk.assessment.rates import (
    CLASS_RATES,
    Measured,
    Rows,
    Tally,
    comparable,
    metric_names,
)
from fairprune_sk.documents.blocks import number
from fairprune_sk.fairness.collapse import hardly_predicted
from fairprune_sk.fairness.groups import counted
from fairprune_sk.fairness.requirement import Requirement

MIN_CELL_COUNT = 30
"""A rate over fewer rows than this is reported as too small to judge."""

MAX_BALANCED_LOSS = 0.05
"""Balanced accuracy that pruning may cost before the report begins with it."""

_MAX_NAMES = 8  # in a note

HEADINGS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "selection_rate": "selected",
    "true_positive_rate": "TPR",
    "false_positive_rate": "FPR",
}
"""Every rate that is shown, with the heading of its column."""


def listed(names: list[str]) -> str:
    """Join names for a note; those beyond the first few are only counted."""
    more = len(names) - _MAX_NAMES
    return "; ".join(names[:_MAX_NAMES] + ([f"and {more} more"] if more > 0 else []))


def _row_name(name: Any) -> str:
    """Name of a group, or of a (stratum, group): ``"North: Female"``."""
    return ": ".join(name) if isinstance(name, tuple) else str(name)


def _heading(rate: str | tuple[Any, ...]) -> str:
    """Name of a rate in a note: ``"TPR"``, or ``"TPR of 'low'"`` where it is (metric, class)."""
    metric, *label = rate if isinstance(rate, tuple) else (rate,)
    return HEADINGS[metric] + (f" of {label[0]!r}" if metric in CLASS_RATES and label else "")


def alarms_of(
    rows: Rows,
    y_pred: dict[str, np.ndarray],
    totals: dict[str, pd.Series],
    labels: list[Any],
) -> list[str]:
    """Say what makes gaps small without making anything fair, and what they cost."""

    def shares(codes: np.ndarray) -> np.ndarray:
        weight = np.ones(len(codes)) if rows.weight is None else rows.weight
        known = codes >= 0
        return np.bincount(codes[known], weight[known], minlength=len(labels)) / weight.sum()

    labelled, predicted = shares(rows.y_true), {n: shares(codes) for n, codes in y_pred.items()}
    alarms = []
    for network, own in reversed(predicted.items()):
        dense = predicted["dense"] if network == "pruned" else None
        hardly = hardly_predicted(own, labelled, dense)
        beside = "" if dense is None else ", dense network: {dense:.2%}"
        named = [
            f"{labels[k]!r} for {own[k]:.2%} of the rows (labels: {labelled[k]:.2%}"
            + beside.format(dense=predicted.get("dense", own)[k])
            + ")"
            for k in np.flatnonzero(hardly)
        ]
        if named:
            who = "classifier" if network == "value" else f"{network} network"
            alarms.append(
                f"COLLAPSED: the {who} predicts {listed(named)}. Rates near 0 or 1 are near each "
                "other without being fair: no gap speaks for it."
            )
    if "dense" in totals:
        before, after = (totals[network]["balanced_accuracy"] for network in ("dense", "pruned"))
        if before - after > MAX_BALANCED_LOSS:
            alarms.append(
                f"BALANCED ACCURACY FELL by {100 * (before - after):.1f} points, from "
                f"{number(before)} to {number(after)}: gaps are bought dearly."
            )
    return alarms


def fit_notes(seen: bool) -> list[str]:
    """Say whether these are the training rows."""
    if not seen:
        return []
    return [
        "MEASURED ON THE TRAINING DATA: expect lower accuracy and larger gaps on new rows, "
        "and measure on rows that the network has not seen."
    ]


def tolerance_notes(
    requirement: Requirement | None, tally: Tally, within_strata: bool, alarmed: bool
) -> list[str]:
    """Say whether the gap that the network was pruned for is within the tolerance."""
    if requirement is None or requirement.tolerance is None:
        return []
    constraint, method = requirement.constraint, requirement.gap_method
    how = {
        ("difference", "between_groups"): "",
        ("difference", "to_overall"): " between any group and all together",
        ("ratio", "between_groups"): " (1 − smallest / largest rate)",
        ("ratio", "to_overall"): " (1 − ratio of the rates of any group and of all together)",
    }[constraint.comparison, method]
    gap = float(largest_gap(gaps_by_class(notion_cells(constraint, tally), method)))
    if np.isnan(gap):
        met = "undefined"
    elif gap > requirement.tolerance:
        met = f"{number(gap)}, above that tolerance"
    elif alarmed:
        met = f"{number(gap)}, which is no success: see the first note"
    else:
        met = f"{number(gap)}, within that tolerance"
    where = "rows, groups and strata" if within_strata else "rows and groups"
    return [
        f"Trained for a gap in {constraint.name}{how} of at most {requirement.tolerance:g}; on "
        f"these {where} it is {met}."
    ]


def left_out_notes(model: Any, requirement: Requirement | None) -> list[str]:
    """Say how many rates the constraint left out."""
    n = getattr(model, "n_unconstrained_", 0)
    if requirement is None or not n:
        return []
    return [
        f"The constraint left out {counted(n, 'rate')} of groups with fewer than min_group_count="
        f"{model.min_group_count} rows, or without another to compare with; here every group "
        "counts that has the rate."
    ]


def row_notes(by_group: pd.DataFrame, network: str, n_rows: int, grouped: np.ndarray) -> list[str]:
    """Say where rates mean little: rows without a group, few rows or none behind a rate."""
    notes = []
    n_without = n_rows - int(grouped.sum())
    if n_without:
        notes.append(
            f"Without a sensitive feature: {counted(n_without, 'row')} "
            f"({n_without / n_rows:.1%}), in the overall figures, but in no group and no gap."
        )
    columns, total = {}, by_group["count"]
    for metric, *label, _ in by_group.columns:
        if metric == "positives":
            kinds = [f"{label[0]!r}", f"not {label[0]!r}"] if label else ["positive", "negative"]
            positives = by_group[(metric, *label, "")]
            columns[kinds[0]], columns[kinds[1]] = positives, total - positives
    counts = pd.DataFrame(columns, index=by_group.index)
    small = []
    for name, row in counts.iterrows():
        few = [f"{n} {kind}" for kind, n in row.items() if n < MIN_CELL_COUNT]
        small += [f"{_row_name(name)} ({', '.join(few)})"] if few else []
    if small:
        notes.append(
            f"Too small to judge, fewer than {MIN_CELL_COUNT} rows behind a rate: {listed(small)}."
        )
    undefined = by_group.xs(network, axis=1, level=-1).isna()
    without = [
        f"{_row_name(name)} ({', '.join(_heading(rate) for rate in row.index[row])})"
        for name, row in undefined.iterrows()
        if row.any()
    ]
    if without:
        notes.append(f"Without rows to measure on, left out of the gaps: {listed(without)}.")
    return notes


def gap_notes(
    gaps: pd.Series, frame: Measured, labels: list[Any], strata: list[str] | None
) -> list[str]:
    """Name the gaps that are undefined, and the classes and strata that others leave out."""
    notes = []
    undefined = [in_words(gap) for gap in gaps.index[gaps.isna()]]
    if undefined:
        notes.append(f"No gap in {', '.join(undefined)}: fewer than two groups have the rate.")
    # What is undefined in one class or stratum, though not in all.
    names = metric_names(labels, ("accuracy", *CLASS_RATES))
    has_gap = comparable(frame)
    of_rate: dict[str, list[str]] = {}
    for rate, metric in names.items():
        of_rate.setdefault(rate[0], []).append(metric)
    absent = {rate for rate, metrics in of_rate.items() if not has_gap[metrics].any(axis=None)}
    left_out = []
    for code, row in has_gap.iterrows():
        lacking = [_heading(n) for n, m in names.items() if not row[m] and n[0] not in absent]
        if strata is None:
            left_out += lacking
        elif lacking:
            rates = ", ".join(lacking) if row[list(names.values())].any() else "every rate"
            left_out.append(f"{strata[code]} ({rates})")
    if left_out:
        notes.append(
            f"Left out of the gaps, where fewer than two groups have the rate: {listed(left_out)}."
        )
    return notes


def noise_notes(estimates: dict[str, GapEstimate], level: float) -> list[str]:
    """Name the gaps that groups with equal rates would show as well."""
    within = [
        f"{in_words(name)} {number(found.gap)} (up to {number(found.parity_high)})"
        for name, found in estimates.items()
        if found.gap <= found.parity_high and found.parity_high > 0
    ]
    if not within:
        return []
    return [
        f"Cannot be told from parity on these rows: {', '.join(within)}. In brackets: what "
        f"groups with equal rates show in {level * 100:g}% of draws."
    ]
