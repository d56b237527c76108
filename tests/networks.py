"""Networks, and rows for them, that several tests share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fairprune_sk.masks.compaction import with_tensors


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.output = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, numbers, kind):
        return self.output(torch.cat([numbers, self.embedding(kind)], dim=1))


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 1),
    )


def rows(kind, n=80, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "images":
        return rng.normal(size=(n, 3, 8, 8)).astype(np.float32)
    if kind == "dict":
        return {"kind": rng.integers(0, 4, n), "numbers": rng.normal(size=(n, 2))}
    return rng.normal(size=(n, 5)).astype(np.float32)


def burnt(module, masks):
    """Copy a module with its masks burnt into the weights."""
    weights = dict(module.named_parameters())
    tensors = {name: weights[name].detach() * mask for name, mask in masks.items()}
    return with_tensors(module, tensors, torch.device("cpu"))
