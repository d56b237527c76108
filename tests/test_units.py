"""Coupled units: what is masked and what is cut must be the same network."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from networks import burnt
from torch import nn
from torch.nn import functional as F

from fairprune_sk import FairPruner, load
from fairprune_sk.masks.compaction import shrink
from fairprune_sk.masks.coupling import find_units
from fairprune_sk.masks.granularity import Neuron, prunable_parameters
from fairprune_sk.masks.units import cut
from fairprune_sk.networks.default import TabularNetwork
from fairprune_sk.networks.transformer import TabularTransformer
from fairprune_sk.networks.vision import MobileNetV2, ResNet10


class Net(nn.Module):
    """A network of named layers and a forward function of them."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self._forward = forward

    def forward(self, X):
        return self._forward(self.layers, X)


def conv(n_in, n_out, **kwargs):
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


def head(n):
    return nn.Linear(n, 1)


def pooled(X):
    return X.mean((2, 3))


def linear(m, X):
    return m["out"](F.relu(m["b"](F.gelu(m["a"](X)))))


def batch_norm(m, X):
    return m["out"](pooled(m["b"](F.relu(m["n"](m["a"](X))))))


def depthwise(m, X):
    return m["out"](pooled(F.relu(m["n"](m["d"](m["a"](X))))))


def residual(m, X):
    X = m["a"](X)
    return m["out"](pooled(X + m["c"](F.relu(m["b"](X)))))


def concatenation(m, X):
    return m["out"](pooled(m["c"](torch.cat([m["a"](X), m["b"](X)], 1))))


def split(m, X):
    first, second = m["a"](X).chunk(2, 1)
    return m["out"](pooled(F.relu(m["b"](first)) + m["c"](second)))


def grouped(m, X):
    return m["out"](pooled(F.relu(m["g"](F.relu(m["a"](X))))))


def flattened(m, X):
    return m["out"](F.relu(m["b"](F.relu(m["a"](X)).flatten(1))))


def transposed(m, X):
    return m["out"](pooled(m["c"](m["p"](m["t"](m["a"](X))))))


class Columns(nn.Module):
    """Piecewise-linear embeddings of columns: a weight that belongs to no layer."""

    def __init__(self, n_columns, n_bins, d):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_columns, n_bins, d))
        self.bias = nn.Parameter(torch.randn(n_columns, d))

    def forward(self, X):
        bins = torch.stack([X, X**2, X**3], dim=-1)
        return F.relu(torch.einsum("nft,ftd->nfd", bins, self.weight) + self.bias)


def embedded_columns(m, X):
    return m["out"](F.relu(m["a"](m["e"](X).flatten(1))))


def embedded_codes(m, X):
    return m["out"](F.relu(m["a"](m["e"]((7 * X).long()).flatten(1))))


def split_columns(m, X):  # of an image, not of its channels
    left, right = F.relu(m["a"](X)).split([3, 5], 3)
    return m["out"](pooled(m["b"](left)) + pooled(m["c"](right)))


def split_tokens(m, X):
    first, others = F.relu(m["a"](X)).split([1, 5], 1)
    return m["out"](F.relu(m["b"](first)[:, 0] + m["c"](others).mean(1)))


def gated(m, X):  # split along the last axis, where channels are behind linear layers
    first, second = m["a"](X).chunk(2, -1)
    return m["out"](m["b"](first * torch.sigmoid(second))[:, 0])


def shuffled(m, X):
    first, second = m["a"](X).chunk(2, 1)
    X = torch.cat([first, m["c"](F.relu(m["b"](second)))], 1)
    X = X.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
    first, second = X.chunk(2, 1)
    return m["out"](pooled(torch.cat([first, m["d"](second)], 1)))


def unflattened(m, X):
    X = F.relu(m["a"](X)).view(len(X), m["t"].in_channels, 2, 2)
    return m["out"](F.relu(m["t"](X)).flatten(1))


def beside_the_input(m, X):  # what no layer has made has a place in a concatenation as well
    return m["out"](F.relu(m["b"](torch.cat([X, F.relu(m["a"](X))], 1))))


