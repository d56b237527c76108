"""Fair competitors: what they hold, what they need, and that they are fairlearn's methods."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.adversarial._pytorch_engine import PytorchEngine
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import EqualizedOdds, ExponentiatedGradient
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from fairprune_sk import FairPruner
from fairprune_sk.benchmarks.competitors import (
    BASES,
    COMPETITORS,
    CONSTRAINTS,
    Adversarial,
    DenseNetwork,
    HeldOutThresholds,
    MatrixEncoder,
    Reduction,
    RelaxedThresholds,
    Thresholds,
    Unconstrained,
    adversarial,
    families,
    reduction,
)

GAPS = {
    "equalized_odds": equalized_odds_difference,
    "demographic_parity": demographic_parity_difference,
}


@pytest.fixture(scope="module")
def rows(table):
    """1,000 rows, with the sensitive column among the features, and missing values."""
    X, y, s = table
    X = X[:1000].assign(sex=s["sex"][:1000])
    assert X.isna().any().any()
    return X, y[:1000], s["sex"][:1000]


@pytest.fixture(autouse=True, scope="module")
def _no_search():
    """Leave out the choice of boosting's leaves, which takes most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "_LEAVES", [4])
        yield


@pytest.fixture(scope="module")
def plain_gaps(rows):
    X, y, s = rows
    gaps = {}
    for base in BASES:
        y_pred = Unconstrained(base, random_state=0).fit(X, y).predict(X)
        for name, gap in GAPS.items():
            gaps[base, name] = gap(y, y_pred, sensitive_features=s)
    return gaps


@pytest.mark.parametrize(
    ("base", "constraint"),
    [
        ("logistic", "equalized_odds"),
        ("logistic", "demographic_parity"),
        ("boosting", "equalized_odds"),
        ("mlp", "demographic_parity"),
    ],
)
def test_reductions_hold_the_constraint_on_the_training_rows(rows, plain_gaps, base, constraint):
    X, y, s = rows
    max_iter = 3 if base == "mlp" else None
    fair = Reduction(base, constraint=constraint, tolerance=0.03, max_iter=max_iter, random_state=0)
    y_pred = fair.fit(X, y, sensitive_features=s).predict(X)
    gap = GAPS[constraint](y, y_pred, sensitive_features=s)
    assert plain_gaps[base, constraint] > 0.15
    # Draws add noise to the 0.03; few refits of the network stop before the bound is reached.
    assert gap < (0.07 if base != "mlp" else 0.6 * plain_gaps[base, constraint])
    assert (y_pred == y).mean() > 0.65
    assert base == "mlp" or fair.converged_


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("base", BASES)
def test_thresholds_hold_the_constraint_on_the_training_rows(rows, plain_gaps, base, constraint):
    X, y, s = rows
    fair = Thresholds(base, constraint=constraint, tolerance=0.03, random_state=0)
    fair.fit(X, y, sensitive_features=s)
    y_pred = fair.predict(X, sensitive_features=s)
    assert GAPS[constraint](y, y_pred, sensitive_features=s) < 0.07
    assert (y_pred == y).mean() > 0.65


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_the_adversary_lowers_the_gap(rows, plain_gaps, constraint):
    X, y, s = rows
    fair = Adversarial(constraint=constraint, random_state=0)
    y_pred = fair.fit(X, y, sensitive_features=s).predict(X)
    gap = GAPS[constraint](y, y_pred, sensitive_features=s)
    assert gap < 0.6 * plain_gaps["mlp", constraint]
    assert (y_pred == y).mean() > 0.65


def test_epochs_of_the_adversary(rows, monkeypatch):
    X, y, s = rows
    seen = {}

    def stop(**options):
        seen.update(options)
        raise StopIteration

    monkeypatch.setattr(adversarial, "AdversarialFairnessClassifier", stop)
    for batch_size, epochs in [(1000, 700), (100, 70), (10, 20)]:
        fair = Adversarial(batch_size=batch_size)
        with pytest.raises(StopIteration):
            fair.fit(X, y, sensitive_features=s)
        assert seen["epochs"] == epochs


