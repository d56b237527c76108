"""The algorithms that bi-level pruning is compared with, against what their papers say."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from dense import MEMORY
from parities import parity_of
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional as F

import fairprune_sk
from fairprune_sk import BilevelSolver, FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fairness.constraints import CONSTRAINTS, cell_codes, class_columns
from fairprune_sk.fairness.objective import Enforcement, LagrangianTerm
from fairprune_sk.masks.compaction import reached_sparsity
from fairprune_sk.masks.granularity import Neuron, Unstructured
from fairprune_sk.networks.batch import Batch
from fairprune_sk.solvers import (
    SOLVERS,
    BalancingAct,
    Bip,
    FairGrape,
    FairThenPrune,
    Fpgm,
    Grasp,
    LotteryTicket,
    Magnitude,
    Problem,
    PruneThenFair,
    Snip,
)
from fairprune_sk.solvers.balancing_act import ExcessTerm
from fairprune_sk.solvers.bilevel import mask_gradient
from fairprune_sk.solvers.fairgrape import equal_shares
from fairprune_sk.solvers.gradients import loss_gradients

# Networks of a few epochs are far from good, and most of these solvers know no fairness.
pytestmark = [
    pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning"),
    pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning"),
]

FAIR = ("bilevel", "fairgrape", "prune_then_fair", "fair_then_prune")


class Mlp(nn.Module):
    def __init__(self, n_features, n_outputs=1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 12),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Linear(12, 8),
            nn.ReLU(),
            nn.Linear(8, n_outputs),
        )

    def forward(self, X):
        return self.layers(X)


@pytest.fixture(scope="module")
def loans():
    """Numbers of 240 loan applications: X, y, sex."""
    X, y, s = make_biased_classification(240, random_state=0)
    X = X.select_dtypes("number").to_numpy(dtype=np.float32, na_value=600.0)
    X = (X - X.mean(0)) / X.std(0)
    return X, y.to_numpy(), s["sex"].astype(str).to_numpy()


def quick(solver, **kwargs):
    """Pruner for a solver by name, with the constraint and the granularity that it needs."""
    constraint = "equalized_odds" if solver in FAIR else None
    if solver == "balancing_act":
        constraint = "degradation_parity"
    options = {
        "solver": solver,
        "tolerance_on": "training",  # one fit, not three
        "constraint": constraint,
        "granularity": "neuron" if solver == "fpgm" else "unstructured",
        "max_epochs": 4,
        "batch_size": 80,
        "sparsity": 0.7,
        "min_group_count": 1,
        "random_state": 0,
        "memory": MEMORY,
    }
    return FairPruner(Mlp, **options | kwargs)


class Watch(Callback):
    """What the pruning phase went through."""

    def __init__(self):
        self.masks, self.progress, self.epochs = [], [], []

    def on_train_begin(self, net, **kwargs):
        self.start = copy.deepcopy(net.module_.state_dict())
        self.first_masks = net.state_.masks

    def on_batch_end(self, net, **kwargs):
        self.masks.append(net.state_.masks)
        self.progress.append(net.progress)

    def on_epoch_end(self, net, **kwargs):
        self.epochs.append(net.state_.masks)


class StopAtOnce(Callback):
    """Stop as skorch's EarlyStopping does, after the first epoch."""

    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


# ------------------------------------------------------------------------- all of them by name


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_reaches_its_sparsity_and_does_so_again(loans, name):
    X, y, s = loans
    pruner = quick(name).fit(X, y, sensitive_features=s)
    assert pruner.sparsity_ >= 0.7
    if name != "fpgm":
        n_weights = sum(mask.numel() for mask in pruner.masks_.values())
        assert pruner.sparsity_ < 0.7 + 1 / n_weights
    assert all(mask.any() for mask in pruner.masks_.values())
    again = clone(pruner).fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(again.predict_proba(X), pruner.predict_proba(X))
    assert all(torch.equal(again.masks_[key], mask) for key, mask in pruner.masks_.items())


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_takes_more_than_two_classes(loans, name):
    X, y, s = loans
    classes = np.array(["no", "later", "yes"])[y + (X[:, 0] > 0.5)]
    pruner = quick(name, max_epochs=1).fit(X, classes, sensitive_features=s)
    assert pruner.sparsity_ >= 0.7
    assert pruner.predict_proba(X).shape == (240, 3)


@pytest.mark.parametrize("name", SOLVERS)
def test_mask_change_is_what_the_mask_changed_and_nothing_once_it_is_settled(loans, name):
    X, y, s = loans
    watch = Watch()
    pruner = quick(name, callbacks=[watch]).fit(X, y, sensitive_features=s)
    changes = pruner.history_[:, "mask_change"]
    for before, after, change in zip(
        [watch.first_masks, *watch.epochs], watch.epochs, changes, strict=False
    ):
        differs = [(before[key] != mask).flatten() for key, mask in after.items()]
        assert change == pytest.approx(torch.cat(differs).float().mean().item())
    settled = SOLVERS[name]().settled
    assert all(
        change == 0.0 for epoch, change in enumerate(changes) if settled(epoch / len(changes))
    )
    if name in ("bilevel", "bip", "lottery_ticket", "fairgrape", "balancing_act"):
        assert changes[0] > 0.0


