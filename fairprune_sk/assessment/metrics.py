"""Rates and gaps of predicted labels, and how much of a gap is noise.

The rates that are shown are read off a :class:`fairlearn.metrics.MetricFrame`. A gap is that of a
:class:`~fairprune_sk.fairness.Constraint`, measured from what the notion itself declares: its
events and its outcome. So every notion is measured in the same way, one that a user wrote as well
as ours, and ours give what ``fairlearn.metrics`` gives. What fairlearn does not tell is redrawn:
which gap groups with equal rates would show (:func:`noise_floor`), and how far a gap could have
come out otherwise.

Labels are class codes, 0 to ``n_classes - 1``. A rate belongs to one class against the rest: to
class 1 where there are two, and to each where there are more. A gap is the largest over those
classes, and over the strata.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from fairlearn.metrics import MetricFrame
from sklearn.utils import check_random_state, column_or_1d

from fairprune_sk.fairness.constraints import CONSTRAINTS, Constraint, ErrorRateParity
from fairprune_sk.fairness.groups import (
    check_order,
    counted,
    group_codes,
    group_name,
    sensitive_frame,
)

N_DRAWS = 1000
"""Draws behind each noise floor and each interval."""

_CHUNK = 2_000_000  # numbers drawn at a time
_TINY = np.finfo(float).tiny

CLASS_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
"""Rates of one class against the rest."""

RATES = ("accuracy", "balanced_accuracy", *CLASS_RATES)
"""Every rate of a report."""

NOTIONS = tuple(kind() for kind in CONSTRAINTS.values() if kind is not ErrorRateParity)
"""The notions of every report; the difference of error rates is that of accuracies."""


@dataclass(frozen=True)
class Rows:
    """The rows that are compared, and what about them does not depend on a network.

    Attributes
    ----------
    y_true : ndarray of shape (n,), int64
        Class codes.
    group, stratum : ndarray of shape (n,), int64
        Rows are compared between groups, within strata. A group of -1 keeps a row out.
    weight : ndarray of shape (n,), or None
    n_classes : int
    classes : tuple of int
        The classes that have rates of their own.
    """

    y_true: np.ndarray
    group: np.ndarray
    stratum: np.ndarray
    weight: np.ndarray | None
    n_classes: int
    classes: tuple[int, ...]

    def grouped(self) -> np.ndarray:
        """Mask of the rows that have a group."""
        return self.group >= 0

    def take(self, kept: np.ndarray) -> Rows:
        """Keep the rows of a mask."""
        weight = None if self.weight is None else self.weight[kept]
        columns = (self.y_true[kept], self.group[kept], self.stratum[kept])
        return Rows(*columns, weight, self.n_classes, self.classes)

    def tally(self, y_pred: np.ndarray, y_dense: np.ndarray | None = None) -> Tally:
        """Count the rows that agree in all that is measured as one.

        Parameters
        ----------
        y_pred, y_dense : ndarray of shape (n,), int64
            Class codes that a network and the dense one predict; by default it is the dense one.
        """
        columns = {"stratum": self.stratum, "group": self.group, "y_true": self.y_true}
        columns |= {"y_pred": y_pred, "y_dense": y_pred if y_dense is None else y_dense}
        weight = np.ones(len(self.y_true)) if self.weight is None else self.weight
        table = pd.DataFrame(columns).assign(n=1, weight=weight, square=weight**2)
        table = table.groupby(list(columns), as_index=False, sort=False).sum()
        return Tally(table, self.n_classes, self.classes)


class Tally(NamedTuple):
    """Rows with what a network predicts for them, those that agree in everything as one.

    Rates and gaps are measured on it: a large table has few rows that differ.
    """

    table: pd.DataFrame
    """Columns ``stratum``, ``group``, ``y_true``, ``y_pred`` and ``y_dense``; the number of rows
    ``n``, and the sums of their weights and of the squares of these."""
    n_classes: int
    classes: tuple[int, ...]


def checked_weight(sample_weight: Any, n_rows: int) -> np.ndarray | None:
    """Check sample weights: one finite, non-negative number for each row."""
    if sample_weight is None:
        return None
    weight = column_or_1d(sample_weight).astype(float)
    if len(weight) != n_rows:
        raise ValueError(
            f"Got sample_weight with {counted(len(weight), 'row')}, but X has "
            f"{counted(n_rows, 'row')}."
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        raise ValueError(
            f"Got sample_weight from {weight.min()} to {weight.max()}, but expected finite "
            "numbers that are not negative and not all 0."
        )
    return weight


class Grouping(NamedTuple):
    """Codes of the rows, the values that they stand for, and the name of the feature."""

    codes: np.ndarray
    values: np.ndarray
    name: str


def checked_groups(sensitive_features: Any, n_rows: int, missing: str) -> Grouping:
    """Code the group of each row; -1 where it has none."""
    frame = sensitive_frame(sensitive_features, n_rows, missing=missing)
    codes, groups = group_codes(frame)
    if len(groups) < 2:
        got = f"1 group {group_name(groups[0])!r}" if len(groups) else "0 groups"
        raise ValueError(
            f"Got sensitive_features with {got}, but expected at least two groups to compare."
        )
    return Grouping(codes, groups, " × ".join(frame.columns))


def checked_strata(control_features: Any, n_rows: int) -> Grouping | None:
    """Code the stratum of each row; None without control features."""
    if control_features is None:
        return None
    frame = sensitive_frame(control_features, n_rows, name="control_features")
    return Grouping(*group_codes(frame), " × ".join(frame.columns))


# --- rates ---


def _share(hit: np.ndarray, among: np.ndarray, weight: np.ndarray) -> float:
    """Share of the rows that are hit; NaN where there are none.

    fairlearn and scikit-learn say 0 there; but a group without positives has no true positive
    rate, and a rate of 0 would make a gap out of nothing.
    """
    total = weight[among].sum()
    return float(weight[hit & among].sum() / total) if total > 0 else np.nan


def _class_rate(
    metric: str, label: int, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray
) -> float:
    """Rate of one class against the rest."""
    is_class = y_true == label
    event = {"true_positive_rate": is_class, "false_positive_rate": ~is_class}
    among = event.get(metric, np.ones_like(is_class))
    return _share(y_pred == label, among, sample_weight)


def _accuracy(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray) -> float:
    return _share(y_pred == y_true, np.ones(len(y_true), dtype=bool), sample_weight)


def _balanced_accuracy(
    n_classes: int, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray
) -> float:
    """Mean of the classes' true positive rates."""
    right = y_pred == y_true
    return float(np.mean([_share(right, y_true == k, sample_weight) for k in range(n_classes)]))


