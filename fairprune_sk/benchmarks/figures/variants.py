"""Variants of one method beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import (
    MaxNLocator,
)

from fairprune_sk.benchmarks.figures.looks import styles
from fairprune_sk.benchmarks.figures.panels import (
    add_headline,
    add_legend,
    chosen_methods,
    errorbars,
    new_figure,
    one_data_set,
    title_of,
)
from fairprune_sk.benchmarks.statistics import (
    DATA_SET,
    at_every_sparsity,
    at_tolerance,
    checked,
    summarise,
)
from fairprune_sk.displays.looks import FLOOR, start_at_zero

LEVELS = ("both", "mask only", "weights only", "none")
"""Names of the methods of an ablation: the levels that the constraint holds at."""


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
    frame = one_data_set(frame, table, sensitive, constraint)
    names = chosen_methods(frame, methods)
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
    figure, axes = new_figure(len(rows), 2, sharex="col", sharey=True)
    figure.set_figheight(len(rows) * (0.9 + 0.28 * len(names)) + 0.6)
    handles: list[Any] = []
    for (accuracy, gap), at in zip(axes, rows, strict=True):
        here = means[means["sparsity"] == at].set_index("method").reindex(names)
        for ax, value in ((accuracy, "accuracy"), (gap, "gap")):
            for height, (method, point) in enumerate(here.iterrows()):
                ax.errorbar(
                    point[value],
                    height,
                    xerr=None if np.isnan(point[value]) else errorbars(point, value),
                    fmt=look[method].marker,
                    color=look[method].color,
                    markersize=7,
                    elinewidth=1.6,
                    capsize=3,
                )
            dense = frame[f"dense_{value}"].mean()
            handles.append(ax.axvline(dense, color="black", ls="--", lw=1.2, label="dense"))
        floor = here["noise_floor"].median()
        handles.append(gap.axvspan(0, floor, color=FLOOR, alpha=0.4, lw=0, label="noise floor"))
        accuracy.set_yticks(range(len(names)), [look[name].label for name in names])
        accuracy.set_ylim(len(names) - 0.5, -0.5)
        accuracy.set_title(f"sparsity {at:g}", fontsize="medium", loc="left")
    start_at_zero(axes[0, 1], "x")
    axes[0, 0].xaxis.set_major_locator(MaxNLocator(5))
    axes[-1, 0].set_xlabel("accuracy (fraction)")
    axes[-1, 1].set_xlabel("gap (fraction)")
    shown = fits["sparsity"].isin(rows) | fits["method"].map(is_dense)
    add_headline(figure, title_of(fits[DATA_SET].iloc[0]), fits.loc[shown, "failed"])
    add_legend(figure, handles)
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
