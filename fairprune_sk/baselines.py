"""The pruning algorithms that fair bi-level pruning is compared with.

Each is a :class:`~fairprune_sk.solver.Solver`, so that all of them share the dense network, the
optimiser, the number of steps, the data and the choice of the best network at the end: what
differs is what their papers say. They stand here in the order one-shot, iterative, with fairness.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fairprune_sk.bilevel import BilevelSolver
from fairprune_sk.calls import evaluating
from fairprune_sk.constraints import (
    Cells,
    Constraint,
    DegradationParity,
    cell_sums,
    differences,
)
from fairprune_sk.granularity import Layout, UnitLayout
from fairprune_sk.importance import IMPORTANCES
from fairprune_sk.objective import FairnessState, FairnessTerm
from fairprune_sk.solver import Problem, Solver, SolverState, half_cosine, half_cosine_after
from fairprune_sk.training import take

REWINDS = ("initial", "dense")


def scaled(importance: dict[str, Tensor]) -> dict[str, Tensor]:
    """Shift and scale importances to [0, 1] together, which keeps their order."""
    low = torch.stack([value.amin() for value in importance.values()]).amin()
    high = torch.stack([value.amax() for value in importance.values()]).amax()
    width = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    return {name: (value - low) / width for name, value in importance.items()}


def loss_gradients(
    problem: Problem, parameters: dict[str, Tensor], group: int | None = None
) -> dict[str, Tensor]:
    """Gradient of the mean loss over the training table, or over the rows of one group.

    Parameters
    ----------
    problem : Problem
    parameters : dict of Tensor
        Of the network, in evaluation mode.
    group : int, optional
        Code of the group.

    Returns
    -------
    dict of Tensor
        Of the parameters' shapes.
    """

    def gradients(loss: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, leaves, materialize_grads=True)

    return mean_over_rows(problem, parameters, gradients, group)


def mean_over_rows(
    problem: Problem,
    parameters: dict[str, Tensor],
    derivative: Callable[[Tensor, list[Tensor]], tuple[Tensor, ...]],
    group: int | None = None,
) -> dict[str, Tensor]:
    """Mean over the rows of the training table, or of one group, of a derivative of the loss.

    Parameters
    ----------
    problem, parameters, group
        As for :func:`loss_gradients`.
    derivative : callable
        From the summed loss of a batch, and the parameters, to one tensor for each of them.

    Returns
    -------
    dict of Tensor
        Of the parameters' shapes.
    """
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    total = {name: torch.zeros_like(value) for name, value in leaves.items()}
    n_rows = 0
    with evaluating(problem.module), torch.enable_grad():
        for X, columns in problem.batches():
            if group is not None:
                rows = (columns["group"] == group).nonzero().flatten()
                X, columns = take(X, rows), {name: c[rows] for name, c in columns.items()}
            size = len(columns["y"])
            if not size:
                continue
            _, loss = problem.evaluate(leaves, (X, columns))
            parts = derivative(loss * size, [*leaves.values()])
            for name, part in zip(leaves, parts, strict=True):
                total[name] += part
            n_rows += size
    return {name: value / max(n_rows, 1) for name, value in total.items()}


def rewound(problem: Problem, state: SolverState, weights: Any) -> SolverState:
    """Put earlier weights (and running statistics) back; the optimiser forgets its moments."""
    problem.module.load_state_dict(weights, strict=False)
    state.lower.state.clear()
    return state


def without_smallest(problem: Problem, state: SolverState, sparsity: float) -> SolverState:
    """Mask the smallest of the weights that are left; what is gone has magnitude 0, and stays."""
    scores = problem.layout.scores(IMPORTANCES["magnitude"](state.prunable()))
    return replace(state, masks=problem.layout.project(scores, sparsity))


# ------------------------------------------------------------------------------------- one-shot


@dataclass(frozen=True)
class OneShot(Solver):
    """Rank what can be removed once, remove the least, and train the rest."""

    # What is left has to grow into the place of what is gone, and decay holds it back: on splits
    # of the training parts, less of it was better for each of these.
    weight_decay: float | str = 0.1

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Masks of the full sparsity."""
        scores = self.scores(problem, state)
        return replace(state, masks=problem.layout.project(scores, problem.sparsity))

    @abstractmethod
    def scores(self, problem: Problem, state: SolverState) -> dict[str, Tensor]:
        """Scores in [0, 1] of what can be removed, from the weights as they are."""


