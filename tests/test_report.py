"""Tests of the report; the oracles are fairlearn's and scikit-learn's own functions."""

import dataclasses
import html
import re
import warnings

import fairlearn.metrics as flm
import fairlearn.reductions as reductions
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.metrics as skm
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from fairprune_sk.assessment import (
    FairnessReport,
    certify,
    fairness_report,
    gap_estimate,
    noise_floor,
)
from fairprune_sk.benchmarks.competitors import Reduction
from fairprune_sk.fairness.constraints import (
    OUTSIDE,
    Constraint,
    DegradationParity,
    DemographicParity,
    EqualOpportunity,
)

GAP_FUNCTIONS = {
    "demographic_parity_difference": flm.demographic_parity_difference,
    "equalized_odds_difference": flm.equalized_odds_difference,
    "equal_opportunity_difference": flm.equal_opportunity_difference,
    "false_positive_rate_difference": flm.false_positive_rate_difference,
    "accuracy_difference": flm.make_derived_metric(
        metric=skm.accuracy_score, transform="difference", sample_param_names=["sample_weight"]
    ),
}
RATES = {
    "demographic_parity_difference": ["selection_rate"],
    "equalized_odds_difference": ["true_positive_rate", "false_positive_rate"],
    "equal_opportunity_difference": ["true_positive_rate"],
    "false_positive_rate_difference": ["false_positive_rate"],
    "accuracy_difference": ["accuracy"],
}
DEGRADATION = "accuracy_lost_difference"
RATE_FUNCTIONS = {
    "accuracy": skm.accuracy_score,
    "balanced_accuracy": skm.balanced_accuracy_score,
    "selection_rate": flm.selection_rate,
    "true_positive_rate": flm.true_positive_rate,
    "false_positive_rate": flm.false_positive_rate,
}

COLUMNS = ["value", "corrected", "low", "high", "noise_floor", "parity_high"]


class StubPruner(ClassifierMixin, BaseEstimator):
    """FairPruner's interface with fixed rules in place of networks."""

    def __init__(
        self,
        tolerance=0.05,
        constraint="equalized_odds",
        threshold=0.0,
        gap_method="between_groups",
        fairness_weight=1.0,
    ):
        self.tolerance = tolerance
        self.constraint = constraint
        self.threshold = threshold
        self.gap_method = gap_method
        self.fairness_weight = fairness_weight

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.fitted_on_ = np.asarray(X)
        self.masks_ = {"0.weight": torch.arange(40).reshape(10, 4) < 4}
        self.network_ = nn.Sequential(nn.Linear(4, 10), nn.BatchNorm1d(10))
        with torch.no_grad():
            self.network_[0].weight.fill_(1.0).mul_(self.masks_["0.weight"])
        self.sparsity_ = 0.9
        return self

    def predict(self, X):
        X = np.asarray(X)
        return self.classes_[(X[:, 0] + 0.1 * X[:, 1] > self.threshold).astype(int)]

    def predict_dense(self, X):
        X = np.asarray(X)
        return self.classes_[(X[:, 0] + 0.6 * X[:, 1] > 0).astype(int)]

    def was_fitted_on(self, X):
        return np.array_equal(np.asarray(X), self.fitted_on_)


@pytest.fixture(scope="module")
def data():
    """900 rows, four groups of unequal size, string labels."""
    rng = np.random.RandomState(0)
    X = rng.normal(size=(900, 4))
    race = rng.choice(["White", "Black", "Asian", "Other"], 900, p=[0.5, 0.25, 0.15, 0.1])
    y = np.where(X[:, 0] + 0.4 * (race == "White") + rng.normal(size=900) > 0.3, "yes", "no")
    X[:, 1] += race == "White"
    return X, y, race


@pytest.fixture(scope="module")
def report(data):
    """Report of a pruner on the rows that it was fitted on."""
    X, y, race = data
    return fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=race)


def binary(labels):
    return (np.asarray(labels) == "yes").astype(int)


# --- every number against someone else's function ---


@pytest.mark.parametrize("weighted", [False, True])
def test_every_number_equals_fairlearns(data, weighted):
    X, y, race = data
    weight = np.random.RandomState(1).uniform(0.1, 3, len(y)) if weighted else None
    model = StubPruner().fit(X[:10], y[:10])
    report = fairness_report(model, X, y, sensitive_features=race, sample_weight=weight)
    labels = {"dense": model.predict_dense(X), "pruned": model.predict(X)}
    for network, pred in labels.items():
        for metric, function in RATE_FUNCTIONS.items():
            frame = flm.MetricFrame(
                metrics=function,
                y_true=binary(y),
                y_pred=binary(pred),
                sensitive_features=race,
                sample_params={"sample_weight": weight},
            )
            assert report.overall.loc[metric, network] == pytest.approx(frame.overall, abs=1e-12)
            pd.testing.assert_series_equal(
                report.by_group[metric, network],
                frame.by_group,
                check_names=False,
                check_index_type=False,
            )
        for gap, function in GAP_FUNCTIONS.items():
            expected = function(
                binary(y), binary(pred), sensitive_features=race, sample_weight=weight
            )
            assert report.differences.loc[gap, network] == pytest.approx(expected, abs=1e-12)
    assert list(report.differences.columns) == [
        "dense",
        "pruned",
        "corrected",
        "low",
        "high",
        "noise_floor",
        "parity_high",
    ]
    assert set(report.differences.index) == {*GAP_FUNCTIONS, DEGRADATION}
    np.testing.assert_allclose(
        report.overall["change"], report.overall["pruned"] - report.overall["dense"]
    )
    counts = pd.Series(race).value_counts()
    assert report.by_group["count"].to_dict() == counts.to_dict()
    assert (
        report.by_group["positives"].to_dict()
        == pd.Series(race)[y == "yes"].value_counts().to_dict()
    )


def test_performance_reduction_is_definitions_2_and_3(data):
    X, y, race = data
    model = StubPruner().fit(X[:10], y[:10])
    report = fairness_report(model, X, y, sensitive_features=race)
    dense, pruned = model.predict_dense(X) == y, model.predict(X) == y
    expected = {g: dense[race == g].mean() - pruned[race == g].mean() for g in np.unique(race)}
    reduction = report.performance_reduction
    assert reduction["overall"] == pytest.approx(dense.mean() - pruned.mean())
    assert reduction[list(expected)].to_dict() == pytest.approx(expected)
    assert reduction["gap"] == pytest.approx(max(expected.values()) - min(expected.values()))


def test_size_counts_what_the_network_holds(report):
    assert report.size.to_dict() == {"n_weights": 40, "n_nonzero": 4, "sparsity": 0.9}


def test_numeric_and_boolean_labels(data, report):
    X, y, race = data
    for labels in (binary(y), binary(y) * 2 - 1, binary(y) == 1, pd.Series(binary(y))):
        other = fairness_report(StubPruner().fit(X, labels), X, labels, sensitive_features=race)
        pd.testing.assert_frame_equal(other.differences, report.differences)
        pd.testing.assert_frame_equal(other.by_group, report.by_group)


