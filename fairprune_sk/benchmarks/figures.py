"""Figures of a benchmark: each function takes its results and returns a Figure.

Results are the tidy DataFrame of :mod:`fairprune_sk.benchmarks.statistics`. Intervals are 95% of
Student's t over seeds. A method has the same colour and marker in every figure. Figures stand
alone: ``figure.savefig("trade_off.pdf")`` writes one, and nothing has to be closed.

Needs the extra ``benchmark``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

try:
    import scikit_posthocs
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.ticker import (
        FixedLocator,
        FuncFormatter,
        MaxNLocator,
        NullFormatter,
        NullLocator,
        ScalarFormatter,
    )
except ImportError as error:
    raise ImportError(
        "fairprune_sk.benchmarks.figures needs matplotlib and scikit-posthocs: "
        "pip install fairprune_sk[benchmark]"
    ) from error

from fairprune_sk.benchmarks.statistics import (
    DATA_SET,
    VALUES,
    Interval,
    at_every_sparsity,
    at_tolerance,
    average_ranks,
    checked,
    iterations_to_reach,
    mean_interval,
    pareto_front,
    summarise,
)

LEVELS = ("both", "mask only", "weights only", "none")
"""Names of the methods of an ablation: the levels that the constraint holds at."""

# Okabe and Ito's colours without yellow, which is hard to see on white, four of Tol's, and brown.
_BLUE, _ORANGE, _GREEN, _SKY = "#0072B2", "#E69F00", "#009E73", "#56B4E9"
_RED, _PURPLE, _WINE, _OLIVE = "#D55E00", "#CC79A7", "#882255", "#999933"
_INDIGO, _BROWN, _GREY, _LIGHT = "#332288", "#6F4E37", "#555555", "#949494"
_COLOURS = (_BLUE, _ORANGE, _GREEN, _PURPLE, _RED, _SKY, _INDIGO, _OLIVE, _WINE, _BROWN, _GREY)
_MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "p", "h", "8")

_KNOWN = {
    "fairpruner": ("FairPruner", _BLUE, "o"),
    "magnitude": ("magnitude", _GREY, "s"),
    "lottery_ticket": ("lottery ticket", _ORANGE, "^"),
    "snip": ("SNIP", _GREEN, "v"),
    "grasp": ("GraSP", _SKY, "<"),
    "fpgm": ("FPGM", _OLIVE, ">"),
    "bip": ("BiP", _RED, "D"),
    "random": ("random", _LIGHT, "p"),
    "fairgrape": ("FairGRAPE", _PURPLE, "P"),
    "prune_then_fair": ("prune, then fair", _WINE, "X"),
    "fair_then_prune": ("fair, then prune", _INDIGO, "h"),
    "balancing_act": ("Balancing Act", _BROWN, "8"),
    "dense": ("dense", "black", "*"),
    "both": ("both", _BLUE, "o"),
    "mask only": ("mask only", _ORANGE, "^"),
    "weights only": ("weights only", _GREEN, "v"),
    "none": ("none", _GREY, "s"),
}

_FLOOR = "#BBBBBB"
_WIDTH, _HEIGHT = 4.2, 3.0  # inches of a panel


class Style(NamedTuple):
    """How a method looks."""

    label: str
    color: str
    marker: str


def _spelled_out(method: str) -> str:
    """Write ``threshold_optimizer(mlp)`` as "threshold optimizer (mlp)"."""
    return " ".join(method.replace("_", " ").replace("(", " (").split())


def styles(methods: Iterable[str]) -> dict[str, Style]:
    """Choose label, colour and marker of methods: the same ones in every figure.

    Parameters
    ----------
    methods : iterable of str

    Returns
    -------
    dict of Style
        No two look the same. A method that is not known gets a look by its name, never that of
        a known method nor the colour of FairPruner; where another of these methods has its
        colour, it gets the next one that is free, as long as there is one.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.figures import styles
    >>> styles(["fairpruner"])["fairpruner"]
    Style(label='FairPruner', color='#0072B2', marker='o')
    """
    methods = list(dict.fromkeys(methods))
    chosen = {m: Style(*_KNOWN[m]) for m in methods if m in _KNOWN}
    taken = {(color, marker) for _, color, marker in _KNOWN.values()}
    looks = [(c, m) for m in _MARKERS for c in _COLOURS[1:] if (c, m) not in taken]
    for method in sorted(set(methods) - set(chosen)):
        # A checksum, since Python's hash of a string differs from run to run.
        start = zlib.crc32(method.encode()) % len(looks)
        used = {(style.color, style.marker) for style in chosen.values()}
        free = [look for look in looks[start:] + looks[:start] if look not in used] or looks
        # Bands differ by colour alone, so that a colour of its own comes before a fixed one.
        colors = {style.color for style in chosen.values()}
        color, marker = next((look for look in free if look[0] not in colors), free[0])
        chosen[method] = Style(_spelled_out(method), color, marker)
    return {method: chosen[method] for method in methods}


# --- what the figures share ---


def _figure(n_rows: int, n_columns: int, **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """Make a figure that pyplot does not know, so that nobody has to close it."""
    size = (_WIDTH * n_columns, _HEIGHT * n_rows)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    axes = figure.subplots(n_rows, n_columns, squeeze=False, **kwargs)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="0.92", linewidth=0.8)
        ax.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Put the legend to the right, where it hides nothing."""
    unique = {handle.get_label(): handle for handle in handles}
    width = max(len(line) for label in unique for line in label.split("\n"))
    figure.set_figwidth(figure.get_figwidth() + 0.7 + 0.085 * width)
    figure.set_figheight(max(figure.get_figheight(), 0.5 + 0.23 * len(unique)))
    figure.legend(handles=list(unique.values()), loc="outside right upper", frameon=False)


