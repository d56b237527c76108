"""Checks of what a user passes to ``fit``, all before any training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data

from fairprune_sk.datasets.columns import FEWEST_ROWS, as_pandas, kind_of
from fairprune_sk.datasets.parquet import BLOCK_ROWS, ParquetTable
from fairprune_sk.fitting.columns import check_columns, like_those_of_fit
from fairprune_sk.networks.batch import in_blocks, scaled_weight, streams, weight_seen
from fairprune_sk.networks.encoding import on_disk, with_numbers

SCHEMA = ("n_features_in_", "feature_names_in_", "_inputs", "_kinds")
"""What :func:`check_X` remembers of the table of ``fit``, as attributes of the estimator."""


class Labels(NamedTuple):
    """Labels, coded."""

    codes: np.ndarray
    """Shape (n,), int64: 0 to n_classes - 1."""
    classes: np.ndarray
    """Shape (n_classes,), sorted."""
    positive: int
    """Code of the class, of two, that counts as selected."""


def check_labels(y: Any, estimator_name: str, pos_label: Any = None, last: Any = None) -> Labels:
    """Code the labels.

    Parameters
    ----------
    y : array-like of shape (n,)
    estimator_name : str
        For the messages.
    pos_label : label, optional
        Of two, the one that counts as selected; by default the second.
    last : Fitted, optional
        What a warm start goes on from.

    Returns
    -------
    Labels

    Raises
    ------
    ValueError
        If there are no two classes, or not those of the last fit; or if ``pos_label`` is none.
    """
    if y is None:
        raise ValueError(
            f"This {estimator_name} estimator requires y to be passed, but the target y is None."
        )
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    if y.dtype.kind in "biuf":  # without an order of all rows, which takes memory
        classes = np.sort(pd.unique(y))
        codes = np.searchsorted(classes, y)
    else:
        encoder = LabelEncoder()
        codes = encoder.fit_transform(y)
        classes = encoder.classes_
    if len(classes) == 1:
        raise ValueError(
            f"Got y with one class, {classes[0]}, but expected two: there is nothing to learn. "
            "Classifier can't train when only one class is present."
        )
    if last is not None and not np.array_equal(classes, last.classes):
        raise ValueError(
            f"Got y with classes {list(classes)} with warm_start=True, but the network that "
            f"is to be continued has {list(last.classes)}."
        )
    return Labels(codes, classes, _positive(pos_label, classes.tolist()))


def _positive(pos_label: Any, classes: list) -> int:
    """Code of the positive class."""
    if pos_label is None:
        return 1
    if len(classes) > 2:
        raise ValueError(
            f"Got pos_label={pos_label!r} with {len(classes)} classes, but expected None: of more "
            "than two classes, each is held against the rest."
        )
    if pos_label not in classes:
        raise ValueError(
            f"Got pos_label={pos_label!r}, but expected one of the labels of y: {classes}."
        )
    return classes.index(pos_label)


def check_X(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Validate X; a DataFrame stays one where the default network encodes it.

    Parameters
    ----------
    estimator : FairPruner
        Remembers what ``fit`` saw (``n_features_in_`` and the like).
    X : as for ``fit``
    reset : bool
        Whether this is ``fit``; otherwise X must be like the one of ``fit``.

    Returns
    -------
    DataFrame, ndarray, dict of ndarray, ImageFiles or ParquetTable

    Raises
    ------
    ValueError
        If X is not what the estimator's network takes.
    """
    if isinstance(X, Mapping) and not issparse(X):  # some sparse matrices are dicts
        if estimator.estimator is None:
            raise ValueError(
                "Got a dict X, but the default network takes one table: pass a DataFrame, or "
                "an estimator whose forward takes these inputs."
            )
        return check_inputs(estimator, X, reset=reset)
    if reset:
        for name in ("_inputs", "_kinds"):
            estimator.__dict__.pop(name, None)
    elif hasattr(estimator, "_inputs"):
        raise ValueError(
            f"Got X of type {type(X).__name__}, but expected a dict with the inputs of fit: "
            f"{list(estimator._inputs)}."
        )
    if streams(X):
        return _check_streamed(estimator, X, reset)
    if in_blocks(X):
        if len(X) > BLOCK_ROWS:
            return _check_blocks(estimator, X, reset)
        X = X.to_pandas()  # as a table in memory: it is one
    if estimator.estimator is not None:
        if isinstance(X, pd.DataFrame):
            _check_numbers(X)
        _check_type(X)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused, without a warning
            return validate_data(
                estimator, X, reset=reset, dtype=np.float32, allow_nd=True, ensure_min_samples=1
            )
    X = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        if X.shape[0] == 0 or X.shape[1] == 0:
            raise ValueError(
                f"Found array with {X.shape[0]} sample(s) and {X.shape[1]} feature(s) (shape="
                f"{X.shape}) while a minimum of 1 is required by FairPruner."
            )
        if reset:
            estimator._kinds = [kind_of(X.iloc[:, i]) for i in range(X.shape[1])]
        elif hasattr(estimator, "_kinds"):
            X = like_those_of_fit(X, estimator._kinds)
        X = with_numbers(X)
        check_columns(X, encoded=reset)
        return X
    _check_type(X)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a sum that overflows is refused below
            X = validate_data(
                estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan"
            )
    except OverflowError as error:
        raise ValueError(f"Got X with a number that is none in 64 bits: {error}.") from error
    frame = pd.DataFrame(X)
    if reset:
        estimator._kinds = ["numbers"] * X.shape[1]
    elif hasattr(estimator, "_kinds"):
        like_those_of_fit(frame, estimator._kinds)
    check_columns(frame, encoded=reset)
    return X