def test_several_columns_are_intersections(data):
    X, y, race = data
    sex = np.where(X[:, 2] > 0, "Female", "Male")
    frame = pd.DataFrame({"sex": sex, "race": race}, index=np.arange(len(y)) + 7)
    model = StubPruner().fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=frame)
    pair = np.char.add(np.char.add(sex, ", "), race)
    expected = fairness_report(model, X, y, sensitive_features=pair)
    pd.testing.assert_frame_equal(report.by_group, expected.by_group, check_names=False)
    pd.testing.assert_frame_equal(report.differences, expected.differences)
    assert report.by_group.index.name == "sex × race"
    fairlearns = flm.equalized_odds_difference(
        binary(y), binary(model.predict(X)), sensitive_features=pair
    )
    assert report.differences.loc["equalized_odds_difference", "pruned"] == pytest.approx(
        fairlearns
    )


def test_performance_degradation_is_the_gap_of_the_accuracy_lost(data, report):
    X, y, race = data
    row = report.differences.loc[DEGRADATION]
    assert row["pruned"] == pytest.approx(report.performance_reduction["gap"])
    assert row["dense"] == 0.0
    alone = fairness_report(LogisticRegression().fit(X, y), X, y, sensitive_features=race)
    assert DEGRADATION not in alone.differences.index


# --- strata ---


@pytest.fixture(scope="module")
def region(data):
    """Three regions; only one of them has the race "Other"."""
    _, _, race = data
    drawn = np.random.RandomState(3).choice(["North", "South", "East"], len(race))
    return np.where(race == "Other", "North", drawn)


@pytest.mark.parametrize("weighted", [False, True])
def test_strata_equal_fairlearns_control_features(data, region, weighted):
    X, y, race = data
    weight = np.random.RandomState(1).uniform(0.1, 3, len(y)) if weighted else None
    model = StubPruner().fit(X[:10], y[:10])
    arguments = {"sensitive_features": {"race": race}, "sample_weight": weight}
    report = fairness_report(model, X, y, control_features={"region": region}, **arguments)
    plain = fairness_report(model, X, y, **arguments)
    pd.testing.assert_frame_equal(report.overall, plain.overall)
    assert report.by_group.index.names == ["region", "race"]
    rows = pd.Series(race).groupby(region).value_counts()
    assert report.by_group["count"].to_dict() == rows.to_dict()
    for network, pred in {"dense": model.predict_dense(X), "pruned": model.predict(X)}.items():
        frame = flm.MetricFrame(
            metrics=RATE_FUNCTIONS,
            y_true=binary(y),
            y_pred=binary(pred),
            sensitive_features=pd.Series(race, name="race"),
            control_features=pd.Series(region, name="region"),
            sample_params={name: {"sample_weight": weight} for name in RATE_FUNCTIONS},
        )
        found = report.by_group.xs(network, axis=1, level=1)
        expected = frame.by_group.dropna().loc[list(found.index), list(found)]
        np.testing.assert_allclose(found, expected.astype(float), atol=1e-12)
        largest = frame.difference().max()
        for gap, rates in RATES.items():
            value = report.differences.loc[gap, network]
            assert value == pytest.approx(largest[list(rates)].max(), abs=1e-12)
    lost = frame.by_group["accuracy"].dropna() - report.by_group["accuracy", "dense"]
    reduction = report.performance_reduction
    assert reduction["overall", ""] == pytest.approx(plain.performance_reduction["overall"])
    np.testing.assert_allclose(reduction[list(lost.index)], -lost, atol=1e-12)
    expected = (lost.groupby("region").max() - lost.groupby("region").min()).max()
    assert reduction["gap", ""] == pytest.approx(expected)
    assert report.differences.loc[DEGRADATION, "pruned"] == pytest.approx(expected)


def test_one_stratum_changes_no_number(data, report):
    X, y, race = data
    other = fairness_report(
        StubPruner().fit(X, y), X, y, sensitive_features=race, control_features=["all"] * 900
    )
    pd.testing.assert_frame_equal(other.differences, report.differences)
    pd.testing.assert_frame_equal(other.by_group.loc["all"], report.by_group)


def test_several_control_features_are_intersections(data, region):
    X, y, race = data
    age = np.where(X[:, 2] > 0, 40, 20)
    model = StubPruner().fit(X, y)
    report = fairness_report(
        model, X, y, sensitive_features=race, control_features={"region": region, "age": age}
    )
    pair = [f"{r}, {a}" for r, a in zip(region, age, strict=True)]
    other = fairness_report(model, X, y, sensitive_features=race, control_features=pair)
    pd.testing.assert_frame_equal(report.differences, other.differences)
    assert "within strata of region × age, positive" in str(report)
    assert report.by_group.loc[("North, 20", "Other"), "count"].item() > 0


def test_a_stratum_with_one_group_is_left_out_and_named(data):
    X, y, race = data
    model = StubPruner().fit(X, y)
    only = np.where(race == "White", "West", "East")
    report = fairness_report(model, X, y, sensitive_features=race, control_features=only)
    east = only == "East"
    without = fairness_report(model, X[east], y[east], sensitive_features=race[east])
    pd.testing.assert_series_equal(report.differences["pruned"], without.differences["pruned"])
    pd.testing.assert_series_equal(
        report.differences["noise_floor"], without.differences["noise_floor"], rtol=0.1
    )
    note = "Left out of the gaps, where fewer than two groups have the rate: West (every rate)."
    assert note in report.notes
    # No stratum has two groups:
    report = fairness_report(model, X, y, sensitive_features=race, control_features=race)
    assert report.differences.isna().all(axis=None)
    assert any(note.startswith("No gap in demographic parity") for note in report.notes)


# --- more than two classes ---


class ThreeClasses(StubPruner):
    """Rules for three classes."""

    def predict(self, X):
        X = np.asarray(X)
        return self.classes_[np.digitize(X[:, 0] + 0.1 * X[:, 1], [-0.5, 0.8])]

    def predict_dense(self, X):
        X = np.asarray(X)
        return self.classes_[np.digitize(X[:, 0] + 0.6 * X[:, 1], [-0.5, 0.8])]


@pytest.fixture(scope="module")
def grades(data):
    """Labels of three classes."""
    X, _, _ = data
    noise = np.random.RandomState(4).normal(size=len(X))
    return np.array(["bad", "fair", "good"])[np.digitize(X[:, 0] + 0.7 * noise, [-0.5, 0.8])]


@pytest.fixture(scope="module")
def three(data, grades):
    """Report on three classes."""
    X, _, race = data
    return fairness_report(ThreeClasses().fit(X, grades), X, grades, sensitive_features=race)


