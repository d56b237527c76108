"""The estimator: dense training, bi-level fair pruning, prediction."""

from __future__ import annotations

import copy
import hashlib
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from skorch import NeuralNet
from torch import Tensor, nn
from torch.func import functional_call

from fairprune_sk.bilevel import SOLVERS, BilevelSolver, Problem
from fairprune_sk.compaction import compact, reached_sparsity
from fairprune_sk.constraints import CONSTRAINTS, Cells, Constraint
from fairprune_sk.dense import check_estimator, fit_dense, module_of
from fairprune_sk.encoding import TableEncoder
from fairprune_sk.exceptions import CollapseWarning, ConstraintNotMetWarning
from fairprune_sk.granularity import GRANULARITIES, Granularity, prunable_parameters
from fairprune_sk.groups import group_name
from fairprune_sk.modules import TabularNetwork
from fairprune_sk.objective import FairnessTerm
from fairprune_sk.outputs import hidden, logits, margin
from fairprune_sk.pruning import Candidate, PruningNet
from fairprune_sk.training import ResidentTable, seeded, train
from fairprune_sk.validation import check_cells, check_groups, check_labels

# A pruned network that selects less than this share of the rows that the dense one selects has
# bought its small gap by selecting nobody.
COLLAPSE_SHARE = 0.25


