"""Tests of gaps, against fairlearn, and of noise floors, against row-by-row simulations."""

import fairlearn.metrics as flm
import numpy as np
import pandas as pd
import pytest
import torch

from fairprune_sk.assessment import noise
from fairprune_sk.assessment.gaps import NOTIONS, Cells, fairness_gap
from fairprune_sk.assessment.noise import gap_estimate, noise_floor
from fairprune_sk.fairness.constraints import (
    CONSTRAINTS,
    OUTSIDE,
    Constraint,
    DegradationParity,
)


@pytest.fixture(scope="module")
def predictions():
    """Draw true and predicted labels of three classes, group and stratum of 1,200 rows."""
    rng = np.random.RandomState(0)
    y_true = rng.choice(["bad", "fair", "good"], 1200, p=[0.5, 0.3, 0.2])
    y_pred = np.where(rng.uniform(size=1200) < 0.6, y_true, rng.permutation(y_true))
    group = rng.choice(["a", "b", "c"], 1200, p=[0.6, 0.3, 0.1])
    stratum = np.where(rng.uniform(size=1200) < 0.7, "large", "small")
    return y_true, y_pred, group, stratum


def simulated_gaps(y_true, y_pred, group, stratum, constraint, n_draws=300):
    """Gaps after whole labels are redrawn from the rows of all groups, in plain loops.

    Of rates that condition on the true label, rows are redrawn within it.
    """
    rng = np.random.RandomState(1)
    given = y_true if constraint != "demographic_parity" else np.zeros(len(y_true))
    largest = []
    for _ in range(n_draws):
        gaps = []
        for s in np.unique(stratum):
            drawn = y_pred.copy()
            for value in np.unique(given):
                rows = np.flatnonzero((given == value) & (stratum == s))
                drawn[rows] = y_pred[rng.choice(rows, len(rows))]
            for label in np.unique(y_true):
                event = y_true == label if constraint != "demographic_parity" else True
                rates = [
                    np.mean(drawn[event & (stratum == s) & (group == g)] == label)
                    for g in np.unique(group)
                ]
                gaps.append(np.ptp(rates))
        largest.append(max(gaps))
    return np.array(largest)


class WrongOfThePositive(Constraint):
    """A user's own: ``P[ŷ = 0 | y = 1, group]`` is the same in every group."""

    events = ("positive",)

    def event(self, is_class):
        return torch.where(is_class, 0, OUTSIDE)

    def outcome_logits(self, margins, is_class):
        return -margins


