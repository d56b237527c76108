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
    beyond those seen in training are cut off; all other columns become codes, with a code of
    their own for missing values and -1 for categories not seen before.

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
        frame = pd.DataFrame(X)
        # By position, since column names need not be unique.
        self._categorical = np.array([not is_number(t) for t in frame.dtypes], dtype=bool)
        numeric, categorical = self._split(frame)
        self._imputer = SimpleImputer(
            strategy="median", add_indicator=True, keep_empty_features=True
        )
        self._scaler = RobustScaler()
        self._ordinal = OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, max_categories=MAX_CATEGORIES
        )
        # Arrays, whatever scikit-learn is set to give its users.
        for step in (self._imputer, self._scaler, self._ordinal):
            step.set_output(transform="default")
        self.edges_: list[Tensor] = []
        self.n_categories_: list[int] = []
        at, missing = np.flatnonzero(~self._categorical), np.zeros(0, dtype=np.int64)
        if numeric.shape[1]:
            imputed = self._imputer.fit_transform(numeric)
            missing = self._imputer.indicator_.features_
            scaled = np.clip(self._scaler.fit_transform(imputed), -LARGEST, LARGEST)
            scaled = scaled.astype(np.float32)
            self._low, self._high = scaled.min(axis=0), scaled.max(axis=0)
            self.edges_ = [
                torch.from_numpy(tree_bins(column, y, sample_weight)) for column in scaled.T
            ]
        if categorical.shape[1]:
            codes = self._ordinal.fit_transform(categorical)
            self.n_categories_ = [int(column.max()) + 1 for column in codes.T]
        self.source_ = np.concatenate([at, at[missing], np.flatnonzero(self._categorical)])
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
        numeric, categorical = self._split(pd.DataFrame(X))
        parts = []
        if numeric.shape[1]:
            scaled = self._scaler.transform(self._imputer.transform(numeric))
            parts.append(np.clip(scaled, self._low, self._high).astype(np.float32))
        if categorical.shape[1]:
            parts.append(self._ordinal.transform(categorical).astype(np.float32))
        return np.ascontiguousarray(np.concatenate(parts, axis=1))

    def _split(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        numeric = frame.loc[:, ~self._categorical]
        # A column that was a number in training and is none now is refused here by pandas.
        numbers = numeric.to_numpy(dtype=np.float64, na_value=np.nan)
        categories = frame.loc[:, self._categorical].astype(object)
        return numbers, categories.where(categories.notna(), None).to_numpy()


def is_number(dtype: Any) -> bool:
    """Whether a column of this type holds numbers; booleans are categories."""
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
