"""Model selection: a fairness gap as a scorer, and the sparsest candidate within limits.

Both speak scikit-learn's own language: a scorer is called with (estimator, X, y), a rule for
``refit`` with ``cv_results_``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import UNUSED, MetadataRequest
from sklearn.utils.validation import _check_sample_weight

from fairprune_sk.assessment.classifiers import positive_last, unwrapped
from fairprune_sk.assessment.gaps import gaps_by_class, largest_gap, notion_cells, notion_of
from fairprune_sk.assessment.rates import Rows
from fairprune_sk.assessment.selection import _ROUNDING
from fairprune_sk.fairness.constraints import CONSTRAINTS, Constraint
from fairprune_sk.fairness.groups import (
    check_order,
    counted,
    group_codes,
    group_name,
    sensitive_frame,
)


def label_codes(y: Any, classes: list) -> np.ndarray:
    """Positions of labels among the classes."""
    y = column_or_1d(np.asarray(y))
    codes = pd.Index(classes).get_indexer(y)
    if (codes < 0).any():
        unknown = pd.unique(y[codes < 0]).tolist()
        raise ValueError(f"Got labels {unknown}, but expected only {classes} (classes_).")
    return codes


def _named_columns(X: Any, names: str | list, role: str) -> Any:
    """Columns of a DataFrame, of pandas or polars."""
    columns = list(getattr(X, "columns", []))
    if not all(name in columns for name in ([names] if isinstance(names, str) else names)):
        has = f"it has {columns}" if columns else f"{type(X).__name__} has no column names"
        raise ValueError(f"Got {role}={names!r}, but expected columns of X: {has}.")
    return X[names]


@dataclass(eq=False, repr=False)
class FairnessScorer(BaseEstimator):
    """Scorer of a fairness gap; :func:`make_fairness_scorer` makes one and says what it does.

    It requests from scikit-learn's metadata routing what its constructor does not name:
    ``sensitive_features`` and ``control_features``. ``set_score_request`` changes that, and is
    how to request ``sample_weight``.
    """

    constraint: str | Constraint | Callable[..., float] = "equalized_odds"
    _: KW_ONLY
    tolerance: float | None = None
    gap_method: str = "between_groups"
    comparison: str = "difference"
    greater_is_better: bool | None = None
    pos_label: Any = None
    sensitive_features: str | list | Callable[[Any], Any] | None = None
    control_features: str | list | Callable[[Any], Any] | None = None
    missing_sensitive: str = "error"

    _parameter_constraints: ClassVar[dict] = {
        "constraint": [StrOptions(set(CONSTRAINTS)), Constraint, callable],
        "tolerance": [Interval(Real, 0, 1, closed="both"), None],
        "gap_method": [StrOptions({"between_groups", "to_overall"})],
        "comparison": [StrOptions({"difference", "ratio"})],
        "greater_is_better": ["boolean", None],
        "pos_label": [str, Real, "boolean", None],
        "sensitive_features": [str, list, callable, None],
        "control_features": [str, list, callable, None],
        "missing_sensitive": [StrOptions({"error", "ignore", "group"})],
    }

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        control_features: Any = None,
        sample_weight: Any = None,
    ) -> float:
        """Score a fitted classifier; greater is better.

        Parameters
        ----------
        estimator : fitted classifier
            With ``predict``; its ``classes_`` give the labels (without them, y does).
        X : array-like of shape (n, n_features)
        y : array-like of shape (n,)
            True labels.
        sensitive_features, control_features : Series, DataFrame, array-like or dict, optional
            One row for each row of X; they win over what the constructor names.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows in every rate.

        Returns
        -------
        float
            Minus the gap, or with a tolerance the accuracy subject to the gap.

        Raises
        ------
        ValueError
            If there are no sensitive features, lengths differ, a label is unknown, or fewer
            than two groups can be compared.
        """
        self._check_parameters()
        asked_of = {"sensitive_features": sensitive_features, "control_features": control_features}
        check_order(X, y=y, **asked_of, sample_weight=sample_weight)
        y = np.asarray(y)
        weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
        features = self._frame("sensitive_features", X, sensitive_features, len(y))
        if features is None:
            raise ValueError(
                "Got no sensitive_features. There are three ways to give them: name a column of X "
                "(make_fairness_scorer(sensitive_features='sex')); give a function of X "
                "(sensitive_features=lambda X: s.loc[X.index]); or pass them, to the scorer "
                "itself or, after sklearn.set_config(enable_metadata_routing=True), to the "
                "search (search.fit(X, y, sensitive_features=s))."
            )
        group, groups = group_codes(features)
        controls = self._frame("control_features", X, control_features, len(y))
        stratum = np.zeros_like(group) if controls is None else group_codes(controls)[0]
        # Not every classifier has classes_: fairlearn's reductions do not.
        classes = estimator.classes_ if hasattr(estimator, "classes_") else np.unique(y)
        classes = np.asarray(classes).tolist()
        if len(classes) < 2:
            raise ValueError(f"Got classes {classes}, but expected at least two.")
        classes = positive_last(classes, unwrapped(estimator)[1], self.pos_label)
        y_true = label_codes(y, classes)
        rows = Rows(
            y_true,
            group,
            stratum,
            weight,
            len(classes),
            (1,) if len(classes) == 2 else tuple(range(len(classes))),
        )
        y_pred = label_codes(estimator.predict(X), classes)
        kept = rows.grouped() & (rows.stratum >= 0)
        rows, predicted = rows.take(kept), y_pred[kept]
        gap = np.nan
        if kept.any() and isinstance(self.constraint, str | Constraint):
            cells = notion_cells(self._notion(), rows.tally(predicted))
            gap = float(largest_gap(gaps_by_class(cells, self.gap_method)))
        elif kept.any():
            own = rows if sample_weight is not None else replace(rows, weight=None)
            gap = self._own_gap(own, predicted, features[kept])
        if np.isnan(gap):
            raise ValueError(
                f"Got {counted(len(y), 'row')} on which {_named(self.constraint)} is undefined: "
                f"fewer than two groups of {list(map(group_name, groups))} have the rows that it "
                "compares. Larger folds, or folds stratified by group, have them."
            )
        if self.tolerance is None:
            return -gap
        if gap > self.tolerance + _ROUNDING:
            return self.tolerance - gap
        return float(np.average(y_true == y_pred, weights=weight))

    # scikit-learn reads what a scorer can be sent off a method of this name.
    score = __call__
    __metadata_request__score: ClassVar[dict] = {"estimator": UNUSED}

    def get_metadata_routing(self) -> MetadataRequest:
        """Request the features that the constructor does not name.

        Returns
        -------
        MetadataRequest
        """
        request = super().get_metadata_routing()
        for name in ("sensitive_features", "control_features"):
            if request.score.requests[name] is None:  # nothing set by set_score_request
                request.score.add_request(param=name, alias=getattr(self, name) is None)
        return request

    def _accept_sample_weight(self) -> bool:
        """Tell scikit-learn, which asks where routing is off, that weights are welcome."""
        return True

    def _frame(self, role: str, X: Any, passed: Any, n_rows: int) -> pd.DataFrame | None:
        """Features that were passed, or those that the constructor names."""
        own = getattr(self, role)
        if passed is None and own is not None:
            passed = own(X) if callable(own) else _named_columns(X, own, role)
        if passed is None:
            return None
        return sensitive_frame(passed, n_rows, missing=self.missing_sensitive, name=role)

    def _check_parameters(self) -> None:
        """Refuse parameters that are not as documented, or that say nothing together."""
        self._validate_params()
        if isinstance(self.constraint, type):
            raise ValueError(
                f"Got the class constraint={self.constraint.__name__}, but expected an object: "
                f"{self.constraint.__name__}()."
            )
        name, metric = _named(self.constraint), not isinstance(self.constraint, str | Constraint)
        if not metric:
            self._notion()
        if metric == (self.greater_is_better is None):
            expected = (
                "False (the metric is 0 at parity, as fairlearn's *_difference) or True (it is 1 "
                "at parity, as its *_ratio)"
                if metric
                else "None: a gap is always better when it is smaller"
            )
            raise ValueError(
                f"Got constraint={name} with greater_is_better={self.greater_is_better}, but "
                f"expected {expected}."
            )
        if self.comparison != "difference" and not isinstance(self.constraint, str):
            raise ValueError(
                f"Got comparison={self.comparison!r} with constraint={name}, but expected it with "
                "a name alone: an object says itself how it compares."
            )
        if self.gap_method != "between_groups" and metric:
            raise ValueError(
                f"Got gap_method={self.gap_method!r} with constraint={name}, but expected it with "
                "a name or a Constraint: give a metric its own, by "
                "functools.partial(metric, method=...)."
            )

    def _notion(self) -> Constraint:
        """Return what is compared, with how."""
        if isinstance(self.constraint, str) and self.comparison == "ratio":
            return CONSTRAINTS[self.constraint]("ratio")
        assert isinstance(self.constraint, str | Constraint)
        return notion_of(self.constraint)

    def _own_gap(self, rows: Rows, y_pred: np.ndarray, features: pd.DataFrame) -> float:
        """Gap of the user's own metric: the largest of any class and stratum."""
        gaps, metric = [], self.constraint
        assert not isinstance(metric, str | Constraint)
        for stratum in np.unique(rows.stratum):
            here = rows.stratum == stratum
            if len(np.unique(rows.group[here])) < 2:
                continue
            groups = features[here].reset_index(drop=True).squeeze(axis=1)
            params = {} if rows.weight is None else {"sample_weight": rows.weight[here]}
            for label in rows.classes:
                labels = [(codes[here] == label).astype(int) for codes in (rows.y_true, y_pred)]
                value = float(metric(*labels, sensitive_features=groups, **params))
                gaps.append(1.0 - value if self.greater_is_better else value)
        return max(gaps, default=np.nan)


