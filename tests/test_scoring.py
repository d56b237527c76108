"""Tests of the scorer and of the refit rule; the oracles are fairlearn's own functions."""

import pickle
import warnings
from functools import partial

import fairlearn.metrics as flm
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.metrics as skm
import torch
from fairlearn.reductions import DemographicParity, ExponentiatedGradient
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairprune_sk.assessment.scoring import FairnessScorer, make_fairness_scorer
from fairprune_sk.assessment.selection import SparsestWithin, sparsest_within
from fairprune_sk.exceptions import ConstraintNotMetWarning
from fairprune_sk.fairness.constraints import OUTSIDE, Constraint, DegradationParity
from fairprune_sk.fairness.constraints import DemographicParity as Parity


def _derived(metric, transform):
    return flm.make_derived_metric(
        metric=metric, transform=transform, sample_param_names=["sample_weight"]
    )


ORACLES = {
    ("demographic_parity", "difference"): flm.demographic_parity_difference,
    ("demographic_parity", "ratio"): flm.demographic_parity_ratio,
    ("equalized_odds", "difference"): flm.equalized_odds_difference,
    ("equalized_odds", "ratio"): flm.equalized_odds_ratio,
    ("equal_opportunity", "difference"): flm.equal_opportunity_difference,
    ("equal_opportunity", "ratio"): flm.equal_opportunity_ratio,
    ("false_positive_rate_parity", "difference"): flm.false_positive_rate_difference,
    ("false_positive_rate_parity", "ratio"): flm.false_positive_rate_ratio,
    ("accuracy_parity", "difference"): _derived(skm.accuracy_score, "difference"),
    ("accuracy_parity", "ratio"): _derived(skm.accuracy_score, "ratio"),
}


class Fixed(ClassifierMixin, BaseEstimator):
    """Predict what column "pred" of X holds (or X itself, where it is a list)."""

    def __init__(self, classes=(0, 1)):
        self.classes = classes
        self.classes_ = np.array(classes)

    def fit(self, X, y):
        return self

    def predict(self, X):
        return X["pred"] if hasattr(X, "columns") else np.asarray(X)


class Sparse(ClassifierMixin, BaseEstimator):
    """Logistic regression that keeps its largest coefficients; its fit wants the groups."""

    def __init__(self, sparsity=0.0):
        self.sparsity = sparsity

    def fit(self, X, y, sensitive_features=None):
        assert sensitive_features is None or len(sensitive_features) == len(y)
        X = np.asarray(X, dtype=float)
        self.model_ = LogisticRegression().fit(X, y)
        self.classes_ = self.model_.classes_
        size = np.abs(self.model_.coef_[0])
        self.model_.coef_[0, np.argsort(size)[: round(self.sparsity * len(size))]] = 0.0
        return self

    def predict(self, X):
        return self.model_.predict(np.asarray(X, dtype=float))


def _table(n=400, n_classes=2, random_state=0):
    """Draw X with the columns x, z and male, labels that lean on all, and region."""
    rng = np.random.RandomState(random_state)
    X = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n)})
    X["male"] = rng.randint(2, size=n)
    X.index = rng.permutation(n) + 1000
    score = 1.5 * X["x"] + 0.5 * X["z"] + X["male"] + rng.normal(size=n)
    y = pd.Series(np.digitize(score, np.linspace(0, 2, n_classes - 1)), X.index)
    return X, y, pd.Series(rng.choice(["east", "north", "west"], n), X.index, name="region")


@pytest.fixture(scope="module")
def data():
    return _table()


@pytest.fixture(scope="module")
def model(data):
    X, y, _ = data
    return LogisticRegression().fit(X, y)


def _gap(scorer, y_true, y_pred, group, **kwargs):
    return -scorer(Fixed(), list(y_pred), y_true, sensitive_features=group, **kwargs)


# ------------------------------------------------------------------------------- gaps


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gap_method", ["between_groups", "to_overall"])
@pytest.mark.parametrize(("constraint", "comparison"), ORACLES)
def test_gap_is_fairlearns(constraint, comparison, gap_method, weighted):
    rng = np.random.RandomState(1)
    y_true, y_pred = rng.randint(2, size=(2, 300))
    group = rng.choice(["a", "b", "c"], 300)
    weight = {"sample_weight": rng.uniform(0.5, 2, 300)} if weighted else {}
    expected = ORACLES[constraint, comparison](
        y_true, y_pred, sensitive_features=group, method=gap_method, **weight
    )
    expected = 1 - expected if comparison == "ratio" else expected
    scorer = make_fairness_scorer(constraint, gap_method=gap_method, comparison=comparison)
    assert _gap(scorer, y_true, y_pred, group, **weight) == pytest.approx(expected, abs=1e-12)


def test_labels_may_be_strings_and_the_second_class_is_positive():
    rng = np.random.RandomState(2)
    y_true, y_pred, group = rng.randint(2, size=(3, 200))
    names = np.array(["yes", "zero"])
    score = make_fairness_scorer("equal_opportunity")(
        Fixed(("yes", "zero")), list(names[y_pred]), names[y_true], sensitive_features=group
    )
    oracle = flm.equal_opportunity_difference(y_true, y_pred, sensitive_features=group)
    assert score == pytest.approx(-oracle)


