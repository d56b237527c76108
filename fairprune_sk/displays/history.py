"""How a fit went: loss, gap, multipliers, sparsity, mask changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from fairprune_sk.assessment.classifiers import is_pruner, unwrapped
from fairprune_sk.displays.looks import BLUE, GREY, RED, new_axes, shown
from fairprune_sk.fairness.requirement import requirement_of

PANELS: dict[str, tuple[tuple[str, str], ...]] = {
    "loss": (("train_loss", "of the batches"),),
    "gap": (("running_gap", "running, soft rates"), ("train_gap", "hard, all rows of the fit")),
    "largest multiplier": (("max_multiplier", ""),),
    "accuracy": (("train_accuracy", "on the rows of the fit"),),
    "sparsity": (("sparsity", ""),),
    "mask change": (("mask_change", "in an epoch"),),
}
"""For each panel the columns of the history that it shows, and what they are."""


class HistoryDisplay:
    """The pruning phase of a fit, epoch by epoch.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    history : DataFrame
        One row for each epoch; the columns are those that the fit recorded, of ``train_loss``,
        ``running_gap`` (as the multipliers see it), ``train_gap`` and ``train_accuracy`` (once
        the mask is settled), ``max_multiplier``, ``sparsity`` and ``mask_change``.
    tolerance : float or None
        Drawn beside the gap.

    Attributes
    ----------
    ax_ : Axes, or ndarray of Axes where there are several panels
    figure_ : Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import pandas as pd
    >>> from fairprune_sk.displays import HistoryDisplay
    >>> history = pd.DataFrame({"train_loss": [0.6, 0.4], "sparsity": [0.5, 0.9]}, index=[1, 2])
    >>> display = HistoryDisplay(history).plot()  # from_estimator(pruner) reads its history_
    >>> [ax.get_title() for ax in display.ax_]
    ['loss', 'sparsity']
    """

    def __init__(self, history: pd.DataFrame, *, tolerance: float | None = None):
        self.history = history
        self.tolerance = tolerance

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, panels: Sequence[str] | None = None, ax: Any = None
    ) -> HistoryDisplay:
        """Draw the history of a fitted FairPruner, or of one in a pipeline or search.

        Parameters
        ----------
        estimator : fitted FairPruner, Pipeline or search
        panels, ax
            As for :meth:`plot`.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        ValueError
            If it is no FairPruner.
        """
        model = fitted_pruner(estimator)
        rows = [{k: v for k, v in epoch.items() if k != "batches"} for epoch in model.history_]
        names = [name for lines in PANELS.values() for name, _ in lines]
        history = pd.DataFrame(rows)
        history = history[["epoch", *(name for name in names if name in history)]]
        requirement = requirement_of(model)
        tolerance = None if requirement is None else requirement.tolerance
        display = cls(history.set_index("epoch").astype(float), tolerance=tolerance)
        return display.plot(panels=panels, ax=ax)

    @property
    def panels(self) -> list[str]:
        """Panels for which something was recorded."""
        known = self.history.columns[self.history.notna().any()]
        return [name for name, lines in PANELS.items() if any(line in known for line, _ in lines)]

    def plot(self, *, panels: Sequence[str] | None = None, ax: Any = None) -> HistoryDisplay:
        """Draw a panel for each quantity.

        Parameters
        ----------
        panels : sequence of str, optional
            Of :attr:`panels`; by default all.
        ax : Axes, or array of Axes, optional
            One for each panel, or one whose place they share.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If nothing was recorded for a panel.
        """
        chosen = self.panels if panels is None else list(panels)
        unknown = [name for name in chosen if name not in self.panels]
        if unknown or not chosen:
            raise ValueError(f"Got panels={chosen!r}, but expected some of {self.panels}.")
        axes = new_axes(type(self).__name__, ax, len(chosen), 3.3, 2.5, n_columns=3)
        for one, panel in zip(axes, chosen, strict=True):
            for (name, label), color, style in zip(
                PANELS[panel], (BLUE, RED), ("-", "--"), strict=False
            ):
                if name in self.history and self.history[name].notna().any():
                    line = self.history[name].dropna()
                    one.plot(line.index, line, color=color, linestyle=style, label=label)
            if panel == "gap" and self.tolerance is not None:
                label = f"tolerance {self.tolerance:g}"
                one.axhline(self.tolerance, color=GREY, linestyle=":", label=label)
            one.set_title(panel, fontsize="medium")
            one.set_xlabel("epoch")
            one.set_ylim(bottom=0 if panel not in ("loss", "accuracy") else None)
            if any(not line.get_label().startswith("_") for line in one.get_lines()):
                one.legend(frameon=False, fontsize="small")
        self.ax_, self.figure_ = shown(axes), axes[0].figure
        return self


def fitted_pruner(estimator: Any) -> Any:
    """Find the fitted FairPruner in what is passed.

    Raises
    ------
    ValueError
        If there is none.
    """
    _, model = unwrapped(estimator)
    if not is_pruner(model):
        raise ValueError(
            f"Got {type(model).__name__}, but expected a FairPruner, or a pipeline or search that "
            "ends in one."
        )
    check_is_fitted(model)
    return model
