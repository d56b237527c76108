"""The pruning phase as a skorch net: a solver's steps inside skorch's loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback, EpochTimer, LRScheduler, PassthroughScoring, PrintLog
from skorch.history import History
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim.lr_scheduler import LambdaLR

from fairprune_sk.distributed import over_processes
from fairprune_sk.exceptions import DivergedError
from fairprune_sk.fairness.collapse import hardly_predicted
from fairprune_sk.fairness.constraints import CellSums, class_columns, hard_outcome, margins
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fitting.checkpoint import Part
from fairprune_sk.fitting.dense import Dense, Objective
from fairprune_sk.fitting.resident import (
    MOST_BATCHES,
    ResidentIterator,
    ResidentTable,
    batches_of,
)
from fairprune_sk.fitting.task import Settings, Task
from fairprune_sk.fitting.training import DeferredLosses, all_finite, train
from fairprune_sk.masks.compaction import reached_sparsity
from fairprune_sk.networks.batch import Batch
from fairprune_sk.solvers import Problem, Solver, SolverState
from fairprune_sk.solvers.base import copied

CANDIDATES_FROM = 0.75
"""Fraction of training after which the epochs compete: earlier ones are worse, and cost a look."""

_AT_A_TIME = 2**16  # rows

MOST_LOSS = 100.0
"""Mean loss of an epoch beyond which the default network has diverged: a guess has below 1.

Networks of a user's own may read columns as large as incomes, and start there.
"""


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
    collapsed : bool
        Whether it hardly predicts a class.
    sums : CellSums or None
        Hard outcomes by cell; their rates are what the constraint compares.
    train_gap : float
        Gap of these rates, 0 where there is no constraint.
    gap : float
        The gap on the rows that the tolerance is for.
    violation : float
        What that is beyond the tolerance; minus infinity where there is none.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    masks: dict[str, Tensor]
    multipliers: Tensor | None
    sparsity: float
    accuracy: float
    selection_rates: list[float]
    collapsed: bool
    sums: CellSums | None
    train_gap: float
    gap: float
    violation: float

    def rank(self) -> tuple[bool, float, float]:
        """Sort key: no collapse, the smallest violation, then the highest accuracy less the gap.

        A network that selects nobody has no gap, and is no answer: one that misses the tolerance
        comes before it. Feasible networks of one run hardly differ in accuracy, and their gaps on
        other rows are larger than here: a point of gap weighs as much as a point of accuracy.
        """
        return self.collapsed, max(self.violation, 0.0), self.gap - self.accuracy

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as numbers, tensors, and dicts and lists of them."""
        return copied(vars(self))

    @classmethod
    def restored(cls, saved: dict[str, Any], device: torch.device) -> Candidate:
        """Make the candidate that :meth:`state_dict` was taken of, on a device."""

        def moved(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: moved(part) for key, part in value.items()}
            return value.to(device) if isinstance(value, Tensor) else value

        values = {name: moved(value) for name, value in saved.items()}
        if saved["sums"] is not None:
            values["sums"] = CellSums(*map(moved, saved["sums"]))
        return cls(**values)