@pytest.mark.parametrize("constraint", sorted({name for name, _ in ORACLES}))
def test_the_largest_gap_over_the_classes_counts(constraint):
    rng = np.random.RandomState(3)
    y_true, y_pred, group = rng.randint(4, size=(3, 500))
    oracle = ORACLES[constraint, "difference"]
    if constraint == "accuracy_parity":
        expected = oracle(y_true, y_pred, sensitive_features=group)
    else:
        expected = max(oracle(y_true == c, y_pred == c, sensitive_features=group) for c in range(4))
    score = make_fairness_scorer(constraint)(
        Fixed((0, 1, 2, 3)), list(y_pred), y_true, sensitive_features=group
    )
    assert score == pytest.approx(-expected)


@pytest.mark.parametrize("gap_method", ["between_groups", "to_overall"])
@pytest.mark.parametrize("comparison", ["difference", "ratio"])
def test_control_features_compare_within_strata(comparison, gap_method):
    rng = np.random.RandomState(4)
    y_true, y_pred, group = rng.randint(2, size=(3, 400))
    control = rng.choice(["x", "y", "z"], 400)
    frame = flm.MetricFrame(
        metrics=flm.selection_rate,
        y_true=y_true,
        y_pred=y_pred,
        sensitive_features=group,
        control_features=control,
    )
    if comparison == "difference":
        expected = frame.difference(method=gap_method).max()
    else:
        expected = 1 - frame.ratio(method=gap_method).min()
    scorer = make_fairness_scorer(
        "demographic_parity", comparison=comparison, gap_method=gap_method
    )
    assert _gap(scorer, y_true, y_pred, group, control_features=control) == pytest.approx(expected)


def test_several_columns_stand_for_their_intersections():
    rng = np.random.RandomState(5)
    y_true, y_pred, sex, race = rng.randint(2, size=(4, 400))
    group = pd.DataFrame({"sex": sex, "race": race})
    expected = flm.equalized_odds_difference(y_true, y_pred, sensitive_features=group)
    assert _gap(make_fairness_scorer(), y_true, y_pred, group) == pytest.approx(expected)


def test_a_group_without_positives_has_no_true_positive_rate():
    y_true, y_pred = [1, 1, 0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0, 0]
    group = list("aaabbbcc")
    # fairlearn says 1, the gap to the rate 0 that group c has not got.
    assert flm.equal_opportunity_difference(y_true, y_pred, sensitive_features=group) == 1.0
    assert _gap(make_fairness_scorer("equal_opportunity"), y_true, y_pred, group) == 0.5


def test_weight_zero_counts_as_no_row():
    y_true, y_pred, group = [1, 1, 1, 0], [1, 0, 1, 0], list("aabb")
    with pytest.raises(ValueError, match="fewer than two groups"):
        weight = [1.0, 1.0, 0.0, 1.0]
        scorer = make_fairness_scorer("equal_opportunity")
        _gap(scorer, y_true, y_pred, group, sample_weight=weight)


@pytest.mark.parametrize("gap_method", ["between_groups", "to_overall"])
def test_equal_rates_of_zero_have_the_ratio_one(gap_method):
    scorer = make_fairness_scorer("demographic_parity", comparison="ratio", gap_method=gap_method)
    assert _gap(scorer, [0, 1, 0, 1], [0, 0, 0, 0], list("aabb")) == 0.0
    assert _gap(scorer, [0, 1, 0, 1], [0, 0, 0, 1], list("aabb")) == 1.0


def test_equalized_odds_needs_both_of_its_rates():
    # Nobody is negative in group b: only true positive rates can be compared.
    labels = [1, 0, 1, 1], [1, 1, 0, 1], list("aabb")
    with pytest.raises(ValueError, match="equalized_odds is undefined"):
        _gap(make_fairness_scorer(), *labels)
    assert _gap(make_fairness_scorer("equal_opportunity"), *labels) == 0.5


@pytest.mark.parametrize("kind", [list, np.asarray, pd.Series, pl.Series])
def test_labels_and_groups_of_every_kind(kind):
    rng = np.random.RandomState(6)
    y_true, y_pred, group = rng.randint(2, size=(3, 100))
    expected = flm.equalized_odds_difference(y_true, y_pred, sensitive_features=group)
    score = make_fairness_scorer()(
        Fixed(), list(y_pred), kind(y_true.tolist()), sensitive_features=kind(group.tolist())
    )
    assert score == pytest.approx(-expected)


def test_missing_groups():
    y_true, y_pred = [0, 1, 0, 1, 0, 1], [1, 1, 0, 1, 0, 0]
    group = ["a", "a", "b", "b", None, None]
    gaps = {}
    for missing in ("ignore", "group"):
        scorer = make_fairness_scorer("demographic_parity", missing_sensitive=missing)
        gaps[missing] = _gap(scorer, y_true, y_pred, group)
    assert gaps == {"ignore": 0.5, "group": 1.0}
    with pytest.raises(ValueError, match="sensitive_features with missing values in 2 rows"):
        _gap(make_fairness_scorer(), y_true, y_pred, group)
    with pytest.raises(ValueError, match="control_features with missing values in 2 rows"):
        _gap(make_fairness_scorer(), y_true, y_pred, [1] * 6, control_features=group)


