"""At home in scikit-learn: its own checks, and its tools used as a user would."""

from __future__ import annotations

import copy
import pickle
from unittest import SkipTest

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from dense import MEMORY
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.compose import make_column_transformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_get_feature_names_out_error,
    check_global_output_transform_pandas,
    check_global_set_output_transform_polars,
    check_methods_sample_order_invariance,
    check_methods_subset_invariance,
    check_param_validation,
    check_readonly_memmap_input,
    check_set_output_transform,
    check_set_output_transform_pandas,
    check_set_output_transform_polars,
    check_transformer_get_feature_names_out,
    check_transformer_get_feature_names_out_pandas,
    estimator_checks_generator,
    parametrize_with_checks,
)
from sklearn.utils.validation import _num_samples
from skorch import NeuralNetBinaryClassifier
from torch import nn

from fairprune_sk import FairPruner, make_fairness_scorer, sparsest_within
from fairprune_sk.datasets import make_biased_classification

# A few steps prune a network that a small table holds back to nothing: not what is looked at.
pytestmark = pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")


class Grouped(FairPruner):
    """A FairPruner that finds its sensitive features itself: groups by row parity."""

    def fit(self, X, y):
        return super().fit(X, y, sensitive_features=np.arange(_num_samples(X)) % 2)


def small(kind=FairPruner, **kwargs):
    options = {"constraint": None, "sparsity": 0.5, "max_epochs": 5, "random_state": 0}
    options["tolerance_on"] = "training"  # for time: one fit, not three
    return kind(**options | kwargs)


def defaults(kind=FairPruner, **kwargs):
    """With every default but the constraint, which needs groups, and the epochs, for time."""
    as_it_comes = {name: getattr(FairPruner(), name) for name in ("sparsity", "tolerance_on")}
    return small(kind, **{**as_it_comes, "max_epochs": 100, **kwargs})


def grouped():
    # Among a few random rows a gap is not a matter of training: nothing is out of tolerance.
    # The checks run with every default as well; here short fits do.
    return small(
        Grouped,
        constraint="demographic_parity",
        tolerance=1.0,
        max_epochs=20,
        min_group_count=1,
    )


# ------------------------------------------------------------------- scikit-learn's own checks


@pytest.mark.filterwarnings("ignore::UserWarning")  # checks with too few rows for the network
@parametrize_with_checks([defaults(), grouped()])
def test_estimator_checks(estimator, check):
    try:
        check(estimator)
    except SkipTest:  # no other check may leave itself out
        assert "check_array_api_input" in str(check)
        raise


