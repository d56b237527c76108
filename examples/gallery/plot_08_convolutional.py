"""
A convolutional network
=======================

Filters go, with all that is coupled to them. The images are noise with a bright corner, made
here: nothing to learn about fairness from them.
"""

import numpy as np
from torch import nn

from fairprune_sk import FairPruner

rng = np.random.default_rng(0)
y = rng.integers(2, size=300)
s = rng.choice(["a", "b"], size=300)
X = rng.normal(size=(300, 1, 8, 8)).astype("float32")
X[:, :, :4, :4] += y[:, None, None, None]
network = nn.Sequential(
    nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
)
pruner = FairPruner(
    network,
    granularity="neuron",
    sparsity=0.5,
    max_epochs=15,
    tolerance_on="training",
    random_state=0,
)
pruner.fit(X, y, sensitive_features=s)
print(pruner.network_)
print(pruner.cost_report(X[:64]))

# %%
# What is left of each layer.

from fairprune_sk.displays import RemovedByLayerDisplay

RemovedByLayerDisplay.from_estimator(pruner)
