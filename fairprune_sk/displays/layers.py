"""What pruning took: from each layer, and from each column of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from fairprune_sk.displays.history import fitted_pruner
from fairprune_sk.displays.looks import BLUE, GREY, LIGHT, name_rows, new_axes
from fairprune_sk.networks.calls import plain


class RemovedByLayerDisplay:
    """What was removed from each layer.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    layers : DataFrame
        One row for each weight matrix, from the input on: ``kept`` and ``removed``, numbers of
        weights.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import pandas as pd
    >>> from fairprune_sk.displays import RemovedByLayerDisplay
    >>> layers = pd.DataFrame({"kept": [30, 8], "removed": [270, 2]}, index=["first", "output"])
    >>> display = RemovedByLayerDisplay(layers).plot()  # from_estimator(pruner) counts by itself
    >>> display.ax_.texts[0].get_text()
    '270 of 300 removed'
    """

    def __init__(self, layers: pd.DataFrame):
        self.layers = layers

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> RemovedByLayerDisplay:
        """Draw what was removed in a fitted FairPruner, or in one in a pipeline or search.

        Parameters
        ----------
        estimator : fitted FairPruner, Pipeline or search
        ax : Axes, optional

        Returns
        -------
        RemovedByLayerDisplay
        """
        model = fitted_pruner(estimator)
        if not hasattr(model, "masks_"):
            model._fitted.check_whole("RemovedByLayerDisplay")
        masks = model.masks_
        kept = {name: int(mask.sum()) for name, mask in masks.items()}
        layers = pd.DataFrame({"kept": kept})
        layers["removed"] = [mask.numel() - kept[name] for name, mask in masks.items()]
        return cls(layers).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> RemovedByLayerDisplay:
        """Draw a bar for each layer: what is left, of all.

        Parameters
        ----------
        ax : Axes, optional

        Returns
        -------
        RemovedByLayerDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        [ax] = new_axes(type(self).__name__, ax, 1, 6.2, 1.4 + 0.42 * len(self.layers))
        total = self.layers.sum(axis=1)
        share = self.layers["kept"] / total
        remarks = [
            f"{removed:,} of {n:,} removed"
            for removed, n in zip(self.layers["removed"], total, strict=True)
        ]
        draw_shares(ax, share.to_numpy(), self.layers.index.tolist(), remarks)
        overall = self.layers["kept"].sum() / total.sum()
        ax.axvline(overall, color="black", linestyle=":", label=f"all layers {overall:.1%}")
        ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 0.02))
        ax.set_xlabel("share of the weights that is left")
        self.ax_, self.figure_ = ax, ax.figure
        return self


class ColumnsDisplay:
    """Which columns of the table the pruned network reads.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    columns : DataFrame
        One row for each column of the table: ``read``, whether the network reads it; for the
        default network also ``kept`` and ``weights``, of the first layer's weights for it.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure

    Notes
    -----
    How many weights read a column is no measure of how much predictions depend on it, and a
    sensitive column that is not read may be known through others.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import pandas as pd
    >>> from fairprune_sk.displays import ColumnsDisplay
    >>> columns = pd.DataFrame({"read": [True, False]}, index=["income", "age"])
    >>> display = ColumnsDisplay(columns).plot()  # from_estimator(pruner) finds out by itself
    >>> display.ax_.get_title(loc="left")
    '1 of 2 columns are read'
    """

    def __init__(self, columns: pd.DataFrame):
        self.columns = columns

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> ColumnsDisplay:
        """Draw the columns of a fitted FairPruner, or of one in a pipeline or search.

        Parameters
        ----------
        estimator : fitted FairPruner, Pipeline or search
            Of a table: of images and other inputs there are no columns.
        ax : Axes, optional

        Returns
        -------
        ColumnsDisplay

        Raises
        ------
        ValueError
            If the network reads no table of columns.
        """
        model = fitted_pruner(estimator)
        read = model.get_support()
        names = getattr(model, "feature_names_in_", [f"column {i}" for i in range(len(read))])
        columns = pd.DataFrame({"read": read}, index=pd.Index(names))
        # Saved with slim=True it has none: then no weights are counted.
        dense = getattr(model, "dense_estimator_", None)
        module = None if dense is None else plain(dense.module_)
        encoding = getattr(module, "encoding", None)
        if module is not None and encoding is not None and model.encoder_ is not None:
            first = next(n for n, layer in module.named_modules() if isinstance(layer, nn.Linear))
            mask = model.masks_[f"{first}.weight"]
            of = model.encoder_.source_[encoding.columns.cpu().numpy()]
            kept = np.bincount(of, mask.sum(dim=0).numpy(), minlength=len(read))
            columns["kept"] = kept.astype(int)
            columns["weights"] = np.bincount(of, minlength=len(read)) * mask.shape[0]
        return cls(columns).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> ColumnsDisplay:
        """Draw a bar for each column.

        Parameters
        ----------
        ax : Axes, optional

        Returns
        -------
        ColumnsDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        columns = self.columns
        [ax] = new_axes(type(self).__name__, ax, 1, 6.2, 1.2 + 0.32 * len(columns))
        said = np.where(columns["read"], "read", "not read")
        if "kept" in columns:
            share = (columns["kept"] / columns["weights"].clip(lower=1)).to_numpy()
            counts = zip(said, columns["kept"], columns["weights"], strict=True)
            remarks = [
                f"{kept:,} of {n:,} left" if word == "read" else word for word, kept, n in counts
            ]
            ax.set_xlabel("share of the first layer's weights for it that is left")
        else:
            share, remarks = columns["read"].to_numpy(float), said.tolist()
            ax.set_xticks([])
        draw_shares(ax, share, list(map(str, columns.index)), remarks)
        n_read = int(columns["read"].sum())
        ax.set_title(f"{n_read} of {len(columns)} columns are read", fontsize="medium", loc="left")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def draw_shares(ax: Any, share: np.ndarray, names: list[str], remarks: list[str]) -> None:
    """Draw what is left of each thing as a bar, with a remark at its right.

    The scale ends a little above the largest share: most shares are small.
    """
    at, end = np.arange(len(share)), min(1.0, 1.15 * max(float(share.max()), 0.02))
    ax.barh(at, np.full(len(share), end), color=LIGHT, alpha=0.25, height=0.62)
    ax.barh(at, share, color=BLUE, height=0.62)
    for y, remark in enumerate(remarks):
        ax.text(1.02, y, remark, transform=ax.get_yaxis_transform(), va="center", fontsize="small",
                color=GREY if remark != "not read" else "black")  # fmt: skip
    ax.set_xlim(0, end)
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    name_rows(ax, names)
