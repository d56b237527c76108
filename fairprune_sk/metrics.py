"""Rates and gaps of predicted labels, and how much of a gap is noise.

Every rate and every gap is read off a :class:`fairlearn.metrics.MetricFrame`. What fairlearn does
not tell is redrawn here: which gap groups with equal rates would show (:func:`noise_floor`), and
how far a gap could have come out otherwise.

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
from fairlearn.metrics import MetricFrame
from sklearn.utils import check_random_state, column_or_1d

from fairprune_sk.groups import group_codes, group_name, sensitive_frame

N_DRAWS = 1000
"""Draws behind each noise floor and each interval."""

_CHUNK = 2_000_000  # numbers drawn at a time

CLASS_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
"""Rates of one class against the rest."""

RATES = ("accuracy", "balanced_accuracy", *CLASS_RATES)
"""Every rate of a report."""

RATES_OF = {
    "demographic_parity": ("selection_rate",),
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
    "equal_opportunity": ("true_positive_rate",),
    "false_positive_rate_parity": ("false_positive_rate",),
    "accuracy_parity": ("accuracy",),
    "error_rate_parity": ("error_rate",),
}
"""Every constraint that needs no dense network, as the rates that it compares."""

GAPS = {
    "demographic_parity_difference": RATES_OF["demographic_parity"],
    "equalized_odds_difference": RATES_OF["equalized_odds"],
    "equal_opportunity_difference": RATES_OF["equal_opportunity"],
    "false_positive_rate_difference": RATES_OF["false_positive_rate_parity"],
    "accuracy_difference": RATES_OF["accuracy_parity"],
}
"""Every gap of one network, as the rates whose largest difference it is."""

GAPS_BY_CLASS = [gap for gap, rates in GAPS.items() if set(rates) <= set(CLASS_RATES)]
"""The gaps that each class has."""

DEGRADATION = "performance_degradation_difference"
"""Gap of the accuracy that a network lost against the dense one."""

_RATES_OF_GAP = GAPS | {DEGRADATION: ("performance_reduction",)}


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


def checked_weight(sample_weight: Any, n_rows: int) -> np.ndarray | None:
    """Check sample weights: one finite, non-negative number for each row."""
    if sample_weight is None:
        return None
    weight = column_or_1d(sample_weight).astype(float)
    if len(weight) != n_rows:
        raise ValueError(f"Got sample_weight with {len(weight)} rows, but X has {n_rows} rows.")
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


# --- rates and gaps ---


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


def _error_rate(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray) -> float:
    return 1.0 - _accuracy(y_true, y_pred, sample_weight)


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


def metric_frame(rows: Rows, y_pred: np.ndarray, y_dense: np.ndarray) -> MetricFrame:
    """Measure everything about one network, by stratum and group.

    Parameters
    ----------
    rows : Rows
        All with a group.
    y_pred, y_dense : ndarray of shape (n,)
        Class codes that this and the dense network predict.

    Returns
    -------
    MetricFrame
        Of ``accuracy``, ``balanced_accuracy``, ``error_rate``, ``performance_reduction``,
        ``count``, and, named by :func:`key`, each class's rates and its ``positives``.
    """
    rates: dict[str, Callable[..., float]] = {
        "accuracy": _accuracy,
        "balanced_accuracy": partial(_balanced_accuracy, rows.n_classes),
        "error_rate": _error_rate,
        "performance_reduction": _performance_reduction,
    }
    counts: dict[str, Callable[..., float]] = {"count": _count}
    for label in rows.classes:
        rates |= {key(m, label): partial(_class_rate, m, label) for m in CLASS_RATES}
        counts[key("positives", label)] = partial(_count_class, label)
    # Rows that agree in all of this count as one with their weights' sum: fairlearn takes a
    # minute for a million rows.
    columns = {"stratum": rows.stratum, "group": rows.group, "y_true": rows.y_true}
    columns |= {"y_pred": y_pred, "y_dense": y_dense}
    table = pd.DataFrame(columns).assign(n=1, weight=1.0 if rows.weight is None else rows.weight)
    table = table.groupby(list(columns), as_index=False, sort=False).sum()
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


def rate_gaps(
    frame: MetricFrame, *, comparison: str = "difference", gap_method: str = "between_groups"
) -> pd.Series:
    """Gap of each rate, the largest within any stratum.

    Parameters
    ----------
    frame : MetricFrame
        From :func:`metric_frame`.
    comparison : {"difference", "ratio"}
        A gap is a difference of two rates, or 1 minus their ratio.
    gap_method : {"between_groups", "to_overall"}

    Returns
    -------
    Series
        NaN where no stratum has two groups with the rate.
    """
    gaps = frame.difference(method=gap_method)
    if comparison == "ratio":  # rates that are all 0 are equal, although 0 / 0 is NaN
        gaps = (1.0 - frame.ratio(method=gap_method)).mask(gaps == 0.0, 0.0)
    return gaps.where(comparable(frame)).max()


def largest_gap(gaps: pd.Series, rates: tuple[str, ...], classes: tuple[int, ...]) -> float:
    """Gap of a notion that compares several rates of several classes.

    Parameters
    ----------
    gaps : Series
        From :func:`rate_gaps`.
    rates : tuple of str
    classes : tuple of int

    Returns
    -------
    float
        Classes without a gap in a rate are left out; NaN where none has a gap in one of the
        rates.
    """
    by_rate = [
        gaps[[key(rate, label) for label in classes] if rate in CLASS_RATES else [rate]].max()
        for rate in rates
    ]
    return float(np.max(by_rate))


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
    gaps: dict[str, pd.Series], totals: dict[str, pd.Series], labels: list[Any]
) -> pd.DataFrame:
    """Gaps of each class against the rest; empty for two classes."""
    if len(labels) == 2:
        return pd.DataFrame()
    total = list(totals.values())[-1]
    codes = range(len(labels))
    columns = {("positives", ""): [int(total[key("positives", code)]) for code in codes]} | {
        (gap, network): [largest_gap(g, GAPS[gap], (code,)) for code in codes]
        for gap in GAPS_BY_CLASS
        for network, g in gaps.items()
    }
    return pd.DataFrame(columns, index=pd.Index(labels, name="class"))


def reduction_series(
    totals: dict[str, pd.Series],
    frames: dict[str, MetricFrame],
    gaps: dict[str, pd.Series],
    groups: pd.Index,
) -> pd.Series:
    """Accuracy that pruning cost overall and in each group, and the gap between groups."""
    name = "performance_reduction"
    by_group = frames["pruned"].by_group
    values = [
        totals["pruned"][name],
        *by_group.loc[by_group["count"].notna(), name],
        gaps["pruned"][name],
    ]
    if groups.nlevels == 1:
        return pd.Series(values, ["overall", *groups, "gap"], name=name)
    index = _ordered_index([("overall", ""), *groups, ("gap", "")], list(groups.names))
    return pd.Series(values, index, name=name)


# --- noise ---


class _Cells(NamedTuple):
    """What a gap compares, as sums over the cells (rate, event, stratum, group)."""

    n: np.ndarray
    """Effective rows, shape (n_rates, n_events, n_strata, n_groups), int64: Kish's
    (Σw)² / Σw², which is the plain count without weights."""
    shares: np.ndarray
    """Share of each exclusive outcome, shape (..., n_groups, n_outcomes)."""
    pooled: np.ndarray
    """The same over all groups together, shape (..., 1, n_outcomes)."""
    value: np.ndarray
    """What an outcome adds to each of the rates, shape (n_outcomes, n_rates_of_event)."""


def _events(
    rate: str, rows: Rows, y_pred: np.ndarray, y_dense: np.ndarray
) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Rows that a rate is conditioned on, with the exclusive outcomes that are counted there."""
    y_true, everyone = rows.y_true, np.ones(len(rows.y_true), dtype=bool)
    right, was_right = y_pred == y_true, y_dense == y_true
    if rate == "accuracy":
        return [(everyone, [right])]
    if rate == "performance_reduction":
        return [(everyone, [was_right & ~right, right & ~was_right])]
    if rate == "selection_rate":  # a row that one class gets is lost to the others
        return [(everyone, [y_pred == label for label in rows.classes])]
    if rate == "true_positive_rate":
        return [(y_true == label, [y_pred == label]) for label in rows.classes]
    return [(y_true != label, [y_pred == label]) for label in rows.classes]


