"""A task: all that a fit needs, checked and encoded, and nothing of the estimator."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from fairprune_sk.distributed import over_processes, world
from fairprune_sk.exceptions import warn_at_caller
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fitting.user_networks import check_estimator, check_rows, module_of
from fairprune_sk.masks.granularity import GRANULARITIES, Granularity, Layout, prunable_parameters
from fairprune_sk.networks.batch import Batch, fingerprint, on_device, take
from fairprune_sk.networks.default import TabularNetwork
from fairprune_sk.networks.encoding import TableEncoder, encoder_of, is_number
from fairprune_sk.solvers import SOLVERS, Solver, Start

# Tables of one batch have no use for rows in an order, or one by one.
MERGED_ROWS = 2048

# Names of the callbacks that the pruning phase brings; without "print_log", which it may.
OWN_CALLBACKS = ("epoch_timer", "train_loss", "lr_schedule")

# What is known of each row, besides X.
OF_ROWS = ("y", "weight", "group", "cell", "within")

# What is tried before training: enough to see shapes.
FEW = slice(0, 2)


@dataclass(frozen=True)
class Settings:
    """How to train and prune, whatever the table: parameters of an estimator, resolved.

    Attributes
    ----------
    sparsity : float
    granularity : Granularity
    solver : Solver
    fairness_weight : float
    max_epochs, batch_size : int or "auto"
        Of the pruning phase.
    lr, mask_lr : float
    callbacks : list of skorch callbacks or None
        Of the pruning phase.
    memory : str, joblib.Memory or None
        Where dense networks are kept.
    device : torch.device
    verbose : int
        Of the skorch nets: whether they print a line for each epoch.
    """

    sparsity: float
    granularity: Granularity
    solver: Solver
    fairness_weight: float
    max_epochs: int | str
    batch_size: int | str
    lr: float
    mask_lr: float
    callbacks: list | None
    memory: Any
    device: torch.device
    verbose: int


def settings_of(parameters: Mapping[str, Any]) -> Settings:
    """Read the settings off an estimator's parameters, names and "auto" resolved.

    Parameters
    ----------
    parameters : dict
        As ``get_params`` gives them; those that are no settings are left alone.

    Raises
    ------
    ValueError
        If a callback is none, or there is no such device.

    Warns
    -----
    UserWarning
        If there is a memory that could remember nothing.
    """
    resolved = dict(parameters)
    granularity, solver = resolved["granularity"], resolved["solver"]
    if isinstance(granularity, str):
        resolved["granularity"] = GRANULARITIES[granularity]
    if isinstance(solver, str):
        resolved["solver"] = SOLVERS[solver]()
    # The first level of it is a bar, which is none of a net's business.
    resolved["verbose"] = max(int(resolved["verbose"]) - 1, 0)
    check_callbacks(resolved["callbacks"], bool(resolved["verbose"]))
    resolved["device"] = resolve_device(resolved["device"])
    if resolved["memory"] is not None and resolved["random_state"] is None:
        warn_at_caller(
            "Got memory without random_state: each fit starts from other weights, so that no "
            "dense network is met again and none is kept. Set random_state to an integer.",
            UserWarning,
        )
        resolved["memory"] = None
    return Settings(**{field.name: resolved[field.name] for field in fields(Settings)})


def check_callbacks(callbacks: list | None, verbose: bool) -> None:
    """Refuse what skorch would fail on when the pruning begins.

    Raises
    ------
    ValueError
        If one is no skorch callback, or has the name of another, or of the pruning's own.
    """
    names, own = [], [*OWN_CALLBACKS, *(["print_log"] if verbose else [])]
    for given in callbacks or []:
        named = isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str)
        callback = given[1] if named else given
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"Got callbacks with {given!r}, but expected skorch callbacks, or pairs of a name "
                "and one."
            )
        names += [given[0]] if named else []
        own += [] if named else [kind.__name__]
    if len({*names} - {*own}) < len(names):
        raise ValueError(
            f"Got callbacks named {names}, but expected different names, and none of {own}."
        )


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of a name; "auto" is the current GPU where there is one.

    Raises
    ------
    ValueError
        If this machine has no such device.
    """
    if device != "auto":
        try:
            torch.zeros(1, device=device).cpu()
        except Exception as error:  # of many classes, by device
            raise ValueError(
                f"Got device={str(device)!r}, but expected 'auto', 'cpu' or a device of this "
                f"machine: {str(error).splitlines()[0]}"
            ) from error
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@dataclass(frozen=True, eq=False)
class Given:
    """What a user gave to ``fit``, checked and coded, but not encoded.

    Attributes
    ----------
    X : DataFrame, ndarray, dict of ndarray, ImageFiles or ParquetTable
    y : ndarray of shape (n,), int64
        Class codes.
    classes : ndarray of shape (n_classes,)
    positive : int
        Code of the class, of two, that counts as selected.
    weight : ndarray of shape (n,) or None
        Sample weights times class weights.
    group : ndarray of shape (n,), int64, or None
        Group codes.
    groups : ndarray of shape (n_groups,) or None
    parity : Parity or None
    cell : Tensor of shape (n, n_outcomes), int64, or None
    within : ndarray of shape (n,), int64, or None
        Group codes within the control strata.
    schema : dict
        What is remembered of X for checking other tables, by the estimator's attribute.
    """

    X: Any
    y: np.ndarray
    classes: np.ndarray
    positive: int
    weight: np.ndarray | None
    group: np.ndarray | None
    groups: np.ndarray | None
    parity: Parity | None
    cell: Tensor | None
    within: np.ndarray | None
    schema: dict[str, Any]

    def take(self, index: np.ndarray) -> Given:
        """Rows by position."""
        known = {name: getattr(self, name) for name in OF_ROWS}
        return replace(
            self,
            X=self.X.iloc[index] if isinstance(self.X, pd.DataFrame) else take(self.X, index),
            **{name: value[index] for name, value in known.items() if value is not None},
        )