class FairPruner(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClassifierMixin, BaseEstimator):
    """Train a network for a table, and prune it to a small one that treats groups alike.

    A dense network is trained first. Then masks (upper level) and weights (lower level) are
    learned together, under a bound on the gap between groups at both levels, until the wanted
    fraction of the weights is gone (Dai et al., arXiv 2312.10181). What is kept is the best
    network on the way (accuracy less gap) whose gap on the training rows is within the tolerance.

    Predicting never needs the sensitive features. Columns are never added or dropped: whether a
    sensitive column is also a feature is for the caller to decide.

    Parameters
    ----------
    estimator : None, nn.Module class or instance, skorch net, or FrozenEstimator, default=None
        The network. ``None`` is a multilayer perceptron with piecewise-linear encodings, which
        takes DataFrames with numbers, categories, booleans and missing values as they are. A
        module class is called with ``n_features`` and ``n_outputs`` where its signature has
        them. A skorch ``NeuralNetClassifier`` or ``NeuralNetBinaryClassifier`` is cloned and
        trained with its own settings; inside ``sklearn.frozen.FrozenEstimator`` its fitted
        weights are pruned as they are. The object itself is never changed.
    sparsity : float in [0, 1), default=0.9
        Fraction of the weights (all weight matrices, embeddings and the output layer included,
        but no biases and normalisation parameters) to remove.
    constraint : str, Constraint or None, default="equalized_odds"
        What must be equal between groups: "demographic_parity", "equalized_odds",
        "equal_opportunity", "false_positive_rate_parity" or "accuracy_parity". ``None`` for
        plain bi-level pruning.
    tolerance : float in [0, 1] or None, default=0.05
        Largest allowed gap on the training rows, as a difference of rates. ``None`` adds
        ``fairness_weight`` times the differences to the loss instead, without a bound.
    fairness_weight : float >= 0, default=1.0
        Weight of the penalty where ``tolerance=None``; otherwise how fast the bound is reached,
        not where it lies. 0 switches fairness off.
    gap_method : {"between_groups", "to_overall"}, default="between_groups"
        Whether the gap is the largest difference between two groups, or between a group and
        all rows together, as in fairlearn's metrics.
    min_group_count : int >= 1, default=10
        Groups with fewer rows in an event (say, fewer positives) are left out of the constraint
        there, with a warning that names them.
    granularity : {"unstructured"}, default="unstructured"
        What goes together: single weights.
    solver : {"bilevel"} or BilevelSolver, default="bilevel"
        The pruning algorithm, with its own hyperparameters.
    max_epochs : int or "auto", default="auto"
        Epochs of the pruning phase. "auto" takes at least 400 steps, and 32 epochs of a table
        of moderate size.
    batch_size : int or "auto", default="auto"
        Rows in a batch of the pruning phase: group rates need many. "auto" is the smaller of
        2,048 and the table.
    lr, mask_lr : float, default=0.001 and 0.0003
        Learning rates of the pruning phase: of the weights (AdamW), and of the mask scores, as
        the change of a score for a gradient of root mean square size.
    callbacks : list of skorch callbacks or None, default=None
        Callbacks of the pruning phase.
    device : str, default="auto"
        Torch device of the pruning phase, and of the dense phase unless a skorch net with its
        own is given. "auto" is "cuda" where there is one, otherwise "cpu".
    random_state : int, RandomState or None, default=None
        Seed of initial weights, dropout and batches.
    verbose : int, default=0
        1 prints a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        Labels; the second is the positive class.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where X has string column names.
    groups_ : ndarray of shape (n_groups,) or None
        The groups seen in fit (tuples where there are several sensitive columns).
    encoder_ : TableEncoder or None
        Encoding of X for the default network.
    dense_estimator_ : skorch net
        The network before pruning.
    network_ : nn.Module
        The pruned network, a plain module.
    masks_ : dict of Tensor, bool
        True keeps, by parameter name.
    sparsity_ : float
        The sparsity reached.
    multipliers_ : DataFrame of shape (n_events, n_groups) or None
        Multipliers at the end: what the constraint costs, by event and group.
    violation_ : float or None
        Gap of hard predictions on the training rows minus the tolerance.
    history_ : skorch.history.History
        Of the pruning phase.
    n_iter_ : int
        Steps of the pruning phase.

    Warns
    -----
    ConstraintNotMetWarning
        If no network within the tolerance was found.
    CollapseWarning
        If the pruned network selects (almost) nobody, or everybody.
    SmallGroupWarning
        If a group is too small to be constrained.

    References
    ----------
    .. [1] Dai, Li, Luo, Ma, Wu, "Integrating Fairness and Model Pruning Through Bi-level
       Optimization", arXiv 2312.10181.
    .. [2] Zhang et al., "Advancing Model Pruning via Bi-level Optimization", NeurIPS 2022.

    Examples
    --------
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(2000, random_state=0)
    >>> pruner = FairPruner(sparsity=0.9, tolerance=0.05, random_state=0)
    >>> pruner.fit(X, y, sensitive_features=s["sex"]).sparsity_ >= 0.9
    True
    >>> pruner.predict(X.head(3)).shape
    (3,)
    """

    _parameter_constraints: dict = {
        "estimator": [
            None,
            nn.Module,
            NeuralNet,
            FrozenEstimator,
            type,
        ],
        "sparsity": [Interval(Real, 0, 1, closed="left")],
        "constraint": [StrOptions(set(CONSTRAINTS)), Constraint, None],
        "tolerance": [Interval(Real, 0, 1, closed="both"), None],
        "fairness_weight": [Interval(Real, 0, None, closed="left")],
        "gap_method": [StrOptions({"between_groups", "to_overall"})],
        "min_group_count": [Interval(Integral, 1, None, closed="left")],
        "granularity": [StrOptions(set(GRANULARITIES)), Granularity],
        "solver": [StrOptions(set(SOLVERS)), BilevelSolver],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "mask_lr": [Interval(Real, 0, None, closed="left")],
        "callbacks": [list, None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        sparsity: float = 0.9,
        constraint: str | Constraint | None = "equalized_odds",
        tolerance: float | None = 0.05,
        fairness_weight: float = 1.0,
        gap_method: str = "between_groups",
        min_group_count: int = 10,
        granularity: str | Granularity = "unstructured",
        solver: str | BilevelSolver = "bilevel",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        lr: float = 1e-3,
        mask_lr: float = 3e-4,
        callbacks: list | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.sparsity = sparsity
        self.constraint = constraint
        self.tolerance = tolerance
        self.fairness_weight = fairness_weight
        self.gap_method = gap_method
        self.min_group_count = min_group_count
        self.granularity = granularity
        self.solver = solver
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.mask_lr = mask_lr
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Binary classifier that takes missing values where its network encodes them."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = self.estimator is None
        tags.input_tags.categorical = self.estimator is None
        tags.input_tags.string = False
        return tags

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        sample_weight: Any = None,
    ) -> FairPruner:
        """Train the dense network, then prune it.

        All inputs are checked before any training. An interrupted fit leaves the estimator as
        it was.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
            An ndarray with more axes where the given network takes it.
        y : array-like of shape (n,)
            Labels of two classes.
        sensitive_features : Series, DataFrame, array-like or dict, default=None
            The group of each row; several columns stand for their intersections. Needed unless
            ``constraint=None`` or ``fairness_weight=0``.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows, in the loss and in the rates.

        Returns
        -------
        FairPruner
            The fitted estimator itself.

        Raises
        ------
        ValueError
            If an input or a parameter is not as described; the message says which and why.
        """
        self._validate_params()
        before = dict(self.__dict__)
        try:
            fitted = self._fit(X, y, sensitive_features, sample_weight)
        except BaseException:
            # What checking has set (n_features_in_, ...) goes as well: all or nothing.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        for name, value in fitted.items():
            setattr(self, name, value)
        return self

    def _check_X(self, X: Any, y: Any = None, *, reset: bool) -> Any:
        """Validate X; a DataFrame stays one where the default network encodes it."""
        if self.estimator is not None:
            return validate_data(
                self, X, reset=reset, dtype=np.float32, allow_nd=True, ensure_min_samples=1
            )
        if isinstance(X, pd.DataFrame):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if X.shape[0] == 0 or X.shape[1] == 0:
                raise ValueError(
                    f"Found array with {X.shape[0]} sample(s) and {X.shape[1]} feature(s) (shape="
                    f"{X.shape}) while a minimum of 1 is required by FairPruner."
                )
            numbers = X.select_dtypes("number")
            infinite = np.isinf(numbers.to_numpy(dtype=np.float64, na_value=np.nan)).any(axis=0)
            if infinite.any():
                raise ValueError(
                    f"Input X contains infinity in column {numbers.columns[infinite.argmax()]!r}: "
                    "replace it with a number, or with NaN for 'missing'."
                )
            return X
        return validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")

    def _fit(self, X: Any, y: Any, sensitive_features: Any, sample_weight: Any) -> dict[str, Any]:
        """Check everything, train, prune; return the fitted attributes."""
        X = self._check_X(X, y, reset=True)
        y, classes = check_labels(y, type(self).__name__)
        check_consistent_length(X, y)
        weight = sample_weight
        if weight is not None:
            weight = _check_sample_weight(weight, y, dtype=np.float64, ensure_non_negative=True)
            weight = weight / weight.mean()
        constraint = self.constraint if self.fairness_weight > 0 else None
        group, groups = check_groups(sensitive_features, len(y), constraint)
        cells, cell = None, None
        if constraint is not None and group is not None and groups is not None:
            if isinstance(constraint, str):
                constraint = CONSTRAINTS[constraint]()
            cells, cell = check_cells(constraint, y, group, groups, self.min_group_count)
        device = _resolve_device(self.device)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        with seeded(seed, device):
            encoder = None
            if self.estimator is None:
                encoder = TableEncoder().fit(X, y, weight)
                X = encoder.transform(X)
                network: Any = TabularNetwork(encoder.edges_, encoder.n_categories_)
            else:
                network = check_estimator(self.estimator, X, classes, weight)
            granularity = self._check_sparsity(module_of(network))

            def resident(column: np.ndarray | None) -> Tensor | None:
                return None if column is None else torch.from_numpy(np.float32(column)).to(device)

            table = ResidentTable(
                torch.from_numpy(np.ascontiguousarray(X)).to(device),
                resident(y),
                resident(weight),
                None if cell is None else cell.to(device),
            )
            dense = fit_dense(network, X, y, table, device, self.verbose)
            cells = None if cells is None else cells.to(device)
            net = train(self._pruning_net(dense, table, cells, granularity, device), table)
            best = net.finish(table)
        dense_rate = float((logits(dense, dense.module_, table) > 0).float().mean())
        self._warn_about(best, cells, dense_rate, y.mean())
        network = compact(net.module_, net.state_.masks)
        network.load_state_dict({**best.parameters, **best.buffers}, strict=False)
        masks = {name: mask.cpu() for name, mask in net.state_.masks.items()}
        multipliers = None
        if net.state_.fairness is not None and cells is not None and groups is not None:
            multipliers = pd.DataFrame(
                net.state_.fairness.multipliers.view(-1, len(groups)).cpu().numpy(),
                index=list(cells.constraint.events),
                columns=[group_name(g) for g in groups],
            )
        bounded = cells is not None and self.tolerance is not None
        return {
            "classes_": classes,
            "groups_": groups,
            "encoder_": encoder,
            "dense_estimator_": dense,
            "network_": network,
            "masks_": masks,
            "sparsity_": reached_sparsity(masks),
            "multipliers_": multipliers,
            "violation_": best.gap - self.tolerance if bounded else None,
            "history_": net.history,
            "n_iter_": net.step_,
            "_fingerprint": _fingerprint(X),
        }

    def _check_sparsity(self, module: nn.Module) -> Granularity:
        """Return the granularity, if it can reach the sparsity in this network."""
        granularity = self.granularity
        if isinstance(granularity, str):
            granularity = GRANULARITIES[granularity]()
        shapes = {name: p.shape for name, p in prunable_parameters(module).items()}
        if not shapes:
            raise ValueError(f"Got {type(module).__name__} without a weight matrix to prune.")
        largest = granularity.max_sparsity(shapes)
        if self.sparsity > largest:
            raise ValueError(
                f"Got sparsity={self.sparsity!r}, but with granularity={self.granularity!r} this "
                f"network allows at most {largest:.4f}: every layer keeps at least one unit."
            )
        return granularity

    def _pruning_net(
        self,
        dense: NeuralNet,
        table: ResidentTable,
        cells: Cells | None,
        granularity: Granularity,
        device: torch.device,
    ) -> PruningNet:
        """Set up the pruning phase."""
        module = copy.deepcopy(dense.module_).to(device)
        solver = SOLVERS[self.solver]() if isinstance(self.solver, str) else self.solver
        n = len(table)
        batch_size = min(2048 if self.batch_size == "auto" else int(self.batch_size), n)
        steps = -(-n // batch_size)
        max_epochs = self.max_epochs
        if max_epochs == "auto":
            # Small tables need steps, large ones passes; the ramp needs a few epochs in any case.
            max_epochs = max(-(-400 // steps), min(32, -(-4000 // steps)), 8)
        fairness = None
        if cells is not None:
            bound = self.tolerance
            if bound is not None and self.gap_method == "between_groups":
                # Two groups that are each within half the tolerance of the pooled rate are
                # within the tolerance of each other.
                bound = bound / 2
            fairness = FairnessTerm(
                cells,
                bound,
                float(self.fairness_weight),
                rho=solver.rho,
                multiplier_lr=solver.multiplier_lr,
                temperature=solver.temperature,
                # Sums over about one epoch, and no more than twenty batches: longer memories
                # lag behind the network, and the multipliers overshoot.
                memory=1.0 - 1.0 / min(steps, 20),
            )

        def evaluate(parameters: dict[str, Tensor], batch: Any) -> tuple[Tensor, Tensor]:
            batch_X, columns = batch
            scores = margin(dense, functional_call(module, parameters, batch_X))
            loss = nn.functional.binary_cross_entropy_with_logits(
                scores, columns["y"], weight=columns.get("sample_weight")
            )
            return scores, loss

        return PruningNet(
            module,
            Problem(module, evaluate, fairness, granularity, float(self.sparsity)),
            solver,
            mask_lr=self.mask_lr,
            n_rows=n,
            tolerance=np.inf if cells is None or self.tolerance is None else self.tolerance,
            gap_method=self.gap_method,
            lr=self.lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            callbacks=self.callbacks,
            device=device,
            verbose=self.verbose,
        )

    def _warn_about(
        self, best: Candidate, cells: Cells | None, dense_rate: float, base_rate: float
    ) -> None:
        """Warn about a result that is not what was asked for."""
        if cells is not None and self.tolerance is not None and best.gap > self.tolerance:
            warnings.warn(
                f"No pruned network met the constraint {self.constraint!r}: the gap on the "
                f"training rows is {best.gap:.4f}, the tolerance {self.tolerance}. Allow a larger "
                "tolerance, a lower sparsity, more max_epochs or a larger fairness_weight; very "
                "small groups may need merging.",
                ConstraintNotMetWarning,
                stacklevel=4,
            )
        if best.selection_rate < COLLAPSE_SHARE * dense_rate or (
            best.selection_rate in (0.0, 1.0) and dense_rate not in (0.0, 1.0)
        ):
            warnings.warn(
                f"The pruned network collapsed: it selects {best.selection_rate:.1%} of the "
                f"training rows, the dense one {dense_rate:.1%} (positives: {base_rate:.1%}). A "
                "gap between rates near 0 or 1 is small without being fair. Allow a lower "
                "sparsity or a larger tolerance, or, with tolerance=None, a smaller "
                "fairness_weight.",
                CollapseWarning,
                stacklevel=4,
            )

    def _table(self, X: Any) -> ResidentTable:
        check_is_fitted(self)
        X = self._check_X(X, reset=False)
        encoder = self.encoder_
        X = np.ascontiguousarray(X) if encoder is None else encoder.transform(X)
        return ResidentTable(torch.from_numpy(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logit of the positive class; positive where it is predicted.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        table = self._table(X)
        return logits(self.dense_estimator_, self.network_, table).numpy().astype(np.float64)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, 2)
            In the order of ``classes_``.
        """
        positive = 1.0 / (1.0 + np.exp(-np.clip(self.decision_function(X), -700.0, 700.0)))
        return np.column_stack([1.0 - positive, positive])

    def predict(self, X: Any) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(int)]

    def predict_dense(self, X: Any) -> np.ndarray:
        """Labels that the dense network predicts, for comparison.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n,)
        """
        table = self._table(X)
        positive = logits(self.dense_estimator_, self.dense_estimator_.module_, table) > 0
        return self.classes_[positive.numpy().astype(int)]

    def transform(self, X: Any) -> np.ndarray:
        """Activations of the pruned network's last hidden layer.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        ndarray of shape (n, n_hidden)
            The inputs of the output layer.
        """
        table = self._table(X)
        return hidden(self.network_, table).numpy()

    @property
    def _n_features_out(self) -> int:
        output = [m for m in self.network_.modules() if isinstance(m, nn.Linear)][-1]
        return output.in_features

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: the network goes to the CPU, where every machine can load it."""
        state = super().__getstate__()
        if "network_" in state:
            state = {**state, "network_": copy.deepcopy(state["network_"]).cpu()}
        return state

    def was_fitted_on(self, X: Any) -> bool:
        """Whether X is the very table that ``fit`` saw: fairness there says little.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        bool
        """
        return _fingerprint(self._table(X).X.numpy()) == self._fingerprint


def _resolve_device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _fingerprint(X: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(X).tobytes(), digest_size=16).hexdigest()
