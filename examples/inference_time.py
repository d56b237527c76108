"""What a smaller network saves: time of a prediction, and size of the file, against dense.

A multilayer perceptron with three hidden layers of 512 is pruned at 90% by neurons, ResNet-18 at
80% by filters (by layer, and by one threshold for all layers). All times are measured in one
process on one thread, dense and pruned in turn, and printed as ratios::

    python examples/inference_time.py
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from fairprune_sk import FairPruner
from fairprune_sk.masks.compaction import reached_sparsity, shrink, with_tensors
from fairprune_sk.masks.granularity import Neuron, prunable_parameters
from fairprune_sk.masks.importance import lamp
from fairprune_sk.networks import ResNet10, ResNet18


class Mlp(nn.Module):
    """Three hidden layers of 512."""

    def __init__(self, n_features: int, n_outputs: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, n_outputs),
        )

    def forward(self, X: Tensor) -> Tensor:
        """Logits."""
        return self.layers(X)


def milliseconds(network: Callable[[Tensor], Tensor], X: Tensor, seconds: float) -> float:
    """Median time of a forward pass."""
    with torch.inference_mode():
        timer = Timer("network(X)", globals={"network": network, "X": X}, num_threads=1)
        return 1000 * timer.blocked_autorange(min_run_time=seconds).median


def speedup(dense: nn.Module, small: nn.Module, X: Tensor, seconds: float, rounds: int) -> float:
    """How many times faster the small network is: median over rounds, in turn."""
    ratios = [
        milliseconds(dense, X, seconds) / milliseconds(small, X, seconds) for _ in range(rounds)
    ]
    return float(np.median(ratios))


def n_bytes(network: nn.Module) -> int:
    """Bytes of the parameters and buffers."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def pruned_mlp() -> tuple[nn.Module, nn.Module, float]:
    """Fit, and return the dense and the pruned network with the sparsity."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 32)).astype(np.float32)
    y = (X[:, :4].sum(axis=1) + rng.normal(size=2000) > 0).astype(int)
    pruner = FairPruner(
        Mlp, sparsity=0.9, granularity="neuron", constraint=None, max_epochs=20, random_state=0
    ).fit(X, y)
    return pruner.dense_estimator_.module_.eval(), pruner.network_, pruner.sparsity_


def pruned_resnet(resnet: type[nn.Module], scope: str) -> tuple[nn.Module, nn.Module, float]:
    """Prune an untrained ResNet by importance: the sizes are those of a trained one."""
    torch.manual_seed(0)
    dense, X = resnet().eval(), torch.rand(2, 3, 64, 64)
    layout = Neuron(scope).layout(dense, X)
    weights = {name: p.detach() for name, p in prunable_parameters(dense).items()}
    masks = layout.project(layout.scores(lamp(weights)), 0.8)
    left = {name: weights[name] * mask for name, mask in masks.items()}
    network = with_tensors(dense, left, torch.device("cpu"))
    return dense, shrink(network, X), reached_sparsity(masks)


def main() -> None:
    """Run, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each network")
    parser.add_argument("--resnet10", action="store_true", help="smaller, to see that it runs")
    options = parser.parse_args()
    resnet = ResNet10 if options.resnet10 else ResNet18
    timing = options.seconds, options.rounds
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, one thread\n")
    print(f"{'network':32} {'sparsity':>8} {'batch':>6} {'times faster':>13} {'bytes':>7}  target")
    dense, small, sparsity = pruned_mlp()
    size = n_bytes(small) / n_bytes(dense)
    for batch, target in ((4096, ">= 5, bytes <= 0.12"), (64, ""), (1, ">= 2")):
        times = speedup(dense, small, torch.rand(batch, 32), *timing)
        name = "MLP 512-512-512, neurons"
        print(f"{name:32} {sparsity:8.3f} {batch:6} {times:13.1f} {size:7.3f}  {target}")
    for scope, target in (("layer", ">= 2.5"), ("global", "")):
        dense, small, sparsity = pruned_resnet(resnet, scope)
        size = n_bytes(small) / n_bytes(dense)
        times = speedup(dense, small, torch.rand(32, 3, 64, 64), *timing)
        name = f"ResNet-{resnet.__name__[6:]}, filters, {scope}"
        print(f"{name:32} {sparsity:8.3f} {32:6} {times:13.1f} {size:7.3f}  {target}")


if __name__ == "__main__":
    main()