@dataclass(frozen=True, eq=False)
class Task:
    """All that a fit needs, checked and encoded, and nothing of the estimator.

    Attributes
    ----------
    rows : Batch
        As the network reads them: X as arrays on the host (or images on disk), what is known of
        them as tensors on the CPU; weights with a mean of 1.
    given : Given
        What they were made from.
    encoder : TableEncoder or None
        Of the default network.
    network : nn.Module or NeuralNet
        Untrained; or a trained net that is to be pruned as it is. For a warm start the module
        that the last fit left, in the size of the dense network.
    layout : Layout
        What can be removed from it.
    settings : Settings
    fingerprint : str
        Digest of what the network reads of the table that was given.
    start : Start or None
        Where the last fit ended, for a warm start.
    dense : NeuralNet or None
        Its dense network.
    """

    rows: Batch
    given: Given
    encoder: TableEncoder | None
    network: Any
    layout: Layout
    settings: Settings
    fingerprint: str
    start: Start | None = None
    dense: NeuralNet | None = None

    @property
    def parity(self) -> Parity | None:
        """What must be fair; None where nothing is constrained."""
        return self.given.parity


def task_of(given: Given, estimator: Any, settings: Settings, last: Any = None) -> Task:
    """Encode a table and set up its network; the last check before training.

    Draws the network's initial weights from torch's generator.

    Parameters
    ----------
    given : Given
    estimator : None, nn.Module class or instance, skorch net, or FrozenEstimator
        The network that a user asked for.
    settings : Settings
    last : Fitted, optional
        What an earlier fit left, to go on from there.

    Returns
    -------
    Task

    Raises
    ------
    ValueError
        If the network does not fit the table, or cannot be pruned as asked for.
    """
    whole, encoder = given, None
    if estimator is None:
        given = merged_if_small(given, by_group=settings.solver.needs_groups)
    weight = given.weight
    if weight is not None:
        weight = weight / (over_processes(float(weight.sum())) / over_processes(len(weight)))
    if estimator is None:
        encoder = encoder_of(given.X, given.y, weight) if last is None else last.encoder
    X = given.X if encoder is None else encoder.transform(given.X)
    seen = X if given is whole or encoder is None else encoder.transform(whole.X)
    network: Any
    if last is not None:
        network = module = last.masked_network()
    elif encoder is not None:
        n_outputs = 1 if len(given.classes) == 2 else len(given.classes)
        network = module = TabularNetwork(
            encoder.edges_, encoder.n_categories_, n_outputs=n_outputs
        )
    else:
        network = check_estimator(estimator, X, given.classes, weight)
        if isinstance(network, NeuralNet):
            check_rows(network, X, given.y, weight)
        module = module_of(network)
    alike_in_all(module)
    layout = layout_of(settings, module, take(X, FEW))
    constraint = None if given.parity is None else given.parity.requirement.constraint
    knows_initial_weights = last is None and isinstance(network, nn.Module)
    settings.solver.check(layout, constraint, knows_initial_weights)
    constrained = given.cell is not None and given.group is not None
    rows = Batch(
        X,
        torch.from_numpy(given.y),
        None if weight is None else torch.from_numpy(weight.astype(np.float32)),
        given.cell,
        torch.from_numpy(given.group) if constrained else None,
    )
    task = Task(rows, given, encoder, network, layout, settings, fingerprint(seen))
    if last is None:
        return task
    start = Start(last.sparsity, last.multipliers_for(given.parity))
    return replace(task, start=start, dense=last.dense)