def test_rows_without_a_stratum_can_be_ignored():
    scorer = make_fairness_scorer("demographic_parity", missing_sensitive="ignore")
    y, y_pred, control = [0, 1] * 3, [1, 0, 1, 1, 1, 0], ["s", "s", "s", "s", None, None]
    assert _gap(scorer, y, y_pred, list("aabbcc"), control_features=control) == 0.5


# ------------------------------------------------------- metrics and notions of the user


METRICS = {
    flm.demographic_parity_difference: False,
    flm.demographic_parity_ratio: True,
    flm.equalized_odds_difference: False,
    flm.accuracy_score_group_min: True,
    flm.zero_one_loss_group_max: False,
    partial(flm.equalized_odds_ratio, method="to_overall"): True,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_of_fairlearn_is_taken_at_its_word(metric, weighted):
    rng = np.random.RandomState(1)
    y_true, y_pred = rng.randint(2, size=(2, 300))
    arguments = {"sensitive_features": rng.choice(["a", "b", "c"], 300)}
    if weighted:
        arguments["sample_weight"] = rng.uniform(0.5, 2, 300)
    better = METRICS[metric]
    value = metric(y_true, y_pred, **arguments)
    gap = 1 - value if better else value
    words = np.array(["no", "yes"])

    def score(tolerance):
        scorer = make_fairness_scorer(metric, greater_is_better=better, tolerance=tolerance)
        scorer = pickle.loads(pickle.dumps(clone(scorer)))
        return scorer(Fixed(("no", "yes")), list(words[y_pred]), words[y_true], **arguments)

    assert score(None) == pytest.approx(-gap)
    weight = arguments.get("sample_weight")
    assert score(min(gap + 0.01, 1.0)) == skm.accuracy_score(y_true, y_pred, sample_weight=weight)
    assert score(gap / 2) == pytest.approx(-gap / 2)


def test_a_metric_within_strata_and_for_several_classes():
    rng = np.random.RandomState(4)
    y_true, y_pred, group = rng.randint(4, size=(3, 400))
    control = rng.choice(["x", "y", "z"], 400)
    metric, named = flm.equalized_odds_difference, make_fairness_scorer()
    scorer = make_fairness_scorer(metric, greater_is_better=False)
    for keywords in ({}, {"control_features": control}):
        arguments = {"sensitive_features": group, **keywords}
        own, known = (
            s(Fixed(range(4)), list(y_pred), y_true, **arguments) for s in (scorer, named)
        )
        assert own == pytest.approx(known)


def test_a_metric_reads_the_groups_by_their_names():
    def selected_women(y_true, y_pred, *, sensitive_features, sample_weight=None):
        return float(y_pred[sensitive_features == "f"].mean())

    scorer = make_fairness_scorer(
        selected_women, greater_is_better=True, sensitive_features="sex", missing_sensitive="ignore"
    )
    X = pd.DataFrame({"pred": [1, 0, 1, 1, 1], "sex": ["f", "f", "m", "m", None]})
    assert scorer(Fixed(), X, [1, 0, 1, 0, 1]) == -0.5
    with pytest.raises(ValueError, match="selected_women is undefined: fewer than two groups"):
        scorer(Fixed(), X, [1, 0, 1, 0, 1], sensitive_features=[1] * 5)


def test_an_unweighted_metric_needs_no_weights():
    def metric(y_true, y_pred, *, sensitive_features):
        return 0.25

    assert (
        _gap(make_fairness_scorer(metric, greater_is_better=False), [0, 1], [0, 1], [0, 1]) == 0.25
    )


def test_a_metric_in_a_search_with_routing(data):
    X, y, region = data
    scorers = {
        "named": make_fairness_scorer("demographic_parity", comparison="ratio"),
        "metric": make_fairness_scorer(flm.demographic_parity_ratio, greater_is_better=True),
        "notion": make_fairness_scorer(Parity("ratio")),
    }
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            Sparse().set_fit_request(sensitive_features=True),
            {"sparsity": [0.0, 0.67]},
            scoring={"accuracy": "accuracy", **scorers},
            refit=sparsest_within(max_gap=0.9, gap="metric"),
            cv=3,
            error_score="raise",
        ).fit(X, y, sensitive_features=region)
    results = search.cv_results_
    for name in ("metric", "notion"):
        np.testing.assert_allclose(results[f"mean_test_{name}"], results["mean_test_named"])
    assert search.best_index_ == 1


class OwnNotion(Constraint):
    """``P[ŷ = 1 | y = 1, group]``."""

    events = ("positive",)

    def event(self, is_class):
        return torch.where(is_class, 0, OUTSIDE)