GAP_FUNCTIONS = {
    "demographic_parity": flm.demographic_parity_difference,
    "equalized_odds": flm.equalized_odds_difference,
    "equal_opportunity": flm.equal_opportunity_difference,
    "false_positive_rate_parity": flm.false_positive_rate_difference,
    "accuracy_parity": flm.accuracy_score_difference,
    "error_rate_parity": flm.zero_one_loss_difference,
    WrongOfThePositive(): flm.false_negative_rate_difference,
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gap_method", ["between_groups", "to_overall"])
@pytest.mark.parametrize("constraint", GAP_FUNCTIONS, ids=str)
def test_a_gap_is_fairlearns(predictions, constraint, gap_method, weighted):
    y_true, y_pred, group, _ = predictions
    weight = np.random.RandomState(2).uniform(0.1, 3, 1200) if weighted else None
    labels = [(y == "good").astype(int) for y in (y_true, y_pred)]
    arguments = {"sensitive_features": group, "sample_weight": weight}
    measured = fairness_gap(*labels, constraint=constraint, gap_method=gap_method, **arguments)
    expected = GAP_FUNCTIONS[constraint](*labels, method=gap_method, **arguments)
    assert measured == pytest.approx(expected, abs=1e-12)


def test_a_rate_that_a_group_has_not_is_left_out():
    y_true, y_pred, group = [1, 1, 0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0, 0, 0], list("aaabbbcc")
    arguments = {"sensitive_features": group}
    assert flm.equal_opportunity_difference(y_true, y_pred, **arguments) == 1.0
    gap = fairness_gap(y_true, y_pred, constraint="equal_opportunity", **arguments)
    assert gap == 0.5
    assert np.isnan(fairness_gap([0, 0, 0, 0], [1, 0, 0, 1], sensitive_features=list("aabb")))


def test_a_notion_of_ones_own_has_the_noise_of_its_complement(predictions):
    y_true, y_pred, group, stratum = predictions
    arguments = {"sensitive_features": group, "control_features": stratum}
    own = noise_floor(y_true, y_pred, constraint=WrongOfThePositive(), **arguments)
    known = noise_floor(y_true, y_pred, constraint="equal_opportunity", **arguments)
    assert own == pytest.approx(known, rel=0.05)


def test_a_notion_that_needs_a_dense_network_or_that_is_unknown_is_refused():
    for constraint in ("degradation_parity", DegradationParity(), "gini", CONSTRAINTS):
        with pytest.raises(ValueError, match=r"expected one of \['demographic_parity', .*dense"):
            fairness_gap([0, 1], [0, 1], sensitive_features=["f", "m"], constraint=constraint)
    with pytest.raises(ValueError, match="Got gap_method='both', but expected"):
        fairness_gap([0, 1], [0, 1], sensitive_features=["f", "m"], gap_method="both")


@pytest.mark.parametrize("strata", [False, True])
@pytest.mark.parametrize("constraint", ["demographic_parity", "equal_opportunity"])
def test_noise_floor_equals_a_simulation(predictions, constraint, strata):
    y_true, y_pred, group, stratum = predictions
    floor = noise_floor(
        y_true,
        y_pred,
        sensitive_features=group,
        control_features=stratum if strata else None,
        constraint=constraint,
    )
    within = stratum if strata else np.full(1200, "all")
    expected = simulated_gaps(y_true, y_pred, group, within, constraint)
    assert floor == pytest.approx(expected.mean(), abs=4 * expected.std() / np.sqrt(300))


def test_false_positive_rates_of_several_classes_are_nearly_exact():
    # Same mix of classes in each group: the labels of all rows can be redrawn at once.
    rng = np.random.RandomState(0)
    y_true, group = np.repeat([0, 1, 2], 400), np.tile(["a", "b"], 600)
    chance = np.array([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.1, 0.3, 0.6]]).cumsum(1)
    floors, gaps = [], []
    for draw in range(400):
        y_pred = (rng.uniform(size=(1200, 1)) > chance[y_true]).sum(1)
        gaps.append(
            max(
                np.ptp([np.mean(y_pred[(y_true != k) & (group == g)] == k) for g in ("a", "b")])
                for k in range(3)
            )
        )
        if draw < 5:
            floors.append(
                noise_floor(
                    y_true,
                    y_pred,
                    sensitive_features=group,
                    constraint="false_positive_rate_parity",
                )
            )
    assert np.mean(floors) == pytest.approx(np.mean(gaps), rel=0.1)


def test_labels_of_any_kind_with_a_pos_label(predictions):
    y_true, y_pred, group, _ = predictions
    positive = [(y == "good").astype(int) for y in (y_true, y_pred)]
    for notion in NOTIONS[:4]:
        floor = noise_floor(
            y_true, y_pred, sensitive_features=group, constraint=notion, pos_label="good"
        )
        assert floor == noise_floor(*positive, sensitive_features=group, constraint=notion)
    words = [np.where(p, "yes", "no") for p in positive]
    floor = noise_floor(*words, sensitive_features=group, pos_label="yes")
    assert floor == noise_floor(*positive, sensitive_features=group)


def test_labels_without_a_positive_row_have_no_floor():
    zeros = np.zeros(8, dtype=int)
    sex = list("fmfmfmfm")
    assert np.isnan(noise_floor(zeros, zeros, sensitive_features=sex))
    floor = noise_floor(zeros, zeros, sensitive_features=sex, constraint="accuracy_parity")
    assert floor == 0.0


def test_rows_without_a_group_do_not_count(predictions):
    y_true, y_pred, group, stratum = predictions
    known = group != "c"
    floor = noise_floor(
        y_true,
        y_pred,
        sensitive_features=pd.Series(group).where(known),
        control_features=stratum,
        missing_sensitive="ignore",
    )
    assert floor == noise_floor(
        y_true[known],
        y_pred[known],
        sensitive_features=group[known],
        control_features=stratum[known],
    )
    named = noise_floor(
        y_true,
        y_pred,
        sensitive_features=pd.Series(group).where(known),
        missing_sensitive="group",
    )
    assert named == pytest.approx(noise_floor(y_true, y_pred, sensitive_features=group), rel=0.05)