def _title(data_set: Sequence[str]) -> str:
    table, sensitive, constraint = data_set
    return f"{table} by {sensitive}, {constraint.replace('_', ' ')}"


def _headline(figure: Figure, text: str, failed: pd.Series | None = None) -> None:
    """Write a line above all panels; say how many fits they lack."""
    n_failed = 0 if failed is None else int(failed.sum())
    if n_failed:
        text += f"\n({n_failed} failed fit{'s' * (n_failed > 1)} left out)"
    figure.suptitle(text, x=0.02, ha="left", fontsize="large")


def _one_data_set(results: pd.DataFrame, *chosen: str | None) -> pd.DataFrame:
    """Keep the rows of one data set; what is not chosen must be there only once."""
    frame = results
    for name, value in zip(DATA_SET, chosen, strict=True):
        found = frame[name].unique().tolist()
        if value is None and len(found) != 1:
            raise ValueError(f"Got {name}=None, but expected one of {found}.")
        if value is not None and value not in found:
            raise ValueError(f"Got {name}={value!r}, but expected one of {found}.")
        frame = frame if value is None else frame[frame[name] == value]
    return frame


def _chosen_methods(frame: pd.DataFrame, methods: Sequence[str] | None) -> list[str]:
    """Check the methods to draw; by default all, in order of appearance."""
    found = frame["method"].unique().tolist()
    if methods is None:
        return found
    for method in methods:
        if method not in found:
            raise ValueError(f"Got the method {method!r}, but expected one of {found}.")
    return list(methods)


def _needed(frame: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"Got {name} without {missing}, but expected columns {list(columns)}.")


# Student's interval of two seeds is thirteen standard errors wide: it would be all one sees.
_SEEDS_OF_AN_INTERVAL = 3


def _over_seeds(frame: pd.DataFrame, x: str, value: str) -> pd.DataFrame:
    """Mean and interval of a value at each x; rows without the value are left out."""
    groups = frame.dropna(subset=[value]).groupby(x)[value]
    rows = {
        at: mean_interval(values)
        if len(values) >= _SEEDS_OF_AN_INTERVAL
        else Interval(values.mean(), np.nan, np.nan)
        for at, values in groups
    }
    columns = ["mean", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)


def _band(ax: Axes, x: Any, low: Any, high: Any, color: str, alpha: float = 0.15) -> None:
    ax.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0)


def _errorbars(point: Any, name: str) -> list[list[float]] | None:
    """Distances from a mean to the ends of its interval; None for too few seeds."""
    low, high = point[f"{name}_low"], point[f"{name}_high"]
    if point["n_seeds"] < _SEEDS_OF_AN_INTERVAL:
        return None
    return [[point[name] - low], [high - point[name]]]


def _start_at_zero(ax: Axes, axis: str) -> None:
    """Let a gap's axis begin at 0: a fair network is what the eye should compare with."""
    (ax.set_xlim if axis == "x" else ax.set_ylim)(0, None)
    (ax.xaxis if axis == "x" else ax.yaxis).set_major_locator(MaxNLocator(5))


