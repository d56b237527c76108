"""Dense classifiers that fair pruning is compared with: fair ones of fairlearn, and plain ones.

Each is a thin scikit-learn classifier around the library's own method, with the same ``fit(X, y,
sensitive_features=...)`` and ``predict(X, sensitive_features=...)`` and the same three families
of classifiers below it, so that what differs between two rows of a comparison is the method.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import torch
from fairlearn.adversarial import AdversarialFairnessClassifier
from fairlearn.adversarial._pytorch_engine import PytorchEngine
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import DemographicParity, EqualizedOdds, ExponentiatedGradient
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
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from fairprune_sk.dense import fit_dense
from fairprune_sk.encoding import TableEncoder, is_number
from fairprune_sk.fitting import MERGED_ROWS, merge_repeated_rows, resolve_device
from fairprune_sk.groups import MISSING, group_codes, group_name, sensitive_frame
from fairprune_sk.modules import TabularNetwork
from fairprune_sk.outputs import logits
from fairprune_sk.training import on_device, plain, seeded, table_of
from fairprune_sk.validation import as_pandas, check_labels

BASES = ("logistic", "boosting", "mlp")
"""Families of classifiers."""

_MOMENTS = {"equalized_odds": EqualizedOdds, "demographic_parity": DemographicParity}
CONSTRAINTS = tuple(_MOMENTS)
"""What every fair competitor can hold between groups."""

# As many as boosting has bins for.
_MAX_CATEGORIES = 255
# The default of 31 overfits tables of a few thousand rows, and boosting stops early only on large
# ones.
_LEAVES = [4, 8, 16, 31]
_SEEDS = np.iinfo(np.int32).max


# --- what the families of classifiers read ---


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
        X = _checked_table(self, X, reset=True)
        y, self.classes_ = _checked_labels(self, X, y)
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(sample_weight, y, dtype=np.float64)
        device = resolve_device(self.device)
        # From here on as in FairPruner, to the last bit.
        seed = check_random_state(self.random_state).randint(_SEEDS)
        with seeded(seed, device):
            if len(y) <= MERGED_ROWS:
                index, weight = merge_repeated_rows(X, y, [], weight)
                X, y = X.iloc[index], y[index]
            if weight is not None:
                weight = weight / weight.mean()
            self.encoder_ = _inner(self.encoder) or TableEncoder().fit(X, y, weight)
            matrix = self._matrix(X)
            network = TabularNetwork(self.encoder_.edges_, self.encoder_.n_categories_)
            if weight is not None:
                weight = weight.astype(np.float32)
            table = table_of(
                matrix,
                device,
                on_device(y, device),
                sample_weight=None if weight is None else on_device(weight, device),
            )
            net = fit_dense(network, matrix, y, weight, table, device, verbose=0)
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
        matrix = self._matrix(_checked_table(self, X, reset=False))
        table = table_of(matrix, torch.device("cpu"))
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


# --- the competitors ---


class _Competitor(ClassifierMixin, BaseEstimator):
    """What all of them check, and how they name classes and groups."""

    needs_sensitive_features = False

    def _start(self, X: Any, y: Any, sensitive_features: Any) -> tuple[Any, np.ndarray, Any]:
        """Check parameters and inputs; X as a DataFrame, y as 0 and 1, groups as names."""
        _check_parameters(self)
        X = _checked_table(self, X, reset=True)
        y, self.classes_ = _checked_labels(self, X, y)
        self._seed = check_random_state(self.random_state).randint(_SEEDS)
        groups = None
        if hasattr(self, "constraint"):
            groups = self._groups(sensitive_features, len(X))
            self.groups_ = np.unique(groups)
            if len(self.groups_) < 2:
                raise ValueError(
                    f"Got sensitive_features with one group, {str(self.groups_[0])!r}, but "
                    "expected at least two: between which groups should rates be equal?"
                )
        return X, y, groups

    def _groups(self, sensitive_features: Any, n_rows: int) -> np.ndarray:
        """Name of the group of each row."""
        if sensitive_features is None:
            raise ValueError(
                f"Got no sensitive_features, but {type(self).__name__} needs the group of each "
                "row: pass sensitive_features=..."
            )
        codes, groups = group_codes(sensitive_frame(sensitive_features, n_rows))
        return np.array([group_name(group) for group in groups], dtype=str)[codes]


class Unconstrained(_Competitor):
    """A classifier without any notion of fairness: what a constraint costs is measured from it.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="mlp"
        Logistic regression over one-hot, imputed and scaled columns; gradient boosting with
        native categories and missing values, and as many leaves as cross-validation on the
        training rows chooses; or the network that ``FairPruner`` has before it
        prunes (:class:`DenseNetwork`).
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    needs_sensitive_features : bool
        False: ``predict`` does not need them.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Unconstrained
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, _ = make_biased_classification(1000, random_state=0)
    >>> Unconstrained("logistic").fit(X, y).predict(X).shape
    (1000,)
    """

    def __init__(self, base: str = "mlp", *, random_state: Any = None):
        self.base = base
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any = None) -> Unconstrained:
        """Fit.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : ignored

        Returns
        -------
        Unconstrained
        """
        X, y, _ = self._start(X, y, sensitive_features)
        self.encoder_, classifier = fit_encoder(self.base, X, y, self._seed)
        self.classifier_ = classifier.fit(self.encoder_.transform(X), y)
        return self

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n, 2)
        """
        check_is_fitted(self)
        X = _checked_table(self, X, reset=False)
        return self.classifier_.predict_proba(self.encoder_.transform(X))

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n,)
        """
        positive = self.predict_proba(X)[:, 1] > 0.5
        return self.classes_[positive.astype(int)]


class Reduction(_Competitor):
    """The reductions approach: a mixture of classifiers, each fitted to reweighted rows.

    fairlearn's ``ExponentiatedGradient`` [1]_. It bounds each group against all rows together; a
    bound of ``tolerance / 2`` there keeps any two groups within ``tolerance`` of each other.
    Predictions draw one classifier of the mixture for each row, and with them the gap holds on
    average over draws; ``random_state`` fixes the draws.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="logistic"
        As for :class:`Unconstrained`. The table is encoded once, not for each refit.
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
    tolerance : float in (0, 1], default=0.05
        Largest gap between two groups on the training rows: a difference of rates.
    max_iter : int >= 1 or None, default=None
        Iterations, each of which refits about three times. None is fairlearn's 50 for
        "logistic" and "boosting", and 10 for "mlp", where a refit is a training of the network:
        see ``converged_``.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    reduction_ : ExponentiatedGradient
        Fitted, for the encoded table.
    converged_ : bool
        Whether the duality gap fell below fairlearn's threshold, a part of the standard error
        of the accuracy, within ``max_iter``.
    needs_sensitive_features : bool
        False: ``predict`` does not need them.

    References
    ----------
    .. [1] Agarwal, Beygelzimer, Dudik, Langford, Wallach, "A Reductions Approach to Fair
       Classification", ICML 2018.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Reduction
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = Reduction("logistic", tolerance=0.03, random_state=0)
    >>> fair.fit(X, y, sensitive_features=s["sex"]).predict(X).shape
    (1000,)
    """

    def __init__(
        self,
        base: str = "logistic",
        *,
        constraint: str = "equalized_odds",
        tolerance: float = 0.05,
        max_iter: int | None = None,
        random_state: Any = None,
    ):
        self.base = base
        self.constraint = constraint
        self.tolerance = tolerance
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> Reduction:
        """Fit the mixture.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        Reduction
        """
        X, y, groups = self._start(X, y, sensitive_features)
        self.encoder_, classifier = fit_encoder(self.base, X, y, self._seed)
        max_iter = self.max_iter
        if max_iter is None:
            max_iter = 10 if self.base == "mlp" else 50
        self.reduction_ = ExponentiatedGradient(
            classifier,
            _MOMENTS[self.constraint](difference_bound=self.tolerance / 2),
            max_iter=max_iter,
        )
        with _fairlearn():
            self.reduction_.fit(self.encoder_.transform(X), y, sensitive_features=groups)
        self.converged_ = bool(self.reduction_.best_gap_ < self.reduction_.nu)
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels, the same at each call.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n,)
        """
        check_is_fitted(self)
        encoded = self.encoder_.transform(_checked_table(self, X, reset=False))
        return self.classes_[self.reduction_.predict(encoded, random_state=self._seed)]