@pytest.mark.parametrize("strata", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_each_class_equals_fairlearns_against_the_rest(data, grades, region, weighted, strata):
    X, _, race = data
    weight = np.random.RandomState(1).uniform(0.1, 3, len(X)) if weighted else None
    model = ThreeClasses().fit(X, grades)
    report = fairness_report(
        model,
        X,
        grades,
        sensitive_features=race,
        control_features=region if strata else None,
        sample_weight=weight,
    )
    for network, pred in {"dense": model.predict_dense(X), "pruned": model.predict(X)}.items():
        for metric in ("accuracy", "balanced_accuracy"):
            expected = RATE_FUNCTIONS[metric](grades, pred, sample_weight=weight)
            assert report.overall.loc[(metric, ""), network] == pytest.approx(expected)
        gaps = []
        for label in ("bad", "fair", "good"):
            rates = {name: RATE_FUNCTIONS[name] for name in list(RATE_FUNCTIONS)[2:]}
            frame = flm.MetricFrame(
                metrics=rates,
                y_true=(grades == label).astype(int),
                y_pred=(pred == label).astype(int),
                sensitive_features=pd.Series(race, name="race"),
                control_features=pd.Series(region, name="region") if strata else None,
                sample_params={name: {"sample_weight": weight} for name in rates},
            )
            found = report.by_group.xs((label, network), axis=1, level=(1, 2))
            expected = frame.by_group.dropna().loc[list(found.index), list(found)]
            np.testing.assert_allclose(found, expected.astype(float), atol=1e-12)
            positives = report.by_group["positives", label, ""]
            assert positives.sum() == (grades == label).sum()
            assert report.by_class.loc[label, ("positives", "")] == (grades == label).sum()
            largest = frame.difference().max() if strata else frame.difference()
            gaps.append({gap: largest[list(r)].max() for gap, r in list(RATES.items())[:4]})
            for gap, value in gaps[-1].items():
                assert report.by_class.loc[label, (gap, network)] == pytest.approx(value)
            for name, function in rates.items():
                value = function(grades == label, pred == label, sample_weight=weight, **POSITIVE)
                assert report.overall.loc[(name, label), network] == pytest.approx(value)
        for gap, value in pd.DataFrame(gaps).max().items():
            assert report.differences.loc[gap, network] == pytest.approx(value)
        accuracy = flm.MetricFrame(
            metrics=skm.accuracy_score,
            y_true=grades,
            y_pred=pred,
            sensitive_features=race,
            control_features=region if strata else None,
            sample_params={"sample_weight": weight},
        )
        value = np.max(accuracy.difference())
        assert report.differences.loc["accuracy_difference", network] == pytest.approx(value)


POSITIVE = {"pos_label": True}


def test_two_classes_have_no_table_by_class(report):
    assert report.by_class.empty
    assert report.pos_label == "yes"


def test_three_classes_of_numbers_in_any_order(data, grades, three):
    X, _, race = data
    numbers = pd.Series(grades).map({"bad": 1, "fair": 2, "good": 3})
    report = fairness_report(ThreeClasses().fit(X, numbers), X, numbers, sensitive_features=race)
    assert report.pos_label is None
    assert list(report.by_class.index) == [1, 2, 3]
    pd.testing.assert_frame_equal(report.differences, three.differences)
    assert report.overall.loc[("true_positive_rate", 2), "pruned"] == pytest.approx(
        three.overall.loc[("true_positive_rate", "fair"), "pruned"]
    )
    assert "Class 2 against the rest" in str(report)


def test_a_plain_classifier_of_three_classes(data, grades):
    X, _, race = data
    model = LogisticRegression().fit(X, grades)
    report = fairness_report(model, X, grades, sensitive_features=race)
    assert report.overall.loc[("accuracy", ""), "value"] == pytest.approx(model.score(X, grades))
    assert list(report.by_class["equalized_odds_difference"]) == ["value"]
    assert "→" not in str(report)


def test_a_class_that_one_group_alone_has_is_left_out_and_named(data, grades):
    X, _, race = data
    y = np.where((grades == "good") & (race != "White"), "fair", grades)
    model = ThreeClasses().fit(X, grades)
    report = fairness_report(model, X, y, sensitive_features=race)
    row = report.by_class.loc["good"]
    assert np.isnan(row["equal_opportunity_difference", "pruned"])
    assert row["false_positive_rate_difference", "pruned"] >= 0
    others = report.by_class.loc[["bad", "fair"], ("equal_opportunity_difference", "pruned")]
    gap = report.differences.loc["equal_opportunity_difference"]
    assert gap["pruned"] == others.max()
    assert gap.notna().all()
    assert (
        "Left out of the gaps, where fewer than two groups have the rate: TPR of 'good'."
        in report.notes
    )
    assert any("Asian (balanced, TPR of 'good')" in note for note in report.notes)
    assert "–→–" in str(report)


def test_classes_that_are_never_predicted_are_announced(data, grades):
    X, _, race = data

    class NeverGood(ThreeClasses):
        def predict(self, X):
            return np.where(super().predict(X) == "good", "fair", super().predict(X))

    class AlwaysFair(ThreeClasses):
        def predict(self, X):
            return np.full(len(X), "fair")

    report = fairness_report(NeverGood().fit(X, grades), X, grades, sensitive_features=race)
    assert report.notes[0].startswith("COLLAPSED: the pruned network predicts 'good' for 0.00% of")
    report = fairness_report(AlwaysFair().fit(X, grades), X, grades, sensitive_features=race)
    assert "'bad' for 0.00% of the rows" in report.notes[0]
    assert "'good' for 0.00% of the rows" in report.notes[0]


# --- missing sensitive features ---


@pytest.fixture(scope="module")
def incomplete(data):
    """Races, some of them missing."""
    _, _, race = data
    return np.where(np.random.RandomState(5).uniform(size=len(race)) < 0.1, None, race)


def test_rows_without_a_sensitive_feature_ignored(data, incomplete):
    X, y, _ = data
    model = StubPruner().fit(X[:10], y[:10])
    report = fairness_report(model, X, y, sensitive_features=incomplete, missing_sensitive="ignore")
    known = incomplete != None  # noqa: E711
    without = fairness_report(
        model, X[known], y[known], sensitive_features=incomplete[known].astype(str)
    )
    pd.testing.assert_frame_equal(report.differences, without.differences)
    pd.testing.assert_frame_equal(report.by_group, without.by_group)
    assert report.overall.loc["accuracy", "pruned"] == pytest.approx(np.mean(model.predict(X) == y))
    reduction = report.performance_reduction
    assert reduction["overall"] == pytest.approx(-report.overall.loc["accuracy", "change"])
    pd.testing.assert_series_equal(reduction[1:], without.performance_reduction[1:])
    assert report.n_rows == 900
    n = int((~known).sum())
    assert any(f"Without a sensitive feature: {n} rows" in note for note in report.notes)
    assert "\nFairness report: 900 rows, 4 groups" in str(report)


def test_rows_without_a_sensitive_feature_as_a_group(data, incomplete):
    X, y, _ = data
    model = StubPruner().fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=incomplete, missing_sensitive="group")
    named = np.where(incomplete == None, "missing", incomplete)  # noqa: E711
    expected = fairness_report(model, X, y, sensitive_features=named)
    assert str(report) == str(expected)
    assert "missing" in report.by_group.index


# --- noise floor and interval ---


def brute_force_gaps(y_true, y_pred, group, metric, at_parity, seed, n_draws=400):
    """Redraw row by row, in plain loops."""
    rng = np.random.RandomState(seed)
    if metric == "accuracy_difference":
        event, outcome = np.zeros_like(y_true), y_pred == y_true
    elif metric == "demographic_parity_difference":
        event, outcome = np.zeros_like(y_true), y_pred
    else:
        event, outcome = y_true, y_pred
    rate = np.empty(len(y_true))
    for e in np.unique(event):
        for g in np.unique(group):
            cell = (event == e) & (group == g)
            rate[cell] = outcome[event == e if at_parity else cell].mean()
    gaps = []
    for _ in range(n_draws):
        drawn = rng.uniform(size=len(y_true)) < rate
        by_event = [
            [drawn[(event == e) & (group == g)].mean() for g in np.unique(group)]
            for e in np.unique(event)
        ]
        gaps.append(max(np.ptp(rates) for rates in by_event))
    return np.array(gaps)


