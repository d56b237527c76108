"""A tolerance for rows that the fit has not seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import demographic_parity_difference
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from fairprune_sk import ConstraintNotMetWarning, FairPruner, load
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fairness.constraints import CONSTRAINTS, hard_outcome
from fairprune_sk.fitting import unseen
from fairprune_sk.fitting.progress import Bars
from fairprune_sk.fitting.task import settings_of, task_of
from fairprune_sk.networks.batch import Batch

pytestmark = [
    pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning"),
    pytest.mark.filterwarnings("ignore::fairprune_sk.SmallGroupWarning"),
]


def quick(**settings):
    return FairPruner(**{"max_epochs": 12, "random_state": 0, "tolerance": 0.05} | settings)


@pytest.fixture(scope="module")
def rows():
    X, y, s = make_biased_classification(13_000, random_state=0)
    return X, y.to_numpy(), s["sex"].to_numpy()


def test_the_interval_is_of_as_many_rows(rows, tmp_path):
    X, y, s = (part[:3000] for part in rows)
    pruner = quick(tolerance=0.2).fit(X, y, sensitive_features=s)
    low, high = pruner.unseen_gap_interval_
    assert low <= pruner.unseen_gap_ <= high
    # Two rates of the smallest cells, a few hundred rows, are known to some points.
    assert 0.05 < high - low < 0.25
    pruner.save(tmp_path / "a.fairprune")
    assert load(tmp_path / "a.fairprune").unseen_gap_interval_ == (low, high)


@pytest.mark.slow
def test_the_gap_on_unseen_rows_is_what_was_asked_for_rather_than_that_on_training_rows(rows):
    X, y, s = rows
    learned, others = slice(0, 3000), slice(3000, None)
    gaps = {}
    for rows_meant in ("training", "unseen"):
        pruner = quick(constraint="demographic_parity", tolerance_on=rows_meant, max_epochs=60)
        pruner.fit(X[learned], y[learned], sensitive_features=s[learned])
        gaps[rows_meant], gap_of_fit = (
            demographic_parity_difference(
                y[part], pruner.predict(X[part]), sensitive_features=s[part]
            )
            for part in (others, learned)
        )
        assert pruner.train_gap_ == pytest.approx(gap_of_fit, abs=2e-3)
    assert gaps["unseen"] < 0.75 * gaps["training"]
    assert pruner.violation_ == pytest.approx(pruner.unseen_gap_ - 0.05)
    assert pruner.unseen_gap_ != pruner.train_gap_


def chances_of(pruner, X, y, s, **known):
    given = pruner._given(X, y, None, s, known.get("control_features"), None)
    task = task_of(given, pruner.estimator, settings_of(pruner.get_params(deep=False)))
    return unseen.chances(task, pruner.estimator, 0, Bars(None)).numpy(), given


def test_chances_are_those_of_classes_and_groups(rows):
    X, y, s = (part[:2500] for part in rows)
    # Who is in which group stands in one table, and has to be guessed in the other.
    guessed, given = chances_of(quick(), X, y, s)
    known, _ = chances_of(quick(), X.assign(sex=s), y, s)
    assert known.shape == (2500, 2, 2)
    of_group = [*given.parity.groups].index("female")
    female = (s == "female").astype(float)
    for chance in (guessed, known):
        np.testing.assert_allclose(chance.sum((1, 2)), 1.0, rtol=1e-5)
        assert chance.sum(1)[:, of_group].mean() == pytest.approx(female.mean(), abs=0.01)
        # Better than the mean, by labels that they did not learn from.
        assert log_loss(y, chance[:, 1].sum(1)) < 0.75 * log_loss(y, np.full(2500, y.mean()))
        for group in (0, 1):  # right on the mean in each group
            inside = chance.sum(1)[:, group]
            positive = (chance[:, 1, group] / inside)[given.group == group].mean()
            assert positive == pytest.approx(y[given.group == group].mean(), abs=0.02)
    assert np.abs(known.sum(1)[:, of_group] - female).max() < 0.01
    assert np.abs(guessed.sum(1)[:, of_group] - female).mean() > 0.1


def test_nobody_learns_from_a_label_of_its_own(rows):
    X = rows[0][:1200]
    draws = np.random.default_rng(0)
    y, s = draws.integers(0, 2, (2, 1200))
    chance, _ = chances_of(quick(), X, y, s)
    for truth, found in ((y, chance[:, 1].sum(1)), (s, chance.sum(1)[:, 1])):
        assert abs(roc_auc_score(truth, found) - 0.5) < 0.06


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("labels", ["ab", "abc"])
def test_certain_chances_give_the_sums_of_the_labels(name, labels):
    draws = np.random.default_rng(0)
    y, s, stratum = (draws.integers(0, n, 300) for n in (len(labels), 3, 2))
    pruner = quick(constraint=name, min_group_count=1)
    X = draws.normal(size=(300, 2))
    given = pruner._given(X, np.array([*labels])[y], None, s, stratum, None)
    found, parity = torch.randn(300, 1 if len(labels) == 2 else 3), given.parity
    reference = parity.outcomes_of_classes(torch.randn_like(found))
    batch = Batch(
        found,
        torch.from_numpy(given.y),
        torch.rand(300),
        given.cell,
        reference=reference if parity.requirement.constraint.relative_to_dense else None,
    )
    chance = np.zeros((300, len(labels), 6), dtype=np.float32)
    chance[np.arange(300), given.y, given.within] = 1.0
    for outcome_of in (hard_outcome, torch.sigmoid):
        expected = parity.sums(outcome_of, found, batch)
        certain = replace(batch, chance=torch.from_numpy(chance))
        half = replace(certain, chance=certain.chance / 2)
        for sums in (
            parity.sums(outcome_of, found, certain),
            parity.sums(outcome_of, found, half, labels=True),
        ):
            torch.testing.assert_close(sums.outcome, expected.outcome, rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(sums.weight, expected.weight, rtol=1e-5, atol=1e-4)


def test_a_row_counts_in_every_cell_by_its_chance():
    pruner = quick(min_group_count=1)
    given = pruner._given(np.zeros((4, 1)), [0, 1, 1, 0], None, list("abab"), None, None)
    chance = torch.rand(4, 2, 2)
    found = torch.tensor([[1.0], [-1.0], [2.0], [3.0]])
    batch = Batch(found, torch.from_numpy(given.y), None, given.cell, chance=chance)
    sums = given.parity.sums(hard_outcome, found, batch)
    selected = torch.tensor([1.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(sums.weight, chance.sum(0).flatten())
    torch.testing.assert_close(sums.outcome, (selected @ chance.flatten(1)).flatten())


def test_beyond_a_million_rows_labels_are_taken_as_they_are(rows, monkeypatch):
    X, y, s = (part[:900] for part in rows)
    plain = quick(tolerance_on="training", max_epochs=4, tolerance=0.5)
    plain.fit(X, y, sensitive_features=s)
    monkeypatch.setattr(unseen, "MOST_ROWS", 500)
    pruner = quick(max_epochs=4, tolerance=0.5).fit(X, y, sensitive_features=s)
    assert pruner.unseen_gap_ == pruner.train_gap_ == pytest.approx(plain.train_gap_, abs=0.1)


def test_weights_and_repeated_rows_give_the_same_fit(rows):
    X, y, s = (part[:400] for part in rows)
    weight = np.random.RandomState(0).randint(0, 3, 400)
    repeated = np.repeat(np.arange(400), weight)
    pruner = quick(sparsity=0.5, max_epochs=30)
    weighted = pruner.fit(X, y, sensitive_features=s, sample_weight=weight).predict_proba(X)
    expected, optimistic = pruner.unseen_gap_, pruner.train_gap_
    pruner.fit(X.iloc[repeated], y[repeated], sensitive_features=s[repeated])
    np.testing.assert_array_equal(pruner.predict_proba(X), weighted)
    assert (pruner.unseen_gap_, pruner.train_gap_) == (expected, optimistic)


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")  # four steps
@pytest.mark.parametrize("settings", [{"tolerance": None}, {"constraint": None}])
def test_without_a_bound_it_makes_no_difference(rows, settings):
    X, y, s = (part[:800] for part in rows)
    fits = [
        quick(tolerance_on=on, max_epochs=4, **settings).fit(X, y, sensitive_features=s)
        for on in ("training", "unseen")
    ]
    np.testing.assert_array_equal(*[fit.predict_proba(X) for fit in fits])
    assert fits[1].unseen_gap_ is None


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.out = nn.Linear(3, 16), nn.Linear(2, 16), nn.Linear(32, 3)

    def forward(self, a, b):
        return self.out(torch.relu(torch.cat([self.left(a), self.right(b)], dim=1)))


def test_dicts_classes_weights_and_strata_are_held_out_row_by_row():
    draws = np.random.default_rng(0)
    X = {"a": draws.normal(size=(600, 3)), "b": draws.normal(size=(600, 2))}
    y = np.array(list("xyz"))[np.argmax(X["a"] + draws.normal(size=(600, 3)), axis=1)]
    pruner = quick(
        estimator=Two(), tolerance_on="unseen", constraint="degradation_parity", sparsity=0.5
    )
    pruner.fit(
        X,
        y,
        sensitive_features=draws.integers(0, 2, 600),
        control_features=pd.Series(draws.integers(0, 2, 600)),
        sample_weight=draws.uniform(0.5, 2.0, 600),
    )
    assert np.isfinite(pruner.unseen_gap_) and pruner.unseen_gap_ != pruner.train_gap_


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_what_a_frozen_network_has_seen_cannot_be_held_out(rows):
    X, y, s = (part[:600] for part in rows)
    numbers = X.select_dtypes("number").fillna(0).to_numpy(np.float32)
    pruner = quick(estimator=nn.Linear(numbers.shape[1], 1), max_epochs=2, sparsity=0.5)
    net = pruner.fit(numbers, y, sensitive_features=s).dense_estimator_
    pruner.set_params(estimator=FrozenEstimator(net))
    with pytest.warns(UserWarning, match="frozen network: which rows it has seen is not known"):
        pruner.fit(numbers, y, sensitive_features=s)
    assert pruner.unseen_gap_ is None and pruner.unseen_gap_interval_ is None
    assert pruner.violation_ == pytest.approx(pruner.train_gap_ - 0.05)


def test_a_miss_says_which_rows_it_is_about(rows):
    X, y, s = (part[:600] for part in rows)
    with pytest.warns(ConstraintNotMetWarning, match="gap to be expected on unseen rows is"):
        quick(tolerance_on="unseen", tolerance=0.0).fit(X, y, sensitive_features=s)


def test_folds_with_a_class_of_one_row_are_cut_without_a_word():
    y, group = np.array([0, 0, 0, 1, 1, 2]), np.zeros(6, dtype=int)
    held = [held for _, held in unseen.alike_folds(y, group, 2, 0)]
    assert sorted(np.concatenate(held)) == [*range(6)]
