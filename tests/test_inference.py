"""Faster forms of pruned networks."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from fairprune_sk.export.inference import SparseLinear, fastest_form, has_pattern, semi_structured


def sparse_mlp(density, width=400):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width, bias=False), nn.Linear(width, 1)
    )
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear):
                layer.weight *= torch.rand_like(layer.weight) < density
    return network.eval()


def test_a_sparse_layer_computes_what_the_dense_one_does():
    for layer in sparse_mlp(0.1):
        if isinstance(layer, nn.Linear):
            X = torch.randn(7, layer.in_features)
            torch.testing.assert_close(SparseLinear(layer)(X), layer(X), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 64])
def test_the_fastest_form_predicts_the_same_and_is_a_copy(n_rows):
    network, X = sparse_mlp(0.02), torch.randn(n_rows, 400)
    before = copy.deepcopy(network.state_dict())
    fast = fastest_form(network, X)
    with torch.no_grad():
        torch.testing.assert_close(fast(X), network(X), atol=1e-5, rtol=1e-5)
        again = pickle.loads(pickle.dumps(fast))
        torch.testing.assert_close(again(X), fast(X))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_form_that_is_not_faster_is_not_taken(monkeypatch):
    times = {SparseLinear: 1.0, nn.Linear: 1.05}  # a gain too small to be sure of
    monkeypatch.setattr(
        "fairprune_sk.export.inference._time",
        lambda network, X, seconds: times.get(type(network), 1.0),
    )
    fast = fastest_form(sparse_mlp(0.1), torch.randn(4, 400))
    assert not any(isinstance(layer, SparseLinear) for layer in fast.modules())


def test_a_form_that_is_faster_is_taken(monkeypatch):
    times = {SparseLinear: 1.0, nn.Linear: 2.0}

    def time(network, X, seconds):
        inner = any(isinstance(layer, SparseLinear) for layer in network.modules())
        return times.get(type(network), 1.0 if inner else 2.0)

    monkeypatch.setattr("fairprune_sk.export.inference._time", time)
    fast = fastest_form(sparse_mlp(0.1), torch.randn(4, 400))
    assert sum(isinstance(layer, SparseLinear) for layer in fast.modules()) == 3


def test_patterns_are_recognised():
    weight = torch.rand(64, 64).unflatten(1, (-1, 4))
    weight[..., :2] = 0.0
    assert has_pattern(weight.flatten(1))
    assert not has_pattern(torch.rand(64, 64))
    assert not has_pattern(weight.flatten(1)[:, :32])


def test_the_semi_structured_layout_needs_a_gpu():
    with pytest.raises(ValueError, match="compute capability 8.0"):
        semi_structured(sparse_mlp(0.1))


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="needs a CUDA device of compute capability 8.0 or later",
)
def test_the_semi_structured_layout_predicts_the_same():
    network = sparse_mlp(1.0, 256).cuda()
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Linear) and layer.out_features > 1:
                blocks = layer.weight.unflatten(1, (-1, 4))
                blocks[..., 1:3] = 0.0
    X = torch.randn(64, 256, device="cuda")
    fast = semi_structured(network)
    with torch.no_grad():
        torch.testing.assert_close(fast(X.half()).float(), network(X), atol=0.02, rtol=0.02)