def _cells(gap: str, rows: Rows, y_pred: np.ndarray, y_dense: np.ndarray) -> _Cells:
    """Sum up the cells that a gap compares."""
    weight = np.ones(len(rows.y_true)) if rows.weight is None else rows.weight
    n_strata, n_groups = rows.stratum.max() + 1, rows.group.max() + 1
    cell = rows.stratum * n_groups + rows.group

    def total(column: np.ndarray) -> np.ndarray:
        return np.bincount(cell, column, minlength=n_strata * n_groups)

    sums = []
    for rate in _RATES_OF_GAP[gap]:
        for event, outcomes in _events(rate, rows, y_pred, y_dense):
            w = weight * event
            sums.append([total(w), total(w**2), *(total(w * outcome) for outcome in outcomes)])
    shape = (len(_RATES_OF_GAP[gap]), -1, len(sums[0]), n_strata, n_groups)
    weights, squares, *hits = np.moveaxis(np.reshape(sums, shape), 2, 0)
    tiny = np.finfo(float).tiny  # an empty cell gets n = 0, which leaves it out of the gaps
    outcome = np.stack(hits, -1)
    return _Cells(
        n=np.rint(weights**2 / np.maximum(squares, tiny)).astype(np.int64),
        shares=outcome / np.maximum(weights, tiny)[..., None],
        pooled=outcome.sum(-2, keepdims=True)
        / np.maximum(weights.sum(-1, keepdims=True), tiny)[..., None],
        value=np.eye(len(hits)) if gap != DEGRADATION else np.array([[1.0], [-1.0]]),
    )


