"""The dense phase: the network that is pruned afterwards, trained or taken as it is."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_memory
from skorch import NeuralNet, NeuralNetBinaryClassifier
from skorch.callbacks import Callback, LRScheduler
from skorch.history import History
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairprune_sk._version import __version__
from fairprune_sk.exceptions import DivergedError
from fairprune_sk.fitting.checkpoint import Part
from fairprune_sk.fitting.memory import Sealed, digest_of
from fairprune_sk.fitting.outputs import class_logits, device_of, gives_probabilities, logits
from fairprune_sk.fitting.resident import (
    MOST_BATCHES,
    ResidentIterator,
    ResidentTable,
    batches_of,
)
from fairprune_sk.fitting.task import Task
from fairprune_sk.fitting.training import (
    BinaryNet,
    MulticlassNet,
    not_finite,
    since,
    train,
    weighing,
)
from fairprune_sk.fitting.user_networks import labels_for, n_outputs
from fairprune_sk.networks.batch import Batch, fingerprint, log_loss, streams, take, writable
from fairprune_sk.networks.calls import forward, main_output, plain
from fairprune_sk.networks.default import TabularNetwork

MOST_STEPS = 3840
"""Of the dense training: thirty epochs of 128 batches, whatever the rows beyond."""


@dataclass(frozen=True, eq=False)
class Dense:
    """The network before pruning, trained.

    Attributes
    ----------
    net : NeuralNet
    probabilities : bool
        Whether its module gives probabilities, not logits.
    logits : Tensor of shape (n, n_columns)
        On the training rows, on the CPU.
    """

    net: NeuralNet
    probabilities: bool
    logits: Tensor

    @property
    def module(self) -> nn.Module:
        """The trained module."""
        return plain(self.net.module_)


def train_dense(
    task: Task,
    table: ResidentTable,
    callback: Callback | None = None,
    checkpoint: Part | None = None,
) -> Dense:
    """Train the dense network of a task, or take the one that it brings.

    Parameters
    ----------
    task : Task
    table : ResidentTable
        Its rows, on the device.
    callback : Callback, optional
        One more, for the time of the training.
    checkpoint : Part, optional
        Where the training is kept, to go on from.

    Returns
    -------
    Dense

    Raises
    ------
    DivergedError
        If its losses, weights or logits are not finite.
    """
    net = task.dense
    if net is None:
        settings = task.settings
        # A copy: the task keeps the initial weights.
        network = (
            copy.deepcopy(task.network) if isinstance(task.network, nn.Module) else task.network
        )
        options = settings.verbose, callback, checkpoint
        net = fit_dense_once(settings.memory, network, task.rows, table, *options)
    probabilities = gives_probabilities(net, table)
    dense = Dense(net, probabilities, logits(net.module_, table, probabilities))
    if found := not_finite(dense.logits, dense.module.parameters()):
        raise DivergedError(f"The dense network ends with {found}{since(net)}.")
    return dense


def fit_dense(
    network: nn.Module | NeuralNet,
    rows: Batch,
    table: ResidentTable,
    verbose: int = 0,
    callback: Callback | None = None,
    checkpoint: Part | None = None,
) -> NeuralNet:
    """Train the dense network; a net that is already trained is returned as it is.

    Parameters
    ----------
    network : nn.Module or NeuralNet
        Checked; a module is trained in place.
    rows : Batch
        X as arrays on the host, class codes, and weights where there are any.
    table : ResidentTable
        The same rows on the device.
    verbose : int
    callback : Callback, optional
        One more, for the time of the training.
    checkpoint : Part, optional
        Where the training is kept, to go on from.

    Returns
    -------
    NeuralNet
    """
    if isinstance(network, NeuralNet):
        if getattr(network, "initialized_", False):
            return network
        labels = labels_for(network, rows.y.numpy())
        weight = None if rows.weight is None else rows.weight.numpy()
        return train(
            network,
            writable(rows.X),
            labels,
            sample_weight=weight,
            callback=callback,
            checkpoint=checkpoint,
        )
    n = table.n_whole
    batch_size = int(np.clip(n // 128, 256, 1024))
    steps = batches_of(n, batch_size)
    # Tiny tables need a minimum of steps. The default network learns small ones by heart, unless
    # it is held back; that of a user has a capacity that its author chose.
    least, weight_decay = 150, 0.5
    if isinstance(network, TabularNetwork):
        least, weight_decay = 600, float(np.clip(17_000 / n, 0.5, 10.0))
    epochs = min(int(np.clip(n // 1000, 10, 30)), -(-MOST_STEPS // steps))
    epochs = max(epochs, -(-least // steps))
    schedule = LRScheduler(CosineAnnealingLR, step_every="batch", T_max=epochs * steps)
    # torch criteria only for what skorch reads off them: the loss is `log_loss`.
    one_logit = n_outputs(network, take(rows.X, slice(0, 2))) == 1
    net = (BinaryNet if one_logit else MulticlassNet)(
        network,
        criterion=nn.BCEWithLogitsLoss if one_logit else nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=weight_decay,
        lr=2e-3,
        max_epochs=epochs,
        batch_size=batch_size,
        iterator_train=ResidentIterator,
        iterator_train__shuffle=True,
        iterator_train__most=MOST_BATCHES,
        train_split=None,
        callbacks=[("lr_schedule", schedule)],
        # It lays out its table also where nothing is printed: a tenth of a small fit.
        **({} if verbose else {"callbacks__print_log": None}),
        device=table.device,
        verbose=verbose,
    )
    return train(net, table, callback=callback, checkpoint=checkpoint)


def fit_dense_once(
    memory: Any, network: nn.Module | NeuralNet, rows: Batch, table: ResidentTable, *args: Any
) -> NeuralNet:
    """Train the dense network, unless the same training is in the memory already.

    Only networks that this package trains itself are remembered: what a skorch net of the user's
    and its callbacks do besides cannot be. What a network's code is, and what of it cannot be
    seen, :func:`~fairprune_sk.fitting.memory.digest_of` says.

    Parameters
    ----------
    memory : None, str or joblib.Memory
    network, rows, table, *args
        As for :func:`fit_dense`.

    Returns
    -------
    NeuralNet
    """
    key = None
    if memory is not None and not isinstance(network, NeuralNet) and not streams(rows.X):
        key = _key_of_training(network, rows, table.device)
    if key is None:
        return fit_dense(network, rows, table, *args)
    ignored = ["network", "rows", "table", "args"]
    train_once = check_memory(memory).cache(_fit_dense, ignore=ignored)
    net, generators = train_once(key, network, rows, table, args).value
    device = table.device
    # The pruning phase draws the same numbers whether the dense one was trained or remembered.
    torch.set_rng_state(generators[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(generators[1], device)
    return net


def _key_of_training(network: nn.Module, rows: Batch, device: torch.device) -> str | None:
    """Digest of all that decides what comes out of the dense phase; None if there is none."""
    try:
        layers = [(name, digest_of(layer)) for name, layer in network.named_modules()]
    except Exception:
        # Something that cannot be pickled, such as a class of a notebook in a process of its
        # own, which has no such notebook: train without the memory.
        return None
    digest = hashlib.blake2b(digest_size=16)
    for part in (layers, fingerprint(rows.X), str(device), torch.__version__, __version__):
        digest.update(repr(part).encode())
    for array in (rows.y, rows.weight, torch.get_rng_state(), *network.state_dict().values()):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _fit_dense(key: str, network: Any, rows: Batch, table: ResidentTable, args: tuple) -> Sealed:
    """Train the network, and say where the random generators stand afterwards."""
    net = fit_dense(network, rows, table, *args)
    device = table.device
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return Sealed((net, [torch.get_rng_state(), *on_device]))


class Objective(nn.Module):
    """A network and the loss of the net that it is from, called together with other tensors.

    So the loss sees the weights at hand as well where it asks the net for its module.

    Parameters
    ----------
    net : NeuralNet
        Trained.
    module : nn.Module
        The network of the pruning phase, on its device.
    probabilities : bool
        Whether it gives probabilities.
    """

    def __init__(self, net: NeuralNet, module: nn.Module, probabilities: bool):
        super().__init__()
        self.module, self.probabilities = module, probabilities
        self.loss = _loss(net, module, probabilities)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits by class, shape (n, n_columns), and the rows' part in the mean loss."""
        output = forward(self.module, batch.X)
        return class_logits(output, self.probabilities), self.loss(output, batch) * batch.share

    def evaluate(self, tensors: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the same with these parameters and buffers in the place of the module's."""
        named = {f"module.{name}": tensor for name, tensor in tensors.items()}
        return functional_call(self, named, (batch,))


def _loss(net: NeuralNet, module: nn.Module, probabilities: bool) -> Callable[[Any, Batch], Tensor]:
    """Loss of a trained net, from its module's output (all of several) and the batch."""
    if isinstance(net, (BinaryNet, MulticlassNet)):
        return lambda output, batch: log_loss(class_logits(output, probabilities), batch)
    # A net of its own, with its criteria on the device, and a batch for what `get_loss` may
    # record: the user's net stays as it is.
    device = device_of(module)
    own = object.__new__(type(net))
    own.__dict__.update(net.__dict__, module_=module, device=device, history_=History())
    for name in net._criteria:
        own.__dict__[f"{name}_"] = copy.deepcopy(plain(getattr(net, f"{name}_"))).to(device)
    own.history.new_epoch()
    own.history.new_batch()
    own = weighing(own)
    binary = isinstance(net, NeuralNetBinaryClassifier)

    def loss(output: Any, batch: Batch) -> Tensor:
        y = batch.y
        if binary:
            flat = main_output(output).reshape(-1)
            output = (flat, *output[1:]) if isinstance(output, tuple) else flat
            y = y.to(flat.dtype)
        own.batch_weight = batch.weight
        return own.get_loss(output, y, X=batch.X, training=True)

    return loss