def test_without_an_adversary_the_predictor_only_predicts(rows):
    X, y, s = rows
    fair = Adversarial(alpha=0.0, max_epochs=20, random_state=0)
    y_pred = fair.fit(X, y, sensitive_features=s).predict(X)
    logistic = Unconstrained("logistic").fit(X, y).score(X, y)
    assert (y_pred == y).mean() > logistic - 0.03


# --- as fairlearn does it ---


def test_a_reduction_is_the_one_of_fairlearn(rows):
    X, y, s = rows
    ours = Reduction("logistic", tolerance=0.04, random_state=3).fit(X, y, sensitive_features=s)
    encoded = MatrixEncoder().fit(X).transform(X)
    theirs = ExponentiatedGradient(
        LogisticRegression(max_iter=1000), EqualizedOdds(difference_bound=0.02)
    )
    with reduction._fairlearn():
        theirs.fit(encoded, y, sensitive_features=s)
    expected = theirs.predict(encoded, random_state=ours._seed)
    np.testing.assert_array_equal(ours.predict(X), expected)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_thresholds_are_those_of_fairlearn(rows, constraint):
    X, y, s = rows
    ours = Thresholds("logistic", constraint=constraint, tolerance=0.02, random_state=3)
    ours.fit(X, y, sensitive_features=s)
    encoded = MatrixEncoder().fit(X).transform(X)
    theirs = ThresholdOptimizer(
        estimator=LogisticRegression(max_iter=1000),
        constraints=constraint,
        tol=0.02 if constraint == "demographic_parity" else None,
        predict_method="predict_proba",
    ).fit(encoded, y, sensitive_features=s)
    np.testing.assert_array_equal(
        ours.predict(X, sensitive_features=s),
        theirs.predict(encoded, sensitive_features=s, random_state=ours._seed),
    )


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("hidden", [(), (8,)])
def test_the_adversarial_gradient(rows, monkeypatch, constraint, hidden):
    """The same as fairlearn's where its inner product is one: a single row of weights."""
    X, y, s = rows

    class Theirs(adversarial._AdversarialEngine):
        train_step = PytorchEngine.train_step

    def weights(engine):
        monkeypatch.setattr(adversarial, "_AdversarialEngine", engine)
        fair = Adversarial(
            constraint=constraint, hidden=hidden, max_epochs=1, batch_size=1000, random_state=0
        )
        # No dropout, so that both see the same network.
        monkeypatch.setattr(adversarial, "_DROPOUT", 0.0)
        fair.fit(X, y, sensitive_features=s)
        engine = fair.adversarial_.backendEngine_
        models = engine.predictor_model, engine.adversary_model
        return [p.detach() for model in models for p in model.parameters()]

    ours, theirs = weights(adversarial._AdversarialEngine), weights(Theirs)
    same = all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
    assert same == (hidden == ())


# --- the network ---


def test_the_dense_network_is_that_of_the_pruner(table):
    X, y, _ = table
    pruner = FairPruner(constraint=None, sparsity=0.5, max_epochs=1, random_state=0)
    for n in (800, 2500):  # with and without merged rows
        pruner.fit(X[:n], y[:n])
        network = DenseNetwork(random_state=0).fit(X[:n], y[:n])
        dense = pruner._fitted.scores(X, dense=True)
        # In single precision there, in double here.
        np.testing.assert_allclose(network.decision_function(X), dense, atol=1e-5, rtol=1e-5)
        np.testing.assert_array_equal(network.predict(X), pruner.predict_dense(X))


def test_weights_of_the_dense_network_are_repeated_rows(table):
    X, y, _ = table
    X, y, weight = X[:400], y[:400], np.tile([1, 2], 200)
    weighted = DenseNetwork(random_state=0).fit(X, y, sample_weight=weight)
    repeated = DenseNetwork(random_state=0).fit(X.iloc[index := np.repeat(range(400), weight)],
                                                y[index])  # fmt: skip
    np.testing.assert_allclose(
        weighted.decision_function(X), repeated.decision_function(X), atol=1e-4
    )


