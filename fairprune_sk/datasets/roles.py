"""A table by what its columns are for, with labels as they are, and its rows to test on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from fairprune_sk.datasets.columns import kind_of
from fairprune_sk.datasets.description import TableDescription
from fairprune_sk.datasets.tables import check_described, group_names, labels_of, names_of
from fairprune_sk.fairness.groups import MISSING

MIN_ROWS = 20
"""Fewer rows cannot be split into rows to fit on and rows to test on."""

MAX_GROUPS = 100
"""More groups than these are no groups: each rate of them is of a handful of rows."""


@dataclass(frozen=True, eq=False)
class Roles:
    """A table by what its columns are for.

    Attributes
    ----------
    X : DataFrame of shape (n, n_features)
        The features, with raw values.
    y : Series of shape (n,)
        Labels, by the name of the target: text without white space around, whole numbers, or
        booleans.
    sensitive : DataFrame of shape (n, n_sensitive)
        The name of each row's group, as text, for each sensitive feature.
    control : DataFrame of shape (n, n_control) or None
        The same of the control features.
    pos_label : object
        Of two classes the positive one; None for more.
    rows : ndarray of shape (n,), int64
        The row of the table that each row is, counted from 0.
    left_out : dict of int
        How many rows were left out, by the reason.
    """

    X: pd.DataFrame
    y: pd.Series
    sensitive: pd.DataFrame
    control: pd.DataFrame | None
    pos_label: Any
    rows: np.ndarray
    left_out: dict[str, int]

    def take(self, rows: np.ndarray) -> Roles:
        """Return some of the rows, by position.

        Parameters
        ----------
        rows : ndarray of int64

        Returns
        -------
        Roles
        """
        return Roles(
            self.X.iloc[rows].reset_index(drop=True),
            self.y.iloc[rows].reset_index(drop=True),
            self.sensitive.iloc[rows].reset_index(drop=True),
            None if self.control is None else self.control.iloc[rows].reset_index(drop=True),
            self.pos_label,
            self.rows[rows],
            self.left_out,
        )

    @property
    def classes(self) -> list:
        """The labels, sorted."""
        return sorted(np.unique(self.y.to_numpy()).tolist())


def with_roles(frame: pd.DataFrame, description: TableDescription, name: str) -> Roles:
    """Split a table into features, labels, sensitive and control features.

    Rows without a label are left out, and those without a sensitive value where the description
    says so. Without a positive label the last in order is taken.

    Parameters
    ----------
    frame : DataFrame of shape (n, n_columns)
    description : TableDescription
    name : str
        Of the table.

    Returns
    -------
    Roles

    Raises
    ------
    ValueError
        If columns are absent, rows are too few, the target is of one class or no classes, the
        positive label is none of them, a sensitive column has one group or far too many, or no
        feature is left.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.datasets import TableDescription, with_roles
    >>> people = {"age": range(20, 40), "sex": ["f", "m"] * 10, "hired": [*"ynyn"] * 5}
    >>> about = TableDescription(target="hired", sensitive="sex", sensitive_is_feature=False)
    >>> roles = with_roles(pd.DataFrame(people), about, "jobs")
    >>> list(roles.X), list(roles.sensitive), roles.pos_label
    (['age'], ['sex'], 'y')
    """
    check_described(frame.columns, description, name)
    frame = frame.reset_index(drop=True)
    unlabelled = frame[description.target].isna()
    lacking = frame[list(description.sensitive)].isna().any(axis=1) & ~unlabelled
    if description.missing_sensitive != "leave_out":
        lacking = lacking & False
    left_out = {"without a target": int(unlabelled.sum())}
    left_out["without a sensitive feature"] = int(lacking.sum())
    frame = frame[~unlabelled & ~lacking]
    if len(frame) < MIN_ROWS:
        raise ValueError(
            f"Got {len(frame)} rows with a target and a sensitive feature, but expected at least "
            f"{MIN_ROWS}: add rows."
        )
    y = _labels(frame[description.target])
    check_target(y, description.target)
    positive = positive_label(y, description.positive, description.target)
    for column in description.sensitive:
        check_sensitive(frame[column], description)
    sensitive = pd.DataFrame(
        {column: group_names(frame[column], description) for column in description.sensitive}
    )
    control = {c: names_of(frame[c]).astype(object).fillna(MISSING) for c in description.control}
    dropped = [description.target, *description.drop]
    if not description.sensitive_is_feature:
        dropped += description.sensitive
    X = frame.drop(columns=dropped)
    if X.shape[1] == 0:
        raise ValueError(
            "Got a table without a feature beside the target, the sensitive columns and those to "
            "be dropped, but expected at least one."
        )
    codes = {c: names_of(X[c]) for c in description.categories if c in X}
    return Roles(
        X.assign(**codes).reset_index(drop=True),
        pd.Series(y, name=description.target),
        sensitive.reset_index(drop=True),
        pd.DataFrame(control).reset_index(drop=True) if control else None,
        positive,
        frame.index.to_numpy(dtype=np.int64),
        {reason: n for reason, n in left_out.items() if n},
    )


def split_rows(
    roles: Roles, test_size: float = 0.3, random_state: Any = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into those to fit on and those to test on, alike in classes and groups.

    Parameters
    ----------
    roles : Roles
    test_size : float in (0, 1), default=0.3
    random_state : int or RandomState, default=0

    Returns
    -------
    fitted, tested : ndarray of int64
        Positions, ascending.

    Raises
    ------
    ValueError
        If a part would have too few rows for the classes.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.datasets import TableDescription, split_rows, with_roles
    >>> people = {"age": range(20, 40), "sex": ["f", "m"] * 10, "hired": [0, 0, 1, 1] * 5}
    >>> about = TableDescription(target="hired", sensitive="sex")
    >>> roles = with_roles(pd.DataFrame(people), about, "jobs")
    >>> fitted, tested = split_rows(roles)
    >>> len(fitted), len(tested)
    (14, 6)
    """
    groups = roles.sensitive.agg(" ".join, axis=1).to_numpy(dtype=str)
    _, classes = np.unique(roles.y.to_numpy(), return_inverse=True)
    pairs = pd.Series([f"{c} {g}" for c, g in zip(classes, groups, strict=True)])
    # A pair of class and group with one row cannot be split: it goes with its class's largest.
    alone = pairs.map(pairs.value_counts()) < 2
    largest = pairs.groupby(classes).agg(lambda of: of.value_counts().index[0])
    strata = pairs.where(~alone, largest.loc[classes].to_numpy())
    n = len(strata)
    if not 0 < test_size < 1 or min(n * test_size, n * (1 - test_size)) < 2 * strata.nunique():
        strata = pd.Series(classes)  # so few rows that not each part has all of them
    try:
        fitted, tested = train_test_split(
            np.arange(n), test_size=test_size, stratify=strata, random_state=random_state
        )
    except ValueError as error:
        raise ValueError(
            f"Got test_size={test_size} of {n} rows with {len(set(classes))} classes, of which not "
            f"each has rows in both parts ({error}): expected a fraction in (0, 1), and more rows."
        ) from error
    return np.sort(fitted), np.sort(tested)


