"""Every granularity and network: the compact network is the masked one, in every form."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier
from torch import nn

import fairprune_sk
from fairprune_sk import FairPruner
from fairprune_sk.fitting.outputs import logits
from fairprune_sk.networks.transformer import TabularTransformer
from fairprune_sk.networks.vision import BasicBlock, InvertedResidual


class Mlp(nn.Module):
    def __init__(self, n_features=6):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(n_features, 32), nn.Linear(32, 16), nn.Linear(16, 1)

    def forward(self, X):
        return self.out(torch.relu(self.b(torch.relu(self.a(X)))))


def stack(*blocks, n_last):
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_last, 1))


# Whole deep networks are cut in test_units.py; forms of them differ in nothing but time.
def residual():
    return stack(BasicBlock(3, 16), BasicBlock(16, 32, stride=2), BasicBlock(32, 32), n_last=32)


def depthwise():
    return stack(InvertedResidual(3, 8, 2, 6), InvertedResidual(8, 8, 1, 6), n_last=8)


TABLE, IMAGES = (60, 6), (24, 3, 16, 16)
NETWORKS = {
    "default": (None, TABLE),
    "MLP": (Mlp, TABLE),
    "transformer": (lambda: TabularTransformer(6, d_token=16, n_blocks=1, d_hidden=32), TABLE),
    "residual": (residual, IMAGES),
    "depthwise": (depthwise, IMAGES),
}


def estimator_of(make):
    """Wrap a network in a net of two epochs: what it has learned does not matter here."""
    if make is None:
        return None
    torch.manual_seed(0)
    return NeuralNetBinaryClassifier(
        make(), max_epochs=2, lr=0.01, batch_size=12, train_split=None, verbose=0
    )


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["unstructured", "neuron", "2:4"])
@pytest.mark.parametrize("name", NETWORKS)
def test_compact_and_masked_networks_agree_in_every_form(name, granularity, tmp_path):
    make, shape = NETWORKS[name]
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=shape).astype(np.float32), np.arange(shape[0]) % 2
    pruner = FairPruner(
        estimator_of(make),
        granularity=granularity,
        sparsity=0.7,
        constraint=None,
        max_epochs=2,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fairprune_sk.CollapseWarning)
        pruner.fit(X, y)
    new = rng.normal(size=shape).astype(np.float32)
    fitted = pruner._fitted
    full = pruner._fitted.masked_network()
    masked = logits(full, fitted.table(new), fitted.probabilities).numpy()[:, 0]
    np.testing.assert_allclose(pruner.decision_function(new), masked, atol=1e-5, rtol=1e-5)
    if granularity == "neuron":
        sizes = [sum(p.numel() for p in n.parameters()) for n in (pruner.network_, full)]
        assert sizes[0] < 0.4 * sizes[1]

    expected = pruner.predict_proba(new)
    pruner.save(tmp_path / "pruner.fairprune")
    modules = None if make is None else make()
    for again in (
        pickle.loads(pickle.dumps(pruner)),
        copy.deepcopy(pruner),
        fairprune_sk.load(tmp_path / "pruner.fairprune", modules=modules),
    ):
        np.testing.assert_array_equal(again.predict_proba(new), expected)

    if shape == IMAGES and granularity != "neuron":
        return  # to trace a convolution takes long, and the graph is that of the cut one
    pruner.to_onnx(tmp_path / "pruner.onnx", X=X)
    session = pytest.importorskip("onnxruntime").InferenceSession(str(tmp_path / "pruner.onnx"))
    got = session.run(["probabilities"], pruner.onnx_inputs(new))[0]
    np.testing.assert_allclose(got, expected, atol=1e-5)
