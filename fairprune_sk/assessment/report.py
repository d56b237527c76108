"""The fairness report: the pruned network against the dense one, overall and by group.

The numbers come from the modules beside this one; here they are put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _num_samples

from fairprune_sk.assessment.answer import answer_lines
from fairprune_sk.assessment.certificate import certificate_of
from fairprune_sk.assessment.classifiers import (
    check_predicted,
    checked_classes,
    is_pruner,
    positive_last,
    unwrapped,
)
from fairprune_sk.assessment.findings import FairnessReport
from fairprune_sk.assessment.gaps import (
    NOTIONS,
    by_class_table,
    gap_name,
    gaps_by_class,
    largest_gap,
    notion_cells,
)
from fairprune_sk.assessment.noise import estimate_of
from fairprune_sk.assessment.notes import (
    alarms_of,
    fit_notes,
    gap_notes,
    left_out_notes,
    noise_notes,
    row_notes,
    tolerance_notes,
)
from fairprune_sk.assessment.pairs import Sample
from fairprune_sk.assessment.provenance import checksum, provenance_of
from fairprune_sk.assessment.rate_intervals import interval_table
from fairprune_sk.assessment.rates import (
    Rows,
    by_group_table,
    check_confidence_level,
    checked_groups,
    checked_strata,
    checked_weight,
    metric_frame,
    overall_table,
    reduction_series,
    row_names,
)
from fairprune_sk.assessment.summary import network_size
from fairprune_sk.fairness.constraints import Constraint, DegradationParity
from fairprune_sk.fairness.groups import check_order, counted
from fairprune_sk.fairness.requirement import Requirement, requirement_of

LIMITS = (
    "Not measured: whether the labels themselves are biased, whether probabilities are "
    "calibrated, whether similar people are treated alike."
)


def fairness_report(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sensitive_features: Any,
    control_features: Any = None,
    pos_label: Any = None,
    missing_sensitive: str = "error",
    sample_weight: Any = None,
    confidence_level: float = 0.95,
    random_state: Any = 0,
) -> FairnessReport:
    """Measure a pruned network against the dense one, overall and by group.

    Parameters
    ----------
    estimator : fitted estimator
        A :class:`~fairprune_sk.FairPruner`, a Pipeline that ends in one, or a search over
        either. Any other classifier with ``predict`` and ``classes_`` is measured alone.
    X : array-like of shape (n, n_features), DataFrame, or dict of arrays
        Best rows that the estimator has not seen: on training rows the gaps are what it
        optimised.
    y : array-like of shape (n,)
        True labels. Of two classes ``pos_label`` is the positive one; of more, each is
        positive in turn against the rest.
    sensitive_features : Series, DataFrame, ndarray, list or dict of arrays
        Series and DataFrames of pandas or polars. Several columns stand for their
        intersections.
    control_features : Series, DataFrame, ndarray, list or dict of arrays, optional
        Groups are compared only within strata, the rows with equal control features (applicants
        of one job, patients of one hospital); a gap is the largest of any stratum. Several
        columns stand for their intersections.
    pos_label : label, optional
        Of two classes the one that counts as selected; by default the estimator's own
        (``pos_label_``), or the second of ``classes_``.
    missing_sensitive : {"error", "group", "ignore"}
        What becomes of rows that lack a sensitive feature: an error; a value ``"missing"`` of
        its own; or no group, so that they count in the overall figures only.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows in every rate; counts stay counts of rows.
    confidence_level : float
        Level of the gaps' intervals, in (0, 1).
    random_state : int, RandomState or None
        For the draws behind noise floors and corrections; nothing else is random.

    Returns
    -------
    FairnessReport

    Raises
    ------
    ValueError
        If lengths differ, y holds a label that is not in ``classes_``, there are fewer than two
        groups, or the estimator has a single class.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    A rate that no row of a group speaks for (the true positive rate of a group without
    positives) is NaN and left out of the gaps, where fairlearn's functions count it as 0. A gap
    with fewer than two groups left is NaN; a class or a stratum with fewer than two is left out
    where there are others, and a note names it.

    References
    ----------
    Dai, Li, Luo, Ma, Wu: Integrating Fairness and Model Pruning Through Bi-level Optimization,
    arXiv 2312.10181.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairprune_sk.assessment import fairness_report
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(600, 2))
    >>> sex = np.where(X[:, 1] > 0, "Female", "Male")
    >>> y = np.where(X.sum(axis=1) + rng.normal(size=600) > 0, "yes", "no")
    >>> model = LogisticRegression().fit(X[:200], y[:200])
    >>> report = fairness_report(model, X[200:], y[200:], sensitive_features=sex[200:])
    >>> print(report.differences.loc["equalized_odds_difference"].round(2).to_string())
    value          0.29
    corrected      0.27
    low            0.13
    high           0.41
    noise_floor    0.07
    parity_high    0.14
    >>> print(str(report).splitlines()[0])
    Fairness report: 400 rows, 2 groups by sensitive_feature, positive label 'yes'
    """
    n_rows = _n_rows(X)
    asked_of = {"sensitive_features": sensitive_features, "control_features": control_features}
    check_order(X, y=y, **asked_of, sample_weight=sample_weight)
    check_order(y, **asked_of, sample_weight=sample_weight)
    given_X, given_y, y = X, y, column_or_1d(y)
    if len(y) != n_rows:
        raise ValueError(
            f"Got y with {counted(len(y), 'row')}, but X has {counted(n_rows, 'row')}."
        )
    grouping = checked_groups(sensitive_features, n_rows, missing_sensitive)
    strata = checked_strata(control_features, n_rows)
    weight = checked_weight(sample_weight, n_rows)
    check_confidence_level(confidence_level)
    transformers, model = unwrapped(estimator)
    labels = positive_last(checked_classes(model, y), model, pos_label)

    for transformer in transformers:
        X = transformer.transform(X)
    predicted = {"value": model.predict(X)}
    if hasattr(model, "predict_dense"):
        predicted = {"dense": model.predict_dense(X), "pruned": predicted["value"]}
    for column in predicted.values():
        check_predicted(column)
    shipped = list(predicted)[-1]
    y_pred = {network: _label_codes(column, labels) for network, column in predicted.items()}
    y_dense = {network: y_pred.get("dense", pred) for network, pred in y_pred.items()}

    rows = Rows(
        y_true=_label_codes(y, labels),
        group=grouping.codes,
        stratum=np.zeros(n_rows, dtype=np.int64) if strata is None else strata.codes,
        weight=weight,
        n_classes=len(labels),
        classes=(1,) if len(labels) == 2 else tuple(range(len(labels))),
    )
    grouped = rows.grouped()
    compared = rows.take(grouped)
    tallies = {
        network: compared.tally(pred[grouped], y_dense[network][grouped])
        for network, pred in y_pred.items()
    }
    frames = {network: metric_frame(tally) for network, tally in tallies.items()}
    if strata is None and grouped.all():
        totals = {network: frame.overall.iloc[0] for network, frame in frames.items()}
    else:
        everyone = replace(rows, group=np.zeros_like(rows.group), stratum=np.zeros_like(rows.group))
        totals = {
            network: metric_frame(everyone.tally(pred, y_dense[network])).overall.iloc[0]
            for network, pred in y_pred.items()
        }
    requirement = requirement_of(model) if is_pruner(model) else None
    if (
        requirement is not None
        and requirement.constraint.relative_to_dense
        and "dense" not in y_pred
    ):
        requirement = None  # what was promised cannot be measured
    notions = _notions(shipped, requirement)
    cells = {
        gap: {network: notion_cells(notion, tally) for network, tally in tallies.items()}
        for gap, notion in notions.items()
    }
    gaps = {
        gap: {network: gaps_by_class(c) for network, c in networks.items()}
        for gap, networks in cells.items()
    }
    differences = pd.DataFrame.from_dict(
        {
            gap: {network: float(largest_gap(g)) for network, g in networks.items()}
            for gap, networks in gaps.items()
        },
        orient="index",
    )
    estimates = {
        gap: estimate_of(networks[shipped], confidence_level, random_state=random_state)
        for gap, networks in cells.items()
    }
    for name in ("corrected", "low", "high", "noise_floor", "parity_high"):
        differences[name] = [getattr(found, name) for found in estimates.values()]

    overall = overall_table(totals, labels)
    by_group = by_group_table(frames, labels, grouping, strata)
    reduction, size = pd.Series(dtype=float), pd.Series(dtype=float)
    if shipped == "pruned":
        overall["change"] = overall["pruned"] - overall["dense"]
        lost = differences.loc[gap_name(DegradationParity()), "pruned"]
        reduction = reduction_series(totals, frames, lost, by_group.index)
    if is_pruner(model):
        size = network_size(model)

    names = None if strata is None else row_names(strata.values)
    # Once: the whole table is encoded for it.
    seen = model.was_fitted_on(X) if hasattr(model, "was_fitted_on") else None
    answer, certificate, estimate, dense_gap = [], None, None, np.nan
    if requirement is not None:
        own = {name: notion_cells(requirement.constraint, t) for name, t in tallies.items()}
        estimate = estimate_of(own[shipped], confidence_level, requirement.gap_method, random_state)
        if "dense" in own:
            dense_gap = float(largest_gap(gaps_by_class(own["dense"], requirement.gap_method)))
    if requirement is not None and estimate is not None and requirement.tolerance is not None:
        if not (seen or weight is not None or requirement.constraint.relative_to_dense):
            sample = Sample(
                compared, y_pred[shipped][grouped], labels, row_names(grouping.values), names
            )
            certificate = certificate_of(sample, requirement, 1 - confidence_level)
        answer = answer_lines(requirement, estimate, certificate, confidence_level, bool(seen))
    alarms = alarms_of(rows, y_pred, totals, labels)
    notes = [
        *alarms,
        *fit_notes(bool(seen)),
        *tolerance_notes(requirement, tallies[shipped], strata is not None, bool(alarms)),
        *left_out_notes(model, requirement),
        *row_notes(by_group, shipped, n_rows, grouped),
        *gap_notes(differences[shipped], frames[shipped], labels, names),
        *noise_notes(estimates, confidence_level),
        LIMITS,
    ]
    return FairnessReport(
        overall=overall,
        by_group=by_group,
        differences=differences,
        by_class=by_class_table(
            {gap: gaps[gap] for gap, notion in notions.items() if notion.one_vs_rest},
            totals,
            labels,
        ),
        performance_reduction=reduction,
        size=size,
        answer=tuple(answer),
        certificate=certificate,
        alarms=tuple(alarms),
        notes=tuple(notes),
        intervals=interval_table(
            frames, tallies[shipped], labels, grouping, strata, confidence_level
        ),
        requirement=requirement,
        estimate=estimate,
        dense_gap=dense_gap,
        provenance=provenance_of(
            estimator,
            model,
            given_X,
            given_y,
            labels,
            seen=seen,
            weighted=weight is not None,
            n_without_group=n_rows - int(grouped.sum()),
            checksum=checksum(rows.y_true, rows.group, rows.stratum, *y_pred.values()),
        ),
        pos_label=labels[1] if len(labels) == 2 else None,
        confidence_level=confidence_level,
        n_rows=n_rows,
    )


# --- what is passed ---


def _n_rows(X: Any) -> int:
    """Count the rows of a table, or of the first of several."""
    if isinstance(X, Mapping):
        if not X:
            raise ValueError("Got X as an empty dict, but expected at least one array in it.")
        X = next(iter(X.values()))
    return _num_samples(X)


def _label_codes(column: Any, labels: list[Any]) -> np.ndarray:
    """Position of each row's label; -1 for a prediction that is no class."""
    column = np.asarray(column)
    codes = np.full(len(column), -1)
    for code, label in enumerate(labels):
        codes[column == label] = code
    return codes


def _notions(shipped: str, requirement: Requirement | None) -> dict[str, Constraint]:
    """Notions to measure, by the names of their gaps: every report's, and that of the fit."""
    notions = {gap_name(notion): notion for notion in NOTIONS}
    if shipped != "pruned":  # no dense network to compare with
        return {gap: notion for gap, notion in notions.items() if not notion.relative_to_dense}
    if requirement is not None and type(requirement.constraint) not in map(type, NOTIONS):
        own = replace(requirement.constraint, comparison="difference")
        name = gap_name(own)
        notions[f"own_{name}" if name in notions else name] = own
    return notions