class ClassToken(nn.Module):
    """Tokens, their positions and a token of their own, whose output predicts."""

    def __init__(self, n_tokens=6, n_features=5, d=8):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, d))
        self.positions = nn.Parameter(torch.randn(1, n_tokens + 1, d))
        self.embed = nn.Linear(n_features, d)
        self.a = nn.Linear(d, 12)
        self.b = nn.Linear(12, d)
        self.out = head(d)

    def forward(self, X):
        X = torch.cat([self.token.expand(len(X), -1, -1), self.embed(X)], 1) + self.positions
        X = X + self.b(F.relu(self.a(X)))
        return self.out(X[:, 0])


IMAGE, TOKENS = (4, 3, 8, 8), (4, 6, 5)
NETWORKS = {
    "linear": (lambda: Net(linear, a=nn.Linear(5, 12), b=nn.Linear(12, 9), out=head(9)), (4, 5)),
    "batch norm": (
        lambda: Net(batch_norm, a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 6), out=head(6)),
        IMAGE,
    ),
    "depthwise": (
        lambda: Net(
            depthwise, a=conv(3, 8), d=conv(8, 8, groups=8), n=nn.BatchNorm2d(8), out=head(8)
        ),
        IMAGE,
    ),
    "residual": (
        lambda: Net(residual, a=conv(3, 8), b=conv(8, 6), c=conv(6, 8), out=head(8)),
        IMAGE,
    ),
    "concatenation": (
        lambda: Net(concatenation, a=conv(3, 4), b=conv(3, 6), c=conv(10, 5), out=head(5)),
        IMAGE,
    ),
    "split": (
        lambda: Net(split, a=conv(3, 8), b=conv(4, 6), c=conv(4, 6), out=head(6)),
        IMAGE,
    ),
    "split columns": (
        lambda: Net(split_columns, a=conv(3, 8), b=conv(8, 6), c=conv(8, 6), out=head(6)),
        IMAGE,
    ),
    "split tokens": (
        lambda: Net(
            split_tokens, a=nn.Linear(5, 12), b=nn.Linear(12, 8), c=nn.Linear(12, 8), out=head(8)
        ),
        TOKENS,
    ),
    "gated": (
        lambda: Net(gated, a=nn.Linear(5, 12), b=nn.Linear(6, 8), out=head(8)),
        TOKENS,
    ),
    "class token": (ClassToken, TOKENS),
    "shuffled": (
        lambda: Net(shuffled, a=conv(3, 8), b=conv(4, 6), c=conv(6, 4), d=conv(4, 4), out=head(8)),
        IMAGE,
    ),
    "unflattened": (
        lambda: Net(unflattened, a=nn.Linear(5, 32), t=nn.ConvTranspose2d(8, 6, 2), out=head(54)),
        (4, 5),
    ),
    "beside the input": (
        lambda: Net(beside_the_input, a=nn.Linear(5, 12), b=nn.Linear(17, 8), out=head(8)),
        (4, 5),
    ),
    "grouped": (lambda: Net(grouped, a=conv(3, 8), g=conv(8, 12, groups=2), out=head(12)), IMAGE),
    "flatten": (lambda: Net(flattened, a=conv(3, 4), b=nn.Linear(256, 7), out=head(7)), IMAGE),
    "transposed": (
        lambda: Net(
            transposed,
            a=conv(3, 6),
            t=nn.ConvTranspose2d(6, 8, 2, 2),
            p=nn.PReLU(8),
            c=conv(8, 5),
            out=head(5),
        ),
        IMAGE,
    ),
    "table": (
        lambda: TabularNetwork([torch.linspace(0, 1, 5)] * 3, [3, 2], hidden=(16, 8)),
        (4, 5),
    ),
    "embedded columns": (
        lambda: Net(embedded_columns, e=Columns(5, 3, 6), a=nn.Linear(30, 8), out=head(8)),
        (40, 5),
    ),
    "embedded codes": (
        lambda: Net(embedded_codes, e=nn.Embedding(8, 6), a=nn.Linear(30, 8), out=head(8)),
        (40, 5),
    ),
    "transformer": (lambda: TabularTransformer(5), (4, 5)),
    "ResNet-10": (ResNet10, (2, 3, 64, 64)),
    "MobileNetV2": (MobileNetV2, (2, 3, 64, 64)),
}


