"""The default network for tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ColumnEncoding(nn.Module):
    """Spread the columns of an encoded table over the inputs of a network.

    Numeric columns are encoded piecewise linearly (Gorishniy et al., "On Embeddings for
    Numerical Features in Tabular Deep Learning", NeurIPS 2022, equation 1): bin ``t`` of a
    column holds ``clip((x - b[t-1]) / (b[t] - b[t-1]), 0, 1)``. Together with the linear layer
    that follows, this is an embedding of the column whose matrix is a part of that layer, so that
    its weights are pruned like all others, and without the padding that an embedding of equal
    bin counts needs. Categories become one-hot inputs.

    It has no parameters, only buffers; a table of a hundred million cells stays one float each.

    Parameters
    ----------
    edges : sequence of Tensor
        Ascending bin edges of each numeric column, at least two each. These columns come first.
    n_categories : sequence of int
        Number of categories of each categorical column. These columns come last, as codes; a
        code outside ``range(n_categories)`` (an unknown category) gives zeros.
    """

    numeric_column: Tensor
    low: Tensor
    width: Tensor
    category_column: Tensor
    category: Tensor

    def __init__(self, edges: Sequence[Tensor], n_categories: Sequence[int]):
        super().__init__()
        n_numeric = len(edges)
        columns, lows, widths = [], [], []
        for column, edge in enumerate(edges):
            columns += [column] * (len(edge) - 1)
            lows.append(edge[:-1])
            widths.append(edge.diff())
        empty = torch.zeros(0)
        self.register_buffer("numeric_column", torch.tensor(columns, dtype=torch.int64))
        self.register_buffer("low", torch.cat([empty, *lows]))
        self.register_buffer("width", torch.cat([empty, *widths]))
        categories = [
            (n_numeric + j, code) for j, n in enumerate(n_categories) for code in range(n)
        ]
        self.register_buffer(
            "category_column", torch.tensor([c for c, _ in categories], dtype=torch.int64)
        )
        self.register_buffer("category", torch.tensor([float(code) for _, code in categories]))

    def keep(self, kept: Tensor) -> None:
        """Keep some of the encoded inputs: a mask of shape (n_outputs,)."""
        numeric, categories = kept.split([len(self.low), len(self.category)])
        for name in ("numeric_column", "low", "width"):
            setattr(self, name, getattr(self, name)[numeric])
        for name in ("category_column", "category"):
            setattr(self, name, getattr(self, name)[categories])

    @property
    def n_outputs(self) -> int:
        """Number of encoded inputs."""
        return len(self.low) + len(self.category)

    @property
    def columns(self) -> Tensor:
        """Column of the table that each encoded input comes from, shape (n_outputs,)."""
        return torch.cat([self.numeric_column, self.category_column])

    def forward(self, X: Tensor) -> Tensor:
        """Encode a batch of shape (n, n_columns) to shape (n, n_outputs)."""
        # In place: the encoded batch is much wider than the table, and each pass over it costs.
        numeric = X.index_select(1, self.numeric_column)
        numeric = numeric.sub_(self.low).div_(self.width).clamp_(0.0, 1.0)
        codes = X.index_select(1, self.category_column)
        return torch.cat([numeric, torch.eq(codes, self.category).to(numeric.dtype)], dim=1)


class TabularNetwork(nn.Module):
    """Multilayer perceptron over encoded columns: the network of ``FairPruner(estimator=None)``.

    Parameters
    ----------
    edges, n_categories
        As for :class:`ColumnEncoding`.
    hidden : sequence of int
        Units of each hidden layer.
    dropout : float
        Dropout after each hidden layer while training.
    n_outputs : int
        Number of logits.
    """

    def __init__(
        self,
        edges: Sequence[Tensor],
        n_categories: Sequence[int],
        hidden: Sequence[int] = (256, 128),
        dropout: float = 0.2,
        n_outputs: int = 1,
    ):
        super().__init__()
        self.encoding = ColumnEncoding(edges, n_categories)
        layers: list[nn.Module] = []
        width = self.encoding.n_outputs
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(dropout)]
            width = units
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(width, n_outputs)

    @torch.no_grad()
    def drop_unread_inputs(self) -> None:
        """Take the encoded inputs that no weight reads any more out of encoding and first layer."""
        first = next(layer for layer in self.modules() if isinstance(layer, nn.Linear))
        kept = first.weight.any(dim=0)
        kept[0] |= ~kept.any()
        self.encoding.keep(kept)
        first.weight = nn.Parameter(first.weight[:, kept])
        first.in_features = int(kept.sum())

    def forward(self, X: Tensor) -> Tensor:
        """Logits of shape (n, n_outputs) for encoded columns of shape (n, n_columns)."""
        return self.output(self.hidden(self.encoding(X)))