@pytest.mark.parametrize(
    ("metric", "constraint"),
    [("equalized_odds_difference", "equalized_odds"), ("accuracy_difference", "accuracy_parity")],
)
def test_noise_floor_equals_a_row_by_row_simulation(data, metric, constraint):
    X, y, race = data
    model = StubPruner().fit(X, y)
    y_true, y_pred = binary(y), binary(model.predict(X))
    at_parity = brute_force_gaps(y_true, y_pred, race, metric, True, seed=5)
    floor = noise_floor(y_true, y_pred, sensitive_features=race, constraint=constraint)
    error = at_parity.std() / np.sqrt(400)
    assert floor == pytest.approx(at_parity.mean(), abs=4 * error)

    report = fairness_report(model, X, y, sensitive_features=race)
    row = report.differences.loc[metric]
    assert row["noise_floor"] == floor
    found = gap_estimate(y_true, y_pred, sensitive_features=race, constraint=constraint)
    for name in ("corrected", "low", "high", "noise_floor"):
        assert row[name] == getattr(found, name)


def test_noise_of_the_degradation_equals_a_row_by_row_simulation(data):
    X, y, race = data
    model = StubPruner().fit(X, y)
    right = [(pred == y).astype(int) for pred in (model.predict_dense(X), model.predict(X))]
    lost = right[0] - right[1]  # 1, 0 or -1
    row = fairness_report(model, X, y, sensitive_features=race).differences.loc[DEGRADATION]
    rng = np.random.RandomState(5)

    sizes = [np.sum(race == g) for g in np.unique(race)]
    at_parity = np.array(
        [np.ptp([rng.choice(lost, size).mean() for size in sizes]) for _ in range(400)]
    )
    assert row["noise_floor"] == pytest.approx(at_parity.mean(), abs=4 * at_parity.std() / 20)


def test_noise_floor_of_two_equal_groups_is_the_mean_absolute_difference():
    # Two groups of n rows at rate p: the gap is |N(0, 2 p (1 - p) / n)| for large n, whose mean
    # is sqrt(2 / pi) times the standard deviation.
    n = 2000
    y_pred = np.tile([0, 1], n)
    group = np.repeat(["a", "b"], n)
    floor = noise_floor(
        y_pred,
        y_pred,
        sensitive_features=group,
        constraint="demographic_parity",
        n_draws=20_000,
    )
    assert floor == pytest.approx(np.sqrt(2 / np.pi) * np.sqrt(2 * 0.25 / n), rel=0.03)


def test_noise_floor_reaches_the_known_value_for_many_groups():
    # The design's measurement: 2,048 rows at true parity show about 0.10 with 5 groups.
    rng = np.random.RandomState(0)
    y_true, y_pred = rng.randint(2, size=(2, 2048))
    five, twenty = (
        noise_floor(y_true, y_pred, sensitive_features=np.arange(2048) % k) for k in (5, 20)
    )
    assert 0.07 < five < 0.13
    assert twenty > 2 * five


def test_equal_weights_change_nothing_and_uneven_weights_raise_the_floor(data):
    X, y, race = data
    y_true, y_pred = binary(y), binary(StubPruner().fit(X, y).predict(X))
    floor = noise_floor(y_true, y_pred, sensitive_features=race)
    same = noise_floor(y_true, y_pred, sensitive_features=race, sample_weight=np.full(900, 2.5))
    # Weights of 1 and 9 leave Kish's (10 / 2)² / (82 / 2) = 61% of the rows.
    uneven = np.random.RandomState(0).permutation(np.tile([1, 9], 450))
    raised = noise_floor(y_true, y_pred, sensitive_features=race, sample_weight=uneven)
    assert same == floor
    assert raised == pytest.approx(floor / np.sqrt(25 / 41), rel=0.12)


def test_noise_floor_takes_signed_labels_and_is_reproducible(data):
    X, y, race = data
    y_true, y_pred = binary(y), binary(StubPruner().fit(X, y).predict(X))
    floor = noise_floor(y_true, y_pred, sensitive_features=race)
    assert floor == noise_floor(2 * y_true - 1, 2 * y_pred - 1, sensitive_features=race)
    assert floor != noise_floor(y_true, y_pred, sensitive_features=race, random_state=1)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "keywords", "message"),
    [
        ([0, 1], [0, 1], {"constraint": "gini"}, "Got constraint='gini', but expected one of"),
        ([0, 1], [0, 1, 1], {}, "Got y_pred with 3 rows, but y_true has 2 rows"),
        ([0, 2], [0, 2], {}, "but expected 0 and 1, or -1 and 1"),
        ([0, 1], [0, 1], {"pos_label": 2}, "Got pos_label=2, but expected one of"),
        (["a", "b"], ["a", "b"], {}, "but expected 0 and 1, or -1 and 1"),
    ],
)
def test_noise_floor_errors(y_true, y_pred, keywords, message):
    with pytest.raises(ValueError, match=message):
        noise_floor(y_true, y_pred, sensitive_features=["f", "m"], **keywords)


# --- groups without positives, small groups, notes ---


def test_a_group_without_positives_is_nan_and_left_out(data):
    X, y, race = data
    y = np.where(race == "Other", "no", y)
    model = StubPruner().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = fairness_report(model, X, y, sensitive_features=race)
    for metric in ("true_positive_rate", "balanced_accuracy"):
        assert np.isnan(report.by_group.loc["Other", (metric, "pruned")])
    assert report.by_group.loc["Other", ("false_positive_rate", "pruned")] > 0
    keep = race != "Other"
    expected = flm.equal_opportunity_difference(
        binary(y[keep]), binary(model.predict(X[keep])), sensitive_features=race[keep]
    )
    row = report.differences.loc["equal_opportunity_difference"]
    assert row["pruned"] == pytest.approx(expected)
    assert row.notna().all()
    assert any("left out of the gaps: Other (balanced, TPR)" in note for note in report.notes)
    assert any("Other (0 positive)" in note for note in report.notes)
    assert "–→–" in str(report)


def test_a_gap_with_one_group_left_is_nan_not_zero(data):
    X, y, race = data
    y = np.where(race == "White", y, "no")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=race)
    undefined = ["equalized_odds_difference", "equal_opportunity_difference"]
    assert report.differences.loc[undefined].isna().all(axis=None)
    assert report.differences.drop(undefined).notna().all(axis=None)
    assert any("No gap in equalized odds, equal opportunity" in note for note in report.notes)


def test_a_group_of_weight_zero_is_nan(data):
    X, y, race = data
    model = StubPruner().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = fairness_report(
            model, X, y, sensitive_features=race, sample_weight=(race != "Other") * 1.0
        )
    assert report.by_group.loc["Other"].drop(["count", "positives"], level=0).isna().all()
    keep = race != "Other"
    without = fairness_report(model, X[keep], y[keep], sensitive_features=race[keep])
    pd.testing.assert_frame_equal(
        report.differences[["dense", "pruned"]], without.differences[["dense", "pruned"]]
    )


def test_small_groups_are_named_with_their_counts(data):
    X, y, _ = data
    group = np.where(np.arange(len(y)) < 40, "few", "many")
    report = fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=group)
    n_positive = int((y[:40] == "yes").sum())
    [note] = [note for note in report.notes if "Too small" in note]
    assert f"{n_positive} positive" in note
    assert "few (" in note
    assert "many (" not in note


