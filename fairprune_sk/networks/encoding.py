"""From a table as a user has it to the float matrix that a network reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder, RobustScaler
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

# Categories beyond this number in one column share one code, the rarest first: a one-hot input
# that occurs a few times in a table teaches a network nothing.
MAX_CATEGORIES = 256
MAX_BINS = 64
MIN_ROWS_PER_BIN = 16
# Numbers beyond this would overflow in 32 bits once scaled; their order no longer matters.
LARGEST = 1e30
# Columns of numbers below two to this, about 1e-6, are tiny.
_TINY_EXPONENT = -20
_DAY = pd.Timedelta(days=1)


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
        min_samples_leaf=int(np.clip(len(values) // 100, 1, MIN_ROWS_PER_BIN)),
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
        numeric, categorical = self._split(frame)
        self.edges_: list[Tensor] = []
        self.codes_: list[dict[Any, float]] = []
        self.indicated_ = np.flatnonzero(np.isnan(numeric).any(axis=0))
        at = np.flatnonzero(~self._categorical)
        self.source_ = np.concatenate([at, at[self.indicated_], np.flatnonzero(self._categorical)])
        if numeric.shape[1]:
            imputer = SimpleImputer(strategy="median", keep_empty_features=True).fit(numeric)
            self.median_ = imputer.statistics_
            filled = self._filled(numeric)
            # scikit-learn takes spreads below 1e-15 for none, and trees those below 1e-7: powers of
            # two bring columns of tiny numbers near 1, and change no digit.
            exponent = np.frexp(np.abs(filled).max(axis=0))[1]
            exponent = np.where(exponent < _TINY_EXPONENT, exponent, 0)
            scaler = RobustScaler().fit(np.ldexp(filled, -exponent))
            self.center_, self.scale_ = np.ldexp([scaler.center_, scaler.scale_], exponent)
            scaled = np.clip(self._scaled(numeric), -LARGEST, LARGEST).astype(np.float32)
            self.low_, self.high_ = scaled.min(axis=0), scaled.max(axis=0)
            self.edges_ = [
                torch.from_numpy(tree_bins(column, y, sample_weight)) for column in scaled.T
            ]
        for column in categorical.T:
            ordinal = OrdinalEncoder(max_categories=MAX_CATEGORIES).fit(column[:, None])
            (values,) = ordinal.categories_
            # Not set_output's: an array, whatever scikit-learn is set to give its users.
            codes = ordinal.set_output(transform="default").transform(values[:, None])[:, 0]
            self.codes_.append(dict(zip(values.tolist(), codes.tolist(), strict=True)))
        self.n_categories_ = [int(max(codes.values())) + 1 for codes in self.codes_]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Encode a table.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_columns)

        Returns
        -------
        ndarray of shape (n, n_encoded_columns), float32
        """
        numeric, categorical = self._split(with_numbers(pd.DataFrame(X)))
        parts = []
        if numeric.shape[1]:
            scaled = self._scaled(numeric)
            parts.append(np.clip(scaled, self.low_, self.high_).astype(np.float32))
        if categorical.shape[1]:
            encoded = [
                [codes.get(value, -1.0) for value in column]
                for codes, column in zip(self.codes_, categorical.T, strict=True)
            ]
            parts.append(np.array(encoded, dtype=np.float32).T)
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def _filled(self, numeric: np.ndarray) -> np.ndarray:
        missing = np.isnan(numeric)
        return np.hstack([np.where(missing, self.median_, numeric), missing[:, self.indicated_]])

    def _scaled(self, numeric: np.ndarray) -> np.ndarray:
        return (self._filled(numeric) - self.center_) / self.scale_

    def _split(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        numeric = frame.loc[:, ~self._categorical]
        # A column that was a number in training and is none now is refused here by pandas.
        numbers = np.empty(numeric.shape)
        for i in range(numeric.shape[1]):  # of a whole frame, pandas takes no NA among objects
            numbers[:, i] = numeric.iloc[:, i].to_numpy(dtype=np.float64, na_value=np.nan)
        categories = frame.loc[:, self._categorical].astype(object)
        return numbers, categories.where(categories.notna(), None).to_numpy()


def is_number(dtype: Any) -> bool:
    """Whether a column of this type holds numbers; booleans are categories."""
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def with_numbers(X: pd.DataFrame) -> pd.DataFrame:
    """Turn dates into days since 1970, and durations into days; X itself stays as it is."""
    changed = {}
    for i, dtype in enumerate(X.dtypes):
        column = X.iloc[:, i]
        if isinstance(dtype, pd.CategoricalDtype):
            dtype = dtype.categories.dtype
            column = column if is_number(dtype) else column.astype(dtype)
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
