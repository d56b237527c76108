"""From columns as files hold them to columns that a network can use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fairprune_sk.datasets.columns import (
    CONSTANT,
    FEWEST_ROWS,
    as_pandas,
    date_formats,
    identifies,
    is_constant,
    kind_of,
    parsed,
)
from fairprune_sk.datasets.csv_files import check_columns
from fairprune_sk.exceptions import SuspectColumnWarning, warn_at_caller
from fairprune_sk.networks.encoding import with_numbers

AS_IT_IS, DATES = "as it is", "days since 1970"
"""What becomes of a column that is kept."""


@dataclass(frozen=True)
class Cleaning:
    """What becomes of one column.

    Attributes
    ----------
    becomes : str or None
        ``AS_IT_IS`` or ``DATES``; None for a column that is dropped.
    date_format : str or None
        Of dates that are text.
    reason : str
        Why it is dropped; of dates, what could not be told.
    """

    becomes: str | None
    date_format: str | None = None
    reason: str = ""


def cleaning_of(column: pd.Series, *, kept: bool = False) -> Cleaning:
    """Decide what becomes of a column, from its values alone.

    Parameters
    ----------
    column : Series of shape (n,)
    kept : bool, default=False
        Whether it stays in any case.

    Returns
    -------
    Cleaning
    """
    if is_constant(column) and not kept:
        return Cleaning(None, reason=CONSTANT)
    if kind_of(column) in ("dates", "date values", "datetime values"):
        return Cleaning(DATES)
    if formats := date_formats(column):
        other = f"read as {formats[0]}, but {formats[1]} fits as well" if formats[1:] else ""
        return Cleaning(DATES, formats[0], other)
    how = "" if kept or len(column) < FEWEST_ROWS else identifies(column)
    return Cleaning(None, reason=how) if how else Cleaning(AS_IT_IS)


class TableCleaner(TransformerMixin, BaseEstimator):
    """Make dates numbers, and leave out columns that teach a network nothing.

    :class:`~fairprune_sk.FairPruner` takes numbers, categories, booleans and missing values as they
    are. What a table from a file holds besides is seen to here: a date, as a date or as text,
    becomes the number of days since 1970, in the one format that fits all of the column; a column
    that names the rows, as an identifier does, and one with a single value are left out, with a
    warning. The target is not looked at, and columns go by their names. ``skrub.Cleaner`` does
    more of the kind, for any model; what this one learns is a few words for each column, which the
    command ``fairprune`` keeps beside a model in a file without code.

    Parameters
    ----------
    keep : tuple of str, default=()
        Columns that are not left out, whatever they look like.

    Attributes
    ----------
    cleaning_ : dict of Cleaning
        What becomes of each column, by its name.
    dropped_ : dict of str
        Why a column is left out, by its name.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features,)

    Warns
    -----
    SuspectColumnWarning
        Of the columns that are left out, and of dates in which day and month cannot be told apart.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.datasets import TableCleaner
    >>> since, job = ["1.3.2021", None, "14.3.2021"], ["cook", "nurse", "cook"]
    >>> TableCleaner().fit_transform(pd.DataFrame({"since": since, "job": job}))
         since    job
    0  18687.0   cook
    1      NaN  nurse
    2  18700.0   cook
    """

    def __init__(self, *, keep: Iterable[str] = ()):
        self.keep = keep

    def __sklearn_tags__(self) -> Any:
        """Take tables as they come."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.categorical = tags.input_tags.string = True
        return tags

    def fit(self, X: Any, y: Any = None) -> TableCleaner:
        """Decide what becomes of each column.

        Parameters
        ----------
        X : DataFrame of shape (n, n_columns), of pandas or polars
            With a name for each column, all different.
        y : ignored

        Returns
        -------
        TableCleaner

        Raises
        ------
        ValueError
            If X is no such table, a name of ``keep`` is not in it, or nothing is left of it.
        """
        frame = _frame(X)
        validate_data(self, frame, skip_check_array=True)
        check_columns(frame.columns, self.keep, "a table")
        kept = set(self.keep)
        self.cleaning_ = {
            name: cleaning_of(frame[name], kept=name in kept) for name in frame.columns
        }
        self.dropped_ = {n: c.reason for n, c in self.cleaning_.items() if c.becomes is None}
        for name, cleaning in self.cleaning_.items():
            if cleaning.reason:
                what = "left out" if cleaning.becomes is None else "dates"
                warn_at_caller(f"{name!r} {what}: {cleaning.reason}.", SuspectColumnWarning)
        if len(self.dropped_) == len(self.cleaning_):
            raise ValueError(
                f"Got a table of which no column is left ({self.dropped_}), but expected features: "
                "add columns, or name those that are to stay, keep=..."
            )
        return self

    def transform(self, X: Any) -> pd.DataFrame:
        """Do the same to other rows.

        Parameters
        ----------
        X : DataFrame of shape (n, n_columns), of pandas or polars
            Columns that were not there in ``fit`` do not matter.

        Returns
        -------
        DataFrame of shape (n, n_kept_columns)

        Raises
        ------
        ValueError
            If a column that is kept is not there, or holds dates in another format.
        """
        check_is_fitted(self)
        frame = _frame(X)
        names = self.get_feature_names_out()
        check_columns(frame.columns, names, "a table")
        cleaned = {n: _cleaned(frame[n], self.cleaning_[n]) for n in names}
        return pd.DataFrame(cleaned, index=frame.index)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that are kept.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of shape (n_kept_columns,), object
        """
        check_is_fitted(self)
        return np.array([n for n, c in self.cleaning_.items() if c.becomes], dtype=object)

    def to_dict(self) -> dict[str, Any]:
        """Say what was learned in plain values, for a JSON file.

        Returns
        -------
        dict
        """
        check_is_fitted(self)
        columns = {name: asdict(cleaning) for name, cleaning in self.cleaning_.items()}
        return {"keep": list(self.keep), "columns": columns}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> TableCleaner:
        """Make a fitted cleaner from what :meth:`to_dict` said.

        Parameters
        ----------
        content : dict

        Returns
        -------
        TableCleaner

        Raises
        ------
        ValueError
            If it is something else.
        """
        try:
            cleaner = cls(keep=tuple(content["keep"]))
            cleaner.cleaning_ = {n: Cleaning(**c) for n, c in content["columns"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"Got {content!r}, but expected what to_dict says.") from error
        cleaner.dropped_ = {n: c.reason for n, c in cleaner.cleaning_.items() if c.becomes is None}
        cleaner.feature_names_in_ = np.array(list(cleaner.cleaning_), dtype=object)
        cleaner.n_features_in_ = len(cleaner.cleaning_)
        return cleaner


def _frame(X: Any) -> pd.DataFrame:
    """Return a table of pandas whose columns have different names."""
    X = as_pandas(X)
    if not isinstance(X, pd.DataFrame):
        raise ValueError(f"Got a {type(X).__name__}, but expected a DataFrame.")
    odd = [name for name in X.columns if not isinstance(name, str)]
    if odd or not X.columns.is_unique or not len(X):
        raise ValueError(
            f"Got a DataFrame of {len(X)} rows with the columns {list(X.columns)[:20]}, but "
            "expected rows, and different names that are text."
        )
    return X


def _cleaned(column: pd.Series, cleaning: Cleaning) -> pd.Series:
    """Do to a column what was decided."""
    if cleaning.becomes != DATES:
        return column
    if kind_of(column) == "text":
        # Dates of a table with types, and now of a file of text.
        formats = [cleaning.date_format] if cleaning.date_format else date_formats(column)
        dates = parsed(column, formats[0]) if formats else column
        wrong = column[dates.isna() & column.notna()] if formats else column.dropna()
        if len(wrong):
            raise ValueError(
                f"Got column {column.name!r} with {wrong.iloc[0]!r}, but expected dates like "
                f"{cleaning.date_format or '%Y-%m-%d'}, as in fit: write them so."
            )
    elif kind_of(column) in ("dates", "date values", "datetime values", "nothing"):
        dates = column
        if pd.api.types.is_object_dtype(dates) or kind_of(column) == "nothing":
            dates = pd.to_datetime(dates.astype(object), utc=True).dt.tz_localize(None)
    else:
        raise ValueError(
            f"Got column {column.name!r} with {kind_of(column)}, but expected dates, as in fit."
        )
    return with_numbers(dates.to_frame())[column.name]
