"""What comes out of a fit, as one value: an estimator's attributes, files and exports read it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, softmax
from skorch import NeuralNet
from skorch.history import History
from torch import Tensor, nn

from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fitting.dense import Dense
from fairprune_sk.fitting.outputs import device_of, has_hidden, hidden, last_hidden, logits
from fairprune_sk.fitting.pruning import Run
from fairprune_sk.fitting.resident import ResidentTable, table_of
from fairprune_sk.fitting.task import FEW, Task
from fairprune_sk.masks.compaction import read_columns, shrink, with_tensors
from fairprune_sk.networks.batch import Batch, fingerprint, in_blocks, on_device, take
from fairprune_sk.networks.calls import plain
from fairprune_sk.networks.encoding import TableEncoder


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted network, what reads and writes it, and what was reached.

    Attributes
    ----------
    classes, groups : ndarray or None
    positive : int
        Code of the class, of two, that counts as selected.
    schema : dict
        What tables are checked by, by the estimator's attribute.
    encoder : TableEncoder or None
        From a table to what the network reads; None where it reads the table itself.
    dense : NeuralNet
        The network before pruning.
    probabilities : bool
        Whether the networks give probabilities, not logits.
    network : nn.Module
        The pruned network, cut to what is left.
    masks : dict of Tensor, bool
        In the shapes of the dense network; True keeps.
    kept : dict of Tensor
        The parameters and buffers that are left, flat where they are masked: with the masks, the
        network in the size of the dense one.
    sparsity : float
    selected_features : ndarray or None
    n_hidden : int
        Width of the last hidden layer.
    multipliers : DataFrame of shape (n_conditions, n_groups) or None
    n_unconstrained : int
    train_gap, unseen_gap, violation : float or None
        Gaps on the training rows, and as expected on others; what the one that the tolerance is
        for is beyond it.
    unseen_gap_interval : tuple of float or None
        Of the second, for the noise of as many rows.
    history : History
    n_iter : int
    fingerprint : str
        Digest of the table of the fit.
    slim : bool
        Whether it is only what predicts: the dense network has no weights, and masks and kept are
        empty.
    """

    classes: np.ndarray
    groups: np.ndarray | None
    positive: int
    schema: dict[str, Any]
    encoder: TableEncoder | None
    dense: NeuralNet
    probabilities: bool
    network: nn.Module
    masks: dict[str, Tensor]
    kept: dict[str, Tensor]
    sparsity: float
    selected_features: np.ndarray | None
    n_hidden: int
    multipliers: pd.DataFrame | None
    n_unconstrained: int
    train_gap: float | None
    unseen_gap: float | None
    unseen_gap_interval: tuple[float, float] | None
    violation: float | None
    history: History
    n_iter: int
    fingerprint: str
    slim: bool = False

    def slimmed(self) -> Fitted:
        """Return what predicts, without what it is compared with or gone on from."""
        return replace(self, masks={}, kept={}, slim=True)

    def check_whole(self, what: str) -> None:
        """Refuse what needs the dense network where it was left out.

        Raises
        ------
        ValueError
        """
        if self.slim:
            raise ValueError(
                f"Got {what} for an estimator that was saved with slim=True, but expected one with "
                "its dense network and masks: load a file that was saved without slim."
            )

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes of an estimator, by name."""
        compared = {} if self.slim else {"dense_estimator_": self.dense, "masks_": self.masks}
        return {
            **compared,
            **self.schema,
            "classes_": self.classes,
            "pos_label_": self.classes[self.positive] if len(self.classes) == 2 else None,
            "groups_": self.groups,
            "encoder_": self.encoder,
            "selected_features_": self.selected_features,
            "network_": self.network,
            "sparsity_": self.sparsity,
            "multipliers_": self.multipliers,
            "n_unconstrained_": self.n_unconstrained,
            "train_gap_": self.train_gap,
            "unseen_gap_": self.unseen_gap,
            "unseen_gap_interval_": self.unseen_gap_interval,
            "violation_": self.violation,
            "history_": self.history,
            "n_iter_": self.n_iter,
            "_fitted": self,
        }

    @property
    def dense_module(self) -> nn.Module:
        """The module of the dense network."""
        return plain(self.dense.module_)

    @property
    def n_features(self) -> int | None:
        """Columns of the table; None where X is a dict."""
        return self.schema.get("n_features_in_")

    @property
    def feature_names(self) -> np.ndarray | None:
        """Names of the columns, where they have any."""
        return self.schema.get("feature_names_in_")

    def on_cpu(self) -> Fitted:
        """Return the same with its network on the CPU, where every machine can load it."""
        if device_of(self.network).type == "cpu":
            return self
        return replace(self, network=copy.deepcopy(self.network).cpu())

    def encoded(self, X: Any) -> Any:
        """From a checked table to the arrays that the network reads."""
        return X if self.encoder is None else self.encoder.transform(X)

    def table(self, X: Any) -> ResidentTable:
        """Rows of a checked table as the network reads them, on the CPU."""
        return table_of(Batch(self.encoded(X)), torch.device("cpu"))

    def scores(self, X: Any, *, dense: bool = False) -> np.ndarray:
        """Logits for a checked table: shape (n,), or (n, n_classes) for more than two classes."""
        module = self.dense.module_ if dense else self.network
        scores = self._over(X, module, lambda m, table: logits(m, table, self.probabilities))
        return (scores[:, 0] if scores.shape[1] == 1 else scores).astype(np.float64)

    def probabilities_of(self, X: Any) -> np.ndarray:
        """Probability of each class for a checked table, shape (n, n_classes)."""
        scores = self.scores(X)
        if scores.ndim == 2:
            return softmax(scores, axis=1)
        return np.column_stack([expit(-scores), expit(scores)])

    def labels(self, scores: np.ndarray) -> np.ndarray:
        """Labels for logits, shape (n,)."""
        codes = scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)
        return self.classes[codes]

    def hidden(self, X: Any) -> np.ndarray:
        """Last hidden layer for a checked table, shape (n, n_hidden)."""
        return self._over(X, self.network, hidden)

    def _over(
        self, X: Any, module: nn.Module, function: Callable[[nn.Module, ResidentTable], Tensor]
    ) -> np.ndarray:
        """Apply a function of a network and a table to a checked table; single precision.

        Kernels sum a row in an order that depends on its place among the others, which shows in
        the last bits. The default network is evaluated in double precision, and rounded: what it
        predicts for a row does not depend on the rows beside it.
        """
        if in_blocks(X):
            parts = [self._over(block, module, function) for block in X.blocks()]
            return np.concatenate(parts)[X.places()]
        rows = self.encoded(X)
        if self.encoder is not None:
            device = device_of(module)
            device = torch.device("cpu") if device.type == "mps" else device  # knows no doubles
            module = copy.deepcopy(plain(module)).to(device).double()
            rows = rows.astype(np.float64)
        table = table_of(Batch(rows), torch.device("cpu"))
        try:
            values = function(module, table).float().numpy()
        except (RuntimeError, IndexError) as error:  # torch's, for shapes and for codes
            raise ValueError(
                f"Got X on which the forward of {type(plain(module)).__name__} fails, but expected "
                f"rows like those of fit: {error}"
            ) from error
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise ValueError(
                f"Got rows whose outputs are not finite: {len(bad)} of {len(values)}, the first is "
                f"row {bad[0]}. A number that is not finite decides nothing: look for outliers in "
                "these rows, or, with a network of your own, for a division, a logarithm or an "
                "exponential in its forward."
            )
        return values

    def was_fitted_on(self, X: Any) -> bool:
        """Whether a checked table is that of the fit."""
        return fingerprint(self.encoded(X)) == self.fingerprint

    def masked_network(self) -> nn.Module:
        """Return the pruned network in the size of the dense one, on the CPU."""
        tensors = dict(self.kept)
        for name, mask in self.masks.items():
            tensors[name] = torch.zeros(mask.shape, dtype=tensors[name].dtype)
            tensors[name][mask] = self.kept[name]
        return with_tensors(self.dense_module, tensors, torch.device("cpu"))

    def multipliers_for(self, parity: Parity | None) -> Tensor | None:
        """Multipliers to go on from, where they belong to the same cells; shape (n_cells,)."""
        last = self.multipliers
        if last is None or parity is None:
            return None
        if (*last.index, *last.columns) != (*parity.conditions, *parity.groups):
            return None
        return torch.from_numpy(last.to_numpy(copy=True)).flatten()


def fitted_of(task: Task, dense: Dense, run: Run) -> Fitted:
    """Make what a fit leaves of the best network of a run.

    Parameters
    ----------
    task : Task
    dense : Dense
    run : Run

    Returns
    -------
    Fitted
    """
    best, parity, device = run.best, task.parity, task.settings.device
    tensors = {**best.parameters, **best.buffers}
    network = with_tensors(dense.module, tensors, device)
    rows = on_device(take(task.rows.X, FEW), device)
    if task.layout.cuts:
        network = shrink(network, rows)
    masks = {name: mask.cpu() for name, mask in best.masks.items()}
    kept = {name: tensor.cpu() for name, tensor in tensors.items()}
    kept |= {name: kept[name][mask] for name, mask in masks.items()}
    unseen_gap, unseen_gap_interval = None, None
    if parity is not None and parity.unseen and best.sums is not None:
        unseen_gap, unseen_gap_interval = best.gap, parity.gap_interval(best.sums)
    multipliers = None
    if best.multipliers is not None and parity is not None:
        multipliers = pd.DataFrame(
            best.multipliers.view(-1, parity.n_groups).cpu().numpy(),
            index=parity.conditions,
            columns=parity.groups,
        )
    return Fitted(
        classes=task.given.classes,
        groups=task.given.groups,
        positive=task.given.positive,
        schema=task.given.schema,
        encoder=task.encoder,
        dense=dense.net,
        probabilities=dense.probabilities,
        network=network,
        masks=masks,
        kept=kept,
        sparsity=best.sparsity,
        selected_features=_selected(network, rows, task),
        n_hidden=last_hidden(network, rows).shape[1] if has_hidden(network) else 0,
        multipliers=multipliers,
        n_unconstrained=0 if parity is None else int((~parity.constrained).sum()),
        train_gap=None if parity is None else best.train_gap,
        unseen_gap=unseen_gap,
        unseen_gap_interval=unseen_gap_interval,
        violation=best.violation if math.isfinite(best.violation) else None,
        history=run.history,
        n_iter=run.n_iter,
        fingerprint=task.fingerprint,
    )


def _selected(network: nn.Module, X: Any, task: Task) -> np.ndarray | None:
    """Columns of the table that the network reads: names where it has them, or positions."""
    if not isinstance(X, Tensor) or X.ndim != 2:
        return None
    columns = read_columns(network, X).nonzero().flatten().numpy()
    if task.encoder is not None:
        columns = np.unique(task.encoder.source_[columns])
    names = task.given.schema.get("feature_names_in_")
    return columns if names is None else names[columns]
