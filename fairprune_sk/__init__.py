"""Neural networks for tables that are small, accurate and fair in one fit."""

from typing import Any

from fairprune_sk.exceptions import CollapseWarning, ConstraintNotMetWarning, SmallGroupWarning
from fairprune_sk.persistence import load
from fairprune_sk.pruner import FairPruner
from fairprune_sk.report import FairnessReport, fairness_report
from fairprune_sk.scoring import make_fairness_scorer, sparsest_within
from fairprune_sk.solvers import BilevelSolver

__all__ = [
    "BilevelSolver",
    "CollapseWarning",
    "ConstraintNotMetWarning",
    "FairPruner",
    "FairnessReport",
    "SmallGroupWarning",
    "benchmark",
    "fairness_report",
    "load",
    "make_fairness_scorer",
    "sparsest_within",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # By need: the competitors behind it take a second to import.
    if name == "benchmark":
        from fairprune_sk.benchmarks import benchmark

        return benchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
