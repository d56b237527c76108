"""The pruning phase as a skorch net: a solver's steps inside skorch's loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from skorch.callbacks import EpochTimer, LRScheduler, PassthroughScoring, PrintLog
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim.lr_scheduler import LambdaLR

from fairprune_sk.batch import Batch
from fairprune_sk.compaction import reached_sparsity
from fairprune_sk.constraints import CellSums, class_columns, hard_outcome, margins
from fairprune_sk.resident import ResidentIterator, ResidentTable
from fairprune_sk.solvers import Problem, Solver
from fairprune_sk.training import DeferredLosses

CANDIDATES_FROM = 0.75
"""Fraction of training after which the epochs compete: earlier ones are worse, and cost a look."""


@dataclass(frozen=True)
class Candidate:
    """A network that training passed through, with what it scores on the training table.

    Attributes
    ----------
    parameters, buffers : dict of Tensor
        Of the masked network.
    accuracy : float
    selection_rates : list of float
        Of each column of the logits.
    gap : float
        Gap of the hard rates, 0 where there is no constraint.
    violation : float
        What the gap is beyond the tolerance; minus infinity where there is none.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    accuracy: float
    selection_rates: list[float]
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
        The trained network. It is trained on, in place.
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
        self.state_ = self.solver.init(self.problem)
        self.optimizer_ = self.state_.lower
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Count the steps ahead: ramp, freeze and learning rate are fractions of them."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        self.n_steps_ = self.max_epochs * len(self.get_iterator(X, training=True))
        self.step_ = 0
        self.best_: Candidate | None = None
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

    def consider(self, table: ResidentTable) -> None:
        """Measure the masked network on the whole training table; keep it if it is the best."""
        parameters = {name: value.clone() for name, value in self.state_.masked().items()}
        totals, sums = measure(self.problem, parameters, table, self)
        n, correct, *selected = totals.tolist()
        gap, violation = 0.0, -math.inf
        if self.problem.fairness is not None and sums is not None:
            parity = self.problem.fairness.parity
            gap, violation = float(parity.gap(sums)), parity.violation(sums)
        accuracy, selection_rates = correct / n, [rows / n for rows in selected]
        self.history.record("train_accuracy", accuracy)
        if self.problem.fairness is not None:
            self.history.record("train_gap", gap)
        buffers = {name: b.clone() for name, b in self.module_.named_buffers()}
        candidate = Candidate(parameters, buffers, accuracy, selection_rates, gap, violation)
        if self.best_ is None or candidate.rank() < self.best_.rank():
            self.best_ = candidate

    def finish(self, table: ResidentTable) -> Candidate:
        """Return the best network; one that stopped before the freeze is cut to size first."""
        if self.best_ is None:
            self.state_ = self.solver.cut(self.problem, self.state_)
            self.consider(table)
        assert self.best_ is not None
        return self.best_


def changed_share(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Share of the mask that differs between two masks of one network."""
    changed = torch.stack([(before[name] != mask).sum() for name, mask in after.items()]).sum()
    return float(changed) / sum(mask.numel() for mask in after.values())


def measure(
    problem: Problem, parameters: dict[str, Tensor], table: ResidentTable, net: PruningNet
) -> tuple[Tensor, CellSums | None]:
    """Totals and sums by cell of hard predictions on a table, in evaluation mode."""
    net._set_training(False)
    totals: Tensor | None = None
    sums: CellSums | None = None
    with torch.no_grad():
        for batch in ResidentIterator(table, table.evaluation_rows):
            logits, _ = problem.evaluate(parameters, batch)
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
    return (counts.double() * weight.unsqueeze(-1)).sum(0)
