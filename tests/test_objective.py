"""The fairness term, on problems with known solutions."""

from __future__ import annotations

import pytest
import torch

from fairprune_sk.constraints import CONSTRAINTS, Cells, cell_codes
from fairprune_sk.objective import FairnessTerm, augmented_lagrangian


def test_derivative_is_the_shifted_multiplier():
    violation = torch.linspace(-1.0, 1.0, 21, dtype=torch.float64, requires_grad=True)
    multipliers = torch.full_like(violation, 0.3).detach()
    augmented_lagrangian(violation, multipliers, rho=2.0).backward()
    expected = (multipliers + 2.0 * violation.detach()).clamp_min(0.0)
    torch.testing.assert_close(violation.grad, expected)


def test_finds_the_solution_and_multiplier_of_a_constrained_quadratic():
    # min (x - 2)² s.t. x <= 1: x = 1, and the multiplier is 2.
    x = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    multiplier = torch.zeros(1, dtype=torch.float64)
    for _ in range(2000):
        (grad,) = torch.autograd.grad(
            (x - 2).square().sum() + augmented_lagrangian(x - 1, multiplier, 5.0), x
        )
        with torch.no_grad():
            x -= 0.05 * grad
            multiplier = (multiplier + 0.1 * (x - 1)).clamp_min(0.0)
    assert x.item() == pytest.approx(1.0, abs=1e-4)
    assert float(multiplier) == pytest.approx(2.0, abs=1e-3)


def problem(bound, n=400, **kwargs):
    torch.manual_seed(0)
    constraint = CONSTRAINTS["demographic_parity"]()
    group = torch.arange(n) % 2
    y = torch.zeros(n)
    cells = Cells(constraint, 2, torch.ones(2, dtype=torch.bool))
    options = {
        "weight": 1.0,
        "rho": 5.0,
        "multiplier_lr": 0.1,
        "temperature": 0.5,
        "memory": 0.0,
    } | kwargs
    term = FairnessTerm(cells, bound, **options)
    return term, y, cell_codes(constraint, y, group, 2), group


def test_value_is_the_hard_gap_and_gradient_the_soft_one():
    term, y, cell, group = problem(None)
    logits = (torch.randn(400) + group).requires_grad_()
    value, _ = term(term.init(logits.detach()[:1]), logits, y, cell, None)
    hard = (logits > 0).float()
    difference = hard[group == 1].mean() - hard[group == 0].mean()
    assert value.item() == pytest.approx(difference.abs().item(), abs=1e-6)
    value.backward()
    soft = logits.detach().clone().requires_grad_()
    rates = torch.sigmoid(soft / 0.5)
    (rates[group == 1].mean() - rates[group == 0].mean()).backward()
    torch.testing.assert_close(logits.grad, soft.grad, atol=1e-6, rtol=1e-4)


def test_multipliers_rise_with_a_violation_and_never_fall_below_zero():
    term, y, cell, group = problem(0.05)
    state = term.init(torch.zeros(1))
    _, state = term(state, 4.0 * group - 2.0, y, cell, None)
    torch.testing.assert_close(state.multipliers, torch.full((2,), 0.1 * (0.5 - 0.05)))
    for _ in range(50):
        _, state = term(state, torch.ones(400), y, cell, None)
    assert (state.multipliers == 0).all()


def test_within_the_bound_there_is_no_gradient():
    term, y, cell, _ = problem(0.1)
    logits = torch.randn(400).requires_grad_()
    with torch.no_grad():  # equal rates in both groups
        logits[1::2] = logits[::2]
    value, _ = term(term.init(logits.detach()[:1]), logits, y, cell, None)
    value.backward()
    assert (logits.grad == 0).all()


def test_averaging_over_batches_removes_the_upward_bias():
    term, y, cell, _ = problem(None, memory=0.95)
    state = term.init(torch.zeros(1))
    alone, averaged = [], []
    for _ in range(300):
        logits = torch.randn(400)
        alone.append(float(term(term.init(logits[:1]), logits, y, cell, None)[0]))
        value, state = term(state, logits, y, cell, None)
        averaged.append(float(value))
    assert sum(averaged[100:]) / 200 < 0.5 * sum(alone[100:]) / 200


def test_sample_weights_enter_the_rates():
    term, y, cell, group = problem(None)
    logits = torch.randn(400)
    repeats = torch.randint(1, 4, (400,))
    weighted, _ = term(term.init(logits[:1]), logits, y, cell, repeats.float())
    repeated, _ = term(
        term.init(logits[:1]),
        logits.repeat_interleave(repeats),
        y.repeat_interleave(repeats),
        cell.repeat_interleave(repeats),
        None,
    )
    torch.testing.assert_close(weighted, repeated)
