"""ROC and calibration of each group."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.utils import check_consistent_length, column_or_1d

from fairprune_sk.assessment.classifiers import checked_classes, positive_last, unwrapped
from fairprune_sk.assessment.rates import checked_groups, row_names
from fairprune_sk.displays.looks import COLOURS, GREY, MARKERS, in_lines, new_axes, shown
from fairprune_sk.fairness.groups import counted

KINDS = ("roc", "calibration")

_STYLES = ("-", "--", "-.", ":")


class CurvesByGroupDisplay:
    """ROC and calibration curves, one for each group.

    Groups whose ROC curves differ are ranked differently well; groups whose calibration curves
    differ have probabilities that mean different things. Make it with :meth:`from_estimator` or
    :meth:`from_predictions`.

    Parameters
    ----------
    groups : DataFrame
        One row for each group: ``count``, ``positives``, ``roc_auc`` (NaN where the group has
        one class only).
    roc, calibration : dict of DataFrame
        By group: ``false_positive_rate`` and ``true_positive_rate``; ``predicted`` and
        ``observed``, means of bins that have as many rows each.

    Attributes
    ----------
    ax_ : Axes, or ndarray of Axes for both kinds
    figure_ : Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fairprune_sk.displays import CurvesByGroupDisplay
    >>> display = CurvesByGroupDisplay.from_predictions(
    ...     [0, 0, 1, 1, 0, 0, 1, 1],
    ...     [0.1, 0.4, 0.3, 0.8, 0.1, 0.2, 0.7, 0.9],
    ...     sensitive_features=list("aaaabbbb"),
    ... )
    >>> display.groups["roc_auc"].to_dict()
    {'a': 0.75, 'b': 1.0}
    """

    def __init__(
        self,
        groups: pd.DataFrame,
        roc: dict[str, pd.DataFrame],
        calibration: dict[str, pd.DataFrame],
    ):
        self.groups = groups
        self.roc = roc
        self.calibration = calibration

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any,
        pos_label: Any = None,
        **options: Any,
    ) -> CurvesByGroupDisplay:
        """Draw the curves of a fitted classifier on rows, best of people whom it has not seen.

        Parameters
        ----------
        estimator : fitted classifier with predict_proba
        X : as for its ``predict_proba``
        y : array-like of shape (n,)
        sensitive_features : as for :func:`~fairprune_sk.fairness_report`
        pos_label : label, optional
            The class whose probability is drawn, against the rest. By default the positive one
            of two; needed with more.
        **options
            As for :meth:`from_predictions`: ``missing_sensitive``, ``n_bins``, ``kind``, ``ax``.

        Returns
        -------
        CurvesByGroupDisplay

        Raises
        ------
        ValueError
            If the estimator gives no probabilities, or ``pos_label`` is needed or no class.
        """
        if not hasattr(estimator, "predict_proba"):
            raise ValueError(
                f"Got {type(estimator).__name__}, but expected a classifier with predict_proba."
            )
        _, model = unwrapped(estimator)
        y = column_or_1d(y)
        classes = checked_classes(model, y)
        if len(classes) > 2:
            if pos_label not in classes:
                raise ValueError(
                    f"Got pos_label={pos_label!r}, but expected one of the classes {classes}."
                )
        else:
            pos_label = positive_last(classes, model, pos_label)[-1]
        score = np.asarray(estimator.predict_proba(X))[:, classes.index(pos_label)]
        return cls.from_predictions(
            y == pos_label, score, sensitive_features=sensitive_features, **options
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_score: Any,
        *,
        sensitive_features: Any,
        pos_label: Any = None,
        missing_sensitive: str = "error",
        n_bins: int = 10,
        kind: str | None = None,
        ax: Any = None,
    ) -> CurvesByGroupDisplay:
        """Draw the curves of predicted probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        y_score : array-like of shape (n,)
            Probabilities of the positive label.
        sensitive_features, missing_sensitive
            As for :func:`~fairprune_sk.fairness_report`.
        pos_label : label, optional
            The positive label; by default the second of two.
        n_bins : int
            Bins of the calibration curves; a group has at most one for each ten rows.
        kind, ax
            As for :meth:`plot`.

        Returns
        -------
        CurvesByGroupDisplay

        Raises
        ------
        ValueError
            If lengths differ, scores are no probabilities, labels are not two, or there are fewer
            than two groups.
        """
        y_true, score = column_or_1d(y_true), column_or_1d(y_score).astype(float)
        check_consistent_length(y_true, score)
        if not (np.isfinite(score).all() and (score >= 0).all() and (score <= 1).all()):
            raise ValueError(
                f"Got y_score from {score.min():g} to {score.max():g}, but expected probabilities, "
                "in [0, 1]."
            )
        if n_bins < 1:
            raise ValueError(f"Got n_bins={n_bins!r}, but expected a positive integer.")
        labels = np.unique(y_true).tolist()
        if len(labels) != 2:
            raise ValueError(f"Got y_true with labels {labels}, but expected two.")
        positive = y_true == positive_last(labels, None, pos_label)[-1]
        grouping = checked_groups(sensitive_features, len(y_true), missing_sensitive)
        rows, roc, calibration = {}, {}, {}
        for code, name in enumerate(row_names(grouping.values)):
            here = grouping.codes == code
            y, s = positive[here], score[here]
            both = bool(y.any() and not y.all())
            auc = float(roc_auc_score(y, s)) if both else np.nan
            rows[name] = {"count": int(here.sum()), "positives": int(y.sum()), "roc_auc": auc}
            if both:
                fpr, tpr, _ = roc_curve(y, s)
                roc[name] = pd.DataFrame({"false_positive_rate": fpr, "true_positive_rate": tpr})
            bins = max(1, min(n_bins, len(y) // 10))
            observed, predicted = calibration_curve(
                y.astype(int), s, n_bins=bins, strategy="quantile", pos_label=1
            )
            calibration[name] = pd.DataFrame({"predicted": predicted, "observed": observed})
        display = cls(pd.DataFrame.from_dict(rows, orient="index"), roc, calibration)
        return display.plot(kind=kind, ax=ax)

    def plot(
        self, *, kind: str | None = None, most_groups: int = 8, ax: Any = None
    ) -> CurvesByGroupDisplay:
        """Draw the curves.

        Parameters
        ----------
        kind : {"roc", "calibration"}, optional
            By default both.
        most_groups : int
            Of more groups than this, those with the most rows are drawn, and the legend says so.
        ax : Axes, or array of Axes, optional
            One for each kind, or one whose place they share.

        Returns
        -------
        CurvesByGroupDisplay

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If the kind is unknown.
        """
        if kind is not None and kind not in KINDS:
            raise ValueError(f"Got kind={kind!r}, but expected one of {list(KINDS)} or None.")
        kinds = KINDS if kind is None else (kind,)
        axes = new_axes(type(self).__name__, ax, len(kinds), 4.6, 3.9)
        largest = self.groups["count"].nlargest(most_groups).index
        drawn = [name for name in self.groups.index if name in largest]
        for one, what in zip(axes, kinds, strict=True):
            one.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (1, 3)))
            for i, name in enumerate(drawn):
                curve = (self.roc if what == "roc" else self.calibration).get(name)
                look: dict[str, Any] = {
                    "color": COLOURS[i % len(COLOURS)],
                    "linestyle": _STYLES[i % len(_STYLES)],
                    "label": self._label(name),
                }
                if what == "calibration":
                    look |= {"marker": MARKERS[i % len(MARKERS)], "markersize": 5}
                x, y = ([], []) if curve is None else curve.to_numpy().T
                one.plot(x, y, **look)
            one.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            names = {
                "roc": ("false positive rate", "true positive rate", "ROC"),
                "calibration": ("predicted probability", "observed share", "Calibration"),
            }[what]
            one.set(xlabel=names[0], ylabel=names[1])
            one.set_title(names[2], fontsize="medium")
        more = len(self.groups) - len(drawn)
        axes[-1].legend(
            frameon=False,
            fontsize="small",
            title=f"The largest groups; {more} more" if more else None,
            title_fontsize="small",
            loc="upper left",
            bbox_to_anchor=(1.02, 1.0),
        )
        self.ax_, self.figure_ = shown(axes), axes[0].figure
        return self

    def _label(self, name: str) -> str:
        group = self.groups.loc[name]
        area = f"area {group['roc_auc']:.3f}"
        if np.isnan(group["roc_auc"]):
            area = "one class only"
        return f"{in_lines(name)}\n({counted(int(group['count']), 'row')}, {area})"
