"""Group-fairness constraints: which rates have to be equal between groups.

A notion of group fairness asks that ``P[outcome = 1 | event, group]`` be the same in every
group. A :class:`Constraint` names the events that it conditions on and the outcome that it counts;
grouping, averaging and differences are written once, below, for all of them.

Every row falls in at most one **cell**, a pair (event, group), coded ``event * n_groups + group``,
or in none (-1). All functions take any number of leading axes on the logits (one per network), so
that one code path serves a single network and a stack of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

OUTSIDE = -1
"""Cell code of a row that no event of the constraint covers."""


class Constraint(ABC):
    """A notion of group fairness, as the events that it conditions on.

    Subclasses are stateless: they set :attr:`events` and define :meth:`event`; a notion whose
    outcome is not "predicted positive" overrides :meth:`outcome_logits` as well.
    """

    events: ClassVar[tuple[str, ...]]
    """Names of the events, for messages and reports."""

    @abstractmethod
    def event(self, y_true: Tensor) -> Tensor:
        """Code of the event that each row belongs to, or ``OUTSIDE``.

        Parameters
        ----------
        y_true : Tensor of shape (n,)
            Labels, 0 or 1.

        Returns
        -------
        Tensor of shape (n,), int64
        """

    def outcome_logits(self, logits: Tensor, y_true: Tensor) -> Tensor:
        """Logits whose sign is the outcome that the constraint counts (predicted positive).

        Parameters
        ----------
        logits : Tensor of shape (..., n)
        y_true : Tensor of shape (n,)

        Returns
        -------
        Tensor of shape (..., n)
        """
        return logits


class DemographicParity(Constraint):
    """Equal selection rates: ``P[ŷ = 1 | group]`` is the same in every group."""

    events = ("all",)

    def event(self, y_true: Tensor) -> Tensor:
        """Every row is in the one event."""
        return torch.zeros_like(y_true, dtype=torch.int64)


class EqualizedOdds(Constraint):
    """Equal true and false positive rates: ``P[ŷ = 1 | y, group]`` for y = 0 and y = 1."""

    events = ("negative", "positive")

    def event(self, y_true: Tensor) -> Tensor:
        """Condition on the true label."""
        return y_true.to(torch.int64)


class EqualOpportunity(Constraint):
    """Equal true positive rates: ``P[ŷ = 1 | y = 1, group]`` is the same in every group."""

    events = ("positive",)

    def event(self, y_true: Tensor) -> Tensor:
        """Only positive rows count."""
        return torch.where(y_true > 0, 0, OUTSIDE)


class FalsePositiveRateParity(Constraint):
    """Equal false positive rates: ``P[ŷ = 1 | y = 0, group]`` is the same in every group."""

    events = ("negative",)

    def event(self, y_true: Tensor) -> Tensor:
        """Only negative rows count."""
        return torch.where(y_true > 0, OUTSIDE, 0)


class AccuracyParity(Constraint):
    """Equal accuracy: ``P[ŷ = y | group]`` is the same in every group.

    This is the performance fairness of Dai et al. (arXiv 2312.10181), Definition 1.
    """

    events = ("all",)

    def event(self, y_true: Tensor) -> Tensor:
        """Every row is in the one event."""
        return torch.zeros_like(y_true, dtype=torch.int64)

    def outcome_logits(self, logits: Tensor, y_true: Tensor) -> Tensor:
        """Positive where the prediction is right."""
        return torch.where(y_true > 0, logits, -logits)


CONSTRAINTS: dict[str, type[Constraint]] = {
    "demographic_parity": DemographicParity,
    "equalized_odds": EqualizedOdds,
    "equal_opportunity": EqualOpportunity,
    "false_positive_rate_parity": FalsePositiveRateParity,
    "accuracy_parity": AccuracyParity,
}
"""Every constraint by the name that ``FairPruner(constraint=...)`` takes."""


@dataclass(frozen=True)
class Cells:
    """The cells of one constraint on one table.

    Attributes
    ----------
    constraint : Constraint
    n_groups : int
    constrained : Tensor of shape (n_cells,), bool
        False for the cells that are too small to be constrained.
    """

    constraint: Constraint
    n_groups: int
    constrained: Tensor

    @property
    def n_cells(self) -> int:
        """Number of (event, group) pairs."""
        return len(self.constraint.events) * self.n_groups

    def to(self, device: torch.device) -> Cells:
        """Return the same cells on another device."""
        return Cells(self.constraint, self.n_groups, self.constrained.to(device))


def cell_codes(constraint: Constraint, y_true: Tensor, group: Tensor, n_groups: int) -> Tensor:
    """Cell of each row: ``event * n_groups + group``, or ``OUTSIDE``.

    Parameters
    ----------
    constraint : Constraint
    y_true : Tensor of shape (n,)
    group : Tensor of shape (n,), int64
        Group codes; a negative code keeps the row out of the constraint.
    n_groups : int

    Returns
    -------
    Tensor of shape (n,), int64
    """
    event = constraint.event(y_true)
    return torch.where((event < 0) | (group < 0), OUTSIDE, event * n_groups + group)


class CellSums(NamedTuple):
    """Weighted sums of the outcome, and of the weights, in each cell.

    Sums, not rates, are what may be added and averaged over batches.
    """

    outcome: Tensor
    """Shape (..., n_cells)."""
    weight: Tensor
    """Shape (n_cells,)."""


def cell_sums(
    outcome: Tensor, cell: Tensor, n_cells: int, weight: Tensor | None = None
) -> CellSums:
    """Sum outcomes and weights in each cell.

    Parameters
    ----------
    outcome : Tensor of shape (..., n)
    cell : Tensor of shape (n,), int64
        Cell codes; ``OUTSIDE`` is left out.
    n_cells : int
    weight : Tensor of shape (n,), optional
        Sample weights; by default each row counts once.

    Returns
    -------
    CellSums
    """
    weight = torch.ones_like(outcome[(0,) * (outcome.ndim - 1)]) if weight is None else weight
    # The rows outside go to one more cell at the end, which is cut off again: no boolean
    # indexing, which would make a GPU wait.
    index = torch.where(cell < 0, n_cells, cell)
    outcome_sum = outcome.new_zeros(*outcome.shape[:-1], n_cells + 1)
    outcome_sum = outcome_sum.index_add(-1, index, outcome * weight)
    weight_sum = weight.new_zeros(n_cells + 1).index_add(0, index, weight)
    return CellSums(outcome_sum[..., :-1], weight_sum[:-1])


def rates(sums: CellSums) -> Tensor:
    """Rate of the outcome in each cell, shape (..., n_cells); 0 where a cell is empty."""
    return sums.outcome / sums.weight.clamp_min(torch.finfo(sums.weight.dtype).tiny)


def pooled_rates(sums: CellSums, n_groups: int) -> Tensor:
    """Rate of each event over all groups together, repeated for each cell, shape (..., n_cells)."""
    outcome = sums.outcome.unflatten(-1, (-1, n_groups)).sum(-1)
    weight = sums.weight.unflatten(-1, (-1, n_groups)).sum(-1)
    return rates(CellSums(outcome, weight)).repeat_interleave(n_groups, -1)


def differences(sums: CellSums, cells: Cells) -> Tensor:
    """Signed difference of each cell's rate to its event's pooled rate.

    Empty cells, and cells that are not constrained, have difference 0.

    Returns
    -------
    Tensor of shape (..., n_cells)
    """
    difference = rates(sums) - pooled_rates(sums, cells.n_groups)
    return torch.where(cells.constrained & (sums.weight > 0), difference, 0.0)


def gap(sums: CellSums, cells: Cells, method: str = "between_groups") -> Tensor:
    """Largest gap over the events, as fairlearn's ``*_difference`` metrics define it.

    Parameters
    ----------
    sums : CellSums
        Sums over a whole table.
    cells : Cells
    method : {"between_groups", "to_overall"}
        Largest difference between two groups, or between a group and the pooled rate.

    Returns
    -------
    Tensor of shape (...)
        A fraction in [0, 1].
    """
    if method == "to_overall":
        return differences(sums, cells).abs().amax(-1)
    counted = (cells.constrained & (sums.weight > 0)).unflatten(-1, (-1, cells.n_groups))
    rate = rates(sums).unflatten(-1, (-1, cells.n_groups))
    high = torch.where(counted, rate, -torch.inf).amax(-1)
    low = torch.where(counted, rate, torch.inf).amin(-1)
    return (high - low).clamp_min(0.0).amax(-1)


def soft_outcome(outcome_logits: Tensor, temperature: float) -> Tensor:
    """Differentiable outcome: ``sigmoid(logit / temperature)``, a probability."""
    return torch.sigmoid(outcome_logits / temperature)


def hard_outcome(outcome_logits: Tensor) -> Tensor:
    """Outcome of the prediction that a user sees: 1.0 where the logit is positive."""
    return (outcome_logits > 0).to(outcome_logits.dtype)