def test_relaxed_thresholds_spend_their_tolerance(rows):
    X, y, s = rows
    exact, loose = (
        RelaxedThresholds("logistic", tolerance=tolerance, random_state=0)
        .fit(X, y, sensitive_features=s)
        .thresholds_
        for tolerance in (0.0, 0.1)
    )
    # Of the mixtures, before any draw.
    assert exact.equalized_odds_violation() == pytest.approx(0, abs=1e-4)
    assert loose.equalized_odds_violation() == pytest.approx(0.1, abs=1e-4)
    assert loose.cost() < exact.cost()


def test_held_out_thresholds_are_within_the_tolerance_where_they_were_chosen(rows):
    X, y, s = rows
    for constraint, gap in GAPS.items():
        fair = HeldOutThresholds("logistic", constraint=constraint, random_state=0)
        predictor = fair.fit(X, y, sensitive_features=s).predictor_
        held = predictor.validation_data
        assert len(held["target"]) == round(0.3 * len(y))
        chosen = predictor.predict(held)
        assert gap(held["target"], chosen, sensitive_features=held["groups"]) <= 0.05 + 1e-9
        assert 0.1 < chosen.mean() < 0.9


# --- what they take and give ---


@pytest.mark.parametrize("name", COMPETITORS)
def test_all_take_the_same_and_are_reproducible(rows, name):
    X, y, s = rows
    X, X_new, y = X[:300], X[300:], np.where(y[:300] == 1, "yes", "no")
    s, s_new = s[:300], s[300:]
    competitor = clone(COMPETITORS[name]).set_params(random_state=0)
    if "max_iter" in competitor.get_params():
        competitor.set_params(max_iter=1)
    if "max_epochs" in competitor.get_params():
        competitor.set_params(max_epochs=3)
    state = torch.random.get_rng_state()
    predictions = []
    # Another seed need not change a mixture of one classifier.
    seeds = (0, 0) if name.startswith("exponentiated") else (0, 0, 1)
    for seed in seeds:
        fair = clone(competitor).set_params(random_state=seed)
        fair.fit(X, y, sensitive_features=s)
        needed = {"sensitive_features": s_new} if fair.needs_sensitive_features else {}
        predictions.append(fair.predict(X_new, **needed))
        # What a caller passes to all of them alike.
        again = fair.predict(X_new, sensitive_features=s_new)
        np.testing.assert_array_equal(predictions[-1], again)
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(predictions[0], predictions[1])
    assert len(seeds) == 2 or (predictions[0] != predictions[2]).any()
    assert set(predictions[0]) == {"yes", "no"} == set(fair.classes_)
    assert list(fair.feature_names_in_) == list(X)


def test_groups_may_be_given_in_many_forms(rows):
    X, y, s = rows
    forms = [s, s.tolist(), s.to_numpy(), pd.DataFrame({"sex": s}), {"sex": s}]
    predictions = [
        Thresholds("logistic", random_state=0)
        .fit(X, y, sensitive_features=form)
        .predict(X, sensitive_features=form)
        for form in forms
    ]
    for other in predictions[1:]:
        np.testing.assert_array_equal(predictions[0], other)


def test_arrays_and_unseen_categories(rows):
    X, y, s = rows
    numbers = X.select_dtypes("number").to_numpy()
    for base in BASES[:2]:
        fair = Reduction(base, max_iter=2).fit(numbers, y, sensitive_features=s)
        assert fair.predict(numbers).shape == y.shape
        changed = X.assign(occupation="astronaut", district=None)
        assert Unconstrained(base).fit(X, y).predict(changed).shape == y.shape


def test_boosting_takes_columns_of_many_categories(rows):
    X, y, _ = rows
    X = X.assign(street=[f"street {i % 700}" for i in range(len(X))])
    assert Unconstrained("boosting", random_state=0).fit(X, y).score(X, y) > 0.65


