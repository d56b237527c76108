"""Checks of labels and groups, all before any training."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from fairprune_sk.constraints import Cells, Constraint, cell_codes
from fairprune_sk.exceptions import SmallGroupWarning
from fairprune_sk.groups import group_codes, group_name, sensitive_frame


def check_labels(y: Any, estimator_name: str) -> tuple[np.ndarray, np.ndarray]:
    """Code the labels of two classes.

    Parameters
    ----------
    y : array-like of shape (n,)
    estimator_name : str
        For the messages.

    Returns
    -------
    codes : ndarray of shape (n,), int64
        0 and 1.
    classes : ndarray of shape (2,)

    Raises
    ------
    ValueError
        If there are not two classes.
    """
    if y is None:
        raise ValueError(
            f"This {estimator_name} estimator requires y to be passed, but the target y is None."
        )
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    encoder = LabelEncoder()
    codes = encoder.fit_transform(y)
    classes = encoder.classes_
    if len(classes) == 1:
        raise ValueError(
            f"Got y with one class, {classes[0]}, but expected two: there is nothing to learn. "
            "Classifier can't train when only one class is present."
        )
    if len(classes) > 2:
        raise ValueError(
            "Only binary classification is supported. The type of the target is "
            f"{type_of_target(y)}, with {len(classes)} classes."
        )
    return codes, classes


def check_groups(
    sensitive_features: Any, n_rows: int, constraint: Any
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Code the groups.

    Parameters
    ----------
    sensitive_features : Any
        As passed to ``fit``; may be None.
    n_rows : int
        Number of rows of X.
    constraint : str, Constraint or None
        The constraint that needs them, or None if nothing does.

    Returns
    -------
    codes : ndarray of shape (n,), int64, or None
    groups : ndarray of shape (n_groups,), object, or None

    Raises
    ------
    ValueError
        If a constraint is left without groups, or with one only.
    """
    if sensitive_features is None:
        if constraint is not None:
            raise ValueError(
                f"Got constraint={constraint!r} without sensitive_features, but a fairness "
                "constraint needs the group of each row: pass fit(X, y, sensitive_features=...), "
                "or set constraint=None for pruning without fairness."
            )
        return None, None
    codes, groups = group_codes(sensitive_frame(sensitive_features, n_rows))
    if constraint is not None and len(groups) < 2:
        raise ValueError(
            f"Got sensitive_features with one group, {group_name(groups[0])!r}, but expected at "
            "least two: between which groups should rates be equal?"
        )
    return codes, groups


def check_cells(
    constraint: Constraint,
    y: np.ndarray,
    group: np.ndarray,
    groups: np.ndarray,
    min_group_count: int,
) -> tuple[Cells, Tensor]:
    """Find the cell of each row, and the cells that are large enough to be constrained.

    Parameters
    ----------
    constraint : Constraint
    y, group : ndarray of shape (n,), int64
    groups : ndarray of shape (n_groups,)
    min_group_count : int

    Returns
    -------
    cells : Cells
    cell : Tensor of shape (n,), int64

    Raises
    ------
    ValueError
        If a cell is empty, or no event has two groups that can be compared.

    Warns
    -----
    SmallGroupWarning
        If cells are left out.
    """
    n_groups = len(groups)
    cell = cell_codes(constraint, torch.from_numpy(y), torch.from_numpy(group), n_groups)
    n_cells = len(constraint.events) * n_groups
    counts = torch.bincount(cell[cell >= 0], minlength=n_cells)

    def names(selected: Tensor) -> str:
        def name(index: int) -> str:
            event = constraint.events[index // n_groups]
            rows = "rows" if event == "all" else f"{event} rows"
            return f"{group_name(groups[index % n_groups])!r} ({int(counts[index])} {rows})"

        return "; ".join(name(int(index)) for index in selected.nonzero().flatten())

    if (counts == 0).any():
        raise ValueError(
            f"Got groups without an example that {type(constraint).__name__} conditions on: "
            f"{names(counts == 0)}. Their rate does not exist: merge them with other groups, "
            "leave their rows out, or choose another constraint."
        )
    constrained = counts >= min_group_count
    if (constrained.view(-1, n_groups).sum(dim=1) < 2).all():
        raise ValueError(
            f"Got no two groups with at least min_group_count={min_group_count} rows to compare: "
            f"{names(~constrained)}. Lower min_group_count, or merge groups."
        )
    if not constrained.all():
        warnings.warn(
            f"Left out of the constraint, with fewer than min_group_count={min_group_count} "
            f"rows: {names(~constrained)}.",
            SmallGroupWarning,
            stacklevel=4,
        )
    return Cells(constraint, n_groups, constrained), cell
