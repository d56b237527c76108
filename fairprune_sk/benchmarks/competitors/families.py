"""The families of classifiers that are compared, and what each of them reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from fairprune_sk.benchmarks.competitors.inputs import SEEDS, checked_labels, checked_table
from fairprune_sk.fairness.groups import MISSING
from fairprune_sk.fitting.dense import fit_dense
from fairprune_sk.fitting.outputs import logits
from fairprune_sk.fitting.resident import table_of
from fairprune_sk.fitting.task import MERGED_ROWS, merge_repeated_rows, resolve_device
from fairprune_sk.fitting.training import seeded
from fairprune_sk.networks.batch import Batch
from fairprune_sk.networks.calls import plain
from fairprune_sk.networks.default import TabularNetwork
from fairprune_sk.networks.encoding import TableEncoder, is_number

BASES = ("logistic", "boosting", "mlp")
"""Families of classifiers."""

# As many as boosting has bins for.
_MAX_CATEGORIES = 255
# The default of 31 overfits tables of a few thousand rows, and boosting stops early only on large
# ones.
_LEAVES = [4, 8, 16, 31]


class MatrixEncoder(TransformerMixin, BaseEstimator):
    """Encode a table as a matrix of floats, as a scikit-learn user would: numbers come first.

    Parameters
    ----------
    one_hot : bool, default=True
        Whether categories become one-hot columns, and numbers are imputed (median, with an
        indicator of missing values) and scaled to unit variance, as linear models and networks
        want them. Otherwise categories become codes, and numbers stay what they are, missing
        values included, as boosting wants them.

    Attributes
    ----------
    categorical_ : ndarray of shape (n_features,), bool
        Columns that hold no numbers; missing is one more category.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.competitors import MatrixEncoder
    >>> X = pd.DataFrame({"job": ["care", "office", None], "age": [30, None, 50]})
    >>> MatrixEncoder(one_hot=False).fit(X).transform(X)
    array([[30.,  0.],
           [nan,  2.],
           [50.,  1.]])
    """

    def __init__(self, one_hot: bool = True):
        self.one_hot = one_hot

    def fit(self, X: pd.DataFrame, y: Any = None) -> MatrixEncoder:
        """Learn categories, medians and scales.

        Parameters
        ----------
        X : DataFrame of shape (n, n_features)
        y : ignored

        Returns
        -------
        MatrixEncoder
        """
        self.categorical_ = np.array([not is_number(t) for t in X.dtypes], dtype=bool)
        self._numbers: Any = None
        if self.one_hot:
            imputer = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
            self._numbers = make_pipeline(imputer, StandardScaler())
            self._categories: Any = OneHotEncoder(
                max_categories=_MAX_CATEGORIES,
                handle_unknown="infrequent_if_exist",
                sparse_output=False,
            )
        else:
            # Boosting takes a negative code for a missing value.
            self._categories = OrdinalEncoder(
                max_categories=_MAX_CATEGORIES,
                handle_unknown="use_encoded_value",
                unknown_value=-1,
            )
        numbers, categories = self._split(X)
        if self._numbers is not None and numbers.shape[1]:
            self._numbers.fit(numbers)
        if categories.shape[1]:
            self._categories.fit(categories)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Encode a table.

        Parameters
        ----------
        X : DataFrame of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_encoded), float64
        """
        check_is_fitted(self)
        numbers, categories = self._split(X)
        if self._numbers is not None and numbers.shape[1]:
            numbers = self._numbers.transform(numbers)
        if not categories.shape[1]:
            return numbers
        return np.hstack([numbers, self._categories.transform(categories)])

    def _split(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        # By position, since column names need not be unique.
        numbers = X.loc[:, ~self.categorical_].to_numpy(dtype=np.float64, na_value=np.nan)
        categories = X.loc[:, self.categorical_].astype(object)
        names = categories.where(categories.notna(), MISSING).astype(str)
        return numbers, names.to_numpy(dtype=object)


class DenseNetwork(ClassifierMixin, BaseEstimator):
    """The network that ``FairPruner`` has before it prunes, trained in the same way.

    Parameters
    ----------
    encoder : None or fitted TableEncoder inside FrozenEstimator, default=None
        With an encoder, X is the matrix that it gave: what fits many networks on the same rows
        encodes them once.
    device : str, default="cpu"
        Torch device, or "auto".
    random_state : int, RandomState or None, default=None
        Seed of initial weights, dropout and batches.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    encoder_ : TableEncoder
    network_ : TabularNetwork

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import DenseNetwork
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, _ = make_biased_classification(1000, random_state=0)
    >>> DenseNetwork(random_state=0).fit(X, y).score(X, y) > 0.7
    True
    """

    def __init__(self, encoder: Any = None, device: str = "cpu", random_state: Any = None):
        self.encoder = encoder
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DenseNetwork:
        """Train on weighted rows.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        DenseNetwork
        """
        X = checked_table(self, X, reset=True)
        y, self.classes_ = checked_labels(self, X, y)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, y, dtype=np.float64)
        device = resolve_device(self.device)
        # From here on as in FairPruner, to the last bit.
        seed = check_random_state(self.random_state).randint(SEEDS)
        with seeded(seed, device):
            if len(y) <= MERGED_ROWS:
                index, weight = merge_repeated_rows(X, y, [], weight)
                X, y = X.iloc[index], y[index]
            if weight is not None:
                weight = weight / weight.mean()
            if self.encoder is None:
                self.encoder_ = TableEncoder().fit(X, y, weight)
            else:
                self.encoder_ = self.encoder.estimator  # out of its FrozenEstimator
            matrix = self._matrix(X)
            network = TabularNetwork(self.encoder_.edges_, self.encoder_.n_categories_)
            if weight is not None:
                weight = weight.astype(np.float32)
            weights = None if weight is None else torch.from_numpy(weight)
            rows = Batch(matrix, torch.from_numpy(y), weights)
            table = table_of(rows, device)
            net = fit_dense(network, rows, table)
        self.network_ = plain(net.module_).cpu().eval()
        return self

    def _matrix(self, X: pd.DataFrame) -> np.ndarray:
        if self.encoder is None:
            return self.encoder_.transform(X)
        return np.ascontiguousarray(X.to_numpy(dtype=np.float32))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of the second class.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,), float64
        """
        check_is_fitted(self)
        matrix = self._matrix(checked_table(self, X, reset=False))
        table = table_of(Batch(matrix), torch.device("cpu"))
        return logits(self.network_, table, False).numpy()[:, 0].astype(np.float64)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, 2)
        """
        scores = self.decision_function(X)
        return np.column_stack([expit(-scores), expit(scores)])

    def predict(self, X: Any) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def fit_encoder(base: str, X: pd.DataFrame, y: np.ndarray, seed: int) -> tuple[Any, Any]:
    """Fit the encoder of a family of classifiers, and make a classifier of it.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}
    X : DataFrame of shape (n, n_features)
    y : ndarray of shape (n,)
        0 and 1.
    seed : int

    Returns
    -------
    encoder : transformer
    classifier : classifier
        For the encoded table, not fitted; its ``fit`` takes ``sample_weight``.
    """
    if base == "mlp":
        index, weight = np.arange(len(y)), None
        if len(y) <= MERGED_ROWS:
            index, weight = merge_repeated_rows(X, y, [], None)
        network_encoder = TableEncoder().fit(X.iloc[index], y[index], weight)
        frozen = FrozenEstimator(network_encoder)
        return network_encoder, DenseNetwork(encoder=frozen, random_state=seed)
    encoder = MatrixEncoder(one_hot=base == "logistic").fit(X)
    if base == "logistic":
        return encoder, LogisticRegression(max_iter=1000)
    n_categorical = encoder.categorical_.sum()
    is_category = np.arange(X.shape[1]) >= X.shape[1] - n_categorical
    boosting = HistGradientBoostingClassifier(categorical_features=is_category, random_state=seed)
    if np.bincount(y).min() < 3:
        return encoder, boosting
    search = GridSearchCV(
        boosting,
        {"max_leaf_nodes": _LEAVES},
        scoring="neg_log_loss",
        cv=StratifiedKFold(3, shuffle=True, random_state=seed),
    )
    return encoder, clone(search.fit(encoder.transform(X), y).best_estimator_)
