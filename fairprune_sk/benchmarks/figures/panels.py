"""What the figures share: panels, legends, intervals, and checks of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from fairprune_sk.benchmarks.statistics import (
    DATA_SET,
    Interval,
    mean_interval,
)
from fairprune_sk.displays.looks import tidy

WIDTH, HEIGHT = 4.2, 3.0  # inches of a panel


def new_figure(n_rows: int, n_columns: int, **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """Make a figure that pyplot does not know, so that nobody has to close it."""
    size = (WIDTH * n_columns, HEIGHT * n_rows)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.06))
    axes = figure.subplots(n_rows, n_columns, squeeze=False, **kwargs)
    for ax in axes.flat:
        tidy(ax)
    return figure, axes


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """Put the legend to the right, where it hides nothing."""
    unique = {handle.get_label(): handle for handle in handles}
    width = max(len(line) for label in unique for line in label.split("\n"))
    figure.set_figwidth(figure.get_figwidth() + 0.7 + 0.085 * width)
    figure.set_figheight(max(figure.get_figheight(), 0.5 + 0.23 * len(unique)))
    figure.legend(handles=list(unique.values()), loc="outside right upper", frameon=False)


def title_of(data_set: Sequence[str]) -> str:
    """Name a data set in words."""
    table, sensitive, constraint = data_set
    return f"{table} by {sensitive}, {constraint.replace('_', ' ')}"


def add_headline(figure: Figure, text: str, failed: pd.Series | None = None) -> None:
    """Write a line above all panels; say how many fits they lack."""
    n_failed = 0 if failed is None else int(failed.sum())
    if n_failed:
        text += f"\n({n_failed} failed fit{'s' * (n_failed > 1)} left out)"
    figure.suptitle(text, x=0.02, ha="left", fontsize="large")


def one_data_set(results: pd.DataFrame, *chosen: str | None) -> pd.DataFrame:
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


def chosen_methods(frame: pd.DataFrame, methods: Sequence[str] | None) -> list[str]:
    """Check the methods to draw; by default all, in order of appearance."""
    found = frame["method"].unique().tolist()
    if methods is None:
        return found
    for method in methods:
        if method not in found:
            raise ValueError(f"Got the method {method!r}, but expected one of {found}.")
    return list(methods)


def check_columns(frame: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    """Check that what is drawn is there."""
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"Got {name} without {missing}, but expected columns {list(columns)}.")


# Student's interval of two seeds is thirteen standard errors wide: it would be all one sees.
SEEDS_OF_AN_INTERVAL = 3


def over_seeds(frame: pd.DataFrame, x: str, value: str) -> pd.DataFrame:
    """Mean and interval of a value at each x; rows without the value are left out."""
    groups = frame.dropna(subset=[value]).groupby(x)[value]
    rows = {
        at: mean_interval(values)
        if len(values) >= SEEDS_OF_AN_INTERVAL
        else Interval(values.mean(), np.nan, np.nan)
        for at, values in groups
    }
    columns = ["mean", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)


def draw_band(ax: Axes, x: Any, low: Any, high: Any, color: str, alpha: float = 0.15) -> None:
    """Draw an interval around a line."""
    ax.fill_between(x, low, high, color=color, alpha=alpha, linewidth=0)


def errorbars(point: Any, name: str) -> list[list[float]] | None:
    """Distances from a mean to the ends of its interval; None for too few seeds."""
    low, high = point[f"{name}_low"], point[f"{name}_high"]
    if point["n_seeds"] < SEEDS_OF_AN_INTERVAL:
        return None
    return [[point[name] - low], [high - point[name]]]
