"""What must be fair on one table: a requirement, between these groups, under these conditions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairprune_sk.distributed import over_processes
from fairprune_sk.fairness.constraints import (
    OUTSIDE,
    CellSums,
    cell_sums,
    class_columns,
    hard_outcome,
    margins,
    pooled_rates,
    rates,
)
from fairprune_sk.fairness.intervals import interval_of_gap
from fairprune_sk.fairness.requirement import Requirement
from fairprune_sk.networks.batch import Batch

# A selection rate below this is compared as if it were this large: a ratio to nothing is no
# number.
SMALLEST_RATE = 0.01


# Part of a bound that is aimed at: on the rows at hand, and on others, where the gap was a third
# larger than expected on the mean of the tables that this was developed on (docs/method.md).
AIM, AIM_UNSEEN = 0.8, 0.6


@dataclass(frozen=True, eq=False)
class Parity:
    """A requirement on one table: whose rates must be equal, given what, and how nearly.

    Attributes
    ----------
    requirement : Requirement
    groups : tuple of str
        Names of the groups, by code.
    conditions : tuple of str
        What the rates of the groups are conditioned on (event, class and control stratum): a name
        for each ``n_groups`` cells.
    n_rows : Tensor of shape (n_cells,), int64
        Rows in each cell; of weighted rows, Kish's effective number.
    constrained : Tensor of shape (n_cells,), bool
        False for the cells that are too small to be constrained.
    positive : {0, 1}
        Code of the class, of two, that counts as selected; of more, each does in turn.
    n_strata : int
        Control strata within which groups are compared.
    n_outcomes : int
        Outcomes of a row, each in a cell of its own: 1, or as many as there are classes.
    first_cells : tuple of tuple of int
        For each class and outcome; see :func:`constraints.first_cells`.
    unseen : bool
        Whether the tolerance is for rows that the network does not learn from: rates are then those
        of expected labels and groups.
    """

    requirement: Requirement
    groups: tuple[str, ...]
    conditions: tuple[str, ...]
    n_rows: Tensor
    constrained: Tensor
    positive: int = 1
    n_strata: int = 1
    n_outcomes: int = 1
    first_cells: tuple[tuple[int, ...], ...] = ()
    unseen: bool = False

    @property
    def n_groups(self) -> int:
        """Number of groups, the fastest index of a cell."""
        return len(self.groups)

    @property
    def n_within(self) -> int:
        """Number of (stratum, group) combinations."""
        return self.n_strata * self.n_groups

    @property
    def n_cells(self) -> int:
        """Number of (outcome, event, stratum, group) combinations."""
        return len(self.constrained)

    def to(self, device: torch.device) -> Parity:
        """Return the same on another device."""
        return replace(self, constrained=self.constrained.to(device))

    @property
    def cell_bound(self) -> float | None:
        """Bound on the difference of each cell to the pooled rate that keeps the gap in bounds.

        Two groups that are each within half the tolerance of the pooled rate are within the
        tolerance of each other; for ratios, ``(1 + b) / (1 − b) = 1 / (1 − tolerance)``. None
        where there is no tolerance.
        """
        tolerance = self.requirement.tolerance
        if tolerance is None or self.requirement.gap_method == "to_overall":
            return tolerance
        by_difference = self.requirement.constraint.comparison == "difference"
        return tolerance / 2 if by_difference else tolerance / (2.0 - tolerance)

    @property
    def enforced_bound(self) -> float | None:
        """Bound of each cell that a solver aims at, a little within the other.

        Rates move in steps of one row, and multipliers end where a rate has just reached its bound:
        half of the time a row beyond it.
        """
        aim = AIM_UNSEEN if self.unseen else AIM
        return None if self.cell_bound is None else aim * self.cell_bound

    def outcome_logits(self, logits: Tensor, y_true: Tensor) -> Tensor:
        """Numbers whose sign is the outcome that the constraint counts.

        Parameters
        ----------
        logits : Tensor of shape (n, n_columns)
        y_true : Tensor of shape (n,)

        Returns
        -------
        Tensor of shape (n, n_outcomes)
        """
        is_class = class_columns(y_true, logits.shape[-1], self.positive)
        margin = margins(logits)
        if self.positive == 0:
            # Class 0 is what is predicted at 0 as well.
            tiny = torch.finfo(margin.dtype).tiny
            margin = torch.where(margin > 0, -margin, (-margin).clamp_min(tiny))
        return self.requirement.constraint.outcome_logits(margin, is_class)

    def outcomes_of_classes(self, logits: Tensor) -> Tensor:
        """Hard outcomes that rows would have if they were of each class.

        Parameters
        ----------
        logits : Tensor of shape (n, n_columns)

        Returns
        -------
        Tensor of shape (n, n_classes, n_outcomes)
        """
        y = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        n_classes = max(logits.shape[1], 2)
        each = [hard_outcome(self.outcome_logits(logits, y + code)) for code in range(n_classes)]
        return torch.stack(each, 1)

    def sums(
        self,
        outcome_of: Callable[[Tensor], Tensor],
        logits: Tensor,
        batch: Batch,
        *,
        labels: bool = False,
    ) -> CellSums:
        """Sum outcomes in each cell, less those of the dense network where the batch has them.

        Where the batch knows the chance of each class in each group, a row counts in the cells of
        all of them, by its chance of being of them, with the outcome that it would have.

        Parameters
        ----------
        outcome_of : callable
            From outcome logits to outcomes: hard or soft.
        logits : Tensor of shape (n, n_columns)
        batch : Batch
            With cells.
        labels : bool
            Whether to count by the labels, whatever is known of chances.

        Returns
        -------
        CellSums
        """
        if batch.chance is None or labels:
            assert batch.cell is not None
            outcome = outcome_of(self.outcome_logits(logits, batch.y))
            if batch.reference is not None:
                rows = torch.arange(len(batch.y), device=batch.y.device)
                outcome = outcome - batch.reference[rows, batch.y]
            return cell_sums(outcome, batch.cell, self.n_cells, batch.weight)
        outcome_sum, weight_sum = logits.new_zeros(2, self.n_cells)
        for code, firsts in enumerate(self.first_cells):
            outcome = outcome_of(self.outcome_logits(logits, torch.full_like(batch.y, code)))
            if batch.reference is not None:
                outcome = outcome - batch.reference[:, code]
            weight = batch.chance[:, code]
            if batch.weight is not None:
                weight = weight * batch.weight.unsqueeze(-1)
            found, total = outcome.T @ weight, weight.sum(0)
            for place, first in enumerate(firsts):
                if first != OUTSIDE:
                    cells = torch.arange(first, first + len(total), device=total.device)
                    outcome_sum = outcome_sum.index_add(0, cells, found[place])
                    weight_sum = weight_sum.index_add(0, cells, total)
        return CellSums(over_processes(outcome_sum), over_processes(weight_sum))

    def differences(self, sums: CellSums) -> Tensor:
        """Signed difference of each cell's rate to the pooled rate of its groups.

        Where the constraint compares ratios, it is in units of the pooled rate. Empty cells, and
        cells that are not constrained, have difference 0.

        Parameters
        ----------
        sums : CellSums
            Over training rows.

        Returns
        -------
        Tensor of shape (n_cells,)
        """
        pooled = pooled_rates(sums, self.n_groups)
        difference = rates(sums) - pooled
        if self.requirement.constraint.comparison == "ratio":
            difference = difference / pooled.clamp_min(SMALLEST_RATE)
        return torch.where(self.constrained & (sums.weight > 0), difference, 0.0)

    def gap(self, sums: CellSums) -> Tensor:
        """Largest gap over the conditions, as fairlearn's metrics see it.

        Parameters
        ----------
        sums : CellSums
            Sums over the whole training table.

        Returns
        -------
        Tensor of shape ()
            The largest difference of two rates (of a group and the pooled rate, for
            ``gap_method="to_overall"``), or 1 minus their ratio; a fraction in [0, 1].
        """
        counted = (self.constrained & (sums.weight > 0)).unflatten(-1, (-1, self.n_groups))
        rate = rates(sums).unflatten(-1, (-1, self.n_groups))
        high = torch.where(counted, rate, -torch.inf)
        low = torch.where(counted, rate, torch.inf)
        if self.requirement.gap_method == "between_groups":
            high, low = high.amax(-1), low.amin(-1)
        else:
            pooled = pooled_rates(sums, self.n_groups).unflatten(-1, (-1, self.n_groups))
            high, low = torch.maximum(high, pooled), torch.minimum(low, pooled)
        apart = high - low
        if self.requirement.constraint.comparison == "ratio":
            apart = apart / high.clamp_min(torch.finfo(high.dtype).tiny)
        return apart.clamp_min(0.0).amax()

    def judged(self, sums: CellSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rates, and how well as many rows know them.

        Each rate is judged as Agresti and Caffo do, with one success and one failure more. That is
        the noise of rows to come, or of these, not that of what is expected. Outcomes that are
        differences to those of the dense network have a larger variance than is said here.

        Parameters
        ----------
        sums : CellSums
            Over the whole training table.

        Returns
        -------
        rates, variances, weights : ndarray of shape (n_conditions, n_groups), float64
            Weights are 0 for cells that are not compared.
        """
        counted = self.constrained & (sums.weight > 0)
        weight = torch.where(counted, sums.weight, 0.0).double().cpu().numpy()
        rate = rates(sums).double().cpu().numpy().clip(0.0, 1.0)
        n = self.n_rows.cpu().numpy()
        mean = (n * rate + 1) / (n + 2)
        shape = (len(self.conditions), self.n_groups)
        parts = mean, mean * (1 - mean) / (n + 2), weight
        first, second, third = (part.reshape(shape) for part in parts)
        return first, second, third

    def gap_interval(self, sums: CellSums, confidence_level: float = 0.95) -> tuple[float, float]:
        """Interval of the gap, for the noise of as many rows; see :meth:`judged`.

        Parameters
        ----------
        sums : CellSums
            Over the whole training table.
        confidence_level : float

        Returns
        -------
        low, high : float
        """
        mean, variance, weight = self.judged(sums)
        return interval_of_gap(
            mean[..., None],
            variance[..., None],
            weight,
            self.requirement.constraint.comparison,
            confidence_level,
            self.requirement.gap_method,
        )

    def violation(self, sums: CellSums) -> float:
        """Gap minus the tolerance; minus infinity where there is no tolerance.

        Parameters
        ----------
        sums : CellSums
            Sums over a whole table.
        """
        tolerance = self.requirement.tolerance
        return -torch.inf if tolerance is None else float(self.gap(sums)) - tolerance