class Thresholds(_Competitor):
    """A plain classifier with thresholds of its own for each group.

    fairlearn's ``ThresholdOptimizer`` [1]_, for the most accurate thresholds. It has to know the
    group of each row that it predicts. Where thresholds cannot make rates equal they are mixed at
    random; ``random_state`` fixes the draws.

    Parameters
    ----------
    base : {"logistic", "boosting", "mlp"}, default="logistic"
        As for :class:`Unconstrained`.
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
    tolerance : float in [0, 1], default=0.05
        Largest gap between two groups on the training rows. Only for demographic parity: under
        equalized odds rates are made equal, since the method knows no bound there.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    thresholds_ : ThresholdOptimizer
        Fitted, for the encoded table.
    needs_sensitive_features : bool
        True: ``predict`` needs them, with the groups of ``fit``.

    References
    ----------
    .. [1] Hardt, Price, Srebro, "Equality of Opportunity in Supervised Learning", NeurIPS 2016.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Thresholds
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = Thresholds("logistic", random_state=0).fit(X, y, sensitive_features=s["sex"])
    >>> fair.predict(X, sensitive_features=s["sex"]).shape
    (1000,)
    """

    needs_sensitive_features = True

    def __init__(
        self,
        base: str = "logistic",
        *,
        constraint: str = "equalized_odds",
        tolerance: float = 0.05,
        random_state: Any = None,
    ):
        self.base = base
        self.constraint = constraint
        self.tolerance = tolerance
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> Thresholds:
        """Fit the classifier, then its thresholds on the same rows.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        Thresholds
        """
        X, y, groups = self._start(X, y, sensitive_features)
        self.encoder_, classifier = fit_encoder(self.base, X, y, self._seed)
        encoded = self.encoder_.transform(X)
        self.thresholds_ = ThresholdOptimizer(
            estimator=classifier.fit(encoded, y),
            constraints=self.constraint,
            prefit=True,
            predict_method="predict_proba",
            tol=self.tolerance if self.constraint == "demographic_parity" else None,
        )
        self.thresholds_.fit(encoded, y, sensitive_features=groups)
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels, the same at each call.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : as for ``fit``

        Returns
        -------
        ndarray of shape (n,)
        """
        check_is_fitted(self)
        X = _checked_table(self, X, reset=False)
        groups = self._groups(sensitive_features, len(X))
        unknown = sorted(set(groups.tolist()) - set(self.groups_.tolist()))
        if unknown:
            raise ValueError(
                f"Got sensitive_features with groups {unknown} that have no threshold, but "
                f"expected those of fit: {self.groups_.tolist()}."
            )
        encoded = self.encoder_.transform(X)
        positive = self.thresholds_.predict(
            encoded, sensitive_features=groups, random_state=self._seed
        )
        return self.classes_[positive]


# The adversary must keep up with the predictor.
_ADVERSARY_LR = 10.0
_DROPOUT = 0.2


def _adam(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    # Without momentum, as is usual between adversaries: with it, they circle ever more widely.
    return torch.optim.AdamW(
        model.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.0, 0.99)
    )


class _AdversarialEngine(PytorchEngine):
    """fairlearn's engine, with the seed and the gradient that were meant.

    fairlearn seeds torch with a fraction below 1, which torch rounds to 0 for every
    ``random_state``. And it projects on the adversary's gradient with ``torch.inner``, which for
    matrices is no inner product but that of each row with each row; the method as published [1]_
    takes the inner product of all entries, as here. Both learning rates fall to 0
    along a cosine: at a constant rate predictor and adversary circle around each other, and the
    gap is that of the step at which training happens to end.

    References
    ----------
    .. [1] Zhang, Lemoine, Mitchell, "Mitigating Unwanted Biases with Adversarial Learning",
       AIES 2018.
    """

    def __init__(self, base: Any, X: Any, Y: Any, A: Any):
        super().__init__(base, X, Y, A)
        steps = base.epochs * -(-len(X) // base.batch_size)
        optimizers = self.predictor_optimizer, self.adversary_optimizer
        self.schedules = [CosineAnnealingLR(optimizer, T_max=steps) for optimizer in optimizers]

    def get_model(self, list_nodes: list) -> nn.Module:
        """Initialise a model from the estimator's own random state."""
        torch.manual_seed(self.base.random_state_.randint(_SEEDS))
        return super().get_model(list_nodes)

    def train_step(self, X: torch.Tensor, Y: torch.Tensor, A: torch.Tensor) -> tuple[float, float]:
        """One step of predictor and adversary; each layer is projected, as in fairlearn."""
        self.predictor_model.train()
        self.adversary_model.train()
        y_hat = self.predictor_model(X)
        loss = self.predictor_loss(y_hat, Y)
        seen = torch.cat((y_hat, Y), dim=1) if self.base.pass_y_ else y_hat
        adversary_loss = self.adversary_loss(self.adversary_model(seen), A)
        weights = list(self.predictor_model.parameters())
        adversary = list(self.adversary_model.parameters())
        ours = torch.autograd.grad(loss, weights, retain_graph=True)
        theirs = torch.autograd.grad(adversary_loss, weights + adversary)
        tiny = torch.finfo(torch.float32).tiny
        for weight, own, other in zip(weights, ours, theirs[: len(weights)], strict=True):
            unit = other / (other.norm() + tiny)
            weight.grad = own - (own * unit).sum() * unit - self.base.alpha * other
        for weight, own in zip(adversary, theirs[len(weights) :], strict=True):
            weight.grad = own
        self.predictor_optimizer.step()
        self.adversary_optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        return loss.item(), adversary_loss.item()


