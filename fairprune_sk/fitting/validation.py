"""Checks of what a user passes to ``fit``, all before any training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.sparse import issparse
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import assert_all_finite, check_array
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d, validate_data
from torch import Tensor

from fairprune_sk.exceptions import SmallGroupWarning, warn_at_caller
from fairprune_sk.fairness.constraints import cell_codes, class_columns
from fairprune_sk.fairness.groups import group_codes, group_name, sensitive_frame
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fairness.requirement import Requirement
from fairprune_sk.fitting.columns import FEWEST_ROWS, kind_of, like_those_of_fit
from fairprune_sk.networks.batch import streams
from fairprune_sk.networks.encoding import with_numbers

# A group of this many times min_group_count rows without, say, a single positive is no accident
# of a small sample: what to do about it is for the user to decide.
_NO_ACCIDENT = 10

# More groups than this, nearly all of them too small, are no groups but values.
_MANY_GROUPS = 20

# Cells that an error names one by one; a warning, which is about them, names more.
_SHOWN, _WARNED = 8, 100


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
    DataFrame, ndarray, dict of ndarray, or ImageFiles

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
    if estimator.estimator is not None:
        if isinstance(X, pd.DataFrame):
            _check_numbers(X)
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
        numbers = X.select_dtypes("number")
        infinite = np.isinf(numbers.to_numpy(dtype=np.float64, na_value=np.nan)).any(axis=0)
        if infinite.any():
            raise ValueError(
                f"Input X contains infinity in column {numbers.columns[infinite.argmax()]!r}: "
                "replace it with a number, or with NaN for 'missing'."
            )
        return X
    return validate_data(estimator, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")


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


def check_weight(sample_weight: Any, class_weight: Any, y: np.ndarray) -> np.ndarray | None:
    """Sample weights times class weights, shape (n,); None where there are neither.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
    class_weight : dict, "balanced" or None
    y : ndarray of shape (n,)
        Labels.
    """
    if sample_weight is None and class_weight is None:
        return None
    weight = np.ones(len(y))
    if sample_weight is not None:
        weight = _check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)
    if class_weight is not None:
        weight = weight * compute_sample_weight(class_weight, y)
    return weight


def _check_numbers(X: pd.DataFrame) -> None:
    """Refuse, by name, columns that a network other than the default one cannot read."""
    other = [str(n) for n, dtype in X.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    if other:
        raise ValueError(
            f"Got X with columns that hold no numbers: {other[:10]}. Only the default network "
            "(estimator=None) encodes categories: encode them before, as with scikit-learn's "
            "OneHotEncoder."
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


def as_pandas(X: Any) -> Any:
    """Turn a DataFrame of polars into one of pandas; everything else stays what it is."""
    if not hasattr(X, "get_columns"):
        return X
    # Column by column, since polars' own conversion needs pyarrow.
    return pd.DataFrame({column.name: column.to_numpy() for column in X.get_columns()})


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
    pairs = np.unique(np.column_stack([codes[inside], group[inside]]), axis=0)
    if len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])):
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
) -> tuple[Parity, Tensor]:
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

    Returns
    -------
    parity : Parity
    cell : Tensor of shape (n, n_outcomes), int64

    Raises
    ------
    ValueError
        If a large group has an empty cell, or no two groups can be compared.

    Warns
    -----
    SmallGroupWarning
        If cells are left out.
    """
    constraint, (y, classes, positive) = requirement.constraint, labels
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
    counts = torch.bincount(cell[cell >= 0], minlength=n_cells)
    # Rows of the cell's group in its stratum, whatever their label.
    inside = group >= 0
    within = np.bincount(stratum[inside] * n_groups + group[inside], minlength=n_strata * n_groups)
    totals = torch.from_numpy(np.tile(within, n_cells // len(within)))

    def names(selected: Tensor, most: int = _SHOWN) -> str:
        def name(index: int) -> str:
            condition = conditions[index // n_groups]
            rows = "rows" if condition == "all" else f"{condition} rows"
            return f"{group_name(groups[index % n_groups])!r} ({int(counts[index])} {rows})"

        indices = [int(index) for index in selected.nonzero().flatten()]
        more = f"; and {len(indices) - most} more" if len(indices) > most else ""
        return "; ".join(map(name, indices[:most])) + more

    impossible = (counts == 0) & (totals >= _NO_ACCIDENT * min_group_count)
    if impossible.any():
        raise ValueError(
            f"Got groups without an example that {type(constraint).__name__} conditions on: "
            f"{names(impossible)}. Their rate does not exist: merge them with other groups, "
            "leave their rows out, or choose another constraint."
        )
    of_group = np.bincount(group[inside], minlength=n_groups)
    n_small = int((of_group < min_group_count).sum())
    if n_groups > _MANY_GROUPS and n_small > 0.9 * n_groups:
        raise ValueError(
            f"Got sensitive_features with {n_groups} groups in {len(y):,} rows, of which {n_small} "
            f"have fewer than min_group_count={min_group_count} rows: their rates say nothing. "
            "Make fewer groups: bin numbers such as an age (pandas.cut), merge rare values, and "
            "leave out what names the rows."
        )
    constrained = counts >= min_group_count
    if (constrained.view(-1, n_groups).sum(dim=1) < 2).all():
        raise ValueError(
            f"Got no two groups with at least min_group_count={min_group_count} rows to compare: "
            f"{names(~constrained)}. Lower min_group_count, or merge groups: a sensitive feature "
            "of many values, such as an age, must be binned."
        )
    left_out = ~constrained & (totals > 0)
    if left_out.any():
        warn_at_caller(
            f"Left out of the constraint, with fewer than min_group_count={min_group_count} "
            f"rows: {names(left_out, _WARNED)}.",
            SmallGroupWarning,
        )
    names_of_groups = tuple(map(group_name, groups))
    parity = Parity(requirement, names_of_groups, tuple(conditions), counts, constrained, positive)
    return parity, cell
