"""The pruning phase as a skorch net: a solver's steps inside skorch's loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from skorch.callbacks import EpochTimer, LRScheduler, PassthroughScoring, PrintLog
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim.lr_scheduler import LambdaLR

from fairprune_sk.batch import Batch, over_processes
from fairprune_sk.compaction import reached_sparsity
from fairprune_sk.constraints import CellSums, class_columns, hard_outcome, margins
from fairprune_sk.resident import ResidentIterator, ResidentTable
from fairprune_sk.solvers import Problem, Solver, SolverState
from fairprune_sk.solvers.base import copied
from fairprune_sk.training import DeferredLosses

CANDIDATES_FROM = 0.75
"""Fraction of training after which the epochs compete: earlier ones are worse, and cost a look."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network that a run passed through, whole, with what it does on the training table.

    Attributes
    ----------
    parameters, buffers : dict of Tensor
        Of the masked network.
    masks : dict of Tensor, bool
        True keeps, by parameter name.
    multipliers : Tensor of shape (n_cells,) or None
        None where nothing is constrained.
    sparsity : float
    accuracy : float
    selection_rates : list of float
        Of each column of the logits.
    sums : CellSums or None
        Hard outcomes by cell; their rates are what the constraint compares.
    gap : float
        Gap of these rates, 0 where there is no constraint.
    violation : float
        What the gap is beyond the tolerance; minus infinity where there is none.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    masks: dict[str, Tensor]
    multipliers: Tensor | None
    sparsity: float
    accuracy: float
    selection_rates: list[float]
    sums: CellSums | None
    gap: float
    violation: float

    def rank(self) -> tuple[float, float]:
        """Sort key: the smallest violation first, then the highest accuracy less the gap.

        Feasible networks of one run hardly differ in accuracy, and their gaps on other rows are
        larger than here: a point of gap weighs as much as a point of accuracy.
        """
        return max(self.violation, 0.0), self.gap - self.accuracy


