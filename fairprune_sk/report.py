"""The fairness report: the pruned network against the dense one, overall and by group.

Every rate and every gap is read off a :class:`fairlearn.metrics.MetricFrame`. Computed here is
only what fairlearn does not tell: how much of a gap is noise (:func:`noise_floor`), and which
numbers rest on too few rows to be believed.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from fairlearn.metrics import (
    MetricFrame,
    count,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import _num_samples, check_is_fitted

from fairprune_sk.constraints import CONSTRAINTS
from fairprune_sk.granularity import prunable_parameters
from fairprune_sk.groups import group_codes, group_name, sensitive_frame

MIN_CELL_COUNT = 30
"""A rate over fewer rows than this is reported as too small to judge."""

N_DRAWS = 1000
"""Draws behind each noise floor and each interval."""

LIMITS = (
    "Not measured: whether the labels themselves are biased, whether probabilities are "
    "calibrated, whether similar people are treated alike."
)

_LINE_WIDTH = 100


def _where_defined(metric: Callable[..., float], *labels: int) -> Callable[..., float]:
    """Make a metric NaN where one of the true labels that it conditions on has no rows.

    fairlearn and scikit-learn say 0 there; but a group without positives has no true positive
    rate, and a rate of 0 would make a gap out of nothing.
    """

    def defined(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: Any = None) -> float:
        weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
        if weight.sum() <= 0 or any(weight[y_true == label].sum() <= 0 for label in labels):
            return np.nan
        return float(metric(y_true, y_pred, sample_weight=sample_weight))

    return defined


_METRICS = {
    "accuracy": _where_defined(accuracy_score),
    "balanced_accuracy": _where_defined(balanced_accuracy_score, 0, 1),
    "selection_rate": _where_defined(selection_rate),
    "true_positive_rate": _where_defined(true_positive_rate, 1),
    "false_positive_rate": _where_defined(false_positive_rate, 0),
}
_HEADINGS = dict(zip(_METRICS, ("accuracy", "balanced", "selected", "TPR", "FPR"), strict=True))


def _count_positives(y_true: np.ndarray, y_pred: np.ndarray) -> int:
    """Count the rows whose true label is positive."""
    return int(y_true.sum())


def _performance_reduction(
    y_true: np.ndarray, y_pred: np.ndarray, y_dense: np.ndarray, sample_weight: Any = None
) -> float:
    """Accuracy of the dense minus accuracy of the pruned network (Dai et al., Definition 2)."""
    accuracy = _METRICS["accuracy"]
    return accuracy(y_true, y_dense, sample_weight) - accuracy(y_true, y_pred, sample_weight)


_GAPS = {
    "demographic_parity_difference": ("selection_rate",),
    "equalized_odds_difference": ("true_positive_rate", "false_positive_rate"),
    "equal_opportunity_difference": ("true_positive_rate",),
    "false_positive_rate_difference": ("false_positive_rate",),
    "accuracy_difference": ("accuracy",),
}
"""Every gap, as the rates whose largest difference it is."""

_GAP_OF_CONSTRAINT = {
    "demographic_parity": "demographic_parity_difference",
    "equalized_odds": "equalized_odds_difference",
    "equal_opportunity": "equal_opportunity_difference",
    "false_positive_rate_parity": "false_positive_rate_difference",
    "accuracy_parity": "accuracy_difference",
}


def _cells(
    gap: str, y_true: np.ndarray, y_pred: np.ndarray, group: np.ndarray, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum up the cells that a gap compares; labels are 0 or 1.

    Returns
    -------
    n : ndarray of shape (n_rates, n_groups), int64
        Effective rows: Kish's (Σw)² / Σw², which is the plain count without weights.
    rate : ndarray of shape (n_rates, n_groups)
    pooled : ndarray of shape (n_rates, 1)
        Rate over all groups together.
    """
    weight = np.ones(len(y_true)) if weight is None else weight
    sums = []
    for rate in _GAPS[gap]:
        outcome = y_pred == y_true if rate == "accuracy" else y_pred == 1
        w = weight
        if rate in ("true_positive_rate", "false_positive_rate"):
            w = weight * (y_true == (rate == "true_positive_rate"))
        sums.append([np.bincount(group, column) for column in (w, w**2, w * outcome)])
    total, squares, hits = np.moveaxis(np.array(sums), 1, 0)
    tiny = np.finfo(float).tiny  # an empty cell gets n = 0, which leaves it out of the gaps
    n = np.rint(total**2 / np.maximum(squares, tiny)).astype(np.int64)
    pooled = hits.sum(1, keepdims=True) / np.maximum(total.sum(1, keepdims=True), tiny)
    return n, hits / np.maximum(total, tiny), pooled