def test_noise_note_names_only_gaps_that_equal_groups_would_show():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(4000, 4))
    group = np.repeat(["a", "b"], 2000)
    X[:, 0] += group == "a"
    # Labels by coin toss: half of the predictions are right, in both groups.
    y = np.where(rng.uniform(size=4000) > 0.5, "yes", "no")
    report = fairness_report(StubPruner().fit(X[:9], y[:9]), X, y, sensitive_features=group)
    [note] = [note for note in report.notes if "Cannot be told from parity" in note]
    row = report.differences.loc["demographic_parity_difference"]
    assert row["pruned"] > 10 * row["noise_floor"]
    assert "demographic parity" not in note
    rows = report.differences
    within = rows.index[rows["pruned"] <= rows["noise_floor"]]
    assert len(within) > 0
    assert all(gap.removesuffix("_difference").replace("_", " ") in note for gap in within)


def test_training_rows_are_announced_first(data):
    X, y, race = data
    model = StubPruner().fit(X, y)
    assert "TRAINING DATA" in fairness_report(model, X, y, sensitive_features=race).notes[0]
    other = fairness_report(model, X[1:], y[1:], sensitive_features=race[1:])
    assert not any("TRAINING DATA" in note for note in other.notes)


def test_tolerance_note_compares_the_constrained_gap(data):
    X, y, race = data

    def note(**parameters):
        report = fairness_report(StubPruner(**parameters).fit(X, y), X, y, sensitive_features=race)
        gap = report.differences.loc["equal_opportunity_difference", "pruned"]
        return gap, "\n".join(n for n in report.notes if n.startswith("Trained for"))

    gap, text = note(constraint=EqualOpportunity(), tolerance=0.9)
    assert (
        f"equal opportunity of at most 0.9; on these rows and groups it is {gap:.3f}, within"
        in text
    )
    assert "above that" in note(constraint="equal_opportunity", tolerance=0.0)[1]
    assert note(constraint=None)[1] == ""
    assert note(tolerance=None)[1] == ""


def noted_gap(model, data, **keywords):
    """Read the gap off the note on the tolerance; also return the note."""
    X, y, race = data
    report = fairness_report(model.fit(X, y), X, y, sensitive_features=race, **keywords)
    [note] = [note for note in report.notes if note.startswith("Trained for")]
    return float(note.split(" it is ")[1].split(",")[0]), note


@pytest.mark.parametrize("comparison", ["difference", "ratio"])
@pytest.mark.parametrize("method", ["between_groups", "to_overall"])
def test_tolerance_note_measures_the_gap_that_was_trained_for(data, method, comparison):
    X, y, race = data
    model = StubPruner(constraint=DemographicParity(comparison), tolerance=0.2, gap_method=method)
    gap, note = noted_gap(model, data)
    arguments = {"y_true": binary(y), "y_pred": binary(model.predict(X)), "method": method}
    if comparison == "difference":
        expected = flm.demographic_parity_difference(**arguments, sensitive_features=race)
    else:
        expected = 1 - flm.demographic_parity_ratio(**arguments, sensitive_features=race)
    assert gap == pytest.approx(expected, abs=0.0005)
    assert ("all together" in note) == (method == "to_overall")
    assert ("(1 − " in note) == (comparison == "ratio")
    assert "of at most 0.2; on these rows and groups" in note


def test_tolerance_note_within_strata(data):
    X, y, race = data
    region = np.where(X[:, 3] > 0, "North", "South")
    gap, note = noted_gap(
        StubPruner(constraint=EqualOpportunity(), gap_method="to_overall"),
        data,
        control_features=region,
    )
    model = StubPruner().fit(X, y)
    expected = flm.MetricFrame(
        metrics=flm.true_positive_rate,
        y_true=binary(y),
        y_pred=binary(model.predict(X)),
        sensitive_features=race,
        control_features=region,
    ).difference(method="to_overall")
    assert gap == pytest.approx(expected.max(), abs=0.0005)
    assert "on these rows, groups and strata" in note


def test_tolerance_note_on_accuracy_error_rate_and_degradation(data):
    X, y, race = data
    model = StubPruner().fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=race)
    for constraint, gap_name in (
        ("accuracy_parity", "accuracy_difference"),
        ("error_rate_parity", "accuracy_difference"),
        (DegradationParity(), DEGRADATION),
    ):
        gap, _ = noted_gap(StubPruner(constraint=constraint), data)
        assert gap == pytest.approx(report.differences.loc[gap_name, "pruned"], abs=0.0005)
    moment = reductions.ErrorRateParity(ratio_bound=0.8)
    gap, note = noted_gap(StubPruner(constraint=moment), data)
    errors = flm.MetricFrame(
        metrics=skm.zero_one_loss,
        y_true=binary(y),
        y_pred=binary(model.predict(X)),
        sensitive_features=race,
    )
    assert gap == pytest.approx(1 - errors.ratio(method="to_overall"), abs=0.0005)
    assert "of at most 0.2" in note


def test_no_tolerance_note_where_nothing_was_asked_for(data):
    X, y, race = data
    for model in (LogisticRegression(), StubPruner(fairness_weight=0)):
        report = fairness_report(model.fit(X, y), X, y, sensitive_features=race)
        assert not any(note.startswith("Trained for") for note in report.notes)


# --- a notion of the user's own ---


class SelectedOfThePositive(Constraint):
    """``P[ŷ = 1 | y = 1, group]``, said once more in other words."""

    events = ("positive",)

    def event(self, is_class):
        return torch.where(is_class, 0, OUTSIDE)


class MissedOrLost(Constraint):
    """A notion that no table of this package names: errors on the positives alone."""

    events = ("positive",)
    one_vs_rest = False

    def event(self, is_class):
        return torch.where(is_class.any(-1, keepdim=True), 0, OUTSIDE)

    def outcome_logits(self, margins, is_class):
        return -(margins * is_class).sum(-1, keepdim=True)


def test_a_notion_of_ones_own_is_reported_beside_the_others(data):
    X, y, race = data
    model = StubPruner(constraint=SelectedOfThePositive(), tolerance=0.9).fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=race)
    rows = report.differences
    own, known = "selected_of_the_positive_difference", "equal_opportunity_difference"
    pd.testing.assert_series_equal(rows.loc[own], rows.loc[known], check_names=False)
    assert list(rows.index) == [*RATES, DEGRADATION, own]
    [note] = [note for note in report.notes if note.startswith("Trained for")]
    assert note == (
        "Trained for a gap in selected of the positive of at most 0.9; on these rows and groups "
        f"it is {rows.loc[own, 'pruned']:.3f}, within that tolerance."
    )
    [line] = [line for line in str(report).splitlines() if line.startswith("  selected of the")]
    assert f"{rows.loc[own, 'dense']:.3f}→{rows.loc[own, 'pruned']:.3f}" in line
    assert f"{rows.loc[own, 'noise_floor']:.3f}" in line
    assert "selected of the positive" in report._repr_html_()


def test_a_notion_of_ones_own_within_strata_and_relative_to_the_dense_network(data, region):
    class LostOnPositives(MissedOrLost):
        relative_to_dense = True

    X, y, race = data
    model = StubPruner(constraint=LostOnPositives(), tolerance=None).fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=race, control_features=region)
    lost = (model.predict(X) != y).astype(int) - (model.predict_dense(X) != y)
    positive = y == "yes"
    by_cell = pd.Series(lost[positive]).groupby([region[positive], race[positive]]).mean()
    expected = by_cell.groupby(level=0).agg(np.ptp).max()
    row = report.differences.loc["lost_on_positives_difference"]
    assert row["pruned"] == pytest.approx(expected)
    assert row["dense"] == 0.0
    assert 0 < row["noise_floor"] < row["high"]