@pytest.mark.parametrize(
    "solver",
    [
        Bip(gamma=2.0),
        LotteryTicket(n_rounds=2, rewind_to="dense"),
        PruneThenFair(pruning=Bip()),
        FairThenPrune(switch=0.25, pruning=Snip(rewind_to="dense")),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_solver_objects_are_cloned_and_stored_with_what_is_in_them(loans, solver, tmp_path):
    X, y, s = loans
    pruner = quick(solver, constraint="demographic_parity")
    assert clone(pruner).solver == solver
    pruner.fit(X, y, sensitive_features=s)
    pruner.save(tmp_path / "pruner.fairprune")
    loaded = fairprune_sk.load(tmp_path / "pruner.fairprune", modules=Mlp)
    assert loaded.solver == solver and type(loaded.solver) is type(solver)
    np.testing.assert_array_equal(loaded.predict_proba(X), pruner.predict_proba(X))
    refitted = loaded.fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(refitted.predict_proba(X), pruner.predict_proba(X))


@pytest.mark.parametrize(
    "name",
    [
        "bilevel",
        "lottery_ticket",
        "prune_then_fair",
        "fair_then_prune",
        "fairgrape",
        "balancing_act",
    ],
)
def test_a_training_that_stops_early_still_gives_the_full_sparsity(loans, name):
    X, y, s = loans
    pruner = quick(name, callbacks=[StopAtOnce()], max_epochs=8)
    pruner.fit(X, y, sensitive_features=s)
    assert len(pruner.history_) == 1
    assert 0.7 <= pruner.sparsity_ < 0.71
    kept = sum(int(mask.sum()) for mask in pruner.masks_.values())
    left = sum(int(p.count_nonzero()) for p in pruner.network_.parameters() if p.ndim >= 2)
    assert 0 < left <= kept


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Magnitude(importance="luck"), "Got importance='luck', but expected one of"),
        (lambda: Snip(rewind_to="yesterday"), "Got rewind_to='yesterday', but expected 'initial'"),
        (lambda: Grasp(softening=0.0), "Got softening=0.0, but expected a positive number"),
        (lambda: LotteryTicket(n_rounds=0), "Got n_rounds=0, but expected"),
        (lambda: LotteryTicket(rewind_to="end"), "Got rewind_to='end', but expected"),
        (lambda: FairGrape(ramp_end=0.0), "Got ramp_end=0.0, but expected"),
        (lambda: FairGrape(n_rounds=0), "Got n_rounds=0, but expected"),
        (lambda: PruneThenFair(switch=1.0), "Got switch=1.0, but expected"),
        (lambda: FairThenPrune(pruning="snip"), "Got pruning='snip', but expected a solver"),
        (lambda: BalancingAct(multiplier_lr=0.0), "Got multiplier_lr=0.0, but expected"),
        (lambda: Bip(weight_decay=-1.0), "Got weight_decay=-1.0, but expected"),
        (lambda: BilevelSolver(upper_batch="next"), "Got upper_batch='next', but expected 'same'"),
    ],
)
def test_wrong_hyperparameters_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------- a problem that is all ours


def make_problem(
    constraint="demographic_parity", sparsity=0.6, n=60, n_groups=2, batch_rows=25, module=None
):
    """Make a tiny problem, and its rows: X, and what is known of them."""
    torch.manual_seed(0)
    if module is None:
        module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    group = torch.arange(n) % n_groups
    X = torch.randn(n, 4) + 1.5 * group[:, None]
    y = (X[:, 0] + 0.5 * torch.randn(n) > 0.7).float()
    notion = CONSTRAINTS[constraint]()
    parity = parity_of(constraint, n_groups, tolerance=0.02)
    term = LagrangianTerm(parity, 0.0, Enforcement(5.0, 0.1, 0.5), 1.0)
    cell = cell_codes(notion, class_columns(y, 1), group, n_groups)
    rows = Batch(X, y, cell=cell, group=group)

    def evaluate(z, batch):
        logits = functional_call(module, z, (batch.X,))
        return logits, F.binary_cross_entropy_with_logits(logits[:, 0], batch.y)

    def batches():
        for start in range(0, n, batch_rows):
            yield rows.take(slice(start, start + batch_rows))

    initial = {
        key: torch.randn_like(value) if value.is_floating_point() else value.clone()
        for key, value in module.state_dict().items()
    }
    layout = Unstructured().layout(module)
    problem = Problem(
        module, evaluate, term, layout, sparsity, n, 0.01, 0.01, batches, initial=initial
    )
    return problem, rows


def autograd(problem, batch, weights=None):
    """Gradient of the mean loss over a batch, as plain torch gives it."""
    weights = dict(problem.module.named_parameters()) if weights is None else weights
    leaves = {key: w.detach().clone().requires_grad_() for key, w in weights.items()}
    problem.evaluate(leaves, batch)[1].backward()
    return {key: leaf.grad for key, leaf in leaves.items()}


def joint(values, names):
    return torch.cat([values[key].flatten() for key in names])


def unit_interval(values):
    return (values - values.min()) / (values.max() - values.min())


def kept_by(ranking, masks, n_kept):
    """Whether masks keep the largest of a ranking: no smaller one in place of a larger."""
    flat = joint(masks, ranking)
    ranked = joint(ranking, ranking)
    assert flat.sum() == n_kept
    return ranked[flat].min() > ranked[~flat].max()


# -------------------------------------------------------------------------------------- one-shot


