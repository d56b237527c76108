"""What an estimator was asked to hold: a constraint with its bound, however it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairlearn import reductions
from fairlearn.reductions import Moment, UtilityParity

from fairprune_sk.fairness.constraints import CONSTRAINTS, Constraint

MOMENTS: dict[str, type[UtilityParity]] = {
    name: getattr(reductions, kind.moment) for name, kind in CONSTRAINTS.items() if kind.moment
}
"""Fairlearn's moment for each constraint that has one."""


@dataclass(frozen=True)
class Requirement:
    """A constraint and how far it may be missed.

    Attributes
    ----------
    constraint : Constraint
    tolerance : float or None
        Largest allowed gap; None for a penalty without a bound.
    gap_method : {"between_groups", "to_overall"}
    """

    constraint: Constraint
    tolerance: float | None
    gap_method: str


def requirement_of(estimator: Any) -> Requirement | None:
    """Read the requirement off an estimator's parameters.

    A moment of ``fairlearn.reductions`` brings its own bound, and compares each group with all
    rows together, as fairlearn does; for every other constraint ``tolerance`` and ``gap_method``
    are the estimator's.

    Parameters
    ----------
    estimator : FairPruner
        Fitted or not.

    Returns
    -------
    Requirement or None
        None where nothing is constrained.

    Raises
    ------
    ValueError
        If a moment cannot serve as a constraint.
    """
    constraint = estimator.constraint
    if constraint is None or estimator.fairness_weight == 0:
        return None
    if isinstance(constraint, Moment):
        return _from_moment(constraint)
    if isinstance(constraint, str):
        constraint = CONSTRAINTS[constraint]()
    tolerance = None if estimator.tolerance is None else float(estimator.tolerance)
    return Requirement(constraint, tolerance, estimator.gap_method)


def _from_moment(moment: Moment) -> Requirement:
    kind = {known: CONSTRAINTS[name] for name, known in MOMENTS.items()}.get(type(moment))
    if kind is None:
        known = ", ".join(known.__name__ for known in MOMENTS.values())
        raise ValueError(
            f"Got constraint={type(moment).__name__}(...), but expected one of fairlearn's "
            f"parity moments: {known}."
        )
    if moment.ratio == 1.0:
        return Requirement(kind(), float(moment.eps), "to_overall")
    if moment.eps:
        raise ValueError(
            f"Got {type(moment).__name__} with ratio_bound_slack={moment.eps}, but expected a "
            "ratio bound without slack: put the slack into ratio_bound."
        )
    # fairlearn's bound: neither rate is less than `ratio` times the other.
    return Requirement(kind("ratio"), 1.0 - float(moment.ratio), "to_overall")
