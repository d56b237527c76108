"""Assessment: what a classifier does to groups, and what its network costs.

Here belongs what is measured and said of a classifier after the fit: rates, gaps and their noise,
the fairness report, certificates, scorers for model selection, the cost report. Only the cost
report reads what a fit leaves; everything else takes any classifier.
"""

from fairprune_sk.assessment.certificate import Certificate, certify
from fairprune_sk.assessment.cost import CostReport, cost_report
from fairprune_sk.assessment.findings import FairnessReport
from fairprune_sk.assessment.gaps import fairness_gap
from fairprune_sk.assessment.noise import GapEstimate, gap_estimate, noise_floor
from fairprune_sk.assessment.report import fairness_report
from fairprune_sk.assessment.scoring import make_fairness_scorer
from fairprune_sk.assessment.selection import sparsest_within

__all__ = [
    "Certificate",
    "CostReport",
    "certify",
    "FairnessReport",
    "GapEstimate",
    "cost_report",
    "fairness_gap",
    "fairness_report",
    "gap_estimate",
    "make_fairness_scorer",
    "noise_floor",
    "sparsest_within",
]
