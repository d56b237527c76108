"""Requirements on made-up tables, for tests of the parts that enforce them."""

from __future__ import annotations

import torch

from fairprune_sk.fairness.constraints import CONSTRAINTS
from fairprune_sk.fairness.parity import Parity
from fairprune_sk.fairness.requirement import Requirement


def parity_of(
    name, n_groups=2, tolerance=0.05, gap_method="between_groups", comparison="difference", **kwargs
):
    """Make a parity of a constraint, by name, on ``n_cells`` or some ``constrained`` cells."""
    constraint = CONSTRAINTS[name](comparison)
    constrained = kwargs.get("constrained")
    if constrained is None:
        n_cells = kwargs.get("n_cells", len(constraint.events) * n_groups)
        constrained = torch.ones(n_cells, dtype=torch.bool)
    conditions = tuple(str(i) for i in range(len(constrained) // n_groups))
    requirement = Requirement(constraint, tolerance, gap_method)
    n_rows = torch.as_tensor(kwargs.get("n_rows", [1000] * len(constrained)))
    groups = tuple(map(str, range(n_groups)))
    return Parity(requirement, groups, conditions, n_rows, constrained)