@pytest.mark.parametrize("gap_method", ["between_groups", "to_overall"])
def test_a_notion_of_ones_own(gap_method):
    rng = np.random.RandomState(1)
    y_true, y_pred, group = rng.randint(3, size=(3, 300))
    gaps = [
        make_fairness_scorer(constraint, gap_method=gap_method)(
            Fixed(range(3)), list(y_pred), y_true, sensitive_features=group
        )
        for constraint in (OwnNotion(), "equal_opportunity")
    ]
    assert gaps[0] == gaps[1] < 0


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"constraint": flm.equalized_odds_difference}, "equalized_odds_difference with greater_"),
        ({"greater_is_better": False}, "expected None: a gap is always better when it is smaller"),
        ({"constraint": OwnNotion}, r"Got the class constraint=OwnNotion, but.*OwnNotion\(\)"),
        ({"constraint": OwnNotion(), "comparison": "ratio"}, "an object says itself"),
        ({"constraint": "degradation_parity"}, "needs no dense network"),
        ({"constraint": DegradationParity()}, "needs no dense network"),
        (
            {
                "constraint": flm.equalized_odds_difference,
                "greater_is_better": False,
                "gap_method": "to_overall",
            },
            r"functools.partial\(metric, method=",
        ),
        ({"constraint": DemographicParity()}, "constraint.*Got <fairlearn"),
    ],
)
def test_what_says_nothing_together_is_refused(params, match):
    with pytest.raises(ValueError, match=f"(?s){match}"):
        make_fairness_scorer(**params)
    with pytest.raises(ValueError, match=f"(?s){match}"):
        FairnessScorer(**params)(Fixed(), [0, 1], [0, 1], sensitive_features=[0, 1])


# -------------------------------------------------------------------------- tolerance


def test_within_the_tolerance_it_scores_accuracy():
    y_true, group = np.array([0, 1] * 10), np.repeat(["a", "b"], 10)
    scorer = make_fairness_scorer("demographic_parity", tolerance=0.2)

    def score(n_selected_a, n_selected_b):
        y_pred = np.r_[np.arange(10) < n_selected_a, np.arange(10) < n_selected_b].astype(int)
        return scorer(Fixed(), list(y_pred), y_true, sensitive_features=group), y_pred

    within, y_pred = score(10, 8)
    assert within == skm.accuracy_score(y_true, y_pred)
    # A gap of 0.8 - 0.6, a hair above 0.2 in floating point, is within.
    assert score(8, 6)[0] > 0
    near, far = score(8, 5)[0], score(8, 0)[0]
    assert near == pytest.approx(-0.1)
    assert far == pytest.approx(-0.6)
    # Nothing right, but fair, is better than all right, but not within.
    wrong = scorer(Fixed(), list(1 - y_true), y_true, sensitive_features=group)
    assert wrong == 0.0 > near > far


def test_four_fifths_rule():
    scorer = make_fairness_scorer("demographic_parity", tolerance=0.2, comparison="ratio")
    y, group = np.zeros(20, dtype=int), np.repeat(["a", "b"], 10)
    selected = np.arange(10)
    just = np.r_[selected < 5, selected < 4].astype(int)
    short = np.r_[selected < 5, selected < 3].astype(int)
    assert scorer(Fixed(), list(just), y, sensitive_features=group) == pytest.approx(0.55)
    assert scorer(Fixed(), list(short), y, sensitive_features=group) == pytest.approx(-0.2)


def test_accuracy_is_weighted_and_counts_rows_without_a_group():
    scorer = make_fairness_scorer("demographic_parity", tolerance=1.0, missing_sensitive="ignore")
    y_true, y_pred = [0, 1, 0, 1, 1], [0, 1, 0, 0, 0]
    score = scorer(
        Fixed(), y_pred, y_true, sensitive_features=["a", "a", "b", "b", None],
        sample_weight=[1, 1, 1, 1, 4],
    )  # fmt: skip
    assert score == pytest.approx(3 / 8)


def test_tolerance_selects_the_accurate_among_the_fair(data):
    X, y, _ = data
    scorer = make_fairness_scorer("demographic_parity", tolerance=0.02, sensitive_features="male")
    models = [LogisticRegression(), DummyClassifier(strategy="most_frequent")]
    pipe = make_pipeline(StandardScaler(), models[0])
    search = GridSearchCV(pipe, {"logisticregression": models}, scoring=scorer, cv=2).fit(X, y)
    fair, best = search.cv_results_["mean_test_score"][[1, 0]]
    assert fair > 0 > best  # the regression is accurate, but not fair
    assert isinstance(search.best_estimator_[-1], DummyClassifier)


# -------------------------------------------------------- where the groups come from


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_by_column_name(data, frame, routing):
    X, y, _ = data
    X, y = frame({name: X[name].to_numpy() for name in X}), y.to_numpy()
    with config_context(enable_metadata_routing=routing):
        scorer = make_fairness_scorer("demographic_parity", sensitive_features="male")
        model = LogisticRegression().fit(X, y)
        expected = flm.demographic_parity_difference(
            y, model.predict(X), sensitive_features=X["male"].to_numpy()
        )
        assert scorer(model, X, y) == pytest.approx(-expected)
        by_list = make_fairness_scorer("demographic_parity", sensitive_features=["male"])
        assert by_list(model, X, y) == scorer(model, X, y)
        search = GridSearchCV(LogisticRegression(), {"C": [0.001, 1.0]}, scoring=scorer, cv=3)
        search.fit(X, y)
        assert search.best_params_ == {"C": 0.001}
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.score(X, y) == pytest.approx(scorer(search.best_estimator_, X, y))


