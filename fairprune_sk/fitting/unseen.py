"""A tolerance for rows that the fit has not seen: rates of expected labels.

A network learns its training rows, and with them the rates of their groups: it finds more of the
positive women of the table than of others, and so a gap that is closed there is open elsewhere.
So the constraint does not ask whether the network finds the rows that *are* positive, but those
that may be expected to be: each row counts as positive by a probability from a network that has
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
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from skorch.callbacks import Callback

from fairprune_sk.distributed import over_processes, world
from fairprune_sk.exceptions import DivergedError, warn_at_caller
from fairprune_sk.fitting.checkpoint import Checkpoint, Part
from fairprune_sk.fitting.dense import train_dense
from fairprune_sk.fitting.outputs import logits
from fairprune_sk.fitting.progress import Bars
from fairprune_sk.fitting.resident import spread_table_of, table_of
from fairprune_sk.fitting.task import MERGED_ROWS, Given, Settings, merge_repeated_rows, task_of
from fairprune_sk.fitting.training import seeded
from fairprune_sk.networks.batch import Batch
from fairprune_sk.networks.encoding import some_rows

N_FOLDS = 2
"""Each half of the rows gets its probabilities from the other: dense networks of one fit's cost."""

PRIOR = 0.1
"""Prior variance of how far a group lies, in log-odds, from what a network says of its rows."""

CALIBRATION_ROWS = 2**20
"""Rows that are enough for a calibration."""

_STEEP = 10.0  # logits are multiplied by it, so that what is drawn towards 0 is no slope


def for_unseen(
    given: Given,
    estimator: Any,
    settings: Settings,
    seed: int,
    bars: Bars,
    checkpoint: Checkpoint | None = None,
) -> Given:
    """Turn the tolerance of the training rows into one for rows that the fit has not seen.

    Parameters
    ----------
    given : Given
        With a parity.
    estimator : None, nn.Module class or instance, or skorch net
        What a frozen one has seen cannot be set aside.
    settings : Settings
    seed : int
    bars : Bars
        Of the fit; each half of the rows is one.
    checkpoint : Checkpoint, optional
        Of the fit; one half of the rows is a part of it.

    Returns
    -------
    Given
        Which knows the chance of each class, and whose parity asks for it.

    Raises
    ------
    DivergedError
        If a network's outputs for the rows held out are not finite.

    Warns
    -----
    UserWarning
        If the network is frozen: the parity stays as it is.
    """
    if isinstance(estimator, FrozenEstimator):
        warn_at_caller(
            "Got tolerance_on='unseen' with a frozen network: which rows it has seen is not known, "
            "so the tolerance is for the training rows. Pass the network without FrozenEstimator, "
            "or set tolerance_on='training' to say so.",
            UserWarning,
        )
        return given
    assert given.parity is not None
    rows, place = _distinct(given, estimator)
    # The users' callbacks are for the fit that is kept.
    settings = replace(settings, callbacks=None, verbose=0)
    n_columns = 1 if len(given.classes) == 2 else len(given.classes)
    scores = np.zeros((len(rows.y), n_columns), dtype=np.float32)
    phases = iter(bars.phases("unseen rows", N_FOLDS))
    for number, (learned, held) in enumerate(_folds_here(rows, seed)):
        part = None if checkpoint is None else checkpoint.part(f"half {number}")
        phase = next(phases)  # that of a half that is there already stays unused
        if part is not None and part.saved is not None:
            scores[held] = part.saved.numpy()
            continue
        with seeded(seed, settings.device):
            halves = rows.take(learned), rows.take(held)
            scores[held] = _scores(*halves, estimator, settings, phase, part)
        if part is not None:
            part.keep(torch.from_numpy(scores[held]))
    if not np.isfinite(over_processes(float(scores.sum()))):
        raise DivergedError(
            "A network of tolerance_on='unseen' has logits that are not finite on the rows that it "
            "was not trained on: look for outliers in X, or set tolerance_on='training'."
        )
    chance = calibrated(scores, rows)
    return replace(given, chance=chance[place], parity=replace(given.parity, unseen=True))


def calibrated(scores: np.ndarray, rows: Given) -> np.ndarray:
    """Turn logits for rows that were held out into chances, right on the mean in each group.

    A logistic regression of the labels on the logits and the groups, whose effects are drawn
    towards 0 by :data:`PRIOR`: what a group of few rows has is mostly noise.

    Parameters
    ----------
    scores : ndarray of shape (n, n_columns)
    rows : Given
        With groups, and with weights where there are any.

    Returns
    -------
    ndarray of shape (n, n_classes), float32
    """
    assert rows.parity is not None and rows.group is not None
    # A row without a group gets none of the effects.
    groups = np.eye(rows.parity.n_groups + 1, rows.parity.n_groups)[rows.group]
    known = np.column_stack([_STEEP * scores, groups])
    labels, weight = world().whole(rows.y), world().whole(rows.weight)
    few = some_rows(len(labels), CALIBRATION_ROWS)
    if weight is not None:
        weight = weight[few] / weight.mean()
    model = LogisticRegression(C=PRIOR, solver="newton-cholesky", max_iter=1000)
    model.fit(world().whole(known)[few], labels[few], sample_weight=weight)
    chance = np.zeros((len(scores), len(rows.classes)), dtype=np.float32)
    chance[:, model.classes_] = model.predict_proba(known)
    return chance


def _distinct(given: Given, estimator: Any) -> tuple[Given, np.ndarray]:
    """Rows to learn from, and which of them each given row is.

    Weights and repeated rows of a small table give the same folds, as they give the same fit.
    """
    if estimator is not None or len(given.y) > MERGED_ROWS or world().size > 1:
        return given, np.arange(len(given.y))
    columns = [column for column in (given.group, given.within) if column is not None]
    index, weight, place = merge_repeated_rows(given.X, given.y, columns, given.weight)
    return replace(given.take(index), weight=weight), place


def alike_folds(given: Given, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Split rows into those to learn from and those to hold out, alike in classes and groups.

    Parameters
    ----------
    given : Given
    n_folds : int
    seed : int

    Returns
    -------
    list of (learned, held)
        Positions of rows.
    """
    group = np.zeros(len(given.y), dtype=np.int64) if given.group is None else given.group
    strata = given.y * (group.max() + 2) + group
    alike = np.bincount(strata - strata.min()).max() >= n_folds
    folds = (StratifiedKFold if alike else KFold)(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # may be of a single row
        return list(folds.split(np.empty(len(strata)), strata))


def _folds_here(given: Given, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of the rows of all processes: which of those here are learned from, and held out."""
    if world().size == 1:
        return alike_folds(given, N_FOLDS, seed)
    here = world().span(len(given.y))
    whole = replace(given, y=world().whole(given.y), group=world().whole(given.group))
    folds = []
    for parts in alike_folds(whole, N_FOLDS, seed):
        own = [part[(part >= here.start) & (part < here.stop)] - here.start for part in parts]
        folds.append((own[0], own[1]))
    return folds


def _scores(
    learned: Given,
    held: Given,
    estimator: Any,
    settings: Settings,
    phase: Callback | None,
    part: Part | None,
) -> np.ndarray:
    """Train a dense network on some rows; logits of it for others, shape (n, n_columns)."""
    task = task_of(learned, estimator, settings)
    table = spread_table_of(task.rows, settings.device)
    dense = train_dense(task, table, phase, None if part is None else part.part("dense"))
    X = held.X if task.encoder is None else task.encoder.transform(held.X)
    found = logits(dense.module, table_of(Batch(X), settings.device), dense.probabilities)
    return found.detach().cpu().numpy()