class PruningNet(DeferredLosses):
    """Prune the module of a trained net.

    Parameters
    ----------
    module : nn.Module
        The trained network. The solver works on tensors of its own; for the callbacks, they are
        written into the module at the end of each epoch.
    problem : Problem
    solver : Solver
    shares : pair of ndarray of shape (n_classes,)
        Of labels, and of the dense network's predictions: what a collapse is told by.
    **kwargs
        As for :class:`skorch.NeuralNet`.

    Attributes
    ----------
    state_ : SolverState
    best_ : Candidate
        The best network of the last epochs, its mask settled.
    """

    phase = "pruning"

    @property
    def remedy(self) -> str:
        """What may keep the training from diverging."""
        settings = [f"a lower lr ({self.lr:g})"]
        if self.problem.mask_lr > 0:
            settings.append(f"a lower mask_lr ({self.problem.mask_lr:g})")
        if self.problem.fairness is not None:
            settings.append("a lower fairness_weight")
        return ", or ".join(settings)

    def __init__(
        self,
        module: nn.Module,
        problem: Problem,
        solver: Solver,
        shares: tuple[np.ndarray, np.ndarray],
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
        self.shares = shares

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            (
                "lr_schedule",
                LRScheduler(LambdaLR, step_every="batch", lr_lambda=self._lr_factor),
            ),
            # It lays out its table also where nothing is printed.
            *([("print_log", PrintLog())] if self.verbose else []),
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
        self.step_ = 0.0  # in batches, of which a step may be a piece
        self.table_: ResidentTable = X
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
                self.problem, self.state_, (self.step_ + self.share_) / self.n_steps_
            )
        self.state_, step = self.solver.gradients(self.problem, self.state_, rows, self.progress)
        self.notify(
            "on_grad_computed",
            named_parameters=self.state_.weights.items(),
            batch=(rows.X, rows.y),
            training=True,
        )
        self.solver.step(self.state_)
        self.step_ += self.share_
        return step

    def trained_weights(self) -> Iterable[Tensor]:
        """Weights of the solver's state."""
        return self.state_.weights.values()

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
            self.history.record("max_multiplier", float(fairness.multipliers.abs().max()))
        if self.progress >= CANDIDATES_FROM and self.solver.settled(self.progress):
            self.consider()
            return
        self.history.record("train_accuracy", math.nan)  # a column of the log from the start
        if self.problem.fairness is not None:
            self.history.record("train_gap", math.nan)

    def kept(self) -> dict[str, Any]:
        """State of the pruning at the end of an epoch, for a checkpoint."""
        best = None if self.best_ is None else self.best_.state_dict()
        return {"state": self.state_.state_dict(), "step": self.step_, "best": best}

    def put_back(self, saved: dict[str, Any]) -> None:
        """Go on from what :meth:`kept` gave, once training has begun."""
        self.state_ = self.solver.restore(self.problem, saved["state"], self.state_)
        self.step_, best = saved["step"], saved["best"]
        device = torch.device(self.device)
        self.best_ = None if best is None else Candidate.restored(best, device)
        self._last_masks = copied(self.state_.masks)
        self.write()

    @torch.no_grad()
    def write(self) -> None:
        """Write the weights as they are trained, masked or not, and the buffers into the module."""
        own = dict(self.module_.named_parameters()) | dict(self.module_.named_buffers())
        for name, tensor in {**self.state_.weights, **self.state_.buffers}.items():
            own[name].copy_(tensor)

    @torch.no_grad()
    def measure(self) -> tuple[Tensor, CellSums | None, CellSums | None]:
        """Totals and sums by cell of hard predictions, in evaluation mode.

        Returns
        -------
        totals : Tensor of shape (2 + n_columns,), float64
            See :func:`outcome_totals`.
        sums, seen : CellSums or None
            What the constraint compares, and by the labels.
        """
        self._set_training(False)
        tensors, term = self.state_.tensors(), self.problem.fairness
        parity = None if term is None else term.parity
        total: Any = 0.0
        sums = seen = None
        for batch in ResidentIterator(self.table_, self.table_.evaluation_rows):
            logits, _ = self.problem.evaluate(tensors, batch)
            total = total + outcome_totals(logits, batch)
            if parity is not None:
                sums = added(sums, parity.sums(hard_outcome, logits, batch))
                if batch.chance is not None:
                    labels = parity.sums(hard_outcome, logits, batch, labels=True)
                    seen = added(seen, labels)
        return over_processes(total), sums, sums if seen is None else seen

    def candidate(self) -> Candidate:
        """Measure the network of this moment on the whole training table.

        Raises
        ------
        DivergedError
            If its logits or weights are not finite.
        """
        state, term = self.state_, self.problem.fairness
        totals, sums, seen = self.measure()
        n, correct, *selected = totals.tolist()
        if not (np.isfinite(selected).all() and all_finite(state.masked().values())):
            raise DivergedError(
                f"The pruning diverged: the network of epoch {len(self.history)} of "
                f"{self.max_epochs} has logits or weights that are not finite. Try {self.remedy}."
            )
        train_gap, gap, violation = 0.0, 0.0, -math.inf
        if term is not None and sums is not None and seen is not None:
            train_gap = float(term.parity.gap(seen))
            gap, violation = float(term.parity.gap(sums)), term.parity.violation(sums)
        rates = [rows / n for rows in selected]
        return Candidate(
            parameters=copied(state.masked()),
            buffers=copied(state.buffers),
            masks=state.masks,
            multipliers=None if state.fairness is None else state.fairness.multipliers,
            sparsity=reached_sparsity(state.masks),
            accuracy=correct / n,
            selection_rates=rates,
            collapsed=bool(hardly_predicted(of_each_class(rates), *self.shares).any()),
            sums=sums,
            train_gap=train_gap,
            gap=gap,
            violation=violation,
        )

    def consider(self) -> None:
        """Keep the network of this moment if it is the best so far."""
        candidate = self.candidate()
        self.history.record("train_accuracy", candidate.accuracy)
        if self.problem.fairness is not None:
            self.history.record("train_gap", candidate.train_gap)
        if self.best_ is None or candidate.rank() < self.best_.rank():
            self.best_ = candidate

    def left(self, candidate: Candidate) -> Run:
        """Return what the run leaves, if it leaves this network."""
        return Run((candidate,), self.history, round(self.step_))

    def finish(self) -> Candidate:
        """Return the best network; one that stopped before the freeze is cut to size first."""
        if self.best_ is None:
            self.state_ = self.solver.cut(self.problem, self.state_)
            self.consider()
        assert self.best_ is not None
        # The multipliers of the end: a run that goes on from here starts with these.
        fairness = self.state_.fairness
        multipliers = None if fairness is None else fairness.multipliers
        return replace(self.best_, multipliers=multipliers)