def _performance_reduction(
    y_true: np.ndarray, y_pred: np.ndarray, y_dense: np.ndarray, sample_weight: np.ndarray
) -> float:
    """Accuracy of the dense minus accuracy of the pruned network (Dai et al., Definition 2)."""
    return _accuracy(y_true, y_dense, sample_weight) - _accuracy(y_true, y_pred, sample_weight)


def _count(y_true: np.ndarray, y_pred: np.ndarray, n: np.ndarray) -> int:
    return int(n.sum())


def _count_class(label: int, y_true: np.ndarray, y_pred: np.ndarray, n: np.ndarray) -> int:
    return int(n[y_true == label].sum())


def key(metric: str, label: int) -> str:
    """Name in a :func:`metric_frame` of what is measured for each class."""
    return f"{metric} {label}"


def metric_frame(tally: Tally) -> MetricFrame:
    """Measure every rate of one network, by stratum and group.

    Parameters
    ----------
    tally : Tally
        Of rows with a group.

    Returns
    -------
    MetricFrame
        Of ``accuracy``, ``balanced_accuracy``, ``performance_reduction``, ``count``, and, named
        by :func:`key`, each class's rates and its ``positives``.
    """
    rates: dict[str, Callable[..., float]] = {
        "accuracy": _accuracy,
        "balanced_accuracy": partial(_balanced_accuracy, tally.n_classes),
        "performance_reduction": _performance_reduction,
    }
    counts: dict[str, Callable[..., float]] = {"count": _count}
    for label in tally.classes:
        rates |= {key(m, label): partial(_class_rate, m, label) for m in CLASS_RATES}
        counts[key("positives", label)] = partial(_count_class, label)
    table = tally.table
    params = {name: {"sample_weight": table["weight"]} for name in rates}
    params["performance_reduction"]["y_dense"] = table["y_dense"]
    return MetricFrame(
        metrics=rates | counts,
        y_true=table["y_true"],
        y_pred=table["y_pred"],
        sensitive_features=table["group"],
        control_features=table["stratum"],
        sample_params=params | {name: {"n": table["n"]} for name in counts},
    )


