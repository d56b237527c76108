"""Tests of the report; the oracles are fairlearn's and scikit-learn's own functions."""

import dataclasses
import warnings

import fairlearn.metrics as flm
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as skm
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from fairprune_sk.constraints import EqualOpportunity
from fairprune_sk.report import _GAPS, FairnessReport, fairness_report, noise_floor

GAP_FUNCTIONS = {
    "demographic_parity_difference": flm.demographic_parity_difference,
    "equalized_odds_difference": flm.equalized_odds_difference,
    "equal_opportunity_difference": flm.equal_opportunity_difference,
    "false_positive_rate_difference": flm.false_positive_rate_difference,
    "accuracy_difference": flm.make_derived_metric(
        metric=skm.accuracy_score, transform="difference", sample_param_names=["sample_weight"]
    ),
}
RATE_FUNCTIONS = {
    "accuracy": skm.accuracy_score,
    "balanced_accuracy": skm.balanced_accuracy_score,
    "selection_rate": flm.selection_rate,
    "true_positive_rate": flm.true_positive_rate,
    "false_positive_rate": flm.false_positive_rate,
}


class StubPruner(ClassifierMixin, BaseEstimator):
    """FairPruner's interface with fixed rules in place of networks."""

    def __init__(self, tolerance=0.05, constraint="equalized_odds", threshold=0.0):
        self.tolerance = tolerance
        self.constraint = constraint
        self.threshold = threshold

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
    assert list(report.differences.columns) == ["dense", "pruned", "low", "high", "noise_floor"]
    assert set(report.differences.index) == set(GAP_FUNCTIONS)
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


@pytest.mark.parametrize("metric", ["equalized_odds_difference", "accuracy_difference"])
def test_noise_floor_and_interval_equal_a_row_by_row_simulation(data, metric):
    X, y, race = data
    model = StubPruner().fit(X, y)
    y_true, y_pred = binary(y), binary(model.predict(X))
    at_parity = brute_force_gaps(y_true, y_pred, race, metric, True, seed=5)
    floor = noise_floor(y_true, y_pred, sensitive_features=race, metric=metric)
    error = at_parity.std() / np.sqrt(400)
    assert floor == pytest.approx(at_parity.mean(), abs=4 * error)

    report = fairness_report(model, X, y, sensitive_features=race)
    row = report.differences.loc[metric]
    assert row["noise_floor"] == floor
    redrawn = brute_force_gaps(y_true, y_pred, race, metric, False, seed=6)
    # Half of the draws of an independent simulation, and then 95% of them, are inside.
    narrow = fairness_report(model, X, y, sensitive_features=race, confidence_level=0.5)
    for level, (low, high) in (
        (0.95, row[["low", "high"]]),
        (0.5, narrow.differences.loc[metric, ["low", "high"]]),
    ):
        inside = np.mean((redrawn >= low) & (redrawn <= high))
        assert inside == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 400))


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
        metric="demographic_parity_difference",
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
        ([0, 1], [0, 1], {"metric": "gini"}, "Got metric='gini', but expected one of"),
        ([0, 1], [0, 1, 1], {}, "Got y_pred with 3 rows, but y_true has 2 rows"),
        ([0, 1], [0, 2], {}, "but expected 0 and 1, or -1 and 1"),
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


def test_a_collapsed_network_is_announced(data):
    X, y, race = data
    report = fairness_report(
        StubPruner(threshold=99).fit(X[:9], y[:9]), X, y, sensitive_features=race
    )
    assert any("COLLAPSED" in note for note in report.notes)
    assert not any("equalized odds 0.000" in note for note in report.notes)


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
    assert list(report.differences.columns) == ["value", "low", "high", "noise_floor"]
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
        ({"sample_weight": [1.0]}, "Got sample_weight with 1 rows, but X has 900 rows"),
        ({"sample_weight": np.full(900, -1.0)}, "not negative"),
        ({"sample_weight": np.zeros(900)}, "not all 0"),
        ({"sample_weight": np.full(900, np.nan)}, "finite"),
        ({"y": ["yes", "maybe", "no"] * 300}, r"Got y with labels \['maybe'\], but expected only"),
        ({"y": [0, 1] * 450}, r"Got y with labels \[0, 1\]"),
        ({"sensitive_features": ["Female"] * 900}, r"1 group.*Female.*at least two groups"),
        ({"confidence_level": 95}, "Got confidence_level=95, but expected"),
    ],
)
def test_errors_before_work(data, changes, message):
    X, y, race = data
    keywords = {"y": y, "sensitive_features": race} | changes
    with pytest.raises(ValueError, match=message):
        fairness_report(NeverPredicts().fit(X, y), X, **keywords)


def test_more_than_two_classes_is_an_error(data):
    X, _, race = data
    model = LogisticRegression().fit(X, np.arange(900) % 3)
    with pytest.raises(ValueError, match=r"classes \[0, 1, 2\], but expected two classes"):
        fairness_report(model, X, np.arange(900) % 3, sensitive_features=race)


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
    title = text.splitlines()[0]
    assert title.startswith("Fairness report: 900 rows, 4 groups")
    assert "'yes'" in title
    assert "Sparsity 90.0%: 4 of 40 weights left" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    for group in np.unique(race):
        assert f"{report.by_group.loc[group, ('count', '')]:,}" in lines[group]
        for metric in RATE_FUNCTIONS:
            dense, pruned = (report.by_group.loc[group, (metric, n)] for n in ("dense", "pruned"))
            assert f"{dense:.3f}→{pruned:.3f}" in lines[group]
    for gap in _GAPS:
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
    for gap in _GAPS:
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
