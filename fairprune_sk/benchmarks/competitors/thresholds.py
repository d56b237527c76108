"""Fair decisions from an unfair score."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from fairlearn.postprocessing import ThresholdOptimizer

from fairprune_sk.benchmarks.competitors.base import Bounded
from fairprune_sk.benchmarks.competitors.families import fit_encoder


def _known_groups(competitor: Bounded, sensitive_features: Any, n_rows: int) -> np.ndarray:
    """Name the group of each row, each with a threshold."""
    groups = competitor._groups(sensitive_features, n_rows)
    unknown = sorted(set(groups.tolist()) - set(competitor.groups_.tolist()))
    if unknown:
        raise ValueError(
            f"Got sensitive_features with groups {unknown} that have no threshold, but "
            f"expected those of fit: {competitor.groups_.tolist()}."
        )
    return groups


class Thresholds(Bounded):
    """A plain classifier with thresholds of its own for each group.

    fairlearn's ``ThresholdOptimizer`` [1]_, for the most accurate thresholds. It has to know the
    group of each row that it predicts. Where thresholds cannot make rates equal they are mixed at
    random; ``random_state`` fixes the draws.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="logistic"
        As for :class:`Unconstrained`.
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
    tolerance : float in [0, 1], default=0.05
        Largest gap between two groups on the training rows. Only for demographic parity: under
        equalized odds rates are made equal, since the method knows no bound there.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    thresholds_ : ThresholdOptimizer
        Fitted, for the encoded table.
    needs_sensitive_features : bool
        True: ``predict`` needs them, with the groups of ``fit``.

    References
    ----------
    .. [1] Hardt, Price, Srebro, "Equality of Opportunity in Supervised Learning", NeurIPS 2016.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Thresholds
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = Thresholds("logistic", random_state=0).fit(X, y, sensitive_features=s["sex"])
    >>> fair.predict(X, sensitive_features=s["sex"]).shape
    (1000,)
    """

    needs_sensitive_features = True
    can_be_exact = True

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> Thresholds:
        """Fit the classifier, then its thresholds on the same rows.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        Thresholds
        """
        X, y, groups = self._start(X, y, sensitive_features)
        self.encoder_, classifier = fit_encoder(self.base, X, y, self._seed)
        encoded = self.encoder_.transform(X)
        self.thresholds_ = ThresholdOptimizer(
            estimator=classifier.fit(encoded, y),
            constraints=self.constraint,
            prefit=True,
            predict_method="predict_proba",
            tol=self.tolerance if self.constraint == "demographic_parity" else None,
        )
        self.thresholds_.fit(encoded, y, sensitive_features=groups)
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels, the same at each call.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : as for ``fit``

        Returns
        -------
        ndarray of shape (n,)
        """
        encoded = self._encoded(X)
        groups = _known_groups(self, sensitive_features, len(encoded))
        positive = self.thresholds_.predict(
            encoded, sensitive_features=groups, random_state=self._seed
        )
        return self.classes_[positive]


class RelaxedThresholds(Bounded):
    """A plain classifier with thresholds for each group that leave a gap, not only equal rates.

    error-parity's ``RelaxedThresholdOptimizer`` [1]_: the cheapest point under each group's ROC
    curve, within the tolerance of the others', by linear programming. It has to know the group of
    each row that it predicts, and mixes thresholds at random, as :class:`Thresholds` does.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="logistic"
        As for :class:`Unconstrained`.
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
    tolerance : float in [0, 1], default=0.05
        Largest gap between two groups on the training rows.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    thresholds_ : RelaxedThresholdOptimizer
        Fitted, for the encoded table.
    needs_sensitive_features : bool
        True: ``predict`` needs them, with the groups of ``fit``.

    References
    ----------
    .. [1] Cruz, Hardt, "Unprocessing Seven Years of Algorithmic Fairness", ICLR 2024.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import RelaxedThresholds
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = RelaxedThresholds("logistic", random_state=0).fit(X, y, sensitive_features=s["sex"])
    >>> fair.predict(X, sensitive_features=s["sex"]).shape
    (1000,)
    """

    needs_sensitive_features = True
    can_be_exact = True

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> RelaxedThresholds:
        """Fit the classifier, then its thresholds on the same rows.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        RelaxedThresholds
        """
        from error_parity import RelaxedThresholdOptimizer

        X, y, groups = self._start(X, y, sensitive_features)
        self.encoder_, classifier = fit_encoder(self.base, X, y, self._seed)
        encoded = self.encoder_.transform(X)
        classifier.fit(encoded, y)
        self.thresholds_ = RelaxedThresholdOptimizer(
            predictor=lambda rows: classifier.predict_proba(rows)[:, 1],
            constraint=self.constraint,
            tolerance=self.tolerance,
            seed=self._seed,
        )
        self.thresholds_.fit(encoded, y, group=np.searchsorted(self.groups_, groups))
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels, the same at each call.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : as for ``fit``

        Returns
        -------
        ndarray of shape (n,)
        """
        encoded = self._encoded(X)
        groups = _known_groups(self, sensitive_features, len(encoded))
        # Of a copy, whose draws start where they started the last time.
        thresholds = deepcopy(self.thresholds_)
        positive = thresholds.predict(encoded, group=np.searchsorted(self.groups_, groups))
        return self.classes_[positive.astype(int)]
