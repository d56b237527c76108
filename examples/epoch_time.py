"""Time of one pruning epoch against one epoch of a plain PyTorch loop, and of skorch's loop.

Same network, optimiser, batch size, rows and device; the tensors of the plain loop stay on the
device as well. Prints medians, and the ratio to the plain loop::

    python examples/epoch_time.py --rows 34000 --epochs 12
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings

import torch
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from fairprune_sk import BilevelSolver, FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fitting.pruning import PruningNet

BATCH_SIZE, LR, WEIGHT_DECAY = 2048, 1e-3, 2.0


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that the clock sees its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clock(Callback):
    """Seconds of each epoch of the pruning phase, while the mask moves and after the freeze."""

    def __init__(self) -> None:
        self.moving: list[float] = []
        self.frozen: list[float] = []

    def on_epoch_begin(self, net, **kwargs):
        """Start the clock."""
        synchronize(next(net.module_.parameters()).device)
        self.start = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        """Stop the clock; the net has evaluated a frozen epoch by now."""
        synchronize(next(net.module_.parameters()).device)
        if isinstance(net, PruningNet):
            frozen = net.solver.settled(net.progress)
            seconds = self.frozen if frozen else self.moving
            seconds.append(time.perf_counter() - self.start)


def time_plain_loop(module: nn.Module, X: Tensor, y: Tensor, epochs: int) -> float:
    """Return the median seconds of an epoch of a loop as one writes it by hand."""
    module = copy.deepcopy(module).eval()  # no dropout, as in the pruning phase
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    seconds = []
    for _ in range(epochs):
        synchronize(X.device)
        start = time.perf_counter()
        for rows in torch.randperm(len(X), device=X.device).split(BATCH_SIZE):
            loss = F.binary_cross_entropy_with_logits(module(X[rows])[:, 0], y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        synchronize(X.device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def time_skorch_loop(module: nn.Module, X: Tensor, y: Tensor, epochs: int) -> float:
    """Return the median seconds of an epoch of skorch with its own data loader."""
    net = NeuralNetBinaryClassifier(
        copy.deepcopy(module),
        optimizer=torch.optim.AdamW,
        lr=LR,
        optimizer__weight_decay=WEIGHT_DECAY,
        optimizer__fused=True,
        batch_size=BATCH_SIZE,
        iterator_train__shuffle=True,
        train_split=None,
        max_epochs=epochs,
        device=X.device,
        verbose=0,
    ).fit(X.cpu(), y.cpu())
    return statistics.median(net.history[1:, "dur"])


def main() -> None:
    """Run, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=34_000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    table, target, sensitive = make_biased_classification(options.rows, random_state=0)
    clock = Clock()
    pruner = FairPruner(
        solver=BilevelSolver(weight_decay=WEIGHT_DECAY),
        lr=LR,
        batch_size=BATCH_SIZE,
        max_epochs=options.epochs,
        callbacks=[clock],
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few epochs are for the clock, not for the result
        pruner.fit(table, target, sensitive_features=sensitive["sex"])
    module = pruner.dense_estimator_.module_
    device = next(module.parameters()).device
    X = torch.from_numpy(pruner.encoder_.transform(table)).to(device)
    y = torch.from_numpy(target.to_numpy(dtype="float32")).to(device)

    plain = time_plain_loop(module, X, y, options.epochs)
    rows = {
        "plain PyTorch loop": plain,
        "pruning, mask moving": statistics.median(clock.moving[1:]),
        "pruning, mask frozen, with evaluation": statistics.median(clock.frozen),
        "pruning, mean of all epochs": statistics.mean(clock.moving[1:] + clock.frozen),
        "skorch loop, training alone": time_skorch_loop(module, X, y, options.epochs),
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    n_weights = sum(p.numel() for p in module.parameters())
    print(f"{name}, {options.threads} threads, {options.rows:,} rows, {n_weights:,} parameters")
    for label, seconds in rows.items():
        print(f"{label:<40}{1000 * seconds:9.1f} ms{seconds / plain:8.2f} x plain")


if __name__ == "__main__":
    main()
