"""What happens during runs, and between their ends."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    NullFormatter,
    ScalarFormatter,
)

from fairprune_sk.benchmarks.figures.looks import styles
from fairprune_sk.benchmarks.figures.panels import (
    add_headline,
    add_legend,
    check_columns,
    draw_band,
    new_figure,
    over_seeds,
    title_of,
)
from fairprune_sk.benchmarks.statistics import (
    DATA_SET,
    iterations_to_reach,
)
from fairprune_sk.displays.looks import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    PURPLE,
    RED,
    start_at_zero,
)


def iterations(
    convergence: pd.DataFrame,
    target_accuracy: float | None = None,
    target_gap: float | None = None,
) -> Figure:
    """Draw accuracy and gap against the budget, and mark the first that reaches both targets.

    Parameters
    ----------
    convergence : DataFrame
        One row for each fit: ``table``, ``sensitive``, ``constraint``, ``method``, ``n_iter``
        (the budget, in steps of the optimizer), ``seed``, ``accuracy``, ``gap``.
    target_accuracy, target_gap : float, optional
        By default the columns of that name.

    Returns
    -------
    Figure
        A row for each data set. A ring is around the smallest budget of a method that is, on
        average over seeds, as accurate and as fair as the dashed lines.

    Raises
    ------
    ValueError
        If a column or a target is missing.
    """
    reached = iterations_to_reach(convergence, target_accuracy, target_gap)
    data_sets = list(convergence.groupby(DATA_SET, sort=False))
    look = styles(convergence["method"])
    figure, axes = new_figure(len(data_sets), 2, sharex="row")
    handles: list[Any] = []
    for row, (data_set, part) in zip(axes, data_sets, strict=True):
        here = reached[(reached[DATA_SET] == list(data_set)).all(axis=1)]
        for ax, value in zip(row, ("accuracy", "gap"), strict=True):
            for method, fits in part.groupby("method", sort=False):
                style, line = look[method], over_seeds(fits, "n_iter", value)
                handles += ax.plot(
                    line.index,
                    line["mean"],
                    color=style.color,
                    marker=style.marker,
                    markersize=5,
                    label=style.label,
                )
                draw_band(ax, line.index, line["low"], line["high"], style.color)
                first = here[here["method"] == method].iloc[0]
                ax.plot(
                    first["n_iter"],
                    first[value],
                    marker="o",
                    markersize=13,
                    markerfacecolor="none",
                    markeredgecolor=style.color,
                    markeredgewidth=1.8,
                )
            target = here[f"target_{value}"].iloc[0]
            handles.append(ax.axhline(target, color="black", ls="--", lw=1.2, label="target"))
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel("iterations (steps of the optimizer)")
        row[0].set_ylabel("accuracy (fraction)")
        row[1].set_ylabel("gap (fraction)")
        start_at_zero(row[1], "y")
        row[0].set_title(title_of(data_set), fontsize="medium", loc="left")
    ring = Line2D([], [], color="0.3", marker="o", markersize=11, markerfacecolor="none", ls="")
    ring.set_label("first to reach\nboth targets")
    handles.append(ring)
    add_legend(figure, handles)
    return figure


def along_the_line(curves: pd.DataFrame) -> Figure:
    """Draw loss and gap along the straight line between two networks.

    Parameters
    ----------
    curves : DataFrame
        One row for each point: ``position`` on the line (0 to 1), ``loss``, ``gap``, as
        :func:`~fairprune_sk.benchmarks.landscape.along_the_line` gives them; and ``table``,
        ``pair`` (the two ends) and ``seed``, where there are several.

    Returns
    -------
    Figure
        A row for each table; means over seeds with bands.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    one = {"table": "", "pair": "first to second", "seed": 0}
    curves = curves.assign(**{k: v for k, v in one.items() if k not in curves})
    check_columns(curves, "curves", ["table", "pair", "seed", "position", "loss", "gap"])
    tables = list(curves.groupby("table", sort=False))
    pairs = list(curves["pair"].unique())
    labels = {"loss": "log-loss (nats)", "gap": "gap (fraction)"}
    figure, axes = new_figure(len(tables), 2, sharex=True)
    handles: list[Any] = []
    for row, (table, part) in zip(axes, tables, strict=True):
        for ax, (value, label) in zip(row, labels.items(), strict=True):
            for i, pair in enumerate(pairs):
                line = over_seeds(part[part["pair"] == pair], "position", value)
                color = COLOURS[i % len(COLOURS)]
                handles += ax.plot(line.index, line["mean"], color=color, label=pair)
                draw_band(ax, line.index, line["low"], line["high"], color)
            ax.set_ylabel(label)
        start_at_zero(row[1], "y")
        row[0].set_title(str(table), fontsize="medium", loc="left")
    for ax in axes[-1]:
        ax.set_xlabel("position on the line (0 to 1)")
    add_legend(figure, handles)
    return figure


def convergence(history: pd.DataFrame) -> Figure:
    """Draw how training went: mean over seeds, and the range from lowest to highest.

    Parameters
    ----------
    history : DataFrame
        One row for each seed and epoch: ``epoch``, ``train_loss``, ``running_gap``,
        ``max_multiplier``, ``mask_change`` (fraction of the mask), ``sparsity``, as in
        ``pd.DataFrame(pruner.history_)``; and ``seed``, where there are several.

    Returns
    -------
    Figure
        Five panels, one below the other.

    Raises
    ------
    ValueError
        If a column is missing.
    """
    panels = {
        "train_loss": ("training loss\n(nats)", BLUE),
        "running_gap": ("running gap\n(fraction)", RED),
        "max_multiplier": ("largest\nmultiplier", PURPLE),
        "sparsity": ("sparsity\n(fraction)", GREY),
        "mask_change": ("change of the\nmask (fraction)", GREEN),
    }
    if "seed" not in history:
        history = history.assign(seed=0)
    check_columns(history, "history", ["epoch", *panels])
    figure, axes = new_figure(len(panels), 1, sharex=True)
    figure.set_size_inches(6, 1.5 * len(panels))
    for ax, (column, (label, color)) in zip(axes[:, 0], panels.items(), strict=True):
        seeds = history.dropna(subset=[column]).groupby("epoch")[column]
        mean = seeds.mean()
        ax.plot(mean.index, mean, color=color)
        draw_band(ax, mean.index, seeds.min(), seeds.max(), color)
        ax.set_ylabel(label)
        if column != "train_loss":
            start_at_zero(ax, "y")
    axes[-1, 0].set_xlabel("epoch")
    n_seeds = history["seed"].nunique()
    add_headline(figure, f"Mean and range of {n_seeds} seed{'s' * (n_seeds != 1)}")
    figure.align_ylabels()
    return figure
