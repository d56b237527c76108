"""Neural networks for tables that are small, accurate and fair in one fit."""

from typing import Any

from fairprune_sk._version import __version__
from fairprune_sk.assessment.certificate import Certificate, certify
from fairprune_sk.assessment.findings import FairnessReport
from fairprune_sk.assessment.report import fairness_report
from fairprune_sk.assessment.scoring import make_fairness_scorer
from fairprune_sk.assessment.selection import sparsest_within
from fairprune_sk.exceptions import (
    CollapseWarning,
    ConstraintNotMetWarning,
    DivergedError,
    SmallGroupWarning,
    SuspectColumnWarning,
)
from fairprune_sk.pruner import FairPruner, load
from fairprune_sk.search import FairPrunerCV
from fairprune_sk.solvers import BilevelSolver

__all__ = [
    "BilevelSolver",
    "Certificate",
    "CollapseWarning",
    "ConstraintNotMetWarning",
    "DivergedError",
    "FairPruner",
    "FairPrunerCV",
    "FairnessReport",
    "SmallGroupWarning",
    "SuspectColumnWarning",
    "__version__",
    "benchmark",
    "certify",
    "fairness_report",
    "load",
    "make_fairness_scorer",
    "sparsest_within",
]


def __getattr__(name: str) -> Any:
    # By need: the competitors behind it take a second to import.
    if name == "benchmark":
        from fairprune_sk.benchmarks import benchmark

        return benchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
