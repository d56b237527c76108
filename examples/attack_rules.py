"""The rules that an attack checks, each against somebody else's word."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
from fairlearn import metrics as flm
from fairlearn.reductions import Moment
from sklearn.metrics import accuracy_score, zero_one_loss
from sklearn.utils.class_weight import compute_sample_weight

from fairprune_sk import FairPruner, exceptions
from fairprune_sk.fitting.dense import train_dense

REFUSALS = (ValueError, TypeError)

OURS = tuple(
    kind
    for kind in vars(exceptions).values()
    if isinstance(kind, type) and issubclass(kind, Warning)
)
# Of others, as documented: by scikit-learn, for all estimators, and by FairPruner for memory.
DOCUMENTED = (
    "X does not have valid feature names",
    "X has feature names, but FairPruner was fitted without",
    "A column-vector y was passed",
    "The number of unique classes is greater than 50%",
    "pandas.DataFrame with sparse columns found",
    "Got memory without random_state",
)

# What 32 bits and their sums may add to a gap, without weights and with them.
ROUNDING, WEIGHT_ROUNDING = 1e-6, 1e-5
# A row whose logits are as near to the border as this may fall on either side, by rounding.
BORDER = 1e-5
# Weights this far below their mean are nothing in the 32 bits of a network.
SMALLEST_WEIGHT = float(np.finfo(np.float32).tiny)


class BrokenRuleError(AssertionError):
    """The package did what it must not do."""


@contextmanager
def only_documented_warnings() -> Iterator[None]:
    """Break on a warning of another class than the package's own, and not documented."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        message = str(warning.message)
        if not (issubclass(warning.category, OURS) or message.startswith(DOCUMENTED)):
            raise BrokenRuleError(f"an undocumented {warning.category.__name__}: {message}")


