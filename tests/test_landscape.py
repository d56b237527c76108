"""Between two pruned networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fairlearn.metrics import equalized_odds_difference
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from fairprune_sk import BilevelSolver, FairPruner
from fairprune_sk.benchmarks.landscape import along_the_line


class Mlp(nn.Module):
    def __init__(self, n_features=5, width=16):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, X):
        return self.layers(X)


class Versioned(Mlp):
    """Loads a state without a version as one of an older network, as MNASNet of torchvision."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get("version", None) is None:
            self.layers[0] = nn.Linear(5, 7)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5)).astype(np.float32)
    s = rng.integers(0, 2, 400)
    return X, (X[:, 0] + 0.5 * s > 0.3).astype(int), s


def fit(data, estimator=Mlp, **kwargs):
    X, y, s = data
    settings = {"max_epochs": 8, "tolerance": 0.5, "sparsity": 0.5, "random_state": 0}
    settings["tolerance_on"] = "training"
    return FairPruner(estimator, **settings | kwargs).fit(X, y, sensitive_features=s)


@pytest.fixture(scope="module")
def pair(data):
    return fit(data), fit(data, solver=BilevelSolver(importance="uniform"), sparsity=0.7)


def test_the_ends_are_the_two_networks(data, pair):
    X, y, s = data
    curve = along_the_line(*pair, X, y, sensitive_features=s, n_points=5)
    for pruner, row in zip(pair, (curve.iloc[0], curve.iloc[-1]), strict=True):
        predicted = pruner.predict(X)
        assert row["accuracy"] == pytest.approx(accuracy_score(y, predicted))
        assert row["gap"] == equalized_odds_difference(y, predicted, sensitive_features=s)
        assert row["loss"] == pytest.approx(log_loss(y, pruner.predict_proba(X)), abs=1e-5)


def test_a_point_between_is_the_network_of_the_mean_parameters(data, pair):
    X, y, s = data
    first, second = (pruner._fitted.masked_network().state_dict() for pruner in pair)
    network = Mlp()
    network.load_state_dict({k: 0.75 * first[k] + 0.25 * second[k] for k in first})
    with torch.no_grad():
        scores = network(torch.from_numpy(X))[:, 0].numpy()
    curve = along_the_line(*pair, X, y, sensitive_features=s, n_points=5)
    assert curve["position"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert curve["accuracy"][1] == ((scores > 0) == y).mean()
    assert curve["loss"][1] == pytest.approx(log_loss(y, 1 / (1 + np.exp(-scores))), abs=1e-5)


def test_more_points_do_not_move_those_between(data, pair):
    X, y, s = data
    few, many = (along_the_line(*pair, X, y, sensitive_features=s, n_points=n) for n in (3, 9))
    np.testing.assert_allclose(few.to_numpy(), many.iloc[::4].to_numpy())
    backwards = along_the_line(*reversed(pair), X, y, sensitive_features=s, n_points=3)
    np.testing.assert_allclose(few["loss"], backwards["loss"][::-1], rtol=1e-5)


def test_categories_are_known_at_every_point(table):
    X, y, s = table
    pruner = FairPruner(max_epochs=2, tolerance=1.0, sparsity=0.5, random_state=0)
    pruner.fit(X[:500], y[:500], sensitive_features=s["sex"][:500])
    curve = along_the_line(pruner, pruner, X, y, sensitive_features=s["sex"])
    assert curve["loss"].nunique() == curve["gap"].nunique() == 1


def test_the_fitted_networks_are_left_alone(data, pair):
    X, y, s = data
    before = [pruner.decision_function(X) for pruner in pair]
    along_the_line(*pair, X, y, sensitive_features=s, n_points=3)
    for pruner, scores in zip(pair, before, strict=True):
        np.testing.assert_array_equal(pruner.decision_function(X), scores)


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_networks_of_different_shapes_are_refused(data, pair):
    X, y, s = data
    other = fit(data, estimator=Mlp(width=8))
    with pytest.raises(ValueError, match="different shapes"):
        along_the_line(pair[0], other, X, y, sensitive_features=s)


def test_networks_that_ask_for_the_version_of_a_state(data):
    X, y, s = data
    pruner = fit(data, Versioned, max_epochs=1)
    curve = along_the_line(pruner, pruner, X, y, sensitive_features=s, n_points=2)
    assert curve.accuracy.tolist() == [accuracy_score(y, pruner.predict(X))] * 2
