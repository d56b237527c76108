"""FairPruner as a user runs it."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import random
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from dense import MEMORY
from fairlearn.metrics import equalized_odds_difference
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

import fairprune_sk
from fairprune_sk import (
    BilevelSolver,
    CollapseWarning,
    ConstraintNotMetWarning,
    FairPruner,
    SmallGroupWarning,
)
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fairness.constraints import CONSTRAINTS, DemographicParity
from fairprune_sk.fitting.pruning import PruningNet, auto_epochs
from fairprune_sk.masks.granularity import Neuron

# A few steps prune a network that a small table holds back to nothing: not what is looked at.
pytestmark = pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")


class Mlp(nn.Module):
    """A module as a user writes it."""

    def __init__(self, n_features=5, n_outputs=1, hidden=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden), nn.ReLU(), nn.Linear(hidden, n_outputs)
        )

    def forward(self, X):
        return self.layers(X)


class Probabilities(Mlp):
    """Two probabilities, as NLLLoss in skorch's classifier expects them."""

    def __init__(self, n_features=5):
        super().__init__(n_features, 2)

    def forward(self, X):
        return super().forward(X).softmax(dim=-1)


@pytest.fixture(scope="module")
def numbers():
    """400 rows of five numbers, with two groups that differ in the first."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 200)
    X = rng.normal(size=(400, 5)) + np.outer(group, [1, 0, 0, 0, 0])
    y = (X[:, 0] + X[:, 1] + 0.5 * rng.normal(size=400) > 0.5).astype(int)
    return X, y, group


def quick(**kwargs):
    options = {"max_epochs": 40, "random_state": 0, "tolerance": 0.2, "memory": MEMORY}
    options["tolerance_on"] = "training"  # one fit, not three
    return FairPruner(**options | kwargs)


# ------------------------------------------------------------------------------- what fit gives


def test_a_dozen_groups_leave_the_network_standing():
    # Of 2,000 rows, the smallest group has some 50.
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, 13)
    s = rng.choice(12, 3000, p=share / share.sum())
    X = rng.normal(size=(3000, 4)) + np.outer(np.cos(s), [0.5, 0.5, 0, 0])
    noise = 0.5 * rng.logistic(size=3000)
    y = (X[:, 0] + X[:, 2] + 0.7 * np.sin(s) + noise > 0).astype(int)
    pruner = FairPruner(tolerance_on="training", random_state=0, memory=MEMORY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNotMetWarning)
        warnings.simplefilter("ignore", SmallGroupWarning)
        warnings.simplefilter("error", CollapseWarning)
        pruner.fit(X[:2000], y[:2000], sensitive_features=s[:2000])
    X, y = X[2000:], y[2000:]
    dense = balanced_accuracy_score(y, pruner.predict_dense(X))
    assert balanced_accuracy_score(y, pruner.predict(X)) > dense - 0.06
    assert pruner.train_gap_ < 0.12


def test_one_weight_in_two_hundred_leaves_the_network_standing():
    X, y, s = make_biased_classification(4000, random_state=1)
    X, X_new, y, y_new = X[:3000], X[3000:], y[:3000], y[3000:]
    pruner = FairPruner(sparsity=0.995, tolerance_on="training", random_state=0, memory=MEMORY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNotMetWarning)
        warnings.simplefilter("error", CollapseWarning)
        pruner.fit(X, y, sensitive_features=s["sex"][:3000])
    dense = balanced_accuracy_score(y_new, pruner.predict_dense(X_new))
    assert balanced_accuracy_score(y_new, pruner.predict(X_new)) > dense - 0.06
    with pytest.raises(ValueError, match="allows at most 0.99"):
        pruner.set_params(sparsity=0.999).fit(X, y, sensitive_features=s["sex"][:3000])


def test_fitted_attributes(fitted, table):
    X, _, s = table
    assert fitted.n_features_in_ == X.shape[1]
    assert list(fitted.feature_names_in_) == list(X.columns)
    assert list(fitted.groups_) == sorted(s["sex"].unique())
    assert list(fitted.classes_) == [0, 1]
    assert isinstance(fitted.network_, nn.Module)
    assert fitted.multipliers_.shape == (2, 2)
    # The groups are held to the mean of both, from either side.
    assert (fitted.multipliers_.prod(axis=1) <= 0).all()
    assert fitted.n_iter_ == 150
    assert len(fitted.history_) == 150
    assert fitted.sparsity_ == fitted.history_[-1, "sparsity"]


def test_sparsity_is_counted_in_weights(fitted):
    dense = {n: p for n, p in fitted.dense_estimator_.module_.named_parameters() if p.ndim >= 2}
    assert {n: p.shape for n, p in dense.items()} == {n: m.shape for n, m in fitted.masks_.items()}
    total = sum(p.numel() for p in dense.values())
    assert 0.9 <= fitted.sparsity_ < 0.9 + 1 / total
    kept = sum(int(m.sum()) for m in fitted.masks_.values())
    left = sum(int(p.count_nonzero()) for p in fitted.network_.parameters() if p.ndim >= 2)
    assert left <= kept  # units that did nothing any more have gone as well
    assert all(mask.any() for mask in fitted.masks_.values())


@pytest.mark.parametrize("granularity", ["unstructured", "neuron", Neuron("global")])
def test_the_network_is_smaller_and_predicts_what_the_masked_one_does(numbers, granularity):
    X, y, s = numbers
    pruner = quick(granularity=granularity, sparsity=0.8, tolerance=1.0)
    pruner.fit(X, y, sensitive_features=s)
    full = pruner._fitted.masked_network()  # in the size of the dense network
    masked = dataclasses.replace(pruner._fitted, network=full)
    np.testing.assert_allclose(pruner.decision_function(X), masked.scores(X), atol=1e-5, rtol=1e-5)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (pruner.network_, full)]
    assert pruner.sparsity_ >= 0.8
    if granularity == "neuron":
        assert sizes[0] < 0.22 * sizes[1]
        assert all(p.any() for p in pruner.network_.parameters() if p.ndim >= 2)
    else:
        assert sizes[0] < sizes[1]
    again = pickle.loads(pickle.dumps(pruner))
    np.testing.assert_array_equal(again.predict_proba(X), pruner.predict_proba(X))


def test_a_fit_goes_to_files_and_reports(numbers, tmp_path):
    X, y, s = numbers
    pruner = quick(granularity="neuron", sparsity=0.7, tolerance=1.0)
    pruner.fit(X, y, sensitive_features=s)
    pruner.save(tmp_path / "pruner.fairprune")
    again = fairprune_sk.load(tmp_path / "pruner.fairprune")
    np.testing.assert_array_equal(again.predict_proba(X), pruner.predict_proba(X))
    pruner.to_onnx(tmp_path / "pruner.onnx", X=X)
    pruner.to_torch_export(tmp_path / "pruner.pt2")
    assert (tmp_path / "pruner.onnx").stat().st_size and (tmp_path / "pruner.pt2").stat().st_size
    report = pruner.cost_report(X, batch_sizes=(1, 64), min_run_time=0.01)
    assert "multiply" in str(report).lower()


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_columns_that_the_network_no_longer_reads_are_named():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(500, 6)), columns=list("abcdef")).assign(
        g=rng.choice(["x", "y"], 500), h=rng.choice([True, False], 500)
    )
    y = (X["a"] + X["b"] > 0).astype(int)
    pruner = quick(constraint=None, sparsity=0.995, max_epochs=100).fit(X, y)
    assert {"a", "b"} <= set(pruner.selected_features_) < set(X.columns)
    mask = pruner.get_support()
    assert X.columns[mask].tolist() == list(pruner.selected_features_)
    assert pruner.get_support(indices=True).tolist() == np.flatnonzero(mask).tolist()
    other = X.copy()
    for name in X.columns[~mask]:
        other[name] = rng.permutation(other[name])
    np.testing.assert_array_equal(pruner.predict_proba(other), pruner.predict_proba(X))


def test_columns_are_named_for_other_networks_too(numbers):
    X, y, _ = numbers
    pruner = quick(estimator=Mlp, constraint=None, sparsity=0.9, max_epochs=60).fit(X, y)
    unread = np.flatnonzero(~pruner.get_support())
    other = X.copy()
    other[:, unread] = 100.0
    np.testing.assert_array_equal(pruner.predict_proba(other), pruner.predict_proba(X))
    for column in pruner.get_support(indices=True):
        other = X.copy()
        other[:, column] += 3.0
        assert (pruner.predict_proba(other) != pruner.predict_proba(X)).any()


def test_a_pattern_holds_in_the_masks(numbers):
    X, y, s = numbers
    pruner = quick(granularity="2:4", sparsity=0.5, tolerance=1.0)
    pruner.fit(X, y, sensitive_features=s)
    assert pruner.network_.hidden[0].weight.shape == pruner.masks_["hidden.0.weight"].shape
    for mask in pruner.masks_.values():
        blocks = torch.nn.functional.pad(mask, (0, -mask.shape[1] % 4)).unflatten(1, (-1, 4))
        assert int(blocks.sum(-1).max()) <= 2


@pytest.mark.parametrize(
    ("granularity", "sparsity", "message"),
    [
        ("neuron", 0.9999, r"at most 0\.99\d+: every layer keeps at least one unit"),
        ("2:4", 0.4, "alone removes 0.5"),
    ],
)
def test_sparsities_out_of_reach_are_refused(numbers, no_training, granularity, sparsity, message):
    X, y, s = numbers
    with pytest.raises(ValueError, match=message):
        quick(granularity=granularity, sparsity=sparsity).fit(X, y, sensitive_features=s)


def test_violation_is_the_gap_on_the_training_rows(fitted, table):
    X, y, s = table
    X, y, s = X[:2000], y[:2000], s["sex"][:2000]
    gap = equalized_odds_difference(y, fitted.predict(X), sensitive_features=s)
    assert fitted.violation_ == pytest.approx(gap - 0.05, abs=1e-6)
    assert fitted.violation_ <= 0


def test_the_gap_is_cut_on_other_rows_too(fitted, table):
    X, y, s = table
    X, y, s = X[2000:], y[2000:], s["sex"][2000:]
    dense = equalized_odds_difference(y, fitted.predict_dense(X), sensitive_features=s)
    pruned = equalized_odds_difference(y, fitted.predict(X), sensitive_features=s)
    assert pruned < dense
    accuracy = (fitted.predict_dense(X) == y).mean()
    assert fitted.score(X, y) > accuracy - 0.05


def test_outputs_agree_with_each_other(fitted, table):
    X, y, _ = table
    X = X[2000:2100]
    logits = fitted.decision_function(X)
    proba = fitted.predict_proba(X)
    assert proba.shape == (100, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.log(proba[:, 1] / proba[:, 0]), logits, rtol=1e-6)
    assert (fitted.predict(X) == (proba[:, 1] > 0.5)).all()
    assert fitted.score(X, y[2000:2100]) == (fitted.predict(X) == y[2000:2100]).mean()
    hidden = fitted.transform(X)
    assert hidden.shape == (100, fitted.network_.output.in_features)
    assert len(fitted.get_feature_names_out()) == hidden.shape[1]
    output = fitted.network_.output
    with torch.no_grad():
        np.testing.assert_allclose(output(torch.from_numpy(hidden))[:, 0], logits, atol=1e-5)


def test_a_copy_predicts_the_same(fitted, table):
    X = table[0][:50]
    for twin in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(twin.decision_function(X), fitted.decision_function(X))


def test_knows_the_rows_it_was_fitted_on(fitted, table):
    X = table[0]
    assert fitted.was_fitted_on(X[:2000])
    assert not fitted.was_fitted_on(X[2000:])


def test_two_fits_are_identical_and_leave_the_global_generators_alone(numbers):
    X, y, s = numbers
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()
    logits = [
        quick(memory=None).fit(X, y, sensitive_features=s).decision_function(X) for _ in range(2)
    ]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])
    assert random.getstate() == before[2]
    other = quick(random_state=1).fit(X, y, sensitive_features=s)
    assert not np.array_equal(other.decision_function(X), logits[0])


@pytest.mark.parametrize(
    "labels", [[0, 1], [-1, 1], ["no", "yes"], [False, True], [2.0, 7.0]], ids=str
)
def test_any_two_labels(numbers, labels):
    X, y, s = numbers
    labels = np.array(labels)
    pruner = quick().fit(X, labels[y], sensitive_features=s)
    assert list(pruner.classes_) == list(labels)
    np.testing.assert_array_equal(
        pruner.predict(X) == labels[1], quick().fit(X, y, sensitive_features=s).predict(X) == 1
    )


@pytest.mark.parametrize("constraint", [*CONSTRAINTS, DemographicParity()])
@pytest.mark.parametrize("tolerance", [0.1, None])
def test_every_constraint_in_both_modes(numbers, constraint, tolerance):
    X, y, s = numbers
    pruner = quick(constraint=constraint, tolerance=tolerance, max_epochs=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNotMetWarning)
        pruner.fit(X, y, sensitive_features=s)
    assert pruner.sparsity_ >= 0.9
    assert (pruner.violation_ is None) == (tolerance is None)


def test_several_sensitive_columns_are_their_intersections(table):
    X, y, s = table
    pruner = quick(max_epochs=3, tolerance=1.0, min_group_count=2)
    pruner.fit(X[:1500], y[:1500], sensitive_features=s[:1500])
    assert len(pruner.groups_) == 6
    assert set(pruner.groups_) == set(s.itertuples(index=False, name=None))
    assert pruner.multipliers_.shape == (2, 6)


@pytest.mark.parametrize("kwargs", [{"constraint": None}, {"fairness_weight": 0.0}])
def test_without_fairness_no_groups_are_needed(numbers, kwargs):
    X, y, s = numbers
    pruner = quick(**kwargs).fit(X, y)
    assert pruner.groups_ is None and pruner.violation_ is None and pruner.multipliers_ is None
    with_groups = quick(**kwargs).fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(pruner.predict(X), with_groups.predict(X))


@pytest.fixture(scope="module")
def noisy():
    """1,000 rows with noisy labels, which a small network cannot learn by heart."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 500)
    X = rng.normal(size=(1000, 5)) + np.outer(group, [1.5, 0, 0, 0, 0])
    y = (X[:, 0] + X[:, 1] + 2.0 * rng.normal(size=1000) > 0.75).astype(int)
    return X, y, group


