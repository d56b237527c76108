"""
A convolutional network
=======================

Whole filters go, with all that is coupled to them, so the network that comes out is smaller, and
faster without special hardware where its arithmetic takes longer than its calls. The images are
noise with a bright corner, made here: there is nothing to learn about fairness from them.
"""

import numpy as np
from torch import nn

from fairprune_sk import FairPruner

rng = np.random.default_rng(0)
y = rng.integers(2, size=1200)
s = rng.choice(["a", "b"], size=1200)
X = rng.normal(size=(1200, 1, 8, 8)).astype("float32")
X[:, :, :4, :4] += 0.5 * y[:, None, None, None]

network = nn.Sequential(
    nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
)
pruner = FairPruner(
    network, granularity="neuron", sparsity=0.5, tolerance=0.1, max_epochs=60, random_state=0
)
pruner.fit(X[:600], y[:600], sensitive_features=s[:600])
print(pruner.network_)
print(pruner.cost_report(X[600:]))

# %%
# What is left of each layer.

from fairprune_sk.displays import RemovedByLayerDisplay

RemovedByLayerDisplay.from_estimator(pruner)
