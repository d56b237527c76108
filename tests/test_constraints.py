"""Rates and gaps, against fairlearn (hard) and fairret (soft)."""

from __future__ import annotations

import fairlearn.metrics as flm
import fairret.statistic
import numpy as np
import pytest
import torch
from fairlearn.reductions import UtilityParity
from parities import parity_of
from sklearn.metrics import accuracy_score, zero_one_loss

from fairprune_sk.assessment.gaps import fairness_gap
from fairprune_sk.fairness.constraints import (
    CONSTRAINTS,
    OUTSIDE,
    CellSums,
    cell_codes,
    cell_sums,
    class_columns,
    hard_outcome,
    margins,
    pooled_rates,
    rates,
    soft_outcome,
)
from fairprune_sk.fairness.requirement import MOMENTS
from fairprune_sk.networks.batch import Batch

RATES = {
    "demographic_parity": [flm.selection_rate],
    "equalized_odds": [flm.true_positive_rate, flm.false_positive_rate],
    "equal_opportunity": [flm.true_positive_rate],
    "false_positive_rate_parity": [flm.false_positive_rate],
    "accuracy_parity": [accuracy_score],
    "error_rate_parity": [zero_one_loss],
}


def draw(n=500, n_groups=3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    group = rng.integers(0, n_groups, n)
    logits = rng.normal(0.6 * y - 0.3 + 0.4 * (group == 0), 1.0)
    return y, group, logits, rng.uniform(0.5, 2.0, n)


def sums_of(
    name,
    y,
    group,
    logits,
    weight=None,
    n_groups=3,
    stratum=None,
    n_strata=1,
    comparison="difference",
    method="between_groups",
):
    """Sum the hard outcomes; logits of shape (n,) or, for several classes, (n, K)."""
    constraint = CONSTRAINTS[name](comparison)
    y, group, logits = torch.tensor(y), torch.tensor(group), torch.tensor(logits)
    logits = logits if y.max() > 1 else logits.unsqueeze(-1)
    is_class = class_columns(y, logits.shape[-1])
    stratum = None if stratum is None else torch.tensor(stratum)
    cell = cell_codes(constraint, is_class, group, n_groups, stratum, n_strata)
    n_cells = cell.shape[1] * len(constraint.events) * n_strata * n_groups
    parity = parity_of(name, n_groups, 0.05, method, comparison, n_cells=n_cells)
    weight = None if weight is None else torch.tensor(weight)
    return parity.sums(hard_outcome, logits, Batch(logits, y, weight, cell)), parity


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("method", ["between_groups", "to_overall"])
@pytest.mark.parametrize("comparison", ["difference", "ratio"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_groups", [2, 7])
def test_gap_equals_metric_frame(name, method, comparison, weighted, n_groups):
    y, group, logits, weight = draw(n_groups=n_groups)
    weight = weight if weighted else None
    sums, parity = sums_of(
        name, y, group, logits, weight, n_groups, comparison=comparison, method=method
    )
    frames = [
        flm.MetricFrame(
            metrics=metric,
            y_true=y,
            y_pred=(logits > 0).astype(int),
            sensitive_features=group,
            sample_params={"sample_weight": weight} if weighted else None,
        )
        for metric in RATES[name]
    ]
    if comparison == "difference":
        expected = max(frame.difference(method=method) for frame in frames)
    else:
        expected = max(1.0 - frame.ratio(method=method) for frame in frames)
    assert float(parity.gap(sums)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("method", ["between_groups", "to_overall"])
def test_gap_within_control_strata_equals_metric_frame(name, method):
    y, group, logits, _ = draw(900)
    stratum = np.random.default_rng(1).integers(0, 4, 900)
    sums, parity = sums_of(name, y, group, logits, stratum=stratum, n_strata=4, method=method)
    expected = max(
        flm.MetricFrame(
            metrics=metric,
            y_true=y,
            y_pred=(logits > 0).astype(int),
            sensitive_features=group,
            control_features=stratum,
        )
        .difference(method=method)
        .max()
        for metric in RATES[name]
    )
    assert float(parity.gap(sums)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", RATES)
def test_with_more_classes_each_is_held_against_the_rest(name):
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 4, 800), rng.integers(0, 3, 800)
    logits = (
        rng.normal(size=(800, 4)) + 0.8 * np.eye(4)[y] + 0.3 * (group == 1)[:, None] * [1, 0, 0, 0]
    )
    sums, parity = sums_of(name, y, group, logits)
    predicted = logits.argmax(1)
    pairs = [(y == k, predicted == k) for k in range(4)]
    if name in ("accuracy_parity", "error_rate_parity"):
        pairs = [(y, predicted)]
    expected = max(
        flm.MetricFrame(
            metrics=metric, y_true=true * 1, y_pred=guess * 1, sensitive_features=group
        ).difference()
        for true, guess in pairs
        for metric in RATES[name]
    )
    assert float(parity.gap(sums)) == pytest.approx(expected, abs=1e-12)


def test_margins_are_positive_for_the_predicted_class_alone():
    logits = torch.randn(2, 50, 5)
    positive = margins(logits) > 0
    assert torch.equal(positive.sum(-1), torch.ones(2, 50, dtype=torch.int64))
    assert torch.equal(positive.int().argmax(-1), logits.argmax(-1))
    two = torch.randn(50, 2)
    torch.testing.assert_close(margins(two)[:, 1], two[:, 1] - two[:, 0])


@pytest.mark.parametrize("comparison", ["difference", "ratio"])
@pytest.mark.parametrize("method", ["between_groups", "to_overall"])
def test_cells_within_their_bound_keep_the_gap_within_the_tolerance(comparison, method):
    rng = np.random.default_rng(0)
    parity = parity_of("demographic_parity", 3, 0.2, method, comparison)
    within = 0
    for _ in range(2000):
        weight = torch.tensor(rng.uniform(1, 10, 3))
        sums = CellSums(weight * torch.tensor(rng.uniform(0.3, 0.5, 3)), weight)
        if (parity.differences(sums).abs() <= parity.cell_bound).all():
            within += 1
            assert parity.violation(sums) <= 1e-9
    assert within > 100


def test_comparisons_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="comparison='quotient'"):
        CONSTRAINTS["demographic_parity"]("quotient")
    with pytest.raises(ValueError, match="near 0"):
        CONSTRAINTS["degradation_parity"]("ratio")


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
    is_class = class_columns(label, 1)
    cell = cell_codes(constraint, is_class, torch.tensor(group), 3)
    outcome = soft_outcome(constraint.outcome_logits(ours[:, None], is_class), temperature=0.5)
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


def test_rows_outside_count_nowhere():
    constraint = CONSTRAINTS["equal_opportunity"]()
    y = torch.tensor([1, 1, 0, 1])
    cell = cell_codes(constraint, class_columns(y, 1), torch.tensor([0, 1, 1, -1]), 2)
    assert cell.flatten().tolist() == [0, 1, OUTSIDE, OUTSIDE]
    sums = cell_sums(torch.ones(4, 1), cell, 2)
    assert sums.weight.tolist() == [1.0, 1.0]


def test_empty_and_unconstrained_cells_have_no_difference():
    sums = CellSums(torch.tensor([4.0, 0.0, 0.0, 1.0]), torch.tensor([8.0, 8.0, 0.0, 1.0]))
    constrained = torch.tensor([True, True, True, False])
    parity = parity_of("demographic_parity", 4, constrained=constrained)
    torch.testing.assert_close(pooled_rates(sums, 4), torch.full((4,), 5 / 17))
    torch.testing.assert_close(
        parity.differences(sums), torch.tensor([0.5 - 5 / 17, -5 / 17, 0.0, 0.0])
    )
    assert float(parity.gap(sums)) == 0.5
    to_overall = parity_of("demographic_parity", 4, None, "to_overall", constrained=constrained)
    assert torch.isfinite(to_overall.gap(sums))
    assert to_overall.violation(sums) == -torch.inf  # there is no tolerance


def test_a_notion_is_called_by_the_words_of_its_class_unless_it_says_otherwise():
    class TPRBalance2(CONSTRAINTS["demographic_parity"]):
        pass

    class _Own(CONSTRAINTS["accuracy_parity"]):
        name = "what I mean"

    assert (TPRBalance2.name, _Own.name) == ("tpr balance2", "what I mean")
    names = {name: kind.name for name, kind in CONSTRAINTS.items()}
    assert names == {
        "demographic_parity": "demographic parity",
        "equalized_odds": "equalized odds",
        "equal_opportunity": "equal opportunity",
        "false_positive_rate_parity": "false positive rate",
        "accuracy_parity": "accuracy",
        "error_rate_parity": "error rate",
        "degradation_parity": "accuracy lost",
    }


def test_moments_are_those_of_fairlearn():
    assert {name: kind.__name__ for name, kind in MOMENTS.items()} == {
        "demographic_parity": "DemographicParity",
        "equalized_odds": "EqualizedOdds",
        "equal_opportunity": "TruePositiveRateParity",
        "false_positive_rate_parity": "FalsePositiveRateParity",
        "error_rate_parity": "ErrorRateParity",
    }
    assert all(issubclass(kind, UtilityParity) for kind in MOMENTS.values())


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("gap_method", ["between_groups", "to_overall"])
@pytest.mark.parametrize("comparison", ["difference", "ratio"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_a_gap_is_measured_as_it_is_trained_for(name, gap_method, comparison, n_classes):
    # Hard predictions hold all that a gap depends on.
    rng = np.random.default_rng(1)
    y, group, stratum = rng.integers(0, n_classes, 900), *rng.integers(0, 3, (2, 900))
    logits = rng.normal(size=(900, n_classes)) + np.eye(n_classes)[y]
    logits = logits[:, 1] - logits[:, 0] if n_classes == 2 else logits
    predicted = (logits > 0).astype(int) if n_classes == 2 else logits.argmax(1)
    arguments = {"stratum": stratum, "n_strata": 3, "comparison": comparison}
    sums, parity = sums_of(name, y, group, logits, method=gap_method, **arguments)
    measured = fairness_gap(
        y,
        predicted,
        sensitive_features=group,
        control_features=stratum,
        constraint=CONSTRAINTS[name](comparison),
        gap_method=gap_method,
    )
    assert measured == pytest.approx(float(parity.gap(sums)), abs=1e-12)
