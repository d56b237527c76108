"""How well each group's rates are known: Wilson's interval of every rate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from fairprune_sk.assessment.proportions import wilson
from fairprune_sk.assessment.rates import CLASS_RATES, Grouping, Measured, Tally, key, row_names

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
    names: dict[str, Any] = {}
    if strata is not None:
        within = row_names(strata.values)
        names["stratum"] = [within[s] for s in cells.get_level_values(0)]
    names["group"] = [groups[g] for g in cells.get_level_values(1)]
    parts = []
    for metric in PROPORTIONS:
        for label in (None,) if metric == "accuracy" else tally.classes:
            rows = n[metric] if label is None else n[metric][:, label]
            column = metric if label is None else key(metric, label)
            of: dict[str, Any] = {"metric": metric}
            if len(labels) > 2:
                of["class"] = "" if label is None else labels[label]
            for network, frame in frames.items():
                rate = frame.by_group.loc[cells, column].to_numpy(dtype=float)
                low, high = wilson(np.nan_to_num(rate), rows, z)
                limits = {"low": np.where(rows > 0, low, np.nan)}
                limits["high"] = np.where(rows > 0, high, np.nan)
                values = names | of | {"network": network, "rate": rate} | limits | {"n": rows}
                parts.append(pd.DataFrame(values))
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
