"""RigL and AC/DC, against what their papers say."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from test_solvers import Mlp, joint, loans, make_problem, quick  # noqa: F401
from torch import nn

from fairprune_sk import FairPruner
from fairprune_sk.masks.compaction import reached_sparsity
from fairprune_sk.solvers import AcDc, PruneThenFair, Rigl
from fairprune_sk.solvers.moving import weights_of_layers

pytestmark = [
    pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning"),
    pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning"),
]

N_STEPS = 24


def wide(sparsity=0.5):
    """Problem with layers of 40 and 30 weights, and one of 5."""
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Linear(4, 10), nn.Tanh(), nn.Linear(10, 3), nn.Tanh(), nn.Linear(3, 1)
    )
    return make_problem(module=module, sparsity=sparsity)


def course(solver, sparsity=0.5, n_steps=N_STEPS):
    """States before and after the gradients of each step, with its progress; copies."""
    problem, batch = wide(sparsity)
    state = solver.init(problem)
    for step in range(n_steps):
        if not solver.settled(step / n_steps):
            state = solver.move(problem, state, (step + 1) / n_steps)
        before = copy.deepcopy(state)
        state, _ = solver.gradients(problem, state, batch, step / n_steps)
        after = copy.deepcopy(state)
        for name, weight in state.weights.items():  # copies have no gradients
            after.weights[name].grad = weight.grad.clone()
        yield step / n_steps, before, after, (problem, batch)
        solver.step(state)


# ------------------------------------------------------------------------------------------ RigL


@pytest.mark.parametrize("densities", ["erk", "uniform"])
@pytest.mark.parametrize("n_kept", [3, 4, 10, 60, 70, 74, 75])
def test_all_weights_are_shared_out_and_no_layer_is_left_without(densities, n_kept):
    sizes = {"a": (4, 10), "b": (10, 3), "c": (1, 5)}
    shapes = {name: torch.Size(shape) for name, shape in sizes.items()}
    counts = weights_of_layers(shapes, n_kept, densities)
    assert sum(counts.values()) == n_kept
    assert all(1 <= counts[name] <= shape.numel() for name, shape in shapes.items())


def test_small_layers_are_denser_by_erdos_renyi():
    shapes = {"big": torch.Size([200, 100]), "small": torch.Size([20, 50])}
    counts = weights_of_layers(shapes, 740)
    assert counts == {"big": 600, "small": 140}  # 2 for each of 300 and of 70 rows and columns
    convolution = {"filters": torch.Size([8, 4, 3, 3]), "output": torch.Size([9, 9])}
    assert weights_of_layers(convolution, 72) == {"filters": 36, "output": 36}


@pytest.mark.parametrize("rewind_to", ["initial", "dense"])
@pytest.mark.parametrize("densities", ["erk", "uniform"])
def test_every_layer_of_rigl_keeps_its_number_of_weights(rewind_to, densities):
    solver = Rigl(delta_t=2, densities=densities, rewind_to=rewind_to)
    counts = set()
    for _, before, after, _ in course(solver, sparsity=0.6):
        for state in (before, after):
            counts.add(tuple(int(mask.sum()) for mask in state.masks.values()))
    (count,) = counts
    assert sum(count) == 73 - math.ceil(0.6 * 73)


def test_rigl_moves_its_mask_at_updates_alone_and_less_and_less():
    solver = Rigl(delta_t=4, alpha=0.5)
    moved = []
    for progress, before, after, _ in course(solver):
        step = round(progress * N_STEPS)
        changed = sum(int((before.masks[n] & ~mask).sum()) for n, mask in after.masks.items())
        bound = sum(
            int(solver.fraction(progress) * int(mask.sum())) for mask in after.masks.values()
        )
        if step == 0 or step % 4 or progress >= 0.75:
            assert changed == 0
        else:
            assert changed <= bound
            moved.append(changed)
    assert len(moved) == 4 and moved[0] > moved[-1]
    fractions = [solver.fraction(p) for p in np.linspace(0.0, 0.75, 20)]
    assert fractions[0] == 0.5 and fractions[-1] == pytest.approx(0.0, abs=1e-12)
    assert fractions == sorted(fractions, reverse=True)


def test_rigl_drops_the_smallest_and_grows_from_zero_where_the_gradient_is_largest():
    solver = Rigl(delta_t=5, alpha=1.0, rewind_to="dense")
    grown_somewhere = 0
    for progress, before, after, (problem, batch) in course(solver):
        step = round(progress * N_STEPS)
        if step == 0 or step % 5 or solver.settled(progress):
            continue
        # The gradient of all weights of the masked network, by torch itself.
        leaves = {name: value.clone().requires_grad_() for name, value in before.masked().items()}
        logits, loss = problem.evaluate(leaves, batch)
        fairness = problem.fairness.measure(before.fairness, logits, batch)
        (loss + problem.fairness.penalty(fairness, logits, batch)).backward()
        for name, mask in before.masks.items():
            n_moved = int(solver.fraction(progress) * int(mask.sum()))
            size, new = before.weights[name].detach().abs(), after.masks[name]
            kept = mask.flatten().nonzero().flatten()
            kept = kept[size.flatten()[kept].argsort(descending=True)]
            stays = torch.zeros(mask.numel(), dtype=torch.bool)
            stays[kept[: len(kept) - n_moved]] = True
            gradient = leaves[name].grad.abs().flatten().masked_fill(stays, -1.0)
            expected = stays.clone()
            expected[gradient.argsort(descending=True)[:n_moved]] = True
            assert torch.equal(new.flatten(), expected)
            grown = new & ~mask
            grown_somewhere += int(grown.sum())
            assert (after.weights[name][grown] == 0.0).all()
            assert (before.weights[name][mask & new] == after.weights[name][mask & new]).all()
            moments = after.lower.state_dict()["state"]
            index = list(before.weights).index(name)
            for moment in ("exp_avg", "exp_avg_sq"):
                assert (moments[index][moment][grown] == 0.0).all()
    assert grown_somewhere


def test_rigl_moves_single_weights_alone(loans):  # noqa: F811
    X, y, s = loans
    for granularity in ("neuron", "2:4"):
        with pytest.raises(ValueError, match="Got solver=Rigl for units or a pattern"):
            quick("rigl", granularity=granularity).fit(X, y)


# ----------------------------------------------------------------------------------------- AC/DC


@pytest.mark.parametrize(("n_cycles", "n_steps"), [(1, 24), (2, 24), (3, 32), (4, 32)])
def test_phases_are_compressed_and_dense_in_turns(n_cycles, n_steps):
    solver, last, n_weights = AcDc(n_cycles=n_cycles), None, 73
    kinds = []
    for progress, before, after, _ in course(solver, 0.6, n_steps):
        assert all(torch.equal(before.masks[n], mask) for n, mask in after.masks.items())
        phase = after.own.current
        assert phase == solver.phase(progress + 1 / n_steps) or solver.settled(progress)
        removed = sum(int((~mask).sum()) for mask in after.masks.values())
        assert removed == (0 if phase % 2 else math.ceil(0.6 * n_weights))
        if last is not None and last.own.current == phase:
            assert all(torch.equal(last.masks[n], mask) for n, mask in after.masks.items())
        if phase % 2 == 0:
            compressed = after.masks
        else:  # truly dense: what was removed learns again
            learning = [after.weights[n].grad[~mask].any() for n, mask in compressed.items()]
            assert any(learning)
        kinds.append(phase)
        last = after
    assert kinds == sorted(kinds) and kinds[-1] == 2 * n_cycles
    assert n_steps < 8 * n_cycles or set(kinds) == set(range(2 * n_cycles + 1))


def test_what_comes_back_starts_at_zero_and_what_is_compressed_is_the_smallest():
    solver, last = AcDc(n_cycles=2, importance="magnitude"), None
    for _, before, _, _ in course(solver):
        if last is not None and before.own.current != last.own.current:
            if before.own.current % 2:
                for name, mask in last.masks.items():
                    assert (before.weights[name][~mask] == 0.0).all()
                assert not before.lower.state
            else:
                relative = {
                    n: (w / w.square().mean().sqrt()).abs().detach()
                    for n, w in before.weights.items()
                    if n in before.masks
                }
                mask, ranked = joint(before.masks, relative), joint(relative, relative)
                best = {n: r.amax() for n, r in relative.items()}
                held = torch.cat([(r == best[n]).flatten() for n, r in relative.items()])
                assert ranked[mask & ~held].min() > ranked[~mask].max()
        last = before
    assert solver.settled(0.75) and not solver.settled(0.74)


def test_acdc_ends_compressed_where_the_last_phase_has_no_step():
    solver = AcDc(stop=1.0)
    problem, _ = wide()
    state = solver.move(problem, solver.init(problem), 0.99)
    assert reached_sparsity(state.masks) == 0.0
    assert reached_sparsity(solver.move(problem, state, 1.0).masks) >= 0.5


def test_acdc_removes_neurons_as_well(loans):  # noqa: F811
    X, y, s = loans
    pruner = quick("acdc", granularity="neuron", sparsity=0.5).fit(X, y)
    assert pruner.sparsity_ >= 0.5
    assert pruner.network_.layers[0].out_features < 12


# ------------------------------------------------------------------------------------------ both


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rigl(delta_t=0), "Got delta_t=0, but expected a positive whole number"),
        (lambda: Rigl(alpha=0.0), "Got alpha=0.0, but expected a number in"),
        (lambda: Rigl(stop=1.5), "Got stop=1.5, but expected a number in"),
        (lambda: Rigl(densities="even"), "Got densities='even', but expected 'erk' or 'uniform'"),
        (lambda: Rigl(rewind_to="end"), "Got rewind_to='end', but expected 'initial' or 'dense'"),
        (lambda: AcDc(n_cycles=1.5), "Got n_cycles=1.5, but expected a positive whole number"),
        (lambda: AcDc(stop=0.0), "Got stop=0.0, but expected a number in"),
        (lambda: AcDc(importance="luck"), "Got importance='luck', but expected one of"),
        (lambda: AcDc(enforcement=5.0), "Got enforcement=5.0, but expected an Enforcement"),
    ],
)
def test_wrong_hyperparameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [Rigl, AcDc])
def test_the_weights_see_the_constraint_and_multipliers_move(kind):
    def gradients(fair):
        problem, batch = make_problem(sparsity=0.0)
        if not fair:
            problem = type(problem)(**{**vars(problem), "fairness": None})
        solver = kind()
        torch.manual_seed(3)
        state, _ = solver.gradients(problem, solver.init(problem), batch, 0.0)
        grads = {name: weight.grad for name, weight in state.weights.items()}
        return joint(grads, grads), state

    (fair, state), (free, _) = gradients(True), gradients(False)
    assert not torch.allclose(fair, free)
    assert state.fairness.multipliers.count_nonzero()


@pytest.mark.parametrize("kind", [Rigl, AcDc])
def test_pruning_before_fairness_knows_none(kind):
    found = []
    for fair in (True, False):
        problem, batch = make_problem(sparsity=0.0)
        if not fair:
            problem = type(problem)(**{**vars(problem), "fairness": None})
        solver = PruneThenFair(pruning=kind())
        torch.manual_seed(3)
        state, _ = solver.gradients(problem, solver.init(problem), batch, 0.1)
        grads = {name: weight.grad for name, weight in state.weights.items()}
        found.append(joint(grads, grads))
    assert torch.allclose(*found)


def test_scikit_learn_sets_the_solver(loans):  # noqa: F811
    X, y, _ = loans
    search = GridSearchCV(
        FairPruner(Mlp, constraint=None, max_epochs=2, batch_size=80, sparsity=0.7, random_state=0),
        {"solver": ["rigl", "acdc", Rigl(rewind_to="dense")]},
        cv=2,
    )
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.sparsity_ >= 0.7
