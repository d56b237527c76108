"""What a column of a table holds, and which columns teach a network nothing."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pandas as pd
from pandas.tseries.api import guess_datetime_format

# Tables with fewer rows show anything by chance.
FEWEST_ROWS = 50
# A text column with more distinct values than this share of its rows names the rows.
DISTINCT_SHARE = 0.9
# Texts of a column that its format of dates is guessed from.
_LOOKED_AT = 200

KINDS = ("numbers", "booleans", "dates", "durations", "text", "nothing")
"""What a column may hold that a network can read; else values of one type, or of several."""

CONSTANT = "constant, and of no use to a network"
NUMBERS_ROWS = "numbers the rows, as an identifier does"
NAMES_ROWS = "names nearly every row, as an identifier does"

# customer_id, customerId, "Customer ID", uuid: not "paid".
_NAMED_ID = re.compile(r"(.*[\s_.-])?(id|ID|Id|uuid|UUID|guid|GUID)|.*[a-z](Id|ID)")


def as_pandas(X: Any) -> Any:
    """Turn a DataFrame of polars into one of pandas; everything else stays what it is."""
    if not hasattr(X, "get_columns"):
        return X
    # Column by column, since polars' own conversion needs pyarrow.
    return pd.DataFrame({column.name: column.to_numpy() for column in X.get_columns()})


def kind_of(column: pd.Series) -> str:
    """Say what a column holds: one of ``KINDS``, "complex numbers", or values of pandas' type.

    Raises
    ------
    ValueError
        If the column holds a signaling NaN, which nothing may look at.
    """
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = dtype.categories.dtype
    if pd.api.types.is_bool_dtype(dtype) and not pd.api.types.is_object_dtype(dtype):
        return "booleans"
    if pd.api.types.is_complex_dtype(dtype):
        return "complex numbers"
    if pd.api.types.is_numeric_dtype(dtype):
        return "numbers"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "dates"
    if pd.api.types.is_timedelta64_dtype(dtype):
        return "durations"
    try:
        column.isna()
    except ArithmeticError as error:
        raise ValueError(
            f"Got column {column.name!r} with a signaling NaN, but expected None for 'missing'."
        ) from error
    if not pd.api.types.is_object_dtype(column.dtype):  # objects of all rows would take memory
        column = pd.Series(column.dropna().unique())
    inferred = pd.api.types.infer_dtype(column.astype(object), skipna=True)
    known = {
        "string": "text",
        "boolean": "booleans",
        "complex": "complex numbers",
        "empty": "nothing",
    }
    numbers = ("integer", "floating", "mixed-integer-float", "decimal")
    return "numbers" if inferred in numbers else known.get(inferred, f"{inferred} values")


def identifies(column: pd.Series) -> str:
    """Say in what way a column names the rows, as an identifier does; nothing where it does not.

    Parameters
    ----------
    column : Series of shape (n,)

    Returns
    -------
    str
    """
    distinct, kind = column.nunique(), kind_of(column)
    if kind == "numbers" and pd.api.types.is_integer_dtype(column) and distinct == len(column):
        # As many whole numbers, none of them twice, so close together: no chance does that, and
        # a part of the rows shows it as well as all.
        if column.max() - column.min() < 2 * len(column):
            return NUMBERS_ROWS
        if _NAMED_ID.fullmatch(str(column.name)):
            return NAMES_ROWS
    if kind == "text" and distinct > DISTINCT_SHARE * len(column):
        return NAMES_ROWS
    return ""


def is_constant(column: pd.Series) -> bool:
    """Whether a column has one value only; one that is known of some rows says something."""
    distinct = column.nunique()
    return distinct < 2 and not (distinct and column.isna().any())


def date_formats(column: pd.Series) -> list[str]:
    """Find the formats in which every text of a column is a date: none, one, or two.

    Parameters
    ----------
    column : Series of shape (n,)

    Returns
    -------
    list of str
        As ``strptime`` knows them, the likelier one first. Two where days and months cannot be
        told apart: no number in the place of either is above 12.
    """
    if kind_of(column) != "text":
        return []
    texts = column.dropna().drop_duplicates().astype(str)
    # With points between, as in 3.4.2021, the day comes first nearly everywhere.
    day_first = bool(texts.iloc[:1].str.contains(r"^\s*\d{1,2}\.").any())
    found: list[str] = []
    for first in (day_first, not day_first):
        for text in texts.iloc[:_LOOKED_AT]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a format that is not the one asked for
                guessed = guess_datetime_format(text.strip(), dayfirst=first)
            if guessed is None or not _is_whole_date(guessed):
                return found
            if guessed not in found and parsed(texts, guessed).notna().all():
                found.append(guessed)
                if guessed.startswith("%Y"):  # a year that comes first is followed by its month
                    return found
    return found


def parsed(column: pd.Series, date_format: str) -> pd.Series:
    """Read dates that are text; what is none in that format is missing.

    Parameters
    ----------
    column : Series of shape (n,)
    date_format : str

    Returns
    -------
    Series of shape (n,), datetime64
        In UTC, without saying so, where the text names a time zone.
    """
    texts = column.astype(object).where(column.notna(), None).map(str.strip, na_action="ignore")
    dates = pd.to_datetime(texts, format=date_format, errors="coerce", utc=True)
    return dates.dt.tz_localize(None)


def _is_whole_date(date_format: str) -> bool:
    """Whether a format has a day, a month and a year."""
    wanted = (("%d",), ("%m", "%b", "%B"), ("%Y", "%y"))
    return all(any(part in date_format for part in parts) for parts in wanted)