def test_draws_in_chunks_are_the_same_draws(predictions, monkeypatch):
    y_true, y_pred, group, stratum = predictions
    arguments = {"sensitive_features": group, "control_features": stratum}
    floor = noise_floor(y_true, y_pred, **arguments)
    monkeypatch.setattr(noise, "_CHUNK", 1000)
    assert noise_floor(y_true, y_pred, **arguments) == pytest.approx(floor, rel=1e-12)


def estimates(rates, n_rows, gap_method="between_groups", comparison="difference"):
    """Estimate gaps of 200 tables that are drawn from rates, by event and group."""
    rng, n = np.random.default_rng(0), np.full(np.shape(rates), n_rows)[:, None, None, :]
    for hits in rng.binomial(n, np.array(rates)[:, None, None, :], (200, *n.shape)):
        pooled = hits.mean(-1, keepdims=True)[..., None] / n_rows
        shares = (hits / n_rows)[..., None]
        cells = Cells(comparison, n, n.astype(float), shares, pooled, np.array([[1]]))
        yield noise.estimate_of(cells, 0.95, gap_method)


TRUTHS = {
    "parity": [[0.3, 0.3]],
    "parity of eight": [[0.1] * 8],
    "two events": [[0.3, 0.32], [0.5, 0.45]],
    "five groups": [[0.2, 0.2, 0.25, 0.25, 0.25]],
}


@pytest.mark.parametrize("gap_method", ["between_groups", "to_overall"])
@pytest.mark.parametrize("truth", TRUTHS)
def test_the_interval_covers_the_gap_and_the_corrected_gap_leans_less(
    truth, gap_method, monkeypatch
):
    monkeypatch.setattr(noise, "N_DRAWS", 50)
    rates = np.array(TRUTHS[truth])
    to_overall = np.abs(rates - rates.mean(1, keepdims=True)).max()
    gap = np.ptp(rates, axis=1).max() if gap_method == "between_groups" else to_overall
    found = list(estimates(rates, 150, gap_method))
    covered = np.mean([e.low - 1e-12 <= gap <= e.high for e in found])
    assert covered >= 0.92  # 0.95, less what 200 draws may miss
    lean, left = (np.mean([getattr(e, name) for e in found]) - gap for name in ("gap", "corrected"))
    # About a half for two groups at parity, since a gap is never below 0, and more of few draws.
    assert lean > 0 and abs(left) < 0.7 * lean


def test_ratios_have_intervals_too(monkeypatch):
    monkeypatch.setattr(noise, "N_DRAWS", 50)
    found = list(estimates([[0.2, 0.3, 0.25]], 300, comparison="ratio"))
    covered = [e.low <= 1 - 0.2 / 0.3 <= e.high for e in found]
    assert np.mean(covered) >= 0.92 and all(0 <= e.corrected <= e.gap for e in found)


def test_uneven_weights_widen_the_interval_and_strata_count_as_comparisons(predictions):
    y_true, y_pred, group, stratum = predictions
    rows = {"sensitive_features": group, "pos_label": "good"}
    plain, heavy, within = (
        gap_estimate(y_true, y_pred, **rows, **more)
        for more in (
            {},
            {"sample_weight": np.where(np.arange(1200) % 2, 9.0, 1.0)},
            {"control_features": stratum},
        )
    )
    assert heavy.high - heavy.low > plain.high - plain.low
    assert within.high - within.low > plain.high - plain.low
    level = gap_estimate(y_true, y_pred, **rows, confidence_level=0.5)
    assert plain.low <= level.low <= level.high <= plain.high
    assert (level.gap, level.corrected) == (plain.gap, plain.corrected)


def test_nobody_selected_among_few_rows_is_no_certainty():
    y, group = np.zeros(40, dtype=int), np.arange(40) % 2
    found = gap_estimate(y, y, sensitive_features=group, constraint="demographic_parity")
    assert found.gap == found.corrected == found.low == 0 and 0.05 < found.high < 0.3


def test_a_gap_of_one_group_has_no_estimate():
    found = gap_estimate([0, 0, 0, 0], [1, 0, 0, 1], sensitive_features=list("aabb"))
    assert np.isnan(found[:5]).all()
    with pytest.raises(ValueError, match="confidence_level=1, but expected"):
        gap_estimate([0, 1], [0, 1], sensitive_features=["f", "m"], confidence_level=1)