def test_magnitude_keeps_the_largest_weights_relative_to_their_layer():
    problem, _ = make_problem()
    with torch.no_grad():
        problem.module[0].weight.mul_(100.0)  # a scale is no importance
    state = Magnitude().init(problem)
    ranking = {}
    for key, weight in problem.module.named_parameters():
        if weight.ndim == 2:
            values = weight.flatten().tolist()
            size = math.sqrt(sum(v * v for v in values) / len(values))
            ranking[key] = torch.tensor([abs(v) / size for v in values]).view_as(weight)
    assert kept_by(ranking, state.masks, n_kept=30 - 18)


def test_random_pruning_depends_on_random_state_alone(loans):
    X, y, s = loans
    masks = {
        seed: quick("random", random_state=seed, max_epochs=1).fit(X, y).masks_ for seed in (0, 1)
    }
    others = quick("random", max_epochs=1).fit(-X[::-1].copy(), 1 - y).masks_
    assert all(torch.equal(masks[0][key], mask) for key, mask in others.items())
    assert any(not torch.equal(masks[0][key], mask) for key, mask in masks[1].items())


@pytest.mark.parametrize("group", [None, 0, 1, 2])
def test_loss_gradients_are_those_of_the_whole_table_or_of_one_group(group):
    problem, batch = make_problem(n_groups=3)
    ours = loss_gradients(problem, dict(problem.module.named_parameters()), {}, group)
    chosen = slice(None) if group is None else batch.group == group
    theirs = autograd(problem, batch.take(chosen))
    for key, gradient in theirs.items():
        torch.testing.assert_close(ours[key], gradient)


def test_loss_gradients_of_a_group_without_rows_are_zero():
    problem, _ = make_problem()
    ours = loss_gradients(problem, dict(problem.module.named_parameters()), {}, 5)
    assert all((gradient == 0).all() for gradient in ours.values())


def test_snip_keeps_the_most_sensitive_of_the_initial_weights():
    problem, batch = make_problem()
    initial = {key: value.clone() for key, value in problem.initial.items()}
    gradients = autograd(problem, batch, initial)
    ranking = {key: (initial[key] * gradients[key]).abs() for key in ("0.weight", "2.weight")}
    state = Snip().init(problem)
    scores = Snip().scores(problem, Snip().init(make_problem(sparsity=0.0)[0]))
    torch.testing.assert_close(joint(scores, ranking), unit_interval(joint(ranking, ranking)))
    assert kept_by(ranking, state.masks, n_kept=30 - 18)


@pytest.mark.parametrize("softening", [1.0, 200.0])
def test_grasp_keeps_what_the_gradient_flow_lives_on(softening):
    problem, batch = make_problem()
    weights = {key: value.clone() for key, value in problem.initial.items()}
    names, sizes = list(weights), [value.numel() for value in weights.values()]

    def loss(flat):
        parts = flat.split(sizes)
        z = {key: part.view_as(weights[key]) for key, part in zip(names, parts, strict=True)}
        logits = problem.evaluate(z, batch)[0][:, 0]
        # In units that float32 can tell apart; the ranking has none.
        return softening * F.binary_cross_entropy_with_logits(logits / softening, batch.y)

    flat = joint(weights, names)
    leaf = flat.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    flow = flat * (hessian(loss, flat) @ gradient)
    parts = dict(zip(names, flow.split(sizes), strict=True))
    ranking = {key: parts[key].view_as(weights[key]) for key in ("0.weight", "2.weight")}
    solver = Grasp(softening=softening)
    state = solver.init(problem)
    scores = solver.scores(problem, solver.init(make_problem(sparsity=0.0)[0]))
    torch.testing.assert_close(
        joint(scores, ranking), unit_interval(joint(ranking, ranking)), atol=1e-5, rtol=1e-4
    )
    assert kept_by(ranking, state.masks, n_kept=30 - 18)


@pytest.mark.parametrize("kind", [Snip, Grasp, LotteryTicket])
def test_the_network_goes_back_to_where_it_is_asked_to(loans, kind):
    X, y, _ = loans
    torch.manual_seed(3)
    module = Mlp(X.shape[1])
    initial = copy.deepcopy(module.state_dict())
    starts = {}
    for rewind_to in ("initial", "dense"):
        watch = Watch()
        pruner = quick(kind(rewind_to=rewind_to), callbacks=[watch], max_epochs=1)
        pruner.set_params(estimator=module).fit(X, y)
        starts[rewind_to] = watch.start
    dense = pruner.dense_estimator_.module_.state_dict()
    for key, value in initial.items():
        assert torch.equal(starts["initial"][key], value)  # running statistics as well
        assert torch.equal(starts["dense"][key], dense[key].cpu())
        assert torch.equal(module.state_dict()[key], value)


@pytest.mark.parametrize("kind", [Snip, Grasp, LotteryTicket])
@pytest.mark.parametrize("known", ["skorch net", "frozen", "warm start"])
def test_initial_weights_that_nobody_knows_are_not_asked_for(loans, kind, known):
    X, y, _ = loans
    pruner = quick(kind(), max_epochs=1)
    net = NeuralNetBinaryClassifier(Mlp(X.shape[1]), max_epochs=1, verbose=0)
    if known == "skorch net":
        pruner.set_params(estimator=net)
    elif known == "frozen":
        pruner.set_params(estimator=FrozenEstimator(net.fit(X, y.astype(np.float32))))
    else:
        pruner.set_params(warm_start=True, sparsity=0.5).fit(X, y).set_params(sparsity=0.7)
    message = rf"{kind.__name__}\(rewind_to='initial'\).*use {kind.__name__}\(rewind_to='dense'\)"
    with pytest.raises(ValueError, match=message):
        pruner.fit(X, y)
    assert pruner.set_params(solver=kind(rewind_to="dense")).fit(X, y).sparsity_ >= 0.7


