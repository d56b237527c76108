"""Rates and gaps, against fairlearn (hard) and fairret (soft)."""

from __future__ import annotations

import fairlearn.metrics as flm
import fairret.statistic
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from fairprune_sk.constraints import (
    CONSTRAINTS,
    OUTSIDE,
    Cells,
    CellSums,
    cell_codes,
    cell_sums,
    differences,
    gap,
    hard_outcome,
    pooled_rates,
    rates,
    soft_outcome,
)

RATES = {
    "demographic_parity": [flm.selection_rate],
    "equalized_odds": [flm.true_positive_rate, flm.false_positive_rate],
    "equal_opportunity": [flm.true_positive_rate],
    "false_positive_rate_parity": [flm.false_positive_rate],
    "accuracy_parity": [accuracy_score],
}


def draw(n=500, n_groups=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    group = rng.integers(0, n_groups, n)
    logits = rng.normal(0.6 * y - 0.3 + 0.4 * (group == 0), 1.0)
    return y, group, logits, rng.uniform(0.5, 2.0, n)


def sums_of(name, y, group, logits, weight=None, outcome=hard_outcome, n_groups=3):
    constraint = CONSTRAINTS[name]()
    y, group = torch.tensor(y), torch.tensor(group)
    logits = torch.tensor(logits)
    n_cells = len(constraint.events) * n_groups
    cells = Cells(constraint, n_groups, torch.ones(n_cells, dtype=torch.bool))
    cell = cell_codes(constraint, y, group, n_groups)
    values = outcome(constraint.outcome_logits(logits, y))
    return cell_sums(values, cell, n_cells, weight), cells


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("method", ["between_groups", "to_overall"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_groups", [2, 7])
def test_gap_equals_metric_frame(name, method, weighted, n_groups):
    y, group, logits, weight = draw(n_groups=n_groups)
    weight = weight if weighted else None
    sums, cells = sums_of(
        name,
        y,
        group,
        logits,
        None if weight is None else torch.tensor(weight),
        n_groups=n_groups,
    )
    expected = max(
        flm.MetricFrame(
            metrics=metric,
            y_true=y,
            y_pred=(logits > 0).astype(int),
            sensitive_features=group,
            sample_params={"sample_weight": weight} if weighted else None,
        ).difference(method=method)
        for metric in RATES[name]
    )
    assert float(gap(sums, cells, method)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "statistic", "takes_label"),
    [
        ("demographic_parity", fairret.statistic.PositiveRate(), False),
        ("equal_opportunity", fairret.statistic.TruePositiveRate(), True),
        ("false_positive_rate_parity", fairret.statistic.FalsePositiveRate(), True),
        ("accuracy_parity", fairret.statistic.Accuracy(), True),
    ],
)
def test_soft_rates_and_their_gradients_equal_fairret(name, statistic, takes_label):
    y, group, logits, _ = draw()
    ours = torch.tensor(logits, requires_grad=True)
    theirs = torch.tensor(logits, requires_grad=True)
    constraint = CONSTRAINTS[name]()
    label = torch.tensor(y)
    cell = cell_codes(constraint, label, torch.tensor(group), 3)
    outcome = soft_outcome(constraint.outcome_logits(ours, label), temperature=0.5)
    rate = rates(cell_sums(outcome, cell, 3))
    one_hot = torch.nn.functional.one_hot(torch.tensor(group), 3).double()
    labels = [label.double()[:, None]] if takes_label else []
    expected = statistic(torch.sigmoid(theirs / 0.5)[:, None], one_hot, *labels).flatten()
    torch.testing.assert_close(rate, expected)
    rate.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_equalized_odds_has_the_cells_of_both_rates():
    y, group, logits, _ = draw()
    both, _ = sums_of("equalized_odds", y, group, logits)
    negative, _ = sums_of("false_positive_rate_parity", y, group, logits)
    positive, _ = sums_of("equal_opportunity", y, group, logits)
    torch.testing.assert_close(rates(both), torch.cat([rates(negative), rates(positive)]))


def test_leading_axes_are_networks_of_their_own():
    y, group, logits, _ = draw()
    stack = np.stack([logits, -logits, logits - 1]).reshape(3, 1, -1)
    sums, cells = sums_of("equalized_odds", y, group, stack)
    assert sums.outcome.shape == (3, 1, 6)
    for i in range(3):
        alone, _ = sums_of("equalized_odds", y, group, stack[i, 0])
        torch.testing.assert_close(differences(sums, cells)[i, 0], differences(alone, cells))
        torch.testing.assert_close(gap(sums, cells)[i, 0], gap(alone, cells))


def test_rows_outside_count_nowhere():
    constraint = CONSTRAINTS["equal_opportunity"]()
    y = torch.tensor([1, 1, 0, 1])
    cell = cell_codes(constraint, y, torch.tensor([0, 1, 1, -1]), 2)
    assert cell.tolist() == [0, 1, OUTSIDE, OUTSIDE]
    sums = cell_sums(torch.ones(4), cell, 2)
    assert sums.weight.tolist() == [1.0, 1.0]


def test_empty_and_unconstrained_cells_have_no_difference():
    constraint = CONSTRAINTS["demographic_parity"]()
    sums = CellSums(torch.tensor([4.0, 0.0, 0.0, 1.0]), torch.tensor([8.0, 8.0, 0.0, 1.0]))
    cells = Cells(constraint, 4, torch.tensor([True, True, True, False]))
    torch.testing.assert_close(pooled_rates(sums, 4), torch.full((4,), 5 / 17))
    torch.testing.assert_close(
        differences(sums, cells), torch.tensor([0.5 - 5 / 17, -5 / 17, 0.0, 0.0])
    )
    assert float(gap(sums, cells)) == 0.5
    assert torch.isfinite(gap(sums, cells, "to_overall"))