class PruningNet(DeferredLosses):
    """Prune the module of a trained net.

    Parameters
    ----------
    module : nn.Module
        The trained network. The solver works on tensors of its own; for the callbacks, they are
        written into the module at the end of each epoch.
    problem : Problem
    solver : Solver
    **kwargs
        As for :class:`skorch.NeuralNet`.

    Attributes
    ----------
    state_ : SolverState
    best_ : Candidate
        The best network of the last epochs, its mask settled.
    """

    def __init__(
        self,
        module: nn.Module,
        problem: Problem,
        solver: Solver,
        **kwargs: Any,
    ):
        super().__init__(
            module,
            criterion=nn.Identity,
            iterator_train=ResidentIterator,
            iterator_train__shuffle=True,
            train_split=None,
            **kwargs,
        )
        self.problem = problem
        self.solver = solver

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            (
                "lr_schedule",
                LRScheduler(LambdaLR, step_every="batch", lr_lambda=self._lr_factor),
            ),
            ("print_log", PrintLog()),
        ]

    def _lr_factor(self, step: int) -> float:
        return self.solver.lr_factor(step / self.n_steps_)

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> PruningNet:
        """Set up the solver's state; the optimiser that skorch knows is that of the weights."""
        self.state_: SolverState = self.solver.init(self.problem)
        self.optimizer_ = self.state_.lower
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Count the steps ahead: ramp, freeze and learning rate are fractions of them."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        self.n_steps_ = self.max_epochs * len(self.get_iterator(X, training=True))
        self.step_ = 0
        self.best_: Candidate | None = None
        self.write()  # a solver may begin by going back to earlier weights
        self._last_masks = self.state_.masks

    def _set_training(self, training: bool = True) -> None:
        """Training mode, but for dropout: the rates to constrain are those of whole predictions.

        With dropout on, group rates would be those of random subnetworks, and their gap is not
        the gap of the network that predicts. Losing nine weights in ten regularises enough.
        """
        super()._set_training(training)
        for layer in self.module_.modules():
            if isinstance(layer, _DropoutNd):
                layer.eval()

    @property
    def progress(self) -> float:
        """Fraction of the steps that are done."""
        return self.step_ / self.n_steps_

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """One step of both levels."""
        _, rows = batch  # skorch's pair
        self._set_training(True)
        if not self.solver.settled(self.progress):
            # The masks of the end of the step, so that even a single step reaches the sparsity.
            self.state_ = self.solver.move(
                self.problem, self.state_, (self.step_ + 1) / self.n_steps_
            )
        self.state_, step = self.solver.gradients(self.problem, self.state_, rows, self.progress)
        self.notify(
            "on_grad_computed",
            named_parameters=self.state_.weights.items(),
            batch=(rows.X, rows.y),
            training=True,
        )
        self.solver.step(self.state_)
        self.step_ += 1
        return step

    def on_epoch_end(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Record what the epoch did, and keep its network if it is the best so far."""
        super().on_epoch_end(net, dataset_train, dataset_valid, **kwargs)
        self.write()
        masks = self.state_.masks
        self.history.record("sparsity", reached_sparsity(masks))
        self.history.record("mask_change", changed_share(self._last_masks, masks))
        self._last_masks = masks
        if self.state_.fairness is not None and self.problem.fairness is not None:
            fairness, parity = self.state_.fairness, self.problem.fairness.parity
            self.history.record("running_gap", float(parity.gap(fairness.running)))
            self.history.record("max_multiplier", float(fairness.multipliers.max()))
        if self.progress >= CANDIDATES_FROM and self.solver.settled(self.progress):
            self.consider(dataset_train)
            return
        self.history.record("train_accuracy", math.nan)  # a column of the log from the start
        if self.problem.fairness is not None:
            self.history.record("train_gap", math.nan)

    @torch.no_grad()
    def write(self) -> None:
        """Write the weights as they are trained, masked or not, and the buffers into the module."""
        own = dict(self.module_.named_parameters()) | dict(self.module_.named_buffers())
        for name, tensor in {**self.state_.weights, **self.state_.buffers}.items():
            own[name].copy_(tensor)

    def candidate(self, table: ResidentTable) -> Candidate:
        """Measure the network of this moment on the whole training table."""
        state, term = self.state_, self.problem.fairness
        totals, sums = measure(self.problem, state.tensors(), table, self)
        n, correct, *selected = totals.tolist()
        gap, violation = 0.0, -math.inf
        if term is not None and sums is not None:
            gap, violation = float(term.parity.gap(sums)), term.parity.violation(sums)
        return Candidate(
            parameters=copied(state.masked()),
            buffers=copied(state.buffers),
            masks=state.masks,
            multipliers=None if state.fairness is None else state.fairness.multipliers,
            sparsity=reached_sparsity(state.masks),
            accuracy=correct / n,
            selection_rates=[rows / n for rows in selected],
            sums=sums,
            gap=gap,
            violation=violation,
        )

    def consider(self, table: ResidentTable) -> None:
        """Keep the network of this moment if it is the best so far."""
        candidate = self.candidate(table)
        self.history.record("train_accuracy", candidate.accuracy)
        if self.problem.fairness is not None:
            self.history.record("train_gap", candidate.gap)
        if self.best_ is None or candidate.rank() < self.best_.rank():
            self.best_ = candidate

    def finish(self, table: ResidentTable) -> Candidate:
        """Return the best network; one that stopped before the freeze is cut to size first."""
        if self.best_ is None:
            self.state_ = self.solver.cut(self.problem, self.state_)
            self.consider(table)
        assert self.best_ is not None
        # The multipliers of the end: a run that goes on from here starts with these.
        fairness = self.state_.fairness
        multipliers = None if fairness is None else fairness.multipliers
        return replace(self.best_, multipliers=multipliers)


def changed_share(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Share of the mask that differs between two masks of one network."""
    changed = torch.stack([(before[name] != mask).sum() for name, mask in after.items()]).sum()
    return float(changed) / sum(mask.numel() for mask in after.values())


def measure(
    problem: Problem, tensors: dict[str, Tensor], table: ResidentTable, net: PruningNet
) -> tuple[Tensor, CellSums | None]:
    """Totals and sums by cell of hard predictions on a table, in evaluation mode."""
    net._set_training(False)
    totals: Tensor | None = None
    sums: CellSums | None = None
    with torch.no_grad():
        for batch in ResidentIterator(table, table.evaluation_rows):
            logits, _ = problem.evaluate(tensors, batch)
            part = outcome_totals(logits, batch)
            totals = part if totals is None else totals + part
            if problem.fairness is not None:
                parity = problem.fairness.parity
                parts = parity.sums(hard_outcome(parity.outcome_logits(logits, batch.y)), batch)
                sums = parts if sums is None else CellSums(*map(torch.add, sums, parts))
    assert totals is not None
    return totals, sums


def outcome_totals(logits: Tensor, batch: Batch) -> Tensor:
    """Count rows, right predictions, and predictions of each column, by weight.

    Parameters
    ----------
    logits : Tensor of shape (n, n_columns)
    batch : Batch

    Returns
    -------
    Tensor of shape (2 + n_columns,), float64
    """
    predicted = hard_outcome(margins(logits))
    is_class = class_columns(batch.y, logits.shape[1])
    right = (predicted == is_class).all(-1)
    weight = batch.weight
    if weight is None:
        weight = torch.ones_like(right, dtype=logits.dtype)
    counts = torch.column_stack([torch.ones_like(weight), right, predicted])
    return over_processes((counts.double() * weight.unsqueeze(-1)).sum(0))