def test_epochs_are_as_many_as_the_table_needs():
    assert [auto_epochs(n_batches) for n_batches in (1, 3, 100, 200, 1000)] == [400, 134, 32, 20, 8]


def test_a_larger_weight_never_widens_the_gap_in_penalty_mode(noisy):
    X, y, s = noisy

    def gap(weight, seed):
        pruner = FairPruner(
            Mlp,
            sparsity=0.5,
            tolerance=None,
            fairness_weight=weight,
            max_epochs=200,
            memory=MEMORY,
            random_state=seed,
        )
        pruner.fit(X, y, sensitive_features=s)
        return equalized_odds_difference(y, pruner.predict(X), sensitive_features=s)

    means = [np.mean([gap(weight, seed) for seed in range(5)]) for weight in (0.0, 0.3, 1.0)]
    assert means[0] >= means[1] >= means[2]
    assert means[2] < 0.5 * means[0]


def test_to_overall_bounds_the_gap_to_the_pooled_rate(numbers):
    X, y, s = numbers
    pruner = quick(gap_method="to_overall", tolerance=0.1, max_epochs=100)
    pruner.fit(X, y, sensitive_features=s)
    gap = equalized_odds_difference(y, pruner.predict(X), sensitive_features=s, method="to_overall")
    assert pruner.violation_ == pytest.approx(gap - 0.1, abs=1e-6)


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_sample_weights_change_the_fit_and_equal_ones_do_not(noisy):
    X, y, s = noisy
    pruner = quick(estimator=Mlp, sparsity=0.5, tolerance=1.0, max_epochs=50)
    plain = pruner.fit(X, y, sensitive_features=s).decision_function(X)
    pruner.fit(X, y, sensitive_features=s, sample_weight=np.full(1000, 3.0))
    np.testing.assert_allclose(pruner.decision_function(X), plain, atol=1e-4)
    pruner.fit(X, y, sensitive_features=s, sample_weight=np.where(y == 1, 5.0, 1.0))
    assert (pruner.decision_function(X) > 0).mean() > (plain > 0).mean() + 0.2


