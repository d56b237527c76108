"""The estimator: dense training, bi-level fair pruning, prediction."""

from __future__ import annotations

import os
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from fairlearn.reductions import Moment
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
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn
from torch.export import ExportedProgram

from fairprune_sk.archive import naming
from fairprune_sk.assessment.cost import CostReport, cost_report
from fairprune_sk.assessment.drift import MARGIN, drift_report
from fairprune_sk.assessment.summary import fit_blocks
from fairprune_sk.distributed import available, over_processes, taking_part, world
from fairprune_sk.documents.markup import fragment
from fairprune_sk.exceptions import warn_at_caller
from fairprune_sk.export.onnx_graph import onnx_inputs
from fairprune_sk.export.persistence import example_row, read_fitted, write_fitted
from fairprune_sk.export.traced import to_onnx, to_torch_export
from fairprune_sk.fairness.constraints import CONSTRAINTS, Constraint
from fairprune_sk.fairness.groups import check_order
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fairness.requirement import requirement_of
from fairprune_sk.fitting.callbacks import EpochTasks
from fairprune_sk.fitting.checkpoint import Checkpoint, parts_of
from fairprune_sk.fitting.columns import warn_of_columns
from fairprune_sk.fitting.dense import train_dense
from fairprune_sk.fitting.fitted import Fitted, fitted_of
from fairprune_sk.fitting.group_validation import check_apart, check_groups, check_parity
from fairprune_sk.fitting.identity import hint_on, identity_of
from fairprune_sk.fitting.outcome_warnings import warn_about
from fairprune_sk.fitting.progress import Bars, bars_of, together
from fairprune_sk.fitting.pruning import prune
from fairprune_sk.fitting.resident import spread_table_of
from fairprune_sk.fitting.shares import check_shares
from fairprune_sk.fitting.task import Given, settings_of, task_of
from fairprune_sk.fitting.training import seeded
from fairprune_sk.fitting.unseen import chances
from fairprune_sk.fitting.validation import SCHEMA, check_labels, check_weight, check_X
from fairprune_sk.masks.granularity import GRANULARITIES, Granularity
from fairprune_sk.networks.batch import in_blocks, n_rows
from fairprune_sk.solvers import SOLVERS, Solver

# Networks are trained in 32 bits.
LARGEST_FLOAT = float(np.finfo(np.float32).max)

# More cannot be meant: they would take years.
MOST_EPOCHS = int(np.iinfo(np.int32).max)


