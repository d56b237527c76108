"""Rates of groups, as a :class:`fairlearn.metrics.MetricFrame` gives them, in tables.

Labels are class codes, 0 to ``n_classes - 1``. A rate belongs to one class against the rest: to
class 1 where there are two, and to each where there are more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from fairlearn.metrics import MetricFrame
from sklearn.utils import column_or_1d

from fairprune_sk.fairness.groups import (
    counted,
    group_codes,
    group_name,
    sensitive_frame,
)
from fairprune_sk.networks.batch import scaled_weight

CLASS_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
"""Rates of one class against the rest."""

RATES = ("accuracy", "balanced_accuracy", *CLASS_RATES)
"""Every rate of a report."""


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
    return scaled_weight(weight)


def check_confidence_level(confidence_level: float) -> None:
    """Refuse what is no level of an interval."""
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"Got confidence_level={confidence_level!r}, but expected a number in (0, 1)."
        )


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


def _share(hit: np.ndarray, among: np.ndarray, weight: np.ndarray) -> float:
    """Share of the rows that are hit; NaN where there are none.

    fairlearn and scikit-learn say 0 there; but a group without positives has no true positive
    rate, and a rate of 0 would make a gap out of nothing.
    """
    total = weight[among].sum()
    return float(weight[hit & among].sum() / total) if total > 0 else np.nan


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


def key(metric: str, label: int) -> str:
    """Name in a :func:`metric_frame` of what is measured for each class."""
    return f"{metric} {label}"


class Measured(NamedTuple):
    """Every rate of one network; columns as :func:`metric_frame` names them."""

    by_group: pd.DataFrame
    """One row for each (stratum, group); NaN where it has no rows."""
    overall: pd.DataFrame
    """One row for each stratum."""


def metric_frame(tally: Tally) -> Measured:
    """Measure every rate of one network, by stratum and group.

    Parameters
    ----------
    tally : Tally
        Of rows with a group.

    Returns
    -------
    Measured
        Of ``accuracy``, ``balanced_accuracy``, ``performance_reduction``, ``count``, and, named
        by :func:`key`, each class's rates and its ``positives``.
    """
    rates: dict[str, Callable[..., float]] = {
        "accuracy": _accuracy,
        "balanced_accuracy": partial(_balanced_accuracy, tally.n_classes),
        "performance_reduction": _performance_reduction,
    }
    table = tally.table
    params = {name: {"sample_weight": table["weight"]} for name in rates}
    params["performance_reduction"]["y_dense"] = table["y_dense"]
    frame = MetricFrame(
        metrics=rates | {"count": _count},
        y_true=table["y_true"],
        y_pred=table["y_pred"],
        sensitive_features=table["group"],
        control_features=table["stratum"],
        sample_params=params | {"count": {"n": table["n"]}},
    )
    cell = pd.MultiIndex.from_frame(table[["stratum", "group"]])
    return Measured(
        frame.by_group.join(_class_rates(tally, cell, frame.by_group.index)),
        frame.overall.join(_class_rates(tally, pd.Index(table["stratum"]), frame.overall.index)),
    )


def _class_rates(tally: Tally, cell: pd.Index, cells: pd.Index) -> pd.DataFrame:
    """Rates of each class against the rest, and its rows, in each of some cells.

    All classes at once: there may be hundreds, and fairlearn calls a function for each metric and
    cell.
    """
    table, k = tally.table, tally.n_classes
    at = cells.get_indexer(cell)
    weight, right = table["weight"], table["y_pred"] == table["y_true"]

    def by_class(label: str, values: pd.Series, among: pd.Series | None = None) -> np.ndarray:
        known = (table[label] >= 0) if among is None else (table[label] >= 0) & among
        index = at[known] * k + table.loc[known, label].to_numpy()
        return np.bincount(index, values[known], len(cells) * k).reshape(len(cells), k)

    def over(hits: np.ndarray, among: np.ndarray) -> np.ndarray:
        return np.divide(hits, among, out=np.full(hits.shape, np.nan), where=among > 0)

    true = by_class("y_true", weight)
    total = np.broadcast_to(true.sum(1, keepdims=True), true.shape)
    others = true @ (1.0 - np.eye(k))  # no difference, which could cancel
    rates = {
        "selection_rate": over(by_class("y_pred", weight), total),
        "true_positive_rate": over(by_class("y_true", weight, right), true),
        "false_positive_rate": over(by_class("y_pred", weight, ~right), others),
        "positives": by_class("y_true", table["n"]),
    }
    empty = ~np.isin(np.arange(len(cells)), at)
    rates["positives"][empty] = np.nan
    columns = {key(name, c): values[:, c] for name, values in rates.items() for c in tally.classes}
    return pd.DataFrame(columns, index=cells)


def comparable(frame: Measured) -> pd.DataFrame:
    """Whether at least two groups have the rate: one row for each stratum."""
    return frame.by_group.notna().groupby(level="stratum").sum() >= 2


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
    frames: dict[str, Measured], labels: list[Any], grouping: Grouping, strata: Grouping | None
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


def reduction_series(
    totals: dict[str, pd.Series],
    frames: dict[str, Measured],
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