@pytest.mark.filterwarnings("ignore:'same'.*constant:fairprune_sk.SuspectColumnWarning")
def test_dataframes_need_no_preparation():
    rng = np.random.default_rng(0)
    n = 300
    X = pd.DataFrame(
        {
            "amount": np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(size=n)),
            "job": rng.choice(["a", "b", None], n),
            "region": pd.Categorical(rng.choice(["n", "s"], n)),
            "married": rng.integers(0, 2, n).astype(bool),
            "same": 1.0,
        },
        index=rng.permutation(n),
    )
    y = pd.Series(rng.choice(["bad", "good"], n), index=X.index)
    s = pd.Series(rng.choice(["x", "y"], n), index=X.index + n, name="sex")
    pruner = quick(tolerance=1.0).fit(X, y, sensitive_features=s)
    assert set(pruner.predict(X)) <= {"bad", "good"}
    assert np.isfinite(pruner.decision_function(X)).all()


@pytest.mark.parametrize("n", [20, 50])
def test_few_rows_fit(n):
    rng = np.random.default_rng(0)
    X, y, s = rng.normal(size=(n, 3)), np.arange(n) % 2, np.arange(n) // 2 % 2
    pruner = quick(min_group_count=1, tolerance=1.0).fit(X, y, sensitive_features=s)
    assert pruner.predict(X).shape == (n,)


