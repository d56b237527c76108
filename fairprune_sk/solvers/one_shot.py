"""Pruning at once: one ranking of what can be removed, then training."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from numbers import Real

import torch
from torch import Tensor

from fairprune_sk.fairness.constraints import Constraint
from fairprune_sk.masks.granularity import Layout, UnitLayout
from fairprune_sk.masks.importance import IMPORTANCES
from fairprune_sk.networks.batch import Batch, log_loss
from fairprune_sk.solvers.base import Problem, Solver, SolverState
from fairprune_sk.solvers.gradients import hessian_gradient, loss_gradients
from fairprune_sk.solvers.rewinding import REWINDS, check_rewind, rewound


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
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
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
class AtInitialisation(OneShot):
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
        if self.rewind_to == "initial" and problem.initial is not None:
            state = rewound(state, problem.initial)
        return super().begin(problem, state)


@dataclass(frozen=True)
class Snip(AtInitialisation):
    """SNIP: keep the connections that the loss is most sensitive to.

    Lee, Ajanthan and Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity"
    (ICLR 2019): ``|g ⊙ θ|`` ranks the weights, with g the gradient of the loss, here over the
    whole training table.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    rewind_to : {"initial", "dense"}
        Whether the untrained network is ranked and then trained, as in the paper, or the trained
        one.
    """

    def scores(self, problem: Problem, state: SolverState) -> dict[str, Tensor]:
        """Scores from the sensitivities."""
        gradients = loss_gradients(problem, state.masked(), state.buffers)
        sensitivity = {n: (w * gradients[n]).abs() for n, w in state.prunable().items()}
        return problem.layout.scores(scaled(sensitivity))


@dataclass(frozen=True)
class Grasp(AtInitialisation):
    """GraSP: keep the weights that the gradient flow lives on.

    Wang, Zhang and Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow"
    (ICLR 2020): the weights whose removal takes most from ``‖g‖²`` have the largest
    ``θ ⊙ H g``, with H the Hessian of the loss, here over the whole training table.

    Parameters
    ----------
    weight_decay
        As for :class:`~fairprune_sk.solvers.Solver`.
    rewind_to : {"initial", "dense"}
        As for :class:`Snip`.
    softening : float
        What logits are divided by for the ranking; 200 in the authors' code. With 1, a trained
        network has no gradient to speak of, and whole layers go.
    """

    softening: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        fine = isinstance(self.softening, Real) and float(self.softening) > 0
        self._check("softening", fine, "a positive number")

    def scores(self, problem: Problem, state: SolverState) -> dict[str, Tensor]:
        """Scores from the gradient flow."""

        def evaluate(parameters: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
            logits, _ = problem.evaluate(parameters, batch)
            return logits, log_loss(logits / self.softening, batch)

        soft, weights = replace(problem, evaluate=evaluate), state.masked()
        gradients = loss_gradients(soft, weights, state.buffers)
        flow = hessian_gradient(soft, weights, state.buffers, gradients)
        return problem.layout.scores(scaled({n: w * flow[n] for n, w in state.prunable().items()}))


def scaled(importance: dict[str, Tensor]) -> dict[str, Tensor]:
    """Shift and scale importances to [0, 1] together, which keeps their order."""
    low = torch.stack([value.amin() for value in importance.values()]).amin()
    high = torch.stack([value.amax() for value in importance.values()]).amax()
    width = (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    return {name: (value - low) / width for name, value in importance.items()}


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
