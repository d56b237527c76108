"""Group-fairness constraints: which rates have to be equal between groups.

A notion of group fairness asks that ``P[outcome = 1 | event, group]`` be the same in every
group. A :class:`Constraint` names the events that it conditions on and the outcome that it counts;
grouping, averaging and comparing are written once, below, for all of them.

Logits have shape (n, n_columns): one column, the positive class, where there are two classes,
and one for each class where there are more. Every column is an outcome of its own (one class
against the rest), unless the constraint sees one outcome only, such as "the prediction is right".

For every outcome, a row falls in at most one **cell**, a combination of (outcome, event, stratum,
group), coded with the group as the fastest index, or in none (-1).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from fairprune_sk.distributed import over_processes

OUTSIDE = -1
"""Cell code of a row that no event of the constraint covers."""

COMPARISONS = ("difference", "ratio")


@dataclass(frozen=True)
class Constraint(ABC):
    """A notion of group fairness, as the events that it conditions on.

    Subclasses set :attr:`events` and define :meth:`event`; a notion whose outcome is not
    "this class is predicted" overrides :meth:`outcome_logits` as well. What trains, scores and
    reports a notion reads these declarations and knows no notion by itself.

    Parameters
    ----------
    comparison : {"difference", "ratio"}
        Whether the gap between two rates is their difference, or 1 minus their ratio: a
        tolerance of 0.2 on the ratio is the four-fifths rule.
    """

    comparison: str = "difference"

    events: ClassVar[tuple[str, ...]]
    """Names of the events, for messages and reports."""

    name: ClassVar[str]
    """What is compared, in words: by default those of the class's name."""

    moment: ClassVar[str | None] = None
    """Name of the moment in ``fairlearn.reductions`` that says the same, where there is one."""

    one_vs_rest: ClassVar[bool] = True
    """Whether each class is an outcome of its own where there are more than two."""

    relative_to_dense: ClassVar[bool] = False
    """Whether what counts is the change of the outcome against the dense network."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", cls.__name__)
            cls.name = " ".join(words).lower()

    def __post_init__(self) -> None:
        if self.comparison not in COMPARISONS:
            raise ValueError(
                f"Got comparison={self.comparison!r}, but expected 'difference' or 'ratio'."
            )

    @abstractmethod
    def event(self, is_class: Tensor) -> Tensor:
        """Code of the event that each row belongs to, or ``OUTSIDE``, for each outcome.

        Parameters
        ----------
        is_class : Tensor of shape (n, n_columns), bool
            Whether the row is truly of the column's class.

        Returns
        -------
        Tensor of shape (n, n_outcomes), int64
        """

    def outcome_logits(self, margins: Tensor, is_class: Tensor) -> Tensor:
        """Numbers whose sign is the outcome that the constraint counts.

        Parameters
        ----------
        margins : Tensor of shape (n, n_columns)
            From :func:`margins`: positive where the class is predicted.
        is_class : Tensor of shape (n, n_columns), bool

        Returns
        -------
        Tensor of shape (n, n_outcomes)
        """
        return margins


class DemographicParity(Constraint):
    """Equal selection rates: ``P[ŷ = 1 | group]`` is the same in every group."""

    events = ("all",)
    moment = "DemographicParity"

    def event(self, is_class: Tensor) -> Tensor:
        """Every row is in the one event."""
        return torch.zeros_like(is_class, dtype=torch.int64)


class EqualizedOdds(Constraint):
    """Equal true and false positive rates: ``P[ŷ = 1 | y, group]`` for y = 0 and y = 1."""

    events = ("negative", "positive")
    moment = "EqualizedOdds"

    def event(self, is_class: Tensor) -> Tensor:
        """Condition on the true label."""
        return is_class.to(torch.int64)


class EqualOpportunity(Constraint):
    """Equal true positive rates: ``P[ŷ = 1 | y = 1, group]`` is the same in every group."""

    events = ("positive",)
    moment = "TruePositiveRateParity"

    def event(self, is_class: Tensor) -> Tensor:
        """Only positive rows count."""
        return torch.where(is_class, 0, OUTSIDE)


class FalsePositiveRateParity(Constraint):
    """Equal false positive rates: ``P[ŷ = 1 | y = 0, group]`` is the same in every group."""

    events = ("negative",)
    name = "false positive rate"
    moment = "FalsePositiveRateParity"

    def event(self, is_class: Tensor) -> Tensor:
        """Only negative rows count."""
        return torch.where(is_class, OUTSIDE, 0)


class AccuracyParity(Constraint):
    """Equal accuracy: ``P[ŷ = y | group]`` is the same in every group.

    This is the performance fairness of Dai et al. (arXiv 2312.10181), Definition 1.
    """

    events = ("all",)
    name = "accuracy"
    one_vs_rest = False

    def event(self, is_class: Tensor) -> Tensor:
        """Every row is in the one event."""
        return torch.zeros_like(is_class[:, :1], dtype=torch.int64)

    def outcome_logits(self, margins: Tensor, is_class: Tensor) -> Tensor:
        """Positive where the prediction is right: the margin of the true class."""
        if margins.shape[-1] == 1:
            return torch.where(is_class, margins, -margins)
        return (margins * is_class).sum(-1, keepdim=True)


class ErrorRateParity(AccuracyParity):
    """Equal error rates: ``P[ŷ ≠ y | group]`` is the same in every group.

    The difference is that of accuracies; the ratio is another one.
    """

    name = "error rate"
    moment = "ErrorRateParity"

    def outcome_logits(self, margins: Tensor, is_class: Tensor) -> Tensor:
        """Positive where the prediction is wrong."""
        return -super().outcome_logits(margins, is_class)


class DegradationParity(AccuracyParity):
    """Equal loss of accuracy: what pruning takes from each group is the same.

    ``P[ŷ_dense = y | group] − P[ŷ = y | group]`` is the same in every group: the performance
    degradation fairness of Dai et al. (arXiv 2312.10181), Definition 3. It leaves alone what the
    dense network does to the groups.
    """

    name = "accuracy lost"
    relative_to_dense = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.comparison != "difference":
            raise ValueError(
                "Got comparison='ratio' for DegradationParity, but changes of accuracy are near "
                "0 and may be negative: compare them by 'difference'."
            )


CONSTRAINTS: dict[str, type[Constraint]] = {
    "demographic_parity": DemographicParity,
    "equalized_odds": EqualizedOdds,
    "equal_opportunity": EqualOpportunity,
    "false_positive_rate_parity": FalsePositiveRateParity,
    "accuracy_parity": AccuracyParity,
    "error_rate_parity": ErrorRateParity,
    "degradation_parity": DegradationParity,
}
"""Every constraint by the name that ``FairPruner(constraint=...)`` takes."""


def class_columns(y_true: Tensor, n_columns: int, positive: int = 1) -> Tensor:
    """Whether each row is of each column's class, shape (n, n_columns), bool.

    Parameters
    ----------
    y_true : Tensor of shape (n,)
        Class codes.
    n_columns : int
    positive : {0, 1}
        What the one column of two classes stands for.
    """
    if n_columns == 1:
        return ((y_true > 0) == bool(positive)).unsqueeze(-1)
    return y_true.unsqueeze(-1) == torch.arange(n_columns, device=y_true.device)


def margins(logits: Tensor) -> Tensor:
    """Distance of each class to being predicted: its logit minus the largest of the others.

    Positive where the class is predicted. The logit of the one column of two classes is its own
    margin.

    Parameters
    ----------
    logits : Tensor of shape (n, n_columns)

    Returns
    -------
    Tensor of shape (n, n_columns)
    """
    if logits.shape[-1] == 1:
        return logits
    top = logits.topk(2, dim=-1).values
    is_first = logits == top[..., :1]
    return logits - torch.where(is_first, top[..., 1:], top[..., :1])


def cell_codes(
    constraint: Constraint,
    is_class: Tensor,
    group: Tensor,
    n_groups: int,
    stratum: Tensor | None = None,
    n_strata: int = 1,
) -> Tensor:
    """Cell of each row for each outcome, or ``OUTSIDE``.

    Parameters
    ----------
    constraint : Constraint
    is_class : Tensor of shape (n, n_columns), bool
    group : Tensor of shape (n,), int64
        Group codes; a negative code keeps the row out of the constraint.
    n_groups : int
    stratum : Tensor of shape (n,), int64, optional
        Codes of the control strata: rates are compared within each. A negative code keeps the
        row out.
    n_strata : int

    Returns
    -------
    Tensor of shape (n, n_outcomes), int64
        ``((outcome * n_events + event) * n_strata + stratum) * n_groups + group``.
    """
    event = constraint.event(is_class)
    stratum = torch.zeros_like(group) if stratum is None else stratum
    outcome = torch.arange(event.shape[1], device=event.device)
    code = outcome * len(constraint.events) + event
    code.mul_(n_strata).add_(stratum.unsqueeze(-1)).mul_(n_groups).add_(group.unsqueeze(-1))
    outside = (event < 0) | (group < 0).unsqueeze(-1) | (stratum < 0).unsqueeze(-1)
    return code.masked_fill_(outside, OUTSIDE)


def first_cells(
    constraint: Constraint, n_classes: int, n_groups: int, n_strata: int = 1, positive: int = 1
) -> tuple[tuple[int, ...], ...]:
    """First cell of a row of each class for each outcome, to which its group and stratum add.

    Parameters
    ----------
    constraint : Constraint
    n_classes, n_groups, n_strata : int
    positive : {0, 1}
        See :func:`class_columns`.

    Returns
    -------
    tuple, of n_classes, of tuple, of n_outcomes, of int
        Or ``OUTSIDE``.
    """
    is_class = class_columns(torch.arange(n_classes), 1 if n_classes == 2 else n_classes, positive)
    group = torch.zeros(n_classes, dtype=torch.int64)
    cells = cell_codes(constraint, is_class, group, n_groups, n_strata=n_strata)
    return tuple(map(tuple, cells.tolist()))


class CellSums(NamedTuple):
    """Weighted sums of the outcome, and of the weights, in each cell.

    Sums, not rates, are what may be added and averaged over batches.
    """

    outcome: Tensor
    """Shape (n_cells,)."""
    weight: Tensor
    """Shape (n_cells,)."""

    def plus(self, other: CellSums) -> CellSums:
        """Return the sums over the rows of both."""
        return CellSums(self.outcome + other.outcome, self.weight + other.weight)


def cell_sums(
    outcome: Tensor, cell: Tensor, n_cells: int, weight: Tensor | None = None
) -> CellSums:
    """Sum outcomes and weights in each cell.

    Parameters
    ----------
    outcome : Tensor of shape (n, n_outcomes)
    cell : Tensor of shape (n, n_outcomes), int64
        Cell codes; ``OUTSIDE`` is left out.
    n_cells : int
    weight : Tensor of shape (n,), optional
        Sample weights; by default each row counts once.

    Returns
    -------
    CellSums
    """
    if weight is None:
        weight = outcome.new_ones(cell.shape[0])
    weight = weight.unsqueeze(-1).expand_as(cell).flatten()
    # The rows outside go to one more cell at the end, which is cut off again: no boolean
    # indexing, which would make a GPU wait.
    index = torch.where(cell < 0, n_cells, cell).flatten()
    outcome = outcome.flatten(-2) * weight
    outcome_sum = outcome.new_zeros(*outcome.shape[:-1], n_cells + 1)
    outcome_sum = outcome_sum.index_add(-1, index, outcome)
    weight_sum = weight.new_zeros(n_cells + 1).index_add(0, index, weight)
    return CellSums(over_processes(outcome_sum[..., :-1]), over_processes(weight_sum[:-1]))


def rates(sums: CellSums) -> Tensor:
    """Rate of the outcome in each cell, shape (n_cells,); 0 where a cell is empty."""
    return sums.outcome / sums.weight.clamp_min(torch.finfo(sums.weight.dtype).tiny)


def pooled_rates(sums: CellSums, n_groups: int) -> Tensor:
    """Rate over all groups together, repeated for each cell, shape (n_cells,)."""
    outcome = sums.outcome.unflatten(-1, (-1, n_groups)).sum(-1)
    weight = sums.weight.unflatten(-1, (-1, n_groups)).sum(-1)
    return rates(CellSums(outcome, weight)).repeat_interleave(n_groups, -1)


def soft_outcome(outcome_logits: Tensor, temperature: float) -> Tensor:
    """Differentiable outcome: ``sigmoid(logit / temperature)``, a probability."""
    return torch.sigmoid(outcome_logits / temperature)


def hard_outcome(outcome_logits: Tensor) -> Tensor:
    """Outcome of the prediction that a user sees: 1.0 where the logit is positive.

    NaN where it is not finite: what decides nothing counts as no decision.
    """
    outcome = (outcome_logits > 0).to(outcome_logits.dtype)
    return torch.where(outcome_logits.isfinite(), outcome, torch.nan)