@pytest.mark.parametrize("max_epochs", [1, 2, 3])
def test_a_single_epoch_reaches_the_sparsity(numbers, max_epochs):
    X, y, s = numbers
    pruner = quick(max_epochs=max_epochs, tolerance=1.0).fit(X, y, sensitive_features=s)
    assert pruner.sparsity_ >= 0.9


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.99])
def test_sparsity_from_none_to_almost_all(numbers, sparsity):
    X, y, _ = numbers
    pruner = quick(sparsity=sparsity, constraint=None).fit(X, y)
    assert sparsity <= pruner.sparsity_ < sparsity + 1e-3


def test_early_stopping_of_the_pruning_phase_still_gives_the_sparsity(numbers):
    X, y, s = numbers
    stop = EarlyStopping("train_loss", patience=1, threshold=10.0, threshold_mode="abs")
    pruner = quick(callbacks=[stop], constraint=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # nine weights in ten went at once
        pruner.fit(X, y)
    assert len(pruner.history_) < 12
    assert pruner.sparsity_ >= 0.9


@pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning")
def test_solver_object_and_its_switches(numbers):
    X, y, s = numbers
    logits = {
        solver: quick(solver=solver, sparsity=0.5, tolerance=0.0)
        .fit(X, y, sensitive_features=s)
        .decision_function(X)
        for solver in (
            "bilevel",
            BilevelSolver(),
            BilevelSolver(constrained_levels=("lower",)),
            BilevelSolver(implicit_gradient="first_order", importance="uniform"),
        )
    }
    first, same, *others = logits.values()
    np.testing.assert_array_equal(first, same)
    assert all(not np.array_equal(first, other) for other in others)


def test_batches_smaller_than_the_table(numbers):
    X, y, s = numbers
    pruner = quick(batch_size=64, max_epochs=5, tolerance=1.0).fit(X, y, sensitive_features=s)
    assert pruner.n_iter_ == 5 * 7


# ------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("kind", ["class", "instance"])
def test_modules(numbers, kind):
    X, y, s = numbers
    torch.manual_seed(0)
    estimator = Mlp if kind == "class" else Mlp(5)
    state = copy.deepcopy(estimator.state_dict()) if isinstance(estimator, nn.Module) else None
    pruner = quick(estimator=estimator, sparsity=0.5, max_epochs=50)
    pruner.fit(X, y, sensitive_features=s)
    assert isinstance(pruner.network_, Mlp) and pruner.encoder_ is None
    assert pruner.score(X, y) > 0.6
    if state is not None:
        assert all(torch.equal(v, state[k]) for k, v in estimator.state_dict().items())


@pytest.mark.parametrize(
    "net",
    [
        NeuralNetBinaryClassifier(Mlp, lr=0.1, max_epochs=20, verbose=0),
        NeuralNetClassifier(Probabilities, lr=0.1, max_epochs=20, verbose=0),
        NeuralNetClassifier(
            Mlp,
            module__n_outputs=2,
            criterion=nn.CrossEntropyLoss,
            lr=0.1,
            max_epochs=20,
            verbose=0,
        ),
    ],
    ids=["one logit", "probabilities", "two logits"],
)
def test_skorch_nets_are_cloned_and_trained(numbers, net):
    X, y, s = numbers
    pruner = quick(estimator=net, sparsity=0.5, max_epochs=50)
    pruner.fit(X, y, sensitive_features=s)
    assert not net.initialized_
    assert len(pruner.dense_estimator_.history) == 20
    assert pruner.score(X, y) > 0.65
    dense = (pruner.dense_estimator_.predict(X.astype(np.float32)) == 1).astype(int)
    np.testing.assert_array_equal(pruner.predict_dense(X), dense)


def test_a_frozen_net_is_pruned_as_it_is(numbers):
    X, y, s = numbers
    net = NeuralNetBinaryClassifier(Mlp, lr=0.1, max_epochs=30, verbose=0)
    net.fit(X.astype(np.float32), y.astype(np.float32))
    before = copy.deepcopy(net.module_.state_dict())
    pruner = quick(estimator=FrozenEstimator(net), sparsity=0.5)
    pruner.fit(X, y, sensitive_features=s)
    assert all(torch.equal(v, before[k]) for k, v in net.module_.state_dict().items())
    np.testing.assert_array_equal(pruner.predict_dense(X), net.predict(X.astype(np.float32)))


def test_a_frozen_net_must_have_been_trained(numbers):
    X, y, s = numbers
    net = NeuralNetBinaryClassifier(Mlp, verbose=0).initialize()
    with pytest.raises(ValueError, match="never trained"):
        quick(estimator=FrozenEstimator(net)).fit(X, y, sensitive_features=s)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (object(), "The 'estimator' parameter of FairPruner"),
        (int, "expected None, a torch.nn.Module"),
        (Mlp(5, 3), "one logit"),
        (nn.Flatten(), "one logit"),
        (nn.Bilinear, "cannot be made"),
    ],
)
def test_estimators_that_do_not_serve_are_refused(numbers, estimator, message):
    X, y, s = numbers
    with pytest.raises(ValueError, match=message):
        quick(estimator=estimator).fit(X, y, sensitive_features=s)


