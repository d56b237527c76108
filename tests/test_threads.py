"""One fitted estimator serves many threads, and many are fitted in as many."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import fairprune_sk
from fairprune_sk import FairPruner
from fairprune_sk.networks.calls import twin

METHODS = ["predict", "predict_proba", "decision_function", "transform", "predict_dense"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.drop, self.b = nn.Linear(6, 40), nn.Dropout(0.5), nn.Linear(40, 1)

    def forward(self, X):
        return self.b(self.drop(torch.relu(self.a(X))))


@pytest.fixture(scope="module", params=["default", "module"])
def served(request):
    draws = np.random.default_rng(0)
    X = draws.normal(size=(400, 6)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    estimator = None if request.param == "default" else Net()
    options = {"constraint": None, "sparsity": 0.5, "max_epochs": 3, "random_state": 0}
    return FairPruner(estimator, **options).fit(X, y), X


@pytest.mark.slow
def test_threads_get_the_answers_that_one_thread_gets(served, tmp_path):
    pruner, X = served
    pruner.save(tmp_path / "a.fairprune")
    loaded = fairprune_sk.load(
        tmp_path / "a.fairprune", modules=None if pruner.estimator is None else Net()
    )
    calls = [
        (getattr(one, method), X[start : start + 20])
        for one in (pruner, loaded)
        for method in METHODS
        for start in range(0, 400, 20)
    ]
    alone = [method(rows) for method, rows in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda call: call[0](call[1]), calls))
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


def test_fitted_and_loaded_networks_rest_in_evaluation_mode(served, tmp_path):
    pruner, X = served
    pruner.save(tmp_path / "a.fairprune")
    loaded = fairprune_sk.load(
        tmp_path / "a.fairprune", modules=None if pruner.estimator is None else Net()
    )
    for one in (pruner, loaded):
        for method in METHODS:
            getattr(one, method)(X)
        for network in (one.network_, one.dense_estimator_.module_):
            assert not any(layer.training for layer in network.modules())


def test_a_twin_shares_tensors_and_nothing_else():
    network = nn.Sequential(Net(), nn.BatchNorm1d(1)).train()
    other = twin(network)
    states = [net.state_dict(keep_vars=True).values() for net in (network, other)]
    assert all(ours is theirs for ours, theirs in zip(*states, strict=True))
    assert network.training and not other.training
    other[0].a.register_forward_pre_hook(lambda *call: None)
    assert not network[0].a._forward_pre_hooks


@pytest.mark.parametrize("estimator", [None, Net])
def test_fits_in_threads_are_the_fits_that_one_thread_makes(estimator):
    draws = np.random.default_rng(0)
    X = draws.normal(size=(300, 6)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)

    def scores(seed):
        options = {"constraint": None, "sparsity": 0.5, "max_epochs": 3, "random_state": seed}
        return FairPruner(estimator, **options).fit(X, y).decision_function(X)

    alone = [scores(seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(scores, range(3)))
    np.testing.assert_array_equal(together, alone)


def test_global_generators_are_left_as_they_were(served, tmp_path):
    def states():
        return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()

    pruner, X = served
    modules = None if pruner.estimator is None else Net
    before = states()
    again = clone(pruner).fit(X, pruner.predict(X))
    for method in METHODS:
        getattr(again, method)(X)
    again.save(tmp_path / "a.fairprune")
    fairprune_sk.load(tmp_path / "a.fairprune", modules=modules)
    clone(pruner).set_params(granularity="neuron").fit(X, pruner.predict(X))
    assert states() == before
