"""Rates by group, dense against pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairprune_sk.assessment.findings import FairnessReport
from fairprune_sk.assessment.rate_intervals import PROPORTIONS, group_rates
from fairprune_sk.assessment.report import fairness_report
from fairprune_sk.displays.looks import NETWORKS, name_rows, new_axes, shown

METRICS = ("selection_rate", "true_positive_rate", "false_positive_rate", "accuracy")


class RatesByGroupDisplay:
    """Rates of each group with their intervals, the dense network against the pruned one.

    Make it with :meth:`from_estimator`, :meth:`from_predictions` or :meth:`from_report`.

    Parameters
    ----------
    rates : DataFrame
        As :attr:`FairnessReport.intervals <fairprune_sk.FairnessReport>`: columns ``group`` (and
        ``stratum``), ``metric``, ``network``, ``rate``, ``low``, ``high``, ``n``, and with more
        than two classes ``class``.
    confidence_level : float
        Of the intervals.

    Attributes
    ----------
    ax_ : Axes, or ndarray of Axes where there are several metrics
    figure_ : Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fairprune_sk.displays import RatesByGroupDisplay
    >>> display = RatesByGroupDisplay.from_predictions(
    ...     [1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1], sensitive_features=list("aaabbb")
    ... )
    >>> rates = display.rates.set_index(["metric", "group"])["rate"]
    >>> rates["true_positive_rate"].to_dict()
    {'a': 0.5, 'b': 1.0}
    """

    def __init__(self, rates: pd.DataFrame, *, confidence_level: float):
        self.rates = rates
        self.confidence_level = confidence_level

    @classmethod
    def from_report(
        cls,
        report: FairnessReport,
        *,
        metrics: Sequence[str] = METRICS,
        label: Any = None,
        ax: Any = None,
    ) -> RatesByGroupDisplay:
        """Draw the rates of a report.

        Parameters
        ----------
        report : FairnessReport
        metrics, label, ax
            As for :meth:`plot`.

        Returns
        -------
        RatesByGroupDisplay
        """
        display = cls(report.intervals, confidence_level=report.confidence_level)
        return display.plot(metrics=metrics, label=label, ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any,
        metrics: Sequence[str] = METRICS,
        label: Any = None,
        ax: Any = None,
        **options: Any,
    ) -> RatesByGroupDisplay:
        """Measure a fitted estimator on rows, best of people whom it has not seen, and draw.

        Parameters
        ----------
        estimator, X, y, sensitive_features
            As for :func:`~fairprune_sk.fairness_report`.
        metrics, label, ax
            As for :meth:`plot`.
        **options
            What else :func:`~fairprune_sk.fairness_report` takes: ``control_features``,
            ``pos_label``, ``missing_sensitive``, ``sample_weight``, ``confidence_level``.

        Returns
        -------
        RatesByGroupDisplay
        """
        report = fairness_report(estimator, X, y, sensitive_features=sensitive_features, **options)
        return cls.from_report(report, metrics=metrics, label=label, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        sensitive_features: Any,
        y_pred_dense: Any = None,
        control_features: Any = None,
        pos_label: Any = None,
        missing_sensitive: str = "error",
        sample_weight: Any = None,
        confidence_level: float = 0.95,
        metrics: Sequence[str] = METRICS,
        label: Any = None,
        ax: Any = None,
    ) -> RatesByGroupDisplay:
        """Draw the rates of predicted labels.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n,)
            Labels.
        sensitive_features, control_features, pos_label, missing_sensitive, sample_weight
            As for :func:`~fairprune_sk.fairness_report`.
        y_pred_dense : array-like of shape (n,), optional
            Labels that the network predicted before pruning.
        confidence_level : float
            Of the intervals, in (0, 1).
        metrics, label, ax
            As for :meth:`plot`.

        Returns
        -------
        RatesByGroupDisplay
        """
        predicted = {"value": y_pred}
        if y_pred_dense is not None:
            predicted = {"dense": y_pred_dense, "pruned": y_pred}
        rates = group_rates(
            y_true,
            predicted,
            sensitive_features=sensitive_features,
            control_features=control_features,
            pos_label=pos_label,
            missing_sensitive=missing_sensitive,
            sample_weight=sample_weight,
            confidence_level=confidence_level,
        )
        display = cls(rates, confidence_level=confidence_level)
        return display.plot(metrics=metrics, label=label, ax=ax)

    def plot(
        self, *, metrics: Sequence[str] = METRICS, label: Any = None, ax: Any = None
    ) -> RatesByGroupDisplay:
        """Draw a panel for each metric.

        Parameters
        ----------
        metrics : sequence of str
            Of "accuracy", "selection_rate", "true_positive_rate" and "false_positive_rate".
        label : label, optional
            Of more than two classes, the one whose rates are drawn.
        ax : Axes, or array of Axes, optional
            One for each metric, or one whose place they share.

        Returns
        -------
        RatesByGroupDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If a metric or the label is unknown, or a label is needed.
        """
        metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        unknown = [name for name in metrics if name not in PROPORTIONS]
        if unknown or not metrics:
            raise ValueError(f"Got metrics={metrics!r}, but expected some of {list(PROPORTIONS)}.")
        self._check_label(label, metrics)
        where = [name for name in ("stratum", "group") if name in self.rates]
        names = self.rates[where].drop_duplicates().agg(": ".join, axis=1).tolist()
        height = 1.3 + 0.42 * len(names)
        axes = new_axes(type(self).__name__, ax, len(metrics), 3.4, height)
        for one, metric in zip(axes, metrics, strict=True):
            self._draw(one, metric, label)
            name_rows(one, names)
            of = f" of {label!r}" if label is not None and metric != "accuracy" else ""
            one.set_title(metric.replace("_", " ") + of, fontsize="medium")
        for one in axes[1:]:
            one.tick_params(labelleft=False)
        level = f"{self.confidence_level * 100:g}% intervals"
        axes[-1].legend(
            title=level, frameon=False, fontsize="small", title_fontsize="small",
            loc="upper left", bbox_to_anchor=(1.0, 1.0),
        )  # fmt: skip
        self.ax_, self.figure_ = shown(axes), axes[0].figure
        return self

    def _draw(self, ax: Any, metric: str, label: Any) -> None:
        found = self.rates[self.rates["metric"] == metric]
        if label is not None and metric != "accuracy":
            found = found[found["class"] == label]
        networks = found["network"].unique().tolist()
        for i, network in enumerate(networks):
            part = found[found["network"] == network]
            name, color, inside = NETWORKS[network]
            at = np.arange(len(part)) + (i - (len(networks) - 1) / 2) * 0.3
            rate = part["rate"].to_numpy(float)
            ends = [rate - part["low"].to_numpy(float), part["high"].to_numpy(float) - rate]
            ax.errorbar(
                rate, at, xerr=ends, fmt="o", color=color, mfc=inside, markersize=6, mew=1.6,
                elinewidth=1.6, label=name,
            )  # fmt: skip

    def _check_label(self, label: Any, metrics: list[str]) -> None:
        if "class" not in self.rates:
            if label is not None:
                raise ValueError(f"Got label={label!r} with two classes, but expected None.")
            return
        labels = [c for c in self.rates["class"].unique().tolist() if c != ""]
        if label not in labels and (label is not None or metrics != ["accuracy"]):
            raise ValueError(f"Got label={label!r}, but expected one of the classes {labels}.")
