"""Calling networks, and seeing inside them."""

from __future__ import annotations

import pytest
import torch
from networks import convolutions
from torch import nn

from fairprune_sk.masks.compaction import read_columns
from fairprune_sk.networks.calls import watching


def test_watching_tells_of_the_calls_in_their_order_and_of_none_afterwards():
    network, seen = convolutions(), []
    X = torch.rand(2, 3, 8, 8)
    with watching(network, lambda layer, args: seen.append((layer, args[0].shape))):
        network(X)
    network(X)
    assert [layer for layer, _ in seen] == [*network]
    assert seen[0][1] == X.shape


class Failing(nn.Linear):
    def forward(self, X):
        raise RuntimeError("not today")


@pytest.mark.parametrize("use", [lambda network, X: network(X), read_columns])
def test_a_network_that_fails_is_left_without_hooks(use):
    network = nn.Sequential(nn.Linear(3, 2), Failing(2, 1))
    with pytest.raises(RuntimeError, match="not today"), watching(network, lambda *call: None):
        use(network, torch.rand(4, 3))
    assert not any(layer._forward_pre_hooks for layer in network.modules())