@pytest.mark.parametrize("max_epochs", ["auto", 5, 50])
@pytest.mark.parametrize(
    "check", [check_methods_sample_order_invariance, check_methods_subset_invariance]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_predictions_do_not_depend_on_the_other_rows(check, max_epochs):
    check("FairPruner", FairPruner(constraint=None, max_epochs=max_epochs))


def test_a_row_is_predicted_to_the_same_bits_wherever_it_stands(fitted, table):
    X = table[0].iloc[:400]
    order = np.random.default_rng(0).permutation(len(X))
    for method in ("decision_function", "predict_proba", "transform", "predict_dense"):
        predict = getattr(fitted, method)
        together = predict(X)
        assert np.array_equal(predict(X.iloc[order]), together[order])
        for part in (slice(0, 1), slice(7, 40), slice(100, 301)):
            assert np.array_equal(predict(X.iloc[part]), together[part])


@pytest.mark.parametrize(("make", "n_checks"), [(defaults, 68), (grouped, 60)])
def test_number_of_estimator_checks(make, n_checks):
    # MLPClassifier is offered 67.
    assert len(list(estimator_checks_generator(make(), legacy=True))) >= n_checks


@pytest.mark.parametrize(
    "check",
    [
        check_dataframe_column_names_consistency,
        check_get_feature_names_out_error,
        check_global_output_transform_pandas,
        check_global_set_output_transform_polars,
        check_param_validation,
        check_readonly_memmap_input,
        check_set_output_transform,
        check_set_output_transform_pandas,
        check_set_output_transform_polars,
        check_transformer_get_feature_names_out,
        check_transformer_get_feature_names_out_pandas,
    ],
)
@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")
def test_checks_not_yielded_for_third_parties(check):
    check("FairPruner", small(memory=MEMORY))


BAD_VALUES = {
    "estimator": 3,
    "sparsity": 1.0,
    "constraint": "fairness",
    "tolerance": 2.0,
    "tolerance_on": "test",
    "fairness_weight": -1.0,
    "gap_method": "max",
    "min_group_count": 0,
    "missing_sensitive": "drop",
    "pos_label": [1],
    "class_weight": "even",
    "granularity": "block",
    "solver": "adam",
    "max_epochs": 0,
    "batch_size": 0,
    "lr": 0.0,
    "mask_lr": -1.0,
    "callbacks": "print",
    "warm_start": "yes",
    "memory": 3,
    "checkpoint": 3,
    "device": 3,
    "random_state": "seed",
    "verbose": "loud",
}


@pytest.mark.parametrize("name", FairPruner().get_params())
def test_every_parameter_is_validated(name):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of FairPruner must be"):
        FairPruner(**{name: BAD_VALUES[name]}).fit(np.zeros((4, 2)), [0, 1, 0, 1])


# --------------------------------------------------------------------------- metadata routing


class Recorder(FairPruner):
    """Checks that sensitive features arrive with the rows they belong to."""

    def fit(self, X, y, *, sensitive_features=None, sample_weight=None):
        first = np.asarray(X)[:, 0]
        np.testing.assert_array_equal(np.asarray(sensitive_features) == "b", first > 0)
        return super().fit(X, y, sensitive_features=sensitive_features, sample_weight=sample_weight)


def recorder(**kwargs):
    options = {"constraint": "demographic_parity", "tolerance": 1.0, "max_epochs": 2}
    return small(Recorder, **options | {"memory": MEMORY} | kwargs)


@pytest.fixture(scope="module")
def rows():
    """300 rows of four numbers; the sign of the first is the group."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = (X[:, 0] + X[:, 1] + rng.normal(size=300) > 0).astype(int)
    return X, y, pd.Series(np.where(X[:, 0] > 0, "b", "a"))


def pipeline(pruner=None):
    columns = make_column_transformer(("passthrough", [0, 1]), ("passthrough", [2, 3]))
    return make_pipeline(columns, FunctionTransformer(), pruner or recorder())


GRID = {"sparsity": [0.5, 0.8]}
META_ESTIMATORS = {
    "Pipeline with a ColumnTransformer": lambda: pipeline(),
    "GridSearchCV": lambda: GridSearchCV(recorder(), GRID, cv=2),
    "GridSearchCV over a Pipeline": lambda: GridSearchCV(
        pipeline(), {"recorder__sparsity": [0.5, 0.8]}, cv=2
    ),
    "RandomizedSearchCV": lambda: RandomizedSearchCV(recorder(), GRID, n_iter=2, cv=2),
    "HalvingGridSearchCV": lambda: HalvingGridSearchCV(recorder(), GRID, cv=2, min_resources=150),
    "CalibratedClassifierCV": lambda: CalibratedClassifierCV(recorder(), cv=2),
    "TunedThresholdClassifierCV": lambda: TunedThresholdClassifierCV(recorder(), cv=2),
    "BaggingClassifier": lambda: BaggingClassifier(recorder(), n_estimators=2, random_state=0),
    "VotingClassifier": lambda: VotingClassifier([("a", recorder()), ("b", recorder())]),
}


@pytest.mark.parametrize("name", META_ESTIMATORS)
def test_routing_reaches_fit_without_a_request(rows, name):
    X, y, s = rows
    with config_context(enable_metadata_routing=True):
        fitted = META_ESTIMATORS[name]().fit(X, y, sensitive_features=s)
    assert accuracy_score(y, fitted.predict(X)) > 0.5


def test_routing_reaches_cross_validate_and_its_scorers(rows):
    X, y, s = rows
    with config_context(enable_metadata_routing=True):
        scores = cross_validate(
            recorder(),
            X,
            y,
            cv=2,
            params={"sensitive_features": s},
            scoring={"accuracy": "accuracy", "gap": make_fairness_scorer("demographic_parity")},
        )
    assert (scores["test_gap"] < 0).all() and (scores["test_accuracy"] > 0.5).all()


def test_stacking_hands_sensitive_features_to_a_final_estimator_that_takes_them(rows):
    # scikit-learn 1.9 hands fit's metadata to the final estimator unrouted: it must accept them.
    X, y, s = rows
    final = small(constraint="demographic_parity", tolerance=1.0, max_epochs=2)
    stack = StackingClassifier([("pruner", recorder())], final_estimator=final, cv=2)
    with config_context(enable_metadata_routing=True):
        stack.fit(X, y, sensitive_features=s)
    assert stack.final_estimator_.groups_.tolist() == ["a", "b"]
    assert accuracy_score(y, stack.predict(X)) > 0.5


def test_control_features_are_routed_too(rows):
    X, y, s = rows
    control = np.where(X[:, 2] > 0, "high", "low")
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            small(constraint="demographic_parity", tolerance=1.0, max_epochs=2), GRID, cv=2
        ).fit(X, y, sensitive_features=s, control_features=control)
    assert list(search.best_estimator_.multipliers_.index) == ["all, high", "all, low"]


def test_without_routing_fit_takes_sensitive_features(rows):
    X, y, s = rows
    fitted = [
        pipeline().fit(X, y, recorder__sensitive_features=s),
        GridSearchCV(recorder(), GRID, cv=2).fit(X, y, sensitive_features=s),
        RandomizedSearchCV(recorder(), GRID, n_iter=2, cv=2).fit(X, y, sensitive_features=s),
        GridSearchCV(pipeline(), {"recorder__sparsity": [0.5, 0.8]}, cv=2).fit(
            X, y, recorder__sensitive_features=s
        ),
    ]
    assert all(accuracy_score(y, estimator.predict(X)) > 0.5 for estimator in fitted)
    assert cross_validate(recorder(), X, y, cv=2, params={"sensitive_features": s})


def test_without_routing_scorers_take_a_column_or_a_callable(rows):
    X, y, s = rows
    frame = pd.DataFrame(X, columns=list("abcd")).assign(sex=s)
    pruner = small(constraint="demographic_parity", tolerance=1.0, max_epochs=2)
    scores = [
        cross_validate(
            pruner,
            frame,
            y,
            cv=2,
            params={"sensitive_features": s},
            scoring=make_fairness_scorer("demographic_parity", sensitive_features=sensitive),
        )["test_score"]
        for sensitive in ["sex", lambda X: s.loc[X.index]]
    ]
    np.testing.assert_array_equal(*scores)
    assert (scores[0] < 0).all()


# ------------------------------------------------------------------------------------ searches


class Mlp(nn.Module):
    def __init__(self, n_hidden=8):
        super().__init__()
        self.hidden = nn.Linear(4, n_hidden)
        self.output = nn.Linear(n_hidden, 1)

    def forward(self, X):
        return self.output(torch.relu(self.hidden(X)))


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_grid_search_over_pruning_fairness_and_network(rows):
    X, y, s = rows
    net = NeuralNetBinaryClassifier(Mlp, lr=0.1, max_epochs=3, verbose=0)
    search = GridSearchCV(
        small(estimator=net, constraint="demographic_parity", max_epochs=2),
        [
            {"sparsity": [0.5, 0.7], "tolerance": [0.9, 1.0]},
            {"fairness_weight": [0.0, 1.0], "tolerance": [None]},
            {"constraint": ["equalized_odds", "accuracy_parity"], "tolerance": [1.0]},
            {"estimator__lr": [0.01], "estimator__module__n_hidden": [4, 8], "tolerance": [1.0]},
        ],
        cv=2,
        error_score="raise",
    ).fit(X, y, sensitive_features=s)
    assert len(search.cv_results_["params"]) == 10
    assert not np.isnan(search.cv_results_["mean_test_score"]).any()


def test_refit_picks_the_sparsest_network_within_the_limits(rows):
    X, y, s = rows
    frame = pd.DataFrame(X, columns=list("abcd")).assign(sex=s)
    gap = make_fairness_scorer("demographic_parity", sensitive_features="sex")
    search = GridSearchCV(
        small(max_epochs=8, memory=MEMORY),
        {"sparsity": [0.3, 0.6, 0.9]},
        cv=2,
        scoring={"accuracy": "accuracy", "gap": gap},
        refit=sparsest_within(max_gap=1.0, max_accuracy_loss=1.0),
    ).fit(frame, y)
    assert search.best_params_ == {"sparsity": 0.9}
    assert search.best_estimator_.sparsity_ >= 0.9


@pytest.mark.slow
def test_results_do_not_depend_on_n_jobs(rows):
    X, y, s = rows
    results = []
    for n_jobs in (1, 2):
        search = GridSearchCV(
            small(constraint="demographic_parity", tolerance=1.0, memory=MEMORY),
            {"sparsity": [0.5, 0.9]},
            cv=2,
            n_jobs=n_jobs,
            scoring="neg_log_loss",
        ).fit(X, y, sensitive_features=s)
        results.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(*results)


# ---------------------------------------------------------------- weights, copies, warm starts


def test_class_weight_acts_as_sample_weights_do(rows):
    X, y, s = rows
    pruner = small(
        constraint="demographic_parity", tolerance=1.0, tolerance_on="training", max_epochs=20
    )
    weighted = clone(pruner).set_params(class_weight={0: 1.0, 1: 5.0})
    weighted.fit(X, y, sensitive_features=s)
    pruner.fit(X, y, sensitive_features=s, sample_weight=np.where(y == 1, 5.0, 1.0))
    np.testing.assert_array_equal(weighted.decision_function(X), pruner.decision_function(X))
    # ... in the rates as well as in the loss.
    weight = np.where(y == 1, 5.0, 1.0)
    rates = [
        np.average(weighted.predict(X)[s == group], weights=weight[s == group]) for group in "ab"
    ]
    assert weighted.violation_ == pytest.approx(abs(rates[0] - rates[1]) - 1.0, abs=1e-6)


def test_balanced_class_weight_selects_more_of_a_rare_class():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = (X[:, 0] + rng.normal(size=500) > 1.8).astype(int)
    balanced = small(class_weight="balanced").fit(X, y)
    assert balanced.predict(X).mean() > 2 * max(small().fit(X, y).predict(X).mean(), y.mean() / 2)


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda pruner: pickle.loads(pickle.dumps(pruner)),
        lambda pruner: _through_joblib(pruner),
    ],
    ids=["deepcopy", "pickle", "joblib"],
)
def test_copies_predict_the_same(fitted, table, duplicate):
    X = table[0][2000:]
    again = duplicate(fitted)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))


def _through_joblib(pruner):
    import io

    file = io.BytesIO()
    joblib.dump(pruner, file)
    file.seek(0)
    return joblib.load(file)


def test_clone_is_unfitted_and_refitting_starts_afresh(rows):
    X, y, _ = rows
    pruner = small().fit(X, y)
    assert not hasattr(clone(pruner), "network_")
    first = pruner.predict_proba(X)
    pruner.fit(X[:100], y[:100])
    np.testing.assert_array_equal(pruner.fit(X, y).predict_proba(X), first)


def test_warm_start_goes_on_from_the_last_network(rows):
    X, y, s = rows
    pruner = small(constraint="demographic_parity", tolerance=0.35, max_epochs=100)
    pruner.fit(X, y, sensitive_features=s)
    dense, encoder, multipliers = pruner.dense_estimator_, pruner.encoder_, pruner.multipliers_
    assert multipliers.to_numpy().any()
    pruner.set_params(warm_start=True, sparsity=0.8).fit(X, y, sensitive_features=s)
    assert pruner.dense_estimator_ is dense and pruner.encoder_ is encoder
    assert pruner.sparsity_ >= 0.8
    # The ramp starts where the first fit ended, not at a dense network.
    assert min(pruner.history_[:, "sparsity"]) > 0.5
    with pytest.raises(ValueError, match="warm_start=True"):
        pruner.fit(X, y + 3, sensitive_features=s)


def test_warm_start_of_an_unfitted_pruner_is_a_plain_fit(rows):
    X, y, _ = rows
    warm, plain = small(warm_start=True).fit(X, y), small().fit(X, y)
    np.testing.assert_array_equal(warm.predict_proba(X), plain.predict_proba(X))


# -------------------------------------------------------------------- inputs and what is shown


def test_feature_names_and_set_output(rows):
    X, y, _ = rows
    frame = pd.DataFrame(X, columns=list("abcd"))
    pruner = small().fit(frame, y)
    assert pruner.n_features_in_ == 4 and list(pruner.feature_names_in_) == list("abcd")
    names = pruner.get_feature_names_out()
    assert len(names) == pruner.transform(frame).shape[1] and names[0] == "fairpruner0"
    assert isinstance(pruner.set_output(transform="pandas").transform(frame), pd.DataFrame)
    assert isinstance(pruner.set_output(transform="polars").transform(frame), pl.DataFrame)
    with pytest.raises(ValueError, match="feature names should match"):
        pruner.predict(frame[["b", "a", "c", "d"]])


def test_polars_and_pandas_give_the_same_fit():
    X, y, s = make_biased_classification(400, random_state=0)
    columns = {name: X[name].astype(object).where(X[name].notna(), None).tolist() for name in X}
    frames = [X, pl.DataFrame(columns, strict=False)]
    pruner = small(constraint="demographic_parity", tolerance=1.0)
    outputs = [
        clone(pruner).fit(frame, y, sensitive_features=s["sex"]).predict_proba(frame)
        for frame in frames
    ]
    np.testing.assert_array_equal(*outputs)


def test_lists_and_float32_fit_as_arrays_do(rows):
    X, y, _ = rows
    expected = small().fit(X, y).predict(X)
    np.testing.assert_array_equal(small().fit(X.tolist(), y.tolist()).predict(X), expected)
    single = small().fit(X.astype(np.float32), y).predict(X)
    assert (single == expected).mean() > 0.95


def test_tags():
    tags = FairPruner().__sklearn_tags__()
    assert tags.estimator_type == "classifier" and tags.classifier_tags.multi_class
    assert tags.input_tags.allow_nan and not tags.input_tags.sparse
    assert tags.target_tags.required
    assert not FairPruner(estimator=Mlp).__sklearn_tags__().input_tags.allow_nan


def test_html_representation_links_to_documentation():
    shown = FairPruner(sparsity=0.8)._repr_html_()
    assert "FairPruner" in shown and "sparsity" in shown
    assert "https://arxiv.org/abs/2312.10181" in shown


# ------------------------------------------------------------------- callbacks of scikit-learn


def test_progress_bar_of_scikit_learn(rows, capsys):
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar needs rich")
    X, y, _ = rows
    small().set_callbacks(ProgressBar()).fit(X, y)
    shown = capsys.readouterr().out
    assert "FairPruner - fit" in shown and "pruning" in shown and "dense training" in shown


def test_scoring_monitor_sees_every_epoch_of_pruning(rows):
    X, y, _ = rows
    monitor = ScoringMonitor(scoring="accuracy")
    pruner = small().set_callbacks(monitor).fit(X, y)
    log = pd.DataFrame(monitor.get_logs().data)
    epochs = log[log["task_name"] == "epoch"]["accuracy"]
    assert len(epochs) == 5 and epochs.between(0.5, 1.0).all()
    assert log[log["task_name"] == "fit"]["accuracy"].item() == pruner.score(X, y)


class StopAfter:
    """A callback of scikit-learn that stops each phase after some epochs."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs
        self.torn_down = 0

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch" and context.task_id + 1 >= self.n_epochs


def test_a_callback_of_scikit_learn_can_stop_both_phases(rows):
    X, y, _ = rows
    stop = StopAfter(3)
    pruner = small().set_callbacks(stop).fit(X, y)
    assert len(pruner.history_) == 3 and len(pruner.dense_estimator_.history) == 3
    assert pruner.sparsity_ >= 0.5 and stop.torn_down == 1


def test_callbacks_are_torn_down_when_fit_fails(rows):
    X, y, _ = rows
    stop = StopAfter(3)
    pruner = small().set_callbacks(stop)
    with pytest.raises(ValueError, match="one class"):
        pruner.fit(X, np.zeros(300))
    assert stop.torn_down == 1 and not hasattr(pruner, "n_features_in_")
    assert pickle.loads(pickle.dumps(small().set_callbacks().fit(X, y))).score(X, y) > 0.5


def test_callbacks_reach_through_a_search(rows):
    X, y, _ = rows
    monitor = ScoringMonitor(scoring="accuracy")
    pruner = small(max_epochs=2, memory=MEMORY).set_callbacks(monitor)
    GridSearchCV(pruner, GRID, cv=2).fit(X, y)
    log = pd.DataFrame(monitor.get_logs("all")[-1].data)
    assert (log["task_name"] == "epoch").sum() >= 2


def test_is_a_base_estimator_that_prints_only_what_was_set():
    assert isinstance(FairPruner(), BaseEstimator)
    assert repr(FairPruner(sparsity=0.8)) == "FairPruner(sparsity=0.8)"
    assert repr(LogisticRegression()) == "LogisticRegression()"
