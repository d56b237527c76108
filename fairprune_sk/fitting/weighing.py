"""Weights of the rows in the loss of a skorch net of the user's, whatever its class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import Dataset
from torch import Tensor, nn

from fairprune_sk.fitting.outputs import criterion_of


class WeightedDataset(Dataset):
    """A dataset of (X, y) pairs that hands out (X, (y, sample weight)).

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    sample_weight : ndarray of shape (n,), float32
    """

    def __init__(self, dataset: Any, sample_weight: np.ndarray):
        self.dataset = dataset
        self.sample_weight = sample_weight
        # skorch reads these for scores that go over the whole dataset.
        self.X, self.y = getattr(dataset, "X", None), getattr(dataset, "y", None)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        X, y = self.dataset[index]
        return X, (y, self.sample_weight[index])


class _Weighing(NeuralNet):
    """What a net of any class needs to weigh the rows in its own loss; see :func:`weighing`."""

    # Beside the net's attributes, so that a pickle of the net does not hold a batch's weights.
    __slots__ = ("batch_weight",)
    batch_weight: Tensor | None

    def run_single_epoch(self, iterator: Any, *args: Any, **kwargs: Any) -> Any:
        if iterator is not None:
            iterator = self._unweighted(iterator)
        return super().run_single_epoch(iterator, *args, **kwargs)

    def _unweighted(self, iterator: Any) -> Iterator[Any]:
        # Callbacks see plain (X, y) batches, as if there were no weights.
        for X, y in iterator:
            # A validation set of the user's own, from predefined_split, has no weights.
            y, self.batch_weight = y if isinstance(y, (tuple, list)) else (y, None)
            yield X, y

    def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> Tensor:
        if self.batch_weight is None:
            return super().get_loss(y_pred, y_true, *args, **kwargs)
        criterion = criterion_of(self)
        reduction, criterion.reduction = criterion.reduction, "none"
        try:
            losses = super().get_loss(y_pred, y_true, *args, **kwargs)
        finally:
            criterion.reduction = reduction
        return _weighted_mean(losses, y_true, self.batch_weight, criterion, type(self).__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # What is pickled or copied, as by a Checkpoint, is a net of its own class.
        return object.__new__, (type(self).__bases__[1],), self.__getstate__()


def weighing(net: NeuralNet) -> Any:
    """Look at a net as one that weighs the rows in its own loss.

    Parameters
    ----------
    net : NeuralNet
        With a criterion that has a ``reduction``.

    Returns
    -------
    NeuralNet
        Of a subclass of the net's class, with the very attributes of the net: training it trains
        the net. It reads batches of (X, (y, weight)), as a :class:`WeightedDataset` gives them;
        in between, its ``batch_weight``, a tensor of shape (n,) or None, weighs ``get_loss``,
        which raises ValueError where the net's own does not give the loss of each row.
    """
    own = type(net)
    view: Any = object.__new__(type(own.__name__, (_Weighing, own), {}))
    object.__setattr__(view, "__dict__", net.__dict__)
    view.batch_weight = None
    return view


def _weighted_mean(
    losses: Tensor, y_true: Tensor, weight: Tensor, criterion: nn.Module, net: str
) -> Tensor:
    """Reduce the losses of weighted rows as a criterion reduces those of plain rows."""
    if losses.shape[:1] != weight.shape:
        raise ValueError(
            f"Got sample_weight or class_weight with a {net} whose loss has shape "
            f"{tuple(losses.shape)} for {len(weight)} rows, but weights need the loss of each "
            "row: let get_loss leave the reduction to the criterion, or leave the weights out."
        )
    weight = weight.to(losses)
    weighted = (losses.flatten(start_dim=1).mean(1) if losses.ndim > 1 else losses) * weight
    if criterion.reduction == "sum":
        return weighted.sum()
    class_weight = getattr(criterion, "weight", None)
    if isinstance(criterion, (nn.NLLLoss, nn.CrossEntropyLoss)) and class_weight is not None:
        # Their mean divides by the class weights of the batch, not by its size.
        total = (class_weight[y_true.to(class_weight.device)] * weight).sum()
        return weighted.sum() / total.clamp_min(torch.finfo(weight.dtype).tiny)
    return weighted.mean()