class Adversarial(_Competitor):
    """A network trained against an adversary that reads the group off its predictions.

    fairlearn's ``AdversarialFairnessClassifier`` [1]_ over one-hot, imputed and scaled columns,
    with the layers, the dropout and the weight decay of ``FairPruner``'s network. There is no
    bound on the gap: ``alpha`` trades it for accuracy. Its defaults, and the adversary's, were
    chosen on splits of the training parts of COMPAS and Adult. The seed and the gradient of
    fairlearn's engine are put right on the way.

    Parameters
    ----------
    constraint : {"equalized_odds", "demographic_parity"}, default="equalized_odds"
        Whether the adversary sees the labels as well.
    alpha : float >= 0, default=1.0
        Weight of the adversary.
    hidden : tuple of int, default=(256, 128)
        Units of each hidden layer.
    max_epochs : int >= 1 or None, default=None
        None is 20, or as many more as 700 steps take: small tables need steps, and large ones
        are overfitted by more epochs.
    batch_size : int >= 1, default=256
    lr : float > 0, default=0.001
        Learning rate of the predictor at the start; that of the adversary is ten times as large.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    groups_ : ndarray of shape (n_groups,)
    adversarial_ : AdversarialFairnessClassifier
        Fitted, for the encoded table.
    needs_sensitive_features : bool
        False: ``predict`` does not need them.

    References
    ----------
    .. [1] Zhang, Lemoine, Mitchell, "Mitigating Unwanted Biases with Adversarial Learning",
       AIES 2018.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.competitors import Adversarial
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
    >>> fair = Adversarial(max_epochs=2, random_state=0).fit(X, y, sensitive_features=s["sex"])
    >>> fair.predict(X).shape
    (1000,)
    """

    def __init__(
        self,
        *,
        constraint: str = "equalized_odds",
        alpha: float = 1.0,
        hidden: tuple[int, ...] = (256, 128),
        max_epochs: int | None = None,
        batch_size: int = 256,
        lr: float = 1e-3,
        random_state: Any = None,
    ):
        self.constraint = constraint
        self.alpha = alpha
        self.hidden = hidden
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any) -> Adversarial:
        """Train predictor and adversary.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : as for ``FairPruner.fit``

        Returns
        -------
        Adversarial
        """
        X, y, groups = self._start(X, y, sensitive_features)
        epochs = self.max_epochs
        if epochs is None:
            epochs = max(20, -(-700 // -(-len(X) // self.batch_size)))
        self.encoder_ = MatrixEncoder().fit(X)
        layers = [layer for units in self.hidden for layer in (units, "relu", nn.Dropout(_DROPOUT))]
        self.adversarial_ = AdversarialFairnessClassifier(
            backend=_AdversarialEngine,
            predictor_model=layers,
            adversary_model=[32, "relu"],
            predictor_optimizer=partial(_adam, lr=self.lr, weight_decay=0.5),
            adversary_optimizer=partial(_adam, lr=_ADVERSARY_LR * self.lr, weight_decay=0.0),
            constraints=self.constraint,
            learning_rate=self.lr,
            alpha=self.alpha,
            epochs=epochs,
            batch_size=self.batch_size,
            shuffle=True,
            random_state=self._seed,
        )
        codes = np.searchsorted(self.groups_, groups)
        with seeded(self._seed, torch.device("cpu")):
            self.adversarial_.fit(self.encoder_.transform(X), y, sensitive_features=codes)
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        sensitive_features : ignored

        Returns
        -------
        ndarray of shape (n,)
        """
        check_is_fitted(self)
        encoded = self.encoder_.transform(_checked_table(self, X, reset=False))
        return self.classes_[self.adversarial_.predict(encoded).astype(int)]


COMPETITORS = MappingProxyType(
    {
        **{f"exponentiated_gradient({base})": Reduction(base) for base in BASES},
        **{f"threshold_optimizer({base})": Thresholds(base) for base in BASES},
        "adversarial(mlp)": Adversarial(),
    }
)
"""Every fair competitor with its defaults, by name; ``sklearn.base.clone`` before use."""


@contextmanager
def _fairlearn() -> Iterator[None]:
    """Hide what pandas tells fairlearn's authors about their code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


# --- checks ---


def _inner(frozen: Any) -> Any:
    return getattr(frozen, "estimator", frozen)


def _checked_table(estimator: Any, X: Any, *, reset: bool) -> pd.DataFrame:
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


def _checked_labels(estimator: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels as 0 and 1, and the two classes."""
    codes, classes = check_labels(y, type(estimator).__name__)
    if len(classes) > 2:
        raise ValueError(
            f"Got y with {len(classes)} classes, but {type(estimator).__name__} expected two."
        )
    check_consistent_length(X, codes)
    return codes, classes


def _check_parameters(estimator: Any) -> None:
    """Refuse parameters that are not as documented, before any training."""
    choices = {"base": BASES, "constraint": CONSTRAINTS}
    # A reduction without slack need not have a solution.
    exact = isinstance(estimator, Thresholds)
    numbers = {
        "tolerance": (
            Real,
            lambda v: (0 if exact else 1e-6) <= v <= 1,
            f"a number in {'[' if exact else '('}0, 1]",
        ),
        "alpha": (Real, lambda v: 0 <= v < np.inf, "a number >= 0"),
        "lr": (Real, lambda v: 0 < v < np.inf, "a number > 0"),
        "max_epochs": (Integral, lambda v: v >= 1, "None or an integer >= 1"),
        "batch_size": (Integral, lambda v: v >= 1, "an integer >= 1"),
        "max_iter": (Integral, lambda v: v >= 1, "None or an integer >= 1"),
    }
    for name, value in estimator.get_params(deep=False).items():
        if name in choices and value not in choices[name]:
            expected = ", ".join(map(repr, choices[name]))
            raise ValueError(f"Got {name}={value!r}, but expected one of {expected}.")
        if name in numbers and not (value is None and name in ("max_iter", "max_epochs")):
            kind, holds, words = numbers[name]
            if not isinstance(value, kind) or isinstance(value, bool) or not holds(value):
                raise ValueError(f"Got {name}={value!r}, but expected {words}.")
        if name == "hidden" and not all(isinstance(n, Integral) and n >= 1 for n in value):
            raise ValueError(f"Got hidden={value!r}, but expected numbers of units, such as (64,).")