@pytest.mark.parametrize("routing", [False, True])
def test_by_function_of_x(data, routing):
    X, y, region = data
    scorer = make_fairness_scorer(
        sensitive_features=lambda X: region.loc[X.index],
        control_features=lambda X: X["male"],
    )
    with config_context(enable_metadata_routing=routing):
        got = cross_validate(
            LogisticRegression(), X, y, scoring=scorer, cv=3, return_estimator=True,
            return_indices=True,
        )  # fmt: skip
    for i in range(3):
        test = got["indices"]["test"][i]
        frame = flm.MetricFrame(
            metrics={"tpr": flm.true_positive_rate, "fpr": flm.false_positive_rate},
            y_true=y.iloc[test],
            y_pred=got["estimator"][i].predict(X.iloc[test]),
            sensitive_features=region.iloc[test],
            control_features=X["male"].iloc[test],
        )
        assert got["test_score"][i] == pytest.approx(-frame.difference().to_numpy().max())


def test_a_pipeline_may_drop_the_column_that_the_scorer_reads(data):
    X, y, region = data
    X = X.assign(region=region)
    pipe = make_pipeline(make_column_transformer((StandardScaler(), ["x", "z"])), Sparse())
    scorer = make_fairness_scorer(sensitive_features=["region", "male"])
    search = GridSearchCV(pipe, {"sparse__sparsity": [0.0, 0.5]}, scoring=scorer, cv=2).fit(X, y)
    assert search.n_features_in_ == 4
    assert search.best_estimator_[-1].model_.n_features_in_ == 2
    expected = flm.equalized_odds_difference(
        y, search.predict(X), sensitive_features=X[["region", "male"]]
    )
    assert search.score(X, y) == pytest.approx(-expected)


def _as_numpy(s):
    return s.to_numpy()


def _as_polars(s):
    return pl.DataFrame({"region": s.tolist()})


@pytest.mark.parametrize("kind", [pd.Series, pd.DataFrame, _as_numpy, list, _as_polars])
def test_by_routing_in_a_search(data, kind):
    X, y, region = data
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            Sparse().set_fit_request(sensitive_features=True),
            {"sparsity": [0.0, 0.7]},
            scoring=make_fairness_scorer(),
            cv=3,
            error_score="raise",
        )
        search.fit(X, y, sensitive_features=kind(region))
        expected = flm.equalized_odds_difference(y, search.predict(X), sensitive_features=region)
        got = search.score(X, y, sensitive_features=kind(region))
    assert got == pytest.approx(-expected)
    by_function = make_fairness_scorer(sensitive_features=lambda X: region.loc[X.index])
    plain = GridSearchCV(Sparse(), {"sparsity": [0.0, 0.7]}, scoring=by_function, cv=3).fit(X, y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


def test_by_routing_in_cross_validate(data):
    X, y, region = data
    params = {"sensitive_features": region, "control_features": X["male"]}
    with config_context(enable_metadata_routing=True):
        got = cross_validate(
            LogisticRegression(), X, y, params=params, scoring=make_fairness_scorer()
        )
    by_column = make_fairness_scorer(sensitive_features="region", control_features="male")
    # The model must not see the region: the scorer's column stays outside of the pipeline's.
    pipe = make_pipeline(
        make_column_transformer(("passthrough", ["x", "z", "male"])), LogisticRegression()
    )
    expected = cross_validate(pipe, X.assign(region=region), y, scoring=by_column)
    np.testing.assert_allclose(got["test_score"], expected["test_score"])


def test_by_routing_among_several_scores(data):
    X, y, region = data
    with config_context(enable_metadata_routing=True):
        got = cross_validate(
            LogisticRegression(), X, y, cv=3, params={"sensitive_features": region},
            scoring={
                "accuracy": "accuracy",
                "parity": make_fairness_scorer("demographic_parity"),
                "by_sex": make_fairness_scorer("demographic_parity", sensitive_features="male"),
            },
        )  # fmt: skip
        for name, scorer in {
            "parity": make_fairness_scorer("demographic_parity"),
            "accuracy": "accuracy",
        }.items():
            params = {"sensitive_features": region} if name == "parity" else None
            alone = cross_val_score(LogisticRegression(), X, y, cv=3, params=params, scoring=scorer)
            np.testing.assert_allclose(got[f"test_{name}"], alone)
    by_sex = make_fairness_scorer("demographic_parity", sensitive_features="male")
    alone = cross_val_score(LogisticRegression(), X, y, cv=3, scoring=by_sex)
    # The scorer with a column of its own did not take the region that was meant for the other.
    np.testing.assert_allclose(got["test_by_sex"], alone)


def test_a_scorer_with_its_own_column_leaves_what_is_routed_to_fit_alone(data):
    X, y, region = data
    scorer = make_fairness_scorer(sensitive_features="male")
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            Sparse().set_fit_request(sensitive_features=True),
            {"sparsity": [0.0]},
            scoring=scorer,
            cv=3,
        ).fit(X, y, sensitive_features=region)
    expected = cross_val_score(Sparse(), X, y, scoring=scorer, cv=3).mean()
    assert search.best_score_ == pytest.approx(expected)


def test_the_keyword_wins_over_the_column(data, model):
    X, y, region = data
    scorer = make_fairness_scorer(sensitive_features="male", control_features="male")
    expected = make_fairness_scorer()(
        model, X, y, sensitive_features=region, control_features=X["z"] > 0
    )
    got = scorer(model, X, y, sensitive_features=region, control_features=X["z"] > 0)
    assert got == expected != scorer(model, X, y, sensitive_features=region)


