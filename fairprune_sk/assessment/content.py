"""What a report says to a reader who knows no code: one document, for every rendering."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fairprune_sk.assessment.charts import (
    answer_chart,
    classes_to_show,
    gaps_chart,
    rate_charts,
)
from fairprune_sk.assessment.gaps import in_words
from fairprune_sk.assessment.notes import HEADINGS
from fairprune_sk.assessment.rates import CLASS_RATES
from fairprune_sk.assessment.tables import (
    class_gaps_table,
    class_table,
    gaps_table,
    networks_of,
    rates_table,
    tables_of,
    title_of,
    weights_left,
)
from fairprune_sk.assessment.words import (
    TITLES,
    notion_in_words,
    per_hundred,
    points,
    rate_in_words,
)
from fairprune_sk.documents.blocks import (
    Block,
    Change,
    Charts,
    Document,
    Figures,
    Items,
    Section,
    Terms,
    Text,
    Verdict,
    number,
    shown,
)
from fairprune_sk.fairness.groups import counted

if TYPE_CHECKING:
    from fairprune_sk.assessment.findings import FairnessReport

MOST_CLASS_TABLES = 12
"""Classes whose rates a page shows: those with the largest gaps."""

CANNOT_SAY = (
    "Whether the labels themselves are just. A model that treats groups alike by labels that are "
    "biased repeats their bias.",
    "Whether probabilities mean what they say (calibration), and whether similar people are "
    "treated alike.",
    "Anything about groups that were not named, or about parts of the named ones.",
    "What happens once the people change: the bounds are for people of whom these rows are an "
    "independent sample.",
    "Whether it is right, or lawful, to decide with this model. That is for people to say.",
)


def document_of(report: FairnessReport) -> Document:
    """Put together everything that a report says."""
    about = report.provenance
    return Document(
        title="Fairness report",
        subtitle=f"{about.model}"
        + (f" for {about.target!r}" if about.target else "")
        + f", measured on {counted(report.n_rows, 'row')} by {_grouped_by(report)}. "
        f"Made {about.made} with fairprune_sk {about.versions['fairprune_sk']}.",
        sections=(
            Section("answer", "The answer", answer_blocks(report)),
            Section("model", "What the model does", _model_blocks(report)),
            Section("groups", "Group by group", _group_blocks(report)),
            Section("gaps", "Gaps between groups", _gap_blocks(report)),
            Section("meaning", "What the numbers mean", (Terms(tuple(_meanings(report))),)),
            Section("notes", "What to know before believing them", (Items(report.notes),)),
            Section("limits", "What this report cannot say", (Items(CANNOT_SAY),)),
            Section("sources", "Data, settings and versions", _source_blocks(report)),
        ),
    )


def main_blocks(report: FairnessReport) -> tuple[Block, ...]:
    """Put together what a notebook shows: the answer, every table, the notes."""
    title = Text(title_of(report).replace("\n", ". "), strong=True)
    return (
        *answer_blocks(report),
        title,
        *tables_of(report),
        Text("Notes", strong=True),
        Items(report.notes),
    )


def _grouped_by(report: FairnessReport) -> str:
    *strata, by = report.by_group.index.names
    return f"{by}" + "".join(f", within strata of {name}" for name in strata)


# --- the answer ---


def answer_blocks(report: FairnessReport) -> tuple[Block, ...]:
    """Say first what must be known first, then whether the gap is within the tolerance."""
    alarms = [Verdict("alarm", "Warning", alarm) for alarm in report.alarms]
    chart = answer_chart(report)
    figures = Figures(tuple(_figures(report)))
    return (*alarms, _verdict(report), figures, *([chart] if chart else []))


def _verdict(report: FairnessReport) -> Verdict:
    if not report.answer:
        gaps = report.differences[networks_of(report)[-1]].dropna()
        largest = (
            ""
            if gaps.empty
            else f" The largest gap on these rows is {number(gaps.max())}, in "
            f"{in_words(str(gaps.idxmax()))}."
        )
        text = "No tolerance was set for this model: there is no yes or no." + largest
        return Verdict("open", "No tolerance", text)
    first, *more = report.answer
    verdict = None if report.certificate is None else report.certificate.verdict
    state, word = {
        "within": ("yes", "Yes"),
        "above": ("no", "No"),
        "cannot tell": ("open", "Cannot tell"),
        None: ("open", "Cannot tell" if report.provenance.seen else "Not certified"),
    }[verdict]
    if report.alarms and state == "yes":
        state, word = "open", "Yes, but see the warning above"
    requirement = report.requirement
    if requirement is not None and requirement.tolerance is not None:
        name, tolerance = requirement.constraint.name, requirement.tolerance
        more.append(
            f"No gap in {name} means: {notion_in_words(requirement.constraint, _label(report))}. "
            + (
                f"A gap of {tolerance:g} is {points(tolerance)}."
                if requirement.constraint.comparison == "difference"
                else f"Here rates are compared by their ratio: {tolerance:g} means that the "
                f"smallest rate is {100 * (1 - tolerance):g}% of the largest."
            )
        )
    return Verdict(state, word, first, tuple(more))


def _figures(report: FairnessReport) -> list[tuple[str, str, str]]:
    row = ("accuracy", "") if len(report.by_class) else "accuracy"
    networks, overall = networks_of(report), report.overall.loc[row]
    accuracy = Change(*overall[networks]) if len(networks) == 2 else float(overall["value"])
    figures = [("Accuracy", shown(accuracy), _change(overall.get("change", np.nan)))]
    requirement, estimate = report.requirement, report.estimate
    if requirement is not None and estimate is not None:
        compared = len(networks) == 2
        gap = shown(Change(report.dense_gap, estimate.gap) if compared else estimate.gap)
        bound = "no tolerance"
        if requirement.tolerance is not None:
            bound = f"tolerance {requirement.tolerance:g}"
        figures.append((f"Gap in {requirement.constraint.name}, these rows", gap, bound))
    if report.certificate is not None:
        level = f"with {report.certificate.confidence * 100:g}% confidence"
        figures.append(
            ("Gap for people not seen", f"at most {number(report.certificate.upper)}", level)
        )
    if len(report.size):
        removed = f"{report.size['sparsity']:.1%}"
        figures.append(("Weights removed", removed, f"{weights_left(report)} left"))
    return figures


def _change(change: float) -> str:
    if np.isnan(change):
        return ""
    if abs(change) < 0.0005:
        return "as before pruning"
    return f"{points(abs(change))} {'less' if change < 0 else 'more'} than before pruning"


# --- the model and its groups ---


def _model_blocks(report: FairnessReport) -> tuple[Block, ...]:
    about, requirement = report.provenance, report.requirement
    classes = ", ".join(repr(label) for label in about.classes[:12])
    classes += f" and {len(about.classes) - 12} more" if len(about.classes) > 12 else ""
    said = f"The model puts each row of a table into one of {len(about.classes)} classes"
    said += f" of {about.target!r}: " if about.target else ": "
    said += classes
    if report.pos_label is not None:
        said += f". To be given {about.classes[-1]!r} is called being selected here."
    else:
        said += ". Each class in turn is held against the rest."
    texts = [said]
    if len(report.size):
        small = (
            "It is a neural network that was made smaller (pruned): "
            f"{weights_left(report)} weights are left, {report.size['sparsity']:.1%} were removed."
        )
        if requirement is not None and requirement.tolerance is not None:
            small += (
                " While it was made smaller, it was trained for a gap in "
                f"{requirement.constraint.name} of at most {requirement.tolerance:g} between the "
                "groups."
            )
        texts.append(small)
    if about.columns_read is not None and about.columns is not None:
        unread = [name for name in about.columns if name not in about.columns_read]
        if set(about.columns_read) <= set(about.columns):
            read = f"It reads {len(about.columns_read)} of {len(about.columns)} columns: "
            read += ", ".join(about.columns_read) + "."
            read += f" It does not read: {', '.join(unread)}." if unread else ""
            texts.append(read)
    return tuple(map(Text, texts))


def _label(report: FairnessReport) -> str:
    return "a class" if report.pos_label is None else repr(report.provenance.classes[-1])


def _group_blocks(report: FairnessReport) -> tuple[Block, ...]:
    labels = classes_to_show(report, MOST_CLASS_TABLES)
    blocks: list[Block] = [rates_table(report)]
    blocks += [class_table(report, label) for label in labels]
    left_out = len(report.by_class) - len(labels)
    if left_out > 0:
        blocks.append(
            Text(
                f"The {len(labels)} classes with the largest gaps; `report.by_group` has the rates "
                f"of {left_out} more."
            )
        )
    level = f"{report.confidence_level * 100:g}%"
    blocks.append(
        Text(f"Lines are {level} intervals: where few rows speak for a rate, they are long.")
    )
    return (*blocks, Charts(tuple(rate_charts(report))))


def _gap_blocks(report: FairnessReport) -> tuple[Block, ...]:
    blocks: list[Block] = [gaps_table(report)]
    if len(report.by_class):
        blocks.append(class_gaps_table(report))
    return (*blocks, gaps_chart(report))


# --- what it means ---


def _meanings(report: FairnessReport) -> list[tuple[str, str]]:
    label, level = _label(report), f"{report.confidence_level * 100:g}%"
    terms = []
    for metric in HEADINGS:
        text = rate_in_words(metric, label)
        terms.append((TITLES[metric], f"{text[0].upper()}{text[1:]}.{_example(report, metric)}"))
    terms.append(
        (
            "Gap",
            "The largest difference of a rate between two groups. 0 is none; 0.05 means "
            f"{points(0.05)}.",
        )
    )
    if report.requirement is not None:
        notion = report.requirement.constraint
        terms.append(
            (f"Gap in {notion.name}", f"There is none where {notion_in_words(notion, label)}.")
        )
    terms += [
        (
            "Noise floor",
            "The gap that groups with equal rates would show on this many rows, on average. A gap "
            "near it cannot be told from none.",
        ),
        (
            "Corrected gap",
            "The best estimate for people not seen: the gap of these rows without what chance "
            "adds to a largest difference.",
        ),
        (
            f"{level} interval",
            f"Covers the gap of the people whom the rows were drawn from in at least {level} of "
            "such samples.",
        ),
    ]
    if report.certificate is not None:
        terms.append(
            (
                "Certified",
                "A bound that holds at any number of rows, with the confidence that is given, as "
                "long as the rows are a sample of the people and had no part in making the model.",
            )
        )
    if "dense" in networks_of(report):
        terms.append(
            ("Dense and pruned", "The network before and after weights were removed from it.")
        )
        terms.append(
            ("Accuracy lost (acc. lost)", "Accuracy of the dense network less that of the pruned.")
        )
    return terms


def _example(report: FairnessReport, metric: str) -> str:
    """Give the lowest and the highest rate of a group as people count."""
    network = networks_of(report)[-1]
    of, path = "", [metric]
    if len(report.by_class):
        of = ""
        if metric in CLASS_RATES:
            common = report.by_class[("positives", "")].idxmax()
            of, path = f", of class {common!r}", [metric, common]
        else:
            path = [metric, ""]
    rates = report.by_group[(*path, network)].dropna()
    if rates.empty:
        return ""
    low, high = rates.idxmin(), rates.idxmax()
    if low == high:
        return ""

    def name(group: object) -> str:
        return ": ".join(map(str, group)) if isinstance(group, tuple) else str(group)

    ends = (
        f"{per_hundred(rates[low])} in {name(low)!r}, {per_hundred(rates[high])} in {name(high)!r}"
    )
    return f" Lowest and highest here{of}: {ends}."


# --- where it comes from ---


def _source_blocks(report: FairnessReport) -> tuple[Block, ...]:
    about = report.provenance
    groups = report.by_group.index.get_level_values(-1).unique()
    data = [("Rows", f"{report.n_rows:,}")]
    if about.n_without_group:
        data.append(("Rows without a group", f"{about.n_without_group:,}"))
    data += [
        (
            "Is this the table of the fit?",
            {True: "yes", False: "no", None: "the model does not tell"}[about.seen],
        ),
        ("Groups", f"by {_grouped_by(report)}: " + _few(list(map(str, groups)))),
        ("Weights of rows", "given" if about.weighted else "none"),
    ]
    if about.columns is not None:
        data.append(("Columns", _few(list(about.columns))))
    data.append(("Checksum of labels, groups and predictions", about.checksum))
    blocks: list[Block] = [Text("Data", strong=True), Terms(tuple(data))]
    if about.settings:
        blocks += [
            Text(f"Settings of {about.model}", strong=True),
            Terms(tuple(about.settings.items()), compact=True),
        ]
    return (
        *blocks,
        Text("Versions", strong=True),
        Terms(tuple(about.versions.items()), compact=True),
    )


def _few(names: list[str], most: int = 40) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