def _has_dense(pruner: FairPruner) -> bool:
    fitted = getattr(pruner, "_fitted", None)
    if fitted is not None and fitted.slim:
        raise AttributeError(
            "There is no predict_dense: the estimator was saved with slim=True, without its dense "
            "network."
        )
    return True


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
    network on the way (accuracy less gap) whose gap is within the tolerance, as it is to be
    expected on rows that the fit has not seen.

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
        weights are pruned as they are. The object itself is never changed. A net that does
        something around its module, such as with an ``infer`` of its own, is refused.
    sparsity : float in [0, 1), default=0.9
        Fraction of the weights (all weight matrices, embeddings and the output layer included,
        but no biases and normalisation parameters) to remove.
    constraint : str, Constraint, fairlearn moment or None, default="equalized_odds"
        What must be equal between groups: "demographic_parity", "equalized_odds",
        "equal_opportunity", "false_positive_rate_parity", "accuracy_parity",
        "error_rate_parity" or "degradation_parity" (what pruning takes from each group's
        accuracy). With more than two classes each class is held against the rest. An object of
        :mod:`fairprune_sk.fairness` compares ratios instead of differences where it says
        so: ``DemographicParity(comparison="ratio")``. A parity moment of
        ``fairlearn.reductions`` brings its own bound on each group against all rows, in place
        of ``tolerance`` and ``gap_method``. ``None`` for plain bi-level pruning.
    tolerance : float in [0, 1] or None, default=0.05
        Largest allowed gap: a difference of rates, or 1 minus their ratio. ``None`` adds
        ``fairness_weight`` times the differences to the loss instead, without a bound.
    tolerance_on : {"unseen", "training"}, default="unseen"
        The rows that the tolerance is for. A network learns its training rows by heart, their
        labels and who is in which group, and a gap that is closed there is open on others.
        "unseen" asks for the rates of the labels and groups that are to be expected of each row,
        by boosted trees that have not learned from it, and the pruning learns from these labels.
        It makes no difference where ``tolerance=None``. A frozen network has learned from labels
        already: the tolerance is for the training rows then, with a warning.
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
    pos_label : label or None, default=None
        Of two classes the one that counts as selected, as in the selection rate: the outcome that
        people want or fear. ``None`` is the second of the sorted labels. It decides what
        "equal_opportunity", "false_positive_rate_parity" and ratios compare, and what a report
        calls positive; predictions do not depend on it otherwise.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as in scikit-learn; they multiply the sample weights, in the
        loss and in the rates.
    granularity : {"unstructured", "neuron", "2:4", ...} or Granularity, default="unstructured"
        What goes together: single weights; neurons, filters and attention heads with all that
        is coupled to them, so that the network becomes physically smaller; or single weights
        with at most n in each m ("1:2", "2:4", "4:8"). Sparsity counts weights for all of them.
        Objects of :mod:`fairprune_sk.masks` have a ``scope`` as well.
    solver : str or Solver, default="bilevel"
        The pruning algorithm: "bilevel", or one of the baselines of
        :mod:`fairprune_sk.solvers`: "magnitude", "lottery_ticket", "snip", "grasp", "fpgm",
        "bip" and "random" know no fairness (a constraint is then measured, and said to be
        missed); "fairgrape", "prune_then_fair", "fair_then_prune", "balancing_act", "rigl" and
        "acdc" do. An object brings hyperparameters of its own.
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
        weights, network and random_state (an integer, or there is nothing to keep), such as those
        of a search over sparsity and tolerance, train it once. A network is another one once its
        code is: its classes, and the functions, classes and globals that these name (not what is
        imported within a function, or comes from outside Python). A file of the memory that was
        damaged is not read: the network is trained anew. Networks of skorch are not kept: freeze
        those. Nor are, in a search over several processes, networks whose class is defined in a
        notebook: put it in a module.
    checkpoint : str, path or None, default=None
        A file, of this fit alone, that says where it stands. Killed at any moment, the same call
        goes on from the last epoch that was written (writing takes about a tenth of the time),
        and ends with what an undisturbed fit would have given, to the last bit. A fit of other
        data or settings warns, and starts afresh. The file stays when the fit has ended: the same
        call then gives the same result at once, until the file is deleted. It holds no code.
        ``docs/survival.md`` says what is in it, and what becomes of callbacks.
    device : str, default="auto"
        Torch device of the pruning phase, and of the dense phase unless a skorch net with its
        own is given. "auto" is "cuda" where there is one, otherwise "cpu".
    random_state : int, RandomState or None, default=None
        Seed of initial weights, dropout and batches.
    verbose : int, default=0
        1 shows a bar for each phase, with loss, gap, sparsity and the time left; 2 prints a line
        for each epoch besides.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted.
    pos_label_ : label or None
        Of two classes the one that counts as selected.
    n_features_in_ : int
        Not where X is a dict.
    feature_names_in_ : ndarray of shape (n_features,)
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
        (event, class and control stratum) and group; above 0 where the constraint presses a rate
        down, below 0 where it raises it, and 0 where it does not bind.
    n_unconstrained_ : int
        Number of these that were left out of the constraint, for want of rows, or of another
        group to compare with.
    train_gap_, unseen_gap_ : float or None
        Gap of hard predictions on the training rows; with ``tolerance_on="unseen"`` also the gap
        to be expected on others, an estimate.
    unseen_gap_interval_ : tuple of (float, float), or None
        Interval (95%) of the second, for the noise of as many rows; not for what trees do not
        know of labels and groups.
    violation_ : float or None
        The gap on the rows that the tolerance is for, minus the tolerance.
    history_ : skorch.history.History
        Of the pruning phase.
    n_iter_ : int
        Steps of the pruning phase.

    Warns
    -----
    ConstraintNotMetWarning
        If no network within the tolerance was found.
    CollapseWarning
        If the pruned network hardly predicts a class.
    SmallGroupWarning
        If a group is too small to be constrained, or has no other to be compared with; if no
        comparison covers many rows; or if the rows know two rates less well than the tolerance is
        small.
    SuspectColumnWarning
        If a column of a DataFrame is constant, names the rows, holds dates as text, or predicts
        the target almost alone.

    References
    ----------
    .. [1] Dai, Li, Luo, Ma, Wu, "Integrating Fairness and Model Pruning Through Bi-level
       Optimization", arXiv 2312.10181.
    .. [2] Zhang et al., "Advancing Model Pruning via Bi-level Optimization", NeurIPS 2022.

    Examples
    --------
    >>> from fairprune_sk import FairPruner
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(1000, random_state=0)
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
        "tolerance_on": [StrOptions({"unseen", "training"})],
        "fairness_weight": [Interval(Real, 0, LARGEST_FLOAT, closed="both")],
        "gap_method": [StrOptions({"between_groups", "to_overall"})],
        "min_group_count": [Interval(Integral, 1, None, closed="left")],
        "missing_sensitive": [StrOptions({"error", "ignore", "group"})],
        "pos_label": [str, Integral, Real, "boolean", None],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "granularity": [StrOptions(set(GRANULARITIES)), Granularity],
        "solver": [StrOptions(set(SOLVERS)), Solver],
        "max_epochs": [Interval(Integral, 1, MOST_EPOCHS, closed="both"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, LARGEST_FLOAT, closed="right")],
        "mask_lr": [Interval(Real, 0, LARGEST_FLOAT, closed="both")],
        "callbacks": [list, None],
        "warm_start": ["boolean"],
        "memory": [str, HasMethods(["cache"]), None],
        "checkpoint": [str, os.PathLike, None],
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
        tolerance_on: str = "unseen",
        fairness_weight: float = 1.0,
        gap_method: str = "between_groups",
        min_group_count: int = 10,
        missing_sensitive: str = "error",
        pos_label: Any = None,
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
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.sparsity = sparsity
        self.constraint = constraint
        self.tolerance = tolerance
        self.tolerance_on = tolerance_on
        self.fairness_weight = fairness_weight
        self.gap_method = gap_method
        self.min_group_count = min_group_count
        self.missing_sensitive = missing_sensitive
        self.pos_label = pos_label
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
        self.checkpoint = checkpoint
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

    def _html_repr(self) -> str:
        """Show what was reached above scikit-learn's diagram."""
        diagram: str = super()._html_repr()
        return fragment(fit_blocks(self)) + diagram if hasattr(self, "_fitted") else diagram

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
        X : DataFrame or ndarray of shape (n, n_features), dict of arrays, ImageFiles, ParquetTable
            An ndarray with more axes, a dict of inputs, or images that are read from disk batch
            by batch, where the given network takes them. A table of Parquet files stays on disk.
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
        DivergedError
            If a loss, a weight or a logit is not finite: the one error of a training.
        """
        self._validate_params()
        metadata = {
            "sensitive_features": sensitive_features,
            "control_features": control_features,
            "sample_weight": sample_weight,
        }
        before = dict(self.__dict__)
        verbose = self.verbose if available().rank == 0 else 0
        context = self._init_callback_context(max_subtasks=None)
        data = {"X": X, "y": y, "metadata": {k: v for k, v in metadata.items() if v is not None}}
        try:
            context.call_on_fit_task_begin(estimator=self, **data)
            with bars_of(verbose) as bars, taking_part():
                fitted = self._fit(context, data, bars, **metadata).attributes()
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

    def _fit(self, context: Any, data: dict[str, Any], bars: Bars, **metadata: Any) -> Fitted:
        """Check everything, train, prune."""
        last = self._fitted if self.warm_start and hasattr(self, "_fitted") else None
        if last is not None:
            last.check_whole("warm_start=True")
        given = self._given(data["X"], data["y"], last, **metadata)
        settings = settings_of(self.get_params(deep=False))
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        seed = world().of_first(seed)
        checkpoint = None
        if self.checkpoint is not None:
            asked = None if self.random_state is None else seed
            identity = identity_of(self.get_params(deep=False), given, settings, asked, last)
            hint = hint_on(self.estimator)
            checkpoint = Checkpoint(self.checkpoint, identity, seed, hint)
            seed = checkpoint.seed
        with seeded(seed, settings.device):
            task = task_of(given, self.estimator, settings, last)
            table = spread_table_of(task.rows, settings.device)
            parts = parts_of(checkpoint)
            progress = self._progress(context, data, bars, "dense training")
            dense = train_dense(task, table, progress, parts.dense)
            if given.parity is not None and given.parity.unseen:
                chance = chances(task, self.estimator, seed, bars, checkpoint)
                table = table.expecting(chance)

            def as_if_stopped(net: Any) -> dict[str, Any]:
                return fitted_of(task, dense, net.left(net.candidate())).attributes()

            progress = self._progress(context, data, bars, "pruning", as_if_stopped)
            run = prune(task, table, dense, progress, parts.pruning)
        warn_about(task, dense, run)
        return fitted_of(task, dense, run)

    def _given(
        self,
        X: Any,
        y: Any,
        last: Fitted | None,
        sensitive_features: Any,
        control_features: Any,
        sample_weight: Any,
    ) -> Given:
        """Check and code what the user gave."""
        asked_of = {"sensitive_features": sensitive_features, "control_features": control_features}
        check_order(X, y=y, **asked_of, sample_weight=sample_weight)
        check_order(y, **asked_of, sample_weight=sample_weight)
        X = check_X(self, X, reset=last is None)
        schema = {name: vars(self)[name] for name in SCHEMA if name in vars(self)}
        check_shares(self.get_params(deep=False), X, schema)
        if world().size > 1:
            check_consistent_length(np.empty(n_rows(X)), y)
        # Vocabularies, counts and checks are those of the rows of all processes.
        here = world().span(n_rows(X))
        y, sample_weight = world().whole(y), world().whole(sample_weight)
        sensitive_features = world().whole(sensitive_features)
        control_features = world().whole(control_features)
        labels = check_labels(y, type(self).__name__, self.pos_label, last)
        n = len(labels.codes)
        check_consistent_length(np.empty(over_processes(n_rows(X))), labels.codes)
        weight = check_weight(sample_weight, self.class_weight, labels.classes[labels.codes])
        requirement = requirement_of(self)
        asked = None if requirement is None else self.constraint
        group, groups = check_groups(sensitive_features, n, asked, self.missing_sensitive)
        parity, cell, within = None, None, None
        if requirement is not None and group is not None and groups is not None:
            check_apart(labels.codes, group)
            parity, cell, within = check_parity(
                requirement,
                labels,
                group,
                groups,
                control_features,
                self.min_group_count,
                weight,
            )
            parity = replace(parity, unseen=self._is_for_unseen(parity))
        if self.estimator is None and (isinstance(X, pd.DataFrame) or in_blocks(X)):
            warn_of_columns(X, labels.codes[here])
        weight = None if weight is None else weight[here]
        group = None if group is None else group[here]
        cell = None if cell is None else cell[here]
        within = None if within is None else within[here]
        y = labels.codes[here]
        return Given(
            X,
            y,
            labels.classes,
            labels.positive,
            weight,
            group,
            groups,
            parity,
            cell,
            within,
            schema,
        )

    def _is_for_unseen(self, parity: Parity) -> bool:
        """Whether the tolerance is for rows that the fit has not seen."""
        if self.tolerance_on == "training" or parity.requirement.tolerance is None:
            return False
        if not isinstance(self.estimator, FrozenEstimator):
            return True
        warn_at_caller(
            "Got tolerance_on='unseen' with a frozen network: which rows it has seen is not known, "
            "so the tolerance is for the training rows. Pass the network without FrozenEstimator, "
            "or set tolerance_on='training' to say so.",
            UserWarning,
        )
        return False

    def _progress(
        self, context: Any, data: dict[str, Any], bars: Bars, phase: str, fitted: Any = None
    ) -> Callback | None:
        """Report of a phase: its bar, and scikit-learn's callbacks, where there are any."""
        tasks = None
        if getattr(self, "_skl_callbacks", None):
            tasks = EpochTasks(context, self, phase, data, fitted)
        return together(tasks, bars.phase(phase))

    def get_support(self, indices: bool = False) -> np.ndarray:
        """Columns of the table that the pruned network reads; the others may as well be absent.

        Parameters
        ----------
        indices : bool, default=False
            Positions instead of a mask.

        Returns
        -------
        ndarray of shape (n_features,), bool, or (n_selected,), int64

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

    def _checked(self, X: Any) -> Any:
        """X like that of ``fit``, checked."""
        check_is_fitted(self)
        return check_X(self, X, reset=False)

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits; positive where the positive class of two is predicted.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n,), or (n, n_classes) for more than two classes
        """
        X = self._checked(X)
        return self._fitted.scores(X)

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
        X = self._checked(X)
        return self._fitted.probabilities_of(X)

    def predict(self, X: Any) -> np.ndarray:
        """Predicted labels.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n,)
        """
        X = self._checked(X)
        return self._fitted.labels(self._fitted.scores(X))

    @available_if(_has_dense)
    def predict_dense(self, X: Any) -> np.ndarray:
        """Labels that the dense network predicts, for comparison.

        Absent after loading what was saved with ``slim=True``.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features), or dict of arrays

        Returns
        -------
        ndarray of shape (n,)
        """
        X = self._checked(X)
        return self._fitted.labels(self._fitted.scores(X, dense=True))

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
        X = self._checked(X)
        return self._fitted.hidden(X)

    @property
    def _n_features_out(self) -> int:
        return self._fitted.n_hidden

    def __getstate__(self) -> dict[str, Any]:
        """State for pickling: the network goes to the CPU, where every machine can load it."""
        state = super().__getstate__()
        if "_fitted" in state:
            state |= state["_fitted"].on_cpu().attributes()
        return state

    def cost_report(self, X: Any = None, **options: Any) -> CostReport:
        """Measure what pruning saves, on the device of the pruned network.

        Parameters
        ----------
        X : as for predict, optional
            Rows to measure on, repeated where a batch needs more. Random ones by default; needed
            where the network takes no matrix.
        **options
            ``batch_sizes``, ``n_threads`` and ``min_run_time``: see
            :func:`fairprune_sk.assessment.cost.cost_report`.

        Returns
        -------
        CostReport

        Raises
        ------
        ValueError
            If X is needed, or a batch size is not positive.

        Examples
        --------
        >>> from fairprune_sk import FairPruner
        >>> from fairprune_sk.datasets import make_biased_classification
        >>> X, y, _ = make_biased_classification(200, random_state=0)
        >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
        >>> report = pruner.cost_report(batch_sizes=[1], min_run_time=0.01)
        >>> bool(report.ratios["nonzero_multiply_adds"] > 5)
        True
        """
        X = self._checked_if_any(X)
        return cost_report(self._fitted, X, **options)

    def drift_report(self, X: Any, *, margin: float = MARGIN) -> pd.DataFrame:
        """Say which columns have left what ``fit`` has seen of them; for the default network.

        Needs neither labels nor groups. ``predict`` does not look: it takes a category that is new
        as unknown, and a number beyond the range of the fit as its end.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)
        margin : float, default=0.1
            A number counts where it is further outside the range of the fit than this part of the
            range's width.

        Returns
        -------
        DataFrame of shape (n_departed_columns, 5)
            One row for each column that has left, the largest share first: the shares of rows that
            are ``unseen`` (categories), ``out_of_range`` and ``missing`` (where the fit had a value
            in every row), how far out the ``farthest`` number is, in widths of the range, and
            whether the pruned network can ``read`` the column. Empty where all is as it was: a
            column can still have moved within what the fit has seen.

        Raises
        ------
        ValueError
            If the network is one of your own, or the margin is negative.

        Examples
        --------
        >>> from fairprune_sk import FairPruner
        >>> from fairprune_sk.datasets import make_biased_classification
        >>> X, y, _ = make_biased_classification(200, random_state=0)
        >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
        >>> len(pruner.drift_report(X))
        0
        >>> pruner.drift_report(X.assign(age=X["age"] + 1000))["out_of_range"].to_dict()
        {'age': 1.0}
        """
        X = self._checked(X)
        return drift_report(self._fitted, X, margin=margin)

    def to_onnx(self, path: Any, *, X: Any = None) -> None:
        """Export the pruned network to ONNX, with the encoding of its table.

        For the default network there is one input of shape (n, 1) for each column, named after it
        (``x0``, ``x1``, ... without names; one called "label" or "probabilities" gets a ``_``
        after it): float64 for numbers, with NaN for a missing value; strings for categories, int64
        for those that are whole numbers or booleans, where the metadata ``missing`` names the
        value that stands for a missing one. Other networks keep their inputs: ``X``, or the names
        of the dict. :meth:`onnx_inputs` makes the inputs from a table.

        The outputs are ``label``, of shape (n,), and ``probabilities``, of shape (n, n_classes), in
        this order, as skl2onnx has them.

        Parameters
        ----------
        path : str or path
            The file; it is written as a whole or not at all.
        X : as for predict, optional
            Rows to check the result on, in onnxruntime. Needed where the network takes no matrix.

        Raises
        ------
        ImportError
            Without onnx and onnxscript, or onnxruntime where X is given.
        ValueError
            If the network cannot be traced, or X is needed.
        RuntimeError
            If probabilities differ from those of ``predict_proba`` by more than 1e-5.

        Examples
        --------
        >>> import tempfile
        >>> import onnxruntime
        >>> from fairprune_sk import FairPruner
        >>> from fairprune_sk.datasets import make_biased_classification
        >>> X, y, _ = make_biased_classification(200, random_state=0)
        >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pruner.to_onnx(f"{folder}/pruner.onnx", X=X)
        ...     session = onnxruntime.InferenceSession(f"{folder}/pruner.onnx")
        >>> [column.name for column in session.get_inputs()][:3]
        ['age', 'education', 'experience_years']
        >>> session.run(["probabilities"], pruner.onnx_inputs(X[:5]))[0].shape
        (5, 2)
        """
        X = self._checked_if_any(X)
        to_onnx(self._fitted, path, X)

    def onnx_inputs(self, X: Any) -> dict[str, np.ndarray]:
        """Make the inputs of the exported ONNX model from the rows of a table.

        Parameters
        ----------
        X : as for predict

        Returns
        -------
        dict of ndarray
            By the name of the input.
        """
        X = self._checked(X)
        return onnx_inputs(self._fitted, X)

    def to_torch_export(self, path: Any = None, *, X: Any = None) -> ExportedProgram:
        """Export the pruned network with ``torch.export``, for any number of rows.

        Parameters
        ----------
        path : str or path, optional
            Where to write it, for ``torch.export.load``.
        X : as for predict, optional
            A few rows. Needed where the network takes no matrix.

        Returns
        -------
        ExportedProgram
            From what the network reads (for the default network ``encoder_.transform(X)``, as a
            tensor) to probabilities of shape (n, n_classes).

        Raises
        ------
        ValueError
            If the network cannot be traced, or X is needed.

        Examples
        --------
        >>> import torch
        >>> from fairprune_sk import FairPruner
        >>> from fairprune_sk.datasets import make_biased_classification
        >>> X, y, _ = make_biased_classification(200, random_state=0)
        >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
        >>> program = pruner.to_torch_export()
        >>> program.module()(torch.from_numpy(pruner.encoder_.transform(X[:5]))).shape
        torch.Size([5, 2])
        """
        X = self._checked_if_any(X)
        return to_torch_export(self._fitted, path, X)

    def _checked_if_any(self, X: Any) -> Any:
        """X like that of ``fit``, checked; None stays None."""
        check_is_fitted(self)
        return None if X is None else self._checked(X)

    def save(self, path: Any, *, slim: bool = False) -> None:
        """Write to a file without code: weights as safetensors, the rest as JSON.

        An interrupted or failed write leaves a file that was there before as it was.

        Parameters
        ----------
        path : str or path
            :func:`fairprune_sk.load` reads it.
        slim : bool
            Whether to leave out the dense network and the masks, which most of the file is. What
            is loaded predicts, transforms and exports as before; ``predict_dense``,
            ``cost_report``, ``warm_start`` and the display of layers need the rest.

        Raises
        ------
        ValueError
            If a parameter or a fitted attribute is no data, such as a constraint of one's own.

        Warns
        -----
        UserWarning
            If ``callbacks``, or a ``random_state`` that is no integer, are left out.

        Examples
        --------
        >>> import tempfile
        >>> import fairprune_sk
        >>> from fairprune_sk import FairPruner
        >>> from fairprune_sk.datasets import make_biased_classification
        >>> X, y, _ = make_biased_classification(200, random_state=0)
        >>> pruner = FairPruner(constraint=None, max_epochs=2, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pruner.save(f"{folder}/pruner.fairprune")
        ...     loaded = fairprune_sk.load(f"{folder}/pruner.fairprune")
        >>> bool((loaded.predict_proba(X) == pruner.predict_proba(X)).all())
        True
        """
        check_is_fitted(self)
        parameters = self.get_params(deep=False)
        del parameters["estimator"]
        write_fitted(path, self._fitted.slimmed() if slim else self._fitted, parameters)

    def was_fitted_on(self, X: Any) -> bool:
        """Whether X is the very table that ``fit`` saw: fairness there says little.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n, n_features)

        Returns
        -------
        bool
        """
        X = self._checked(X)
        return self._fitted.was_fitted_on(X)


