"""Projection of scores to masks, counted by hand and against torch's own pruning."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import burnt
from torch import nn
from torch.func import functional_call
from torch.nn.utils import prune

from fairprune_sk.masks.compaction import reached_sparsity
from fairprune_sk.masks.granularity import (
    Neuron,
    Pattern,
    PatternLayout,
    Unstructured,
    WeightLayout,
    n_removed,
    prunable_parameters,
)


def project(scores, sparsity, **kwargs):
    shapes = {name: score.shape for name, score in scores.items()}
    return WeightLayout(shapes, **kwargs).project(scores, sparsity)


def test_keeps_the_largest_scores_over_all_layers():
    scores = {
        "a": torch.tensor([[0.9, 0.1], [0.8, 0.2]]),
        "b": torch.tensor([[0.3, 0.7]]),
    }
    masks = project(scores, 0.5)
    assert masks["a"].tolist() == [[True, False], [True, False]]
    assert masks["b"].tolist() == [[False, True]]
    assert reached_sparsity(masks) == 0.5


def test_every_layer_keeps_its_best_weight():
    scores = {"a": torch.rand(20, 5) + 1.0, "b": torch.rand(5, 1) * 0.1}
    masks = project(scores, 0.9)
    assert masks["b"].sum() == 1
    assert masks["b"].flatten()[scores["b"].argmax()]
    assert sum(int(m.sum()) for m in masks.values()) == 10  # 105 weights, 95 removed


def test_ties_do_not_change_the_count():
    masks = project({"a": torch.ones(10, 10), "b": torch.zeros(10, 10)}, 0.7)
    assert sum(int(m.sum()) for m in masks.values()) == 60


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.7, 0.9, 0.99])
def test_reaches_the_sparsity_with_the_fewest_removals(sparsity):
    scores = {"a": torch.rand(17, 13), "b": torch.rand(13, 7)}
    n = 17 * 13 + 13 * 7
    reached = reached_sparsity(project(scores, sparsity))
    assert sparsity <= reached < sparsity + 1 / n


def test_float_error_removes_no_weight_too_many():
    assert n_removed(10, 0.9) == 9
    assert n_removed(1000, 0.7) == 700
    assert n_removed(3, 0.5) == 2


def test_largest_sparsity_leaves_weights_for_the_ranks_of_hidden_layers():
    shapes = {"a": torch.Size([8, 6, 2]), "b": torch.Size([4, 8]), "c": torch.Size([1, 4])}
    assert WeightLayout(shapes).max_sparsity == pytest.approx(1 - 0.75 * (8 + 4) / 132)
    # A linear model, and a hidden layer of one unit, may keep one weight in each layer.
    assert WeightLayout({"a": torch.Size([1, 20])}).max_sparsity == pytest.approx(1 - 1 / 20)
    shapes = {"a": torch.Size([1, 20]), "b": torch.Size([1, 1])}
    assert WeightLayout(shapes).max_sparsity == pytest.approx(1 - 2 / 21)


def test_every_layer_keeps_a_weight():
    scores = {"a": torch.rand(4, 5), "b": torch.rand(5, 1)}
    assert all(m.sum() == 1 for m in project(scores, 1 - 2 / 25).values())


def test_rows_of_linear_and_convolutional_layers_are_units():
    module = nn.ModuleDict(
        {"tokens": nn.Embedding(9, 4), "linear": nn.Linear(4, 3), "filters": nn.Conv1d(4, 2, 3)}
    )
    by_unit = Unstructured().layout(module).by_unit
    assert by_unit == {"linear.weight", "filters.weight"}


def test_scores_are_left_as_they_were():
    scores = {"a": torch.rand(4, 5)}
    before = scores["a"].clone()
    project(scores, 0.5)
    assert torch.equal(scores["a"], before)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(6, 8), nn.Flatten(), nn.Linear(16, 9), nn.BatchNorm1d(9), nn.Linear(9, 1)
    )


def test_matrices_count_and_vectors_do_not():
    assert set(prunable_parameters(network())) == {"0.weight", "2.weight", "4.weight"}


def test_masked_forward_and_compact_network_equal_torch_pruning():
    module = network().eval()
    scores = {name: torch.rand_like(p) for name, p in prunable_parameters(module).items()}
    masks = project(scores, 0.6)
    X = torch.randint(0, 6, (32, 2))
    z = {name: p * masks[name] for name, p in prunable_parameters(module).items()}
    masked = functional_call(module, z, (X,))
    reference = copy.deepcopy(module)
    for name, mask in masks.items():
        prune.custom_from_mask(reference[int(name.split(".")[0])], "weight", mask)
    torch.testing.assert_close(masked, reference(X))
    compacted = burnt(module, masks)
    torch.testing.assert_close(masked, compacted(X))
    assert dict(compacted.named_parameters()).keys() == dict(module.named_parameters()).keys()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in compacted.modules())
    assert all((dict(module.named_parameters())[n] != 0).any() for n in masks)  # a copy, not itself


def test_by_layer_each_loses_the_same_fraction():
    scores = {"a": torch.rand(20, 10) + 1.0, "b": torch.rand(10, 10)}
    masks = project(scores, 0.7, scope="layer")
    assert int(masks["a"].sum()) == 60 and int(masks["b"].sum()) == 30
    with pytest.raises(ValueError, match="scope='row'"):
        Unstructured(scope="row")


# ------------------------------------------------------------------------------------ patterns


def pattern(scores, sparsity, n=2, m=4):
    shapes = {name: score.shape for name, score in scores.items()}
    return PatternLayout(shapes, n=n, m=m).project(scores, sparsity)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 2), (4, 8), (1, 4)])
@pytest.mark.parametrize("more", [0.0, 0.2])
def test_at_most_n_of_each_m_along_the_inputs(n, m, more):
    scores = {"a": torch.rand(6, 16), "b": torch.rand(5, 8, 3, 3)}
    sparsity = 1 - n / m + more
    masks = pattern(scores, sparsity, n, m)
    for mask in masks.values():
        blocks = mask.flatten(1).unflatten(1, (-1, m))
        assert int(blocks.sum(-1).max()) <= n
    assert sparsity <= reached_sparsity(masks) < sparsity + 0.01


def test_padding_of_the_pattern_is_not_counted():
    mask = pattern({"a": torch.rand(8, 6)}, 0.5)["a"]
    assert mask.shape == (8, 6)
    assert int(mask[:, :4].sum(1).max()) <= 2 and int(mask[:, 4:].sum(1).max()) <= 2
    assert int(mask.sum()) == 24


def test_below_the_sparsity_of_the_pattern_what_fits_it_stays():
    score = torch.rand(4, 8)
    fits, early = pattern({"a": score}, 0.5)["a"], pattern({"a": score}, 0.25)["a"]
    assert int(early.sum()) == 24 and early[fits].all()


def test_patterns_that_are_none_are_refused():
    with pytest.raises(ValueError, match="n=4, m=4"):
        Pattern(n=4, m=4)


# --------------------------------------------------------------------------------------- units


def mlp(*widths):
    layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.7, 0.9, 0.97])
def test_sparsity_of_units_is_counted_in_weights(scope, sparsity):
    module = mlp(20, 64, 32, 1)
    layout = Neuron(scope).layout(module, torch.rand(2, 20))
    scores = layout.scores({k: torch.rand_like(p) for k, p in prunable_parameters(module).items()})
    masks = layout.project({k: torch.rand_like(v) for k, v in scores.items()}, sparsity)
    largest_unit = 64 + 32 + 20
    reached = reached_sparsity(masks)
    assert sparsity <= reached < sparsity + largest_unit / (20 * 64 + 64 * 32 + 32)
    # What is kept are whole units: a row and a column for each.
    first, second = masks["0.weight"], masks["2.weight"]
    assert torch.equal(first.all(1), first.any(1))
    assert torch.equal(first.any(1), second.any(0)) or not second.any()
    assert torch.equal(second.any(1), masks["4.weight"][0])


def test_the_smallest_scores_go_first_and_each_layer_keeps_its_best():
    module = mlp(4, 6, 5, 1)
    layout = Neuron("global").layout(module, torch.rand(2, 4))
    score = torch.arange(11.0) / 11
    layer = layout.units.layer_of_unit
    score[layer == layer[0]] -= 2.0  # all units of one layer are worse than all of the other
    masks = layout.project({"units": score}, layout.max_sparsity)
    assert int(masks["0.weight"].any(1).sum()) == 1 and int(masks["2.weight"].any(1).sum()) == 1
    kept = layout.units.sums({k: m.float() for k, m in masks.items()}) > 0
    for number in (0, 1):
        members = (layer == number).nonzero().flatten()
        assert members[kept[members]].tolist() == [int(members[score[members].argmax()])]


def test_scores_of_units_do_not_starve_a_layer_of_small_weights():
    module = mlp(10, 40, 30, 1)
    layout = Neuron("global").layout(module, torch.rand(2, 10))
    importance = {k: torch.rand_like(p) for k, p in prunable_parameters(module).items()}
    importance["0.weight"] *= 0.001
    masks = layout.project(layout.scores(importance), 0.6)
    kept = [int(masks["0.weight"].any(1).sum()) / 40, int(masks["2.weight"].any(1).sum()) / 30]
    assert min(kept) > 0.3


def test_gradients_of_a_unit_are_the_sum_over_its_weights():
    module = mlp(3, 4, 1)
    layout = Neuron().layout(module, torch.rand(2, 3))
    gradients = {k: torch.randn_like(p) for k, p in prunable_parameters(module).items()}
    expected = gradients["0.weight"].sum(1) + gradients["2.weight"][0]
    torch.testing.assert_close(layout.score_gradients(gradients)["units"], expected)


def test_a_network_without_hidden_units_is_refused():
    with pytest.raises(ValueError, match="without a hidden unit"):
        Neuron().layout(nn.Linear(4, 1), torch.rand(2, 4))
