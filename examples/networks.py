"""Which networks can be cut, and whether what is cut predicts what is masked.

Networks of torchvision, one of each family, and those of Torch-Pruning's own tests are laid out in
units, masked at random to a sparsity of 0.5, and cut. A table says for each how many units it has,
which layers stay uncut and why, and how far the smaller network is from the masked one, relative
to its largest output::

    python examples/networks.py                                    # torchvision, if installed
    python examples/networks.py --torch-pruning torch_pruning-1.6.1/tests
    python examples/networks.py swin_t vit_b_16                    # some of them
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fairprune_sk.masks.compaction import reached_sparsity, shrink, with_tensors
from fairprune_sk.masks.granularity import Neuron, prunable_parameters
from fairprune_sk.networks.calls import forward, main_output

SPARSITY = 0.5

# The side of the smallest image that is tried: 32, or what the network needs.
TORCHVISION: dict[str, tuple[int, dict[str, Any]]] = {
    "alexnet": (63, {}),
    "vgg11": (32, {}),
    "vgg11_bn": (32, {}),
    "resnet18": (32, {}),
    "resnext50_32x4d": (32, {}),
    "squeezenet1_1": (32, {}),
    "densenet121": (32, {}),
    "inception_v3": (75, {"init_weights": False}),
    "googlenet": (32, {"init_weights": False}),
    "shufflenet_v2_x0_5": (32, {}),
    "mobilenet_v2": (32, {}),
    "mobilenet_v3_small": (32, {}),
    "mnasnet0_5": (32, {}),
    "efficientnet_b0": (32, {}),
    "efficientnet_v2_s": (32, {}),
    "regnet_y_400mf": (32, {}),
    "convnext_tiny": (32, {}),
    "vit_b_16": (32, {"image_size": 32}),
    "swin_t": (32, {}),
    "swin_v2_t": (32, {}),
    "maxvit_t": (224, {}),
}

# File and class in Torch-Pruning's tests, arguments, shapes of the rows. Its other tests use
# networks of torchvision, or none.
TORCH_PRUNING: list[tuple[str, str, tuple[Any, ...], Any]] = [
    ("test_cascaded_concat", "Net", (10,), (10, 7, 7)),
    ("test_concat", "widedeep", (32,), (32,)),
    ("test_concat_split", "Net", (10,), (10, 7, 7)),
    ("test_customized_layer", "FullyConnectedNet", (128, 10, 256), (128,)),
    ("test_dependency_lenet", "Model", (), (1, 28, 28)),
    ("test_fully_connected_layers", "FullyConnectedNet", (128, 10, 256), (128,)),
    (
        "test_multiple_inputs_and_outputs",
        "FullyConnectedNet",
        ([128, 64], [32, 32]),
        {"x1": (128,), "x2": (64,)},
    ),
    ("test_non_feature_dim_cat", "Net", (512,), (512, 7, 7)),
    ("test_reshape", "Net", (), (512,)),
    ("test_single_channel_output", "Model", (), (3, 32, 32)),
    ("test_split", "Net", (128,), (128, 7, 7)),
    ("test_unused_parameters", "FullyConnectedNet", (128, 10, 256), (128,)),
]


def rows(shape: Any, n: int) -> Any:
    """Random rows of a shape, or a dict of them."""
    if isinstance(shape, dict):
        return {name: torch.randn(n, *one) for name, one in shape.items()}
    return torch.randn(n, *shape)


def as_trained(network: nn.Module, X: Any) -> nn.Module:
    """Give constant weights other values and batch norms their statistics, in place.

    The outputs of an untrained network are zero, or so small that every cut looks right.
    """
    known = "torch.nn."
    with torch.no_grad():
        for layer in network.modules():
            own = not type(layer).__module__.startswith(known)
            for parameter in layer.parameters(recurse=False):
                if own:
                    parameter.uniform_(-0.5, 0.5)  # some tests leave them empty
                elif (parameter == parameter.flatten()[0]).all():
                    parameter.add_(torch.rand_like(parameter) - 0.5)
            if isinstance(layer, _NormBase):
                layer.momentum = None  # the statistics of one batch
                layer.reset_running_stats()
                layer.train()
        forward(network, X)
    return network.eval()


def line(name: str, build: Callable[[], nn.Module], shape: Any) -> tuple[str, list[str]]:
    """Lay out, mask, cut, compare: a row of the table, and why layers stay uncut."""
    torch.manual_seed(0)
    network = build().eval()
    as_trained(network, rows(shape, 8))
    X = rows(shape, 2)
    n_parameters = sum(p.numel() for p in network.parameters())
    layers = [n for n, m in network.named_modules() if _is_layer(m)]
    row = f"{name:34} {n_parameters:12,}"
    started = time.perf_counter()
    try:
        layout = Neuron().layout(network, X)
    except ValueError as error:
        return f"{row}      not cut", [str(error)]
    weights = {name: p.detach() for name, p in prunable_parameters(network).items()}
    scores = layout.scores({name: torch.rand_like(weight) for name, weight in weights.items()})
    scores = {name: torch.rand_like(score) for name, score in scores.items()}
    masks = layout.project(scores, min(SPARSITY, layout.max_sparsity))
    left = {name: weights[name] * mask for name, mask in masks.items()}
    masked = with_tensors(network, left, torch.device("cpu"))
    small = shrink(copy.deepcopy(masked), X)
    n_left = sum(p.numel() for p in prunable_parameters(small).values())
    with torch.no_grad():
        expected, output = (main_output(forward(net, X)) for net in (masked, small))
    difference = float((expected - output).abs().max() / expected.abs().max())
    uncut = layout.units.uncut
    row += f" {layout.units.n_units:7,} {len(uncut):4} of {len(layers):<4}"
    row += f" {reached_sparsity(masks):9.2f} {1 - n_left / _n_weights(network):8.2f}"
    row += f" {difference:10.1e} {time.perf_counter() - started:8.0f}"
    return row, [f"{name}: {why}" for name, why in _alike(uncut).items()]


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.modules.conv._ConvNd)


def _n_weights(network: nn.Module) -> int:
    return sum(p.numel() for p in prunable_parameters(network).values())


def _alike(uncut: Any) -> dict[str, str]:
    """Reasons, each once, by the first layer that has it and how many others have."""
    reasons: dict[str, list[str]] = {}
    for name, why in uncut.items():
        kind = " ".join(word for word in why.split() if "'" not in word)
        reasons.setdefault(kind, []).append(name)
    return {
        names[0] + (f" and {len(names) - 1} more" if names[1:] else ""): uncut[names[0]]
        for names in reasons.values()
    }


def of_torchvision() -> Iterator[tuple[str, Callable[[], nn.Module], Any]]:
    """Name, builder and image shape of each network; none without torchvision."""
    try:
        import torchvision
    except ImportError:
        print("torchvision is not installed: its networks are left out.")
        return
    print(f"torchvision {torchvision.__version__}")
    for name, (side, settings) in TORCHVISION.items():
        build = getattr(torchvision.models, name)
        yield name, lambda b=build, s=settings: b(num_classes=10, **s), (3, side, side)


def of_torch_pruning(folder: Path) -> Iterator[tuple[str, Callable[[], nn.Module], Any]]:
    """Name, builder and shape of the rows of each network that the tests define."""
    for file, name, arguments, shape in TORCH_PRUNING:
        spec = importlib.util.spec_from_file_location(file, folder / f"{file}.py")
        if spec is None or spec.loader is None:
            raise SystemExit(f"Got --torch-pruning={folder}, but expected a folder with {file}.py.")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        build = getattr(module, name)
        yield file, lambda c=build, a=arguments: c(*a), shape


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; all by default")
    parser.add_argument("--torch-pruning", type=Path, help="folder of the tests of its sources")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}")
    networks = list(of_torchvision())
    if options.torch_pruning:
        networks = [*of_torch_pruning(options.torch_pruning), *networks]
    head = f"{'network':34} {'parameters':>12} {'units':>7} {'layers uncut':>12} {'sparsity':>9}"
    print(f"\n{head} {'cut away':>8} {'difference':>10} {'seconds':>8}")
    for name, build, shape in networks:
        if not options.names or name in options.names:
            row, reasons = line(name, build, shape)
            print("\n    ".join([row, *reasons]), flush=True)


if __name__ == "__main__":
    main()
