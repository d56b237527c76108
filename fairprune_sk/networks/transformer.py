"""A small transformer for tables, whose heads and feed-forward units can be cut away."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureTokenizer(nn.Module):
    """Turn each feature into a token, ``x[j] * weight[j] + bias[j]``, behind a class token.

    Weight and bias, of shape (n_features, d_token), are both embeddings (the bias tells which
    feature a token is), and both count among the weights to prune. The class token does not.

    Parameters
    ----------
    n_features : int
        Columns of the table.
    d_token : int
        Size of a token.
    """

    def __init__(self, n_features: int, d_token: int):
        super().__init__()
        bound = d_token**-0.5
        self.weight = nn.Parameter(torch.empty(n_features, d_token).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_features, d_token).uniform_(-bound, bound))
        self.class_token = nn.Parameter(torch.empty(d_token).uniform_(-bound, bound))

    def forward(self, X: Tensor) -> Tensor:
        """Tokens of shape (n, 1 + n_features, d_token) for a table of shape (n, n_features)."""
        tokens = X.unsqueeze(-1) * self.weight + self.bias
        return torch.cat([self.class_token.expand(X.shape[0], 1, -1), tokens], dim=1)


class Attention(nn.Module):
    """Multi-head self-attention out of four linear layers, behind a normalisation.

    Only the size of a head is fixed; how many there are is read off the layers. Without the
    outputs of a head in ``q``, ``k`` and ``v``, and the same inputs of ``o``, it goes on working.

    Parameters
    ----------
    d_token : int
        Size of a token.
    n_heads : int
        Number of heads, a divisor of ``d_token``.
    dropout : float
        Of the attention, while training.
    """

    def __init__(self, d_token: int, n_heads: int, dropout: float):
        super().__init__()
        self.d_head = d_token // n_heads
        self.norm = nn.LayerNorm(d_token)
        self.q = nn.Linear(d_token, d_token)
        self.k = nn.Linear(d_token, d_token)
        self.v = nn.Linear(d_token, d_token)
        self.o = nn.Linear(d_token, d_token)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix tokens of shape (n, n_tokens, d_token)."""
        tokens = self.norm(tokens)
        q, k, v = (
            layer(tokens).unflatten(-1, (-1, self.d_head)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        # Not torch's fused attention: that has no batching rule for stacked networks (vmap).
        attention = (q @ k.transpose(-2, -1) * self.d_head**-0.5).softmax(-1)
        return self.o((self.dropout(attention) @ v).transpose(1, 2).flatten(2))


class TabularTransformer(nn.Module):
    """Transformer over the features of a table.

    Each feature becomes a token; blocks of attention and a feed-forward network, each beside a
    shortcut, mix them; the logits are read off a class token. The table must hold finite numbers,
    on scales that are alike: standardise its columns beforehand.

    Parameters
    ----------
    n_features : int
        Columns of the table.
    n_outputs : int, default=1
        Number of logits.
    d_token : int, default=32
        Size of a token.
    n_heads : int, default=4
        Heads of each block, a divisor of ``d_token``.
    n_blocks : int, default=2
        Number of blocks.
    d_hidden : int, default=64
        Units of each feed-forward network.
    dropout : float, default=0.1
        In each block, while training.

    References
    ----------
    Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular Data",
    NeurIPS 2021 (FT-Transformer). Here feed-forward units are plain ReLUs, not gated ones, and
    the first block has its normalisation too.

    Examples
    --------
    >>> import torch
    >>> from fairprune_sk.networks import TabularTransformer
    >>> TabularTransformer(n_features=5, n_outputs=3)(torch.zeros(2, 5)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        n_features: int,
        n_outputs: int = 1,
        d_token: int = 32,
        n_heads: int = 4,
        n_blocks: int = 2,
        d_hidden: int = 64,
        dropout: float = 0.1,
    ):
        super().__init__()
        if n_heads < 1 or d_token % n_heads:
            raise ValueError(
                f"Got d_token={d_token} and n_heads={n_heads}, but expected d_token to be a "
                "multiple of n_heads."
            )
        self.tokenizer = FeatureTokenizer(n_features, d_token)
        self.layers = nn.ModuleList()
        for _ in range(n_blocks):
            self.layers.append(Attention(d_token, n_heads, dropout))
            widen, narrow = nn.Linear(d_token, d_hidden), nn.Linear(d_hidden, d_token)
            self.layers.append(
                nn.Sequential(nn.LayerNorm(d_token), widen, nn.ReLU(), nn.Dropout(dropout), narrow)
            )
        self.norm = nn.LayerNorm(d_token)
        self.output = nn.Linear(d_token, n_outputs)

    def forward(self, X: Tensor) -> Tensor:
        """Logits of shape (n, n_outputs) for a table of shape (n, n_features)."""
        tokens = self.tokenizer(X)
        for layer in self.layers:
            tokens = tokens + layer(tokens)
        return self.output(self.norm(tokens[:, 0]).relu())
