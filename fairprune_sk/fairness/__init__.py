"""Fairness: between whom, of what, how nearly, and how a network is held to it.

Here belongs what a notion of group fairness is (constraints), who the groups are, what a user
requires, what that means on one table (:class:`~fairprune_sk.fairness.parity.Parity`), and the
term that it adds to an objective. Nothing here knows masks, solvers or reports.
"""

from fairprune_sk.fairness.constraints import (
    CONSTRAINTS,
    AccuracyParity,
    Constraint,
    DegradationParity,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    FalsePositiveRateParity,
)

__all__ = [
    "CONSTRAINTS",
    "AccuracyParity",
    "Constraint",
    "DegradationParity",
    "DemographicParity",
    "EqualOpportunity",
    "EqualizedOdds",
    "ErrorRateParity",
    "FalsePositiveRateParity",
]