def added(sums: CellSums | None, more: CellSums) -> CellSums:
    """Add sums over more rows."""
    return more if sums is None else sums.plus(more)


def changed_share(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Share of the mask that differs between two masks of one network."""
    changed = torch.stack([(before[name] != mask).sum() for name, mask in after.items()]).sum()
    return float(changed) / sum(mask.numel() for mask in after.values())


def outcome_totals(logits: Tensor, batch: Batch) -> Tensor:
    """Count rows, right predictions, and predictions of each column, by weight, in this process.

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


def class_shares(rows: Batch, logits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Weighted shares of the classes among labels, and among a network's predictions.

    Parameters
    ----------
    rows : Batch
        Their X is not looked at.
    logits : Tensor of shape (n, n_columns)

    Returns
    -------
    labelled, predicted : ndarray of shape (n_classes,)
    """
    rows, found = replace(rows, X=logits), []
    for start in range(0, len(rows), _AT_A_TIME):
        part = rows.take(slice(start, start + _AT_A_TIME))
        labels = class_columns(part.y, part.X.shape[1]).to(part.X)  # as if it were predicted
        found.append(torch.stack([outcome_totals(each, part) for each in (labels - 0.5, part.X)]))
    totals = over_processes(torch.stack(found).sum(0))
    labelled, predicted = (totals[:, 2:] / totals[:, :1]).tolist()
    return of_each_class(labelled), of_each_class(predicted)


def of_each_class(rates: list[float]) -> np.ndarray:
    """Give the selection rate of each class: of two, the one column of logits is the second."""
    return np.array([1.0 - rates[0], *rates] if len(rates) == 1 else rates)


@dataclass(frozen=True, eq=False)
class Run:
    """What a pruning phase leaves.

    Attributes
    ----------
    candidates : tuple of Candidate
        The networks that it found worth keeping.
    history : History
    n_iter : int
        Steps.
    """

    candidates: tuple[Candidate, ...]
    history: History
    n_iter: int

    @property
    def best(self) -> Candidate:
        """The candidate that has not collapsed, of the smallest violation, and so on."""
        return min(self.candidates, key=Candidate.rank)


def prune(
    task: Task,
    table: ResidentTable,
    dense: Dense,
    callback: Callback | None = None,
    checkpoint: Part | None = None,
) -> Run:
    """Prune the dense network of a task.

    Parameters
    ----------
    task : Task
    table : ResidentTable
        Its rows, on the device.
    dense : Dense
    callback : Callback, optional
        One more, for the time of the training.
    checkpoint : Part, optional
        Where the pruning is kept, to go on from.

    Returns
    -------
    Run
    """
    settings, parity = task.settings, task.parity
    if parity is not None:
        parity = parity.to(settings.device)
        if parity.requirement.constraint.relative_to_dense:
            reference = parity.outcomes_of_classes(dense.logits.to(settings.device))
            table = table.knowing(reference=reference)
    start = dense.module if task.start is None else task.network
    module = copy.deepcopy(start).to(settings.device)
    begun = pruning_net(task, table, dense, module, parity)
    net = train(begun, table, callback=callback, checkpoint=checkpoint)
    run = net.left(net.finish())
    # The net and its callbacks hold each other until a garbage collection: without the table.
    net.problem = net.table_ = None
    return run


def pruning_net(
    task: Task, table: ResidentTable, dense: Dense, module: nn.Module, parity: Parity | None
) -> PruningNet:
    """Set up the pruning phase.

    Parameters
    ----------
    task : Task
    table : ResidentTable
    dense : Dense
        Whose loss is used.
    module : nn.Module
        The network to prune, of its own, on the device of the table.
    parity : Parity or None
        On that device.

    Returns
    -------
    PruningNet
    """
    settings, n = task.settings, table.n_whole
    batch_size = batch_rows(settings, n)
    n_batches = batches_in(settings, n)
    fairness = None
    if parity is not None:
        # Sums over about one epoch, and no more than twenty batches: longer memories lag behind
        # the network, and the multipliers overshoot.
        memory = 1.0 - 1.0 / min(n_batches, 20)
        fairness = settings.solver.fairness_term(parity, memory, float(settings.fairness_weight))
    trained_here = task.start is None and isinstance(task.network, nn.Module)
    problem = Problem(
        module,
        Objective(dense.net, module, dense.probabilities).evaluate,
        fairness,
        task.layout,
        float(settings.sparsity),
        n_rows=n,
        lr=settings.lr,
        mask_lr=settings.mask_lr,
        batches=lambda: iter(ResidentIterator(table, table.evaluation_rows)),
        initial=task.network.state_dict() if trained_here else None,
        start=task.start,
    )
    net = PruningNet(
        module,
        problem,
        settings.solver,
        class_shares(task.rows, dense.logits),
        lr=settings.lr,
        max_epochs=epochs(settings, n),
        batch_size=batch_size,
        iterator_train__most=n_batches,
        callbacks=settings.callbacks,
        device=settings.device,
        verbose=settings.verbose,
    )
    if task.encoder is not None:
        net.most_loss = MOST_LOSS
    return net


def batch_rows(settings: Settings, n: int) -> int:
    """Rows in a batch of the pruning phase, for a table of n rows."""
    return min(2048 if settings.batch_size == "auto" else int(settings.batch_size), n)


def batches_in(settings: Settings, n: int) -> int:
    """Batches of an epoch of the pruning phase, for a table of n rows."""
    most = MOST_BATCHES if settings.batch_size == "auto" else None
    return batches_of(n, batch_rows(settings, n), most)


def epochs(settings: Settings, n: int) -> int:
    """Epochs of the pruning phase, for a table of n rows."""
    if settings.max_epochs == "auto":
        return auto_epochs(batches_in(settings, n))
    return int(settings.max_epochs)


def auto_epochs(n_batches: int) -> int:
    """Epochs that ``max_epochs="auto"`` takes: small tables need steps, large ones passes.

    The ramp needs a few epochs in any case.
    """
    return max(-(-400 // n_batches), min(32, -(-4000 // n_batches)), 8)
