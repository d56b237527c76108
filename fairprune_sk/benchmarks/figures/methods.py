"""Methods against sparsity, and against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
)

from fairprune_sk.benchmarks.figures.looks import styles
from fairprune_sk.benchmarks.figures.panels import (
    add_headline,
    add_legend,
    chosen_methods,
    draw_band,
    errorbars,
    new_figure,
    one_data_set,
    title_of,
)
from fairprune_sk.benchmarks.statistics import (
    DATA_SET,
    VALUES,
    at_every_sparsity,
    at_tolerance,
    average_ranks,
    checked,
    pareto_front,
    summarise,
)
from fairprune_sk.displays.looks import FLOOR, start_at_zero


def against_sparsity(
    results: pd.DataFrame,
    table: str | None = None,
    sensitive: str | None = None,
    constraint: str | None = None,
    *,
    methods: Sequence[str] | None = None,
    tolerance: float | None = None,
) -> Figure:
    """Draw accuracy and gap against sparsity, with bands over seeds.

    Dashed lines are dense: the network before pruning, and methods that do not prune. The grey
    area of the gap is noise: the mean gap that fair networks would show.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap.
    table, sensitive, constraint : str, optional
        The data set. What is not given must be there only once.
    methods : sequence of str, optional
        By default all.
    tolerance : float, optional
        Needed if a method was fitted at several.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a name is unknown, or the data set or tolerance is not clear.
    """
    frame = checked(results, ["noise_floor", "dense_accuracy", "dense_gap"])
    frame = one_data_set(frame, table, sensitive, constraint)
    frame = frame[frame["method"].isin(chosen_methods(frame, methods))]
    frame = at_tolerance(frame, tolerance)
    is_dense = frame.groupby("method")["sparsity"].max() == 0
    means = summarise(at_every_sparsity(frame))
    # Pruned or not, what is at sparsity 0 is drawn as a dashed line where there are others.
    if not is_dense.all():
        means = means[~means["method"].map(is_dense) | (means["sparsity"] > 0)]
    names = [m for m in frame["method"].unique() if m != "dense"]
    look = styles(names)
    # Many bands over each other would hide the lines: those of the others are fainter then.
    faint = min(0.15, 0.4 / len(names))
    figure, axes = new_figure(1, 2, sharex=True)
    handles: list[Any] = []
    for ax, value in zip(axes[0], ("accuracy", "gap"), strict=True):
        for method in names:
            line, style = means[means["method"] == method], look[method]
            handles += ax.plot(
                line["sparsity"],
                line[value],
                color=style.color,
                label=style.label,
                marker=style.marker,
                linestyle="--" if is_dense[method] else "-",
                linewidth=2.4 if method == "fairpruner" else 1.4,
                markersize=5,
                zorder=3 if method == "fairpruner" else 2,
            )
        dense = frame[f"dense_{value}"].mean()
        handles.append(ax.axhline(dense, color="black", linestyle="--", lw=1.2, label="dense"))
        # The axis is that of the means: one method that fails at some seeds has a band that would
        # press all others together.
        ax.set_ylim(ax.get_ylim())
        for method in names:
            line = means[means["method"] == method]
            low, high = line[f"{value}_low"], line[f"{value}_high"]
            alpha = 0.15 if method == "fairpruner" else faint
            draw_band(ax, line["sparsity"], low, high, look[method].color, alpha)
    floor = means[means["method"].isin(names)].groupby("sparsity")["noise_floor"].median()
    handles.append(
        axes[0, 1].fill_between(
            floor.index, 0, floor, color=FLOOR, alpha=0.5, linewidth=0, label="noise floor"
        )
    )
    start_at_zero(axes[0, 1], "y")
    axes[0, 0].set_ylabel("accuracy (fraction)")
    axes[0, 1].set_ylabel("gap (fraction)")
    for ax in axes[0]:
        _sparsity_axis(ax, sorted(means["sparsity"].unique()))
    add_headline(figure, title_of(frame[DATA_SET].iloc[0]), frame["failed"])
    add_legend(figure, handles)
    return figure


def _sparsity_axis(ax: Axes, sparsities: list[float]) -> None:
    """Give each halving of the density the same width: the last weights are what matters."""
    densest = 1e-6  # of a margin that would go beyond a sparsity of 1

    def halvings(sparsity: Any) -> Any:
        return -np.log2(np.maximum(1 - np.asarray(sparsity), densest))

    def back(n: Any) -> Any:
        return 1 - np.exp2(-np.asarray(n))

    place = halvings(sparsities)
    if len(sparsities) > 1:
        ax.set_xscale("function", functions=(halvings, back))
        margin = 0.04 * (place[-1] - place[0])
        ax.set_xlim(back(place[0] - margin), back(place[-1] + margin))
    apart = 0.1 * (place[-1] - place[0])  # of the axis, the width of a label
    shown = [sparsities[-1]]
    for s in sparsities[-2::-1]:
        if halvings(shown[-1]) - halvings(s) >= apart:
            shown.append(s)
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{s:.3g}" if s > 0.99 else f"{s:.2g}"))
    ax.set_xlabel("sparsity (fraction of weights removed)")


def trade_off(
    results: pd.DataFrame,
    sparsity: float = 0.9,
    *,
    front: str = "fairpruner",
    methods: Sequence[str] | None = None,
    n_columns: int = 3,
) -> Figure:
    """Draw accuracy against gap, one panel for each data set.

    The line joins the points of one method's tolerances that no other of them beats. Left of the
    grey area's edge, the median noise floor of the methods, gaps are what fair networks would show.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap.
    sparsity : float
        Dense methods take part at each.
    front : str
        The method whose tolerances are joined.
    methods : sequence of str, optional
        By default all.
    n_columns : int
        Panels side by side.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a method or the sparsity is unknown.
    """
    frame = at_every_sparsity(checked(results, ["noise_floor", "dense_accuracy", "dense_gap"]))
    frame = frame[frame["method"].isin(chosen_methods(frame, methods))]
    found = sorted(frame["sparsity"].unique().tolist())
    frame = frame[np.isclose(frame["sparsity"], sparsity)]
    if frame.empty:
        raise ValueError(f"Got sparsity={sparsity}, but expected one of {found}.")
    means = summarise(frame)
    names = list(frame["method"].unique())
    look = styles(names)
    data_sets = list(means.groupby(DATA_SET, sort=False))
    n_columns = min(n_columns, len(data_sets))
    figure, axes = new_figure(-(-len(data_sets) // n_columns), n_columns)
    handles: dict[str, Any] = {}
    for ax, (data_set, part) in zip(axes.flat, data_sets, strict=False):
        for point in part.dropna(subset=["accuracy", "gap"]).to_dict("records"):
            style = look[point["method"]]
            main = point["method"] == front
            drawn = ax.errorbar(
                point["gap"],
                point["accuracy"],
                xerr=errorbars(point, "gap"),
                yerr=errorbars(point, "accuracy"),
                fmt=style.marker,
                color=style.color,
                ecolor=(style.color, 0.4),
                elinewidth=1,
                markersize=7 if main else 6,
                zorder=4 if main else 3,
                label=style.label,
            )
            handles.setdefault(point["method"], drawn)
        line = pareto_front(part[part["method"] == front])
        if len(line) > 1:
            ax.plot(line["gap"], line["accuracy"], color=look[front].color, lw=2, zorder=2)
        rows = frame[(frame[DATA_SET] == list(data_set)).all(axis=1)]
        if "dense" not in names:
            handles["dense"] = ax.scatter(
                rows["dense_gap"].mean(),
                rows["dense_accuracy"].mean(),
                marker="*",
                s=90,
                color="black",
                label="dense",
                zorder=4,
            )
        handles["noise"] = ax.axvspan(
            0, rows["noise_floor"].median(), color=FLOOR, alpha=0.4, lw=0, label="noise floor"
        )
        start_at_zero(ax, "x")
        ax.set_title(title_of(data_set), fontsize="medium", loc="left")
        ax.set_xlabel("gap (fraction)")
        ax.set_ylabel("accuracy (fraction)")
    for ax in axes.flat[len(data_sets) :]:
        ax.remove()
    add_headline(figure, f"Accuracy against gap at sparsity {sparsity:g}", frame["failed"])
    order = [name for name in (*names, "dense", "noise") if name in handles]
    add_legend(figure, [handles[name] for name in dict.fromkeys(order)])
    return figure


def critical_difference(
    results: pd.DataFrame,
    value: str = "hypervolume",
    *,
    sparsity: float = 0.9,
    methods: Sequence[str] | None = None,
    tolerance: float | None = None,
    posthoc: str = "nemenyi",
    alpha: float = 0.05,
) -> Figure:
    """Draw average ranks over data sets, with a bar over methods that do not differ.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap.
    value : {"hypervolume", "gap", "accuracy"}
    sparsity : float
        Dense methods take part at each.
    methods : sequence of str, optional
        By default all, and at least three.
    tolerance : float, optional
        Needed for gap and accuracy of methods that were fitted at several.
    posthoc : {"nemenyi", "wilcoxon"}
    alpha : float
        Level of the tests.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        As :func:`~fairprune_sk.benchmarks.statistics.average_ranks` does.
    """
    found = average_ranks(
        results,
        value,
        sparsity=sparsity,
        methods=methods,
        tolerance=tolerance,
        posthoc=posthoc,
        alpha=alpha,
    )
    look = styles(sorted(found.ranks.index))
    labels = {name: look[name].label for name in found.ranks.index}
    ranks = found.ranks.rename(labels)
    pairs = found.posthoc.rename(index=labels, columns=labels)
    figure = Figure(figsize=(8, 1.8 + 0.24 * len(ranks)), layout="constrained")
    ax = figure.subplots()
    scikit_posthocs.critical_difference_diagram(
        ranks,
        pairs,
        ax=ax,
        alpha=alpha,
        label_fmt_left="{label} ({rank:.2f}) ",
        label_fmt_right=" ({rank:.2f}) {label}",
        color_palette={label: look[name].color for name, label in labels.items()},
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    better = "largest" if VALUES[value] else "smallest"
    critical = found.critical_difference
    test = "Wilcoxon-Holm" if np.isnan(critical) else f"Nemenyi, critical difference {critical:.2f}"
    figure.suptitle(
        f"Average rank over {len(found.scores)} data sets at sparsity {sparsity:g}, 1 = {better} "
        f"{value}\nFriedman p = {found.p_value:.2g}; bars join what does not differ at "
        f"{alpha:g} ({test})",
        fontsize="medium",
    )
    return figure