def test_a_notion_of_ones_own_for_three_classes(data, grades):
    X, _, race = data
    model = ThreeClasses(constraint=SelectedOfThePositive()).fit(X, grades)
    report = fairness_report(model, X, grades, sensitive_features=race)
    own, known = "selected_of_the_positive_difference", "equal_opportunity_difference"
    pd.testing.assert_frame_equal(report.by_class[own], report.by_class[known])
    model = ThreeClasses(constraint=MissedOrLost()).fit(X, grades)
    report = fairness_report(model, X, grades, sensitive_features=race)
    row = report.differences.loc["missed_or_lost_difference"]
    accuracy = report.differences.loc["accuracy_difference"]
    assert row["pruned"] == pytest.approx(accuracy["pruned"])
    assert row["noise_floor"] == pytest.approx(accuracy["noise_floor"], rel=0.1)
    assert "missed_or_lost_difference" not in report.by_class


def test_a_notion_with_a_known_name_hides_no_other(data):
    class EqualizedOdds(SelectedOfThePositive):
        pass

    X, y, race = data
    model = StubPruner(constraint=EqualizedOdds("ratio"), tolerance=0.9).fit(X, y)
    rows = fairness_report(model, X, y, sensitive_features=race).differences
    assert rows.loc["own_equalized_odds_difference", "pruned"] == pytest.approx(
        rows.loc["equal_opportunity_difference", "pruned"]
    )
    assert len(rows) == len(RATES) + 2


def test_a_classifier_with_a_constraint_that_is_no_pruner_is_measured_alone(data):
    X, y, race = data
    X = pd.DataFrame(X)
    model = Reduction(max_iter=3, random_state=0).fit(X, y, sensitive_features=race)
    report = fairness_report(model, X, y, sensitive_features=race)
    assert list(report.differences.columns) == COLUMNS


# --- a collapse is said first ---


def said_first(report, start):
    """Whether text, HTML and notes begin with this."""
    text = str(report)
    page = report._repr_html_().partition("</style>")[2]
    shown = " ".join(html.unescape(re.sub("<[^>]+>", " ", page)).split())
    return (
        text.startswith(start)
        and text.index(start) < text.index("Fairness report:")
        and shown.startswith(f"! Warning {start}")
        and report.notes[0].startswith(start)
        and report.alarms[0] == report.notes[0]
    )


@pytest.mark.parametrize("threshold", [99, 2.8, -2.8, -99])
def test_a_collapse_in_either_direction_is_said_first_and_is_no_success(data, threshold):
    X, y, race = data
    model = StubPruner(threshold=threshold, tolerance=0.5).fit(X, y)
    share = np.mean(model.predict(X) == "yes")
    assert share < 0.01 or share > 0.99
    report = fairness_report(model, X, y, sensitive_features=race)
    label, own = ("'yes'", share) if threshold > 0 else ("'no'", 1 - share)
    assert said_first(report, f"COLLAPSED: the pruned network predicts {label} for {own:.2%}")
    [note] = [note for note in report.notes if note.startswith("Trained for")]
    assert note.endswith("which is no success: see the first note.")
    assert "within that tolerance" not in str(report)
    assert "TRAINING DATA" in next(note for note in report.notes if note not in report.alarms)
    assert max(map(len, str(report).splitlines())) <= 100


def test_few_where_the_dense_network_has_many_is_a_collapse(data):
    X, y, race = data
    model = StubPruner(threshold=1.6).fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=race)
    assert 0.1 < report.overall.loc["selection_rate", "pruned"] / np.mean(y == "yes") < 0.25
    assert said_first(report, "COLLAPSED: the pruned network predicts 'yes' for")

    class Rare(StubPruner):  # a class that is predicted as rarely before
        def predict_dense(self, X):
            return self.predict(X)

    report = fairness_report(Rare(threshold=1.6).fit(X, y), X, y, sensitive_features=race)
    assert report.alarms == ()
    rare = np.where(X[:, 0] > 2, "yes", "no")  # the dense network selects far too many
    model = StubPruner(threshold=2.2).fit(X, rare)
    assert 0 < np.mean(model.predict(X) == "yes") < np.mean(rare == "yes") < 0.02
    assert fairness_report(model, X, rare, sensitive_features=race).alarms == ()


def test_a_constant_dense_network_is_said_first(data):
    X, y, race = data

    class Constant(StubPruner):
        def predict_dense(self, X):
            return np.full(len(X), "no")

    report = fairness_report(Constant().fit(X[:9], y[:9]), X, y, sensitive_features=race)
    assert said_first(report, "COLLAPSED: the dense network predicts 'yes' for 0.00% of the rows")
    assert len(report.alarms) == 1


def test_a_collapsed_classifier_that_was_not_pruned_is_said_first(data):
    X, y, race = data
    model = DummyClassifier(strategy="constant", constant="no").fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=race)
    assert said_first(report, "COLLAPSED: the classifier predicts 'yes' for 0.00% of the rows")
    assert "dense" not in str(report)


def test_five_points_of_balanced_accuracy_are_said_first(data):
    X, y, race = data

    class Worse(StubPruner):
        def predict_dense(self, X):
            return np.where(np.arange(len(X)) < len(X) * self.right, y, super().predict(X))

    model = Worse(tolerance=0.9).fit(X, y)
    model.right = 0.5
    report = fairness_report(model, X, y, sensitive_features=race)
    lost = -report.overall.loc["balanced_accuracy", "change"]
    assert lost > 0.05
    assert said_first(report, f"BALANCED ACCURACY FELL by {100 * lost:.1f} points, from ")
    assert "which is no success: see the first note" in str(report).replace("\n  ", " ")
    model.right = 0.05
    report = fairness_report(model, X, y, sensitive_features=race)
    assert 0 < -report.overall.loc["balanced_accuracy", "change"] < 0.05
    assert report.alarms == ()
    assert str(report).startswith("Is the gap in ")


def test_alarms_are_escaped(data):
    X, y, race = data
    y = np.where(y == "yes", "yes<b>", "no")
    report = fairness_report(StubPruner(threshold=99).fit(X, y), X, y, sensitive_features=race)
    assert "yes<b>" in report.alarms[0]
    assert "<b>" not in report._repr_html_()


@pytest.mark.parametrize(("n", "words"), [(1, "left out 1 rate of"), (2, "left out 2 rates of")])
def test_one_thing_is_no_plural(data, n, words):
    X, y, race = data
    model = StubPruner().fit(X, y)
    model.n_unconstrained_, model.min_group_count = n, 20
    race = np.where(np.arange(900) < n, None, race)
    report = fairness_report(model, X, y, sensitive_features=race, missing_sensitive="ignore")
    assert any(f"The constraint {words} groups" in note for note in report.notes)
    rows = "1 row (" if n == 1 else "2 rows ("
    assert any(note.startswith(f"Without a sensitive feature: {rows}") for note in report.notes)


def test_limits_are_always_said(report):
    assert "calibrated" in report.notes[-1]


# --- what can be passed ---


def test_pipeline_search_and_plain_pruner_agree(data):
    X, y, race = data
    X = StandardScaler().fit_transform(X)
    pruner = StubPruner().fit(X, y)
    expected = fairness_report(pruner, X, y, sensitive_features=race)
    pipeline = make_pipeline(StandardScaler(), StubPruner())
    search = GridSearchCV(StubPruner(), {"tolerance": [0.05]}, cv=2)
    nested = GridSearchCV(
        make_pipeline(StandardScaler(), StubPruner()), {"stubpruner__tolerance": [0.05]}, cv=2
    )
    for estimator in (make_pipeline(StubPruner()), pipeline, search, nested):
        report = fairness_report(estimator.fit(X, y), X, y, sensitive_features=race)
        pd.testing.assert_frame_equal(report.differences, expected.differences)
        pd.testing.assert_frame_equal(report.by_group, expected.by_group)
        assert report.notes == expected.notes


