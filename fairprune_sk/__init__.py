"""Neural networks for tables that are small, accurate and fair in one fit."""

from fairprune_sk.bilevel import BilevelSolver
from fairprune_sk.exceptions import CollapseWarning, ConstraintNotMetWarning, SmallGroupWarning
from fairprune_sk.persistence import load
from fairprune_sk.pruner import FairPruner
from fairprune_sk.report import FairnessReport, fairness_report
from fairprune_sk.scoring import make_fairness_scorer, sparsest_within

__all__ = [
    "BilevelSolver",
    "CollapseWarning",
    "ConstraintNotMetWarning",
    "FairPruner",
    "FairnessReport",
    "SmallGroupWarning",
    "fairness_report",
    "load",
    "make_fairness_scorer",
    "sparsest_within",
]
__version__ = "0.1.0"