@dataclass(frozen=True)
class Magnitude(OneShot):
    """One-shot magnitude pruning: the smallest weights of the trained network go.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks" (NeurIPS
    2015). Magnitudes are taken in units of the layer's root mean square, so that layers of
    different scale share one threshold.

    Parameters
    ----------
    rho, multiplier_lr, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`.
    importance : {"magnitude", "lamp", "uniform", "normal", "constant"}
        What ranks the weights.
    """

    importance: str = "magnitude"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("importance", self.importance in IMPORTANCES, f"one of {sorted(IMPORTANCES)}")

    def scores(self, problem: Problem, state: SolverState) -> dict[str, Tensor]:
        """Scores from the importance of the weights."""
        return problem.layout.scores(IMPORTANCES[self.importance](state.prunable()))


@dataclass(frozen=True)
class RandomPruning(Magnitude):
    """Random pruning: what any ranking has to beat."""

    importance: str = "uniform"


@dataclass(frozen=True)
class _AtInitialisation(OneShot):
    """Rank the weights of the network before it was trained, and train what is left."""

    rewind_to: str = "initial"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("rewind_to", self.rewind_to in REWINDS, "'initial' or 'dense'")

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Refuse where the initial weights are asked for and not known."""
        super().check(layout, constraint, knows_initial_weights)
        check_rewind(self, knows_initial_weights)

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Put the initial weights back, and rank them."""
        if self.rewind_to == "initial":
            state = rewound(problem, state, problem.initial)
        return super().begin(problem, state)


def check_rewind(solver: Any, knows_initial_weights: bool) -> None:
    """Refuse to go back to weights that nobody knows."""
    if solver.rewind_to == "initial" and not knows_initial_weights:
        name = type(solver).__name__
        raise ValueError(
            f"Got solver={name}(rewind_to='initial') with a network whose weights before training "
            "are not known (a skorch net trains itself; a warm start is trained already): use "
            f"{name}(rewind_to='dense'), or pass the module itself as the estimator."
        )


@dataclass(frozen=True)
class Snip(_AtInitialisation):
    """SNIP: keep the connections that the loss is most sensitive to.

    Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity"
    (ICLR 2019): ``|g ⊙ θ|`` ranks the weights, with g the gradient of the loss, here over the
    whole training table.

    Parameters
    ----------
    rho, multiplier_lr, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`.
    rewind_to : {"initial", "dense"}
        Whether the untrained network is ranked and then trained, as in the paper, or the trained
        one.
    """

    def scores(self, problem: Problem, state: SolverState) -> dict[str, Tensor]:
        """Scores from the sensitivities."""
        gradients = loss_gradients(problem, state.masked())
        sensitivity = {n: (w * gradients[n]).abs() for n, w in state.prunable().items()}
        return problem.layout.scores(scaled(sensitivity))


@dataclass(frozen=True)
class Grasp(_AtInitialisation):
    """GraSP: keep the weights that the gradient flow lives on.

    Wang, Zhang and Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow"
    (ICLR 2020): the weights whose removal takes most from ``‖g‖²`` have the largest
    ``θ ⊙ H g``, with H the Hessian of the loss.

    Parameters
    ----------
    rho, multiplier_lr, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`.
    rewind_to : {"initial", "dense"}
        As for :class:`Snip`.
    """

    def scores(self, problem: Problem, state: SolverState) -> dict[str, Tensor]:
        """Scores from the gradient flow, over the whole training table."""
        weights = state.masked()
        flow = hessian_gradient(problem, weights, loss_gradients(problem, weights))
        return problem.layout.scores(scaled({n: w * flow[n] for n, w in state.prunable().items()}))