def test_requests_can_be_set(data):
    X, y, region = data
    with config_context(enable_metadata_routing=True):
        scorer = make_fairness_scorer(sensitive_features="male")
        aliased = make_fairness_scorer().set_score_request(sensitive_features="region")
        scorer.set_score_request(sensitive_features=True, sample_weight=True)
        for s in (clone(scorer), pickle.loads(pickle.dumps(scorer))):
            requests = s.get_metadata_routing().score.requests
            assert requests == {
                "sensitive_features": True,
                "control_features": True,
                "sample_weight": True,
            }
        model = LogisticRegression()
        got = cross_val_score(model, X, y, scoring=aliased, params={"region": region})
        params = {"sensitive_features": region}
        expected = cross_val_score(model, X, y, scoring=make_fairness_scorer(), params=params)
        np.testing.assert_allclose(got, expected)


def test_sample_weight_follows_scikit_learns_rules(data):
    X, y, region = data
    weight = np.random.RandomState(0).uniform(0.1, 5, len(y))
    with config_context(enable_metadata_routing=True):
        params = {"sensitive_features": region, "sample_weight": weight}
        model = LogisticRegression().set_fit_request(sample_weight=True)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight.*FairnessScorer"):
            cross_val_score(model, X, y, scoring=make_fairness_scorer(), params=params)
        scorer = make_fairness_scorer().set_score_request(sample_weight=True)
        routed = cross_val_score(model, X, y, scoring=scorer, params=params, cv=3)
    by_function = make_fairness_scorer(sensitive_features=lambda X: region.loc[X.index])
    # Without routing, a search sends the weights to every scorer that takes them.
    for scoring in (by_function, {"gap": by_function, "accuracy": "accuracy"}):
        search = GridSearchCV(
            LogisticRegression(), {"C": [1.0]}, scoring=scoring, cv=3, refit=False
        )
        search.fit(X, y, sample_weight=weight)
        name = "gap" if isinstance(scoring, dict) else "score"
        assert search.cv_results_[f"mean_test_{name}"] == pytest.approx(routed.mean())


def test_permutation_importance(data, model):
    X, y, _ = data
    scorer = make_fairness_scorer("demographic_parity", sensitive_features=lambda _: X["male"])
    drop = permutation_importance(model, X, y, scoring=scorer, n_repeats=2, random_state=0)
    assert drop.importances_mean[2] < 0  # without the column male the gap is smaller


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fairlearn's own, with pandas 3
def test_a_classifier_without_classes():
    X, y, _ = _table(200)
    model = ExponentiatedGradient(LogisticRegression(), DemographicParity(), max_iter=3)
    model.fit(X, y, sensitive_features=X["male"])
    assert not hasattr(model, "classes_")
    fixed = pd.DataFrame({"pred": model.predict(X, random_state=0), "male": X["male"]})
    scorer = make_fairness_scorer("demographic_parity", sensitive_features="male")
    assert -1 <= scorer(model, X, y) <= 0
    without = Fixed()
    del without.classes_
    assert scorer(without, fixed, y) == scorer(Fixed(), fixed, y)


# ------------------------------------------------------- an object among scikit-learn's


def test_it_can_be_copied_and_printed():
    scorer = make_fairness_scorer("accuracy_parity", tolerance=0.1, sensitive_features="sex")
    for copied in (clone(scorer), pickle.loads(pickle.dumps(scorer))):
        assert isinstance(copied, FairnessScorer)
        assert copied.get_params() == scorer.get_params()
    text = "FairnessScorer(constraint='accuracy_parity', sensitive_features='sex', tolerance=0.1)"
    assert " ".join(repr(scorer).split()) == text
    assert "FairnessScorer" in scorer._repr_html_()
    search = clone(GridSearchCV(Sparse(), {"sparsity": [0.5]}, scoring=scorer))
    assert search.set_params(scoring__tolerance=0.3).scoring.tolerance == 0.3
    assert scorer.tolerance == 0.1


def test_jobs_do_not_change_the_scores(data):
    X, y, region = data
    results = []
    for n_jobs in (1, 2):
        with config_context(enable_metadata_routing=True):
            search = GridSearchCV(
                LogisticRegression(),
                {"C": [0.01, 1.0]},
                scoring={
                    "accuracy": "accuracy",
                    "gap": make_fairness_scorer(),
                    "parity": make_fairness_scorer("demographic_parity", sensitive_features="male"),
                },
                refit="gap",
                cv=2,
                n_jobs=n_jobs,
            ).fit(X, y, sensitive_features=region)
        results.append(
            np.array([search.cv_results_[f"mean_test_{k}"] for k in ("accuracy", "gap", "parity")])
        )
    np.testing.assert_array_equal(*results)


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"constraint": "parity"}, "accuracy_parity.*Got 'parity'"),
        ({"tolerance": 5}, "tolerance.*Got 5"),
        ({"gap_method": "both"}, "between_groups"),
        ({"comparison": "quotient"}, "difference"),
        ({"missing_sensitive": "drop"}, "ignore"),
        ({"sensitive_features": pd.Series([1, 2])}, "sensitive_features.*callable"),
    ],
)
def test_wrong_parameters(params, match):
    with pytest.raises(ValueError, match=f"(?s){match}"):
        make_fairness_scorer(**params)
    with pytest.raises(ValueError, match=f"(?s){match}"):
        FairnessScorer(**params)(Fixed(), [0, 1], [0, 1], sensitive_features=[0, 1])


