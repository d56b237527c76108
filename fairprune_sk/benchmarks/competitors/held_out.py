"""Thresholds that are chosen on rows held out, by how a group is guessed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from fairprune_sk.benchmarks.competitors.base import Bounded
from fairprune_sk.benchmarks.competitors.families import fit_encoder

HELD_OUT = 0.3
"""Share of the rows that thresholds are chosen on, and no classifier learns from."""

SURE = 2 / 3
"""Probability from which a group is taken as known: OxonFair's default."""


class HeldOutThresholds(Bounded):
    """A plain classifier with thresholds by guessed group, chosen on rows held out.

    OxonFair's ``FairPredictor`` [1]_ with its default search. A second classifier of the same
    family (logistic regression beside "mlp") guesses the group of a row, so that ``predict`` does
    not need it; rows whose group it is unsure of have a threshold of their own. Where no
    thresholds are within the tolerance on the rows held out, those with the smallest gap there
    are taken.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="logistic"
        As for :class:`Unconstrained`.
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
    tolerance : float in [0, 1], default=0.05
        Largest gap between two groups on the rows held out (three in ten).
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    predictor_ : FairPredictor
        Fitted, for the encoded table.
    needs_sensitive_features : bool
        False: ``predict`` does not need them.

    References
    ----------
    .. [1] Delaney, Fu, Wachter, Mittelstadt, Russell, "OxonFair: A Flexible Toolkit for
       Algorithmic Fairness", NeurIPS 2024.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import HeldOutThresholds
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = HeldOutThresholds("logistic", random_state=0)
    >>> fair.fit(X, y, sensitive_features=s["sex"]).predict(X).shape
    (1000,)
    """

    can_be_exact = True

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> HeldOutThresholds:
        """Fit both classifiers on seven rows in ten, and thresholds on the others.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        HeldOutThresholds
        """
        from oxonfair import FairPredictor, group_metrics

        X, y, names = self._start(X, y, sensitive_features)
        groups = np.searchsorted(self.groups_, names)
        learned, held = train_test_split(
            np.arange(len(y)), test_size=HELD_OUT, stratify=y, random_state=self._seed
        )
        self.encoder_, classifier = fit_encoder(self.base, X.iloc[learned], y[learned], self._seed)
        if self.base == "mlp":  # which knows two classes only
            guesser: Any = LogisticRegression(max_iter=1000)
        else:
            _, guesser = fit_encoder(self.base, X.iloc[learned], groups[learned], self._seed)
        encoded = self.encoder_.transform(X)
        classifier.fit(encoded[learned], y[learned])
        guesser.fit(encoded[learned], groups[learned])
        rates = {
            "equalized_odds": group_metrics.equalized_odds_max,
            "demographic_parity": group_metrics.pos_pred_rate.max_diff,
        }
        with _quiet():
            guess, threshold = _every_guess_made(guesser, encoded[held])
            self.predictor_ = FairPredictor(
                classifier,
                {"data": encoded[held], "target": y[held], "groups": groups[held]},
                inferred_groups=guess,
                threshold=threshold,
            )
            self.predictor_.fit(group_metrics.accuracy, rates[self.constraint], self.tolerance)
        return self

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
        encoded = self._encoded(X)
        return self.classes_[self.predictor_.predict({"data": encoded, "target": encoded[:, 0]})]


def _every_guess_made(guesser: Any, held: np.ndarray) -> tuple[Any, float]:
    """Leave out groups that no row held out is surely of: the search fails on an empty one.

    Returns
    -------
    guess : callable
        From encoded rows to an array of shape (n, n_guessed).
    threshold : float
        Below which a guess is unsure; 0 where all are sure, or none is.
    """
    probabilities = guesser.predict_proba(held)
    sure = probabilities.max(1) >= SURE
    mixed = sure.any() and not sure.all()
    guessed = np.unique(probabilities[sure if mixed else slice(None)].argmax(1))

    def guess(rows: np.ndarray) -> np.ndarray:
        return guesser.predict_proba(rows)[:, guessed]

    return guess, SURE if mixed else 0.0


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a solution that misses the tolerance from being logged: the figures say it."""
    logger = logging.getLogger("oxonfair")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
