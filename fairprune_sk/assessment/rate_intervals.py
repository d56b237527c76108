"""How well each group's rates are known: Wilson's interval of every rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri
from sklearn.utils import column_or_1d

from fairprune_sk.assessment.classifiers import check_predicted, positive_last
from fairprune_sk.assessment.proportions import wilson
from fairprune_sk.assessment.rates import (
    CLASS_RATES,
    Grouping,
    Measured,
    Rows,
    Tally,
    check_confidence_level,
    checked_groups,
    checked_strata,
    checked_weight,
    key,
    metric_frame,
    row_names,
)
from fairprune_sk.assessment.scoring import label_codes
from fairprune_sk.fairness.groups import check_order, counted

PROPORTIONS = ("accuracy", *CLASS_RATES)
"""The rates of a report that are shares of rows, and so have an interval of their own."""


def interval_table(
    frames: dict[str, Measured],
    tally: Tally,
    labels: list[Any],
    grouping: Grouping,
    strata: Grouping | None,
    confidence_level: float,
) -> pd.DataFrame:
    """Every rate of every group with its interval, in tidy form.

    Parameters
    ----------
    frames : dict of Measured
        By the name of the network.
    tally : Tally
        Of any of them: how many rows there are does not depend on the network.
    labels : list
        Classes, in the order of their codes.
    grouping, strata : Grouping
    confidence_level : float

    Returns
    -------
    DataFrame
        Columns ``stratum`` (where there are any), ``group``, ``metric``, ``class`` (with more
        than two), ``network``, ``rate``, ``low``, ``high`` (Wilson's limits), and ``n``: the
        rows that the rate is of, with weights Kish's effective number. A rate without rows is NaN.
    """
    first = next(iter(frames.values())).by_group
    cells = first.index[first["count"].notna()]
    n = _effective_rows(tally, cells)
    groups, z = row_names(grouping.values), -float(ndtri((1 - confidence_level) / 2))
    names = {"group": [groups[g] for g in cells.get_level_values(1)]}
    if strata is not None:
        within = row_names(strata.values)
        names = {"stratum": [within[s] for s in cells.get_level_values(0)]} | names
    networks, parts = list(frames), []
    for metric in PROPORTIONS:
        classes: list[Any] = [None] if metric == "accuracy" else list(tally.classes)
        columns = [metric if label is None else key(metric, label) for label in classes]
        # All classes at once, of which there may be hundreds: (n_networks, n_classes, n_cells).
        rate = np.stack(
            [
                frame.by_group.loc[cells, columns].to_numpy(dtype=float).T
                for frame in frames.values()
            ]
        )
        rows = n[metric] if metric == "accuracy" else n[metric][:, classes].T
        rows = np.broadcast_to(rows, rate.shape)
        limits = [np.where(rows > 0, end, np.nan) for end in wilson(np.nan_to_num(rate), rows, z)]
        repeats = len(classes) * len(networks)
        part: dict[str, Any] = {name: values * repeats for name, values in names.items()}
        part["metric"] = metric
        if len(labels) > 2:
            shown = ["" if label is None else labels[label] for label in classes]
            part["class"] = np.repeat(np.array(shown, dtype=object), len(cells) * len(networks))
        part["network"] = np.tile(np.repeat(networks, len(cells)), len(classes))
        for name, values in zip(("rate", "low", "high", "n"), (rate, *limits, rows), strict=True):
            part[name] = np.swapaxes(values, 0, 1).ravel()
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def _effective_rows(tally: Tally, cells: pd.MultiIndex) -> dict[str, np.ndarray]:
    """Effective rows behind each rate, by cell, and by class where the rate has one."""
    table, k = tally.table, tally.n_classes
    at = cells.get_indexer(pd.MultiIndex.from_frame(table[["stratum", "group"]]))
    known = table["y_true"].to_numpy() >= 0
    index = at[known] * k + table.loc[known, "y_true"].to_numpy()

    def by_class(column: str) -> np.ndarray:
        values = table.loc[known, column].to_numpy()
        return np.bincount(index, values, len(cells) * k).reshape(-1, k)

    weight, square = by_class("weight"), by_class("square")
    others = 1.0 - np.eye(k)  # no difference, which could cancel

    def effective(weight: np.ndarray, square: np.ndarray) -> np.ndarray:
        tiny = np.finfo(float).tiny
        rows = np.rint(weight**2 / np.maximum(square, tiny)).astype(np.int64)
        return np.maximum(rows, weight > 0)

    every = effective(weight.sum(1), square.sum(1))
    return {
        "accuracy": every,
        "selection_rate": np.repeat(every[:, None], k, axis=1),
        "true_positive_rate": effective(weight, square),
        "false_positive_rate": effective(weight @ others, square @ others),
    }


def group_rates(
    y_true: Any,
    predicted: dict[str, Any],
    *,
    sensitive_features: Any,
    control_features: Any = None,
    pos_label: Any = None,
    missing_sensitive: str = "error",
    sample_weight: Any = None,
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Every rate of every group with its interval, from labels.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    predicted : dict of array-like of shape (n,)
        Predicted labels, by the name of what predicts them.
    sensitive_features, control_features, pos_label, missing_sensitive, sample_weight
        As for :func:`~fairprune_sk.fairness_report`.
    confidence_level : float

    Returns
    -------
    DataFrame
        See :func:`interval_table`.

    Raises
    ------
    ValueError
        If lengths differ, there are fewer than two groups or labels, or predictions are missing.
    """
    asked_of = {"sensitive_features": sensitive_features, "control_features": control_features}
    check_order(y_true, **predicted, **asked_of, sample_weight=sample_weight)
    true = column_or_1d(y_true)
    n_rows = len(true)
    columns = {name: column_or_1d(values) for name, values in predicted.items()}
    for values in columns.values():
        if len(values) != n_rows:
            raise ValueError(
                f"Got predictions with {counted(len(values), 'row')}, but y_true has "
                f"{counted(n_rows, 'row')}."
            )
        check_predicted(values)
    check_confidence_level(confidence_level)
    grouping = checked_groups(sensitive_features, n_rows, missing_sensitive)
    strata = checked_strata(control_features, n_rows)
    weight = checked_weight(sample_weight, n_rows)
    labels = np.unique(np.concatenate([true, *columns.values()])).tolist()
    if len(labels) < 2:
        raise ValueError(f"Got labels {labels}, but expected two or more.")
    labels = positive_last(labels, None, pos_label)
    rows = Rows(
        label_codes(true, labels),
        grouping.codes,
        np.zeros(n_rows, dtype=np.int64) if strata is None else strata.codes,
        weight,
        len(labels),
        (1,) if len(labels) == 2 else tuple(range(len(labels))),
    )
    kept = rows.grouped()
    compared = rows.take(kept)
    tallies = {
        name: compared.tally(label_codes(values, labels)[kept]) for name, values in columns.items()
    }
    frames = {name: metric_frame(tally) for name, tally in tallies.items()}
    tally = next(iter(tallies.values()))
    return interval_table(frames, tally, labels, grouping, strata, confidence_level)