# ------------------------------------------------------------------------------------ bad input


@pytest.fixture
def no_training(monkeypatch):
    """Fail when anything is trained."""

    def trained(*args, **kwargs):
        pytest.fail("bad input reached the training")

    monkeypatch.setattr("fairprune_sk.fitting.dense.train", trained)
    monkeypatch.setattr("fairprune_sk.fitting.pruning.train", trained)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensitive_features": None}, "without sensitive_features.*constraint=None"),
        ({"sensitive_features": np.zeros(399)}, "399 rows, but X has 400 rows"),
        ({"sensitive_features": np.zeros(400)}, "one group, '0.0'"),
        ({"sensitive_features": np.array([np.nan] + [1.0] * 399)}, "missing values in 1 row"),
        ({"y": np.arange(399) % 2}, "inconsistent numbers of samples"),
        ({"y": np.zeros(400)}, "one class, 0.0"),
        ({"y": np.linspace(0, 1, 400)}, "Unknown label type: continuous"),
        ({"y": None}, "requires y to be passed"),
        ({"X": np.full((400, 5), np.inf)}, "infinity"),
        ({"X": np.zeros(400)}, "Expected 2D array"),
        ({"X": np.zeros((400, 0))}, r"0 feature\(s\)"),
        ({"sample_weight": np.ones(3)}, "sample_weight"),
        ({"sample_weight": -np.ones(400)}, "[Nn]egative"),
    ],
)
def test_bad_data_is_refused_before_training(numbers, no_training, change, message):
    X, y, s = numbers
    data = {"X": X, "y": y, "sensitive_features": s} | change
    with pytest.raises(ValueError, match=message):
        quick().fit(data.pop("X"), data.pop("y"), **data)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("sparsity", 1.0, r"\[0.0, 1.0\)"),
        ("sparsity", -0.1, r"\[0.0, 1.0\)"),
        ("constraint", "equality", "'equalized_odds'.*Got 'equality'"),
        ("tolerance", -0.1, "tolerance"),
        ("fairness_weight", -1.0, "fairness_weight"),
        ("gap_method", "max", "between_groups"),
        ("min_group_count", 0, "min_group_count"),
        ("granularity", "block", "unstructured"),
        ("solver", "adam", "bilevel"),
        ("max_epochs", 0, "max_epochs"),
        ("batch_size", 0, "batch_size"),
        ("lr", 0.0, "lr"),
        ("mask_lr", -1.0, "mask_lr"),
        ("callbacks", "print", "callbacks"),
        ("device", 3, "device"),
        ("random_state", "seed", "random_state"),
    ],
)
def test_bad_parameters_are_refused_before_training(
    numbers, no_training, parameter, value, message
):
    X, y, s = numbers
    with pytest.raises(ValueError, match=message):
        FairPruner(**{parameter: value}).fit(X, y, sensitive_features=s)