@contextmanager
def watched_training() -> Iterator[list[str]]:
    """Note in a list what was trained, as soon as it begins."""
    begun: list[str] = []

    def noting(place: str, train: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            begun.append(place)
            return train(*args, **kwargs)

        return noted

    places = ("fairprune_sk.pruner.train_dense", "fairprune_sk.fitting.unseen.train_dense")
    with mock.patch(places[0], noting("all rows", train_dense)):
        with mock.patch(places[1], noting("half of the rows", train_dense)):
            yield begun


# ----------------------------------------------------------------------------- claims of fairness

ALL = (lambda is_class: np.ones_like(is_class),)
NEGATIVE, POSITIVE = (np.logical_not,), (lambda is_class: is_class,)


def passed_over(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    """Share that is not selected."""
    return 1.0 - flm.selection_rate(y_true, y_pred, sample_weight=sample_weight)


NOTIONS: dict[str, tuple[tuple, Callable, bool]] = {
    "demographicparity": (ALL, flm.selection_rate, True),
    "equalizedodds": ((*NEGATIVE, *POSITIVE), flm.selection_rate, True),
    "equalopportunity": (POSITIVE, flm.selection_rate, True),
    "truepositiverateparity": (POSITIVE, flm.selection_rate, True),
    "falsepositiverateparity": (NEGATIVE, flm.selection_rate, True),
    "accuracyparity": (ALL, accuracy_score, False),
    "errorrateparity": (ALL, zero_one_loss, False),
    "degradationparity": (ALL, accuracy_score, False),
    "passedover": (POSITIVE, passed_over, True),
}
"""Of each constraint: rows that it conditions on, rate, and whether each class is one of its own.

By the names that fairlearn, this package and its users write, without underscores and capitals.
"""


@dataclass(frozen=True)
class Known:
    """What an attack knows of the rows that it passes, whatever form it passes them in.

    Attributes
    ----------
    y : ndarray of shape (n,)
        Labels.
    group, stratum : list of hashable or None
        Of each row; None for a row without a group.
    weight : ndarray of shape (n,) or None
        Sample weights; those of the classes come from the estimator.
    """

    y: np.ndarray
    group: list
    stratum: list | None
    weight: np.ndarray | None


def check_claim(pruner: FairPruner, X: Any, known: Known) -> str:
    """Hold a fit's claim against MetricFrame on its training rows; give the outcome in words.

    Parameters
    ----------
    pruner : FairPruner
        Fitted.
    X : as for ``fit``
    known : Known
    """
    scores, n = pruner.decision_function(X), len(known.y)
    if len(scores) != n or not np.isfinite(scores).all():
        raise BrokenRuleError(f"{len(scores)} scores, not all finite, for {n} training rows")
    if pruner.violation_ is None:
        return "fitted, without a bound"
    if not np.isfinite(pruner.violation_):
        raise BrokenRuleError(f"a violation of {pruner.violation_}")
    by_class = np.column_stack([0 * scores, scores]) if scores.ndim == 1 else scores
    runner_up, top = np.sort(by_class, axis=1)[:, -2:].T
    if (top - runner_up <= BORDER * np.abs(by_class).max(axis=1)).any():
        return "fitted, with rows on the border between classes"
    gap, claimed = gap_of(pruner, X, known), pruner.train_gap_
    if gap > claimed + (ROUNDING if known.weight is None else WEIGHT_ROUNDING):
        raise BrokenRuleError(f"a gap of {claimed:.7f} is claimed, MetricFrame finds {gap:.7f}")
    return f"fitted, tolerance {'met' if pruner.violation_ <= 0 else 'missed, as it says'}"


def gap_of(pruner: FairPruner, X: Any, known: Known) -> float:
    """Find the gap of a fit on its training rows as fairlearn sees it."""
    constraint, method = pruner.constraint, pruner.gap_method
    ratio = getattr(constraint, "comparison", "difference") == "ratio"
    if isinstance(constraint, Moment):
        method, ratio = "to_overall", constraint.ratio != 1.0
    name = constraint if isinstance(constraint, str) else type(constraint).__name__
    name = name.replace("_", "").lower()
    events, rate, one_vs_rest = NOTIONS[name]
    rows = _rows_of(pruner, known)
    y, predicted, dense = known.y, pruner.predict(X), pruner.predict_dense(X)
    labels: list = [None]
    if one_vs_rest:
        labels = list(pruner.classes_) if len(pruner.classes_) > 2 else [pruner.pos_label_]
    gaps = [0.0]
    for label in labels:
        of = (lambda values, label=label: values == label) if one_vs_rest else np.asarray
        for event in events:
            inside = rows[event(of(y))[rows.index]] if one_vs_rest else rows
            if inside.empty:
                continue
            rates = _rates(rate, of(y), of(predicted), inside)
            if name == "degradationparity":
                before = _rates(rate, of(y), of(dense), inside)
                rates = tuple(after - former for after, former in zip(rates, before, strict=True))
            gaps.append(_largest_gap(*rates, inside, pruner.min_group_count, method, ratio))
    return max(gaps)


def _rows_of(pruner: FairPruner, known: Known) -> pd.DataFrame:
    """Rows that have a group and a weight, by position, with stratum, group and weight."""
    weight = np.ones(len(known.y)) if known.weight is None else known.weight / known.weight.max()
    if pruner.class_weight is not None:
        weight = weight * compute_sample_weight(pruner.class_weight, known.y)
        weight = weight / weight.max()
    strata = known.stratum or [0] * len(weight)
    columns = {"stratum": _codes(strata), "group": _codes(known.group), "weight": weight}
    inside = np.array([group is not None for group in known.group])
    return pd.DataFrame(columns)[inside & (weight / weight.mean() >= SMALLEST_WEIGHT)]


def _codes(values: list) -> list[int]:
    places: dict[Any, int] = {}
    return [places.setdefault(value, len(places)) for value in values]


def _rates(
    rate: Callable, y: np.ndarray, predicted: np.ndarray, rows: pd.DataFrame
) -> tuple[pd.Series, pd.Series]:
    """Rates of the groups in each stratum, and of all its rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fairlearn on a later pandas
        frame = flm.MetricFrame(
            metrics=rate,
            y_true=y[rows.index],
            y_pred=predicted[rows.index],
            sensitive_features=rows["group"],
            control_features=rows["stratum"],
            sample_params={"sample_weight": rows["weight"]},
        )
    return frame.by_group, frame.overall


def _largest_gap(
    by_group: pd.Series,
    overall: pd.Series,
    rows: pd.DataFrame,
    min_group_count: int,
    method: str,
    ratio: bool,
) -> float:
    """Largest gap between the groups of a stratum that have enough rows; by weight, Kish's."""
    cells = rows.groupby(["stratum", "group"])["weight"]
    effective = cells.sum() ** 2 / cells.agg(lambda weight: (weight**2).sum())
    large = by_group[effective.index[effective.round() >= min_group_count]]
    gaps = [0.0]
    for stratum, of_groups in large.groupby(level="stratum"):
        if len(of_groups) < 2:
            continue
        pairs = [(of_groups.max(), of_groups.min())]
        if method == "to_overall":
            pairs = [(max(r, overall[stratum]), min(r, overall[stratum])) for r in of_groups]
        gaps += [(high - low) / max(high, 1e-300) if ratio else high - low for high, low in pairs]
    return float(max(gaps))