def test_a_pipeline_transforms_before_predicting(data):
    X, y, race = data
    shifted = X * [5, 1, 1, 1] + 40
    pipeline = make_pipeline(StandardScaler(), StubPruner()).fit(shifted, y)
    report = fairness_report(pipeline, shifted, y, sensitive_features=race)
    assert report.overall.loc["accuracy", "pruned"] == pytest.approx(
        np.mean(pipeline.predict(shifted) == y)
    )
    assert 0.2 < report.overall.loc["selection_rate", "dense"] < 0.8


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: make_pipeline(StandardScaler(), m)])
def test_any_binary_classifier_is_measured_alone(data, wrap):
    X, y, race = data
    model = wrap(LogisticRegression()).fit(X, y)
    report = fairness_report(model, X, y, sensitive_features=race)
    assert list(report.overall.columns) == ["value"]
    assert list(report.differences.columns) == COLUMNS
    assert len(report.performance_reduction) == len(report.size) == 0
    assert report.overall.loc["accuracy", "value"] == pytest.approx(model.score(X, y))
    assert report.differences.loc["equalized_odds_difference", "value"] == pytest.approx(
        flm.equalized_odds_difference(binary(y), binary(model.predict(X)), sensitive_features=race)
    )
    assert "dense" not in str(report)
    assert "weights" not in str(report)


@pytest.mark.parametrize("kind", [list, np.asarray, pd.Series, lambda v: {"race": v}])
def test_containers_of_sensitive_features_and_labels(data, report, kind):
    X, y, race = data
    model = StubPruner().fit(X, y)
    other = fairness_report(model, pd.DataFrame(X), list(y), sensitive_features=kind(race))
    pd.testing.assert_frame_equal(other.differences, report.differences)


def test_every_kind_of_sensitive_features_gives_the_same_report(data, region):
    X, y, race = data
    model = StubPruner().fit(X, y)
    columns = {"race": race, "region": region}
    expected = fairness_report(
        model, X, y, sensitive_features=columns, control_features={"sex": X[:, 2] > 0}
    )
    sex = (X[:, 2] > 0).tolist()
    for kind, control in (
        (pd.DataFrame(columns, index=np.arange(900) + 7), pd.Series(sex, name="sex")),
        (pd.DataFrame(columns).astype("category"), pd.DataFrame({"sex": sex})),
        (pl.DataFrame(columns), pl.Series("sex", sex)),
        ({"race": pl.Series(race), "region": list(region)}, pl.DataFrame({"sex": sex})),
    ):
        report = fairness_report(
            model, pl.DataFrame(X), pl.Series(y), sensitive_features=kind, control_features=control
        )
        assert str(report) == str(expected)
        pd.testing.assert_frame_equal(report.by_group, expected.by_group)
    unnamed = fairness_report(
        model,
        X,
        list(y),
        sensitive_features=list(zip(race, region, strict=True)),
        control_features=sex,
        sample_weight=pl.Series([1.0] * 900),
    )
    pd.testing.assert_frame_equal(unnamed.differences, expected.differences)
    assert "sensitive_feature_0 × sensitive_feature_1 within strata of control_feature" in str(
        unnamed
    ).replace("\n  ", " ")


def test_an_empty_dict_of_inputs_is_an_error(data):
    X, y, race = data
    with pytest.raises(ValueError, match="Got X as an empty dict"):
        fairness_report(StubPruner().fit(X, y), {}, y, sensitive_features=race)


def test_a_dict_of_inputs_counts_rows_not_keys(data):
    X, y, race = data

    class DictStub(StubPruner):
        def predict(self, X):
            return super().predict(X["table"])

        def predict_dense(self, X):
            return super().predict_dense(X["table"])

        def was_fitted_on(self, X):
            return False

    report = fairness_report(DictStub().fit(X, y), {"table": X}, y, sensitive_features=race)
    assert report.by_group["count"].sum() == len(y)


# --- errors come before work ---


class NeverPredicts(StubPruner):
    def predict(self, X):
        raise AssertionError("predicted before the input was checked")

    predict_dense = predict


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": ["yes", "no"]}, "Got y with 2 rows, but X has 900 rows"),
        ({"sensitive_features": ["a", "b"]}, "sensitive_features with 2 rows, but X has 900"),
        ({"sample_weight": [1.0]}, "Got sample_weight with 1 row, but X has 900 rows"),
        ({"sample_weight": np.full(900, -1.0)}, "not negative"),
        ({"sample_weight": np.zeros(900)}, "not all 0"),
        ({"sample_weight": np.full(900, np.nan)}, "finite"),
        ({"y": ["yes", "maybe", "no"] * 300}, r"Got y with labels \['maybe'\], but expected only"),
        ({"y": [0, 1] * 450}, r"Got y with labels \[0, 1\]"),
        ({"sensitive_features": ["Female"] * 900}, r"1 group.*Female.*at least two groups"),
        ({"confidence_level": 95}, "Got confidence_level=95, but expected"),
        ({"control_features": ["a"]}, "Got control_features with 1 row, but X has 900 rows"),
        ({"control_features": [None] * 900}, "Got control_features with missing values in 900"),
        ({"sensitive_features": [None, "a", "b"] * 300}, "missing values in 300 rows"),
        ({"missing_sensitive": "drop"}, "Got missing_sensitive='drop', but expected"),
        (
            {"sensitive_features": [None, "a"] * 450, "missing_sensitive": "ignore"},
            "with 1 group 'a', but expected at least two",
        ),
        (
            {"sensitive_features": [None] * 900, "missing_sensitive": "ignore"},
            "with 0 groups, but expected at least two",
        ),
    ],
)
def test_errors_before_work(data, changes, message):
    X, y, race = data
    keywords = {"y": y, "sensitive_features": race} | changes
    with pytest.raises(ValueError, match=message):
        fairness_report(NeverPredicts().fit(X, y), X, **keywords)


def test_a_single_class_is_an_error(data):
    X, y, race = data
    model = StubPruner().fit(X, np.full(900, "no"))
    with pytest.raises(ValueError, match=r"classes \['no'\], but expected two or more"):
        fairness_report(model, X, np.full(900, "no"), sensitive_features=race)


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        StubPruner(),
        GridSearchCV(StubPruner(), {"tolerance": [0.1]}),
        make_pipeline(StandardScaler(), StubPruner()),
    ],
)
def test_unfitted_estimators(data, estimator):
    X, y, race = data
    with pytest.raises(NotFittedError):
        fairness_report(estimator, X, y, sensitive_features=race)


# --- what is shown ---