def test_nan_is_refused_where_the_network_cannot_take_it(numbers, no_training):
    X, y, s = numbers
    X = X.copy()
    X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        quick(estimator=Mlp).fit(X, y, sensitive_features=s)


def test_infinity_in_a_dataframe_is_refused_by_column(numbers, no_training):
    X, y, s = numbers
    frame = pd.DataFrame(X, columns=list("abcde"))
    frame.loc[3, "c"] = -np.inf
    with pytest.raises(ValueError, match="infinity.* in column 'c'"):
        quick().fit(frame, y, sensitive_features=s)


@pytest.mark.parametrize("label", [0, 1])
def test_a_group_without_an_example_is_named(numbers, no_training, label):
    X, y, _ = numbers
    s = np.where(np.arange(400) < 150, "small", "big")
    y = np.where(s == "small", 1 - label, y)
    event = ["negative", "positive"][label]
    with pytest.raises(ValueError, match=rf"'small' \(0 {event} rows\)"):
        quick().fit(X, y, sensitive_features=s)
    with pytest.raises(pytest.fail.Exception, match="reached the training"):
        quick(constraint="demographic_parity").fit(X, y, sensitive_features=s)


def test_validation_by_scikit_learn_comes_before_that_of_groups():
    with pytest.raises(ValueError, match="Expected 2D array"):
        FairPruner().fit(np.zeros(5), np.zeros(5))
    with pytest.raises(ValueError, match="Found array with 0 sample"):
        FairPruner().fit(np.zeros((0, 3)), np.zeros(0))