@pytest.mark.parametrize(
    ("y", "y_pred", "group", "match"),
    [
        ([0, 1], [0, 1], None, "(?s)three ways.*column.*function.*routing"),
        ([0, 1], [0, 1], [0, 1, 1], "sensitive_features with 3 rows"),
        ([0, 1], [0, 1], ["a", "a"], r"fewer than two groups of \['a'\]"),
        ([0, 0], [0, 1], ["a", "b"], "equal_opportunity is undefined"),
        ([0, 2], [0, 1], ["a", "b"], r"Got labels \[2\], but expected only"),
        ([0, 1], ["0", "1"], ["a", "b"], r"Got labels \['0', '1'\]"),
    ],
)
def test_wrong_inputs(y, y_pred, group, match):
    scorer = make_fairness_scorer("equal_opportunity")
    with pytest.raises(ValueError, match=match):
        scorer(Fixed(), y_pred, y, sensitive_features=group)


def test_one_class_is_not_enough():
    with pytest.raises(ValueError, match=r"Got classes \[0\], but expected at least two"):
        make_fairness_scorer()(Fixed((0,)), [0, 0], [0, 0], sensitive_features=[0, 1])


def test_unknown_columns(data, model):
    X, y, _ = data
    scorer = make_fairness_scorer(sensitive_features="sex")
    with pytest.raises(ValueError, match=r"sensitive_features='sex'.*\['x', 'z', 'male'\]"):
        scorer(model, X, y)
    with pytest.raises(ValueError, match="ndarray has no column names"):
        scorer(model, X.to_numpy(), y)
    scorer = make_fairness_scorer(sensitive_features="male", control_features=["x", "q"])
    with pytest.raises(ValueError, match=r"control_features=\['x', 'q'\]"):
        scorer(model, X, y)


def test_a_failed_score_is_nan_in_a_search(data):
    X, y, _ = data
    with pytest.warns(match="three ways"), pytest.warns(match="scores are non-finite"):
        search = GridSearchCV(
            LogisticRegression(),
            {"C": [1.0]},
            scoring={"accuracy": "accuracy", "gap": make_fairness_scorer()},
            refit="accuracy",
            cv=2,
        ).fit(X, y)
    assert np.isnan(search.cv_results_["mean_test_gap"]).all()


# --------------------------------------------------------------------- sparsest_within


def _results(sparsity, accuracy, gap, name="param_sparsity"):
    return {
        name: np.ma.masked_invalid(sparsity),
        "mean_test_accuracy": np.array(accuracy, dtype=float),
        "mean_test_gap": -np.array(gap, dtype=float),
        "params": [{}] * len(accuracy),
    }


RESULTS = _results(
    [0.0, 0.5, 0.8, 0.9, 0.95],
    [0.85, 0.86, 0.85, 0.84, 0.70],
    [0.10, 0.05, 0.04, 0.06, 0.01],
)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 4),
        ({"max_gap": 0.05}, 4),
        ({"max_gap": 0.05, "max_accuracy_loss": 0.01}, 2),  # 0.86 - 0.01, rounded, is allowed
        ({"max_gap": 0.05, "max_accuracy_loss": 0.0}, 1),
        ({"max_accuracy_loss": 0.02}, 3),
        ({"min_accuracy": 0.845}, 2),
        ({"min_accuracy": 0.8, "max_gap": 0.06, "max_accuracy_loss": 0.02}, 3),
    ],
)
def test_it_chooses_the_sparsest_within_the_limits(limits, expected):
    rule = sparsest_within(**limits)
    assert isinstance(rule, SparsestWithin)
    assert rule(RESULTS) == expected
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert type(rule(RESULTS)) is int


def test_ties_go_to_the_most_accurate_and_failed_candidates_never_win():
    results = _results(
        [0.9, 0.9, 0.9, 0.99, 0.99], [0.8, 0.82, 0.81, np.nan, 0.9], [0, 0, 0, 0, np.nan]
    )
    assert sparsest_within(max_gap=0.1)(results) == 1
    assert sparsest_within(max_gap=0.1, max_accuracy_loss=0.01)(
        _results([0.5, 0.9], [0.8, np.nan], [0.0, 0.0])
    ) == 0  # fmt: skip
    with pytest.raises(ValueError, match="every one has failed"):
        sparsest_within(max_gap=0.1)(_results([0.5, 0.9], [0.8, np.nan], [np.nan, 0.0]))


def test_it_warns_where_no_candidate_is_within():
    rule = sparsest_within(max_gap=0.005, min_accuracy=0.85)
    with pytest.warns(ConstraintNotMetWarning) as record:
        best = rule(RESULTS)
    assert best == 2  # exceeds by 0.035; candidate 1 by 0.045, candidate 4 by 0.155
    message = str(record[0].message)
    assert "within max_gap=0.005, min_accuracy=0.85." in message
    assert "accuracy 0.8600, gap 0.0100" in message
    assert "Candidate 2 comes closest: accuracy 0.8500, gap 0.0400" in message
    with pytest.warns(ConstraintNotMetWarning) as record:
        assert sparsest_within(min_accuracy=0.99)(RESULTS) == 1
    assert "gap" not in str(record[0].message)