def apart(weight):
    """Sum of the distances of each unit's incoming weights to those of the others."""
    rows = weight.detach().flatten(1).double().numpy()
    return [sum(math.dist(a, b) for b in rows) for a in rows]


@pytest.mark.parametrize(
    ("module", "X", "layers"),
    [
        (
            nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)),
            torch.randn(2, 4),
            ("0", "2"),
        ),
        (
            nn.Sequential(
                nn.Conv2d(2, 6, 3),
                nn.ReLU(),
                nn.Conv2d(6, 5, 3),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(5, 1),
            ),
            torch.randn(2, 2, 6, 6),
            ("0", "2"),
        ),
    ],
    ids=["mlp", "convolutions"],
)
def test_fpgm_removes_what_is_nearest_to_the_others(module, X, layers):
    layout = Neuron().layout(module, X)
    problem = Problem(module, None, None, layout, 0.4, 10, 0.01, 0.01, None)
    solver = Fpgm()
    state = solver.init(problem)
    fresh = Problem(module, None, None, layout, 0.0, 10, 0.01, 0.01, None)
    scores = solver.scores(fresh, solver.init(fresh))["units"]
    for layer in layers:
        distance = apart(module.get_parameter(f"{layer}.weight"))
        own = scores[layout.units.weights[f"{layer}.weight"][0]]
        mean = sum(distance) / len(distance)
        expected = [d / mean / (1 + d / mean) for d in distance]
        np.testing.assert_allclose(own.numpy(), expected, rtol=1e-5)
        kept = state.masks[f"{layer}.weight"].flatten(1).any(1)
        assert 0 < kept.sum() < len(kept)
        distance = np.array(distance)
        assert distance[kept.numpy()].min() > distance[~kept.numpy()].max()


def test_fpgm_ranks_units_and_nothing_else(loans):
    X, y, _ = loans
    with pytest.raises(ValueError, match="Got solver=Fpgm for single weights.*'neuron'"):
        quick("fpgm", granularity="unstructured").fit(X, y)


# ------------------------------------------------------------------------------------- iterative


def test_bip_is_bilevel_pruning_whose_levels_see_no_fairness(loans):
    X, y, s = loans
    nobody = BilevelSolver(constrained_levels=())
    for constraint, others in [("equalized_odds", [nobody]), (None, [nobody, BilevelSolver()])]:
        bip = quick("bip", constraint=constraint).fit(X, y, sensitive_features=s)
        for solver in others:
            other = quick(solver, constraint=constraint).fit(X, y, sensitive_features=s)
            np.testing.assert_array_equal(other.predict_proba(X), bip.predict_proba(X))
            assert all(torch.equal(other.masks_[key], mask) for key, mask in bip.masks_.items())