def test_a_sparsity_that_leaves_too_little_is_refused(numbers, no_training):
    X, y, s = numbers
    with pytest.raises(ValueError, match=r"at most 0.9609"):  # 96 weights, a hidden layer of rank 5
        quick(estimator=Mlp, sparsity=0.99).fit(X, y, sensitive_features=s)


def test_predicting_needs_a_fit_and_the_same_columns(fitted, table):
    with pytest.raises(NotFittedError):
        FairPruner().predict(table[0])
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table[0].iloc[:, ::-1])
    with (
        pytest.warns(UserWarning, match="valid feature names"),
        pytest.raises(ValueError, match="features"),
    ):
        fitted.predict(np.zeros((3, 2)))


# ------------------------------------------------------------------------ warnings, interruption


def test_small_groups_are_left_out_with_a_warning_that_names_them(numbers):
    X, y, s = numbers
    s = np.where(np.arange(400) < 12, "tiny", s.astype(str))
    with pytest.warns(SmallGroupWarning, match=r"'tiny' \(\d+ (negative|positive) rows\)"):
        pruner = quick(tolerance=1.0, min_group_count=20).fit(X, y, sensitive_features=s)
    assert (pruner.multipliers_["tiny"] == 0).all()


def test_a_sensitive_feature_of_many_values_is_refused_in_few_words(numbers, no_training):
    X, y, _ = numbers
    with pytest.raises(ValueError, match="with 400 groups in 400 rows.*bin numbers"):
        quick().fit(X, y, sensitive_features=np.linspace(0, 1, 400))


def test_categories_for_a_network_that_takes_numbers_are_refused_by_name(numbers, no_training):
    X, y, s = numbers
    frame = pd.DataFrame(X, columns=list("abcde")).assign(job="clerk")
    with pytest.raises(ValueError, match=r"no numbers: \['job'\]. Only the default network"):
        quick(estimator=Mlp).fit(frame, y, sensitive_features=s)


def test_warnings_point_to_the_line_that_called_fit(numbers):
    X, y, s = numbers
    s = np.where(np.arange(400) < 12, "tiny", s.astype(str))
    with pytest.warns(SmallGroupWarning) as caught:
        pruner = quick(tolerance=1.0, min_group_count=20).fit(X, y, sensitive_features=s)
    assert caught[0].filename == __file__
    assert pruner.n_unconstrained_ > 0


def test_an_unmet_constraint_warns_with_gap_and_tolerance(numbers):
    X, y, s = numbers
    pruner = quick(tolerance=0.0, max_epochs=2)
    with pytest.warns(ConstraintNotMetWarning, match=r"gap .* is 0\.\d+, .* above the tolerance 0"):
        pruner.fit(X, y, sensitive_features=s)
    assert pruner.violation_ > 0