def test_the_name_of_the_sparsity():
    nested = _results([0.1, 0.9], [0.8, 0.8], [0, 0], name="param_fairpruner__sparsity")
    assert sparsest_within()(nested) == 1
    both = nested | {"param_other__sparsity": [0.9, 0.1], "param_max_sparsity": [0, 1]}
    with pytest.raises(ValueError, match=r"\['fairpruner__sparsity', 'other__sparsity'\]"):
        sparsest_within()(both)
    assert sparsest_within(sparsity="other__sparsity")(both) == 0
    assert sparsest_within(sparsity="max_sparsity")(both) == 1
    with pytest.raises(ValueError, match="no sparsity among the searched parameters"):
        sparsest_within(sparsity="amount")(both)
    with pytest.raises(ValueError, match=r"no sparsity among the searched parameters \['C'\]"):
        sparsest_within()(_results([0.1], [0.8], [0], name="param_C"))
    # A candidate that leaves the sparsity at its default is taken last.
    assert sparsest_within()(_results([np.nan, 0.2], [0.9, 0.8], [0, 0])) == 1


def test_missing_and_wrong_scores():
    with pytest.raises(ValueError, match=r"no score 'parity', but.*\['accuracy', 'gap'\]"):
        sparsest_within(max_gap=0.1, gap="parity")(RESULTS)
    assert sparsest_within(gap="parity")(RESULTS) == 4  # without a limit no gap is needed
    with pytest.raises(ValueError, match="no score 'score'"):
        sparsest_within(accuracy="score")(RESULTS)
    with pytest.raises(ValueError, match="above 0, but expected minus a gap"):
        sparsest_within(max_gap=0.1)(_results([0.1], [0.8], [-0.3]))


@pytest.mark.parametrize("value", [-0.1, 5, "0.1", np.nan])
@pytest.mark.parametrize("name", ["max_gap", "max_accuracy_loss", "min_accuracy"])
def test_wrong_limits(name, value):
    with pytest.raises(ValueError, match=rf"Got {name}={value!r}, but expected a number in"):
        sparsest_within(**{name: value})


def test_in_a_search(data):
    X, y, region = data
    grid = {"sparse__sparsity": [0.0, 0.34, 0.67, 1.0]}
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), Sparse().set_fit_request(sensitive_features=True)),
            grid,
            scoring={
                "accuracy": "accuracy",
                "gap": make_fairness_scorer("demographic_parity", sensitive_features="male"),
            },
            refit=sparsest_within(max_gap=0.2, max_accuracy_loss=0.1),
            cv=3,
        )
        search = clone(search).fit(X, y, sensitive_features=region)
    results = pd.DataFrame(search.cv_results_)
    within = results[
        (-results["mean_test_gap"] <= 0.2)
        & (results["mean_test_accuracy"] >= results["mean_test_accuracy"].max() - 0.1)
    ]
    assert search.best_index_ == within["param_sparse__sparsity"].astype(float).idxmax() == 2
    assert search.best_estimator_[-1].sparsity == 0.67
    assert search.predict(X).shape == (len(X),)
    accuracy = skm.accuracy_score(y, search.predict(X))
    assert search.score(X, y) == accuracy  # there is no other way to say which score
    with config_context(enable_metadata_routing=True):
        assert search.score(X, y) == accuracy
    assert pickle.loads(pickle.dumps(search)).score(X, y) == accuracy


def test_search_score_of_a_score_with_another_name(data):
    X, y, region = data
    scoring = {
        "right": "accuracy",
        "gap": make_fairness_scorer("demographic_parity", sensitive_features="male"),
    }

    def both(estimator, X, y):
        return {
            "right": estimator.score(X, y),
            "gap": scoring["gap"](estimator, X, y),
        }

    for scores in (scoring, both):
        search = GridSearchCV(
            Sparse(),
            {"sparsity": [0.0, 0.5]},
            scoring=scores,
            refit=sparsest_within(max_gap=1.0, accuracy="right"),
            cv=2,
        ).fit(X, y)
        assert search.score(X, y) == skm.accuracy_score(y, search.predict(X))


def test_rules_are_equal_where_all_of_their_limits_are():
    rule = sparsest_within(max_gap=0.1)
    assert rule == sparsest_within(max_gap=0.1) == "accuracy"
    assert rule not in (sparsest_within(max_gap=0.2), "gap", None)
    assert len({rule, sparsest_within(max_gap=0.1), sparsest_within()}) == 2


@pytest.mark.slow
def test_with_fairpruner():
    from fairprune_sk import FairPruner
    from fairprune_sk.datasets import make_biased_classification

    X, y, s = make_biased_classification(400, random_state=0)
    quick = {"max_epochs": 2, "sparsity": 0.5, "tolerance_on": "training", "random_state": 0}
    pruner = FairPruner(constraint="demographic_parity", **quick)
    with config_context(enable_metadata_routing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two epochs do not meet a tolerance
        search = GridSearchCV(
            pruner.set_fit_request(sensitive_features=True),
            {"sparsity": [0.5, 0.6]},
            scoring={"accuracy": "accuracy", "gap": make_fairness_scorer("demographic_parity")},
            refit=sparsest_within(max_gap=1.0),
            cv=2,
            error_score="raise",
        ).fit(X, y, sensitive_features=s["sex"])
    assert search.best_params_ == {"sparsity": 0.6}
    assert search.best_estimator_.sparsity_ >= 0.6
    assert (search.cv_results_["mean_test_gap"] <= 0).all()
