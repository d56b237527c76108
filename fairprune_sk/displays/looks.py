"""What pictures share: colours, axes, and the message where matplotlib is missing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

# Okabe and Ito's colours without yellow, which is hard to see on white, four of Tol's, and brown.
BLUE, ORANGE, GREEN, SKY = "#0072B2", "#E69F00", "#009E73", "#56B4E9"

RED, PURPLE, WINE, OLIVE = "#D55E00", "#CC79A7", "#882255", "#999933"

INDIGO, BROWN, GREY, LIGHT = "#332288", "#6F4E37", "#555555", "#949494"

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, INDIGO, OLIVE, WINE, BROWN, GREY)

MARKERS = ("o", "s", "^", "v", "D", "P", "X", "<", ">", "p", "h", "8")

FLOOR = "#BBBBBB"

NETWORKS = {
    "dense": ("dense network", RED, "white"),
    "pruned": ("pruned network", BLUE, BLUE),
    "value": ("classifier", BLUE, BLUE),
}
"""For each network its name, its colour, and that of the inside of its marks."""

_NAME_WIDTH = 30  # characters of a line of a group's name


def pyplot(display: str) -> Any:
    """Import matplotlib, for a display that is named if it is not there.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{display} draws with matplotlib: pip install fairprune_sk[plot]"
        ) from error
    return plt


def new_axes(
    display: str, ax: Any, n: int, width: float, height: float, n_columns: int | None = None
) -> np.ndarray:
    """Make axes for the panels of a display.

    Parameters
    ----------
    display : str
        Its name, for errors.
    ax : None, Axes, or array of Axes
        Where to draw: in a figure of its own; in the place of one Axes, which several panels
        share; or in one Axes for each panel.
    n : int
        Panels.
    width, height : float
        Inches of one, in a figure of its own.
    n_columns : int, optional
        Panels beside each other, in a figure of its own; by default all.

    Returns
    -------
    ndarray of Axes, shape (n,)

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If the number of axes is not that of the panels.
    """
    plt = pyplot(display)
    if ax is None:
        n_columns = min(n, n_columns or n)
        n_rows = -(-n // n_columns)
        figure = plt.figure(figsize=(width * n_columns, height * n_rows), layout="constrained")
        axes = np.array(
            [figure.add_subplot(n_rows, n_columns, i + 1) for i in range(n)], dtype=object
        )
    elif isinstance(ax, np.ndarray | list | tuple):
        axes = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n:
            raise ValueError(f"Got {len(axes)} axes, but expected one for each of {n} panels.")
    elif n == 1:
        axes = np.array([ax], dtype=object)
    else:  # as scikit-learn's PartialDependenceDisplay does
        ax.set_axis_off()
        grid = ax.get_subplotspec().subgridspec(1, n)
        axes = np.array([ax.figure.add_subplot(cell) for cell in grid], dtype=object)
    for one in axes:
        tidy(one)
    return axes


def tidy(ax: Any) -> None:
    """Leave out of axes what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(True, color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)


def start_at_zero(ax: Any, axis: str) -> None:
    """Let a gap's axis begin at 0: a fair network is what the eye should compare with."""
    (ax.set_xlim if axis == "x" else ax.set_ylim)(0, None)
    ax.locator_params(axis=axis, nbins=5)


def in_lines(name: str) -> str:
    """Break a long name into lines."""
    return "\n".join(textwrap.wrap(name, _NAME_WIDTH)) or name


def name_rows(ax: Any, names: Sequence[str]) -> None:
    """Name the rows of horizontal axes in full, the first on top."""
    ax.set_yticks(range(len(names)), map(in_lines, names))
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(False, axis="y")


def shown(axes: np.ndarray) -> Any:
    """Return the one Axes there is, or all of them, as displays hold them."""
    return axes[0] if len(axes) == 1 else axes