def _multinomial(
    n: np.ndarray, shares: np.ndarray, n_draws: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw exclusive outcomes of n rows, shape (n_draws, *n.shape, n_outcomes)."""
    left, share_left, drawn = n, 1.0, []
    for share in np.moveaxis(shares, -1, 0):
        # Rounding can leave a weighted share a hair above what is left.
        p = np.clip(share / np.maximum(share_left, np.finfo(float).tiny), 0.0, 1.0)
        drawn.append(rng.binomial(left, p, (n_draws, *n.shape)))
        left, share_left = left - drawn[-1], share_left - share
    return np.stack(drawn, -1)


def _redrawn_gaps(cells: _Cells, shares: np.ndarray, n_draws: int, random_state: Any) -> np.ndarray:
    """Gaps after the outcomes of each cell's rows are redrawn, shape (n_draws,)."""
    rng = check_random_state(random_state)
    some = cells.n[..., None] > 0
    two = some.sum(-2) >= 2
    gaps = []
    chunk = max(1, _CHUNK // (cells.n.size * len(cells.value)))
    for start in range(0, n_draws, chunk):
        drawn = _multinomial(cells.n, shares, min(chunk, n_draws - start), rng)
        rate = drawn @ cells.value / np.maximum(cells.n, 1)[..., None]
        gap = np.where(some, rate, -np.inf).max(-2) - np.where(some, rate, np.inf).min(-2)
        # Over (event, stratum, rate of the event): those without two groups are left out.
        largest = np.where(two, gap, -np.inf).max((-3, -2, -1))
        gaps.append(np.where(np.isinf(largest), np.nan, largest).max(-1))
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


def gap_noise(
    gap: str,
    rows: Rows,
    y_pred: np.ndarray,
    y_dense: np.ndarray,
    confidence_level: float,
    random_state: Any,
) -> Noise:
    """Redraw a gap with the groups' own rates, and with equal ones."""
    cells = _cells(gap, rows, y_pred, y_dense)
    own = _redrawn_gaps(cells, cells.shares, N_DRAWS, random_state)
    low, high = np.quantile(own, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    parity = _redrawn_gaps(cells, cells.pooled, N_DRAWS, random_state)
    return Noise(low, high, parity.mean(), np.quantile(parity, confidence_level))


def noise_floor(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    control_features: Any = None,
    missing_sensitive: str = "error",
    metric: str = "equalized_odds_difference",
    positive_label: Any = None,
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
        kind with a ``positive_label``.
    sensitive_features : Series, DataFrame, ndarray, list or dict of arrays
        Several columns stand for their intersections.
    control_features : Series, DataFrame, ndarray, list or dict of arrays, optional
        Groups are compared, and have equal rates, within each stratum; the gap is the largest
        of any stratum.
    missing_sensitive : {"error", "group", "ignore"}
        What becomes of rows without a sensitive feature; see :func:`fairness_report`.
    metric : str
        ``"demographic_parity_difference"``, ``"equalized_odds_difference"``,
        ``"equal_opportunity_difference"``, ``"false_positive_rate_difference"`` or
        ``"accuracy_difference"``.
    positive_label : object, optional
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
        If lengths differ, two labels do not say which is positive, or the metric is unknown.

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
    >>> from fairprune_sk.report import noise_floor
    >>> y_true, y_pred = np.random.RandomState(0).randint(2, size=(2, 100))
    >>> sex = np.repeat(["Female", "Male"], 50)
    >>> print(f"{noise_floor(y_true, y_pred, sensitive_features=sex):.2f}")
    0.16
    """
    if metric not in GAPS:
        raise ValueError(f"Got metric={metric!r}, but expected one of {list(GAPS)}.")
    y_true, y_pred = column_or_1d(y_true), column_or_1d(y_pred)
    n_rows = len(y_true)
    if n_rows != len(y_pred):
        raise ValueError(f"Got y_pred with {len(y_pred)} rows, but y_true has {n_rows} rows.")
    codes, labels = pd.factorize(np.concatenate([y_true, y_pred]))
    labels = labels.tolist()
    weight = checked_weight(sample_weight, n_rows)
    group = checked_groups(sensitive_features, n_rows, missing_sensitive).codes
    strata = checked_strata(control_features, n_rows)
    stratum = np.zeros(n_rows, dtype=np.int64) if strata is None else strata.codes
    classes = _classes_to_compare(labels, positive_label)
    rows = Rows(codes[:n_rows], group, stratum, weight, len(labels), classes)
    kept = rows.grouped()
    rows, y_pred = rows.take(kept), codes[n_rows:][kept]
    cells = _cells(metric, rows, y_pred, y_pred)
    return float(_redrawn_gaps(cells, cells.pooled, n_draws, random_state).mean())


def _classes_to_compare(labels: list[Any], positive_label: Any) -> tuple[int, ...]:
    """Positions of the labels that have rates of their own."""
    if positive_label is not None:
        if positive_label not in labels:
            raise ValueError(
                f"Got positive_label={positive_label!r}, but expected one of the labels {labels}."
            )
        return (labels.index(positive_label),)
    if len(labels) > 2:
        return tuple(range(len(labels)))
    if not (set(labels) <= {0, 1} or set(labels) <= {-1, 1}):
        raise ValueError(
            f"Got labels {labels}, but expected 0 and 1, or -1 and 1: say with positive_label "
            "which is the positive one."
        )
    return (labels.index(1),) if 1 in labels else (len(labels),)  # a class of no row
