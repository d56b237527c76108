"""Checks of the sensitive features, and of what must be fair between their groups."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fairprune_sk.datasets.columns import FEWEST_ROWS
from fairprune_sk.exceptions import SmallGroupWarning, warn_at_caller
from fairprune_sk.fairness.constraints import OUTSIDE, cell_codes, class_columns, first_cells
from fairprune_sk.fairness.groups import counted, group_codes, group_name, sensitive_frame
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fairness.requirement import Requirement
from fairprune_sk.fitting.validation import Labels
from fairprune_sk.networks.batch import weight_seen

# A group of this many times min_group_count rows without, say, a single positive is no accident
# of a small sample: what to do about it is for the user to decide.
_NO_ACCIDENT = 10

# More groups than this, nearly all of them too small, are no groups but values.
_MANY_GROUPS = 20

# Rows in no comparison are told of beyond this share, or where cells are left out.
_TOLD_OUTSIDE = 0.05

# Cells that an error names one by one; a warning, which is about them, names more.
_SHOWN, _WARNED = 8, 100


def check_groups(
    sensitive_features: Any, n_rows: int, constraint: Any, missing: str
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
    missing : {"error", "group", "ignore"}
        What becomes of missing values.

    Returns
    -------
    codes : ndarray of shape (n,), int64, or None
        -1 for a row without a group.
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
    codes, groups = group_codes(sensitive_frame(sensitive_features, n_rows, missing=missing))
    if constraint is not None and len(groups) < 2:
        names = ", ".join(repr(group_name(group)) for group in groups)
        raise ValueError(
            f"Got sensitive_features with one group, {names}, but expected at least two: between "
            "which groups should rates be equal?"
            if names
            else "Got sensitive_features without a value, but expected at least two groups."
        )
    return codes, groups


def check_apart(codes: np.ndarray, group: np.ndarray) -> None:
    """Refuse sensitive features that are the target itself: no rate could differ by them alone.

    Parameters
    ----------
    codes, group : ndarray of shape (n,), int64
        Classes, and groups; -1 for a row without a group.

    Raises
    ------
    ValueError
        If each group has rows of one class, and each class of one group.
    """
    inside = group >= 0
    if inside.sum() < FEWEST_ROWS:  # a few rows may fall so by chance
        return
    pairs = pd.unique(codes[inside] * (group.max() + 1) + group[inside])
    classes, groups = divmod(pairs, group.max() + 1)
    if len(pairs) == len(np.unique(classes)) == len(np.unique(groups)):
        raise ValueError(
            "Got sensitive_features that are the target y, value for value: between the groups "
            "of a prediction's own target no rate can be equal. Pass who the people are, such as "
            "sex or age group."
        )


def check_parity(
    requirement: Requirement,
    labels: Labels,
    group: np.ndarray,
    groups: np.ndarray,
    control_features: Any,
    min_group_count: int,
    weight: np.ndarray | None = None,
) -> tuple[Parity, Tensor, np.ndarray]:
    """Find the cells of each row, and the cells that are large enough to be constrained.

    Parameters
    ----------
    requirement : Requirement
    labels : Labels
    group : ndarray of shape (n,), int64
    groups : ndarray of shape (n_groups,)
    control_features : Any
        As passed to ``fit``; may be None.
    min_group_count : int
    weight : ndarray of shape (n,), optional
        A cell then counts Kish's effective number of rows, (Σw)² / Σw².

    Returns
    -------
    parity : Parity
    cell : Tensor of shape (n, n_outcomes), int64
    within : ndarray of shape (n,), int64
        Group codes within the control strata; -1 for a row that is in none.

    Raises
    ------
    ValueError
        If a large group has an empty cell, or no two groups can be compared.

    Warns
    -----
    SmallGroupWarning
        If cells are left out, or many rows are in no comparison.
    """
    constraint, (y, classes, positive) = requirement.constraint, labels
    least = min(min_group_count, len(y) + 1)  # no row count is larger
    stratum, strata = np.zeros_like(y), np.array([None], dtype=object)
    if control_features is not None:
        stratum, strata = group_codes(
            sensitive_frame(control_features, len(y), name="control_features")
        )
    n_groups, n_strata = len(groups), len(strata)
    n_columns = 1 if len(classes) == 2 else len(classes)
    is_class = class_columns(torch.from_numpy(y), n_columns, positive)
    cell = cell_codes(
        constraint,
        is_class,
        torch.from_numpy(group),
        n_groups,
        torch.from_numpy(stratum),
        n_strata,
    )
    conditions = [
        ", ".join(
            [event]
            + ([f"class {classes[outcome]}"] if cell.shape[1] > 1 else [])
            + ([group_name(name)] if control_features is not None else [])
        )
        for outcome in range(cell.shape[1])
        for event in constraint.events
        for name in strata
    ]
    n_cells = len(conditions) * n_groups
    if int(cell.max()) >= n_cells:
        raise ValueError(
            f"Got {type(constraint).__name__} with codes of events beyond its {constraint.events}, "
            "but expected OUTSIDE, or the position of one of them."
        )
    counts = torch.from_numpy(rows_in(cell.numpy(), n_cells, weight))
    # Rows of the cell's group in its stratum, whatever their label.
    within = np.where((group >= 0) & (stratum >= 0), stratum * n_groups + group, OUTSIDE)
    of_strata = n_strata * n_groups
    present, totals = (
        torch.from_numpy(np.tile(rows_in(within[:, None], of_strata, w), n_cells // of_strata))
        for w in (None, weight)
    )

    def names(selected: Tensor, most: int = _SHOWN) -> str:
        def name(index: int) -> str:
            condition = conditions[index // n_groups]
            rows = "rows" if condition == "all" else f"{condition} rows"
            rows = rows if weight is None else f"{rows} by weight"
            return f"{group_name(groups[index % n_groups])!r} ({int(counts[index])} {rows})"

        indices = [int(index) for index in selected.nonzero().flatten()]
        more = f"; and {len(indices) - most} more" if len(indices) > most else ""
        return "; ".join(map(name, indices[:most])) + more

    # What no group has an example of, such as a label in a stratum, is compared nowhere.
    somewhere = (counts.view(-1, n_groups).sum(1) > 0).repeat_interleave(n_groups)
    impossible = somewhere & (counts == 0) & (totals >= _NO_ACCIDENT * least)
    if impossible.any():
        raise ValueError(
            f"Got groups without an example that {type(constraint).__name__} conditions on: "
            f"{names(impossible)}. Their rate does not exist: merge them with other groups, "
            "leave their rows out, or choose another constraint."
        )
    of_group = rows_in(group[:, None], n_groups, weight)
    n_small = int((of_group < least).sum())
    if n_groups > _MANY_GROUPS and n_small > 0.9 * n_groups:
        raise ValueError(
            f"Got sensitive_features with {n_groups} groups in {len(y):,} rows, of which {n_small} "
            f"have fewer than min_group_count={min_group_count} rows: their rates say nothing. "
            "Make fewer groups: bin numbers such as an age (pandas.cut), merge rare values, and "
            "leave out what names the rows."
        )
    constrained = counts >= least
    if (constrained.view(-1, n_groups).sum(dim=1) < 2).all():
        raise ValueError(
            f"Got no two groups with at least min_group_count={min_group_count} rows to compare: "
            f"{names(~constrained)}. Lower min_group_count, or merge groups: a sensitive feature "
            "of many values, such as an age, must be binned."
        )
    small = ~constrained & (present > 0)
    # A rate that is compared with no other's is held to nothing.
    alone = constrained & (constrained.view(-1, n_groups).sum(1) < 2).repeat_interleave(n_groups)
    constrained &= ~alone
    said = []
    if small.any():
        said.append(
            f"Left out of the constraint, with fewer than min_group_count={min_group_count} "
            f"rows: {names(small, _WARNED)}."
        )
    if alone.any():
        said.append(
            f"Left out of the constraint, with no other group to compare with: "
            f"{names(alone, _WARNED)}."
        )
    covered = _coverage(cell, constrained, group)
    if said or covered.share_outside > _TOLD_OUTSIDE:
        said.append(
            f"No comparison covers {counted(covered.n_outside, 'row')} of {len(y):,} "
            f"({covered.share_outside:.0%}), {covered.n_without} of them without a sensitive "
            f"feature, and {n_groups - covered.n_groups} of {counted(n_groups, 'group')}."
        )
        warn_at_caller(" ".join(said), SmallGroupWarning)
    names_of_groups = tuple(map(group_name, groups))
    parity = Parity(
        requirement,
        names_of_groups,
        tuple(conditions),
        counts,
        constrained,
        positive,
        n_strata=n_strata,
        n_outcomes=cell.shape[1],
        first_cells=first_cells(constraint, len(classes), n_groups, n_strata, positive),
    )
    return parity, cell, within


def rows_in(cell: np.ndarray, n_cells: int, weight: np.ndarray | None) -> np.ndarray:
    """Count the rows in each cell, shape (n_cells,), int64; by weight, the effective ones (Kish).

    A rate that rests on one heavy row among many light ones rests on one row, and weights that
    vanish in the network's 32 bits count for nothing.
    """
    inside = cell >= 0
    if weight is None:
        return np.bincount(cell[inside], minlength=n_cells)
    seen = np.broadcast_to(weight_seen(weight)[:, None], cell.shape)[inside]
    total, squares = (np.bincount(cell[inside], w, minlength=n_cells) for w in (seen, seen**2))
    effective = np.divide(total**2, squares, out=np.zeros(n_cells), where=squares > 0)
    return np.rint(effective).astype(np.int64)


class _Coverage(NamedTuple):
    """What the comparisons of a constraint leave aside, of what they could have covered."""

    n_outside: int
    """Rows that the constraint asks for, in no cell that is compared; or without a group."""
    n_without: int
    """Rows without a group."""
    n_groups: int
    """Groups with a cell that is compared."""
    share_outside: float
    """Of all rows."""


def _coverage(cell: Tensor, constrained: Tensor, group: np.ndarray) -> _Coverage:
    """Look at how many rows and groups are compared with others."""
    without = group < 0
    known = cell >= 0
    compared = known & constrained[cell.clamp_min(0)]
    outside = without | (known.any(1) & ~compared.any(1)).numpy()
    groups = np.unique(group[compared.any(1).numpy()])
    return _Coverage(int(outside.sum()), int(without.sum()), len(groups), float(outside.mean()))