def test_a_collapse_warns(numbers):
    X, y, s = numbers
    pruner = quick(sparsity=0.99, solver="random", tolerance=1.0)
    with pytest.warns(
        CollapseWarning, match="predicts '1' for .* of the training rows, the dense one"
    ):
        pruner.fit(X, y, sensitive_features=s)


class PressCtrlC(Callback):
    def on_batch_end(self, net, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("phase", ["dense", "pruning"])
@pytest.mark.parametrize("refit", [False, True])
def test_ctrl_c_keeps_the_estimator_as_it_was(numbers, phase, refit):
    X, y, s = numbers
    pruner = quick(tolerance=1.0)
    if refit:
        pruner.fit(X, y, sensitive_features=s)
        before = pruner.decision_function(X)
    if phase == "dense":
        pruner.set_params(
            estimator=NeuralNetBinaryClassifier(Mlp, callbacks=[PressCtrlC()], verbose=0)
        )
    else:
        pruner.set_params(callbacks=[PressCtrlC()])
    state = dict(vars(pruner))
    with pytest.raises(KeyboardInterrupt):
        pruner.fit(X[:, ::-1], y, sensitive_features=s)
    assert vars(pruner) == state
    if refit and phase == "pruning":
        np.testing.assert_array_equal(pruner.decision_function(X), before)
    if not refit:
        with pytest.raises(NotFittedError):
            pruner.predict(X)


# --------------------------------------------------------------------------------------- memory


def test_a_fit_holds_the_table_once_and_few_copies_of_the_parameters():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 50)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    s = rng.integers(0, 2, 20_000)
    largest = 0

    class Count(Callback):
        """Bytes of everything that a step holds on to, at the moment when most is held."""

        def on_grad_computed(self, net, **kwargs):
            nonlocal largest
            if not isinstance(net, PruningNet):
                return
            state = net.state_
            scores = state.own.values.values()
            held = [*state.weights.values(), *scores, *state.masks.values()]
            held += [p.grad for p in held if p.grad is not None]
            for optimizer in (state.lower, state.own.optimizer):
                held += [
                    v
                    for values in optimizer.state.values()
                    for v in values.values()
                    if isinstance(v, torch.Tensor)
                ]
            if net.best_ is not None:
                held += [*net.best_.parameters.values(), *net.best_.buffers.values()]
            unique = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
            largest = max(largest, sum(unique.values()))

    module = nn.Sequential(nn.Linear(50, 400), nn.ReLU(), nn.Linear(400, 1))
    pruner = FairPruner(module, max_epochs=2, callbacks=[Count()], tolerance=1.0, random_state=0)
    pruner.fit(X, y, sensitive_features=s)
    n_bytes = 4 * sum(p.numel() for p in module.parameters())
    # Beside these there are the dense network, and the masked one with its gradients.
    assert 0 < largest / n_bytes <= 12 - 1 - 2
    table = pruner.history_  # the history holds numbers, not tensors
    assert not any(isinstance(v, torch.Tensor) for row in table for v in row.values())


# ------------------------------------------------------------------------------------------ GPU


needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device, and there is none"
)


@needs_cuda
def test_auto_takes_the_gpu_and_a_pickle_predicts_without_one(table):
    X, y, s = table
    pruner = FairPruner(random_state=0, max_epochs=40, tolerance=0.2)
    pruner.fit(X, y, sensitive_features=s["sex"])
    assert next(pruner.network_.parameters()).is_cuda
    loaded = pickle.loads(pickle.dumps(pruner))
    np.testing.assert_allclose(loaded.decision_function(X), pruner.decision_function(X), atol=1e-4)


@needs_cuda
def test_a_pruning_step_does_not_wait_for_the_gpu(table):
    class Strict(Callback):
        def on_batch_begin(self, net, **kwargs):
            torch.cuda.set_sync_debug_mode("error")

        def on_batch_end(self, net, **kwargs):
            torch.cuda.set_sync_debug_mode("default")

    X, y, s = table
    pruner = FairPruner(random_state=0, max_epochs=4, tolerance=1.0, callbacks=[Strict()])
    try:
        pruner.fit(X, y, sensitive_features=s["sex"])
    finally:
        torch.cuda.set_sync_debug_mode("default")
