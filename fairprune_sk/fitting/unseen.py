"""A tolerance for rows that the fit has not seen: rates of expected labels.

A network learns its training rows, and with them the rates of their groups: it finds more of the
positive women of the table than of others, and so a gap that is closed there is open elsewhere.
So the constraint does not ask whether the network finds the rows that *are* positive, but those
that may be expected to be: each row counts as positive by a probability from a classifier that has
not learned from it (cross-fitting), calibrated in each group. Such rates are not flattered, since
what a network has learned by heart is a label; and they are known better, since every row of a
group counts and not its few positive ones alone. (Ji, Smyth and Steyvers, "Can I Trust My Fairness
Metric? Assessing Fairness with Unlabeled Data and Bayesian Inference", NeurIPS 2020.)
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

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
from fairprune_sk.fitting.outputs import logits
from fairprune_sk.fitting.progress import Bars
from fairprune_sk.fitting.resident import table_of
from fairprune_sk.fitting.task import Task, task_of
from fairprune_sk.fitting.training import seeded
from fairprune_sk.networks.batch import Batch
from fairprune_sk.networks.encoding import some_rows

N_FOLDS = 5
"""Of a table, for boosted trees; what is no table is halved, for networks."""

PRIOR = 0.1
"""Prior variance of how far a group lies, in log-odds, from what a classifier says of its rows."""

ENOUGH_ROWS = 2**18
"""Rows that trees, or the calibration, learn from at most."""

_STEEP = 10.0  # logits are multiplied by it, so that what is drawn towards 0 is no slope
_LEAST = 1e-6  # probabilities lie this far from 0 and 1
_MOST_CATEGORIES = 254
_AT_A_TIME = 2**17  # rows


def chances(
    task: Task, estimator: Any, seed: int, bars: Bars, checkpoint: Checkpoint | None = None
) -> Tensor:
    """Probability of each class for each row, from classifiers that have not learned from it.

    Of a table they are boosted trees, which take a small part of the time of a network; of images
    and dicts, dense networks of the task.

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
    Tensor of shape (n, n_classes), float32

    Raises
    ------
    DivergedError
        If a network's outputs for the rows held out are not finite.
    """
    X = task.rows.X
    if isinstance(X, np.ndarray) and X.ndim == 2:
        scores = _of_trees(task, seed)
    else:
        scores = _of_networks(task, estimator, seed, bars, checkpoint)
    if not np.isfinite(over_processes(float(scores.sum()))):
        raise DivergedError(
            "A network of tolerance_on='unseen' has logits that are not finite on the rows that it "
            "was not trained on: look for outliers in X, or set tolerance_on='training'."
        )
    return torch.from_numpy(calibrated(scores, task))


def calibrated(scores: np.ndarray, task: Task) -> np.ndarray:
    """Turn logits for rows that were held out into chances, right on the mean in each group.

    A logistic regression of the labels on the logits and the groups, whose effects are drawn
    towards 0 by :data:`PRIOR`: what a group of few rows has is mostly noise.

    Parameters
    ----------
    scores : ndarray of shape (n, n_columns)
    task : Task
        With a parity.

    Returns
    -------
    ndarray of shape (n, n_classes), float32
    """
    rows = task.rows
    assert task.parity is not None and rows.group is not None
    # A row without a group gets none of the effects.
    groups = np.eye(task.parity.n_groups + 1, task.parity.n_groups)[rows.group.numpy()]
    known = np.column_stack([_STEEP * scores, groups])
    labels, weight = world().whole(rows.y.numpy()), _whole_weight(rows)
    few = some_rows(len(labels), ENOUGH_ROWS)
    model = LogisticRegression(C=PRIOR, solver="newton-cholesky", max_iter=1000)
    weight = None if weight is None else weight[few]
    model.fit(world().whole(known)[few], labels[few], sample_weight=weight)
    chance = np.zeros((len(scores), len(task.given.classes)), dtype=np.float32)
    chance[:, model.classes_] = model.predict_proba(known)
    return chance


def _of_trees(task: Task, seed: int) -> np.ndarray:
    """Logits of boosted trees, which learn from the other folds; shape (n, n_columns)."""
    X, rows = task.rows.X, task.rows
    labels, weight = world().whole(rows.y.numpy()), _whole_weight(rows)
    group = None if rows.group is None else world().whole(rows.group.numpy())
    start = world().span(len(X)).start or 0
    here = slice(start, start + len(X))
    codes = [] if task.encoder is None else task.encoder.n_categories_
    # In the encoded table, categories come last.
    of_categories = [False] * (X.shape[1] - len(codes)) + [n <= _MOST_CATEGORIES for n in codes]
    chance = np.full((len(X), len(task.given.classes)), _LEAST)
    for learned, held in alike_folds(labels, group, min(N_FOLDS, len(labels)), seed):
        few = learned[some_rows(len(learned), ENOUGH_ROWS)]
        own = few[(few >= here.start) & (few < here.stop)] - here.start
        model = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=150,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            categorical_features=of_categories,
            early_stopping=False,
            random_state=0,
        )
        held = held[(held >= here.start) & (held < here.stop)] - here.start
        # One thread: with more, sums would be in another order on another machine.
        with threadpool_limits(1, user_api="openmp"):
            of_few = None if weight is None else weight[few]
            model.fit(world().whole(X[own]), labels[few], sample_weight=of_few)
            for begin in range(0, len(held), _AT_A_TIME):
                part = held[begin : begin + _AT_A_TIME]
                chance[np.ix_(part, model.classes_)] = model.predict_proba(X[part])
    chance = chance.clip(_LEAST, 1 - _LEAST)
    return logit(chance[:, 1:]) if chance.shape[1] == 2 else np.log(chance)


def _of_networks(
    task: Task, estimator: Any, seed: int, bars: Bars, checkpoint: Checkpoint | None
) -> np.ndarray:
    """Logits of the task's own dense network, trained on the other half; shape (n, n_columns)."""
    given, settings = task.given, replace(task.settings, callbacks=None, verbose=0)
    scores = np.zeros((len(given.y), 1 if len(given.classes) == 2 else len(given.classes)))
    phases = iter(bars.phases("unseen rows", 2))
    for number, (learned, held) in enumerate(alike_folds(given.y, given.group, 2, seed)):
        part = None if checkpoint is None else checkpoint.part(f"half {number}")
        phase = next(phases)  # that of a half that is there already stays unused
        if part is not None and part.saved is not None:
            scores[held] = part.saved.numpy()
            continue
        with seeded(seed, settings.device):
            half = task_of(given.take(learned), estimator, settings)
            table = table_of(half.rows, settings.device)
            dense = train_dense(half, table, phase, None if part is None else part.part("dense"))
            others = table_of(Batch(given.take(held).X), settings.device)
            found = logits(dense.module, others, dense.probabilities).detach().cpu()
        scores[held] = found.numpy()
        if part is not None:
            part.keep(found)
    return scores


def _whole_weight(rows: Batch) -> np.ndarray | None:
    return None if rows.weight is None else world().whole(rows.weight.numpy())


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
