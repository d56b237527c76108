"""Networks of examples/comparison.py, in a module of their own: other processes import it."""

from __future__ import annotations

import torch
from torch import nn


class Perceptron(nn.Module):
    """A plain network on an encoded matrix, of any size."""

    hidden: tuple[int, ...] = (256, 128)

    def __init__(self, n_features: int):
        super().__init__()
        sizes = [n_features, *self.hidden]
        layers = [
            layer
            for n_in, n_out in zip(sizes, sizes[1:], strict=False)
            for layer in (nn.Linear(n_in, n_out), nn.ReLU(), nn.Dropout(0.2))
        ]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, 1)."""
        return self.layers(X)


class WidePerceptron(Perceptron):
    """Three layers of 512."""

    hidden = (512, 512, 512)


class DeepPerceptron(Perceptron):
    """Six layers of 256."""

    hidden = (256,) * 6
