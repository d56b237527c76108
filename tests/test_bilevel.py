"""The bi-level gradients, against autograd through the closed-form lower level."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import replace

import pytest
import torch
from parities import parity_of
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from fairprune_sk.fairness.constraints import CONSTRAINTS, cell_codes, class_columns
from fairprune_sk.fairness.objective import Enforcement, LagrangianTerm
from fairprune_sk.masks.compaction import reached_sparsity
from fairprune_sk.masks.granularity import Unstructured
from fairprune_sk.networks.batch import Batch
from fairprune_sk.solvers import BilevelSolver, Problem
from fairprune_sk.solvers.bilevel import mask_gradient


def test_mask_gradient_is_exact_for_a_loss_linear_in_z():
    # θ*(m) = argmin c·(m ⊙ θ) + γ/2 ‖θ‖² = −m ⊙ c / γ, and the upper loss is c·(m ⊙ θ*(m)).
    torch.manual_seed(0)
    c, gamma = torch.randn(50, dtype=torch.float64), 0.7
    mask = torch.rand(50, dtype=torch.float64, requires_grad=True)
    (c * mask * (-mask * c / gamma)).sum().backward()
    weight = (-mask * c / gamma).detach()
    torch.testing.assert_close(mask_gradient(weight, mask.detach(), c, gamma), mask.grad)


def test_mask_gradient_error_on_a_quadratic_falls_as_one_over_gamma():
    torch.manual_seed(0)
    n = 20
    root = torch.randn(n, n, dtype=torch.float64)
    A, b = root @ root.T / n + torch.eye(n), torch.randn(n, dtype=torch.float64)

    def relative_error(gamma):
        mask = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        mask.requires_grad_()
        # θ*(m) solves (M A M + γ I) θ = −M b.
        M = torch.diag(mask)
        weight = torch.linalg.solve(M @ A @ M + gamma * torch.eye(n), -M @ b)
        z = mask * weight
        (0.5 * z @ A @ z + b @ z).backward()
        grad = (A @ z + b).detach()
        ours = mask_gradient(weight.detach(), mask.detach(), grad, gamma)
        return float((ours - mask.grad).norm() / mask.grad.norm())

    errors = [relative_error(gamma) for gamma in (1.0, 10.0, 100.0, 1000.0)]
    assert errors[1] < 0.5
    for before, after in zip(errors[1:-1], errors[2:], strict=True):
        assert after == pytest.approx(before / 10, rel=0.2)


def test_first_order_leaves_the_answer_of_the_weights_out():
    weight, mask, grad = torch.randn(3, 10)
    torch.testing.assert_close(mask_gradient(weight, mask, grad, None), weight * grad)


def make_problem(constrained=True, sparsity=0.5, n=256, seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    group = torch.arange(n) % 2
    # The first inputs tell the groups apart, and so does the network: there is a gap to close.
    X = torch.randn(n, 6) + 2.0 * group[:, None] - 1.0
    with torch.no_grad():
        module[0].weight.abs_()
        module[2].weight.abs_().mul_(10.0)
        module[2].bias.fill_(-3.0)
    y = (X[:, 0] + 0.5 * torch.randn(n) > 0.5).float()
    constraint = CONSTRAINTS["demographic_parity"]()
    parity = parity_of("demographic_parity", tolerance=0.02)
    enforcement = Enforcement(5.0, 0.1, 0.5)
    term = LagrangianTerm(parity, 0.0, enforcement, 1.0) if constrained else None

    def evaluate(z, batch):
        logits = functional_call(module, z, (batch.X,))
        return logits, F.binary_cross_entropy_with_logits(logits[:, 0], batch.y)

    batch = Batch(X, y, cell=cell_codes(constraint, class_columns(y, 1), group, 2))
    layout = Unstructured().layout(module)
    problem = Problem(
        module, evaluate, term, layout, sparsity, n, lr=0.1, mask_lr=0.1, batches=lambda: [batch]
    )
    return problem, batch


def begun(solver, problem):
    """State at the end of the ramp, while the mask still moves."""
    return solver.move(problem, solver.init(problem), solver.ramp_end)


def gradients(solver, frozen=False, constrained=True):
    problem, batch = make_problem(constrained)
    progress = 1.0 if frozen else solver.ramp_end
    state, _ = solver.gradients(problem, begun(solver, problem), batch, progress)
    return state


def test_gradients_equal_autograd_through_the_masked_forward():
    problem, batch = make_problem(constrained=False)
    solver = BilevelSolver(implicit_gradient="first_order")
    state = begun(solver, problem)
    weights = {n: p.detach().clone().requires_grad_() for n, p in state.weights.items()}
    masks = {n: m.float().requires_grad_() for n, m in state.masks.items()}
    z = {n: w * masks[n] if n in masks else w for n, w in weights.items()}
    problem.evaluate(z, batch)[1].backward()
    state, _ = solver.gradients(problem, state, batch, solver.ramp_end)
    for name, weight in state.weights.items():
        torch.testing.assert_close(weight.grad, weights[name].grad)
    ours = torch.cat([s.grad.flatten() for s in state.own.values.values()])
    theirs = torch.cat([m.grad.flatten() for m in masks.values()])
    idle = torch.cat(
        [(~m.grad.any(1, keepdim=True)).expand_as(m).flatten() for m in masks.values()]
    )
    torch.testing.assert_close(ours, theirs / theirs.square().mean().sqrt() + idle)


def test_weights_into_a_unit_that_nothing_reads_sink():
    problem, batch = make_problem(constrained=False)
    solver = BilevelSolver()
    state = solver.init(problem)
    state.masks["2.weight"][:, 3] = False
    state, _ = solver.gradients(problem, state, batch, solver.ramp_end)
    found = state.own.values["0.weight"].grad
    torch.testing.assert_close(found[3], torch.ones(6))  # one step of the mean size, downwards
    assert (found[:3].abs().sum(1) > 0).all() and not (found[:3] == 1).any()
    for by_unit, sinks in ((problem.layout.by_unit, True), (frozenset(), False)):
        problem = replace(problem, layout=replace(problem.layout, by_unit=by_unit))
        state, scores = solver.init(problem), []
        state.masks["2.weight"][:, 3] = False
        for _ in range(3):
            scores.append(state.own.values["0.weight"][3].detach().clone())
            state, _ = solver.gradients(problem, state, batch, solver.ramp_end)
            solver.step(state)
        assert (scores[-1] < scores[0]).all() == sinks


@pytest.mark.parametrize(
    ("levels", "weights_see_it", "scores_see_it"),
    [
        (("upper", "lower"), True, True),
        (("lower",), True, False),
        (("upper",), False, True),
        ((), False, False),
    ],
)
def test_constrained_levels_decide_who_sees_the_fairness_term(
    levels, weights_see_it, scores_see_it
):
    plain = gradients(BilevelSolver(), constrained=False)
    state = gradients(BilevelSolver(constrained_levels=levels))
    same_weights = all(
        torch.allclose(state.weights[n].grad, plain.weights[n].grad) for n in plain.weights
    )
    same_scores = all(
        torch.allclose(state.own.values[n].grad, plain.own.values[n].grad) for n in plain.own.values
    )
    assert (same_weights, same_scores) == (not weights_see_it, not scores_see_it)


def test_implicit_gradient_changes_the_scores_alone():
    closed = gradients(BilevelSolver(gamma=0.01))
    first = gradients(BilevelSolver(implicit_gradient="first_order"))
    for name in closed.weights:
        torch.testing.assert_close(closed.weights[name].grad, first.weights[name].grad)
    assert any(
        not torch.allclose(closed.own.values[n].grad, first.own.values[n].grad)
        for n in closed.own.values
    )


def test_frozen_masks_get_no_gradient():
    state = gradients(BilevelSolver(), frozen=True)
    assert all(score.grad is None for score in state.own.values.values())
    assert all(weight.grad is not None for weight in state.weights.values())


def test_removed_weights_get_no_gradient():
    state = gradients(BilevelSolver())
    for name, mask in state.masks.items():
        assert (state.weights[name].grad[~mask] == 0).all()
    assert reached_sparsity(state.masks) == 0.5


def test_ramp_rises_to_the_sparsity_and_the_rate_falls():
    solver = BilevelSolver(ramp_end=0.5)
    ramp = [solver.sparsity_at(p / 20, 0.9) for p in range(21)]
    assert ramp[0] == 0.0 and ramp == sorted(ramp) and ramp[10:] == [0.9] * 11
    assert ramp[5] == pytest.approx(0.9 * (1 - 0.5**3))
    factors = [solver.lr_factor(p / 20) for p in range(21)]
    assert factors[:11] == [1.0] * 11 and factors[-1] == pytest.approx(0.01)
    assert factors == sorted(factors, reverse=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gamma", 0.0),
        ("enforcement", 3.0),
        ("implicit_gradient", "exact"),
        ("constrained_levels", ("middle",)),
        ("importance", "luck"),
        ("ramp_end", 0.9),
    ],
)
def test_a_wrong_hyperparameter_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"Got {name}={value!r}".replace("(", r"\(")[:20]):
        BilevelSolver(**{name: value})


@pytest.mark.parametrize("name", ["rho", "multiplier_lr", "temperature"])
def test_a_wrong_hyperparameter_of_the_enforcement_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"Got {name}=-1.0, but expected a positive number"):
        Enforcement(**{name: -1.0})


def test_a_solver_is_frozen_and_can_be_copied():
    solver = BilevelSolver(gamma=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.gamma = 3.0
    assert copy.deepcopy(solver) == solver


def test_the_ramp_can_start_where_an_earlier_run_ended():
    solver = BilevelSolver()
    assert solver.sparsity_at(0.0, 0.9, start=0.6) == pytest.approx(0.6)
    assert 0.6 < solver.sparsity_at(0.1, 0.9, start=0.6) < solver.sparsity_at(0.4, 0.9, start=0.6)
    assert solver.sparsity_at(0.5, 0.9, start=0.6) == 0.9
    assert solver.sparsity_at(0.0, 0.5, start=0.9) == pytest.approx(0.9)


def test_frozen_and_unused_parameters_are_masked_but_not_trained():
    problem, batch = make_problem()
    problem.module.register_parameter("unused", nn.Parameter(torch.ones(4, 4)))
    problem.module[0].weight.requires_grad_(False)
    solver = BilevelSolver()
    state = begun(solver, problem)
    before = state.weights["0.weight"].clone()
    scores = state.own.values["unused"].clone()
    state, _ = solver.gradients(problem, state, batch, solver.ramp_end)
    assert (state.own.values["unused"].grad == 0).all()
    solver.step(state)
    assert torch.equal(state.weights["0.weight"], before)
    assert torch.equal(state.own.values["unused"], scores)
    assert not state.masks["0.weight"].all()
