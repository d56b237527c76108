"""Warnings say what happened, and each piece of their advice helps where it is given."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dense import MEMORY

from fairprune_sk import CollapseWarning, ConstraintNotMetWarning, FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fairness import EqualizedOdds
from fairprune_sk.fairness.collapse import hardly_predicted
from fairprune_sk.fairness.constraints import CellSums
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fairness.requirement import Requirement
from fairprune_sk.fitting.outcome_warnings import advice_on_miss, described_vagueness, vaguest
from fairprune_sk.fitting.pruning import Candidate, Run
from fairprune_sk.fitting.task import settings_of


@pytest.fixture(scope="module")
def loans():
    X, y, s = make_biased_classification(1500, random_state=0)
    return X, y.to_numpy(), s


def fitted(loans, category, groups="sex", **settings):
    """Fit, and return the pruner with the one warning of a kind, or with none."""
    X, y, s = loans
    options = {"tolerance": 0.02, "max_epochs": 40, "random_state": 0, "memory": MEMORY}
    options |= {"tolerance_on": "training"} | settings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pruner = FairPruner(**options).fit(X, y, sensitive_features=s[groups])
    messages = [str(w.message) for w in caught if w.category is category]
    assert len(messages) <= 1
    return pruner, (messages or [""])[0]


# Each in a situation that other seeds, and so other processors, end in as well.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "advice", "better"),
    [
        ({"solver": "magnitude", "sparsity": 0.5}, "Try solver='bilevel'.*Magnitude knows no", {}),
        ({"fairness_weight": 0.01}, "Try fairness_weight=1: at 0.01 .* still rising", {}),
        (
            {"fairness_weight": 0.05, "max_epochs": 10},
            "max_epochs='auto': after 10 .* still rising",
            {"fairness_weight": 0.05, "max_epochs": "auto"},
        ),
    ],
)
def test_advice_on_a_bound_that_was_missed_helps(loans, wrong, advice, better):
    before, message = fitted(loans, ConstraintNotMetWarning, **wrong)
    assert re.search(advice, message), message
    after, _ = fitted(loans, ConstraintNotMetWarning, **better)
    assert after.violation_ < 0.5 * before.violation_


def test_a_miss_is_told_with_groups_rates_and_rows(loans):
    pruner, message = fitted(loans, ConstraintNotMetWarning, solver="magnitude", max_epochs=5)
    X, y, s = loans
    predicted = pruner.predict(X)
    gap = pruner.violation_ + 0.02
    told = f"the gap on the training rows is {gap:.4f}, {gap - 0.02:.4f} above the tolerance 0.02"
    assert told in message
    rates = {
        (label, name): (predicted[(y == label) & (s["sex"] == name)].mean(), rows)
        for label in (0, 1)
        for name, rows in s["sex"][y == label].value_counts().items()
    }
    sides = {
        f"{rate:.3f} for '{name}' ({rows} {'positive' if label else 'negative'} rows)"
        for (label, name), (rate, rows) in rates.items()
    }
    assert sum(side in message for side in sides) == 2


@pytest.fixture(scope="module")
def few():
    X, y, s = make_biased_classification(600, random_state=0)
    return X, y.to_numpy(), s


@pytest.mark.slow
def test_cells_of_few_rows_are_cured_by_min_group_count(few):
    settings = {"groups": ["sex", "origin"], "tolerance": 0.03, "max_epochs": "auto"}
    before, message = fitted(few, ConstraintNotMetWarning, min_group_count=5, **settings)
    advised = int(re.search(r"Try min_group_count=(\d+), or merged groups", message).group(1))
    after, message = fitted(few, ConstraintNotMetWarning, min_group_count=advised, **settings)
    assert before.violation_ > 0.01 and after.violation_ <= 0 and not message


@pytest.mark.slow
def test_a_tolerance_out_of_reach_is_cured_by_the_one_that_is_advised(few):
    settings = {"constraint": "demographic_parity", "sparsity": 0.97, "max_epochs": "auto"}
    before, message = fitted(few, ConstraintNotMetWarning, tolerance=0.0, **settings)
    advised = float(
        re.search(r"Try tolerance=([\d.]+): networks like this meet it", message).group(1)
    )
    after, message = fitted(few, ConstraintNotMetWarning, tolerance=advised, **settings)
    assert before.violation_ > 0 and after.violation_ <= 0 and not message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "advice", "better"),
    [
        (
            {"sparsity": 0.95, "tolerance": None, "fairness_weight": 100.0},
            "Try a tolerance, or a fairness_weight below 100: the penalty has no bound",
            [{"sparsity": 0.95}, {"sparsity": 0.95, "tolerance": None, "fairness_weight": 0.3}],
        ),
        (
            {"sparsity": 0.97, "fairness_weight": 300.0},
            "Try fairness_weight=1: at 300 the multipliers overshoot",
            [{"sparsity": 0.97}],
        ),
    ],
)
def test_advice_on_a_collapse_under_a_constraint_helps(loans, wrong, advice, better):
    before, message = fitted(loans, CollapseWarning, max_epochs=200, **wrong)
    assert advice in message
    assert before.predict(loans[0]).mean() < 0.1
    for settings in better:
        after, message = fitted(loans, CollapseWarning, max_epochs=200, **settings)
        assert not message and after.predict(loans[0]).mean() > 0.2


def test_a_bound_that_was_missed_with_a_large_weight_gets_the_same_advice(loans):
    pruner, _ = fitted(loans, ConstraintNotMetWarning, max_epochs=5)
    X, y, s = loans
    given = pruner._given(X, y, None, s["sex"], None, None)
    run = SimpleNamespace(
        best=SimpleNamespace(sums=CellSums(torch.ones(4), torch.ones(4))), history=pruner.history_
    )
    settings = settings_of(pruner.get_params(deep=False) | {"fairness_weight": 300.0})
    advice = advice_on_miss(settings, len(y), given.parity, run)
    assert advice[0] == "fairness_weight=1: at 300 the multipliers overshoot"


def test_a_network_without_weights_is_cured_by_a_lower_sparsity(loans):
    X, y, _ = loans
    options = {"constraint": None, "solver": "random", "max_epochs": 40, "random_state": 0}
    with pytest.warns(CollapseWarning, match="predicts '1' for 0.0% .*Try a lower sparsity."):
        FairPruner(sparsity=0.99, memory=MEMORY, **options).fit(X, y)
    assert FairPruner(sparsity=0.5, memory=MEMORY, **options).fit(X, y).predict(X).mean() > 0.2


def test_a_dense_network_that_is_constant_is_said_and_cured_by_class_weights():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4)).astype(np.float32)
    y = (X[:, 0] + 2 * rng.normal(size=1000) > 4.2).astype(int)
    options = {"constraint": None, "max_epochs": 30, "random_state": 0}
    with pytest.warns(CollapseWarning, match="the dense one for 0.*Try class_weight='balanced'"):
        FairPruner(**options).fit(X, y)
    cured = FairPruner(class_weight="balanced", **options).fit(X, y)
    assert cured.predict(X).mean() > 0.5 * y.mean()


@pytest.mark.parametrize(
    ("predicted", "labelled", "dense", "expected"),
    [
        ([0.6, 0.4], [0.6, 0.4], [0.6, 0.4], [False, False]),
        ([1.0, 0.0], [0.6, 0.4], [0.6, 0.4], [False, True]),
        ([0.0, 1.0], [0.6, 0.4], [0.6, 0.4], [True, False]),  # the mirror image
        ([0.999, 0.001], [0.6, 0.4], [1.0, 0.0], [False, True]),  # dense is constant itself
        ([0.93, 0.07], [0.6, 0.4], [0.6, 0.4], [False, True]),  # a quarter of what dense does
        ([0.93, 0.07], [0.6, 0.4], None, [False, False]),
        ([0.5, 0.5, 0.0], [0.4, 0.4, 0.2], None, [False, False, True]),
    ],
)
def test_a_collapse_of_any_class_is_seen(predicted, labelled, dense, expected):
    arrays = [None if a is None else np.array(a) for a in (predicted, labelled, dense)]
    assert hardly_predicted(*arrays).tolist() == expected


def test_a_collapse_ranks_below_a_bound_that_was_missed():
    def candidate(collapsed, violation, accuracy, gap):
        rest = dict.fromkeys(("parameters", "buffers", "masks"), {})
        return Candidate(
            **rest, multipliers=None, sparsity=0.9, accuracy=accuracy, selection_rates=[0.0],
            collapsed=collapsed, sums=None, train_gap=gap, gap=gap, violation=violation,
        )  # fmt: skip

    missed, nobody = candidate(False, 0.01, 0.8, 0.06), candidate(True, -0.05, 0.75, 0.0)
    met = candidate(False, -0.01, 0.78, 0.04)
    assert Run((nobody, missed), None, 1).best is missed
    assert Run((nobody, missed, met), None, 1).best is met


def test_rows_that_tell_less_than_the_tolerance_are_named_with_how_many_would():
    n = torch.tensor([400, 300, 60, 500])
    parity = Parity(
        Requirement(EqualizedOdds(), 0.05, "between_groups"),
        ("a", "b"),
        ("negative", "positive"),
        n,
        torch.ones(4, dtype=torch.bool),
        unseen=True,
    )
    run = SimpleNamespace(best=SimpleNamespace(sums=CellSums(0.5 * n, n.float())))
    vague = vaguest(parity, run)
    assert (vague.cell, vague.other) == (2, 3)
    assert vague.error == pytest.approx((0.25 / 62 + 0.25 / 502) ** 0.5)
    message = described_vagueness(parity, vague)
    assert (
        "of 'a' (60 positive rows) and 'b' (500 positive rows) are known to 0.067 only" in message
    )
    assert "About 7 times as many rows" in message  # (2 * 0.067 / 0.05)²
    assert vaguest(replace(parity, unseen=False), run) is None  # for training rows: met is met
    wider = Requirement(EqualizedOdds(), 0.07, "between_groups")
    assert vaguest(replace(parity, requirement=wider), run) is None
