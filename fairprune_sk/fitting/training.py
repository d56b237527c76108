"""skorch's training loop, without a wait for the device: both phases run through here."""

from __future__ import annotations

import math
import random
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from fairprune_sk.distributed import gradients_over_processes, over_processes
from fairprune_sk.exceptions import DivergedError, warn_at_caller
from fairprune_sk.fitting.checkpoint import OF_THE_FIT, Generators, Keeper, Part
from fairprune_sk.fitting.weighing import WeightedDataset, weighing
from fairprune_sk.networks.batch import Batch, log_loss
from fairprune_sk.networks.calls import main_output, plain

# Held by the thread that draws from them; again by one that fits within a fit.
_GENERATORS = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every global generator, and put their states back afterwards.

    Networks initialise their weights and drop units by torch's global generator, skorch's loaders
    shuffle by it, and users' callbacks may draw from the others: reproducible, and without a trace
    outside. None of these takes a generator of its own, so fits in threads take turns.
    """
    devices = [device] if device.type == "cuda" else []
    with _GENERATORS, torch.random.fork_rng(devices):
        numpy_state, python_state = np.random.get_state(), random.getstate()
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


class DeferredLosses(NeuralNet):
    """skorch's epoch without a wait for the device in every batch.

    ``NeuralNet.run_single_epoch`` reads each loss as a number, which makes the host wait for
    the GPU; here the losses of an epoch are read together at its end. Callbacks see plain (X, y)
    batches, without what else is known of the rows.

    Where the device has too little memory for a batch, it is cut into halves, with a warning, and
    so are those that follow: each piece has a step of its own. Schedules go by whole batches.

    Attributes
    ----------
    n_pieces_ : int
        Pieces of a batch; a power of two.

    Raises
    ------
    DivergedError
        After an epoch with a loss or a weight that is not finite, or a loss beyond all bounds.
    """

    phase = "dense training"
    most_loss = math.inf
    """Mean loss of an epoch that tells of divergence."""

    @property
    def remedy(self) -> str:
        """What may keep the training from diverging."""
        return (
            "weights of the rows that are nearer to each other, or look in a forward of your own "
            "for a division, a logarithm or an exponential"
        )

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin with whole batches."""
        super().on_train_begin(net, X=X, y=y, **kwargs)
        self.n_pieces_, self.share_ = 1, 1.0

    def trained_weights(self) -> Iterable[Tensor]:
        """Weights that the steps move."""
        return plain(self.module_).parameters()

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run all batches, then record their losses."""
        if iterator is None:
            return
        first = len(self.history[-1]["batches"])
        losses, sizes = [], []
        for batch in iterator:
            seen = batch.X, batch.y
            self.notify("on_batch_begin", batch=seen, training=training)
            step = self._step_in_pieces(step_fn, batch, **fit_params)
            losses.append(step["loss"].detach())
            sizes.append(len(batch) if batch.n_whole is None else batch.n_whole)
            self.notify("on_batch_end", batch=seen, training=training, **step)
        records, values = self.history[-1]["batches"][first:], torch.stack(losses).tolist()
        if training:
            self._check_course(values)
        for record, loss, size in zip(records, values, sizes, strict=True):
            record[f"{prefix}_loss"] = loss
            record[f"{prefix}_batch_size"] = size
        self.history.record(f"{prefix}_batch_count", len(sizes))

    def _step_in_pieces(self, step_fn: Any, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """One step for each piece of a batch, of smaller pieces where memory is short."""
        waiting, steps = _cut([(batch, 1.0)], self.n_pieces_), list[dict[str, Any]]()
        while waiting:
            piece, self.share_ = waiting[0]
            step = self._step_if_it_fits(step_fn, piece, **fit_params)
            if step is not None:
                if piece is batch:
                    return step
                steps.append({**step, "loss": step["loss"].detach() * self.share_})
                waiting = waiting[1:]
                continue
            warn_at_caller(
                f"The memory of device {str(self.device)!r} does not hold a step of the "
                f"{self.phase} for {len(piece)} rows: it is done again in halves, as all that "
                "follow. Pass a smaller batch_size, which says the same from the start.",
                UserWarning,
            )
            self.n_pieces_ *= 2
            waiting = _cut(waiting, 2)
        loss = torch.stack([step["loss"] for step in steps]).sum()
        return {"loss": loss, "y_pred": torch.cat([main_output(s["y_pred"]) for s in steps])}

    def _step_if_it_fits(self, step_fn: Any, rows: Batch, **fit_params: Any) -> Any:
        """One step; None where the device has too little memory for it."""
        try:
            # As skorch's pair of X and y, where y is all that is known of the rows.
            return step_fn((rows.X, rows), **fit_params)
        except torch.OutOfMemoryError:
            # Other processes wait for a step of the whole batch.
            if len(rows) < 2 or rows.n_whole is not None:
                raise
        # After the except: until then the error holds what the step has allocated.
        if torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _check_course(self, losses: list[float]) -> None:
        """Stop a training whose weights have run away."""
        mean, found = float(np.mean(losses)), ""
        if not np.isfinite(losses).all():
            found = "a loss in epoch {} is not finite"
        elif mean > self.most_loss:
            found = f"the mean loss in epoch {{}} is {mean:.3g}, where a guess has less than 1"
        elif not all_finite(self.trained_weights()):
            found = "a weight after epoch {} is not finite"
        if found:
            epoch = f"{len(self.history)} of {self.max_epochs}"
            raise DivergedError(
                f"The {self.phase} diverged: {found.format(epoch)}. Try {self.remedy}."
            )


def _cut(pieces: list[tuple[Batch, float]], n: int) -> list[tuple[Batch, float]]:
    """Cut pieces of a batch, with their shares, into n each; not below single rows."""
    cut = []
    for rows, share in pieces:
        bounds = sorted({len(rows) * i // n for i in range(n + 1)})
        parts = [slice(*ends) for ends in zip(bounds[:-1], bounds[1:], strict=True)]
        cut += [(rows.take(part) if n > 1 else rows, share / len(parts)) for part in parts]
    return cut


@contextmanager
def drawing_for_all(module: nn.Module, rows: Batch) -> Iterator[None]:
    """Let dropout draw for all rows of a batch, of which each process takes those of its own.

    So the network learns what it would in one process. The draws are the one part of a step that
    does not get smaller with more processes.
    """
    if rows.place is None or rows.n_whole is None:
        yield
        return
    place, n = rows.place, rows.n_whole

    def forward(layer: nn.Dropout, X: Tensor) -> Tensor:
        kept = F.dropout(X.new_ones(n, *X.shape[1:]), layer.p, layer.training)
        return X * kept[place]

    layers = [layer for layer in module.modules() if type(layer) is nn.Dropout]
    try:
        for layer in layers:
            layer.__dict__["forward"] = partial(forward, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


class _ResidentLoss(DeferredLosses):
    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Cross-entropy, weighted by the rows' sample weights; what skorch calls y is a Batch."""
        return log_loss(main_output(y_pred), y_true) * y_true.share

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """One step, for the rows of all processes."""
        with drawing_for_all(self.module_, batch[1]):
            step = super().train_step_single(batch, **fit_params)
        weights = [w for w in self.module_.parameters() if w.grad is not None]
        sums = gradients_over_processes([w.grad for w in weights])
        for weight, gradient in zip(weights, sums, strict=True):
            weight.grad = gradient
        return {**step, "loss": over_processes(step["loss"].detach())}