def build(name):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    module = make()
    for layer in module.modules():  # as after some training
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return module.eval(), torch.rand(shape)


def half(units):
    kept = torch.rand(units.n_units) > 0.5
    for layer in range(int(units.layer_of_unit.max()) + 1):
        kept[(units.layer_of_unit == layer).nonzero()[0]] = True
    return kept


@pytest.mark.parametrize("name", NETWORKS)
def test_cut_and_masked_networks_predict_the_same(name):
    module, X = build(name)
    units = find_units(module, X)
    kept = half(units)
    shapes = {k: p.shape for k, p in prunable_parameters(module).items()}
    masks = units.masks(kept, shapes)
    masked = burnt(module, masks)
    small = copy.deepcopy(module)
    cut(small, units, kept)
    with torch.no_grad():
        torch.testing.assert_close(small(X), masked(X), atol=1e-5, rtol=1e-5)
    left = {k: p.numel() for k, p in prunable_parameters(small).items()}
    assert left == {k: int(mask.sum()) for k, mask in masks.items()}
    assert sum(left.values()) < sum(shape.numel() for shape in shapes.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_shrinking_finds_the_masked_units_again(name):
    module, X = build(name)
    units = find_units(module, X)
    masks = units.masks(half(units), {k: p.shape for k, p in prunable_parameters(module).items()})
    masked = burnt(module, masks)
    small = shrink(copy.deepcopy(masked), X)
    with torch.no_grad():
        torch.testing.assert_close(small(X), masked(X), atol=1e-5, rtol=1e-5)
    left = sum(p.numel() for p in prunable_parameters(small).values())
    assert left <= sum(int(mask.sum()) for mask in masks.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_left_are_counted_for_every_number_of_units(name):
    module, X = build(name)
    units = find_units(module, X)
    shapes = {k: p.shape for k, p in prunable_parameters(module).items()}
    order = torch.randperm(units.n_units)
    counts = units.kept_weights(order, shapes)
    for n_gone in (0, 1, units.n_units // 2, units.n_units):
        kept = torch.ones(units.n_units, dtype=torch.bool).index_fill(0, order[:n_gone], False)
        masks = units.masks(kept, shapes)
        assert float(counts[n_gone]) == pytest.approx(sum(int(m.sum()) for m in masks.values()))


def test_units_that_a_trial_finds_wrong_stay():
    def forward(m, X):  # torch.split with fixed sizes cannot follow a cut
        first, second = m["a"](X).split([4, 4], 1)
        return m["out"](pooled(F.relu(m["b"](first)) + m["c"](second)))

    torch.manual_seed(0)
    module = Net(forward, a=conv(3, 8), b=conv(4, 6), c=conv(4, 6), out=head(6)).eval()
    units = find_units(module, torch.rand(IMAGE))
    assert "layers.a.weight" not in units.weights
    assert 0 in units.weights["layers.b.weight"]
    assert list(units.uncut) == ["layers.a"] and "split_with_sizes" in units.uncut["layers.a"]
    assert '`first, second = m["a"](X).split([4, 4], 1)`' in units.uncut["layers.a"]


@pytest.mark.parametrize(
    "name", ["split columns", "split tokens", "gated", "class token", "unflattened", "grouped"]
)
def test_every_channel_is_in_a_unit(name):
    module, X = build(name)
    units = find_units(module, X)
    whole = {s.layer for s in units.slices if s.side == "out" and (s.unit >= 0).all()}
    layers = {n for n, m in module.named_modules() if hasattr(m, "weight")}
    assert {n.removeprefix("layers.") for n in layers - whole} == {"out"}
    assert units.uncut == {}


def scaled(m, X):
    X = F.relu(m["a"](X))
    return m["out"](X / (1.0 + X.sum(1, keepdim=True)))


def test_what_a_last_layer_of_zeros_hides_is_tried():
    module = Net(scaled, a=nn.Linear(5, 8), out=head(8)).eval()
    nn.init.zeros_(module.layers["out"].weight)
    units = find_units(module, torch.rand(4, 5))
    assert not units.n_units and "differ" in units.uncut["layers.a"]


def test_what_small_outputs_hide_is_tried():
    module = Net(scaled, a=nn.Linear(5, 8), out=nn.Linear(8, 1, bias=False)).eval()
    with torch.no_grad():
        module.layers["out"].weight *= 1e-6
    assert not find_units(module, torch.rand(4, 5)).n_units


def test_a_second_output_keeps_its_channels():
    def forward(m, X):
        hidden = F.relu(m["a"](X))
        return m["out"](hidden), hidden

    module = Net(forward, a=nn.Linear(5, 8), out=head(8)).eval()
    units = find_units(module, torch.rand(4, 5))
    assert not units.n_units and "output" in units.uncut["layers.a"]


@pytest.mark.parametrize(
    ("forward", "layers", "message"),
    [
        (
            lambda m, X: m["out"](m["n"](m["a"](X))),
            {"n": nn.LayerNorm(12)},
            r"'layers.a': layer 'layers.n' \(LayerNorm\)",
        ),
        (
            lambda m, X: m["out"](F.glu(m["a"](X))),
            {"a": nn.Linear(5, 24)},
            "'layers.a': without half of its channels forward stops .* its channels pass glu",
        ),
        (
            lambda m, X: m["out"](m["a"](X).view(-1, 3, 4).transpose(1, 2).reshape(-1, 12)),
            {},
            "'layers.a': its channels are lost in view before layer 'layers.out'",
        ),
    ],
)
def test_a_network_without_units_says_what_is_in_the_way(forward, layers, message):
    module = Net(forward, **{"a": nn.Linear(5, 12), "out": head(12)} | layers).eval()
    with pytest.raises(ValueError, match=message):
        Neuron().layout(module, torch.rand(4, 5))


def test_finding_units_leaves_the_network_as_it_was():
    module, X = build("batch norm")
    module.train()
    module.layers["a"].weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    find_units(module, X)
    assert module.training and not module.layers["a"].weight.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_a_dimension_of_an_embedding_goes_for_all_columns():
    module, X = build("embedded columns")
    units = find_units(module, X)
    assert units.weights["layers.e.weight"][2].unique().numel() == 6
    columns = units.weights["layers.a.weight"][1].view(5, 6)
    assert (columns == columns[0]).all()
    kept = torch.ones(units.n_units, dtype=torch.bool)
    kept[units.weights["layers.e.weight"][2][:4]] = False
    cut(module, units, kept)
    assert module.layers["e"].weight.shape == (5, 3, 2) and module.layers["a"].in_features == 10
    assert module(X).shape == (40, 1)


def test_heads_go_as_a_whole():
    module, X = build("transformer")
    units = find_units(module, X)
    heads = [s for s in units.slices if s.layer.endswith(".q")]
    assert len(heads) == 2
    assert all((s.unit.view(-1, 8) == s.unit.view(-1, 8)[:, :1]).all() for s in heads)


def test_outputs_and_streams_through_layer_norm_are_no_units():
    module, X = build("transformer")
    units = find_units(module, X)
    assert "output.weight" not in units.weights
    assert set(units.weights["layers.0.o.weight"]) == {1}  # heads, but no token dimensions


@pytest.mark.parametrize("name", ["linear", "table", "residual", "flatten"])
def test_dead_units_are_folded_into_the_next_bias(name):
    module, X = build(name)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in prunable_parameters(module).values():
            weight[torch.rand(len(weight)) < 0.5] = 0.0  # neurons that read nothing
            weight *= torch.rand_like(weight) < 0.3
    small = shrink(copy.deepcopy(module), X)
    with torch.no_grad():
        torch.testing.assert_close(small(X), module(X), atol=1e-5, rtol=1e-5)
        other = torch.rand_like(X)
        torch.testing.assert_close(small(other), module(other), atol=1e-5, rtol=1e-5)
    count = [sum(p.numel() for p in m.parameters()) for m in (small, module)]
    assert count[0] < count[1]


def test_a_network_with_nothing_left_keeps_a_unit_in_each_layer():
    module, X = build("linear")
    with torch.no_grad():
        for weight in prunable_parameters(module).values():
            weight.zero_()
    small = shrink(copy.deepcopy(module), X)
    with torch.no_grad():
        torch.testing.assert_close(small(X), module(X))
    assert small.layers["a"].out_features == 1 and small.layers["out"].in_features == 1


def test_what_cannot_be_traced_is_refused_by_layer():
    def forward(m, X):
        return m["out"](m["a"](X)) if X.sum().item() > 0 else m["missing"](X)

    module = Net(forward, a=nn.Linear(5, 4), out=head(4)).eval()
    with pytest.raises(ValueError, match="'layers.a'|its first layer"):
        find_units(module, -torch.ones(2, 5))


def shared(m, X):
    return m["out"](F.relu(m["b"](F.relu(m["a"](F.relu(m["in"](X)))))))


def twice(m, X):
    return m["out"](F.relu(m["a"](F.relu(m["a"](F.relu(m["in"](X)))))))


def by_hand(m, X):
    X = F.relu(m["in"](X))
    return m["out"](F.relu(m["a"](X)) + F.linear(X, m["a"].weight.T))


@pytest.mark.parametrize("forward", [shared, twice, by_hand])
def test_layers_of_several_uses_are_not_cut(forward):
    torch.manual_seed(0)
    layers = {"in": nn.Linear(5, 8), "a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "out": head(8)}
    layers["b"].weight = layers["a"].weight
    module = Net(forward, **layers).eval()
    with torch.no_grad():
        for name in ("in", "a"):
            layers[name].weight[:5] = 0.0
    X = torch.rand(6, 5)
    small = shrink(copy.deepcopy(module), X)
    with torch.no_grad():
        torch.testing.assert_close(small(X), module(X), atol=1e-5, rtol=1e-5)


def test_frozen_parameters_stay_frozen_when_cut():
    module, X = build("linear")
    module.layers["b"].weight.requires_grad_(False)
    with torch.no_grad():
        module.layers["a"].weight[:6] = 0.0
    small = shrink(copy.deepcopy(module), X)
    assert small.layers["b"].in_features < 12
    assert not small.layers["b"].weight.requires_grad and small.layers["a"].weight.requires_grad


class Versioned(nn.Module):
    """A token for each column, a class token; an older stem if a state has no version.

    So MNASNet of torchvision reads the states of its older networks.
    """

    _version = 2

    def __init__(self, d=8):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, d))
        self.stem = nn.Linear(1, d)
        self.hidden = nn.Linear(d, 16)
        self.output = nn.Linear(16, 1)

    def forward(self, X):
        X = torch.cat([self.token.expand(len(X), -1, -1), self.stem(X.unsqueeze(2))], 1)
        first, others = torch.relu(X).split([1, X.shape[1] - 1], 1)
        return self.output(torch.relu(self.hidden(first[:, 0] + others.mean(1))))

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if local_metadata.get("version", None) is None:
            self.stem = nn.Linear(1, 3)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_a_network_of_tokens_that_asks_for_the_version_of_a_state(tmp_path):
    X, y = torch.rand(40, 4), torch.arange(40) % 2
    settings = {"sparsity": 0.5, "granularity": "neuron", "constraint": None, "max_epochs": 2}
    pruner = FairPruner(Versioned, random_state=0, **settings).fit(X.numpy(), y.numpy())
    compact = pruner.network_
    assert compact.token.shape[-1] == compact.stem.out_features == compact.hidden.in_features < 8
    with torch.no_grad():
        masked = pruner._fitted.masked_network()(X)
        torch.testing.assert_close(compact(X), masked, atol=1e-5, rtol=1e-5)
    pruner.save(tmp_path / "a")
    copies = [copy.deepcopy(pruner), pickle.loads(pickle.dumps(pruner))]
    expected = pruner.predict_proba(X.numpy())
    for again in (*copies, load(tmp_path / "a", modules=Versioned)):
        assert (again.predict_proba(X.numpy()) == expected).all()
        assert again.network_.token.shape == compact.token.shape
