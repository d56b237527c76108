"""The estimator: dense training, bi-level fair pruning, prediction."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral, Real
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
import torch
from fairlearn.reductions import Moment
from scipy.special import expit, softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from skorch import NeuralNet
from skorch.dataset import get_len
from torch import Tensor, nn

from fairprune_sk.batch import Batch, fingerprint, on_device, over_processes, streams, take
from fairprune_sk.callbacks import EpochTasks
from fairprune_sk.compaction import compact, read_columns, shrink
from fairprune_sk.constraints import CONSTRAINTS, Constraint
from fairprune_sk.dense import check_estimator, fit_dense_once, module_of
from fairprune_sk.encoding import TableEncoder
from fairprune_sk.fitting import (
    MERGED_ROWS,
    dense_outcomes,
    layout_of,
    merge_repeated_rows,
    pruning_net,
    resolve_device,
    solver_of,
    warn_about,
)
from fairprune_sk.granularity import GRANULARITIES, Granularity
from fairprune_sk.modules import TabularNetwork
from fairprune_sk.outputs import gives_probabilities, has_hidden, hidden, last_hidden, logits
from fairprune_sk.parity import Parity
from fairprune_sk.pruning import outcome_totals
from fairprune_sk.requirement import requirement_of
from fairprune_sk.resident import ResidentTable, table_of
from fairprune_sk.solvers import SOLVERS, Solver, Start
from fairprune_sk.training import plain, seeded, train
from fairprune_sk.validation import (
    check_groups,
    check_labels,
    check_parity,
    check_weight,
    check_X,
)


class FairPruner(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClassifierMixin,
    CallbackSupportMixin,
    BaseEstimator,
):
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
    constraint : str, Constraint, fairlearn moment or None, default="equalized_odds"
        What must be equal between groups: "demographic_parity", "equalized_odds",
        "equal_opportunity", "false_positive_rate_parity", "accuracy_parity",
        "error_rate_parity" or "degradation_parity" (what pruning takes from each group's
        accuracy). With more than two classes each class is held against the rest. An object of
        :mod:`fairprune_sk.constraints` compares ratios instead of differences where it says
        so: ``DemographicParity(comparison="ratio")``. A parity moment of
        ``fairlearn.reductions`` brings its own bound on each group against all rows, in place
        of ``tolerance`` and ``gap_method``. ``None`` for plain bi-level pruning.
    tolerance : float in [0, 1] or None, default=0.05
        Largest allowed gap on the training rows: a difference of rates, or 1 minus their ratio.
        ``None`` adds ``fairness_weight`` times the differences to the loss instead, without a
        bound.
    fairness_weight : float >= 0, default=1.0
        Weight of the penalty where ``tolerance=None``; otherwise how fast the bound is reached,
        not where it lies. 0 switches fairness off.
    gap_method : {"between_groups", "to_overall"}, default="between_groups"
        Whether the gap is the largest difference between two groups, or between a group and
        all rows together, as in fairlearn's metrics.
    min_group_count : int >= 1, default=10
        Groups with fewer rows in an event (say, fewer positives) are left out of the constraint
        there, with a warning that names them.
    missing_sensitive : {"error", "ignore", "group"}, default="error"
        What becomes of rows whose sensitive features are missing: an error; out of the
        constraint, but not out of the loss; or a group of their own.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn; they multiply the sample weights, in the
        loss and in the rates.
    granularity : {"unstructured", "neuron", "2:4", ...} or Granularity, default="unstructured"
        What goes together: single weights; neurons, filters and attention heads with all that
        is coupled to them, so that the network becomes physically smaller; or single weights
        with at most n in each m ("1:2", "2:4", "4:8"). Sparsity counts weights for all of them.
        Objects of :mod:`fairprune_sk.granularity` have a ``scope`` as well.
    solver : str or Solver, default="bilevel"
        The pruning algorithm: "bilevel", or one of the baselines of
        :mod:`fairprune_sk.solvers`: "magnitude", "lottery_ticket", "snip", "grasp", "fpgm",
        "bip" and "random" know no fairness (a constraint is then measured, and said to be
        missed); "fairgrape", "prune_then_fair", "fair_then_prune" and "balancing_act" do. An
        object brings hyperparameters of its own.
    max_epochs : int or "auto", default="auto"
        Epochs of the pruning phase. "auto" takes at least 400 steps, and 32 epochs of a table
        of moderate size.
    batch_size : int or "auto", default="auto"
        Rows in a batch of the pruning phase: group rates need many. "auto" is the smaller of
        2,048 and the table.
    lr, mask_lr : float, default=0.001 and 0.0003
        Learning rates of the pruning phase: of the weights (AdamW), and of the mask scores, as
        the change of a score for a gradient of root mean square size. The weights
        of neurons learn at three times this rate.
    callbacks : list of skorch callbacks or None, default=None
        Callbacks of the pruning phase. (Callbacks of scikit-learn: ``set_callbacks``.)
    warm_start : bool, default=False
        Whether ``fit`` goes on from the network that the last one left: without another dense
        phase, from the sparsity reached to the one that is now asked for.
    memory : str, joblib.Memory or None, default=None
        Where dense networks are kept, as in scikit-learn's pipelines: fits that share table,
        weights, network and random_state, such as those of a search over sparsity and tolerance,
        train it once. Networks of skorch are not kept: freeze those. Nor are, in a search over
        several processes, networks whose class is defined in a notebook: put it in a module.
    device : str, default="auto"
        Torch device of the pruning phase, and of the dense phase unless a skorch net with its
        own is given. "auto" is "cuda" where there is one, otherwise "cpu".
    random_state : int, RandomState or None, default=None
        Seed of initial weights, dropout and batches.
    verbose : int, default=0
        1 prints a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels; of two, the second is the positive class.
    n_features_in_ : int
        Not where X is a dict.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only where X has string column names.
    groups_ : ndarray of shape (n_groups,) or None
        The groups seen in fit (tuples where there are several sensitive columns).
    encoder_ : TableEncoder or None
        Encoding of X for the default network.
    selected_features_ : ndarray or None
        Names (or positions, where X has no names) of the columns that the pruned network reads;
        None where X is no table.
    dense_estimator_ : skorch net
        The network before pruning.
    network_ : nn.Module
        The pruned network, a plain module: hidden units that do nothing any more are cut out.
    masks_ : dict of Tensor, bool
        True keeps, by parameter name.
    sparsity_ : float
        The sparsity reached.
    multipliers_ : DataFrame of shape (n_conditions, n_groups) or None
        Multipliers at the end: what the constraint costs, by what the rates are conditioned on
        (event, class and control stratum) and group.
    n_unconstrained_ : int
        Number of these that were left out of the constraint, for want of rows.
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
        "estimator": [None, nn.Module, NeuralNet, FrozenEstimator, type],
        "sparsity": [Interval(Real, 0, 1, closed="left")],
        "constraint": [StrOptions(set(CONSTRAINTS)), Constraint, Moment, None],
        "tolerance": [Interval(Real, 0, 1, closed="both"), None],
        "fairness_weight": [Interval(Real, 0, None, closed="left")],
        "gap_method": [StrOptions({"between_groups", "to_overall"})],
        "min_group_count": [Interval(Integral, 1, None, closed="left")],
        "missing_sensitive": [StrOptions({"error", "ignore", "group"})],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "granularity": [StrOptions(set(GRANULARITIES)), Granularity],
        "solver": [StrOptions(set(SOLVERS)), Solver],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "mask_lr": [Interval(Real, 0, None, closed="left")],
        "callbacks": [list, None],
        "warm_start": ["boolean"],
        "memory": [str, HasMethods(["cache"]), None],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # Meta-estimators hand these to every FairPruner, without a request by the user.
    __metadata_request__fit = {"sensitive_features": True, "control_features": True}

    # The "?" of the HTML representation leads to the method's paper.
    _doc_link_module = "fairprune_sk"
    _doc_link_template = "https://arxiv.org/abs/2312.10181"

    def __init__(
        self,
        estimator: Any = None,
        *,
        sparsity: float = 0.9,
        constraint: str | Constraint | Moment | None = "equalized_odds",
        tolerance: float | None = 0.05,
        fairness_weight: float = 1.0,
        gap_method: str = "between_groups",
        min_group_count: int = 10,
        missing_sensitive: str = "error",
        class_weight: dict | str | None = None,
        granularity: str | Granularity = "unstructured",
        solver: str | Solver = "bilevel",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        lr: float = 1e-3,
        mask_lr: float = 3e-4,
        callbacks: list | None = None,
        warm_start: bool = False,
        memory: Any = None,
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
        self.missing_sensitive = missing_sensitive
        self.class_weight = class_weight
        self.granularity = granularity
        self.solver = solver
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.mask_lr = mask_lr
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.memory = memory
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Classifier that takes missing values where its network encodes them."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.estimator is None
        tags.input_tags.categorical = self.estimator is None
        tags.input_tags.string = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sensitive_features: Any = None,
        control_features: Any = None,
        sample_weight: Any = None,
    ) -> FairPruner:
        """Train the dense network, then prune it.

        All inputs are checked before any training. An interrupted fit leaves the estimator as
        it was.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), dict of arrays, or ImageFiles
            An ndarray with more axes, a dict of inputs, or images that are read from disk batch
            by batch, where the given network takes them.
        y : array-like of shape (n,)
            Labels of two or more classes.
        sensitive_features : list, ndarray, Series, DataFrame or dict, default=None
            The group of each row; several columns stand for their intersections. Needed unless
            ``constraint=None`` or ``fairness_weight=0``.
        control_features : as sensitive_features, default=None
            Groups are compared within each value of these only, such as the kind of job.
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
        metadata = {
            "sensitive_features": sensitive_features,
            "control_features": control_features,
            "sample_weight": sample_weight,
        }
        before = dict(self.__dict__)
        context = self._init_callback_context(max_subtasks=None)
        data = {"X": X, "y": y, "metadata": {k: v for k, v in metadata.items() if v is not None}}
        try:
            context.call_on_fit_task_begin(estimator=self, **data)
            fitted = self._fit(context, data, **metadata)
        except BaseException:
            # What checking has set (n_features_in_, ...) goes as well: all or nothing.
            ours = {"_callback_fit_ctx", "_skl_callbacks_to_teardown"}
            for name in set(self.__dict__) - set(before) - ours:
                del self.__dict__[name]
            self.__dict__.update(before)
            raise
        for name, value in fitted.items():
            setattr(self, name, value)
        context.call_on_fit_task_end(estimator=self, reconstruction_attributes=fitted, **data)
        return self

    def _fit(
        self,
        context: Any,
        data: dict[str, Any],
        sensitive_features: Any,
        control_features: Any,
        sample_weight: Any,
    ) -> dict[str, Any]:
        """Check everything, train, prune; return the fitted attributes."""
        warm = self.warm_start and hasattr(self, "network_")
        X = check_X(self, data["X"], reset=not warm)
        y, classes = check_labels(data["y"], type(self).__name__)
        check_consistent_length(np.empty(get_len(X)), y)
        if warm and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"Got y with classes {list(classes)} with warm_start=True, but the network that "
                f"is to be continued has {list(self.classes_)}."
            )
        weight = check_weight(sample_weight, self.class_weight, classes[y])
        requirement = requirement_of(self)
        group, groups = check_groups(
            sensitive_features,
            len(y),
            None if requirement is None else self.constraint,
            self.missing_sensitive,
        )
        parity, cell = None, None
        if requirement is not None and group is not None and groups is not None:
            parity, cell = check_parity(
                requirement,
                y,
                classes,
                group,
                groups,
                control_features,
                self.min_group_count,
            )
        device = resolve_device(self.device)
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        with seeded(seed, device):
            encoder, seen = None, X
            if self.estimator is None:
                if len(y) <= MERGED_ROWS:
                    kept = [] if cell is None else list(cell.numpy().T)
                    if solver_of(self).needs_groups and group is not None:
                        kept.append(group)
                    index, weight = merge_repeated_rows(X, y, kept, weight)
                    X = X.iloc[index] if isinstance(X, pd.DataFrame) else X[index]
                    y = y[index]
                    if cell is not None:
                        cell, group = cell[index], group[index]
            if weight is not None:
                weight = weight / (over_processes(weight.sum()) / over_processes(len(weight)))
            if self.estimator is None:
                encoder = self.encoder_ if warm else TableEncoder().fit(X, y, weight)
                X, seen = encoder.transform(X), encoder.transform(seen)
            network: Any = None
            if warm:
                module = self._masked_network()
            elif encoder is not None:
                network = module = TabularNetwork(
                    encoder.edges_,
                    encoder.n_categories_,
                    n_outputs=1 if len(classes) == 2 else len(classes),
                )
            else:
                network = check_estimator(self.estimator, X, classes, weight)
                module = module_of(network)
            few, cpu = slice(0, 2), torch.device("cpu")
            layout = layout_of(
                self.granularity,
                copy.deepcopy(module).to(cpu),
                on_device(take(X, few), cpu),
                self.sparsity,
            ).to(device)
            own = isinstance(network, nn.Module)  # not a skorch net, and no warm start
            solver_of(self).check(
                layout, None if requirement is None else requirement.constraint, own
            )
            initial = copy.deepcopy(module.state_dict()) if own else None
            weight = None if weight is None else weight.astype(np.float32)
            table = table_of(
                Batch(
                    X,
                    torch.from_numpy(y),
                    None if weight is None else torch.from_numpy(weight),
                    cell,
                    None if cell is None or group is None else torch.from_numpy(group),
                ),
                device,
            )

            def tasks(name: str, fitted: Any = None) -> EpochTasks | None:
                if not getattr(self, "_skl_callbacks", None):
                    return None
                return EpochTasks(context, self, name, data, fitted)

            dense = self.dense_estimator_ if warm else None
            if dense is None:
                progress = tasks("dense training")
                dense = fit_dense_once(
                    self.memory, network, X, y, weight, table, device, self.verbose, progress
                )
            probabilities = gives_probabilities(dense, table)
            dense_logits = logits(dense.module_, table, probabilities)
            if parity is not None:
                parity = parity.to(device)
                if parity.requirement.constraint.relative_to_dense:
                    reference = dense_outcomes(dense_logits, table, parity)
                    table.rows = replace(table.rows, reference=reference)
            start = None
            if warm:
                start = Start(self.sparsity_, self._last_multipliers(parity))
            module = copy.deepcopy(module if warm else plain(dense.module_)).to(device)
            net = pruning_net(
                self,
                module,
                layout,
                dense,
                probabilities,
                table,
                parity,
                start,
                initial,
            )
            shell = {"classes_": classes, "encoder_": encoder, "_probabilities": probabilities}

            def predicting(net: Any) -> dict[str, Any]:
                state = net.state_
                network = compact(net.module_, state.masks)
                network.load_state_dict(state.tensors(), strict=False)
                return {**shell, "network_": network}

            net = train(net, table, callback=tasks("pruning", predicting))
            best = net.finish(table)
        n, _, *dense_rates = outcome_totals(dense_logits.to(device), table.rows).tolist()
        warn_about(best, parity, [rows / n for rows in dense_rates], classes)
        network = compact(net.module_, best.masks)
        network.load_state_dict({**best.parameters, **best.buffers}, strict=False)
        rows = table.take(few).X
        if layout.cuts:
            network = shrink(network, rows)
        support = self._support(network, rows, encoder)
        masks = {name: mask.cpu() for name, mask in best.masks.items()}
        multipliers = None
        if best.multipliers is not None and parity is not None:
            multipliers = pd.DataFrame(
                best.multipliers.view(-1, parity.n_groups).cpu().numpy(),
                index=parity.conditions,
                columns=parity.groups,
            )
        return {
            **shell,
            "groups_": groups,
            "selected_features_": support,
            "dense_estimator_": dense,
            "network_": network,
            # For a warm start, which goes on in the size of the dense network.
            "_kept_weights": {
                name: value.cpu()[masks[name]] if name in masks else value.cpu()
                for name, value in {**best.parameters, **best.buffers}.items()
            },
            "_n_hidden": last_hidden(network, rows).shape[1] if has_hidden(network) else 0,
            "masks_": masks,
            "sparsity_": best.sparsity,
            "multipliers_": multipliers,
            "n_unconstrained_": 0 if parity is None else int((~parity.constrained).sum()),
            "violation_": best.violation if math.isfinite(best.violation) else None,
            "history_": net.history,
            "n_iter_": net.step_,
            "_fingerprint": fingerprint(seen),
        }

    def _support(self, network: nn.Module, X: Any, encoder: Any) -> np.ndarray | None:
        """Columns of the table that the network reads: names where it has them, or positions."""
        if not isinstance(X, Tensor) or X.ndim != 2:
            return None
        columns = read_columns(network, X).nonzero().flatten().numpy()
        if encoder is not None:
            columns = np.unique(encoder.source_[columns])
        names = getattr(self, "feature_names_in_", None)
        return columns if names is None else names[columns]

    def get_support(self, indices: bool = False) -> np.ndarray:
        """Columns of the table that the pruned network reads; the others may as well be absent.

        Parameters
        ----------
        indices : bool, default=False
            Positions instead of a mask.

        Returns
        -------
        ndarray of shape (n_features_in_,), bool, or (n_selected,), int64

        Raises
        ------
        ValueError
            If X was no table of columns.
        """
        check_is_fitted(self)
        if self.selected_features_ is None:
            raise ValueError("Got a network that does not read a table of columns: X was none.")
        names = getattr(self, "feature_names_in_", np.arange(self.n_features_in_))
        mask = np.isin(names, self.selected_features_)
        return np.flatnonzero(mask) if indices else mask

    def _masked_network(self) -> nn.Module:
        """Network of the last fit in the size of the dense one, on the CPU."""
        network = copy.deepcopy(plain(self.dense_estimator_.module_)).cpu().eval()
        state = dict(self._kept_weights)
        for name, mask in self.masks_.items():
            state[name] = torch.zeros(mask.shape, dtype=state[name].dtype)
            state[name][mask] = self._kept_weights[name]
        network.load_state_dict(state, strict=False)
        return network

    def _last_multipliers(self, parity: Parity | None) -> Tensor | None:
        """Multipliers of the last fit, where they belong to the same cells."""
        last = self.multipliers_
        if last is None or parity is None:
            return None
        if (*last.index, *last.columns) != (*parity.conditions, *parity.groups):
            return None
        return torch.from_numpy(last.to_numpy(copy=True)).flatten()

    def _table(self, X: Any) -> ResidentTable:
        check_is_fitted(self)
        X = check_X(self, X, reset=False)
        if self.encoder_ is not None:
            X = self.encoder_.transform(X)
        return table_of(Batch(X), torch.device("cpu"))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits; positive where the positive class of two is predicted.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n,), or (n, n_classes) for more than two classes
        """
        return self._scores("network_", X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of ``classes_``.
        """
        scores = self.decision_function(X)
        if scores.ndim == 2:
            return softmax(scores, axis=1)
        return np.column_stack([expit(-scores), expit(scores)])

    def predict(self, X: Any) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n,)
        """
        return self._labels(self.decision_function(X))

    def predict_dense(self, X: Any) -> np.ndarray:
        """Labels that the dense network predicts, for comparison.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n,)
        """
        return self._labels(self._scores("dense_estimator_.module_", X))

    def _scores(self, network: str, X: Any) -> np.ndarray:
        """Logits of one of the fitted networks, named, since there may be none yet."""
        table = self._table(X)
        scores = logits(attrgetter(network)(self), table, self._probabilities).numpy()
        return (scores[:, 0] if scores.shape[1] == 1 else scores).astype(np.float64)

    def _labels(self, scores: np.ndarray) -> np.ndarray:
        return self.classes_[scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)]

    def transform(self, X: Any) -> np.ndarray:
        """Activations of the pruned network's last hidden layer.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n, n_hidden)
            The inputs of the output layer.
        """
        table = self._table(X)
        return hidden(self.network_, table).numpy()

    @property
    def _n_features_out(self) -> int:
        return self._n_hidden

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: the network goes to the CPU, where every machine can load it."""
        state = super().__getstate__()
        if "network_" in state:
            state = {**state, "network_": copy.deepcopy(state["network_"]).cpu()}
        return state

    # What follows hands over to modules that know the estimator, and are imported by need.

    def cost_report(self, X: Any = None, **options: Any) -> Any:
        """Measure what pruning saves: see :func:`fairprune_sk.cost.cost_report`.

        Parameters
        ----------
        X : as for predict, optional
            Rows to measure on.
        **options
            As for the function.

        Returns
        -------
        CostReport
        """
        from fairprune_sk.cost import cost_report

        return cost_report(self, X, **options)

    def to_onnx(self, path: Any, *, X: Any = None) -> None:
        """Export to ONNX, columns as inputs: see :func:`fairprune_sk.export.to_onnx`.

        Parameters
        ----------
        path : str or path
        X : as for predict, optional
            Rows to check the result on.
        """
        from fairprune_sk.export import to_onnx

        to_onnx(self, path, X=X)

    def to_torch_export(self, path: Any = None, *, X: Any = None) -> Any:
        """Export the network: see :func:`fairprune_sk.export.to_torch_export`.

        Parameters
        ----------
        path : str or path, optional
        X : as for predict, optional
            A few rows.

        Returns
        -------
        ExportedProgram
        """
        from fairprune_sk.export import to_torch_export

        return to_torch_export(self, path, X=X)

    def save(self, path: Any) -> None:
        """Write to a file without code: see :func:`fairprune_sk.persistence.save`.

        Parameters
        ----------
        path : str or path
            ``fairprune_sk.load`` reads it.
        """
        from fairprune_sk.persistence import save

        save(self, path)

    def was_fitted_on(self, X: Any) -> bool:
        """Whether X is the very table that ``fit`` saw: fairness there says little.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        bool
        """
        X = self._table(X).X
        arrays = X if isinstance(X, Mapping) or streams(X) else X.numpy()
        return fingerprint(arrays) == self._fingerprint