def hessian_gradient(
    problem: Problem, parameters: dict[str, Tensor], gradients: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Hessian of the mean loss over the training table times a vector.

    Parameters
    ----------
    problem : Problem
    parameters, gradients : dict of Tensor
        Where the Hessian is taken, and the vector, such as the gradient there.

    Returns
    -------
    dict of Tensor
    """

    def along(loss: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        products = [(g * gradients[n]).sum() for n, g in zip(parameters, first, strict=True)]
        return torch.autograd.grad(torch.stack(products).sum(), leaves, materialize_grads=True)

    return mean_over_rows(problem, parameters, along)


@dataclass(frozen=True)
class Fpgm(OneShot):
    """FPGM: the filters nearest to the geometric median of their layer can be replaced by others.

    He et al., "Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
    Acceleration" (CVPR 2019): a unit's score is the sum of the distances of its incoming weights
    to those of the other units of its layer. Needs ``granularity="neuron"``.
    """

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Refuse single weights."""
        super().check(layout, constraint, knows_initial_weights)
        if not isinstance(layout, UnitLayout):
            raise ValueError(
                "Got solver=Fpgm for single weights, but it ranks units: use granularity='neuron'."
            )

    def scores(self, problem: Problem, state: SolverState) -> dict[str, Tensor]:
        """Scores from the distances."""
        layout = problem.layout
        assert isinstance(layout, UnitLayout)
        weights = state.prunable()
        distance = {}
        for name, weight in weights.items():
            unit = layout.units.weights.get(name, {}).get(0)
            rows = weight.flatten(1)
            apart = rows.new_zeros(len(rows))
            if unit is not None:
                own = (unit >= 0).nonzero().flatten()
                apart[own] = torch.cdist(rows[own], rows[own]).sum(1)
            # As the first entry of each row, so that a sum over the weights of a unit finds it
            # once; what other layers read of the unit does not count.
            distance[name] = torch.zeros_like(rows)
            distance[name][:, 0] = apart
        only_written = replace(
            layout.units,
            weights={n: {0: axes[0]} for n, axes in layout.units.weights.items() if 0 in axes},
        )
        return {"units": layout.relative(only_written.sums(distance))}


# ------------------------------------------------------------------------------------ iterative


@dataclass(frozen=True)
class Bip(BilevelSolver):
    """BiP: bi-level pruning without fairness.

    Zhang et al., "Advancing Model Pruning via Bi-level Optimization" (NeurIPS 2022).
    """

    constrained_levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class LotteryTicket(Solver):
    """Iterative magnitude pruning with rewinding: the lottery ticket.

    Frankle and Carbin, "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks"
    (ICLR 2019). Each round removes the same fraction of the weights that are left, the smallest
    of the network just trained, puts the rest back to what they were, and trains again.

    Parameters
    ----------
    rho, multiplier_lr, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`.
    n_rounds : int
        The first one prunes the dense network. All share the steps of the pruning phase.
    rewind_to : {"initial", "dense"}
        The weights before the dense phase, as in the paper, or after it (late rewinding of
        Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020).
    """

    weight_decay: float | str = 0.1
    n_rounds: int = 4
    rewind_to: str = "initial"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.n_rounds, Integral) and self.n_rounds >= 1
        self._check("n_rounds", whole, "a positive whole number")
        self._check("rewind_to", self.rewind_to in REWINDS, "'initial' or 'dense'")

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Refuse where the initial weights are asked for and not known."""
        super().check(layout, constraint, knows_initial_weights)
        check_rewind(self, knows_initial_weights)

    def settled(self, progress: float) -> bool:
        """Whether the last round has begun."""
        return progress >= (self.n_rounds - 1) / self.n_rounds

    def lr_factor(self, progress: float) -> float:
        """Half a cosine for each round."""
        return half_cosine((progress * self.n_rounds) % 1.0)

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Prune the dense network a first time."""
        weights = problem.initial
        if self.rewind_to == "dense":
            weights = {k: v.clone() for k, v in problem.module.state_dict().items()}
        return self._next_round(problem, replace(state, memory=weights))

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Prune and rewind where a round begins."""
        begun = min(int(progress * self.n_rounds + 1e-9) + 1, self.n_rounds)
        while state.stage < begun:
            state = self._next_round(problem, state)
        return state

    def cut(self, problem: Problem, state: SolverState) -> SolverState:
        """Prune without rewinding: nobody would train the ticket."""
        return without_smallest(problem, state, problem.sparsity)

    def _next_round(self, problem: Problem, state: SolverState) -> SolverState:
        share = (state.stage + 1) / self.n_rounds
        state = without_smallest(problem, state, 1.0 - (1.0 - problem.sparsity) ** share)
        return replace(rewound(problem, state, state.memory), stage=state.stage + 1)


# -------------------------------------------------------------------------------- with fairness


@dataclass(frozen=True)
class _Ramped(Solver):
    """Prune bit by bit in the first part of training, then train what is left."""

    ramp_end: float = 0.5

    @property
    def needs_groups(self) -> bool:
        """Both of these do."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("ramp_end", 0.0 < self.ramp_end <= 1.0, "a number in (0, 1]")

    def settled(self, progress: float) -> bool:
        """Whether the sparsity is reached."""
        return progress >= self.ramp_end

    def lr_factor(self, progress: float) -> float:
        """Constant while pruning, then a half cosine."""
        return half_cosine_after(progress, self.ramp_end)

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Every weight is kept at first."""
        return state

    def _position(self, progress: float) -> float:
        """Where on the ramp, in [0, 1]."""
        return min(progress / self.ramp_end, 1.0)


@dataclass(frozen=True)
class FairGrape(_Ramped):
    """FairGRAPE: keep of the weights' importance the same share for each group.

    Lin, Kim and Joo, "FairGRAPE: Fairness-aware GRAdient Pruning mEthod for Face Attribute
    Classification" (ECCV 2022). The importance of a weight for a group is ``(g θ)²``, with g the
    gradient of that group's mean loss; weights are kept one after the other, each for the group
    that has kept the smallest share so far. Pruning and training take turns. The loss knows no
    fairness.

    Parameters
    ----------
    rho, multiplier_lr, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`.
    ramp_end : float
        Fraction of training at which the sparsity is reached.
    n_rounds : int
        Rounds of pruning, spread over that part.
    """

    n_rounds: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.n_rounds, Integral) and self.n_rounds >= 1
        self._check("n_rounds", whole, "a positive whole number")

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Prune where a round begins: the first at once, the last at the end of the ramp."""
        begun = int(self._position(progress) * max(self.n_rounds - 1, 1) + 1e-9) + (
            self.n_rounds > 1
        )
        if state.stage >= begun:
            return state
        sparsity = 1.0 - (1.0 - problem.sparsity) ** (begun / self.n_rounds)
        state = replace(state, stage=begun)
        return replace(state, masks=self._masks(problem, state, sparsity))

    def _masks(self, problem: Problem, state: SolverState, sparsity: float) -> dict[str, Tensor]:
        weights = state.masked()
        assert problem.fairness is not None
        importances = []
        for group in range(problem.fairness.cells.n_groups):
            gradients = loss_gradients(problem, weights, group)
            squares = {name: (weights[name] * gradients[name]).square() for name in state.masks}
            importances.append(problem.layout.score_gradients(squares))
        names = list(importances[0])
        flat = torch.stack([torch.cat([i[name].flatten() for name in names]) for i in importances])
        scores = equal_shares(flat).split([importances[0][name].numel() for name in names])
        by_name = {
            name: score.view_as(importances[0][name])
            for name, score in zip(names, scores, strict=True)
        }
        return problem.layout.project(by_name, sparsity)


def equal_shares(importance: Tensor, n_turns: int = 1000) -> Tensor:
    """Rank items so that each group keeps the same share of its importance, however many stay.

    Parameters
    ----------
    importance : Tensor of shape (n_groups, n_items), not negative
        Of each item for each group.
    n_turns : int
        Turns in which the items are handed out: in each, the group with the smallest share gets
        its most important ones of those that are left.

    Returns
    -------
    Tensor of shape (n_items,)
        Scores in (0, 1], the first item handed out with the largest.
    """
    share = importance.double()
    share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
    orders = share.argsort(dim=1, descending=True)
    n_groups, n_items = share.shape
    size = -(-n_items // n_turns)
    left = torch.ones(n_items, dtype=torch.bool, device=share.device)
    # A group to which nothing matters would always have kept least.
    kept = [0.0 if total > 0 else math.inf for total in share.sum(1).tolist()]
    position = [0] * n_groups
    ranked = []
    n_ranked = 0
    while n_ranked < n_items:
        group = min(range(n_groups), key=kept.__getitem__)
        found = orders.new_empty(0)
        while len(found) < min(size, n_items - n_ranked):
            window = orders[group, position[group] : position[group] + size]
            found = torch.cat([found, window[left[window]]])
            position[group] += size
        taken, rest = found[:size], found[size:]
        # What was looked at beyond the turn's items is looked at again.
        if len(rest):
            position[group] = int((orders[group] == rest[0]).nonzero())
        left[taken] = False
        ranked.append(taken)
        n_ranked += len(taken)
        kept = [k + float(s) for k, s in zip(kept, share[:, taken].sum(1), strict=True)]
    order = torch.cat(ranked)
    ranks = torch.arange(n_items, 0, -1, device=order.device, dtype=importance.dtype)
    return torch.empty_like(ranks).index_copy_(0, order, ranks / n_items)


@dataclass(frozen=True)
class _TwoStages(Solver):
    """Pruning without fairness, and fair training of the weights, one after the other."""

    switch: float = 0.5
    pruning: Solver = field(default_factory=Bip)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("switch", 0.0 < self.switch < 1.0, "a number in (0, 1)")
        alone = isinstance(self.pruning, Solver) and not isinstance(self.pruning, _TwoStages)
        self._check("pruning", alone, "a solver with one stage, such as Bip() or Snip()")

    @property
    def needs_groups(self) -> bool:
        """Whether the pruning does."""
        return self.pruning.needs_groups

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Both stages have to work on it."""
        super().check(layout, constraint, knows_initial_weights)
        self.pruning.check(layout, constraint, knows_initial_weights)

    def _first(self, progress: float) -> float:
        """Progress of the first stage."""
        return min(progress / self.switch, 1.0)

    def _second(self, progress: float) -> float:
        """Progress of the second stage; negative before it begins."""
        return (progress - self.switch) / (1.0 - self.switch)


@dataclass(frozen=True)
class PruneThenFair(_TwoStages):
    """Prune, then make the weights that are left fair (P&F in Dai et al., arXiv 2312.10181).

    Parameters
    ----------
    rho, multiplier_lr, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`.
    switch : float
        Fraction of the steps that goes into the first stage.
    pruning : Solver
        The first stage, without fairness: any of the above.
    """

    def levels(self, progress: float) -> tuple[str, ...]:
        """Weights in the second stage."""
        return ("lower",) if progress >= self.switch else ()

    def settled(self, progress: float) -> bool:
        """Whether the second stage has begun: earlier networks are no candidates."""
        return progress >= self.switch

    def lr_factor(self, progress: float) -> float:
        """Each stage with a schedule of its own."""
        if progress < self.switch:
            return self.pruning.lr_factor(self._first(progress))
        return half_cosine(self._second(progress))

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """As the first stage begins."""
        return self.pruning.begin(problem, state)

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Masks of the first stage."""
        return self.pruning.move(problem, state, self._first(progress))

    def cut(self, problem: Problem, state: SolverState) -> SolverState:
        """As the first stage would."""
        return self.pruning.cut(problem, state)

    def gradients(
        self, problem: Problem, state: SolverState, batch: Any, progress: float
    ) -> tuple[SolverState, dict[str, Tensor]]:
        """Those of the stage."""
        if progress < self.switch:
            return self.pruning.gradients(problem, state, batch, self._first(progress))
        return super().gradients(problem, state, batch, progress)


