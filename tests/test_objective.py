"""The fairness term, on problems with known solutions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from parities import parity_of

from fairprune_sk.fairness.constraints import CONSTRAINTS, CellSums, cell_codes, class_columns
from fairprune_sk.fairness.objective import (
    Enforcement,
    FairnessTerm,
    LagrangianTerm,
    augmented_lagrangian,
    beyond,
)
from fairprune_sk.networks.batch import Batch


def test_derivative_is_the_shifted_multiplier():
    difference = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64, requires_grad=True)
    multipliers = torch.full_like(difference, 0.3).detach()
    augmented_lagrangian(difference, 0.2, multipliers, torch.tensor(2.0)).backward()
    shifted = multipliers + 2.0 * difference.detach()
    above, below = (shifted - 0.4).clamp_min(0.0), (-shifted - 0.4).clamp_min(0.0)
    torch.testing.assert_close(difference.grad, above - below)


@pytest.mark.parametrize(("wanted", "reached", "expected"), [(2.0, 1.0, 2.0), (-3.0, -1.0, -4.0)])
def test_finds_the_solution_and_multiplier_of_a_constrained_quadratic(wanted, reached, expected):
    # min (x - wanted)² s.t. |x| <= 1: x is at the nearer end, and 2(x - wanted) + multiplier = 0.
    x = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    multiplier = torch.zeros(1, dtype=torch.float64)
    rho = torch.tensor(5.0)
    for _ in range(2000):
        objective = (x - wanted).square().sum() + augmented_lagrangian(x, 1.0, multiplier, rho)
        (grad,) = torch.autograd.grad(objective, x)
        with torch.no_grad():
            x -= 0.05 * grad
            multiplier = beyond(multiplier + 0.1 * x, 0.1)
    assert x.item() == pytest.approx(reached, abs=1e-4)
    assert float(multiplier) == pytest.approx(expected, abs=1e-3)


def problem(bound, n=400, memory=0.0):
    torch.manual_seed(0)
    constraint = CONSTRAINTS["demographic_parity"]()
    group = torch.arange(n) % 2
    y = torch.zeros(n, dtype=torch.int64)
    # A bound on each of two groups is half the tolerance between them.
    parity = parity_of("demographic_parity", tolerance=None if bound is None else 2 * bound)
    term = LagrangianTerm(parity, memory, Enforcement(5.0, 0.1, 0.5), weight=1.0)
    cell = cell_codes(constraint, class_columns(y, 1), group, 2)
    return term, Batch(torch.empty(n, 0), y, cell=cell), group


def step(term, state, logits, batch):
    """Make the three moves of a step: the penalty, and the state afterwards."""
    state = term.measure(state, logits, batch)
    return term.penalty(state, logits, batch), term.ascend(state)


def logit_columns(logits):
    return logits.unsqueeze(-1)


def test_value_is_the_hard_gap_and_gradient_the_soft_one():
    term, batch, group = problem(None)
    logits = (torch.randn(400) + group).requires_grad_()
    value, _ = step(term, term.init(logits.detach()[:1]), logit_columns(logits), batch)
    hard = (logits > 0).float()
    difference = hard[group == 1].mean() - hard[group == 0].mean()
    assert value.item() == pytest.approx(difference.abs().item(), abs=1e-6)
    value.backward()
    soft = logits.detach().clone().requires_grad_()
    rates = torch.sigmoid(soft / 0.5)
    (rates[group == 1].mean() - rates[group == 0].mean()).backward()
    torch.testing.assert_close(logits.grad, soft.grad, atol=1e-6, rtol=1e-4)


def test_multipliers_move_against_a_violation_and_go_back_to_zero():
    term, batch, group = problem(0.05)
    state = term.init(torch.zeros(1))
    _, state = step(term, state, logit_columns(4.0 * group - 2.0), batch)
    # Each of two cells of one size has half of the rows, and 4 times its share is its strength.
    moved = 2 * 0.1 * (0.5 - term.parity.enforced_bound)
    torch.testing.assert_close(state.multipliers, moved * torch.tensor([-1.0, 1.0]))
    for _ in range(50):
        _, state = step(term, state, torch.ones(400, 1), batch)
    assert (state.multipliers == 0).all()


def test_strength_is_in_proportion_to_the_rows_of_a_cell():
    term, batch, _ = problem(0.05)
    few = torch.arange(400) < 4
    cell = torch.where(few, 0, 1).unsqueeze(-1)
    state = term.measure(term.init(torch.zeros(1)), torch.ones(400, 1), replace(batch, cell=cell))
    torch.testing.assert_close(term.strength(state), torch.tensor([0.04, 3.96]))


def test_classes_do_not_share_the_strength_of_their_rows():
    term, batch, _ = problem(0.05)
    term = replace(term, parity=replace(term.parity, n_outcomes=2))
    state = replace(
        term.init(torch.zeros(1)), running=CellSums(torch.ones(2), torch.full((2,), 400.0))
    )
    torch.testing.assert_close(term.strength(state), torch.tensor([4.0, 4.0]))


def test_a_cell_without_rows_adds_nothing():
    term, batch, _ = problem(0.05)
    logits = torch.randn(400, 1).requires_grad_()
    batch = replace(batch, cell=torch.zeros(400, 1, dtype=torch.int64))
    value, state = step(term, term.init(torch.zeros(1)), logits, batch)
    value.backward()
    assert value.item() == 0 and (logits.grad == 0).all() and (state.multipliers == 0).all()


def test_multipliers_do_not_climb_on_noise():
    # Rates that are now above and now below the bound, by as much, and equal on average.
    term, batch, group = problem(0.05)
    state, apart = term.init(torch.zeros(1)), 4.0 * group - 2.0
    for _ in range(100):
        for logits in (apart, -apart):
            _, state = step(term, state, logit_columns(logits), batch)
    assert (state.multipliers.abs() <= 2 * 0.1 * 0.5).all()  # of a single step


def test_within_the_bound_there_is_no_gradient():
    term, batch, _ = problem(0.1)
    logits = torch.randn(400).requires_grad_()
    with torch.no_grad():  # equal rates in both groups
        logits[1::2] = logits[::2]
    value, _ = step(term, term.init(logits.detach()[:1]), logit_columns(logits), batch)
    value.backward()
    assert (logits.grad == 0).all()


def test_averaging_over_batches_removes_the_upward_bias():
    term, batch, _ = problem(None, memory=0.95)
    state = term.init(torch.zeros(1))
    alone, averaged = [], []
    for _ in range(300):
        logits = torch.randn(400, 1)
        alone.append(float(step(term, term.init(logits[0, :1]), logits, batch)[0]))
        value, state = step(term, state, logits, batch)
        averaged.append(float(value))
    assert sum(averaged[100:]) / 200 < 0.5 * sum(alone[100:]) / 200


def test_sample_weights_enter_the_rates():
    term, batch, group = problem(None)
    logits = torch.randn(400)
    repeats = torch.randint(1, 4, (400,))
    weighted, _ = step(
        term, term.init(logits[:1]), logit_columns(logits), replace(batch, weight=repeats.float())
    )
    repeated, _ = step(
        term,
        term.init(logits[:1]),
        logit_columns(logits.repeat_interleave(repeats)),
        batch.take(torch.arange(400).repeat_interleave(repeats)),
    )
    torch.testing.assert_close(weighted, repeated)


def test_outcomes_of_the_dense_network_are_taken_off():
    term, batch, group = problem(None)
    logits = (torch.randn(400) + group).requires_grad_()
    reference = term.parity.outcomes_of_classes(logit_columns(logits.detach()))
    batch = replace(batch, reference=reference)
    value, _ = step(term, term.init(logits.detach()[:1]), logit_columns(logits), batch)
    assert value.item() == 0.0  # as unequal as the dense network, and no more


def test_moves_give_states_and_change_none():
    term, batch, group = problem(0.05)
    before = term.init(torch.zeros(1))
    measured = term.measure(before, logit_columns(4.0 * group - 2.0), batch)
    after = term.ascend(measured)
    assert before.running.weight.sum() == 0 and measured.running.weight.sum() == 400
    assert (measured.multipliers == 0).all() and (after.multipliers != 0).all()
    assert after.running is measured.running


def test_rates_can_be_measured_on_other_rows_than_the_batch():
    term, batch, group = problem(0.05)
    unfair, fair = logit_columns(4.0 * group - 2.0), torch.ones(400, 1)
    elsewhere = term.measure(term.init(torch.zeros(1)), unfair, batch)
    assert term.penalty(elsewhere, fair, batch) > 0  # fair here, but not there
    here = term.measure(term.init(torch.zeros(1)), fair, batch)
    assert term.penalty(here, fair, batch) == 0


def test_a_term_without_enforcement_measures_and_asks_nothing():
    enforced, batch, group = problem(0.05)
    term, logits = FairnessTerm(enforced.parity, 0.5), logit_columns(4.0 * group - 2.0)
    penalty, state = step(term, term.init(torch.zeros(1)), logits, batch)
    assert penalty == 0 and (state.multipliers == 0).all()
    assert float(term.parity.gap(state.running)) == 1.0


def test_multipliers_can_be_continued():
    term, batch, _ = problem(0.05)
    state = term.init(torch.zeros(1), torch.tensor([0.3, 0.4]))
    assert state.multipliers.tolist() == pytest.approx([0.3, 0.4])
