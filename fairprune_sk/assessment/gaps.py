"""Gaps between groups, for every notion in the same way.

A gap is that of a :class:`~fairprune_sk.fairness.Constraint`, measured from what the notion itself
declares: its events and its outcome. So one that a user wrote is measured as ours are, and ours
give what ``fairlearn.metrics`` gives. It is the largest over the classes that are compared, and
over the strata.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.utils import column_or_1d

from fairprune_sk.assessment.classifiers import check_predicted
from fairprune_sk.assessment.rates import (
    Rows,
    Tally,
    checked_groups,
    checked_strata,
    checked_weight,
    key,
)
from fairprune_sk.fairness.constraints import CONSTRAINTS, Constraint, ErrorRateParity
from fairprune_sk.fairness.groups import check_order, counted
from fairprune_sk.fairness.intervals import TINY

NOTIONS = tuple(kind() for kind in CONSTRAINTS.values() if kind is not ErrorRateParity)
"""The notions of every report; the difference of error rates is that of accuracies."""


class Cells(NamedTuple):
    """Rates that a notion compares, in cells (event, block, stratum, group).

    A block holds the outcomes that are counted on the same rows, and drawn together: all classes
    where they share their rows (one that selects a row takes it from the others), and one class
    elsewhere. A row shows one of a few patterns of these outcomes, or none.
    """

    comparison: str
    n: np.ndarray
    """Effective rows, int64: Kish's (Σw)² / Σw², which is the plain count without weights."""
    weight: np.ndarray
    """Sum of the weights, of the same shape."""
    shares: np.ndarray
    """Share of each pattern, shape (..., n_groups, n_patterns)."""
    pooled: np.ndarray
    """The same over all groups together, shape (..., 1, n_patterns)."""
    patterns: np.ndarray
    """Outcomes in each pattern, shape (n_patterns, n_outcomes of a block)."""


def notion_cells(constraint: Constraint, tally: Tally) -> Cells:
    """Sum up what a notion compares, from the events and outcomes that it declares.

    Parameters
    ----------
    constraint : Constraint
    tally : Tally
        Of rows with a group.

    Returns
    -------
    Cells
    """
    table = tally.table
    every = tally.n_classes > 2 and not constraint.one_vs_rest
    classes = np.array(range(tally.n_classes) if every else tally.classes)
    is_class = torch.from_numpy(table["y_true"].to_numpy()[:, None] == classes)

    def outcome(column: str) -> np.ndarray:
        # All that a hard prediction tells: which margins are positive.
        selected = torch.from_numpy(table[column].to_numpy()[:, None] == classes)
        margins = torch.where(selected, 1.0, -1.0)
        return (constraint.outcome_logits(margins, is_class) > 0).numpy().astype(int)

    event = constraint.event(is_class).numpy()
    values = outcome("y_pred")
    if constraint.relative_to_dense:
        values = outcome("y_dense") - values  # what pruning took
    if (event == event[:, :1]).all():
        event, values = event[:, :1], values[:, None, :]
    else:
        values = values[:, :, None]
    # In descending order: the order of the draws behind a noise floor, as that of the events.
    patterns = np.unique(values.reshape(-1, values.shape[-1]), axis=0)[::-1]
    if patterns.any():
        patterns = patterns[patterns.any(axis=1)]

    n_events, n_blocks = len(constraint.events), event.shape[1]
    n_strata, n_groups = table["stratum"].max() + 1, table["group"].max() + 1
    shape = (n_events, n_blocks, n_strata, n_groups)
    cell = (n_events - 1 - event) * n_blocks + np.arange(n_blocks)
    cell = cell * n_strata + table["stratum"].to_numpy()[:, None]
    cell = cell * n_groups + table["group"].to_numpy()[:, None]
    inside = event >= 0

    def total(column: np.ndarray) -> np.ndarray:
        spread = np.broadcast_to(column, event.shape)[inside]
        return np.bincount(cell[inside], spread, minlength=int(np.prod(shape))).reshape(shape)

    weight = table["weight"].to_numpy()[:, None]
    weights, squares = total(weight), total(table["square"].to_numpy()[:, None])
    hits = np.stack([total(weight * (values == p).all(axis=-1)) for p in patterns], axis=-1)
    # An empty cell gets n = 0; one of vanishing weights, whose squares are 0, has a row.
    n = np.rint(weights**2 / np.maximum(squares, TINY)).astype(np.int64)
    return Cells(
        comparison=constraint.comparison,
        n=np.maximum(n, weights > 0),
        weight=weights,
        shares=hits / np.maximum(weights, TINY)[..., None],
        pooled=hits.sum(-2, keepdims=True)
        / np.maximum(weights.sum(-1, keepdims=True), TINY)[..., None],
        patterns=patterns,
    )


