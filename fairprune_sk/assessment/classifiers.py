"""The classifier that is measured: found in what it is wrapped in, and its classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def unwrapped(estimator: Any) -> tuple[list[Any], Any]:
    """Find the classifier inside searches and pipelines, however they are nested.

    Parameters
    ----------
    estimator : fitted estimator

    Returns
    -------
    transformers : list of fitted transformers
        What X goes through before it, in order.
    classifier : fitted estimator
    """
    transformers = []
    while not is_pruner(estimator):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            transformers += [estimator[:-1]] if len(estimator) > 1 else []
            estimator = estimator[-1]
        else:
            break
    return transformers, estimator


def is_pruner(estimator: Any) -> bool:
    """Whether an estimator is a FairPruner, or like one; its dense network may be left out."""
    return hasattr(type(estimator), "predict_dense")


def checked_classes(model: Any, y: np.ndarray) -> list[Any]:
    """Return the classes, after a check of the labels of y against them."""
    if not hasattr(model, "classes_"):
        check_is_fitted(model)
        raise ValueError(f"Got {type(model).__name__}, but expected a classifier with classes_.")
    classes = np.asarray(model.classes_).tolist()
    if len(classes) < 2:
        raise ValueError(f"Got an estimator with classes {classes}, but expected two or more.")
    unknown = [label for label in pd.unique(y).tolist() if label not in classes]
    if unknown:
        raise ValueError(f"Got y with labels {unknown}, but expected only {classes} (classes_).")
    return classes


def check_predicted(y_pred: Any) -> None:
    """Refuse predictions that are missing: they would count as "not selected"."""
    missing = int(np.sum(pd.isna(y_pred)))
    if missing:
        raise ValueError(
            f"Got {missing} of {len(y_pred)} predictions that are NaN or None, but expected a "
            "label for each row."
        )


def positive_last(classes: list[Any], model: Any, pos_label: Any = None) -> list[Any]:
    """Order the classes: of two, the one that counts as selected comes last.

    Parameters
    ----------
    classes : list
        Sorted.
    model : fitted classifier
        May say so itself, in ``pos_label_``, as FairPruner does.
    pos_label : label, optional
        What a user said.

    Raises
    ------
    ValueError
        If ``pos_label`` is no class, or there are more than two.
    """
    if pos_label is None:
        pos_label = getattr(model, "pos_label_", None)
    elif len(classes) > 2:
        raise ValueError(
            f"Got pos_label={pos_label!r} with {len(classes)} classes, but expected None: of more "
            "than two classes, each is held against the rest."
        )
    if pos_label is None:
        return classes
    if pos_label not in classes:
        raise ValueError(f"Got pos_label={pos_label!r}, but expected one of the labels {classes}.")
    return sorted(classes, key=lambda label: label == pos_label)