def _named(constraint: Any) -> str:
    """Name of what is compared, for messages."""
    if isinstance(constraint, str):
        return constraint
    return getattr(constraint, "__name__", repr(constraint))


def make_fairness_scorer(
    constraint: str | Constraint | Callable[..., float] = "equalized_odds",
    *,
    tolerance: float | None = None,
    gap_method: str = "between_groups",
    comparison: str = "difference",
    greater_is_better: bool | None = None,
    pos_label: Any = None,
    sensitive_features: str | list | Callable[[Any], Any] | None = None,
    control_features: str | list | Callable[[Any], Any] | None = None,
    missing_sensitive: str = "error",
) -> FairnessScorer:
    """Make a scorer of a fairness gap, for ``scoring=`` of searches and cross-validation.

    Parameters
    ----------
    constraint : str, Constraint or callable, default="equalized_odds"
        What must be equal between groups: "demographic_parity", "equalized_odds" (the worse of
        two gaps), "equal_opportunity", "false_positive_rate_parity", "accuracy_parity" or
        "error_rate_parity"; or an object of ``fairprune_sk.fairness``, or of a class of your
        own; or a metric of ``fairlearn.metrics``, called as ``metric(y_true, y_pred,
        sensitive_features=...)``, and with ``sample_weight`` where there are weights.
        ``pos_label`` is the positive class, a metric's label 1; of more than two classes each
        is positive in turn, and the largest gap counts.
    tolerance : float in [0, 1] or None, default=None
        ``None`` scores minus the gap. A number scores accuracy where the gap is within it, and
        minus the excess elsewhere, so that what is within ranks above what is not.
    gap_method : {"between_groups", "to_overall"}, default="between_groups"
        Largest gap between two groups, or between a group and all rows together.
    comparison : {"difference", "ratio"}, default="difference"
        How the rates of a name are compared. "ratio" is 1 - smallest / largest: with
        "demographic_parity" and ``tolerance=0.2``, the four-fifths rule.
    greater_is_better : bool, default=None
        For a metric, and needed there. False: the metric is the gap, as fairlearn's
        ``*_difference``. True: 1 - metric is the gap, as of its ``*_ratio``; with
        ``demographic_parity_ratio`` and ``tolerance=0.2``, the four-fifths rule again.
    pos_label : label or None, default=None
        Of two classes the one that counts as selected; by default the estimator's own
        (``pos_label_``, as FairPruner has it), or the second of ``classes_``.
    sensitive_features : str, list or callable, default=None
        Column of X, several columns, or a function of X. ``None`` expects them with each call:
        by metadata routing, or as a keyword.
    control_features : str, list or callable, default=None
        Given as the sensitive features are, and not needed. Groups are compared within each of
        their values, and the largest gap counts.
    missing_sensitive : {"error", "ignore", "group"}, default="error"
        Rows with a missing feature are an error, are left out of the gap, or form a group.

    Returns
    -------
    FairnessScorer
        Called as ``scorer(estimator, X, y)``; greater is better.

    Raises
    ------
    ValueError
        If a parameter is not as described.

    See Also
    --------
    sparsest_within : Choose the sparsest candidate within limits of gap and accuracy.

    Notes
    -----
    Gaps are those of :mod:`fairlearn.metrics`, but a rate for which a group has no rows is left
    out, where fairlearn counts it as 0; a metric is taken at its word. The tolerance holds in
    each fold: the mean over folds can put a candidate that is within it in most folds above one
    that is within it in all. To bound the mean gap, use :func:`sparsest_within`.

    References
    ----------
    Hardt, Price, Srebro: Equality of Opportunity in Supervised Learning, arXiv 1610.02413.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn import config_context
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from fairprune_sk.assessment import make_fairness_scorer
    >>> rng = np.random.RandomState(0)
    >>> X = pd.DataFrame({"income": rng.normal(size=300), "male": rng.randint(2, size=300)})
    >>> y = (X["income"] + X["male"] + rng.normal(size=300) > 0).astype(int)

    By the name of a column:

    >>> scorer = make_fairness_scorer("demographic_parity", sensitive_features="male")
    >>> cross_val_score(LogisticRegression(), X, y, scoring=scorer, cv=3).round(2)
    array([-0.31, -0.17, -0.27])

    By a metric of fairlearn:

    >>> from fairlearn.metrics import demographic_parity_difference
    >>> scorer = make_fairness_scorer(
    ...     demographic_parity_difference, greater_is_better=False, sensitive_features="male"
    ... )
    >>> cross_val_score(LogisticRegression(), X, y, scoring=scorer, cv=3).round(2)
    array([-0.31, -0.17, -0.27])

    By metadata routing, where X does not hold it:

    >>> with config_context(enable_metadata_routing=True):
    ...     cross_val_score(
    ...         LogisticRegression(), X[["income"]], y, cv=3,
    ...         scoring=make_fairness_scorer("demographic_parity"),
    ...         params={"sensitive_features": X["male"]},
    ...     ).round(2)
    array([-0.05, -0.18, -0.18])
    """
    scorer = FairnessScorer(
        constraint,
        tolerance=tolerance,
        gap_method=gap_method,
        comparison=comparison,
        greater_is_better=greater_is_better,
        pos_label=pos_label,
        sensitive_features=sensitive_features,
        control_features=control_features,
        missing_sensitive=missing_sensitive,
    )
    scorer._check_parameters()
    return scorer