def check_target(y: np.ndarray, name: str) -> None:
    """Check that a classifier can be fitted and tested.

    Parameters
    ----------
    y : ndarray of shape (n,)
    name : str
        Of the target.

    Raises
    ------
    ValueError
        If there is one class only, a class of one row, or as many classes as a number has.
    """
    counts = pd.Series(y).value_counts()
    if len(counts) < 2:
        raise ValueError(
            f"Got the target {name!r} with one value, {counts.index[0]!r}, but expected two or "
            "more classes: name another column, or add rows of other classes."
        )
    if y.dtype.kind == "f" or (y.dtype.kind in "iu" and len(counts) > 20):
        raise ValueError(
            f"Got the target {name!r} with {len(counts):,} distinct numbers from {y.min()} to "
            f"{y.max()}, but this is a classifier, which expected classes: make a column of "
            f"classes first, such as table[{name!r}] > {np.median(y):g}, and name that one."
        )
    rare = counts[counts < 2]
    if len(rare):
        shown = ", ".join(map(repr, rare.index[:5])) + (", ..." if len(rare) > 5 else "")
        raise ValueError(
            f"Got the target {name!r} with {len(rare)} classes of one row ({shown}), but "
            "expected two rows or more, to fit on and to test on: remove these rows, or join the "
            "class with another."
        )
    if len(counts) > 0.3 * len(y):
        raise ValueError(
            f"Got the target {name!r} with {len(counts):,} classes in {len(y):,} rows, but "
            "expected few classes: name another column, or join classes."
        )


def positive_label(y: np.ndarray, wanted: Any, name: str) -> Any:
    """Find the label that is written so; without a wish the last in order.

    Parameters
    ----------
    y : ndarray of shape (n,)
    wanted : object or None
        The label, or its text.
    name : str
        Of the target.

    Returns
    -------
    object
        None for more than two classes.

    Raises
    ------
    ValueError
        If no label is written so, or there are more than two.
    """
    classes = sorted(np.unique(y).tolist())
    if len(classes) > 2:
        if wanted is not None:
            raise ValueError(
                f"Got the positive label {wanted!r} for the target {name!r} with "
                f"{len(classes)} classes, but of more than two each is compared with the rest: "
                "leave it out."
            )
        return None
    if wanted is None:
        return classes[1]
    for label in classes:
        if str(label) == str(wanted).strip().removesuffix("."):
            return label
    raise ValueError(
        f"Got the positive label {wanted!r}, but expected one of the target {name!r}: "
        f"{', '.join(map(str, classes))}."
    )


def check_sensitive(column: pd.Series, description: TableDescription) -> None:
    """Check that a column has groups to compare.

    Parameters
    ----------
    column : Series of shape (n,)
    description : TableDescription
        Whose ``groups`` or ``bins`` may make few of many.

    Raises
    ------
    ValueError
        If it has values by the hundred, or as many as a number has.
    """
    if str(column.name) in {*description.groups, *description.bins}:
        return
    distinct, numbers = column.nunique(), kind_of(column) == "numbers"
    if distinct <= (20 if numbers else MAX_GROUPS):
        return
    if numbers:
        edges = column.astype(float).quantile([0.25, 0.5, 0.75]).round(2).unique()
        shown = ",".join(f"{edge:g}" for edge in edges)
        remedy = (
            f"name the edges between its groups, such as bins={{{column.name!r}: ({shown})}} in a "
            f"description, or --bins {column.name}={shown} of the command"
        )
    else:
        remedy = "join values first, or name those that are groups of their own in a description"
    raise ValueError(
        f"Got the sensitive column {column.name!r} with {distinct:,} values in {len(column):,} "
        f"rows, but expected groups to compare, with many rows each: {remedy}."
    )


def _labels(column: pd.Series) -> np.ndarray:
    """Labels of a target without missing values."""
    kind = kind_of(column)
    if kind == "booleans":
        return column.astype(bool).to_numpy()
    if kind == "numbers":
        numbers = column.astype(float).to_numpy()
        whole = (numbers % 1 == 0).all()
        return numbers.astype(np.int64) if whole else numbers
    return labels_of(column).to_numpy(dtype=object).astype(str).astype(object)