def comparable(frame: MetricFrame) -> pd.DataFrame:
    """Whether at least two groups have the rate: one row for each stratum."""
    return frame.by_group.notna().groupby(level="stratum").sum() >= 2


def positive_last(classes: list[Any], model: Any, pos_label: Any = None) -> list[Any]:
    """Order the classes: of two, the one that counts as selected comes last.

    Parameters
    ----------
    classes : list
        Sorted.
    model : fitted classifier
        May say so itself, in ``pos_label_``, as FairPruner does.
    pos_label : label, optional
        What a user said.

    Raises
    ------
    ValueError
        If ``pos_label`` is no class, or there are more than two.
    """
    if pos_label is None:
        pos_label = getattr(model, "pos_label_", None)
    elif len(classes) > 2:
        raise ValueError(
            f"Got pos_label={pos_label!r} with {len(classes)} classes, but expected None: of more "
            "than two classes, each is held against the rest."
        )
    if pos_label is None:
        return classes
    if pos_label not in classes:
        raise ValueError(f"Got pos_label={pos_label!r}, but expected one of the labels {classes}.")
    return sorted(classes, key=lambda label: label == pos_label)


# --- gaps ---


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
    return Cells(
        comparison=constraint.comparison,
        # An empty cell gets n = 0.
        n=np.rint(weights**2 / np.maximum(squares, _TINY)).astype(np.int64),
        weight=weights,
        shares=hits / np.maximum(weights, _TINY)[..., None],
        pooled=hits.sum(-2, keepdims=True)
        / np.maximum(weights.sum(-1, keepdims=True), _TINY)[..., None],
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
    return _gaps(cells.shares @ cells.patterns, cells.weight, cells.comparison, gap_method)


def _gaps(rates: np.ndarray, weight: np.ndarray, comparison: str, gap_method: str) -> np.ndarray:
    """Compare rates of shape (..., n_events, n_blocks, n_strata, n_groups, n_outcomes)."""
    some = weight[..., None] > 0
    high, low = np.where(some, rates, -np.inf), np.where(some, rates, np.inf)
    if gap_method == "between_groups":
        high, low = high.max(-2, keepdims=True), low.min(-2, keepdims=True)
    else:
        total = np.maximum(weight.sum(-1), _TINY)[..., None, None]
        overall = (rates * weight[..., None]).sum(-2, keepdims=True) / total
        high, low = np.maximum(high, overall), np.minimum(low, overall)
    apart = high - low
    if comparison == "ratio":  # rates that are all 0 are equal
        apart = apart / np.maximum(high, _TINY)
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


# --- tables ---


def row_names(values: np.ndarray) -> list[str]:
    """Name each group; by its repr where 1 and "1", or a group and a total, look the same."""
    names = [group_name(value) for value in values]
    taken = ["overall", "gap", *names]
    return [n if taken.count(n) == 1 else repr(v) for n, v in zip(names, values, strict=True)]


def metric_names(labels: list[Any], metrics: Iterable[str]) -> dict[tuple[Any, ...], str]:
    """Map what the report calls a metric to what its MetricFrame does.

    The report's name is (metric,) for two classes and (metric, class) for more.
    """
    names: dict[tuple[Any, ...], str] = {}
    for metric in metrics:
        if metric not in (*CLASS_RATES, "positives"):
            names[(metric,) if len(labels) == 2 else (metric, "")] = metric
        elif len(labels) == 2:
            names[(metric,)] = key(metric, 1)
        else:
            names |= {(metric, label): key(metric, code) for code, label in enumerate(labels)}
    return names


def _ordered_index(keys: Iterable[tuple[Any, ...]], names: list[str]) -> pd.MultiIndex:
    """Index with levels in order of appearance, so that a part of a key finds its rows fast."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    levels = [list(dict.fromkeys(column)) for column in columns]
    codes = [[lv.index(v) for v in column] for lv, column in zip(levels, columns, strict=True)]
    return pd.MultiIndex(levels=[pd.Index(level) for level in levels], codes=codes, names=names)


def overall_table(totals: dict[str, pd.Series], labels: list[Any]) -> pd.DataFrame:
    """Every rate over all rows."""
    names = metric_names(labels, RATES)
    table = pd.DataFrame({n: total[list(names.values())] for n, total in totals.items()})
    if len(labels) == 2:
        return table.set_axis([metric for (metric,) in names])
    return table.set_axis(_ordered_index(names, ["metric", "class"]))


def by_group_table(
    frames: dict[str, MetricFrame], labels: list[Any], grouping: Grouping, strata: Grouping | None
) -> pd.DataFrame:
    """Every rate of every group; in every stratum that has it."""
    shipped = list(frames.values())[-1].by_group
    found = shipped["count"].notna()
    columns = {
        (*name, ""): shipped.loc[found, metric].astype(int)
        for name, metric in metric_names(labels, ("count", "positives")).items()
    } | {
        (*name, network): frame.by_group.loc[found, metric]
        for name, metric in metric_names(labels, RATES).items()
        for network, frame in frames.items()
    }
    table = pd.DataFrame(columns)
    if len(labels) > 2:
        table.columns = _ordered_index(columns, ["metric", "class", "network"])
    groups = row_names(grouping.values)
    if strata is None:
        index = pd.Index([groups[code] for _, code in table.index], name=grouping.name)
        return table.set_axis(index)
    within = row_names(strata.values)
    keys = [(within[stratum], groups[code]) for stratum, code in table.index]
    return table.set_axis(_ordered_index(keys, [strata.name, grouping.name]))


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


def reduction_series(
    totals: dict[str, pd.Series],
    frames: dict[str, MetricFrame],
    gap: float,
    groups: pd.Index,
) -> pd.Series:
    """Accuracy that pruning cost overall and in each group, and the gap between groups."""
    name = "performance_reduction"
    by_group = frames["pruned"].by_group
    values = [
        totals["pruned"][name],
        *by_group.loc[by_group["count"].notna(), name],
        gap,
    ]
    if groups.nlevels == 1:
        return pd.Series(values, ["overall", *groups, "gap"], name=name)
    index = _ordered_index([("overall", ""), *groups, ("gap", "")], list(groups.names))
    return pd.Series(values, index, name=name)


# --- noise ---


def _multinomial(
    n: np.ndarray, shares: np.ndarray, n_draws: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw exclusive outcomes of n rows, shape (n_draws, *n.shape, n_outcomes)."""
    left, share_left, drawn = n, 1.0, []
    for share in np.moveaxis(shares, -1, 0):
        # Rounding can leave a weighted share a hair above what is left.
        p = np.clip(share / np.maximum(share_left, _TINY), 0.0, 1.0)
        drawn.append(rng.binomial(left, p, (n_draws, *n.shape)))
        left, share_left = left - drawn[-1], share_left - share
    return np.stack(drawn, -1)


def _redrawn_gaps(cells: Cells, shares: np.ndarray, n_draws: int, random_state: Any) -> np.ndarray:
    """Gaps after the outcomes of each cell's rows are redrawn, shape (n_draws,)."""
    rng = check_random_state(random_state)
    gaps = []
    chunk = max(1, _CHUNK // (cells.n.size * len(cells.patterns)))
    for start in range(0, n_draws, chunk):
        drawn = _multinomial(cells.n, shares, min(chunk, n_draws - start), rng)
        rates = drawn @ cells.patterns / np.maximum(cells.n, 1)[..., None]
        gaps.append(largest_gap(_gaps(rates, cells.n, cells.comparison, "between_groups")))
    return np.concatenate(gaps)


class Noise(NamedTuple):
    """What redrawing says about a gap."""

    low: float
    high: float
    """Percentile interval under the bootstrap that is stratified by event, stratum and group."""
    floor: float
    """Mean gap at parity."""
    parity_high: float
    """What parity shows in a share ``confidence_level`` of the draws."""


def gap_noise(cells: Cells, confidence_level: float, random_state: Any) -> Noise:
    """Redraw a gap with the groups' own rates, and with equal ones."""
    own = _redrawn_gaps(cells, cells.shares, N_DRAWS, random_state)
    low, high = np.quantile(own, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    parity = _redrawn_gaps(cells, cells.pooled, N_DRAWS, random_state)
    return Noise(low, high, parity.mean(), np.quantile(parity, confidence_level))


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
    >>> from fairprune_sk.assessment.metrics import fairness_gap
    >>> fairness_gap(
    ...     [1, 1, 0, 1, 1, 0, 0, 0],
    ...     [1, 0, 0, 1, 1, 0, 0, 0],
    ...     sensitive_features=list("aaabbbcc"),  # nobody in group c is positive
    ...     constraint="equal_opportunity",
    ... )
    0.5
    """
    if gap_method not in ("between_groups", "to_overall"):
        raise ValueError(
            f"Got gap_method={gap_method!r}, but expected 'between_groups' or 'to_overall'."
        )
    cells = _checked_cells(
        y_true, y_pred, sensitive_features, control_features, missing_sensitive, constraint,
        pos_label, sample_weight,
    )  # fmt: skip
    return float(largest_gap(gaps_by_class(cells, gap_method)))


def noise_floor(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    control_features: Any = None,
    missing_sensitive: str = "error",
    constraint: str | Constraint = "equalized_odds",
    pos_label: Any = None,
    sample_weight: Any = None,
    n_draws: int = N_DRAWS,
    random_state: Any = 0,
) -> float:
    """Mean gap that would be seen on these rows if the groups had equal rates.

    A gap is a largest minus a smallest rate, so noise alone makes it positive: more so with
    more groups, and with fewer rows in the smallest. The outcomes of every cell (event, stratum,
    group) are redrawn as Binomial(n_cell, rate over all groups) / n_cell, and the gaps averaged.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels: of {0, 1} or of {-1, 1}, of more than two classes, or of any
        kind with a ``pos_label``.
    sensitive_features : Series, DataFrame, ndarray, list or dict of arrays
        Several columns stand for their intersections.
    control_features : Series, DataFrame, ndarray, list or dict of arrays, optional
        Groups are compared, and have equal rates, within each stratum; the gap is the largest
        of any stratum.
    missing_sensitive : {"error", "group", "ignore"}
        What becomes of rows without a sensitive feature; see :func:`fairness_report`.
    constraint : str or Constraint
        What is compared, by the name that ``FairPruner`` takes, or an object: of
        ``fairprune_sk.fairness``, or of a class of your own. None that is relative to the
        dense network.
    pos_label : object, optional
        The label whose rates are compared. By default 1 of two labels; of more than two,
        each against the rest.
    sample_weight : array-like of shape (n,), optional
        Each cell then has Kish's effective number of rows, (Σw)² / Σw².
    n_draws : int
    random_state : int, RandomState or None

    Returns
    -------
    float
        A fraction in [0, 1], to compare with the gap itself. NaN where the gap is undefined:
        fewer than two groups have rows with that true label.

    Raises
    ------
    ValueError
        If lengths differ, two labels do not say which is positive, or the constraint is unknown.

    Notes
    -----
    Of more than two classes, the gap is the largest over the classes. Their selection rates are
    redrawn together (what one class gets, the others lose), and so are the true positive rates,
    which rest on different rows. False positive rates of different classes rest on rows in
    common, but are redrawn one by one: each is exact, their largest up to a few percent too large.

    Examples
    --------
    Predictions by coin toss are fair, and yet 50 rows a group show a gap:

    >>> import numpy as np
    >>> from fairprune_sk.assessment import noise_floor
    >>> y_true, y_pred = np.random.RandomState(0).randint(2, size=(2, 100))
    >>> sex = np.repeat(["Female", "Male"], 50)
    >>> print(f"{noise_floor(y_true, y_pred, sensitive_features=sex):.2f}")
    0.16
    """
    cells = _checked_cells(
        y_true, y_pred, sensitive_features, control_features, missing_sensitive, constraint,
        pos_label, sample_weight,
    )  # fmt: skip
    return float(_redrawn_gaps(cells, cells.pooled, n_draws, random_state).mean())


def _checked_cells(
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