class Averaging(nn.Module):
    """A network with running statistics of torch's kind, and one that puts new tensors."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, X):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * X.mean(0).detach()
        return self.layers(X - self.mean)


RUNS = {
    **{name: (kind(), "demographic_parity") for name, kind in SOLVERS.items() if name != "fpgm"},
    "balancing_act": (BalancingAct(), "degradation_parity"),
    "previous batch": (BilevelSolver(upper_batch="previous"), "demographic_parity"),
    "fair, then rounds": (
        FairThenPrune(pruning=LotteryTicket(rewind_to="dense")),
        "demographic_parity",
    ),
}


def test_a_granularity_sets_the_learning_rate_and_the_decay_of_weights():
    module, X = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)), torch.randn(5, 4)
    (weights, neurons) = (
        solver.init(Problem(module, None, None, layout, 0.4, 10, 0.01, 0.01, None)).lower
        for solver in [BilevelSolver()]
        for layout in (Unstructured().layout(module, X), Neuron().layout(module, X))
    )
    assert weights.param_groups[0]["lr"] == pytest.approx(0.01)
    assert neurons.param_groups[0]["lr"] == pytest.approx(0.03)
    assert neurons.param_groups[0]["weight_decay"] == pytest.approx(
        weights.param_groups[0]["weight_decay"] / 10
    )


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("stop", [1, 7, 11])
def test_a_run_goes_on_from_its_saved_state_as_if_nothing_had_happened(name, stop):
    solver, constraint = RUNS[name]
    n_steps = 12

    def go_on(problem, rows, state, steps):
        for step in steps:
            if not solver.settled(step / n_steps):
                state = solver.move(problem, state, (step + 1) / n_steps)
            batch = rows.take(slice(5 * step % 30, 5 * step % 30 + 30))
            state, _ = solver.gradients(problem, state, batch, step / n_steps)
            solver.step(state)
        return state

    problem, rows = make_problem(constraint, module=Averaging())
    before = copy.deepcopy(problem.module.state_dict())
    state = go_on(problem, rows, solver.init(problem), range(stop))
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    expected = go_on(problem, rows, state, range(stop, n_steps))
    assert any((buffer != before[key]).any() for key, buffer in expected.buffers.items())
    for key, value in problem.module.state_dict().items():  # the state owns its tensors
        assert torch.equal(value, before[key])

    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    again, rows = make_problem(constraint, module=Averaging())
    state = go_on(again, rows, solver.restore(again, saved), range(stop, n_steps))
    ours, theirs = (
        torch.cat([v.flatten().double() for v in s.tensors().values()]) for s in (state, expected)
    )
    assert torch.equal(ours, theirs)
    assert torch.equal(state.fairness.multipliers, expected.fairness.multipliers)
    assert torch.equal(state.fairness.running.outcome, expected.fairness.running.outcome)


@pytest.mark.parametrize("rewind_to", ["initial", "dense"])
@pytest.mark.parametrize("n_rounds", [1, 3, 4])
def test_a_lottery_ticket_is_pruned_and_put_back_in_every_round(rewind_to, n_rounds):
    problem, batch = make_problem(sparsity=0.8)
    solver = LotteryTicket(n_rounds=n_rounds, rewind_to=rewind_to)
    goes_to = {
        "initial": problem.initial,
        "dense": copy.deepcopy(problem.module.state_dict()),
    }[rewind_to]
    state = solver.init(problem)
    n_steps, n_weights, rounds = 24, 30, 1
    before = {key: torch.ones_like(mask) for key, mask in state.masks.items()}
    for step in range(n_steps + 1):
        if step:
            state = solver.move(problem, state, step / n_steps)
        if state.own.done > rounds or step == 0:
            rounds = state.own.done
            removed = sum(int((~mask).sum()) for mask in state.masks.values())
            sparsity = 1 - (1 - 0.8) ** (rounds / n_rounds)
            assert removed == math.ceil(sparsity * n_weights - 1e-6)
            for key, weight in state.weights.items():
                mask = state.masks.get(key, torch.ones_like(weight, dtype=torch.bool))
                assert torch.equal(weight * mask, goes_to[key] * mask)
            assert all(not (mask & ~before[key]).any() for key, mask in state.masks.items())
            assert not state.lower.state
            before = state.masks
        state, _ = solver.gradients(problem, state, batch, step / n_steps)
        solver.step(state)
        assert state.lower.state
        assert state.own.done == min(math.floor(step * n_rounds / n_steps + 1e-9) + 1, n_rounds)
    assert solver.settled((n_rounds - 1) / n_rounds)
    assert n_rounds == 1 or not solver.settled((n_rounds - 1) / n_rounds - 0.01)


def test_each_round_of_a_lottery_ticket_removes_the_smallest_weights_of_the_last_one():
    problem, batch = make_problem(sparsity=0.75)
    solver = LotteryTicket(n_rounds=2)
    state = solver.init(problem)
    first = state.masks
    for _ in range(5):
        state, _ = solver.gradients(problem, state, batch, 0.1)
        solver.step(state)
    ranking = {}
    for key, mask in first.items():
        weight = (state.weights[key] * mask).detach()
        ranking[key] = weight.abs() / weight.square().mean().sqrt()
    state = solver.move(problem, state, 0.5)
    assert kept_by(ranking, state.masks, n_kept=30 - 23)


def test_each_round_of_a_lottery_ticket_has_a_learning_rate_of_its_own():
    solver = LotteryTicket(n_rounds=4)
    for start in (0.0, 0.25, 0.5, 0.75):
        factors = [solver.lr_factor(start + 0.25 * i / 10) for i in range(10)]
        assert factors[0] == 1.0 and factors[-1] < 0.05
        assert factors == sorted(factors, reverse=True)


# --------------------------------------------------------------------------- the batch of a mask


def bilevel_at_full_sparsity(problem, **switches):
    solver = BilevelSolver(**switches)
    return solver, solver.move(problem, solver.init(problem), solver.ramp_end)


@pytest.mark.parametrize("levels", [("upper", "lower"), ("lower",), ()])
def test_masks_can_learn_from_the_batch_before(levels):
    problem, batch = make_problem()
    first, second = batch.take(slice(0, 30)), batch.take(slice(30, 60))
    solver, state = bilevel_at_full_sparsity(
        problem, upper_batch="previous", constrained_levels=levels
    )
    state, _ = solver.gradients(problem, state, first, 0.5)
    same_solver, same = bilevel_at_full_sparsity(make_problem()[0], constrained_levels=levels)
    same, _ = same_solver.gradients(problem, same, first, 0.5)
    for key, score in state.own.values.items():  # the first batch has none before it
        torch.testing.assert_close(score.grad, same.own.values[key].grad)

    state, _ = solver.gradients(problem, state, second, 0.5)
    z = {key: value.requires_grad_() for key, value in state.masked().items()}
    logits, objective = problem.evaluate(z, first)
    if "upper" in levels:
        measured = problem.fairness.measure(state.fairness, logits, first)
        objective = objective + problem.fairness.penalty(measured, logits, first)
    gradients = dict(zip(z, torch.autograd.grad(objective, list(z.values())), strict=True))
    expected = {
        key: mask_gradient(state.weights[key].detach(), mask, gradients[key], solver.gamma)
        for key, mask in state.masks.items()
    }
    theirs = joint(expected, expected)
    idle = joint({key: ~g.any(1, keepdim=True) + 0 * g for key, g in expected.items()}, expected)
    ours = torch.cat([state.own.values[key].grad.flatten() for key in expected])
    torch.testing.assert_close(ours, theirs / theirs.square().mean().sqrt() + idle)


def test_another_batch_for_the_masks_changes_neither_weights_nor_multipliers():
    states = {}
    for choice in ("same", "previous"):
        problem, batch = make_problem()
        with torch.no_grad():  # a network that tells the groups apart
            problem.module[0].weight.abs_()
            problem.module[2].weight.abs_().mul_(5.0)
            problem.module[2].bias.fill_(-3.0)
        solver, state = bilevel_at_full_sparsity(problem, upper_batch=choice)
        for rows in (slice(0, 30), slice(30, 60)):
            state, _ = solver.gradients(problem, state, batch.take(rows), 0.5)
        states[choice] = state
    same, previous = states["same"], states["previous"]
    assert torch.equal(same.fairness.multipliers, previous.fairness.multipliers)
    assert (same.fairness.multipliers != 0).any()
    assert torch.equal(same.fairness.running.outcome, previous.fairness.running.outcome)
    for key, weight in same.weights.items():
        assert torch.equal(weight.grad, previous.weights[key].grad)
    assert any(
        not torch.allclose(score.grad, previous.own.values[key].grad)
        for key, score in same.own.values.items()
    )


def test_a_fit_whose_masks_learn_from_the_batch_before(loans):
    X, y, s = loans
    previous, same = (
        quick(BilevelSolver(upper_batch=choice), constraint="equalized_odds").fit(
            X, y, sensitive_features=s
        )
        for choice in ("previous", "same")
    )
    assert previous.sparsity_ == same.sparsity_ >= 0.7
    assert not np.array_equal(previous.predict_proba(X), same.predict_proba(X))


# -------------------------------------------------------------------------------- equal shares


def greedy(importance, size=1):
    """Hand out items one turn after the other, as the paper's algorithm reads."""
    share = [[value / sum(row) for value in row] for row in importance.double().tolist()]
    kept, left, order = [0.0] * len(share), set(range(len(share[0]))), []
    while left:
        group = kept.index(min(kept))
        turn = sorted(left, key=lambda item: share[group][item], reverse=True)[:size]
        left -= set(turn)
        order += turn
        kept = [k + sum(row[item] for item in turn) for k, row in zip(kept, share, strict=True)]
    return order