@dataclass(frozen=True)
class FairThenPrune(_TwoStages):
    """Make the dense network fair, then prune it (F&P in Dai et al., arXiv 2312.10181).

    Parameters
    ----------
    rho, multiplier_lr, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`.
    switch : float
        Fraction of the steps that goes into the first stage.
    pruning : Solver
        The second stage, without fairness: any of the above.
    """

    def levels(self, progress: float) -> tuple[str, ...]:
        """Weights in the first stage."""
        return ("lower",) if progress < self.switch else ()

    def settled(self, progress: float) -> bool:
        """Whether the mask of the second stage is."""
        return progress >= self.switch and self.pruning.settled(self._second(progress))

    def lr_factor(self, progress: float) -> float:
        """Each stage with a schedule of its own."""
        if progress < self.switch:
            return half_cosine(self._first(progress))
        return self.pruning.lr_factor(self._second(progress))

    def begin(self, problem: Problem, state: SolverState) -> SolverState:
        """Every weight is kept at first."""
        return state

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Masks of the second stage."""
        if progress < self.switch:
            return state
        return self.pruning.move(problem, self._begun(problem, state), self._second(progress))

    def cut(self, problem: Problem, state: SolverState) -> SolverState:
        """As the second stage would."""
        return self.pruning.cut(problem, self._begun(problem, state))

    def _begun(self, problem: Problem, state: SolverState) -> SolverState:
        """State of the second stage, which begins with the network as it is then."""
        if state.switched:
            return state
        return self.pruning.begin(problem, replace(state, switched=True))

    def gradients(
        self, problem: Problem, state: SolverState, batch: Any, progress: float
    ) -> tuple[SolverState, dict[str, Tensor]]:
        """Those of the stage."""
        if not state.switched:
            return super().gradients(problem, state, batch, progress)
        return self.pruning.gradients(problem, state, batch, max(self._second(progress), 0.0))


@dataclass(frozen=True)
class ExcessTerm(FairnessTerm):
    """Bound on what pruning takes from a group beyond what it takes from all.

    The Lagrangian of Hashemizadeh et al. (see :class:`BalancingAct`): the excess accuracy gaps,
    over the last batches, move the multipliers; the excess of the group's mean loss, which can be
    differentiated, stands in for them in the objective. A multiplier goes back to 0 as soon as
    its group is within the bound.
    """

    def __call__(
        self, state: FairnessState, logits: Tensor, columns: dict[str, Tensor]
    ) -> tuple[Tensor, FairnessState]:
        """Term of one batch, and the state after it; see :class:`FairnessTerm`."""
        cells, bound = self.cells, self.bound or 0.0
        # Positive where the prediction is right; its log-loss.
        right = cells.outcome_logits(logits, columns["y"])
        weight = columns.get("sample_weight")
        sums = cell_sums(F.softplus(-right), columns["cell"], cells.n_cells, weight)
        excess_loss = differences(sums, cells)
        with torch.no_grad():
            running = self._running(state, right, columns)
            # Accuracy against the dense network's: what the group lost beyond the others.
            excess = -differences(running, cells)
            multipliers = state.multipliers + self.multiplier_lr * self.weight * (excess - bound)
            multipliers = torch.where(excess > bound, multipliers.clamp_min(0.0), 0.0)
        return (multipliers * excess_loss).sum(-1), FairnessState(multipliers, running)


@dataclass(frozen=True)
class BalancingAct(_Ramped):
    """Gradual magnitude pruning that bounds what each group loses beyond the others.

    Hashemizadeh et al., "Balancing Act: Constraining Disparate Impact in Sparse Models" (ICLR
    2024), on the gradual magnitude pruning of Zhu and Gupta (arXiv 1710.01878). Needs
    ``constraint="degradation_parity"``, which is its notion of fairness: groups are compared with
    what the dense network did to them.

    Parameters
    ----------
    rho, temperature, weight_decay
        As for :class:`~fairprune_sk.solver.Solver`; the first two have no effect here.
    multiplier_lr : float
        Step of the multipliers for one batch.
    ramp_end : float
        Fraction of training at which the sparsity is reached.
    """

    def check(
        self, layout: Layout, constraint: Constraint | None, knows_initial_weights: bool
    ) -> None:
        """Its constraint is its own."""
        super().check(layout, constraint, knows_initial_weights)
        if not isinstance(constraint, DegradationParity):
            raise ValueError(
                f"Got solver=BalancingAct with constraint={type(constraint).__name__}, but it "
                "bounds what pruning takes from each group: use constraint='degradation_parity'."
            )

    def fairness_term(
        self, cells: Cells, bound: float | None, weight: float, n_batches: int
    ) -> FairnessTerm:
        """Bound on the excess accuracy gaps."""
        term = super().fairness_term(cells, bound, weight, n_batches)
        return ExcessTerm(**vars(term))

    def levels(self, progress: float) -> tuple[str, ...]:
        """Return the weights: the mask follows their magnitudes."""
        return ("lower",)

    def move(self, problem: Problem, state: SolverState, progress: float) -> SolverState:
        """Remove the smallest of the weights that are left."""
        sparsity = problem.sparsity * (1.0 - (1.0 - self._position(progress)) ** 3)
        return without_smallest(problem, state, sparsity)


SOLVERS: dict[str, type[Solver]] = {
    "bilevel": BilevelSolver,
    "magnitude": Magnitude,
    "random": RandomPruning,
    "snip": Snip,
    "grasp": Grasp,
    "fpgm": Fpgm,
    "bip": Bip,
    "lottery_ticket": LotteryTicket,
    "fairgrape": FairGrape,
    "prune_then_fair": PruneThenFair,
    "fair_then_prune": FairThenPrune,
    "balancing_act": BalancingAct,
}
"""Every solver by the name that ``FairPruner(solver=...)`` takes."""