def gaps_by_class(cells: Cells, gap_method: str = "between_groups") -> np.ndarray:
    """Gap of each event and outcome, the largest within any stratum.

    Parameters
    ----------
    cells : Cells
    gap_method : {"between_groups", "to_overall"}
        Largest gap between two groups, or between a group and all rows together.

    Returns
    -------
    ndarray of shape (n_events, n_outcomes)
        An outcome is a class, where the notion has one for each. A gap is a difference of two
        rates, or 1 minus their ratio, as the notion compares them; NaN where no stratum has two
        groups with the rate.
    """
    return compare_rates(cells.shares @ cells.patterns, cells.weight, cells.comparison, gap_method)


def compare_rates(
    rates: np.ndarray, weight: np.ndarray, comparison: str, gap_method: str
) -> np.ndarray:
    """Compare rates of shape (..., n_events, n_blocks, n_strata, n_groups, n_outcomes)."""
    some = weight[..., None] > 0
    high, low = np.where(some, rates, -np.inf), np.where(some, rates, np.inf)
    if gap_method == "between_groups":
        high, low = high.max(-2, keepdims=True), low.min(-2, keepdims=True)
    else:
        total = np.maximum(weight.sum(-1), TINY)[..., None, None]
        overall = (rates * weight[..., None]).sum(-2, keepdims=True) / total
        high, low = np.maximum(high, overall), np.minimum(low, overall)
    apart = high - low
    if comparison == "ratio":  # rates that are all 0 are equal
        apart = apart / np.maximum(high, TINY)
    two = some.sum(-2) >= 2
    largest = np.where(two, apart.max(-2), -np.inf).max(-2)
    largest = largest.reshape(*largest.shape[:-2], -1)
    return np.where(np.isinf(largest), np.nan, largest)


def largest_gap(gaps: np.ndarray) -> np.ndarray:
    """Gap of a notion: the largest over its events and outcomes.

    Parameters
    ----------
    gaps : ndarray of shape (..., n_events, n_outcomes)
        From :func:`gaps_by_class`.

    Returns
    -------
    ndarray of shape (...)
        Outcomes without a gap in an event are left out; NaN where none has a gap in one of the
        events.
    """
    by_event = np.where(np.isnan(gaps), -np.inf, gaps).max(-1)
    return np.where(np.isinf(by_event), np.nan, by_event).max(-1)


def notion_of(constraint: str | Constraint) -> Constraint:
    """Notion of a name, or as it is.

    Raises
    ------
    ValueError
        If the name is unknown, or the notion compares with a dense network.
    """
    known = {name: kind for name, kind in CONSTRAINTS.items() if not kind.relative_to_dense}
    if isinstance(constraint, str) and constraint in known:
        return known[constraint]()
    if isinstance(constraint, Constraint) and not constraint.relative_to_dense:
        return constraint
    raise ValueError(
        f"Got constraint={constraint!r}, but expected one of {list(known)}, or a Constraint that "
        "needs no dense network."
    )


def gap_name(constraint: Constraint) -> str:
    """Name of a gap in tables, as fairlearn's: ``"equalized_odds_difference"``."""
    return f"{constraint.name}_{constraint.comparison}".replace(" ", "_")


def in_words(gap: str) -> str:
    """Name of a gap in words."""
    return gap.removesuffix("_difference").replace("_", " ")


def by_class_table(
    gaps: dict[str, dict[str, np.ndarray]], totals: dict[str, pd.Series], labels: list[Any]
) -> pd.DataFrame:
    """Gaps of each class against the rest, by name and network; empty for two classes."""
    if len(labels) == 2:
        return pd.DataFrame()
    total = list(totals.values())[-1]
    columns = {("positives", ""): [int(total[key("positives", k)]) for k in range(len(labels))]}
    columns |= {
        (name, network): by_class.max(axis=0)
        for name, networks in gaps.items()
        for network, by_class in networks.items()
    }
    return pd.DataFrame(columns, index=pd.Index(labels, name="class"))