def _check_type(X: Any) -> None:
    """Refuse arrays that would become numbers without a word."""
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "mM":
        raise ValueError(
            f"Got X of type {dtype}, but expected numbers: pass dates and durations as columns of "
            "a DataFrame to the default network, or convert them to numbers."
        )


def _check_streamed(estimator: Any, X: Any, reset: bool) -> Any:
    """Validate what can be known of images without reading them; X stays on disk."""
    if estimator.estimator is None:
        raise ValueError(
            "Got images as X, but the default network takes a table: pass an estimator, such "
            "as fairprune_sk.networks.vision.ResNet18."
        )
    if len(X) == 0:
        raise ValueError("Found array with 0 sample(s), while a minimum of 1 is required.")
    if reset:
        estimator.n_features_in_ = X.shape[1]
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    return X


def _check_blocks(estimator: Any, X: ParquetTable, reset: bool) -> Any:
    """Validate a table on disk: in ``fit`` all of it, else its first rows, and others when read.

    Returns
    -------
    ParquetTable, or ndarray of shape (n, n_columns)
        The second, in a temporary file, for a network of the user's.
    """
    head = X[:FEWEST_ROWS].to_pandas()
    if estimator.estimator is not None:
        _check_numbers(head)
        arrays = (_as_float32(block) for block in X.blocks())
        array = on_disk(arrays, X.shape, X.places())
        validate_data(estimator, head, reset=reset, skip_check_array=True)
        return array
    validate_data(estimator, head, reset=reset, skip_check_array=True)
    if not X.shape[1]:
        raise ValueError(f"Got a table without columns, {X}, but expected one at least.")
    if reset:
        kinds = ["nothing"] * X.shape[1]
        for block in X.blocks():
            kinds = [
                kind_of(block.iloc[:, i]) if kind == "nothing" else kind
                for i, kind in enumerate(kinds)
            ]
            check_columns(with_numbers(block), encoded=True)
        estimator._kinds = kinds
        return X
    if not hasattr(estimator, "_kinds"):
        return X
    like_those_of_fit(head, estimator._kinds)
    return X.prepared(partial(_prepared, estimator._kinds))


def _as_float32(block: pd.DataFrame) -> np.ndarray:
    """Numbers of a block, for a network that reads them as they are."""
    _check_numbers(block)
    return block.to_numpy(dtype=np.float32)


def _prepared(kinds: list[str], block: pd.DataFrame) -> pd.DataFrame:
    """Check some rows of a table against that of fit."""
    block = with_numbers(like_those_of_fit(block, kinds))
    check_columns(block, encoded=False)
    return block