def _redrawn_gaps(n: np.ndarray, rate: np.ndarray, n_draws: int, random_state: Any) -> np.ndarray:
    """Gaps after each cell's outcomes are redrawn as Binomial(n, rate) / n, shape (n_draws,)."""
    p = np.clip(rate, 0.0, 1.0)  # rounding can leave a weighted rate a hair above 1
    drawn = check_random_state(random_state).binomial(n, p, (n_draws, *n.shape)) / np.maximum(n, 1)
    gap = np.where(n > 0, drawn, -np.inf).max(-1) - np.where(n > 0, drawn, np.inf).min(-1)
    return np.where((n > 0).sum(-1) >= 2, gap, np.nan).max(-1)


def _interval(n: np.ndarray, rate: np.ndarray, level: float, random_state: Any) -> np.ndarray:
    """Percentile interval of a gap under the bootstrap that is stratified by event and group."""
    gaps = _redrawn_gaps(n, rate, N_DRAWS, random_state)
    return np.quantile(gaps, [(1 - level) / 2, (1 + level) / 2])


def noise_floor(
    y_true: Any,
    y_pred: Any,
    *,
    sensitive_features: Any,
    metric: str = "equalized_odds_difference",
    sample_weight: Any = None,
    n_draws: int = N_DRAWS,
    random_state: Any = 0,
) -> float:
    """Mean gap that would be seen on these rows if the groups had equal rates.

    A gap is a largest minus a smallest rate, so noise alone makes it positive: more so with
    more groups, and with fewer rows in the smallest. The outcomes of every (event, group) cell
    are redrawn as Binomial(n_cell, rate over all groups) / n_cell, and the gaps averaged.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        True and predicted labels, of {0, 1} or of {-1, 1}.
    sensitive_features : Series, DataFrame, ndarray, list or dict of arrays
        Several columns stand for their intersections.
    metric : str
        ``"demographic_parity_difference"``, ``"equalized_odds_difference"``,
        ``"equal_opportunity_difference"``, ``"false_positive_rate_difference"`` or
        ``"accuracy_difference"``.
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
        If lengths differ, labels are not binary, or the metric is unknown.

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
    if metric not in _GAPS:
        raise ValueError(f"Got metric={metric!r}, but expected one of {list(_GAPS)}.")
    y_true, y_pred = column_or_1d(y_true), column_or_1d(y_pred)
    if len(y_true) != len(y_pred):
        raise ValueError(f"Got y_pred with {len(y_pred)} rows, but y_true has {len(y_true)} rows.")
    labels = set(pd.unique(np.concatenate([y_true, y_pred])).tolist())
    if not (labels <= {0, 1} or labels <= {-1, 1}):
        raise ValueError(f"Got labels {labels}, but expected 0 and 1, or -1 and 1.")
    weight = _checked_weight(sample_weight, len(y_true))
    group, _ = group_codes(sensitive_frame(sensitive_features, len(y_true)))
    n, _, pooled = _cells(metric, (y_true == 1) * 1, (y_pred == 1) * 1, group, weight)
    return float(_redrawn_gaps(n, pooled, n_draws, random_state).mean())


@dataclass(frozen=True, eq=False, repr=False)
class FairnessReport:
    """What :func:`fairness_report` measured: print it, or read its tables.

    Rates and gaps are fractions. For a classifier that was not pruned, one column ``value``
    takes the place of ``dense`` and ``pruned``, there is no ``change``, and
    ``performance_reduction`` and ``size`` are empty.

    Attributes
    ----------
    overall : DataFrame
        One row for each metric; columns ``dense``, ``pruned`` and ``change``.
    by_group : DataFrame
        One row for each group; columns (metric, ``dense`` or ``pruned``), before them
        ``count`` and ``positives``: the group's rows, and those with the positive label.
    differences : DataFrame
        One row for each gap, the largest difference between two groups as
        ``fairlearn.metrics`` defines it; columns ``dense``, ``pruned``, ``low`` and ``high``
        (interval of the pruned gap, by a bootstrap stratified by event and group) and
        ``noise_floor`` (see :func:`noise_floor`). A gap is never negative and redrawing adds
        noise, so the interval leans upwards and ``low > 0`` is no evidence of a difference:
        what to compare with is the noise floor.
    performance_reduction : Series
        Accuracy of the dense minus accuracy of the pruned network: ``overall``, each group,
        and ``gap``, the largest difference between two groups (performance degradation
        fairness). Definitions 2 and 3 of Dai et al., arXiv 2312.10181.
    size : Series
        ``n_weights`` (prunable), ``n_nonzero`` (left in the pruned network), ``sparsity``.
    notes : tuple of str
        What to know before believing the numbers.
    positive_label : object
        The label that counts as selected, ``classes_[1]``.
    confidence_level : float
        Level of the intervals.
    """

    overall: pd.DataFrame
    by_group: pd.DataFrame
    differences: pd.DataFrame
    performance_reduction: pd.Series
    size: pd.Series
    notes: tuple[str, ...]
    positive_label: Any
    confidence_level: float

    def __repr__(self) -> str:
        """Return the printed report, so that a console shows it."""
        return str(self)

    def __str__(self) -> str:
        """Lay out the report for a terminal of 100 columns."""
        tables = [f"{caption}\n{_text(table)}" for caption, table in self._tables()]
        notes = [textwrap.fill(f"- {n}", _LINE_WIDTH, subsequent_indent="  ") for n in self.notes]
        return "\n\n".join([self._title(), *tables, "\n".join(["Notes", *notes])])

    def _repr_html_(self) -> str:
        """Lay out the report for a notebook."""
        title = html.escape(self._title()).replace("\n", "<br>")
        # to_html escapes cells and labels, which come from the user's data.
        tables = "".join(
            f"<p>{html.escape(caption)}</p>{table.to_html(escape=True, border=0)}"
            for caption, table in self._tables()
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<div><p><strong>{title}</strong></p>{tables}<p>Notes</p><ul>{notes}</ul></div>"

    def _title(self) -> str:
        """Return what was measured, in one or two lines."""
        title = (
            f"Fairness report: {self.by_group['count'].sum():,} rows, {len(self.by_group)} groups "
            f"by {self.by_group.index.name}, positive label {self.positive_label!r}"
        )
        if len(self.size):
            title += (
                f"\nSparsity {self.size['sparsity']:.1%}: {self.size['n_nonzero']:,.0f} of "
                f"{self.size['n_weights']:,.0f} weights left"
            )
        return title

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        """Return what to show as (caption, table of strings)."""
        networks = [name for name in self.overall if name != "change"]
        arrow = " (dense→pruned)" if "dense" in networks else ""

        counts = [self.by_group["count"].sum(), *self.by_group["count"]]
        rates = pd.DataFrame({"rows": [f"{n:,}" for n in counts]})
        rates.index = ["overall", *self.by_group.index]
        for metric, heading in _HEADINGS.items():
            by_group = self.by_group[metric][networks].to_numpy()
            values = np.vstack([self.overall.loc[metric, networks], by_group])
            rates[heading] = [_arrow(row) for row in values]

        gaps = pd.DataFrame(index=[_plain(name) for name in self.differences.index])
        gaps["gap"] = [_arrow(row) for row in self.differences[networks].to_numpy()]
        gaps[f"{self.confidence_level * 100:g}% interval"] = [
            f"{_number(low)} to {_number(high)}"
            for low, high in self.differences[["low", "high"]].to_numpy()
        ]
        gaps["noise floor"] = [_number(value) for value in self.differences["noise_floor"]]

        if len(self.performance_reduction):
            *lost, gap = [_number(value) for value in self.performance_reduction]
            rates["acc. lost"] = lost
            gaps.loc["accuracy lost"] = [gap, "", ""]
        noise = "; noise floor: mean gap on these rows if groups had equal rates"
        return [(f"Rates{arrow}", rates), (f"Gaps between groups{arrow}{noise}", gaps)]


def _plain(gap: str) -> str:
    """Name of a gap in words."""
    return gap.removesuffix("_difference").replace("_", " ")


def _number(value: float) -> str:
    """Three decimals, never "-0.000", and a dash for NaN."""
    return "–" if np.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def _arrow(values: Iterable[float]) -> str:
    """Dense and pruned value: ``0.853→0.848``."""
    return "→".join(_number(value) for value in values)


def _text(table: pd.DataFrame) -> str:
    """Lay out a table of strings; a name too long for the line goes on in the next lines."""
    widths = [max(map(len, [name, *table[name]])) for name in table.columns]
    room = max(_LINE_WIDTH - sum(widths) - 2 * len(widths), 14)
    rows = [["", *table.columns]]
    for name, *cells in table.itertuples():
        lines = textwrap.wrap(str(name), room, initial_indent="  ", subsequent_indent="    ")
        rows += [[lines[0] if lines else "", *cells], *([x, *[""] * len(cells)] for x in lines[1:])]
    name_width = max(len(name) for name, *_ in rows)
    lines = []
    for name, *cells in rows:
        cells = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([name.ljust(name_width), *cells]).rstrip())
    return "\n".join(lines)


def fairness_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sensitive_features: Any,
    sample_weight: Any = None,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> FairnessReport:
    """Measure a pruned network against the dense one, overall and by group.

    Parameters
    ----------
    estimator : fitted estimator
        A :class:`~fairprune_sk.FairPruner`, a Pipeline that ends in one, or a search over
        either. Any other binary classifier with ``predict`` and ``classes_`` is measured alone.
    X : array-like of shape (n, n_features)
        Best rows that the estimator has not seen: on training rows the gaps are what it
        optimised.
    y : array-like of shape (n,)
        True labels; ``classes_[1]`` is the positive one.
    sensitive_features : Series, DataFrame, ndarray, list or dict of arrays
        Several columns stand for their intersections.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows in every rate; counts stay counts of rows.
    confidence_level : float
        Level of the gaps' intervals, in (0, 1).
    random_state : int, RandomState or None
        For the draws behind noise floors and intervals; nothing else is random.

    Returns
    -------
    FairnessReport

    Raises
    ------
    ValueError
        If lengths differ, y holds a label that is not in ``classes_``, there are fewer than two
        groups, or the estimator does not have two classes.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    A rate that no row of a group speaks for (the true positive rate of a group without
    positives) is NaN and left out of the gaps, where fairlearn's functions count it as 0. A gap
    with fewer than two groups left is NaN.

    References
    ----------
    Dai, Li, Luo, Ma, Wu: Integrating Fairness and Model Pruning Through Bi-level Optimization,
    arXiv 2312.10181.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairprune_sk.report import fairness_report
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(600, 2))
    >>> sex = np.where(X[:, 1] > 0, "Female", "Male")
    >>> y = np.where(X.sum(axis=1) + rng.normal(size=600) > 0, "yes", "no")
    >>> model = LogisticRegression().fit(X[:200], y[:200])
    >>> report = fairness_report(model, X[200:], y[200:], sensitive_features=sex[200:])
    >>> print(report.differences.loc["equalized_odds_difference"].round(2).to_string())
    value          0.29
    low            0.20
    high           0.42
    noise_floor    0.07
    >>> print(str(report).splitlines()[0])
    Fairness report: 400 rows, 2 groups by sensitive_feature, positive label 'yes'
    """
    n_rows = _num_samples(next(iter(X.values())) if isinstance(X, Mapping) else X)
    y = column_or_1d(y)
    if len(y) != n_rows:
        raise ValueError(f"Got y with {len(y)} rows, but X has {n_rows} rows.")
    frame = sensitive_frame(sensitive_features, n_rows)
    weight = _checked_weight(sample_weight, n_rows)
    group, groups = group_codes(frame)
    if len(groups) < 2:
        raise ValueError(
            f"Got sensitive_features with {len(groups)} group {list(map(group_name, groups))}, "
            "but expected at least two groups to compare."
        )
    if not 0 < confidence_level < 1:
        raise ValueError(
            f"Got confidence_level={confidence_level!r}, but expected a number in (0, 1)."
        )
    transformers, model = _unwrapped(estimator)
    positive_label = _positive_label(model, y)

    for transformer in transformers:
        X = transformer.transform(X)
    labels = {"value": model.predict(X)}
    if hasattr(model, "predict_dense"):
        labels = {"dense": model.predict_dense(X), "pruned": labels["value"]}
    y_true = (y == positive_label).astype(int)
    y_pred = {name: (np.asarray(v) == positive_label).astype(int) for name, v in labels.items()}
    frames = {
        name: _metric_frame(y_true, pred, y_pred.get("dense", pred), group, weight)
        for name, pred in y_pred.items()
    }
    shipped = list(frames)[-1]
    names = pd.Index(_group_names(groups), name=" × ".join(frame.columns))

    overall = pd.DataFrame({name: f.overall[list(_METRICS)] for name, f in frames.items()})
    by_group = pd.DataFrame(
        {(c, ""): frames[shipped].by_group[c].astype(int) for c in ("count", "positives")}
        | {(metric, name): f.by_group[metric] for metric in _METRICS for name, f in frames.items()}
    ).set_axis(names)
    differences = pd.DataFrame({name: _differences(f) for name, f in frames.items()})
    at_parity_high = {}
    for gap in _GAPS:
        n, rate, pooled = _cells(gap, y_true, y_pred[shipped], group, weight)
        interval = _interval(n, rate, confidence_level, random_state)
        differences.loc[gap, ["low", "high"]] = interval
        at_parity = _redrawn_gaps(n, pooled, N_DRAWS, random_state)
        differences.loc[gap, "noise_floor"] = at_parity.mean()
        at_parity_high[gap] = np.quantile(at_parity, confidence_level)

    reduction, size = pd.Series(dtype=float), pd.Series(dtype=float)
    if shipped == "pruned":
        overall["change"] = overall["pruned"] - overall["dense"]
        size = _size(model)
        name, f = "performance_reduction", frames["pruned"]
        gap = f.difference(method="between_groups")[name]
        values = [f.overall[name], *f.by_group[name], gap]
        reduction = pd.Series(values, ["overall", *names, "gap"], name=name)

    notes = [
        *_fit_notes(model, X, differences[shipped]),
        *_row_notes(by_group, overall[shipped], shipped),
        *_gap_notes(differences[shipped], at_parity_high, confidence_level),
        LIMITS,
    ]
    return FairnessReport(
        overall=overall,
        by_group=by_group,
        differences=differences,
        performance_reduction=reduction,
        size=size,
        notes=tuple(notes),
        positive_label=positive_label,
        confidence_level=confidence_level,
    )


def _checked_weight(sample_weight: Any, n_rows: int) -> np.ndarray | None:
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


def _unwrapped(estimator: Any) -> tuple[list[Any], Any]:
    """Find the classifier inside searches and pipelines, and what transforms X before it."""
    transformers = []
    while not hasattr(estimator, "predict_dense"):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            transformers += [estimator[:-1]] if len(estimator) > 1 else []
            estimator = estimator[-1]
        else:
            break
    return transformers, estimator


def _positive_label(model: Any, y: np.ndarray) -> Any:
    """Check the classes against the labels of y, and return the positive one."""
    if not hasattr(model, "classes_"):
        check_is_fitted(model)
        raise ValueError(f"Got {type(model).__name__}, but expected a classifier with classes_.")
    classes = np.asarray(model.classes_).tolist()
    if len(classes) != 2:
        raise ValueError(f"Got an estimator with classes {classes}, but expected two classes.")
    unknown = [label for label in pd.unique(y).tolist() if label not in classes]
    if unknown:
        raise ValueError(f"Got y with labels {unknown}, but expected only {classes} (classes_).")
    return classes[1]


def _group_names(groups: np.ndarray) -> list[str]:
    """Name each group; by its repr where 1 and "1", or a group and a total, look the same."""
    names = [group_name(group) for group in groups]
    taken = ["overall", "gap", *names]
    return [n if taken.count(n) == 1 else repr(g) for n, g in zip(names, groups, strict=True)]


def _metric_frame(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    y_dense: np.ndarray,
    group: np.ndarray,
    weight: np.ndarray | None,
) -> MetricFrame:
    """Measure everything about one network."""
    metrics = _METRICS | {"performance_reduction": _performance_reduction}
    params = {name: {"sample_weight": weight} for name in metrics}
    params["performance_reduction"]["y_dense"] = y_dense
    return MetricFrame(
        metrics=metrics | {"count": count, "positives": _count_positives},
        y_true=y_true,
        y_pred=y_pred,
        sensitive_features=pd.Series(group, name="group"),
        sample_params=params,
    )


def _differences(frame: MetricFrame) -> pd.Series:
    """Gaps of one network; NaN where fewer than two groups have the rate."""
    gap = frame.difference(method="between_groups").where(frame.by_group.notna().sum() >= 2)
    return pd.Series({name: gap[list(rates)].max(skipna=False) for name, rates in _GAPS.items()})


def _size(model: Any) -> pd.Series:
    """Count the weights: those that could be pruned, and those that are left."""
    left = prunable_parameters(model.network_).values()
    values = {
        "n_weights": sum(mask.numel() for mask in model.masks_.values()),
        "n_nonzero": sum(int(weight.count_nonzero()) for weight in left),
        "sparsity": float(model.sparsity_),
    }
    return pd.Series(values, dtype=object)  # object: counts stay integers


def _fit_notes(model: Any, X: Any, gaps: pd.Series) -> list[str]:
    """Say whether these are the training rows, and whether the gap is within the tolerance."""
    notes = []
    if hasattr(model, "was_fitted_on") and model.was_fitted_on(X):
        notes.append(
            "MEASURED ON THE TRAINING DATA: expect lower accuracy and larger gaps on new rows, "
            "and measure on rows that the network has not seen."
        )
    constraint, tolerance = getattr(model, "constraint", None), getattr(model, "tolerance", None)
    gap = next(
        (
            _GAP_OF_CONSTRAINT.get(name)
            for name, kind in CONSTRAINTS.items()
            if constraint == name or type(constraint) is kind
        ),
        None,
    )
    constrained = getattr(model, "fairness_weight", 1) > 0 and tolerance is not None
    if gap and constrained and getattr(model, "gap_method", "between_groups") == "between_groups":
        met = "within" if gaps[gap] <= tolerance else "above"
        notes.append(
            f"Trained for a gap in {_plain(gap)} of at most {tolerance:g}; on these rows and "
            f"groups it is {_number(gaps[gap])}, {met} that tolerance."
        )
    return notes


def _row_notes(by_group: pd.DataFrame, overall: pd.Series, network: str) -> list[str]:
    """Say where rates mean little: one predicted label, few rows or none behind a rate."""
    notes = []
    if overall["selection_rate"] in (0, 1):
        notes.append("COLLAPSED: every row gets the same label, which makes all rates equal.")
    counts = pd.DataFrame({"positive": by_group["positives"]})
    counts["negative"] = by_group["count"] - counts["positive"]
    small = [
        f"{name} ({', '.join(f'{n} {kind}' for kind, n in row.items() if n < MIN_CELL_COUNT)})"
        for name, row in counts.iterrows()
        if row.min() < MIN_CELL_COUNT
    ]
    if small:
        notes.append(
            f"Too small to judge, fewer than {MIN_CELL_COUNT} rows behind a rate: "
            f"{'; '.join(small)}."
        )
    undefined = by_group.xs(network, axis=1, level=1)[list(_METRICS)].isna()
    without = [
        f"{name} ({', '.join(_HEADINGS[metric] for metric in row.index[row])})"
        for name, row in undefined.iterrows()
        if row.any()
    ]
    if without:
        notes.append(f"Without rows to measure on, left out of the gaps: {'; '.join(without)}.")
    return notes


def _gap_notes(gaps: pd.Series, at_parity_high: dict[str, float], level: float) -> list[str]:
    """Name the gaps that are undefined, and those that equal groups would show as well."""
    notes = []
    undefined = [_plain(gap) for gap in gaps.index[gaps.isna()]]
    if undefined:
        notes.append(f"No gap in {', '.join(undefined)}: fewer than two groups have the rate.")
    noise = [
        f"{_plain(gap)} {_number(gaps[gap])} (up to {_number(high)})"
        for gap, high in at_parity_high.items()
        if gaps[gap] <= high and high > 0
    ]
    if noise:
        notes.append(
            f"Cannot be told from parity on these rows: {', '.join(noise)}. In brackets: what "
            f"groups with equal rates show in {level * 100:g}% of draws."
        )
    return notes
