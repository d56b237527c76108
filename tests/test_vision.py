"""The image networks are those of the papers, and can be traced, masked and cut."""

import copy
import pickle

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier
from torch import nn
from torch.func import functional_call

from fairprune_sk import FairPruner
from fairprune_sk.fitting.user_networks import check_estimator
from fairprune_sk.masks.granularity import prunable_parameters
from fairprune_sk.networks.vision import MobileNetV2, ResNet, ResNet10, ResNet18

NETWORKS = [ResNet10, ResNet18, MobileNetV2]


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def images(n=2, size=32, n_channels=3):
    return torch.randn(n, n_channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    return request.param(n_outputs=2).eval()


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        # What torchvision publishes for its models of these names and widths.
        (lambda: ResNet18(1000), 11_689_512),
        (lambda: ResNet([3, 4, 6, 3], 1000), 21_797_672),  # ResNet-34
        (lambda: MobileNetV2(1000), 3_504_872),
        (lambda: MobileNetV2(1000, width=0.5), 1_968_680),
        (lambda: MobileNetV2(1000, width=1.4), 6_108_776),
    ],
)
def test_parameter_counts_are_the_published_ones(build, expected):
    with torch.device("meta"):
        assert n_parameters(build()) == expected


def test_resnet10_is_resnet18_with_half_of_the_blocks():
    shapes = {name: p.shape for name, p in ResNet18().named_parameters()}
    small = {name: p.shape for name, p in ResNet10().named_parameters()}
    assert small == {name: shape for name, shape in shapes.items() if ".1." not in name[:9]}
    assert sum(isinstance(m, nn.Conv2d) for m in ResNet10().modules()) == 9 + 3


def test_parameters_have_the_names_of_torchvision():
    resnet, mobilenet = ResNet18().state_dict(), MobileNetV2().state_dict()
    assert len(resnet) == 122 and len(mobilenet) == 314
    for name in (
        "conv1.weight",
        "layer2.0.downsample.1.running_var",
        "layer4.1.bn2.bias",
        "fc.bias",
    ):
        assert name in resnet
    for name in ("features.1.conv.1.weight", "features.18.0.weight", "classifier.1.weight"):
        assert name in mobilenet


@pytest.mark.parametrize("size", [32, 45, 64])
def test_any_image_size_from_32(network, size):
    with torch.no_grad():
        assert network(images(3, size)).shape == (3, 2)


@pytest.mark.parametrize("network_class", NETWORKS)
def test_channels_and_outputs(network_class):
    network = network_class(n_outputs=4, n_channels=1)
    assert network(images(n_channels=1)).shape == (2, 4)
    assert network_class()(images()).shape == (2, 1)


def test_shortcut_only_where_shapes_allow():
    blocks = [m for m in MobileNetV2().modules() if hasattr(m, "shortcut")]
    # Table 2 of the paper: every block of a stage but the first.
    assert len(blocks) == 17 and sum(m.shortcut for m in blocks) == 1 + 2 + 3 + 2 + 2


def test_learns_and_updates_its_statistics(network):
    network = copy.deepcopy(network).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # losses that differ by what was dropped say nothing
    X, y = images(8), torch.tensor([0, 1] * 4)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    before = [b.clone() for b in network.buffers()]
    losses = []
    for _ in range(6):
        loss = nn.functional.cross_entropy(network(X), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(p.grad is not None for p in network.parameters())
    assert losses[-1] < losses[0] / 4  # a tenth or less from any of eight starts
    assert any(not torch.equal(a, b) for a, b in zip(before, network.buffers(), strict=True))


def test_masked_call_leaves_the_network_and_its_input_alone(network):
    X = images()
    state = copy.deepcopy(network.state_dict())
    given = X.clone()
    masked = {
        name: p.detach() * (torch.rand_like(p) > 0.5)
        for name, p in prunable_parameters(network).items()
    }
    burnt = copy.deepcopy(network)
    burnt.load_state_dict({**state, **masked})
    with torch.no_grad():
        assert torch.equal(functional_call(network, masked, (X,)), burnt(X))
    assert torch.equal(X, given)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_no_in_place_operation(network):
    assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_fx_traces_it_for_every_batch_and_image_size(network):
    graph = torch.fx.symbolic_trace(network)
    with torch.no_grad():
        for X in (images(), images(3, 64)):
            torch.testing.assert_close(graph(X), network(X))


def test_dependency_graph_covers_and_cuts_it(network):
    pruning = pytest.importorskip("torch_pruning")
    network, X = copy.deepcopy(network), images()
    output = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    graph = pruning.DependencyGraph().build_dependency(network, example_inputs=X)
    groups = list(graph.get_all_groups(ignored_layers=[output]))
    covered = {id(item.dep.target.module) for group in groups for item in group}
    assert all(id(m) in covered for m in network.modules() if isinstance(m, nn.Conv2d))
    before = n_parameters(network)
    for group in groups:
        n_units = len(group[0].idxs)
        root = group[0].dep
        half = graph.get_pruning_group(
            root.target.module, root.handler, idxs=list(range(n_units // 2))
        )
        half.prune()
    assert n_parameters(network) < 0.3 * before
    assert network(X).shape == (2, 2)


def test_copies_give_the_same_logits(network):
    X = images()
    with torch.no_grad():
        expected = network(X)
        assert torch.equal(copy.deepcopy(network)(X), expected)
        assert torch.equal(pickle.loads(pickle.dumps(network))(X), expected)


@pytest.mark.parametrize("network_class", NETWORKS)
def test_fair_pruner_builds_the_class_itself(network_class):
    X = images(4).numpy()
    module = check_estimator(network_class, X, np.array([0, 1]), None)
    assert isinstance(module, network_class) and module(torch.from_numpy(X)).shape == (4, 1)
    module = check_estimator(network_class, X, np.arange(3), None)
    assert module(torch.from_numpy(X)).shape == (4, 3)


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_fair_pruner_prunes_it():
    X = images(48).numpy()
    y = np.arange(48) % 2
    net = NeuralNetBinaryClassifier(
        MobileNetV2, module__width=0.25, max_epochs=1, train_split=None, verbose=0
    )
    pruner = FairPruner(net, sparsity=0.5, constraint=None, max_epochs=2, random_state=0)
    pruner.fit(X, y)
    assert pruner.sparsity_ >= 0.5
    assert pruner.predict_proba(X).shape == (48, 2)
    assert pruner.transform(X).shape == (48, pruner.network_.classifier[1].in_features)
