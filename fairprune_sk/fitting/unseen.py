"""A tolerance for rows that the fit has not seen: rates of expected labels and groups.

A network learns its training rows by heart, their labels and, from the pull of the constraint, who
is in which group: rates that are equal there are not elsewhere. So the constraint does not ask what
the network does to the rows that *are* positive and of a group, but to those that may be expected
to be: each row counts in every cell, by its probability of being in it, from classifiers that have
not learned from it (cross-fitting). What a network makes of the rest of a row has nothing more to
do with its label or group, so such rates are those of other rows too; and as every row counts in
every cell, they are known better than those of a few. (Ji, Smyth and Steyvers, "Can I Trust My
Fairness Metric? Assessing Fairness with Unlabeled Data and Bayesian Inference", NeurIPS 2020;
Chen, Kallus, Mao, Svacha and Udell, "Fairness Under Unawareness", FAT* 2019.)
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from threadpoolctl import threadpool_limits
from torch import Tensor

from fairprune_sk.distributed import over_processes, world
from fairprune_sk.exceptions import DivergedError
from fairprune_sk.fitting.checkpoint import Checkpoint
from fairprune_sk.fitting.dense import train_dense
from fairprune_sk.fitting.outputs import has_hidden, hidden, logits
from fairprune_sk.fitting.progress import Bars
from fairprune_sk.fitting.resident import spread_table_of, table_of
from fairprune_sk.fitting.task import Task, task_of
from fairprune_sk.fitting.training import seeded
from fairprune_sk.networks.batch import Batch
from fairprune_sk.networks.encoding import some_rows

N_FOLDS = 5
"""Parts of the rows; each gets its probabilities from trees that learn from the others."""

MOST_ROWS = 2**20
"""Rows beyond which nothing is learned by heart: labels and groups are taken as they are."""

ENOUGH_ROWS = 2**18
"""Rows that trees, or the calibration, learn from at most."""

N_TREES = 150
"""Of one outcome; those of several share twice as many, with longer steps."""

PRIOR = 0.1
"""Prior variance of how far a group lies, in log-odds, from what trees say of its rows."""

_STEEP = 10.0  # logits are multiplied by it, so that what is drawn towards 0 is no slope
_LEAST = 1e-6  # probabilities lie this far from 0 and 1
_MOST_CATEGORIES = 254


class Known(NamedTuple):
    """What trees may know of some rows of this process."""

    rows: np.ndarray
    """Positions of the rows."""
    X: np.ndarray
    """Shape (n_rows, n_columns)."""
    of_categories: list[bool]
    """Which columns hold codes."""


class Truth(NamedTuple):
    """What trees learn of all rows of all processes."""

    y: np.ndarray
    """Class codes, shape (n,)."""
    within: np.ndarray
    """Codes of groups within strata, shape (n,); -1 for none."""
    weight: np.ndarray | None
    here: slice
    """Which of the rows this process has."""


def chances(
    task: Task, estimator: Any, seed: int, bars: Bars, checkpoint: Checkpoint | None = None
) -> Tensor | None:
    """Probability of each class in each group for each row, from trees that never saw the row.

    They read the table, as it is encoded; of images and dicts the last hidden layer of the task's
    own network, trained on the other half of the rows.

    Parameters
    ----------
    task : Task
        With a parity.
    estimator : None, nn.Module class or instance, or skorch net
        That the task was made of.
    seed : int
    bars : Bars
        Of the fit; where networks are trained, all of them are one.
    checkpoint : Checkpoint, optional
        Of the fit; one half of the rows is a part of it.

    Returns
    -------
    Tensor of shape (n, n_classes, n_strata * n_groups), float32, or None
        None for tables of more than :data:`MOST_ROWS`. 0 for a row that is in no group.

    Raises
    ------
    DivergedError
        If what a network makes of the rows held out is not finite.
    """
    given, X, n = task.given, task.rows.X, len(task.rows)
    assert given.within is not None and given.parity is not None
    if over_processes(n) > MOST_ROWS:
        return None
    start = world().span(n).start or 0
    truth = Truth(
        world().whole(given.y),
        world().whole(given.within),
        None if task.rows.weight is None else world().whole(task.rows.weight.numpy()),
        slice(start, start + n),
    )
    if isinstance(X, np.ndarray) and X.ndim == 2:
        codes = [] if task.encoder is None else task.encoder.n_categories_
        # In the encoded table, categories come last.
        numbers = [False] * (X.shape[1] - len(codes))
        of_categories = [*numbers, *(n_codes <= _MOST_CATEGORIES for n_codes in codes)]
        parts = [Known(np.arange(n), X, of_categories)]
    else:
        parts = _of_networks(task, truth, estimator, seed, bars, checkpoint)
    n_classes = len(given.classes)
    of_class, of_group = np.empty((n, n_classes)), np.empty((n, given.parity.n_within))
    for part in parts:
        of_class[part.rows] = _by_trees(part, truth, truth.y, n_classes, seed)
        of_group[part.rows] = _by_trees(part, truth, truth.within, of_group.shape[1], seed)
    of_group[given.within < 0] = 0.0
    chance = calibrated(of_class, truth, of_group.shape[1]) * of_group[:, None]
    return torch.from_numpy(chance.astype(np.float32))


def calibrated(chance: np.ndarray, truth: Truth, n_within: int) -> np.ndarray:
    """Turn chances of the classes into those within each group, right on its mean.

    A logistic regression of the labels on log-odds and groups, whose effects are drawn towards 0
    by :data:`PRIOR`: what a group of few rows has is mostly noise.

    Parameters
    ----------
    chance : ndarray of shape (n, n_classes)
        Of rows that were held out.
    truth : Truth
    n_within : int

    Returns
    -------
    ndarray of shape (n, n_classes, n_within)
        If a row were in each of the groups.
    """
    n, n_classes = chance.shape
    odds = _STEEP * (logit(chance[:, 1:]) if n_classes == 2 else np.log(chance))
    whole = world().whole(odds)
    few = np.flatnonzero(truth.within >= 0)
    few = few[some_rows(len(few), ENOUGH_ROWS)]
    model = LogisticRegression(C=PRIOR, solver="newton-cholesky", max_iter=1000)
    weight = None if truth.weight is None else truth.weight[few]
    groups = np.eye(n_within)
    known = np.column_stack([whole[few], groups[truth.within[few]]])
    model.fit(known, truth.y[few], sample_weight=weight)
    within = np.zeros((n, n_classes, n_within))
    for group, effect in enumerate(groups):
        known = np.column_stack([odds, np.broadcast_to(effect, (n, n_within))])
        within[:, model.classes_, group] = model.predict_proba(known)
    return within


def _by_trees(part: Known, truth: Truth, target: np.ndarray, n_codes: int, seed: int) -> np.ndarray:
    """Chance of each code of a target, from trees that learn from the other folds.

    Returns
    -------
    ndarray of shape (n_rows, n_codes)
        Of the rows of the part.
    """
    whole = np.concatenate(world().gathered(part.rows + truth.here.start))
    # For each of these rows, where in the part it is, if it is a row of this process.
    place = np.full(len(truth.y), -1)
    place[part.rows + truth.here.start] = np.arange(len(part.rows))
    chance = np.full((len(part.rows), n_codes), _LEAST)
    kinds = len(np.unique(target[whole][target[whole] >= 0]))
    n_trees = N_TREES if kinds <= 2 else max(2 * N_TREES // kinds, 15)
    for learned, held in alike_folds(
        truth.y[whole], truth.within[whole], min(N_FOLDS, len(whole)), seed
    ):
        learned = whole[learned]
        learned = learned[target[learned] >= 0]
        few = learned[some_rows(len(learned), ENOUGH_ROWS)]
        X = world().whole(part.X[place[few][place[few] >= 0]])
        weight = None if truth.weight is None else truth.weight[few]
        own = place[whole[held]]
        own = own[own >= 0]
        if len(np.unique(target[few])) < 2:
            chance[own[:, None], np.unique(target[few])] = 1.0
            continue
        model = HistGradientBoostingClassifier(
            learning_rate=min(0.05 * N_TREES / n_trees, 0.3),
            max_iter=n_trees,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            categorical_features=part.of_categories,
            early_stopping=False,
            random_state=0,
        )
        # One thread: with more, sums would be in another order on another machine.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(X, target[few], sample_weight=weight)
            chance[np.ix_(own, model.classes_)] = model.predict_proba(part.X[own])
    chance = chance.clip(_LEAST, 1 - _LEAST)
    return chance / chance.sum(1, keepdims=True)


def _of_networks(
    task: Task,
    truth: Truth,
    estimator: Any,
    seed: int,
    bars: Bars,
    checkpoint: Checkpoint | None,
) -> list[Known]:
    """Last hidden layer of the task's own dense network, trained on the other half of the rows."""
    given, settings, parts = task.given, replace(task.settings, callbacks=None, verbose=0), []
    phases = iter(bars.phases("unseen rows", 2))
    for number, fold in enumerate(alike_folds(truth.y, truth.within, 2, seed)):
        here = truth.here
        learned, held = (r[(r >= here.start) & (r < here.stop)] - here.start for r in fold)
        part = None if checkpoint is None else checkpoint.part(f"half {number}")
        phase = next(phases)  # that of a half that is there already stays unused
        found = None if part is None else part.saved
        if found is None:
            with seeded(seed, settings.device):
                half = task_of(given.take(learned), estimator, settings)
                table = spread_table_of(half.rows, settings.device)
                kept = None if part is None else part.part("dense")
                dense = train_dense(half, table, phase, kept)
                others = table_of(Batch(given.take(held).X), settings.device)
                if has_hidden(dense.module):
                    found = hidden(dense.module, others)
                else:
                    found = logits(dense.module, others, dense.probabilities)
                found = found.detach().cpu()
            if part is not None:
                part.keep(found)
        if not found.isfinite().all():
            raise DivergedError(
                "A network of tolerance_on='unseen' has outputs that are not finite on the rows "
                "that it was not trained on: look for outliers in X, or set "
                "tolerance_on='training'."
            )
        parts.append(Known(held, found.flatten(1).numpy(), [False] * found.flatten(1).shape[1]))
    return parts


def alike_folds(
    y: np.ndarray, group: np.ndarray | None, n_folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into those to learn from and those to hold out, alike in classes and groups.

    Parameters
    ----------
    y, group : ndarray of shape (n,), int64
    n_folds : int
    seed : int

    Returns
    -------
    list of (learned, held)
        Positions of rows.
    """
    group = np.zeros(len(y), dtype=np.int64) if group is None else group
    strata = y * (group.max() + 2) + group
    alike = np.bincount(strata - strata.min()).max() >= n_folds
    folds = (StratifiedKFold if alike else KFold)(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # may be of a single row
        return list(folds.split(np.empty(len(strata)), strata))
