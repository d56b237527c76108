"""No fairness at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairprune_sk.benchmarks.competitors.base import Competitor
from fairprune_sk.benchmarks.competitors.families import fit_encoder


class Unconstrained(Competitor):
    """A classifier without any notion of fairness: what a constraint costs is measured from it.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="mlp"
        Logistic regression over one-hot, imputed and scaled columns; gradient boosting with
        native categories and missing values, and as many leaves as cross-validation on the
        training rows chooses; or the network that ``FairPruner`` has before it
        prunes (:class:`DenseNetwork`).
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    needs_sensitive_features : bool
        False: ``predict`` does not need them.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Unconstrained
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, _ = make_biased_classification(1000, random_state=0)
    >>> Unconstrained("logistic").fit(X, y).predict(X).shape
    (1000,)
    """

    def __init__(self, base: str = "mlp", *, random_state: Any = None):
        self.base = base
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any = None) -> Unconstrained:
        """Fit.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : ignored

        Returns
        -------
        Unconstrained
        """
        X, y, _ = self._start(X, y, sensitive_features)
        self.encoder_, classifier = fit_encoder(self.base, X, y, self._seed)
        self.classifier_ = classifier.fit(self.encoder_.transform(X), y)
        return self

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n, 2)
        """
        return self.classifier_.predict_proba(self._encoded(X))

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n,)
        """
        positive = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[positive.astype(int)]