def test_print_holds_the_numbers(data, report):
    _, _, race = data
    text = str(report)
    assert repr(report) == text
    [title] = [line for line in text.splitlines() if line.startswith("Fairness report:")]
    assert "900 rows, 4 groups" in title
    assert "'yes'" in title
    assert "Sparsity 90.0%: 4 of 40 weights left" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    for group in np.unique(race):
        assert f"{report.by_group.loc[group, ('count', '')]:,}" in lines[group]
        for metric in RATE_FUNCTIONS:
            dense, pruned = (report.by_group.loc[group, (metric, n)] for n in ("dense", "pruned"))
            assert f"{dense:.3f}→{pruned:.3f}" in lines[group]
    for gap in RATES:
        row = report.differences.loc[gap]
        assert f"{row.dense:.3f}→{row.pruned:.3f}" in text
        assert f"{row.low:.3f} to {row.high:.3f}" in text
        assert f"{row.noise_floor:.3f}" in text
    assert f"{report.performance_reduction['gap']:.3f}" in text
    assert "-0.000" not in text


def test_print_fits_a_terminal_with_long_names(data):
    X, y, race = data
    long = pd.DataFrame({"race": race, "region": np.where(X[:, 2] > 0, "x" * 20, "South Sea " * 4)})
    text = str(fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=long))
    assert max(map(len, text.splitlines())) <= 100


def test_print_of_three_classes_in_strata(data, grades, region):
    X, _, race = data
    report = fairness_report(
        ThreeClasses().fit(X, grades),
        X,
        grades,
        sensitive_features={"race": race},
        control_features={"region": region},
    )
    text = str(report)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    title = "Fairness report: 900 rows, 4 groups by race within strata of region, 3 classes"
    assert title in lines
    # A line for each stratum above its groups, in the table of all classes and of each.
    assert lines.count("  North") == 4
    assert sum(line.startswith("    White") for line in lines) == 3 * 4
    for label in ("bad", "fair", "good"):
        assert f"Class '{label}' against the rest (dense→pruned)" in lines
        [line] = [line for line in lines if line.startswith(f"  '{label}'") and "→" in line]
        gap = report.by_class.loc[label, "equalized_odds_difference"]
        assert f"{gap['dense']:.3f}→{gap['pruned']:.3f}" in line
    rates = report.by_group.loc[("South", "Black"), ("true_positive_rate", "fair")]
    assert f"{rates['dense']:.3f}→{rates['pruned']:.3f}" in text
    page = report._repr_html_()
    assert page.count("<table") == 6
    assert "→".join(f"{v:.3f}" for v in rates) in page


def test_print_of_long_names_in_strata_fits_a_terminal(data, grades):
    X, _, race = data
    long = {"race": np.char.add(race, " of the South Sea" * 5), "of a very long name " * 6: race}
    y = np.char.add(grades, " and more or less" * 3)
    text = str(
        fairness_report(
            ThreeClasses().fit(X, y), X, y, sensitive_features=long, control_features=X[:, 2] > 0
        )
    )
    assert max(map(len, text.splitlines())) <= 100


def test_notes_name_the_first_few_and_count_the_rest(data):
    X, y, _ = data
    many = np.arange(900) % 40
    report = fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=many)
    [note] = [note for note in report.notes if note.startswith("Too small")]
    assert note.endswith("; and 32 more.")


def test_html_escapes_and_runs_no_script(data):
    X, y, race = data
    evil = "<script>alert('x')</script>"
    y = np.where(y == "yes", "yes<b>", "no")
    groups = pd.Series(np.where(race == "White", evil, race), name="<i>race</i>")
    page = fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=groups)._repr_html_()
    assert "&lt;script&gt;" in page
    for tag in ("<script", "<b>", "<i>"):
        assert tag not in page


def test_html_holds_the_numbers_and_the_notes(report):
    page = report._repr_html_()
    assert page.count("<table") == 2
    for gap in RATES:
        assert f"{report.differences.loc[gap, 'pruned']:.3f}" in page
    assert page.count("<li>") == len(report.notes)


def test_groups_that_look_the_same_stay_apart(data):
    X, y, _ = data
    look = np.empty(900, dtype=object)
    look[:] = ([1] * 3 + ["1"] * 3 + ["overall", "gap", "plain"]) * 100
    report = fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=look)
    assert set(report.by_group.index) == {"1", "'1'", "'overall'", "'gap'", "plain"}
    assert report.performance_reduction.index.is_unique
    assert report.by_group.loc["1", "count"].item() == 300


def test_report_is_frozen_and_reproducible(data, report):
    X, y, race = data
    assert isinstance(report, FairnessReport)
    again = fairness_report(StubPruner().fit(X, y), X, y, sensitive_features=race)
    assert str(report) == str(again)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.notes = ()


def test_hundreds_of_classes_are_measured_at_once(monkeypatch):
    monkeypatch.setattr("fairprune_sk.assessment.noise.N_DRAWS", 20)
    rng = np.random.default_rng(0)
    y, sex = rng.integers(200, size=2000), rng.choice(["f", "m"], 2000)
    model = DummyClassifier(strategy="stratified", random_state=0).fit(np.zeros((2000, 1)), y)
    X = np.zeros((2000, 1))
    report = fairness_report(model, X, y, sensitive_features=sex)  # warnings are errors
    assert len(report.by_class) == 200 and "Class 7 against" in str(report)
    hits = (model.predict(X) == 7) & (sex == "f")
    rate = report.by_group.loc["f", ("selection_rate", 7, "value")]
    assert rate == pytest.approx(hits.sum() / (sex == "f").sum())


# ------------------------------------------------------------------------------------ the answer


def reported(data, tolerance):
    """Report on rows that a pruner has not seen; return the pruner as well."""
    X, y, race = data
    model = StubPruner(tolerance=tolerance).fit(X[:10], y[:10])
    return model, fairness_report(model, X, y, sensitive_features=race)


def test_the_first_line_answers_for_people_not_seen(data):
    _, report = reported(data, tolerance=1.0)
    assert str(report).startswith(
        "Is the gap in equalized odds within 1 for people not seen? Yes: "
    )
    _, report = reported(data, tolerance=0.0)
    first, *_, figures = report.answer
    certificate = report.certificate
    assert certificate.verdict in ("above", "cannot tell")
    if certificate.verdict == "cannot tell":
        assert "Cannot tell: it may be" in first and f"{certificate.upper:.3f}" in first
        assert "About how many rows would tell" in report.answer[1] or len(report.answer) == 2
    row = report.differences.loc["equalized_odds_difference"]
    assert f"Best estimate {row.corrected:.3f}" in figures
    assert f"{row.low:.3f} to {row.high:.3f}" in figures
    assert f"on these rows it is {row.pruned:.3f}" in figures
    assert f"would show {row.noise_floor:.3f}" in figures
    assert html.escape(first) in report._repr_html_()


def test_the_answer_rests_on_the_certificate(data):
    X, y, race = data
    model, report = reported(data, tolerance=0.3)
    certificate = certify(model, X, y, sensitive_features=race)
    assert report.certificate.upper == certificate.upper
    assert report.certificate.verdict == certificate.verdict


def test_without_a_bound_weights_or_new_rows_nothing_is_certified(data):
    X, y, race = data
    assert (
        fairness_report(
            StubPruner(tolerance=None).fit(X[:10], y[:10]), X, y, sensitive_features=race
        ).answer
        == ()
    )
    model = StubPruner().fit(X[:10], y[:10])
    weighted = fairness_report(
        model, X, y, sensitive_features=race, sample_weight=np.linspace(1, 2, len(X))
    )
    assert weighted.certificate is None and "Not certified on rows like these" in weighted.answer[0]
    model.fit(X, y)
    seen = fairness_report(model, X, y, sensitive_features=race)
    assert seen.certificate is None
    assert seen.answer[0].endswith("These rows cannot tell: the network was trained on them.")
