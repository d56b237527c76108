"""From a table as a user has it to the float matrix that a network reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder, RobustScaler
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from fairprune_sk.distributed import world
from fairprune_sk.networks.batch import in_blocks

# Categories beyond this number in one column share one code, the rarest first: a one-hot input
# that occurs a few times in a table teaches a network nothing.
MAX_CATEGORIES = 256
MAX_BINS = 64
# A tree that may go further finds bins in noise, and the network learns small tables by heart.
MIN_ROWS_PER_BIN = 48
# Numbers beyond this would overflow in 32 bits once scaled; their order no longer matters.
LARGEST = 1e30
# Columns of numbers below two to this, about 1e-6, are tiny.
_TINY_EXPONENT = -20
# Values that are encoded at a time: one column of a large table, all of a small one.
CHUNK = 2**17
# Rows that the encoding of a table on disk is learned from.
SAMPLE_ROWS = 2**20
_DAY = pd.Timedelta(days=1)


def some_rows(n: int, n_rows: int) -> np.ndarray:
    """Draw rows of n at random, always the same, in ascending order; all where there are few."""
    if n <= n_rows:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, n_rows, replace=False, shuffle=False))


def on_disk(blocks: Iterable[np.ndarray], shape: tuple[int, int], places: np.ndarray) -> np.ndarray:
    """Put blocks of rows into a temporary file, which goes when the array does.

    Parameters
    ----------
    blocks : iterable of ndarray of shape (n_block, n_columns), float32
    shape : tuple of int
    places : ndarray of shape (n,), int64
        Which row of all blocks each row of the array is.

    Returns
    -------
    ndarray of that shape, float32

    Raises
    ------
    OSError
        If there is no room.
    """
    with tempfile.TemporaryFile(prefix="fairprune-") as file:
        size = max(4 * shape[0] * shape[1], 1)
        try:
            if hasattr(os, "posix_fallocate"):  # without room, a write to the map would kill
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise OSError(
                f"Got a table that takes {size / 1e9:.2f} GB once encoded, more than there is room "
                f"for in {tempfile.gettempdir()}: let TMPDIR name a folder on a larger disk. "
                f"({error})"
            ) from error
        rows = np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
    order = np.argsort(places, kind="stable")
    ordered, start = places[order], 0
    for block in blocks:
        here = slice(*np.searchsorted(ordered, [start, start + len(block)]))
        rows[order[here]] = block[ordered[here] - start]
        start += len(block)
    return rows


def tree_bins(
    values: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
) -> np.ndarray:
    """Bin edges of one numeric column, where a decision tree for the target splits it.

    Target-aware bins (Gorishniy et al., NeurIPS 2022, section 3.2.2) stay useful where one value
    fills most of a column, as quantiles do not. Constant columns and small tables are fine.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Finite values.
    y : ndarray of shape (n,)
        Class labels.
    sample_weight : ndarray of shape (n,), optional

    Returns
    -------
    ndarray of shape (n_bins + 1,), float32
        Ascending and distinct, at least two.
    """
    values = values.astype(np.float32)
    low, high = values.min(), values.max()
    if low == high:
        return np.array([low, np.nextafter(low, np.float32(np.inf)) + 1], dtype=np.float32)
    tree = DecisionTreeClassifier(
        max_leaf_nodes=MAX_BINS,
        min_samples_leaf=MIN_ROWS_PER_BIN,
        random_state=0,
    )
    tree.fit(values[:, None], y, sample_weight=sample_weight)
    splits = tree.tree_.threshold[tree.tree_.feature >= 0].astype(np.float32)
    splits = splits[(splits > low) & (splits < high)]
    return np.unique(np.concatenate([[low], splits, [high]]).astype(np.float32))


class TableEncoder(TransformerMixin, BaseEstimator):
    """Encode a table as a float32 matrix with one column for each column, and learn its bins.

    Numeric columns are scaled, missing values get the median and an indicator column, values
    beyond those seen in training are cut off, dates are days since 1970; all other columns become
    codes, with a code of their own for missing values and -1 for categories not seen before.

    All that is learned is arrays and dictionaries: a file holds it without code, and an ONNX graph
    computes the same.

    Parameters
    ----------
    None

    Attributes
    ----------
    edges_ : list of Tensor
        Bin edges of the numeric columns (and missing indicators) of the encoded matrix, which
        come first.
    n_categories_ : list of int
        Number of codes of each categorical column; these columns come last.
    source_ : ndarray of shape (n_encoded_columns,), int64
        Column of the table that each encoded column comes from.
    median_ : ndarray of shape (n_numeric,)
        What takes the place of missing numbers.
    indicated_ : ndarray of shape (n_indicators,), int64
        Numeric columns with an indicator of missing values.
    center_, scale_, low_, high_ : ndarray of shape (n_numeric + n_indicators,)
        Of the numeric columns and the indicators behind them.
    codes_ : list of dict
        Code of each category of each categorical column.
    """

    def fit(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None = None) -> TableEncoder:
        """Learn scales, categories and bins.

        Parameters
        ----------
        X : DataFrame, or ndarray of numbers, of shape (n, n_columns)
        y : ndarray of shape (n,)
        sample_weight : ndarray of shape (n,), optional

        Returns
        -------
        TableEncoder
        """
        frame = with_numbers(pd.DataFrame(X))
        # By position, since column names need not be unique.
        self._categorical = np.array([not is_number(t) for t in frame.dtypes], dtype=bool)
        at, categorical = np.flatnonzero(~self._categorical), np.flatnonzero(self._categorical)
        # Some columns at a time, so that a large table is never copied as a whole.
        width = max(1, CHUNK // len(frame))
        parts = [at[i : i + width] for i in range(0, len(at), width)]
        known = [_medians(_numbers(frame.iloc[:, part])) for part in parts]
        if known:
            self.median_ = np.concatenate([medians for medians, _ in known])
        missing = [some for _, some in known]
        self.indicated_ = np.flatnonzero(np.concatenate([np.empty(0, dtype=bool), *missing]))
        self.source_ = np.concatenate([at, at[self.indicated_], categorical])
        self.edges_: list[Tensor] = []
        scales = []
        for part, (medians, _) in zip(parts, known, strict=True):
            numbers = _numbers(frame.iloc[:, part])
            filled = np.where(np.isnan(numbers), medians, numbers)
            scales.append(self._learned(filled, y, sample_weight))
        for i in range(0, len(self.indicated_), width):
            part = at[self.indicated_[i : i + width]]
            indicator = np.isnan(_numbers(frame.iloc[:, part])).astype(np.float64)
            scales.append(self._learned(indicator, y, sample_weight))
        if scales:
            learned = map(np.concatenate, zip(*scales, strict=True))
            self.center_, self.scale_, self.low_, self.high_ = learned
        self.codes_: list[dict[Any, float]] = []
        for position in categorical:
            column = _categories(frame.iloc[:, [position]])
            ordinal = OrdinalEncoder(max_categories=MAX_CATEGORIES).fit(column)
            (values,) = ordinal.categories_
            # Not set_output's: an array, whatever scikit-learn is set to give its users.
            codes = ordinal.set_output(transform="default").transform(values[:, None])[:, 0]
            self.codes_.append(dict(zip(values.tolist(), codes.tolist(), strict=True)))
        self.n_categories_ = [int(max(codes.values())) + 1 for codes in self.codes_]
        return self

    def _learned(
        self, numbers: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Learn the bins of some columns without missing values; return center, scale, ends."""
        # scikit-learn takes spreads below 1e-15 for none, and trees those below 1e-7: powers of
        # two bring columns of tiny numbers near 1, and change no digit.
        exponent = np.frexp(np.abs(numbers).max(axis=0))[1]
        exponent = np.where(exponent < _TINY_EXPONENT, exponent, 0)
        scaler = RobustScaler().fit(np.ldexp(numbers, -exponent))
        center, scale = np.ldexp([scaler.center_, scaler.scale_], exponent)
        scaled = (numbers - center) / scale
        scaled = np.clip(scaled, -LARGEST, LARGEST, out=scaled).astype(np.float32)
        self.edges_ += [
            torch.from_numpy(tree_bins(column, y, sample_weight)) for column in scaled.T
        ]
        return center, scale, scaled.min(axis=0), scaled.max(axis=0)

    def transform(self, X: Any) -> np.ndarray:
        """Encode a table.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_columns), or ParquetTable

        Returns
        -------
        ndarray of shape (n, n_encoded_columns), float32
            Of a table that stays on disk, so does this, in a temporary file.

        Raises
        ------
        OSError
            If the disk has no room for it.
        """
        if in_blocks(X):
            shape = len(X), len(self.source_)
            return on_disk(map(self.transform, X.blocks()), shape, X.places())
        frame = pd.DataFrame(X)
        encoded = np.empty((len(frame), len(self.source_)), dtype=np.float32)
        height = max(1, CHUNK // len(self.source_))
        for start in range(0, len(frame), height):
            rows = slice(start, start + height)
            encoded[rows] = self._encoded(with_numbers(frame.iloc[rows]))
        return encoded

    def departures(self, X: Any) -> dict[str, np.ndarray]:
        """Find values that the table of ``fit`` had nothing like.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_columns)

        Returns
        -------
        dict of ndarray of shape (n, n_columns)
            "unseen", bool: categories that are none of those of ``fit``. "missing", bool: missing
            values in a column that had none. "beyond", float64: how far a number is outside the
            range of its column, in widths of that range; 0 within, infinity where the width is 0.
        """
        frame = with_numbers(pd.DataFrame(X))
        numbers, categories = self._split(frame)
        at, categorical = np.flatnonzero(~self._categorical), np.flatnonzero(self._categorical)
        unseen, missing = np.zeros((2, *frame.shape), dtype=bool)
        beyond = np.zeros(frame.shape)
        if len(at):
            n = len(at)
            low, high = self.low_[:n], self.high_[:n]
            scaled = (numbers - self.center_[:n]) / self.scale_[:n]
            scaled = np.clip(scaled, -LARGEST, LARGEST).astype(np.float32)
            outside = np.maximum(np.maximum(low - scaled, scaled - high), 0.0)
            width = (high - low).astype(np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                beyond[:, at] = np.where(outside > 0, outside / width, 0.0)
            known = np.isin(np.arange(n), self.indicated_)
            missing[:, at] = np.isnan(numbers) & ~known
        for i, codes in zip(categorical, self.codes_, strict=True):
            column = categories[:, np.flatnonzero(categorical == i)[0]]
            none = np.array([value is None for value in column], dtype=bool)
            strange = np.array([value not in codes for value in column], dtype=bool)
            unseen[:, i], missing[:, i] = strange & ~none, strange & none
        return {"unseen": unseen, "missing": missing, "beyond": beyond}

    def _encoded(self, frame: pd.DataFrame) -> np.ndarray:
        numbers, categories = self._split(frame)
        parts = []
        if numbers.shape[1]:
            missing = np.isnan(numbers)
            filled = np.where(missing, self.median_, numbers)
            filled = np.hstack([filled, missing[:, self.indicated_]])
            scaled = (filled - self.center_) / self.scale_
            parts.append(np.clip(scaled, self.low_, self.high_).astype(np.float32))
        if categories.shape[1]:
            encoded = [
                [codes.get(value, -1.0) for value in column]
                for codes, column in zip(self.codes_, categories.T, strict=True)
            ]
            parts.append(np.array(encoded, dtype=np.float32).T)
        return np.concatenate(parts, axis=1)

    def _split(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        # A column that was a number in training and is none now is refused here by pandas.
        numbers = _numbers(frame.loc[:, ~self._categorical])
        return numbers, _categories(frame.loc[:, self._categorical])


def encoder_of(X: Any, y: np.ndarray, sample_weight: np.ndarray | None = None) -> TableEncoder:
    """Learn the encoding of a table, of which other processes may hold more rows.

    Each process learns that of some columns, from all rows: no process ever holds more than its
    own rows and one column of all, with the labels and weights. Of a table that stays on disk,
    some rows are read (:data:`SAMPLE_ROWS`), drawn at random.

    Parameters
    ----------
    X, y, sample_weight
        As for :meth:`TableEncoder.fit`.

    Returns
    -------
    TableEncoder
        The same on every process.
    """
    if in_blocks(X):
        rows = some_rows(len(X), SAMPLE_ROWS // world().size)
        X, y = X[rows].to_pandas(), y[rows]
        sample_weight = None if sample_weight is None else sample_weight[rows]
    if world().size == 1:
        return TableEncoder().fit(X, y, sample_weight)
    frame = pd.DataFrame(X)
    labels, weight, own = world().whole(y), world().whole(sample_weight), {}
    for i in range(frame.shape[1]):
        parts = world().gathered_on(i % world().size, frame.iloc[:, [i]])
        if parts:
            own[i] = TableEncoder().fit(pd.concat(parts, ignore_index=True), labels, weight)
    of_all = [*world().gathered(own)]
    columns = {i: encoder for part in of_all for i, encoder in part.items()}
    return _side_by_side([columns[i] for i in range(frame.shape[1])])


def _side_by_side(columns: list[TableEncoder]) -> TableEncoder:
    """Make one encoder of those of single columns."""
    joined = TableEncoder()
    joined._categorical = np.concatenate([column._categorical for column in columns])
    at, categorical = np.flatnonzero(~joined._categorical), np.flatnonzero(joined._categorical)
    numeric = [columns[i] for i in at]
    indicated = [column for column in numeric if len(column.indicated_)]
    joined.indicated_ = np.flatnonzero([len(column.indicated_) > 0 for column in numeric])
    joined.source_ = np.concatenate([at, at[joined.indicated_], categorical])
    joined.edges_ = [column.edges_[0] for column in numeric]
    joined.edges_ += [column.edges_[1] for column in indicated]
    if numeric:
        joined.median_ = np.concatenate([column.median_ for column in numeric])
        for name in ("center_", "scale_", "low_", "high_"):
            first = [getattr(column, name)[:1] for column in numeric]
            setattr(joined, name, np.concatenate(first + [getattr(c, name)[1:] for c in indicated]))
    joined.codes_ = [columns[i].codes_[0] for i in categorical]
    joined.n_categories_ = [columns[i].n_categories_[0] for i in categorical]
    return joined


def _numbers(frame: pd.DataFrame) -> np.ndarray:
    """Columns of numbers, float64; NaN is missing."""
    if not any(map(pd.api.types.is_object_dtype, frame.dtypes)):
        return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = np.empty(frame.shape)
    for i in range(frame.shape[1]):  # of a whole frame, pandas takes no NA among objects
        numbers[:, i] = frame.iloc[:, i].to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def _medians(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medians of some columns, and whether values are missing."""
    imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(numbers)
    return imputer.statistics_, np.isnan(numbers).any(axis=0)


def _categories(frame: pd.DataFrame) -> np.ndarray:
    """Columns of categories, as objects; None is missing."""
    categories = frame.astype(object)
    return categories.where(categories.notna(), None).to_numpy()


def is_number(dtype: Any) -> bool:
    """Whether a column of this type holds numbers; booleans are categories."""
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def with_numbers(X: pd.DataFrame) -> pd.DataFrame:
    """Turn dates into days since 1970, and durations into days; X itself stays as it is."""
    changed = {}
    for i, dtype in enumerate(X.dtypes):
        column = X.iloc[:, i]
        if isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype.kind in "mM":
            dtype = dtype.categories.dtype
            column = column.astype(dtype)
        if isinstance(dtype, pd.DatetimeTZDtype):
            column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        if pd.api.types.is_datetime64_any_dtype(dtype):
            # In its own unit: there are dates, such as 9999-12-31, that nanoseconds do not reach.
            changed[i] = (column - pd.Timestamp(0).as_unit(column.dt.unit)) / _DAY
        elif pd.api.types.is_timedelta64_dtype(dtype):
            changed[i] = column / _DAY
    if not changed:
        return X
    columns = [changed.get(i, X.iloc[:, i]) for i in range(X.shape[1])]
    return pd.concat(columns, axis=1).set_axis(X.columns, axis=1)