def fairness_gap(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    control_features: Any = None,
    missing_sensitive: str = "error",
    constraint: str | Constraint = "equalized_odds",
    gap_method: str = "between_groups",
    pos_label: Any = None,
    sample_weight: Any = None,
) -> float:
    """Gap between groups, as reports, scorers and benchmarks measure it.

    It is what fairlearn's ``*_difference`` functions give, but a rate for which a group has no
    rows (the true positive rate of a group without positives) is left out, where fairlearn
    counts it as 0.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, control_features, missing_sensitive, constraint
        As for :func:`noise_floor`.
    gap_method : {"between_groups", "to_overall"}
        Largest gap between two groups, or between a group and all rows together.
    pos_label, sample_weight
        As for :func:`noise_floor`.

    Returns
    -------
    float
        A fraction in [0, 1]; NaN where fewer than two groups have one of the rates.

    Raises
    ------
    ValueError
        As for :func:`noise_floor`.

    Examples
    --------
    >>> from fairprune_sk.assessment import fairness_gap
    >>> fairness_gap(
    ...     [1, 1, 0, 1, 1, 0, 0, 0],
    ...     [1, 0, 0, 1, 1, 0, 0, 0],
    ...     sensitive_features=list("aaabbbcc"),  # nobody in group c is positive
    ...     constraint="equal_opportunity",
    ... )
    0.5
    """
    check_gap_method(gap_method)
    cells = checked_cells(
        y_true, y_pred, sensitive_features, control_features, missing_sensitive, constraint,
        pos_label, sample_weight,
    )  # fmt: skip
    return float(largest_gap(gaps_by_class(cells, gap_method)))


def check_gap_method(gap_method: str) -> None:
    """Refuse a name that is neither of fairlearn's two."""
    if gap_method not in ("between_groups", "to_overall"):
        raise ValueError(
            f"Got gap_method={gap_method!r}, but expected 'between_groups' or 'to_overall'."
        )


def checked_cells(
    y_true: Any,
    y_pred: Any,
    sensitive_features: Any,
    control_features: Any,
    missing_sensitive: str,
    constraint: str | Constraint,
    pos_label: Any,
    sample_weight: Any,
) -> Cells:
    """Check what is passed, and sum up the cells of the rows that have a group."""
    notion = notion_of(constraint)
    check_order(
        y_true,
        y_pred=y_pred,
        sensitive_features=sensitive_features,
        control_features=control_features,
        sample_weight=sample_weight,
    )
    y_true, y_pred = column_or_1d(y_true), column_or_1d(y_pred)
    n_rows = len(y_true)
    if n_rows != len(y_pred):
        raise ValueError(
            f"Got y_pred with {counted(len(y_pred), 'row')}, but y_true has "
            f"{counted(n_rows, 'row')}."
        )
    check_predicted(y_pred)
    codes, labels = pd.factorize(np.concatenate([y_true, y_pred]))
    labels = labels.tolist()
    weight = checked_weight(sample_weight, n_rows)
    group = checked_groups(sensitive_features, n_rows, missing_sensitive).codes
    strata = checked_strata(control_features, n_rows)
    stratum = np.zeros(n_rows, dtype=np.int64) if strata is None else strata.codes
    classes = _classes_to_compare(labels, pos_label)
    rows = Rows(codes[:n_rows], group, stratum, weight, len(labels), classes)
    kept = rows.grouped()
    return notion_cells(notion, rows.take(kept).tally(codes[n_rows:][kept]))


def _classes_to_compare(labels: list[Any], pos_label: Any) -> tuple[int, ...]:
    """Positions of the labels that have rates of their own."""
    if pos_label is not None:
        if pos_label not in labels:
            raise ValueError(
                f"Got pos_label={pos_label!r}, but expected one of the labels {labels}."
            )
        return (labels.index(pos_label),)
    if len(labels) > 2:
        return tuple(range(len(labels)))
    if not (set(labels) <= {0, 1} or set(labels) <= {-1, 1}):
        raise ValueError(
            f"Got labels {labels}, but expected 0 and 1, or -1 and 1: say with pos_label "
            "which is the positive one."
        )
    return (labels.index(1),) if 1 in labels else (len(labels),)  # a class of no row
