"""skorch's training loop, without a wait for the device: both phases run through here."""

from __future__ import annotations

import random
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import Tensor, nn

from fairprune_sk.exceptions import DivergedError
from fairprune_sk.fitting.checkpoint import OF_THE_FIT, Generators, Keeper, Part
from fairprune_sk.fitting.outputs import criterion_of
from fairprune_sk.networks.batch import log_loss
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

    Raises
    ------
    DivergedError
        After an epoch with a loss that is not finite.
    """

    phase = "dense training"

    @property
    def remedy(self) -> str:
        """What may keep the training from diverging."""
        return (
            "weights of the rows that are nearer to each other, or look in a forward of your own "
            "for a division, a logarithm or an exponential"
        )

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
            # As skorch's pair of X and y, where y is all that is known of the rows.
            step = step_fn((batch.X, batch), **fit_params)
            losses.append(step["loss"].detach())
            sizes.append(len(batch))
            self.notify("on_batch_end", batch=seen, training=training, **step)
        records, values = self.history[-1]["batches"][first:], torch.stack(losses).tolist()
        if training and not np.isfinite(values).all():
            raise DivergedError(
                f"The {self.phase} diverged: a loss in epoch {len(self.history)} of "
                f"{self.max_epochs} is not finite. Try {self.remedy}."
            )
        for record, loss, size in zip(records, values, sizes, strict=True):
            record[f"{prefix}_loss"] = loss
            record[f"{prefix}_batch_size"] = size
        self.history.record(f"{prefix}_batch_count", len(sizes))


class _ResidentLoss(DeferredLosses):
    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        """Cross-entropy, weighted by the rows' sample weights; what skorch calls y is a Batch."""
        return log_loss(main_output(y_pred), y_true)


class BinaryNet(_ResidentLoss, NeuralNetBinaryClassifier):
    """The skorch net that trains a dense network of one logit on a resident table."""


class MulticlassNet(_ResidentLoss, NeuralNetClassifier):
    """The skorch net that trains a dense network with a logit for each class."""


class WeightedDataset(Dataset):
    """A dataset of (X, y) pairs that hands out (X, (y, sample weight)).

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    sample_weight : ndarray of shape (n,), float32
    """

    def __init__(self, dataset: Any, sample_weight: np.ndarray):
        self.dataset = dataset
        self.sample_weight = sample_weight
        # skorch reads these for scores that go over the whole dataset.
        self.X, self.y = getattr(dataset, "X", None), getattr(dataset, "y", None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        X, y = self.dataset[index]
        return X, (y, self.sample_weight[index])


class _Weighing(NeuralNet):
    """What a net of any class needs to weigh the rows in its own loss; see :func:`weighing`."""

    # Beside the net's attributes, so that a pickle of the net does not hold a batch's weights.
    __slots__ = ("batch_weight",)
    batch_weight: Tensor | None

    def run_single_epoch(self, iterator: Any, *args: Any, **kwargs: Any) -> Any:
        if iterator is not None:
            iterator = self._unweighted(iterator)
        return super().run_single_epoch(iterator, *args, **kwargs)

    def _unweighted(self, iterator: Any) -> Iterator[Any]:
        # Callbacks see plain (X, y) batches, as if there were no weights.
        for X, y in iterator:
            # A validation set of the user's own, from predefined_split, has no weights.
            y, self.batch_weight = y if isinstance(y, (tuple, list)) else (y, None)
            yield X, y

    def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> Tensor:
        if self.batch_weight is None:
            return super().get_loss(y_pred, y_true, *args, **kwargs)
        criterion = criterion_of(self)
        reduction, criterion.reduction = criterion.reduction, "none"
        try:
            losses = super().get_loss(y_pred, y_true, *args, **kwargs)
        finally:
            criterion.reduction = reduction
        return _weighted_mean(losses, y_true, self.batch_weight, criterion, type(self).__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # What is pickled or copied, as by a Checkpoint, is a net of its own class.
        return object.__new__, (type(self).__bases__[1],), self.__getstate__()


def weighing(net: NeuralNet) -> Any:
    """Look at a net as one that weighs the rows in its own loss.

    Parameters
    ----------
    net : NeuralNet
        With a criterion that has a ``reduction``.

    Returns
    -------
    NeuralNet
        Of a subclass of the net's class, with the very attributes of the net: training it trains
        the net. It reads batches of (X, (y, weight)), as a :class:`WeightedDataset` gives them;
        in between, its ``batch_weight``, a tensor of shape (n,) or None, weighs ``get_loss``,
        which raises ValueError where the net's own does not give the loss of each row.
    """
    own = type(net)
    view: Any = object.__new__(type(own.__name__, (_Weighing, own), {}))
    object.__setattr__(view, "__dict__", net.__dict__)
    view.batch_weight = None
    return view


def _weighted_mean(
    losses: Tensor, y_true: Tensor, weight: Tensor, criterion: nn.Module, net: str
) -> Tensor:
    """Reduce the losses of weighted rows as a criterion reduces those of plain rows."""
    if losses.shape[:1] != weight.shape:
        raise ValueError(
            f"Got sample_weight or class_weight with a {net} whose loss has shape "
            f"{tuple(losses.shape)} for {len(weight)} rows, but weights need the loss of each "
            "row: let get_loss leave the reduction to the criterion, or leave the weights out."
        )
    weight = weight.to(losses)
    weighted = (losses.flatten(start_dim=1).mean(1) if losses.ndim > 1 else losses) * weight
    if criterion.reduction == "sum":
        return weighted.sum()
    class_weight = getattr(criterion, "weight", None)
    if isinstance(criterion, (nn.NLLLoss, nn.CrossEntropyLoss)) and class_weight is not None:
        # Their mean divides by the class weights of the batch, not by its size.
        total = (class_weight[y_true.to(class_weight.device)] * weight).sum()
        return weighted.sum() / total.clamp_min(torch.finfo(weight.dtype).tiny)
    return weighted.mean()


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
    added = dict(zip(OF_THE_FIT, (first, callback, last), strict=True))
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