def load(path: Any, *, modules: Any = None) -> FairPruner:
    """Read an estimator that :meth:`FairPruner.save` wrote. No code in the file is run.

    Parameters
    ----------
    path : str or path
    modules : nn.Module instance or class, callable that returns one, or skorch net
        For an estimator that was fitted with a network of the user's: the same dense network, as
        code cannot come from the file. Its weights do not matter; the object is not changed.

    Returns
    -------
    FairPruner
        Predicts to the same bits as the one that was saved, on the CPU. Its ``estimator`` is
        None, or what ``modules`` gave.

    Raises
    ------
    ValueError
        If the file is truncated, was changed, is foreign, comes from a later version, or holds
        what does not fit together; or if the module is not of the saved architecture. The message
        names the file.
    """
    with seeded(0, torch.device("cpu")):  # networks are built with weights, which are drawn
        parameters, fitted, estimator = read_fitted(path, modules)
    with naming(path, "whose estimator cannot predict"):
        pruner = FairPruner(estimator, **parameters)
        for name, value in fitted.attributes().items():
            setattr(pruner, name, value)
        if (row := example_row(fitted)) is not None:
            for predicted in (pruner.predict, pruner.transform):
                predicted(row)
            if not fitted.slim:
                pruner.predict_dense(row)
    return pruner
