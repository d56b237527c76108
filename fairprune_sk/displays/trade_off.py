"""Accuracy against gap, over sparsity and tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fairprune_sk.assessment.surface import unbeaten
from fairprune_sk.displays.looks import BLUE, GREY, LIGHT, MARKERS, new_axes, start_at_zero
from fairprune_sk.fairness.groups import counted

COLUMNS = ("sparsity", "tolerance", "accuracy", "gap", "accuracy_se", "gap_se")
"""What is read of results; only accuracy and gap must be there."""


class TradeOffDisplay:
    """Accuracy against gap of many networks, and which of them no other beats.

    Make it with :meth:`from_results`.

    Parameters
    ----------
    points : DataFrame
        One row for each network: ``accuracy`` and ``gap``; where known ``sparsity``,
        ``tolerance``, and the standard errors ``accuracy_se`` and ``gap_se``.

    Attributes
    ----------
    points : DataFrame
        The same with a column ``on_front``: no other network is as accurate with a smaller gap,
        or more accurate with as small a one.
    ax_ : Axes
    figure_ : Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import pandas as pd
    >>> from fairprune_sk.displays import TradeOffDisplay
    >>> surface = pd.DataFrame(
    ...     {"sparsity": [0.8, 0.9, 0.95], "accuracy": [0.85, 0.84, 0.8], "gap": [0.06, 0.02, 0.03]}
    ... )
    >>> TradeOffDisplay.from_results(surface).points["on_front"].tolist()
    [True, True, False]
    """

    def __init__(self, points: pd.DataFrame):
        points = points.copy()
        values = points[["accuracy"]].assign(gap=-points["gap"]).to_numpy(dtype=np.float64)
        points["on_front"] = unbeaten(values)
        self.points = points

    @classmethod
    def from_results(
        cls,
        results: Any,
        *,
        accuracy: str = "accuracy",
        gap: str = "gap",
        tolerance: float | None = None,
        ax: Any = None,
    ) -> TradeOffDisplay:
        """Draw a table of results, or those of a search.

        Parameters
        ----------
        results : DataFrame, dict of arrays, or fitted search
            One row for each network; or a search of scikit-learn over ``sparsity`` or
            ``tolerance`` (however deep in a pipeline) with several scores, or its
            ``cv_results_``; of a benchmark, what ``benchmarks.statistics.summarise`` makes of the
            fits of one method.
        accuracy, gap : str
            Names of the two: columns, or scores of the search. A score of a gap is negative, as
            :func:`~fairprune_sk.make_fairness_scorer` gives it.
        tolerance : float, optional
            A line to compare with.
        ax : Axes, optional

        Returns
        -------
        TradeOffDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If accuracy or gap is not there, or no row has both.
        """
        results = getattr(results, "cv_results_", results)
        if isinstance(results, Mapping) and "params" in results:
            points = _of_search(results, accuracy, gap)
        else:
            points = _of_table(pd.DataFrame(results), accuracy, gap)
        known = points[["accuracy", "gap"]].notna().all(axis=1)
        if not known.any():
            raise ValueError(
                f"Got {counted(len(points), 'row')} without both accuracy and gap, but expected "
                "one at least that has them."
            )
        return cls(points[known].reset_index(drop=True)).plot(tolerance=tolerance, ax=ax)

    def plot(self, *, tolerance: float | None = None, ax: Any = None) -> TradeOffDisplay:
        """Draw the networks, coloured by sparsity, and the front of those that none beats.

        Parameters
        ----------
        tolerance : float, optional
            A line to compare with.
        ax : Axes, optional

        Returns
        -------
        TradeOffDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        [ax] = new_axes(type(self).__name__, ax, 1, 5.8, 4.6)
        points, front = self.points, self.points[self.points["on_front"]].sort_values("gap")
        errors = {
            name: points[f"{name}_se"] if f"{name}_se" in points else None
            for name in ("accuracy", "gap")
        }
        if any(error is not None for error in errors.values()):
            ax.errorbar(
                points["gap"], points["accuracy"], xerr=errors["gap"], yerr=errors["accuracy"],
                fmt="none", ecolor=LIGHT, elinewidth=1, zorder=1, label="± standard error",
            )  # fmt: skip
        (line,) = ax.plot(
            front["gap"], front["accuracy"], color=GREY, linewidth=1.6, drawstyle="steps-post",
            zorder=2, label="front: no network beats these",
        )  # fmt: skip
        line.set_gid("front")
        self._draw_points(ax)
        if tolerance is not None:
            ax.axvline(
                tolerance, color="black", linestyle=":", label=f"tolerance {tolerance:g}", zorder=1
            )
        if "sparsity" in front:
            for _, point in front.iterrows():
                ax.annotate(
                    f"{point['sparsity']:.4g}", (point["gap"], point["accuracy"]), fontsize="small",
                    xytext=(5, 5), textcoords="offset points",
                )  # fmt: skip
        ax.set(xlabel="gap between groups", ylabel="accuracy")
        start_at_zero(ax, "x")
        ax.margins(y=0.12)
        ax.legend(
            frameon=False, fontsize="small", ncols=2, loc="upper left", bbox_to_anchor=(0.0, -0.14)
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_points(self, ax: Any) -> None:
        """Draw the marks: filled where they are on the front, a shape for each tolerance."""
        points = self.points
        several = "tolerance" in points and points["tolerance"].nunique() > 1
        if several and points["tolerance"].nunique() <= len(MARKERS):
            kinds = [
                (f"trained for {value:g}", part)
                for value, part in points.groupby("tolerance", dropna=False)
            ]
        else:
            kinds = [("", points)]
        color = {"color": BLUE}
        if "sparsity" in points:
            low, high = points["sparsity"].min(), points["sparsity"].max()
            color = {"cmap": "viridis_r", "vmin": low, "vmax": high if high > low else low + 0.01}
        drawn = None
        for (label, part), marker in zip(kinds, MARKERS, strict=False):
            if "sparsity" in part:
                color["c"] = part["sparsity"]
            drawn = ax.scatter(
                part["gap"], part["accuracy"], marker=marker, s=44, edgecolors="black",
                linewidths=np.where(part["on_front"], 1.4, 0.4), zorder=3, label=label or None,
                **color,
            )  # fmt: skip
        if "sparsity" in points and points["sparsity"].nunique() > 1:
            ax.figure.colorbar(drawn, ax=ax, label="sparsity", pad=0.02)


def _of_table(results: pd.DataFrame, accuracy: str, gap: str) -> pd.DataFrame:
    missing = [name for name in (accuracy, gap) if name not in results]
    if missing:
        raise ValueError(
            f"Got results without {missing}, but expected columns {[accuracy, gap]}; it has "
            f"{results.columns.tolist()}."
        )
    names = {
        accuracy: "accuracy",
        gap: "gap",
        f"{accuracy}_se": "accuracy_se",
        f"{gap}_se": "gap_se",
    }
    results = results.rename(columns=names)
    return results[[name for name in COLUMNS if name in results]].reset_index(drop=True)


def _of_search(results: Mapping[str, Any], accuracy: str, gap: str) -> pd.DataFrame:
    """Points of ``cv_results_``, with the standard errors of the means over folds."""
    points: dict[str, Any] = {}
    for name, score in (("accuracy", accuracy), ("gap", gap)):
        if f"mean_test_{score}" not in results:
            scores = [k[len("mean_test_") :] for k in results if k.startswith("mean_test_")]
            raise ValueError(
                f"Got the score {score!r}, but expected one of the search's: {scores}."
            )
        mean = np.asarray(results[f"mean_test_{score}"], dtype=float)
        points[name] = -mean if name == "gap" else mean
        folds = sum(k.startswith("split") and k.endswith(f"_test_{score}") for k in results)
        if folds > 1:
            spread = np.asarray(results[f"std_test_{score}"], dtype=float)
            points[f"{name}_se"] = spread / np.sqrt(folds - 1)  # std of the search is that of all
    for name in ("sparsity", "tolerance"):
        for key in results:
            if key.startswith("param_") and key.removeprefix("param_").split("__")[-1] == name:
                points[name] = pd.to_numeric(pd.Series(list(results[key])), errors="coerce")
    return pd.DataFrame(points)
