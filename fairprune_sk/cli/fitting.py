"""A table's fit, as the command makes it: what a script would write, in one function each."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from fairprune_sk.cli.screen import Screen
from fairprune_sk.datasets.cleaning import DATES, TableCleaner
from fairprune_sk.datasets.csv_files import check_columns
from fairprune_sk.datasets.description import TableDescription
from fairprune_sk.datasets.roles import Roles, split_rows, with_roles
from fairprune_sk.exceptions import SuspectColumnWarning
from fairprune_sk.fairness.groups import counted


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table that is ready for a fit.

    Attributes
    ----------
    cleaner : TableCleaner
        Fitted on the rows to fit on.
    fitted, tested : Roles
        The rows of the two parts; their features are clean.
    """

    cleaner: TableCleaner
    fitted: Roles
    tested: Roles

    def fit(self, estimator: BaseEstimator) -> tuple[Any, float]:
        """Fit an estimator on the rows to fit on; return it with the seconds that it took."""
        start = time.perf_counter()
        control = {} if self.fitted.control is None else {"control_features": self.fitted.control}
        estimator.fit(
            self.fitted.X, self.fitted.y, sensitive_features=self.fitted.sensitive, **control
        )
        return estimator, time.perf_counter() - start


def prepared(
    frame: pd.DataFrame,
    description: TableDescription,
    name: str,
    screen: Screen,
    *,
    test_size: float,
    seed: int,
    keep: tuple[str, ...] = (),
) -> Prepared:
    """Split a table by its columns and rows, clean it, and say what was done.

    Parameters
    ----------
    frame : DataFrame of shape (n, n_columns)
    description : TableDescription
    name : str
        Of the table.
    screen : Screen
    test_size : float
    seed : int
    keep : tuple of str
        Columns that are not left out, whatever they look like.

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        If the table is none to learn from.
    """
    roles = with_roles(frame, description, name)
    parts = [roles.take(rows) for rows in split_rows(roles, test_size, seed)]
    cleaner = cleaner_of(parts[0], description, keep)
    fitted, tested = (replace(part, X=cleaner.transform(part.X)) for part in parts)
    say_roles(roles, description, cleaner, screen)
    screen.say(
        f"Rows: {len(fitted.y):,} to fit on, {len(tested.y):,} set aside for the report, alike in "
        "classes and groups."
    )
    return Prepared(cleaner, fitted, tested)


def cleaner_of(roles: Roles, description: TableDescription, keep: tuple[str, ...]) -> TableCleaner:
    """Fit a cleaner without a word: what it does is said with the rest.

    Parameters
    ----------
    roles : Roles
    description : TableDescription
        Whose control features stay.
    keep : tuple of str
        Other columns that stay.

    Returns
    -------
    TableCleaner
    """
    check_columns(roles.X.columns, keep, "features")
    kept = [*keep, *(column for column in description.control if column in roles.X)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspectColumnWarning)
        return TableCleaner(keep=tuple(kept)).fit(roles.X)


def say_roles(
    roles: Roles, description: TableDescription, cleaner: TableCleaner, screen: Screen
) -> None:
    """Say what became of a table, and what follows for its people."""
    for reason, n in roles.left_out.items():
        screen.warn(f"Left out: {counted(n, 'row')} {reason}.")
    if roles.pos_label is None:
        shown = ", ".join(map(str, roles.classes))
        screen.say(f"Target {description.target!r}: {len(roles.classes)} classes, {shown}.")
    else:
        (other,) = (label for label in roles.classes if label != roles.pos_label)
        share = np.mean(roles.y == roles.pos_label)
        screen.say(
            f"Target {description.target!r}: {roles.pos_label} counts as positive ({share:.0%} of "
            f"the rows), {other} as negative."
        )
    for column in roles.sensitive:
        groups = roles.sensitive[column].value_counts()
        screen.say(f"Groups by {column!r}: {with_counts(groups)}.")
    dates = [name for name, c in cleaner.cleaning_.items() if c.becomes == DATES]
    n_kept = len(cleaner.get_feature_names_out())
    made = f"; dates in days since 1970: {', '.join(dates)}" if dates else ""
    screen.say(f"Features: {counted(n_kept, 'column')} of {frame_width(roles, description)}{made}.")
    for name, cleaning in cleaner.cleaning_.items():
        if cleaning.becomes is None:
            screen.say(f"Left out: {name!r}, {cleaning.reason} (--keep {name} keeps it).")
        elif cleaning.reason:
            screen.warn(f"Column {name!r}: dates {cleaning.reason}.")
    sensitive = ", ".join(map(repr, description.sensitive))
    if description.sensitive_is_feature:
        screen.warn(
            f"The network reads {sensitive}: who predicts has to know it of everybody, and "
            "deciding by it may be forbidden even where the aim is equality."
        )
    else:
        screen.say(
            f"The network does not read {sensitive}. It can only treat groups alike by ignoring "
            "what they differ in, which may cost accuracy (--keep-sensitive lets it read)."
        )


def with_counts(counts: pd.Series) -> str:
    """Name values with their numbers of rows."""
    return ", ".join(f"{value} ({n:,})" for value, n in counts.items())


def frame_width(roles: Roles, description: TableDescription) -> int:
    """Count the columns of a table whose features are known."""
    outside = {description.target, *description.drop}
    if not description.sensitive_is_feature:
        outside |= set(description.sensitive)
    return roles.X.shape[1] + len(outside)
