"""skorch's training loop, with tensors that stay on the device: both phases run through here."""

from __future__ import annotations

import random
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier
from torch import Tensor
from torch.nn import functional as F

# Rows that are evaluated together, few enough for the cache of a processor.
EVALUATION_ROWS = 2048


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed every global generator, and put their states back afterwards.

    Networks initialise their weights from torch's global generator, and users' callbacks may
    draw from the others: reproducible, and without a trace outside.
    """
    devices = [device] if device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


class ResidentTable(torch.utils.data.Dataset):
    """A table whose columns are tensors on one device.

    Parameters
    ----------
    X : Tensor of shape (n, ...)
    y : Tensor of shape (n,), optional
        Labels, 0.0 or 1.0.
    sample_weight : Tensor of shape (n,), optional
        With a mean of 1.
    cell : Tensor of shape (n,), optional
        Cell of the fairness constraint that each row is in.
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Tensor | None = None,
        cell: Tensor | None = None,
    ):
        self.X = torch.as_tensor(X)
        self.y = y if y is None else torch.as_tensor(y)
        self.sample_weight = sample_weight
        self.cell = cell

    def __len__(self) -> int:
        return len(self.X)

    def rows(self, index: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows as skorch's (X, y) pair, where y holds all that is known of the rows."""
        columns = {"y": self.y, "sample_weight": self.sample_weight, "cell": self.cell}
        return self.X[index], {k: v[index] for k, v in columns.items() if v is not None}

    __getitem__ = rows


class ResidentIterator:
    """Batches of a :class:`ResidentTable`: slices in order, or of a random permutation.

    All batches of an epoch have the same size, up to one row: group rates, and steps of equal
    length, want no small rest at the end.

    Parameters
    ----------
    dataset : ResidentTable
    batch_size : int
        Largest size of a batch.
    shuffle : bool
    """

    def __init__(self, dataset: ResidentTable, batch_size: int, shuffle: bool = False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        n, n_batches = len(self.dataset), max(len(self), 1)
        order = torch.randperm(n, device=self.dataset.X.device) if self.shuffle else None
        bounds = [n * i // n_batches for i in range(n_batches + 1)]
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            yield self.dataset.rows(slice(start, stop) if order is None else order[start:stop])


class DeferredLosses(NeuralNet):
    """skorch's epoch without a wait for the device in every batch.

    ``NeuralNet.run_single_epoch`` reads each loss as a number, which makes the host wait for
    the GPU; here the losses of an epoch are read together at its end.
    """

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run all batches, then record their losses."""
        if iterator is None:
            return
        first = len(self.history[-1]["batches"])
        losses, sizes = [], []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            losses.append(step["loss"].detach())
            sizes.append(len(batch[0]))
            self.notify("on_batch_end", batch=batch, training=training, **step)
        records = self.history[-1]["batches"][first:]
        for record, loss, size in zip(records, torch.stack(losses).tolist(), sizes, strict=True):
            record[f"{prefix}_loss"] = loss
            record[f"{prefix}_batch_size"] = size
        self.history.record(f"{prefix}_batch_count", len(sizes))


class DenseNet(DeferredLosses, NeuralNetBinaryClassifier):
    """The skorch net that trains a dense network on a resident table."""

    def get_loss(
        self, y_pred: Tensor, y_true: Any, X: Any = None, training: bool = False
    ) -> Tensor:
        """Binary cross-entropy of logits, weighted by the rows' sample weights."""
        return F.binary_cross_entropy_with_logits(
            y_pred, y_true["y"], weight=y_true.get("sample_weight")
        )


def train(net: NeuralNet, X: Any, y: Any = None) -> NeuralNet:
    """Fit a net from scratch, as ``net.fit`` does, except that Ctrl-C is not swallowed.

    skorch reads every ``KeyboardInterrupt`` as "stop training, keep what there is", because its
    EarlyStopping raises one at the end of an epoch. Here that stays so, but an interrupt by the
    user goes on to the caller, so that no half-trained network is taken for a trained one.

    Parameters
    ----------
    net : NeuralNet
    X, y
        What the net's ``fit`` takes.

    Returns
    -------
    NeuralNet
        The same net, trained.
    """
    net.initialize()
    net.notify("on_train_begin", X=X, y=y)
    with _interrupts() as interrupts:
        try:
            net.fit_loop(X, y)
        except KeyboardInterrupt as stop:
            if interrupts or not _raised_by_callback(stop):
                raise
    net.notify("on_train_end", X=X, y=y)
    return net


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