def check_weight(sample_weight: Any, class_weight: Any, y: np.ndarray) -> np.ndarray | None:
    """Sample weights times class weights, shape (n,); None where there are neither.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
    class_weight : dict, "balanced" or None
    y : ndarray of shape (n,)
        Labels.

    Returns
    -------
    ndarray of shape (n,), float64, or None
        At most 1.

    Raises
    ------
    ValueError
        If a weight is no finite number from 0, or fewer than two classes have any.
    """
    if sample_weight is None and class_weight is None:
        return None
    weight = np.ones(len(y))
    if sample_weight is not None:
        try:
            weight = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True
            )
        except OverflowError as error:
            raise ValueError(
                f"Got sample_weight with a number that is none in 64 bits: {error}."
            ) from error
        weight = scaled_weight(weight)
    if isinstance(class_weight, dict):
        for label, value in class_weight.items():
            real: Any = value if isinstance(value, Real) else -1
            if not 0 <= real <= sys.float_info.max:  # compared as it is: it may be none in 64 bits
                raise ValueError(
                    f"Got class_weight={class_weight!r}, but expected a finite number that is not "
                    f"negative for each class: {value!r} for {label!r} is none."
                )
    if class_weight is not None:
        factor = compute_sample_weight(class_weight, y)
        # Scaled: two large factors would overflow.
        weight = weight * (scaled_weight(factor) if factor.any() else factor)
    weighed = np.unique(y[weight_seen(weight) > 0]).tolist() if weight.any() else []
    if len(weighed) < 2:
        raise ValueError(
            f"Got sample_weight and class_weight that leave weight to the classes {weighed} only, "
            "but expected two classes with weight: there is nothing to learn from one."
        )
    return scaled_weight(weight)


def _check_numbers(X: pd.DataFrame) -> None:
    """Refuse, by name, columns that a network other than the default one cannot read."""
    types = pd.api.types
    numbers = [types.is_numeric_dtype(t) and not types.is_complex_dtype(t) for t in X.dtypes]
    other = [str(name) for name, known in zip(X.columns, numbers, strict=True) if not known]
    if other:
        raise ValueError(
            f"Got X with columns that hold no numbers: {other[:10]}. Only the default network "
            "(estimator=None) encodes categories: encode them before, as with scikit-learn's "
            "OneHotEncoder."
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(X.to_numpy(dtype=np.float32, na_value=np.nan)).all(axis=0)
    if not finite.all():
        raise ValueError(
            f"Got X with columns that hold NaN, infinity, or numbers beyond 32 bits: "
            f"{[str(name) for name in X.columns[~finite]][:10]}. Only the default network "
            "(estimator=None) takes missing values: fill them in before, as with scikit-learn's "
            "SimpleImputer."
        )


def check_inputs(estimator: Any, X: Mapping[str, Any], *, reset: bool) -> dict[str, np.ndarray]:
    """Turn the inputs of a network with several into arrays.

    Parameters
    ----------
    estimator : FairPruner
        Remembers, in ``_inputs``, the names and types that ``fit`` saw.
    X : dict of array-like of shape (n, ...)
        By the name of the argument of the network's ``forward``.
    reset : bool
        Whether this is ``fit``; otherwise the inputs must be those of ``fit``.

    Returns
    -------
    dict of ndarray
        Numbers with a fraction as float32, whole numbers (which may be the codes of an
        embedding) as int64. After ``fit``, in its order and types.

    Raises
    ------
    ValueError
        If there is none, an input holds no numbers, the lengths differ, or the inputs are not
        those of ``fit``.
    """
    inputs = {}
    for name, values in X.items():
        array = check_array(
            values, dtype="numeric", allow_nd=True, ensure_2d=False, input_name=f"X[{name!r}]"
        )
        inputs[name] = array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
    lengths = {name: len(array) for name, array in inputs.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(
            f"Got a dict X with inputs of lengths {lengths}, but expected one or more of one "
            "length."
        )
    if reset:
        estimator._inputs = {name: array.dtype for name, array in inputs.items()}
        return inputs
    dtypes = getattr(estimator, "_inputs", {})
    if inputs.keys() != dtypes.keys():
        raise ValueError(
            f"Got a dict X with inputs {list(inputs)}, but expected those of fit: {list(dtypes)}."
        )
    fractions = [
        name
        for name, dtype in dtypes.items()
        if dtype.kind == "i" and (inputs[name] != inputs[name].astype(dtype)).any()
    ]
    if fractions:
        raise ValueError(f"Got fractions in {fractions}, but expected whole numbers, as in fit.")
    return {name: inputs[name].astype(dtype) for name, dtype in dtypes.items()}