class BinaryNet(_ResidentLoss, NeuralNetBinaryClassifier):
    """The skorch net that trains a dense network of one logit on a resident table."""


class MulticlassNet(_ResidentLoss, NeuralNetClassifier):
    """The skorch net that trains a dense network with a logit for each class."""


def train(
    net: NeuralNet,
    X: Any,
    y: Any = None,
    *,
    sample_weight: np.ndarray | None = None,
    callback: Callback | None = None,
    checkpoint: Part | None = None,
) -> NeuralNet:
    """Fit a net from scratch, as ``net.fit`` does, except that Ctrl-C is not swallowed.

    skorch reads every ``KeyboardInterrupt`` as "stop training, keep what there is", because its
    EarlyStopping raises one at the end of an epoch. Here that stays so, but an interrupt by the
    user goes on to the caller, so that no half-trained network is taken for a trained one.

    Parameters
    ----------
    net : NeuralNet
    X, y
        What the net's ``fit`` takes.
    sample_weight : ndarray of shape (n,), float32, optional
        Weights of the rows in the loss, with a mean of 1.
    callback : Callback, optional
        One more callback, for this training only.
    checkpoint : Part, optional
        Where the training is kept from epoch to epoch; what is kept there is gone on with.

    Returns
    -------
    NeuralNet
        The same net, trained.
    """
    net.initialize()
    data, trained = X, net
    if sample_weight is not None:
        data, trained = WeightedDataset(net.get_dataset(X, y), sample_weight), weighing(net)
    keeper = None if checkpoint is None else Keeper(checkpoint)
    first, last = (None, None) if keeper is None else (Generators(keeper), keeper)
    own = list(net.callbacks_)
    watch = None if isinstance(net, DeferredLosses) else FiniteWeights()
    added = dict(zip(OF_THE_FIT, (first, watch, callback, last), strict=True))
    for name, more in added.items():
        if more is not None:
            net.callbacks_.insert(0 if more is first else len(net.callbacks_), (name, more))
    net.notify("on_train_begin", X=X, y=y)
    with _interrupts() as interrupts:
        try:
            if keeper is None:
                trained.fit_loop(data, y)
            elif not keeper.finished:
                trained.fit_loop(data, y, epochs=keeper.epochs_left(net))
        except KeyboardInterrupt as stop:
            if interrupts or not _raised_by_callback(stop):
                raise
    if keeper is not None:
        keeper.end(net)
    net.notify("on_train_end", X=X, y=y)
    plain(net.module_).eval()  # as it will be used: modes that nobody switches are safe in threads
    net.callbacks_[:] = own
    return net


