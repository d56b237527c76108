"""A tolerance for rows that the fit has not seen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import equalized_odds_difference
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_random_state
from torch import nn

from fairprune_sk import ConstraintNotMetWarning, FairPruner, load
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fairness import EqualizedOdds
from fairprune_sk.fairness.constraints import CellSums
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fairness.requirement import Requirement
from fairprune_sk.fitting import unseen
from fairprune_sk.fitting.progress import Bars
from fairprune_sk.fitting.task import settings_of
from fairprune_sk.solvers import BilevelSolver

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
        pruner = quick(tolerance_on=rows_meant, max_epochs=60)
        pruner.fit(X[learned], y[learned], sensitive_features=s[learned])
        predicted = pruner.predict(X[others])
        gaps[rows_meant] = equalized_odds_difference(
            y[others], predicted, sensitive_features=s[others]
        )
        train = pruner.predict(X[learned])
        assert pruner.train_gap_ == pytest.approx(
            equalized_odds_difference(y[learned], train, sensitive_features=s[learned]), abs=2e-3
        )
    assert gaps["unseen"] < 0.75 * gaps["training"]
    assert pruner.violation_ == pytest.approx(pruner.unseen_gap_ - 0.05)
    assert pruner.unseen_gap_ != pruner.train_gap_


def test_optimism_is_what_fits_on_halves_lose_on_the_other_half(rows):
    X, y, s = (part[:2100] for part in rows)
    pruner = quick()
    # What the fit on a half takes: epochs and decay of the whole, batches half as large.
    on_half = FairPruner(
        solver=BilevelSolver(weight_decay=20_000 / 2100),
        max_epochs=12,
        batch_size=1024,
        random_state=0,
        tolerance=0.05,
        tolerance_on="training",
    )
    given = pruner._given(X, y, None, s, None, None)
    seed = check_random_state(0).randint(np.iinfo(np.int32).max)
    settings = settings_of(pruner.get_params(deep=False))
    found = unseen.for_unseen(given, None, settings, seed, Bars(None)).parity

    groups, totals = list(given.parity.groups), np.zeros((2, 2, 4))
    strata = y * 3 + np.array([groups.index(group) for group in s])
    folds = StratifiedKFold(2, shuffle=True, random_state=seed).split(X, strata)
    for halves in folds:
        on_half.fit(X.iloc[halves[0]], y[halves[0]], sensitive_features=s[halves[0]])
        for half, rows_of_half in enumerate(halves):
            predicted = on_half.predict(X.iloc[rows_of_half])
            for cell in range(4):
                label = int("positive" in given.parity.conditions[cell // 2])
                inside = (y[rows_of_half] == label) & (s[rows_of_half] == groups[cell % 2])
                totals[half, :, cell] += predicted[inside].sum(), inside.sum()
    (seen, n_seen), (others, n_others) = totals
    sums = [
        CellSums(torch.from_numpy(hits), torch.from_numpy(n))
        for hits, n in ((seen, n_seen), (others, n_others))
    ]
    expected = unseen.shrunken_optimism(*sums, given.parity.n_rows, 2)
    np.testing.assert_allclose(found.optimism, expected, atol=0.01)


def test_optimism_of_small_cells_is_drawn_to_the_mean_of_their_condition():
    n = torch.tensor([4000.0, 4000.0, 20.0, 0.0], dtype=torch.float64)
    seen, others = (torch.tensor(r).double() for r in ([0.8, 0.8, 0.9, 0.0], [0.7, 0.6, 0.4, 0.0]))
    found = unseen.shrunken_optimism(CellSums(seen * n, n), CellSums(others * n, n), n, 4)
    torch.testing.assert_close(found[:2], torch.tensor([0.1, 0.2]).double(), atol=0.01, rtol=0.0)
    # Of twenty rows, one standard error is 0.11: little is left of what was measured there.
    assert 0.15 < found[2] < 0.25 and found[3] == 0


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


def test_rates_are_expected_to_fall_by_the_optimism_of_their_cell():
    rate, weight = torch.tensor([0.5, 0.7, 0.9, 0.8]), torch.tensor([10.0, 20.0, 30.0, 40.0])
    parity = Parity(
        Requirement(EqualizedOdds(), 0.05, "between_groups"),
        ("a", "b"),
        ("negative", "positive"),
        weight.long(),
        torch.ones(4, dtype=torch.bool),
        optimism=torch.tensor([0.0, 0.1, 0.2, -0.1]),
    )
    sums = CellSums(rate * weight, weight)
    expected = torch.tensor([0.5, 0.6, 0.7, 0.9])
    assert parity.gap(sums) == pytest.approx(0.2)
    plain = Parity(**{**vars(parity), "optimism": None})
    moved = CellSums(expected * weight, weight)
    torch.testing.assert_close(parity.differences(sums), plain.differences(moved))


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
    rows = SimpleNamespace(y=np.array([0, 0, 0, 1, 1, 2]), group=np.zeros(6, dtype=int))
    held = [held for _, held in unseen.alike_folds(rows, 2, 0)]
    assert sorted(np.concatenate(held)) == [*range(6)]