def layout_of(settings: Settings, module: nn.Module, X: Any) -> Layout:
    """Look at what can be removed from a network, and refuse a sparsity that it cannot reach.

    Parameters
    ----------
    settings : Settings
    module : nn.Module
    X : ndarray of shape (n, ...), or dict of them
        A few rows.

    Returns
    -------
    Layout
        On the device of the settings.

    Raises
    ------
    ValueError
        If the sparsity is out of reach, with the smallest or largest that is not; or if there
        is nothing to prune.
    """
    if not prunable_parameters(module):
        raise ValueError(f"Got {type(module).__name__} without a weight matrix to prune.")
    granularity, sparsity, cpu = settings.granularity, settings.sparsity, torch.device("cpu")
    name = next((n for n, known in GRANULARITIES.items() if known == granularity), granularity)
    layout = granularity.layout(copy.deepcopy(module).to(cpu), on_device(X, cpu))
    if sparsity > layout.max_sparsity:
        raise ValueError(
            f"Got sparsity={sparsity!r}, but with granularity={name!r} this network "
            f"allows at most {layout.max_sparsity:.4f}: every layer keeps at least one unit, and "
            "the network enough weights to learn with."
        )
    if sparsity < layout.min_sparsity:
        raise ValueError(
            f"Got sparsity={sparsity!r}, but granularity={name!r} alone removes "
            f"{layout.min_sparsity:g}: ask for that sparsity or a larger one."
        )
    return layout.to(settings.device)


def merged_if_small(given: Given, *, by_group: bool) -> Given:
    """Merge the rows of a table of one batch; of several processes, each takes a share of them."""
    if over_processes(len(given.y)) > MERGED_ROWS:
        return given
    known = {name: getattr(given, name) for name in ("X", *OF_ROWS)}
    whole = {name: world().whole(value) for name, value in known.items()}
    if world().size > 1 and given.cell is not None:
        whole["cell"] = torch.from_numpy(whole["cell"])
    rows = merged(replace(given, **whole), by_group=by_group)
    if world().size == 1:
        return rows
    return rows.take(np.arange(len(rows.y))[world().share(len(rows.y))])


@torch.no_grad()
def alike_in_all(module: nn.Module) -> None:
    """Give a network the weights that it has in the first process."""
    if world().size == 1:
        return
    module.load_state_dict(world().of_first(module.state_dict()))


def merged(given: Given, *, by_group: bool) -> Given:
    """Keep the distinct rows of a small table, in an order of their own, with their weights.

    Two rows that are alike teach what one row of twice the weight does, and a row without weight
    teaches nothing: on a table of one batch, fits with weights and fits with repeated rows are
    then the same to the last bit. scikit-learn asks that of every estimator that takes weights
    (``check_sample_weight_equivalence``), and people who reweigh a table rely on it; without,
    both fits draw other batches, and end in networks that no tolerance could tell from a defect.

    Parameters
    ----------
    given : Given
        With a table as X.
    by_group : bool
        Whether rows of different groups are different, beyond their cells.

    Returns
    -------
    Given
    """
    columns = [] if given.cell is None else list(given.cell.numpy().T)
    if by_group and given.group is not None:
        columns.append(given.group)
    if given.parity is not None and given.parity.unseen and given.within is not None:
        columns.append(given.within)
    index, weight = merge_repeated_rows(given.X, given.y, columns, given.weight)
    return replace(given.take(index), weight=weight)


def merge_repeated_rows(
    X: Any, y: np.ndarray, columns: list[np.ndarray], weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Find the distinct rows of a small table, in an order of their own, and their weights.

    Two rows that are alike teach what one row of twice the weight does, and a row without weight
    teaches nothing: on a table of one batch, fits with weights and fits with repeated rows are
    then the same to the last bit. scikit-learn asks that of every estimator that takes weights
    (``check_sample_weight_equivalence``), and people who reweigh a table rely on it; without,
    both fits draw other batches, and end in networks that no tolerance could tell from a defect.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n, n_features)
    y : ndarray of shape (n,)
    columns : list of ndarray of shape (n,)
        What else must be alike: cells. The order does not depend on it, so that the dense network
        is the same whatever is constrained.
    weight : ndarray of shape (n,) or None

    Returns
    -------
    index : ndarray of shape (n_distinct,), int64
        A representative of each distinct row that has weight.
    weight : ndarray of shape (n_distinct,) or None
        Sums of their weights; None where all are alike.
    """
    frame = pd.DataFrame(X)
    # Whole numbers and the same numbers as floats are alike.
    plain = pd.DataFrame(
        {
            i: column.astype(float if is_number(column.dtype) else object)
            for i, (_, column) in enumerate(frame.items())
        }
    )
    rows = pd.util.hash_pandas_object(plain, index=False).to_numpy()
    label, other = (
        pd.util.hash_pandas_object(pd.DataFrame(np.column_stack(values)), index=False).to_numpy()
        for values in ([y], [y, *columns])
    )
    # An odd factor keeps the two apart: equal hashes must not cancel.
    rows = rows * np.uint64(0x9E3779B97F4A7C15) ^ label
    weight = np.ones(len(rows)) if weight is None else weight
    pairs = np.column_stack([rows, other])
    _, index, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    total = np.bincount(inverse, weight)
    index, total = index[total > 0], total[total > 0]
    return index, None if (total == total[0]).all() else total