class FiniteWeights(Callback):
    """Stop the training of a user's net at the end of an epoch that leaves it without numbers."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Look at the weights."""
        if not all_finite(plain(net.module_).parameters()):
            raise DivergedError(f"The dense network has weights that are not finite{since(net)}.")


def since(net: NeuralNet) -> str:
    """Say in which epoch of a net's training it began not to be finite, and what to change.

    Parameters
    ----------
    net : NeuralNet
        With a history.

    Returns
    -------
    str
    """
    for number, epoch in enumerate(net.history, start=1):
        loss = epoch.get("train_loss")
        if isinstance(loss, Real) and not math.isfinite(loss):
            return (
                f": its training diverged, the loss of epoch {number} of {net.max_epochs} is "
                f"{loss}. Lower its lr ({net.lr:g}), or clip its gradients (skorch's "
                "GradientNormClipping)"
            )
    return (
        f" after epoch {len(net.history)}, although the losses are finite: look for a division, "
        "a logarithm or an exponential in its forward, and for outliers in X"
    )


def not_finite(logits: Tensor, parameters: Iterable[Tensor]) -> str:
    """Say what of a network is not finite: logits of how many rows, or weights; or nothing.

    Parameters
    ----------
    logits : Tensor of shape (n, n_columns)
    parameters : iterable of Tensor

    Returns
    -------
    str
        Empty where all are finite.
    """
    bad = int((~logits.isfinite()).any(-1).sum())
    if bad:
        return f"logits that are not finite for {bad} of {len(logits)} training rows"
    return "" if all_finite(parameters) else "weights that are not finite"


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether every number in some tensors is finite; their device is waited for once."""
    finite = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not finite or bool(torch.stack(finite).all())


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the interrupt signals that arrive, on their way to the handler in charge."""
    received: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield received
        return

    def note(number: int, frame: Any) -> None:
        received.append(number)
        handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield received
    finally:
        signal.signal(signal.SIGINT, handler)


def _raised_by_callback(error: BaseException) -> bool:
    """Whether an exception came out of a callback at the end of an epoch."""
    return any(f.name == "on_epoch_end" for f in traceback.extract_tb(error.__traceback__))
