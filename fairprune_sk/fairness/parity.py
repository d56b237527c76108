"""What must be fair on one table: a requirement, between these groups, under these conditions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fairprune_sk.fairness.constraints import (
    CellSums,
    cell_sums,
    class_columns,
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


# Part of a bound that is aimed at.
AIM = 0.8


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
    n_outcomes : int
        Outcomes of a row, each in a cell of its own: 1, or as many as there are classes.
    optimism : Tensor of shape (n_cells,) or None
        How far the rate of each cell falls from the rows that a network learns from to others.
        Where it is known, the tolerance is for those others.
    """

    requirement: Requirement
    groups: tuple[str, ...]
    conditions: tuple[str, ...]
    n_rows: Tensor
    constrained: Tensor
    positive: int = 1
    n_outcomes: int = 1
    optimism: Tensor | None = None

    @property
    def n_groups(self) -> int:
        """Number of groups, the fastest index of a cell."""
        return len(self.groups)

    @property
    def n_cells(self) -> int:
        """Number of (outcome, event, stratum, group) combinations."""
        return len(self.constrained)

    def to(self, device: torch.device) -> Parity:
        """Return the same on another device."""
        optimism = None if self.optimism is None else self.optimism.to(device)
        return replace(self, constrained=self.constrained.to(device), optimism=optimism)

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
        return None if self.cell_bound is None else AIM * self.cell_bound

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

    def sums(self, outcome: Tensor, batch: Batch) -> CellSums:
        """Sum outcomes in each cell, less those of the dense network where the batch has them.

        Parameters
        ----------
        outcome : Tensor of shape (n, n_outcomes)
        batch : Batch
            With cells.

        Returns
        -------
        CellSums
        """
        assert batch.cell is not None
        if batch.reference is not None:
            outcome = outcome - batch.reference
        return cell_sums(outcome, batch.cell, self.n_cells, batch.weight)

    def expected(self, sums: CellSums) -> CellSums:
        """Return the sums over rows that the tolerance is for, from those over training rows."""
        if self.optimism is None:
            return sums
        return CellSums(sums.outcome - self.optimism.to(sums.weight) * sums.weight, sums.weight)

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
        sums = self.expected(sums)
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
        sums = self.expected(sums)
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
        """Rates as they are to be expected, and how well as many rows know them.

        Each rate is judged as Agresti and Caffo do, with one success and one failure more. That is
        the noise of rows to come, or of these, not that of the optimism. Outcomes that are
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
        expected = self.expected(sums)
        counted = self.constrained & (expected.weight > 0)
        weight = torch.where(counted, expected.weight, 0.0).double().cpu().numpy()
        rate = rates(expected).double().cpu().numpy().clip(0.0, 1.0)
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
