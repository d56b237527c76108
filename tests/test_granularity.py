"""Projection of scores to masks, counted by hand and against torch's own pruning."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import prune

from fairprune_sk.compaction import compact, reached_sparsity
from fairprune_sk.granularity import Unstructured, n_removed, prunable_parameters


def test_keeps_the_largest_scores_over_all_layers():
    scores = {
        "a": torch.tensor([[0.9, 0.1], [0.8, 0.2]]),
        "b": torch.tensor([[0.3, 0.7]]),
    }
    masks = Unstructured().project(scores, 0.5)
    assert masks["a"].tolist() == [[True, False], [True, False]]
    assert masks["b"].tolist() == [[False, True]]
    assert reached_sparsity(masks) == 0.5


def test_every_layer_keeps_its_best_weight():
    scores = {"a": torch.rand(20, 5) + 1.0, "b": torch.rand(5, 1) * 0.1}
    masks = Unstructured().project(scores, 0.9)
    assert masks["b"].sum() == 1
    assert masks["b"].flatten()[scores["b"].argmax()]
    assert sum(int(m.sum()) for m in masks.values()) == 10  # 105 weights, 95 removed


def test_ties_do_not_change_the_count():
    masks = Unstructured().project({"a": torch.ones(10, 10), "b": torch.zeros(10, 10)}, 0.7)
    assert sum(int(m.sum()) for m in masks.values()) == 60


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.7, 0.9, 0.99])
def test_reaches_the_sparsity_with_the_fewest_removals(sparsity):
    scores = {"a": torch.rand(17, 13), "b": torch.rand(13, 7)}
    n = 17 * 13 + 13 * 7
    reached = reached_sparsity(Unstructured().project(scores, sparsity))
    assert sparsity <= reached < sparsity + 1 / n


def test_float_error_removes_no_weight_too_many():
    assert n_removed(10, 0.9) == 9
    assert n_removed(1000, 0.7) == 700
    assert n_removed(3, 0.5) == 2


def test_largest_sparsity_leaves_one_weight_in_each_layer():
    scores = {"a": torch.rand(4, 5), "b": torch.rand(5, 1)}
    shapes = {name: score.shape for name, score in scores.items()}
    largest = Unstructured().max_sparsity(shapes)
    assert largest == pytest.approx(1 - 2 / 25)
    assert all(m.sum() == 1 for m in Unstructured().project(scores, largest).values())


def test_scores_are_left_as_they_were():
    scores = {"a": torch.rand(4, 5)}
    before = scores["a"].clone()
    Unstructured().project(scores, 0.5)
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
    masks = Unstructured().project(scores, 0.6)
    X = torch.randint(0, 6, (32, 2))
    z = {name: p * masks[name] for name, p in prunable_parameters(module).items()}
    masked = functional_call(module, z, (X,))
    reference = copy.deepcopy(module)
    for name, mask in masks.items():
        prune.custom_from_mask(reference[int(name.split(".")[0])], "weight", mask)
    torch.testing.assert_close(masked, reference(X))
    compacted = compact(module, masks)
    torch.testing.assert_close(masked, compacted(X))
    assert dict(compacted.named_parameters()).keys() == dict(module.named_parameters()).keys()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in compacted.modules())
    assert all((dict(module.named_parameters())[n] != 0).any() for n in masks)  # a copy, not itself
