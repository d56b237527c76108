"""The chain of values: what was given, the task, the run, what was fitted."""

from __future__ import annotations

import dataclasses
import gc
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from fairprune_sk import CollapseWarning, FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fairness.constraints import rates
from fairprune_sk.fitting.dense import train_dense
from fairprune_sk.fitting.fitted import Fitted, fitted_of
from fairprune_sk.fitting.pruning import prune
from fairprune_sk.fitting.resident import spread_table_of, table_of
from fairprune_sk.fitting.task import settings_of, task_of
from fairprune_sk.fitting.training import seeded
from fairprune_sk.networks.batch import Batch

CPU = torch.device("cpu")


class Small(nn.Sequential):
    def __init__(self, n_features):
        super().__init__(nn.Linear(n_features, 8), nn.ReLU(), nn.Linear(8, 1))


@pytest.fixture
def pruner():
    return FairPruner(random_state=3, max_epochs=6, device="cpu", tolerance_on="training")


def task(pruner, table, seed=0):
    X, y, s = table
    asked = {"sensitive_features": s["sex"], "control_features": None, "sample_weight": None}
    given = pruner._given(X, y, None, **asked)
    with seeded(seed, CPU):
        return task_of(given, pruner.estimator, settings_of(pruner.get_params(deep=False)))


def fitted(task, seed=1):
    with seeded(seed, CPU):
        table = table_of(task.rows, CPU)
        dense = train_dense(task, table)
        run = prune(task, table, dense)
    return fitted_of(task, dense, run), run


@pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning")
def test_the_estimator_sets_its_attributes_from_one_value(pruner, table):
    X, y, s = table
    pruner.fit(X, y, sensitive_features=s["sex"])
    assert isinstance(pruner._fitted, Fitted)
    for name, value in pruner._fitted.attributes().items():
        assert getattr(pruner, name) is value or np.isscalar(value)
    again = pickle.loads(pickle.dumps(pruner))
    assert again.network_ is again._fitted.network


def test_a_task_is_a_value_that_training_leaves_alone(pruner, table):
    first = task(pruner, table)
    before = {name: value.clone() for name, value in first.network.state_dict().items()}
    copied = pickle.loads(pickle.dumps(first))
    results = [fitted(t)[0] for t in (first, first, copied)]
    for name, value in first.network.state_dict().items():
        assert torch.equal(value, before[name])
    scores = [result.scores(table[0]) for result in results]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])


def test_one_task_serves_several_settings(pruner, table):
    first = task(pruner, table)
    settings = dataclasses.replace(first.settings, sparsity=0.5)
    half, _ = fitted(dataclasses.replace(first, settings=settings))
    assert half.sparsity == pytest.approx(0.5, abs=1e-3)
    assert fitted(first)[0].sparsity >= 0.9


def test_a_candidate_holds_what_it_measured(pruner, table):
    result, run = fitted(task(pruner, table))
    best = run.best
    _, y, s = table
    first = (s["sex"] == result.groups[0]).to_numpy()
    predicted = result.labels(result.scores(table[0]))
    # Cells: negative and positive rows, each of both groups.
    expected = [
        predicted[(y == label) & group].mean() for label in (0, 1) for group in (first, ~first)
    ]
    np.testing.assert_allclose(rates(best.sums).numpy(), expected, atol=1e-6)
    assert best.accuracy == pytest.approx((predicted == y).mean())
    assert best.violation == pytest.approx(best.gap - 0.05)
    assert run.candidates == (best,) and run.n_iter == len(run.history) * 2


def test_rows_of_a_batch_are_taken_and_moved_together():
    rows = Batch({"a": torch.arange(6)}, torch.arange(6), cell=torch.arange(12).view(6, 2))
    part = rows.take(slice(2, 4)).to(CPU)
    assert len(part) == 2 and part.weight is None
    assert part.X["a"].tolist() == part.y.tolist() == [2, 3]
    assert part.cell.tolist() == [[4, 5], [6, 7]]
    with pytest.raises(dataclasses.FrozenInstanceError):
        part.y = None


@pytest.mark.parametrize("estimator", [None, Small])
def test_a_fit_leaves_no_table_behind(estimator, monkeypatch):
    X, y, s = make_biased_classification(300, random_state=0)
    X = X.select_dtypes("number").fillna(0.0).to_numpy(np.float32)
    tables = []

    def noted(*args):
        table = spread_table_of(*args)
        tables.append(weakref.ref(table.X))
        return table

    monkeypatch.setattr("fairprune_sk.pruner.spread_table_of", noted)
    options = {"sparsity": 0.3, "max_epochs": 2, "tolerance": 1.0, "random_state": 0}
    pruner = FairPruner(estimator, **options)
    gc.collect()
    gc.disable()  # what hangs in a cycle waits for it, and piles up in a search
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)
            for _ in range(2):  # torch imports within the first fit of a process, and keeps frames
                pruner.fit(X, y, sensitive_features=s["sex"])
        assert tables[-1]() is None
    finally:
        gc.enable()