def draw(seed, n_groups, n_items):
    generator = torch.Generator().manual_seed(seed)
    # As squared gradients are: positive, with a long tail.
    return torch.randn(n_groups, n_items, generator=generator, dtype=torch.float64).square()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("n_groups", "n_items"), [(1, 7), (2, 40), (3, 61), (6, 30)])
@pytest.mark.parametrize("size", [1, 4])
def test_equal_shares_are_those_of_the_greedy_algorithm(seed, n_groups, n_items, size):
    importance = draw(seed, n_groups, n_items)
    scores = equal_shares(importance, n_turns=-(-n_items // size))
    assert scores.argsort(descending=True).tolist() == greedy(
        importance, size=-(-n_items // -(-n_items // size))
    )


@pytest.mark.parametrize("n_turns", [1, 5, 1000])
def test_equal_shares_rank_every_item_once(n_turns):
    for seed in range(5):
        n_items = 30 + seed
        scores = equal_shares(draw(seed, 3, n_items).float(), n_turns)
        assert scores.dtype == torch.float32 and (scores > 0).all() and scores.max() == 1.0
        ranks = torch.arange(1, n_items + 1) / n_items
        torch.testing.assert_close(scores.sort().values, ranks)


def test_a_single_group_is_ranked_by_its_importance():
    importance = draw(0, 1, 50)
    assert torch.equal(equal_shares(importance).argsort(), importance[0].argsort())


@pytest.mark.parametrize("n_groups", [2, 3, 5])
def test_groups_keep_the_same_share_of_their_importance_at_every_cut(n_groups):
    for seed in range(10):
        importance = draw(seed, n_groups, 200)
        share = importance / importance.sum(1, keepdim=True)
        order = equal_shares(importance).argsort(descending=True)
        kept = share[:, order].cumsum(1)
        apart = kept.amax(0) - kept.amin(0)
        assert apart.max() <= 2 * share.max()  # an item may be worth more to another group
        # What one ranking for all rows together does to them is worse.
        plain = importance.sum(0).argsort(descending=True)
        theirs = share[:, plain].cumsum(1)
        assert apart.mean() < (theirs.amax(0) - theirs.amin(0)).mean()


@pytest.mark.parametrize("n_groups", [2, 3, 5])
def test_shares_are_within_one_item_where_each_item_is_of_use_to_one_group(n_groups):
    for seed in range(10):
        importance = draw(seed, n_groups, 120)
        owner = torch.arange(120) % n_groups
        importance = importance * (owner == torch.arange(n_groups)[:, None])
        share = importance / importance.sum(1, keepdim=True)
        order = equal_shares(importance).argsort(descending=True)
        kept = share[:, order].cumsum(1)
        assert (kept.amax(0) - kept.amin(0)).max() <= share.max() + 1e-12


def test_equal_shares_take_groups_whose_importances_differ_in_size():
    importance = draw(0, 3, 80)
    scores = equal_shares(importance)
    assert torch.equal(equal_shares(importance * torch.tensor([[1.0], [1e6], [1e-6]])), scores)


# -------------------------------------------------------------------------------- with fairness


def test_fairgrape_prunes_in_rounds_up_to_the_end_of_its_ramp():
    problem, _ = make_problem(sparsity=0.8)
    solver = FairGrape(n_rounds=4, ramp_end=0.5)
    state = solver.init(problem)
    assert reached_sparsity(state.masks) == 0.0
    before, reached = state.masks, []
    for step in range(1, 21):
        if not solver.settled((step - 1) / 20):
            state = solver.move(problem, state, step / 20)
        assert all(not (mask & ~before[key]).any() for key, mask in state.masks.items())
        before = state.masks
        reached.append(reached_sparsity(state.masks))
    expected = [math.ceil((1 - 0.2 ** (k / 4)) * 30 - 1e-6) / 30 for k in (1, 2, 3, 4)]
    assert sorted(set(reached)) == pytest.approx(expected)
    assert reached[0] == pytest.approx(expected[0])  # the first round at once
    assert reached[8] < reached[9] == reached[-1]  # the last one at the end of the ramp


def test_a_single_round_of_fairgrape_is_at_the_end_of_its_ramp():
    problem, _ = make_problem(sparsity=0.8)
    solver = FairGrape(n_rounds=1)
    state = solver.move(problem, solver.init(problem), 0.4)
    assert reached_sparsity(state.masks) == 0.0
    assert reached_sparsity(solver.move(problem, state, 0.5).masks) == pytest.approx(0.8)


def test_fairgrape_keeps_what_the_greedy_algorithm_gives_to_each_group():
    problem, batch = make_problem(n_groups=3)
    solver = FairGrape(n_rounds=2)
    weights = dict(problem.module.named_parameters())
    importance = []
    for group in range(3):
        gradients = autograd(problem, batch.take(batch.group == group))
        squares = {key: (weights[key] * gradients[key]).square().detach() for key in weights}
        importance.append(joint(squares, ("0.weight", "2.weight")))
    order = greedy(torch.stack(importance))
    state = solver.move(problem, solver.init(problem), 0.01)
    kept = joint(state.masks, ("0.weight", "2.weight"))
    n_kept = 30 - math.ceil((1 - 0.4**0.5) * 30)
    assert set(kept.nonzero().flatten().tolist()) == set(order[:n_kept])


@pytest.mark.parametrize("name", ["fairgrape", "balancing_act"])
def test_solvers_that_work_on_groups_need_a_constraint(loans, name):
    X, y, s = loans
    with pytest.raises(ValueError, match="without a constraint.*sensitive_features"):
        quick(name, constraint=None).fit(X, y, sensitive_features=s)
    nested = PruneThenFair(pruning=SOLVERS[name]())
    with pytest.raises(ValueError, match="without a constraint"):
        quick(nested, constraint=None).fit(X, y)


def weight_gradients(solver, progress, fair):
    """Gradients of the weights of the whole network, with or without a constraint."""
    problem, batch = make_problem(sparsity=0.0)
    if not fair:
        problem = Problem(**{**vars(problem), "fairness": None})
    state, _ = solver.gradients(problem, solver.init(problem), batch, progress)
    return joint({key: weight.grad for key, weight in state.weights.items()}, state.weights)


@pytest.mark.parametrize(
    ("kind", "sees_fairness"), [(PruneThenFair, (False, True)), (FairThenPrune, (True, False))]
)
def test_one_stage_sees_fairness_and_the_other_does_not(kind, sees_fairness):
    for progress, sees in zip((0.2, 0.8), sees_fairness, strict=True):
        with_term, without = (weight_gradients(kind(), progress, fair) for fair in (True, False))
        assert torch.allclose(with_term, without) == (not sees)


@pytest.mark.parametrize("pruning", [Magnitude(), Bip(), LotteryTicket()])
def test_the_mask_stays_once_the_network_is_to_become_fair(loans, pruning):
    X, y, s = loans
    watch = Watch()
    pruner = quick(
        PruneThenFair(switch=0.5, pruning=pruning),
        constraint="demographic_parity",
        callbacks=[watch],
    )
    pruner.fit(X, y, sensitive_features=s)
    fair = [m for m, p in zip(watch.masks, watch.progress, strict=True) if p >= 0.5]
    for before, after in pairwise(fair):
        assert all(torch.equal(before[key], mask) for key, mask in after.items())
    assert reached_sparsity(fair[0]) >= 0.7


@pytest.mark.parametrize("pruning", [Magnitude(), LotteryTicket(n_rounds=2)])
def test_nothing_is_removed_before_the_network_is_fair(loans, pruning):
    X, y, s = loans
    watch = Watch()
    solver = FairThenPrune(switch=0.5, pruning=pruning)
    pruner = quick(solver, constraint="demographic_parity", callbacks=[watch])
    pruner.fit(X, y, sensitive_features=s)
    for masks, progress in zip(watch.masks, watch.progress, strict=True):
        assert (reached_sparsity(masks) > 0) == (progress >= 0.5)
    assert pruner.sparsity_ >= 0.7


@pytest.mark.parametrize(
    "solver",
    [
        PruneThenFair(switch=0.25),
        FairThenPrune(switch=0.75),
        PruneThenFair(pruning=Bip()),
        FairThenPrune(pruning=Bip()),
    ],
)
def test_each_stage_has_a_learning_rate_that_falls_to_a_hundredth(solver):
    ends = {0.0: solver.switch, solver.switch: 1.0}
    for start, end in ends.items():
        factors = [solver.lr_factor(start + (end - start) * i / 1000) for i in range(1000)]
        assert factors[0] == 1.0
        assert factors[-1] == pytest.approx(0.01, abs=1e-4)
        assert factors == sorted(factors, reverse=True)
    assert solver.lr_factor(1.0) == pytest.approx(0.01)


# --------------------------------------------------------------------------------- Balancing Act


def excess_term(bound=0.02):
    """Term for two groups of four rows, whose labels are 1, and where dense is always right."""
    notion = CONSTRAINTS["degradation_parity"]()
    parity = parity_of("degradation_parity", tolerance=2 * bound)
    term = BalancingAct(multiplier_lr=0.5).fairness_term(parity, memory=0.0, weight=1.0)
    y, group = torch.ones(8, dtype=torch.int64), torch.arange(8) // 4
    cell = cell_codes(notion, class_columns(y, 1), group, 2)
    return term, Batch(torch.empty(8, 0), y, cell=cell, reference=torch.ones(8, 2, 1))


def step(term, state, logits, batch):
    state = term.measure(state, logits, batch)
    return term.penalty(state, logits, batch), term.ascend(state)


def test_multipliers_move_for_groups_beyond_the_bound_and_go_back_to_zero_within_it():
    term, batch = excess_term()
    assert isinstance(term, ExcessTerm) and term.memory == 0.0
    state = term.init(torch.zeros(1))
    # Two of the first group's four are lost, none of the other's: 1/2 against 1/4 of all.
    lost = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None]
    for n_batches in (1, 2):
        _, state = step(term, state, lost, batch)
        expected = n_batches * 0.5 * (0.25 - 0.02)
        torch.testing.assert_close(state.multipliers, torch.tensor([expected, 0.0]))
    _, state = step(term, state, lost.flip(0), batch)  # now it is the second group that lost more
    assert state.multipliers[0] == 0.0
    everyone = torch.ones(8, 1)
    _, state = step(term, state, everyone, batch)
    assert (state.multipliers == 0.0).all()


def test_a_loss_that_all_groups_share_is_no_excess():
    term, batch = excess_term()
    logits = torch.tensor([-1.0, 1.0, 1.0, 1.0] * 2)[:, None]
    value, state = step(term, term.init(torch.zeros(1)), logits, batch)
    assert value == 0.0 and (state.multipliers == 0.0).all()


def test_the_term_lowers_the_loss_of_the_group_that_lost_too_much():
    term, batch = excess_term()
    logits = torch.tensor([-1.0, -0.5, 0.3, 1.0, 1.0, 2.0, 1.0, 1.5])[:, None].requires_grad_()

    def losses(logits):
        return F.softplus(-logits[:, 0])

    value, state = step(term, term.init(torch.zeros(1)), logits, batch)
    expected = state.multipliers[0] * (losses(logits)[:4].mean() - losses(logits).mean())
    torch.testing.assert_close(value, expected)
    value.backward()
    after = losses(logits.detach() - 0.1 * logits.grad)
    assert after[:4].mean() < losses(logits)[:4].mean()
    assert (logits.grad[:4] < 0).all()  # up, for labels of 1


def test_the_bound_is_on_the_excess_over_the_dense_network():
    term, batch = excess_term(bound=0.3)
    lost = torch.tensor([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])[:, None]
    _, state = step(term, term.init(torch.zeros(1)), lost, batch)
    assert (state.multipliers == 0.0).all()  # 0.25 is within 0.3
    term, batch = excess_term()
    # Dense was wrong there as well.
    batch = dataclasses.replace(batch, reference=(lost > 0).float()[:, None].expand(-1, 2, -1))
    _, state = step(term, term.init(torch.zeros(1)), lost, batch)
    assert (state.multipliers == 0.0).all()


@pytest.mark.parametrize("constraint", ["equalized_odds", "accuracy_parity"])
def test_balancing_act_has_a_constraint_of_its_own(loans, constraint):
    X, y, s = loans
    with pytest.raises(ValueError, match="BalancingAct with constraint=.*'degradation_parity'"):
        quick("balancing_act", constraint=constraint).fit(X, y, sensitive_features=s)


def test_balancing_act_removes_the_smallest_weights_along_a_cubic_ramp():
    problem, _ = make_problem(constraint="degradation_parity", sparsity=0.8)
    solver = BalancingAct(ramp_end=0.5)
    state = solver.init(problem)
    for progress in (0.1, 0.3, 0.5):
        state = solver.move(problem, state, progress)
        sparsity = 0.8 * (1 - (1 - progress / 0.5) ** 3)
        assert reached_sparsity(state.masks) == pytest.approx(math.ceil(sparsity * 30 - 1e-6) / 30)
    assert solver.settled(0.5) and not solver.settled(0.49)


def test_a_group_without_importance_does_no_harm():
    importance = draw(0, 3, 60)
    importance[1] = 0.0
    assert torch.equal(equal_shares(importance), equal_shares(importance[[0, 2]]))


def test_a_single_round_of_fairgrape_can_be_the_second_stage(loans):
    X, y, s = loans
    pruner = quick(FairThenPrune(pruning=FairGrape(n_rounds=1)), constraint="equalized_odds")
    assert pruner.fit(X, y, sensitive_features=s).sparsity_ >= 0.7


def test_two_stages_of_two_stages_are_refused():
    with pytest.raises(ValueError, match="expected a solver with one stage"):
        PruneThenFair(pruning=FairThenPrune())


def test_a_two_stage_solver_needs_the_groups_that_its_pruning_needs():
    assert PruneThenFair(pruning=FairGrape()).needs_groups
    assert not PruneThenFair().needs_groups


@pytest.mark.parametrize("solver", [LotteryTicket, FairGrape])
def test_half_a_round_is_refused(solver):
    with pytest.raises(ValueError, match="Got n_rounds=2.5, but expected a positive whole number"):
        solver(n_rounds=2.5)


def test_groups_are_asked_for_before_anything_else(loans):
    X, y, _ = loans
    with pytest.raises(ValueError, match="without a constraint, but it works on groups"):
        FairPruner(solver="fairgrape", constraint=None).fit(X, y)