def test_the_leaves_of_boosting_are_chosen(rows, monkeypatch):
    X, y, _ = rows
    monkeypatch.setattr(families, "_LEAVES", [2, 31])
    boosting = Unconstrained("boosting", random_state=0).fit(X, y).classifier_
    assert boosting.max_leaf_nodes == 2  # 31 overfit a thousand rows
    # Too few rows of a class for three folds.
    few = np.r_[np.flatnonzero(y == 0)[:60], np.flatnonzero(y == 1)[:2]]
    boosting = Unconstrained("boosting", random_state=0).fit(X.iloc[few], y[few]).classifier_
    assert boosting.max_leaf_nodes == 31


def test_encoded_columns():
    X = pd.DataFrame({"job": ["a", "b", None, "a"], "n": [1.0, np.nan, 3.0, 5.0]})
    encoded = MatrixEncoder().fit(X).transform(X)
    # n, whether it is missing; a, b, missing.
    assert encoded.shape == (4, 5)
    np.testing.assert_allclose(encoded[:, :2].mean(0), 0, atol=1e-12)
    np.testing.assert_array_equal(encoded[:, 2:].sum(1), 1)
    unseen = pd.DataFrame({"job": ["c"], "n": [3.0]})
    assert not MatrixEncoder().fit(X).transform(unseen)[:, 2:].any()
    assert MatrixEncoder(one_hot=False).fit(X).transform(unseen)[0, 1] == -1


# --- errors ---


@pytest.mark.parametrize(
    ("competitor", "message"),
    [
        (Reduction("forest"), "base='forest'.*'logistic', 'boosting', 'mlp'"),
        (Reduction(constraint="parity"), "constraint='parity'.*'equalized_odds'"),
        (Reduction(tolerance=0), r"tolerance=0, .*\(0, 1\]"),
        (Reduction(max_iter=0), "max_iter=0, .*None or an integer"),
        (Thresholds(tolerance=1.2), "tolerance=1.2, but expected a number in"),
        (Adversarial(alpha=-1.0), "alpha=-1.0"),
        (Adversarial(max_epochs=1.5), "max_epochs=1.5"),
        (Adversarial(hidden=(0,)), "hidden"),
    ],
)
def test_parameters_are_checked(rows, competitor, message):
    X, y, s = rows
    with pytest.raises(ValueError, match=message):
        competitor.fit(X, y, sensitive_features=s)


def test_inputs_are_checked(rows):
    X, y, s = rows
    fair = Thresholds("logistic")
    with pytest.raises(ValueError, match="one group, 'all'"):
        fair.fit(X, y, sensitive_features=["all"] * len(y))
    with pytest.raises(ValueError, match="no sensitive_features"):
        fair.fit(X, y, sensitive_features=None)
    with pytest.raises(ValueError, match="3 classes"):
        fair.fit(X, np.arange(len(y)) % 3, sensitive_features=s)
    with pytest.raises(ValueError, match="at least one row"):
        fair.fit(X[:0], y[:0], sensitive_features=s[:0])
    fair.fit(X, y, sensitive_features=s)
    with pytest.raises(ValueError, match="Thresholds needs the group"):
        fair.predict(X)
    with pytest.raises(ValueError, match=r"groups \['other'\] that have no threshold"):
        fair.predict(X, sensitive_features=["other"] * len(X))
    with pytest.raises(ValueError, match="feature names"):
        fair.predict(X.drop(columns="age"), sensitive_features=s)


def test_competitors_have_what_a_comparison_sets():
    for name, competitor in COMPETITORS.items():
        parameters = inspect.signature(type(competitor)).parameters
        assert {"constraint", "random_state"} <= set(parameters), name
        knows_groups = name.startswith(("threshold", "error_parity"))
        assert competitor.needs_sensitive_features == knows_groups
        json.dumps(competitor.get_params())
