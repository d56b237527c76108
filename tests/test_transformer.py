"""The transformer attends as torch's own, and goes on working when heads and units are cut."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from fairprune_sk import FairPruner
from fairprune_sk.masks.granularity import prunable_parameters
from fairprune_sk.networks.transformer import Attention, FeatureTokenizer, TabularTransformer

N_FEATURES = 6


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TabularTransformer(N_FEATURES, n_outputs=2, d_token=16, d_hidden=24).eval()


def table(n=5):
    return torch.randn(n, N_FEATURES, generator=torch.Generator().manual_seed(0))


def cut(layer, kept, axis):
    """Keep some outputs (axis 0) or inputs (axis 1) of a linear layer."""
    layer.weight = nn.Parameter(layer.weight.detach().index_select(axis, kept))
    if axis == 0:
        layer.bias = nn.Parameter(layer.bias.detach()[kept])
    layer.out_features, layer.in_features = layer.weight.shape


def cut_head(attention, head):
    size, width = attention.d_head, attention.q.out_features
    kept = torch.tensor([i for i in range(width) if i // size != head])
    for layer in (attention.q, attention.k, attention.v):
        cut(layer, kept, 0)
    cut(attention.o, kept, 1)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_shapes(n, n_outputs):
    assert TabularTransformer(N_FEATURES, n_outputs)(table(n)).shape == (n, n_outputs)


def test_tokens_are_affine_in_each_feature():
    tokenizer = FeatureTokenizer(N_FEATURES, 16)
    X = table()
    tokens = tokenizer(X)
    assert tokens.shape == (5, 1 + N_FEATURES, 16)
    assert torch.equal(tokens[:, 0], tokenizer.class_token.expand(5, -1))
    expected = X[3, 2] * tokenizer.weight[2] + tokenizer.bias[2]
    torch.testing.assert_close(tokens[3, 1 + 2], expected)


@pytest.mark.parametrize("n_heads", [1, 4])
def test_attention_is_that_of_torch(n_heads):
    torch.manual_seed(0)
    ours = Attention(16, n_heads, dropout=0.0)
    theirs = nn.MultiheadAttention(16, n_heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([m.weight for m in (ours.q, ours.k, ours.v)]))
        theirs.in_proj_bias.copy_(torch.cat([m.bias for m in (ours.q, ours.k, ours.v)]))
        theirs.out_proj.load_state_dict(ours.o.state_dict())
    tokens = torch.randn(3, 7, 16)
    normed = ours.norm(tokens)
    expected, _ = theirs(normed, normed, normed)
    torch.testing.assert_close(ours(tokens), expected)


def test_prunable_are_embeddings_and_linear_layers(network):
    names = set(prunable_parameters(network))
    assert {"tokenizer.weight", "tokenizer.bias", "output.weight"} < names
    linear = {n + ".weight" for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    assert names == {"tokenizer.weight", "tokenizer.bias"} | linear
    assert len(linear) == 2 * 6 + 1


def test_rows_do_not_see_each_other(network):
    X = table()
    torch.testing.assert_close(network(X)[2:3], network(X[2:3]))


def test_reads_every_feature(network):
    X = table().requires_grad_()
    network(X).sum().backward()
    assert (X.grad != 0).all()


@pytest.mark.parametrize("heads", [[1], [0, 1], [2, 0, 0]])
def test_a_cut_head_is_a_masked_head(network, heads):
    compact, masked = copy.deepcopy(network), copy.deepcopy(network)
    remaining = list(range(4))
    for head in heads:
        cut_head(compact.layers[0], head)
        gone = remaining.pop(head)
        size = masked.layers[0].d_head
        with torch.no_grad():
            masked.layers[0].o.weight[:, gone * size : (gone + 1) * size] = 0
    assert compact.layers[0].q.out_features == 16 - 4 * len(heads)
    torch.testing.assert_close(compact(table()), masked(table()))
    # Still a module to train, and to copy.
    compact.train()(table()).sum().backward()
    assert pickle.loads(pickle.dumps(compact.eval()))(table()).shape == (5, 2)


def test_a_cut_unit_is_a_masked_unit(network):
    compact, masked = copy.deepcopy(network), copy.deepcopy(network)
    kept = torch.arange(24) % 3 > 0
    cut(compact.layers[1][1], kept.nonzero().flatten(), 0)
    cut(compact.layers[1][4], kept.nonzero().flatten(), 1)
    with torch.no_grad():
        masked.layers[1][4].weight[:, ~kept] = 0
    torch.testing.assert_close(compact(table()), masked(table()))


def dependency_graph(pruning, network, X):
    tokenizer = network.tokenizer
    embeddings = [(tokenizer.weight, 1), (tokenizer.bias, 1), (tokenizer.class_token, 0)]
    return pruning.DependencyGraph().build_dependency(
        network, example_inputs=X, unwrapped_parameters=embeddings
    )


@pytest.mark.parametrize("start", ["q", "k", "v"])
def test_dependency_graph_couples_and_cuts_heads(network, start):
    pruning = pytest.importorskip("torch_pruning")
    X = table()
    expected = copy.deepcopy(network)
    cut_head(expected.layers[0], 2)
    graph = dependency_graph(pruning, network, X)
    attention = network.layers[0]
    size = attention.d_head
    group = graph.get_pruning_group(
        getattr(attention, start),
        pruning.prune_linear_out_channels,
        idxs=list(range(2 * size, 3 * size)),
    )
    group.prune()
    torch.testing.assert_close(network(X), expected(X))


def test_dependency_graph_cuts_units(network):
    pruning = pytest.importorskip("torch_pruning")
    X = table()
    graph = dependency_graph(pruning, network, X)
    group = graph.get_pruning_group(
        network.layers[1][1], pruning.prune_linear_out_channels, idxs=[0, 5]
    )
    group.prune()
    assert network.layers[1][4].in_features == 22
    assert network(X).shape == (5, 2)


def test_dependency_graph_cuts_the_tokens(network):
    pruning = pytest.importorskip("torch_pruning")
    X = table()
    graph = dependency_graph(pruning, network, X)
    group = graph.get_pruning_group(
        network.layers[0].o, pruning.prune_linear_out_channels, idxs=[0, 5, 6]
    )
    group.prune()
    assert network.tokenizer.weight.shape == network.tokenizer.bias.shape == (N_FEATURES, 13)
    assert network.layers[2].q.in_features == network.output.in_features == 13
    assert network.layers[2].q.out_features == 16
    assert network(X).shape == (5, 2)


def test_fx_traces_it_for_every_batch_size(network):
    graph = torch.fx.symbolic_trace(network)
    for n in (1, 5):
        torch.testing.assert_close(graph(table(n)), network(table(n)))


def test_stacked_networks(network):
    X = table()
    stacked = {name: torch.stack([p, 0.5 * p]) for name, p in network.named_parameters()}
    logits = torch.func.vmap(lambda z: torch.func.functional_call(network, z, (X,)))(stacked)
    assert logits.shape == (2, 5, 2)
    torch.testing.assert_close(logits[0], network(X))


def test_dropout_only_while_training(network):
    assert torch.equal(network(table()), network(table()))
    network.train()
    assert not torch.equal(network(table()), network(table()))


@pytest.mark.parametrize("n_heads", [0, 5])
def test_heads_must_divide_the_tokens(n_heads):
    with pytest.raises(ValueError, match=rf"Got d_token=32 and n_heads={n_heads}, but expected"):
        TabularTransformer(N_FEATURES, n_heads=n_heads)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_fair_pruner_builds_and_prunes_the_class(n_classes):
    X = table(60).numpy()
    y = np.argsort(np.argsort(X[:, 0])) * n_classes // 60
    pruner = FairPruner(
        TabularTransformer, sparsity=0.5, constraint=None, max_epochs=4, random_state=0
    )
    pruner.fit(X, y)
    assert isinstance(pruner.network_, TabularTransformer)
    assert pruner.sparsity_ >= 0.5
    assert pruner.predict_proba(X).shape == (60, n_classes)
    assert pruner.score(X, y) > 0.6
