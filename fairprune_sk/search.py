"""The whole trade-off of sparsity, fairness and accuracy in one fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils.validation import check_is_fitted

from fairprune_sk.assessment import fairness_gap, gap_estimate
from fairprune_sk.assessment.selection import sparsest_within
from fairprune_sk.assessment.surface import front_of, results_of, surface_of
from fairprune_sk.distributed import available
from fairprune_sk.fitting.checkpoint import CheckpointFolder
from fairprune_sk.fitting.fitted import Fitted
from fairprune_sk.fitting.identity import identity_of
from fairprune_sk.fitting.memory import code_hash
from fairprune_sk.fitting.path import Point, path
from fairprune_sk.fitting.task import Given, settings_of
from fairprune_sk.fitting.unseen import alike_folds
from fairprune_sk.pruner import FairPruner

UNBOUND = 1.0
"""The tolerance that None stands for: a gap cannot be larger."""

RULES = ("sparsest_within", "accuracy")


class FairPrunerCV(ClassifierMixin, BaseEstimator):
    """Search over sparsities and tolerances with cross-validation, for a fraction of the work.

    In each fold one dense network is trained; one run goes through the sparsities and leaves a
    finished network at each, and each stricter tolerance goes on from the one before it; then the
    same on all rows. Groups are compared on the held-out rows of all folds together, so that small
    ones are not judged by a fifth of their rows.

    Parameters
    ----------
    estimator : FairPruner, default=None
        Whose other parameters are used; its tolerance is the gap that ``refit="sparsest_within"``
        allows. ``FairPruner()`` by default. Its callbacks, checkpoint and ``warm_start`` have no
        effect.
    sparsity : sequence of float in [0, 1), default=(0.5, 0.7, 0.8, 0.9, 0.95)
    tolerance : sequence of float in [0, 1] or None, default=(0.01, 0.02, 0.05, 0.1, None)
        None is a tolerance of 1: no bound. Not looked at where the estimator has no constraint.
    cv : int, splitter or iterable of splits, default=5
        A number makes that many folds, alike in classes and groups.
    scoring : str or callable, default=None
        Score that stands for accuracy, of each fold's held-out rows; None is accuracy.
    refit : {"sparsest_within", "accuracy"}, callable or False, default="sparsest_within"
        Which network becomes ``best_estimator_``: the sparsest of those whose gap is within the
        estimator's tolerance and whose score is within one standard error of the best; the one of
        the best score; what the callable returns the index of, given ``cv_results_``; or none,
        and none is trained on all rows.
    checkpoint : str or path, default=None
        A folder. A search that was killed goes on from there when the same call is made again: what
        is finished is not fitted anew, and the results are those of a search that nobody disturbed.
    n_jobs : int, default=None
        Folds at a time, as for ``joblib.Parallel``; the results are the same for each number, and
        on a cluster (``with joblib.parallel_config(backend="dask")``). A fold takes one thread.
    verbose : int, default=0
        As for ``joblib.Parallel``.

    Attributes
    ----------
    cv_results_ : dict
        As that of ``GridSearchCV``, with the scores "accuracy" (what ``scoring`` says) and "gap".
        ``mean_test_gap`` is minus the corrected gap of all held-out rows together; those of single
        folds are raw.
    surface_ : DataFrame of shape (n_sparsities * n_tolerances, ...)
        Sparsity, tolerance, accuracy (the score), accuracy_se, gap (corrected, of all held-out
        rows), gap_low and gap_high (its 95% interval), raw_gap and noise_floor.
    pareto_front_ : DataFrame
        The rows of ``surface_`` that no other beats in sparsity, accuracy and gap.
    best_index_ : int
    best_params_ : dict
    best_score_ : float
    best_estimator_ : FairPruner
        Fitted on all rows. Absent with ``refit=False``.
    n_splits_ : int
    classes_ : ndarray of shape (n_classes,)

    See Also
    --------
    fairprune_sk.displays.TradeOffDisplay : Draws ``surface_``.

    Notes
    -----
    The gap of the cell that was chosen leans downwards, since it was chosen: certify it on rows
    that the search has not seen.

    Examples
    --------
    >>> from fairprune_sk import FairPruner, FairPrunerCV
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(600, random_state=0)
    >>> pruner = FairPruner(tolerance=0.3, tolerance_on="training", max_epochs=8, random_state=0)
    >>> search = FairPrunerCV(pruner, sparsity=(0.5, 0.9), tolerance=(0.1, None), cv=2)
    >>> search.fit(X, y, sensitive_features=s["sex"]).surface_.shape
    (4, 9)
    >>> search.network_at(0.9, 0.1).sparsity_ >= 0.9
    True
    """

    __metadata_request__fit = {"sensitive_features": True, "control_features": True}

    def __init__(
        self,
        estimator: FairPruner | None = None,
        *,
        sparsity: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
        tolerance: Sequence[float | None] = (0.01, 0.02, 0.05, 0.1, None),
        cv: Any = 5,
        scoring: str | Callable | None = None,
        refit: str | Callable | bool = "sparsest_within",
        checkpoint: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.sparsity = sparsity
        self.tolerance = tolerance
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.checkpoint = checkpoint
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Those of the estimator."""
        tags = super().__sklearn_tags__()
        tags.input_tags = self._pruner().__sklearn_tags__().input_tags
        return tags

    def _pruner(self) -> FairPruner:
        """Make the estimator that a cell is fitted as."""
        pruner = FairPruner() if self.estimator is None else clone(self.estimator)
        if not isinstance(pruner, FairPruner):
            raise TypeError(
                f"Got estimator={self.estimator!r}, but expected a FairPruner: for a pipeline, put "
                "FairPrunerCV into it as its last step."
            )
        return pruner.set_params(callbacks=None, checkpoint=None, warm_start=False, verbose=0)

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        control_features: Any = None,
        sample_weight: Any = None,
    ) -> FairPrunerCV:
        """Fit every cell in every fold, and on all rows.

        An interrupted search leaves the estimator as it was.

        Parameters
        ----------
        X, y, sensitive_features, control_features, sample_weight
            As for :meth:`FairPruner.fit`.

        Returns
        -------
        FairPrunerCV

        Raises
        ------
        ValueError
            If an input or a parameter is not as described.
        """
        before = dict(self.__dict__)
        try:
            return self._fit(X, y, sensitive_features, control_features, sample_weight)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _fit(
        self, X: Any, y: Any, sensitive_features: Any, control_features: Any, sample_weight: Any
    ) -> FairPrunerCV:
        """Check everything, fit, compare."""
        pruner = self._pruner()
        sparsities = _grid("sparsity", self.sparsity, below_one=True)
        tolerances = _grid("tolerance", self.tolerance)
        _check_refit(self.refit)
        pruner._validate_params()
        if available().size > 1:
            raise ValueError(
                "Got FairPrunerCV in data_parallel(), but a search takes the whole table in one "
                "process: fit a FairPruner there, or search outside."
            )
        bound = clone(pruner).set_params(tolerance=tolerances[-1])
        given = bound._given(X, y, None, sensitive_features, control_features, sample_weight)
        for name in ("n_features_in_", "feature_names_in_"):
            if name in given.schema:
                setattr(self, name, given.schema[name])
        if given.parity is None:
            tolerances = [UNBOUND]
        elif given.parity.requirement.constraint.relative_to_dense:
            raise ValueError(
                f"Got constraint={pruner.constraint!r}, but a search compares gaps on rows that "
                "no dense network is compared on: expected a constraint on rates."
            )
        asked = pruner.random_state
        pruner.random_state = check_random_state(asked).randint(np.iinfo(np.int32).max)
        grid = (sparsities, tolerances)
        kept = None
        if self.checkpoint is not None:
            identity = self._identity(pruner, given, grid, known_seed=asked is not None)
            kept = CheckpointFolder.of_search(self.checkpoint, identity, pruner.random_state)
            pruner.random_state = kept.seed
        splits = self._splits(given, pruner.random_state)
        scorer = check_scoring(pruner, self.scoring)
        # The table by itself: a cluster sends it to each of its machines once, not for each fold.
        known = replace(given, X=None)
        held = joblib.Parallel(self.n_jobs, verbose=self.verbose)(
            joblib.delayed(_fold)(
                pruner, given.X, known, *grid, *rows, scorer, kept and kept.within(f"fold {i}")
            )
            for i, rows in enumerate(splits)
        )
        rows = np.concatenate([test for _, test in splits])
        columns = {
            "sensitive_features": sensitive_features,
            "control_features": control_features,
            "sample_weight": sample_weight,
        }
        cells = list(held[0].cells)
        gaps, raw = [None] * len(cells), np.full((len(cells), len(splits)), np.nan)
        if given.parity is not None:
            ask = partial(_measured, pruner=pruner, given=given, asked=columns)
            for i, cell in enumerate(cells):
                predicted = [fold.cells[cell][0] for fold in held]
                gaps[i] = ask(gap_estimate, rows=rows, predicted=np.concatenate(predicted))
                raw[i] = [
                    ask(fairness_gap, rows=test, predicted=part)
                    for (_, test), part in zip(splits, predicted, strict=True)
                ]
        scores = np.array([[fold.cells[cell][1] for fold in held] for cell in cells])
        seconds = np.array([[fold.cells[cell][2] for fold in held] for cell in cells])
        self.n_splits_, self.classes_ = len(splits), given.classes
        self.surface_ = surface_of(cells, scores, gaps)
        self.pareto_front_ = front_of(self.surface_)
        self.cv_results_ = results_of(cells, scores, raw, seconds, self.surface_)
        networks = {}
        if self.refit is not False:
            with _one_thread():
                of_all = kept and kept.within("all rows")
                for point in _path(pruner, given, *grid, of_all):
                    networks[point.sparsity, point.tolerance] = point.fitted
        self._networks, self._template = networks, pruner
        if self.refit is not False:
            self.best_index_ = self._best(pruner)
            self.best_params_ = self.cv_results_["params"][self.best_index_]
            self.best_score_ = float(self.cv_results_["mean_test_accuracy"][self.best_index_])
            self.best_estimator_ = self.network_at(**self.best_params_)
        return self

    def _identity(
        self, pruner: FairPruner, given: Given, grid: tuple[list, list], known_seed: bool
    ) -> str:
        """Digest of all that decides what comes out of the search."""
        parameters = pruner.get_params(deep=False)
        seed = pruner.random_state if known_seed else None
        of_pruner = identity_of(parameters, given, settings_of(parameters), seed, None)
        # Splits that are drawn anew each time would be those of another search.
        cv = self.cv if isinstance(self.cv, int) else [test for _, test in self._splits(given, 0)]
        return f"{of_pruner} {code_hash([grid, cv, self.scoring])}"

    def _splits(self, given: Given, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows to fit on and to hold out."""
        if isinstance(self.cv, int) and not isinstance(self.cv, bool):
            if not 2 <= self.cv <= len(given.y):
                raise ValueError(
                    f"Got cv={self.cv!r}, but expected at least 2 folds, and no more than rows "
                    f"({len(given.y)})."
                )
            return alike_folds(given.y, given.group, self.cv, seed)
        y = given.classes[given.y]
        return list(check_cv(self.cv, y, classifier=True).split(np.empty((len(y), 1)), y))

    def _best(self, pruner: FairPruner) -> int:
        """Index of the cell that becomes the estimator."""
        scores = self.cv_results_["mean_test_accuracy"]
        if self.refit == "accuracy":
            return int(np.argmax(scores))
        rule = self.refit
        if rule == "sparsest_within":
            # Not known of a single split: then only the best is as good as the best.
            loss = self.surface_["accuracy_se"].fillna(0.0).to_numpy()[np.argmax(scores)]
            limit = pruner.tolerance if self.surface_["gap"].notna().all() else None
            rule = sparsest_within(max_gap=limit, max_accuracy_loss=min(float(loss), 1.0))
        assert callable(rule)
        return int(rule(self.cv_results_))

    def network_at(self, sparsity: float, tolerance: float | None = None) -> FairPruner:
        """Return the network of one cell, fitted on all rows.

        Parameters
        ----------
        sparsity : float
        tolerance : float or None
            One of those searched; None, or what no bound was asked for with, is 1.

        Returns
        -------
        FairPruner

        Raises
        ------
        ValueError
            If there is no such cell, or ``refit=False`` left none.
        """
        check_is_fitted(self)
        key = (float(sparsity), UNBOUND if tolerance is None else float(tolerance))
        if key not in self._networks:
            cells = sorted(self._networks)
            raise ValueError(
                f"Got sparsity={sparsity!r}, tolerance={tolerance!r}, but expected one of {cells}."
                if cells
                else "Got refit=False, with which no network is trained on all rows."
            )
        return _as_estimator(self._template, self._networks[key], *key)

    def predict(self, X: Any) -> np.ndarray:
        """Labels that ``best_estimator_`` predicts.

        Parameters
        ----------
        X : as for :meth:`FairPruner.predict`

        Returns
        -------
        ndarray of shape (n,)
        """
        return self._chosen().predict(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class by ``best_estimator_``.

        Parameters
        ----------
        X : as for :meth:`FairPruner.predict_proba`

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        return self._chosen().predict_proba(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of ``best_estimator_``.

        Parameters
        ----------
        X : as for :meth:`FairPruner.decision_function`

        Returns
        -------
        ndarray of shape (n,), or (n, n_classes)
        """
        return self._chosen().decision_function(X)

    def _chosen(self) -> FairPruner:
        check_is_fitted(self)
        if not hasattr(self, "best_estimator_"):
            raise AttributeError("Got refit=False, with which no network is trained on all rows.")
        return self.best_estimator_


# ---------------------------------------------------------------------------------- parameters


def _grid(name: str, values: Any, below_one: bool = False) -> list[float]:
    """Check the values of one axis, ascending; None is no bound."""
    expected = "numbers in [0, 1)" if below_one else "numbers in [0, 1], or None"
    if isinstance(values, str) or not np.iterable(values) or not len(list(values)):
        raise ValueError(f"Got {name}={values!r}, but expected a sequence of {expected}.")
    numbers = []
    for value in values:
        if value is None and not below_one:
            value = UNBOUND
        fine = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
        if not fine or not 0 <= float(value) <= 1 or (below_one and float(value) == 1):
            raise ValueError(f"Got {value!r} in {name}, but expected {expected}.")
        numbers.append(float(value))
    return sorted(set(numbers))


def _check_refit(refit: Any) -> None:
    if refit is not False and refit not in RULES and not callable(refit):
        raise ValueError(f"Got refit={refit!r}, but expected one of {RULES}, a callable or False.")


# ----------------------------------------------------------------------------------- the cells


@contextmanager
def _one_thread() -> Iterator[None]:
    """Take one thread: sums in another order would give other networks for another n_jobs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _path(
    pruner: FairPruner,
    given: Given,
    sparsities: list[float],
    tolerances: list[float],
    kept: CheckpointFolder | None,
) -> Iterator[Point]:
    """Go through all cells on the given rows."""
    settings, grid = settings_of(pruner.get_params(deep=False)), (sparsities, tolerances)
    return path(given, pruner.estimator, settings, pruner.random_state, *grid, kept)


def _as_estimator(
    pruner: FairPruner, fitted: Fitted, sparsity: float, tolerance: float
) -> FairPruner:
    """Put a network into an estimator."""
    cell = clone(pruner).set_params(sparsity=sparsity, tolerance=tolerance)
    for name, value in fitted.attributes().items():
        setattr(cell, name, value)
    return cell


class Held(NamedTuple):
    """What a fold tells of the rows that it held out.

    Attributes
    ----------
    cells : dict
        By sparsity and tolerance, in order: predictions, their score, and the seconds of the fit.
    """

    cells: dict[tuple[float, float], tuple[np.ndarray, float, float]]

    def state_dict(self, classes: np.ndarray) -> dict[str, Any]:
        """Return it as data, for a checkpoint."""
        cells = [
            [*cell, torch.from_numpy(np.searchsorted(classes, predicted)), *rest]
            for cell, (predicted, *rest) in self.cells.items()
        ]
        return {"cells": cells}

    @classmethod
    def restored(cls, saved: dict[str, Any], classes: np.ndarray) -> Held:
        """Return what :meth:`state_dict` was made of."""
        cells = {
            (sparsity, tolerance): (classes[codes.numpy()], score, seconds)
            for sparsity, tolerance, codes, score, seconds in saved["cells"]
        }
        return cls(cells)


def _fold(
    pruner: FairPruner,
    X: Any,
    known: Given,
    sparsities: list[float],
    tolerances: list[float],
    train: np.ndarray,
    test: np.ndarray,
    scorer: Callable,
    kept: CheckpointFolder | None,
) -> Held:
    """Fit every cell on some rows, and predict the others."""
    if kept is not None and (finished := kept.file("finished").parts.get("held")):
        return Held.restored(finished, known.classes)
    given = replace(known, X=X)
    found, learned, held = {}, given.take(train), given.take(test)
    y = held.classes[held.y]
    with _one_thread():
        grid = (sparsities, tolerances)
        for sparsity, tolerance, fitted, seconds in _path(pruner, learned, *grid, kept):
            cell = _as_estimator(pruner, fitted, sparsity, tolerance)
            score = float(scorer(cell, held.X, y))
            found[sparsity, tolerance] = cell.predict(held.X), score, seconds
    fold = Held({(s, t): found[s, t] for t in tolerances for s in sparsities})
    if kept is not None:
        kept.file("finished").keep("held", fold.state_dict(given.classes))
        kept.keep_only("finished")
    return fold


def _measured(
    measure: Callable,
    pruner: FairPruner,
    given: Given,
    asked: dict[str, Any],
    rows: np.ndarray,
    predicted: np.ndarray,
) -> Any:
    """Gap on some rows: :func:`fairness_gap` or :func:`gap_estimate`."""
    assert given.parity is not None
    requirement = given.parity.requirement
    binary = len(given.classes) == 2
    parts = {name: _rows_of(column, rows) for name, column in asked.items()}
    return measure(
        given.classes[given.y[rows]],
        predicted,
        **parts,
        missing_sensitive=pruner.missing_sensitive,
        constraint=requirement.constraint,
        gap_method=requirement.gap_method,
        pos_label=given.classes[given.positive] if binary else None,
    )


def _rows_of(column: Any, rows: np.ndarray) -> Any:
    """Rows of what a user passed, by position."""
    if isinstance(column, dict):
        return {name: _safe_indexing(part, rows) for name, part in column.items()}
    return None if column is None else _safe_indexing(column, rows)
