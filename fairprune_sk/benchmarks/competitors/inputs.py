"""What the competitors check before they train."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_consistent_length, validate_data

from fairprune_sk.datasets.columns import as_pandas
from fairprune_sk.fitting.validation import check_labels

SEEDS = np.iinfo(np.int32).max


def checked_table(estimator: Any, X: Any, *, reset: bool) -> pd.DataFrame:
    """X as a DataFrame with the columns of ``fit``."""
    X = as_pandas(X)
    if not isinstance(X, pd.DataFrame):
        X = validate_data(
            estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan"
        )
        return pd.DataFrame(X)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if 0 in X.shape:
        raise ValueError(f"Got X of shape {X.shape}, but expected at least one row and column.")
    return X


def checked_labels(estimator: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels as 0 and 1, and the two classes."""
    labels = check_labels(y, type(estimator).__name__)
    codes, classes = labels.codes, labels.classes
    if len(classes) > 2:
        raise ValueError(
            f"Got y with {len(classes)} classes, but {type(estimator).__name__} expected two."
        )
    check_consistent_length(X, codes)
    return codes, classes