# --- methods against sparsity, and against each other ---


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
    frame = _one_data_set(frame, table, sensitive, constraint)
    frame = frame[frame["method"].isin(_chosen_methods(frame, methods))]
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
    figure, axes = _figure(1, 2, sharex=True)
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
            _band(ax, line["sparsity"], low, high, look[method].color, alpha)
    floor = means[means["method"].isin(names)].groupby("sparsity")["noise_floor"].median()
    handles.append(
        axes[0, 1].fill_between(
            floor.index, 0, floor, color=_FLOOR, alpha=0.5, linewidth=0, label="noise floor"
        )
    )
    _start_at_zero(axes[0, 1], "y")
    axes[0, 0].set_ylabel("accuracy (fraction)")
    axes[0, 1].set_ylabel("gap (fraction)")
    for ax in axes[0]:
        _sparsity_axis(ax, sorted(means["sparsity"].unique()))
    _headline(figure, _title(frame[DATA_SET].iloc[0]), frame["failed"])
    _legend(figure, handles)
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
    frame = frame[frame["method"].isin(_chosen_methods(frame, methods))]
    found = sorted(frame["sparsity"].unique().tolist())
    frame = frame[np.isclose(frame["sparsity"], sparsity)]
    if frame.empty:
        raise ValueError(f"Got sparsity={sparsity}, but expected one of {found}.")
    means = summarise(frame)
    names = list(frame["method"].unique())
    look = styles(names)
    data_sets = list(means.groupby(DATA_SET, sort=False))
    n_columns = min(n_columns, len(data_sets))
    figure, axes = _figure(-(-len(data_sets) // n_columns), n_columns)
    handles: dict[str, Any] = {}
    for ax, (data_set, part) in zip(axes.flat, data_sets, strict=False):
        for point in part.dropna(subset=["accuracy", "gap"]).to_dict("records"):
            style = look[point["method"]]
            main = point["method"] == front
            drawn = ax.errorbar(
                point["gap"],
                point["accuracy"],
                xerr=_errorbars(point, "gap"),
                yerr=_errorbars(point, "accuracy"),
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
            0, rows["noise_floor"].median(), color=_FLOOR, alpha=0.4, lw=0, label="noise floor"
        )
        _start_at_zero(ax, "x")
        ax.set_title(_title(data_set), fontsize="medium", loc="left")
        ax.set_xlabel("gap (fraction)")
        ax.set_ylabel("accuracy (fraction)")
    for ax in axes.flat[len(data_sets) :]:
        ax.remove()
    _headline(figure, f"Accuracy against gap at sparsity {sparsity:g}", frame["failed"])
    order = [name for name in (*names, "dense", "noise") if name in handles]
    _legend(figure, [handles[name] for name in dict.fromkeys(order)])
    return figure


def compare_variants(
    results: pd.DataFrame,
    table: str | None = None,
    sensitive: str | None = None,
    constraint: str | None = None,
    *,
    sparsity: float | None = None,
    methods: Sequence[str] | None = None,
    tolerance: float | None = None,
) -> Figure:
    """Draw accuracy and gap of each method as points with intervals, a row for each sparsity.

    For variants of one method: mask initialisations, larger networks, one batch or two.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap.
    table, sensitive, constraint : str, optional
        The data set. What is not given must be there only once.
    sparsity : float, optional
        By default all, a row of panels for each.
    methods : sequence of str, optional
        From top to bottom. By default all, in order of appearance.
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
    frame = _one_data_set(frame, table, sensitive, constraint)
    names = _chosen_methods(frame, methods)
    frame = at_tolerance(frame[frame["method"].isin(names)], tolerance)
    is_dense = frame.groupby("method")["sparsity"].max() == 0
    fits = frame
    frame = at_every_sparsity(frame)
    if not is_dense.all():
        frame = frame[~frame["method"].map(is_dense) | (frame["sparsity"] > 0)]
    found = sorted(frame["sparsity"].unique().tolist())
    rows = found if sparsity is None else [s for s in found if np.isclose(s, sparsity)]
    if not rows:
        raise ValueError(f"Got sparsity={sparsity}, but expected one of {found}.")
    means = summarise(frame)
    look = styles(names)
    figure, axes = _figure(len(rows), 2, sharex="col", sharey=True)
    figure.set_figheight(len(rows) * (0.9 + 0.28 * len(names)) + 0.6)
    handles: list[Any] = []
    for (accuracy, gap), at in zip(axes, rows, strict=True):
        here = means[means["sparsity"] == at].set_index("method").reindex(names)
        for ax, value in ((accuracy, "accuracy"), (gap, "gap")):
            for height, (method, point) in enumerate(here.iterrows()):
                ax.errorbar(
                    point[value],
                    height,
                    xerr=None if np.isnan(point[value]) else _errorbars(point, value),
                    fmt=look[method].marker,
                    color=look[method].color,
                    markersize=7,
                    elinewidth=1.6,
                    capsize=3,
                )
            dense = frame[f"dense_{value}"].mean()
            handles.append(ax.axvline(dense, color="black", ls="--", lw=1.2, label="dense"))
        floor = here["noise_floor"].median()
        handles.append(gap.axvspan(0, floor, color=_FLOOR, alpha=0.4, lw=0, label="noise floor"))
        accuracy.set_yticks(range(len(names)), [look[name].label for name in names])
        accuracy.set_ylim(len(names) - 0.5, -0.5)
        accuracy.set_title(f"sparsity {at:g}", fontsize="medium", loc="left")
    _start_at_zero(axes[0, 1], "x")
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(5))
    axes[-1, 0].set_xlabel("accuracy (fraction)")
    axes[-1, 1].set_xlabel("gap (fraction)")
    shown = fits["sparsity"].isin(rows) | fits["method"].map(is_dense)
    _headline(figure, _title(fits[DATA_SET].iloc[0]), fits.loc[shown, "failed"])
    _legend(figure, handles)
    return figure


def ablation(
    results: pd.DataFrame,
    table: str | None = None,
    sensitive: str | None = None,
    constraint: str | None = None,
    *,
    tolerance: float | None = None,
) -> Figure:
    """Draw what the constraint does at each level: :func:`compare_variants` of :data:`LEVELS`.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap, whose methods are "both", "mask only", "weights only" and
        "none".
    table, sensitive, constraint : str, optional
        The data set. What is not given must be there only once.
    tolerance : float, optional
        Needed if there are several.

    Returns
    -------
    Figure
    """
    return compare_variants(
        results, table, sensitive, constraint, methods=LEVELS, tolerance=tolerance
    )


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


# --- training, and what lies between solutions ---


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
    figure, axes = _figure(len(data_sets), 2, sharex="row")
    handles: list[Any] = []
    for row, (data_set, part) in zip(axes, data_sets, strict=True):
        here = reached[(reached[DATA_SET] == list(data_set)).all(axis=1)]
        for ax, value in zip(row, ("accuracy", "gap"), strict=True):
            for method, fits in part.groupby("method", sort=False):
                style, line = look[method], _over_seeds(fits, "n_iter", value)
                handles += ax.plot(
                    line.index,
                    line["mean"],
                    color=style.color,
                    marker=style.marker,
                    markersize=5,
                    label=style.label,
                )
                _band(ax, line.index, line["low"], line["high"], style.color)
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
        _start_at_zero(row[1], "y")
        row[0].set_title(_title(data_set), fontsize="medium", loc="left")
    ring = Line2D([], [], color="0.3", marker="o", markersize=11, markerfacecolor="none", ls="")
    ring.set_label("first to reach\nboth targets")
    handles.append(ring)
    _legend(figure, handles)
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
    _needed(curves, "curves", ["table", "pair", "seed", "position", "loss", "gap"])
    tables = list(curves.groupby("table", sort=False))
    pairs = list(curves["pair"].unique())
    labels = {"loss": "log-loss (nats)", "gap": "gap (fraction)"}
    figure, axes = _figure(len(tables), 2, sharex=True)
    handles: list[Any] = []
    for row, (table, part) in zip(axes, tables, strict=True):
        for ax, (value, label) in zip(row, labels.items(), strict=True):
            for i, pair in enumerate(pairs):
                line = _over_seeds(part[part["pair"] == pair], "position", value)
                color = _COLOURS[i % len(_COLOURS)]
                handles += ax.plot(line.index, line["mean"], color=color, label=pair)
                _band(ax, line.index, line["low"], line["high"], color)
            ax.set_ylabel(label)
        _start_at_zero(row[1], "y")
        row[0].set_title(str(table), fontsize="medium", loc="left")
    for ax in axes[-1]:
        ax.set_xlabel("position on the line (0 to 1)")
    _legend(figure, handles)
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
        "train_loss": ("training loss\n(nats)", _BLUE),
        "running_gap": ("running gap\n(fraction)", _RED),
        "max_multiplier": ("largest\nmultiplier", _PURPLE),
        "sparsity": ("sparsity\n(fraction)", _GREY),
        "mask_change": ("change of the\nmask (fraction)", _GREEN),
    }
    if "seed" not in history:
        history = history.assign(seed=0)
    _needed(history, "history", ["epoch", *panels])
    figure, axes = _figure(len(panels), 1, sharex=True)
    figure.set_size_inches(6, 1.5 * len(panels))
    for ax, (column, (label, color)) in zip(axes[:, 0], panels.items(), strict=True):
        seeds = history.dropna(subset=[column]).groupby("epoch")[column]
        mean = seeds.mean()
        ax.plot(mean.index, mean, color=color)
        _band(ax, mean.index, seeds.min(), seeds.max(), color)
        ax.set_ylabel(label)
        if column != "train_loss":
            _start_at_zero(ax, "y")
    axes[-1, 0].set_xlabel("epoch")
    n_seeds = history["seed"].nunique()
    _headline(figure, f"Mean and range of {n_seeds} seed{'s' * (n_seeds != 1)}")
    figure.align_ylabels()
    return figure
