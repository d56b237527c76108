"""Dense classifiers that fair pruning is compared with: fair ones of three libraries, plain ones.

Each is a thin scikit-learn classifier around the library's own method, with the same ``fit(X, y,
sensitive_features=...)`` and ``predict(X, sensitive_features=...)`` and the same three families
of classifiers below it, so that what differs between two rows of a comparison is the method.
"""

from types import MappingProxyType

from fairprune_sk.benchmarks.competitors.adversarial import Adversarial
from fairprune_sk.benchmarks.competitors.base import CONSTRAINTS
from fairprune_sk.benchmarks.competitors.families import BASES, DenseNetwork, MatrixEncoder
from fairprune_sk.benchmarks.competitors.held_out import HeldOutThresholds
from fairprune_sk.benchmarks.competitors.reduction import Reduction
from fairprune_sk.benchmarks.competitors.thresholds import RelaxedThresholds, Thresholds
from fairprune_sk.benchmarks.competitors.unconstrained import Unconstrained

COMPETITORS = MappingProxyType(
    {
        **{f"exponentiated_gradient({base})": Reduction(base) for base in BASES},
        **{f"threshold_optimizer({base})": Thresholds(base) for base in BASES},
        **{f"oxonfair({base})": HeldOutThresholds(base) for base in BASES},
        **{f"error_parity({base})": RelaxedThresholds(base) for base in BASES},
        "adversarial(mlp)": Adversarial(),
    }
)
"""Every fair competitor with its defaults, by name; ``sklearn.base.clone`` before use."""

__all__ = [
    "BASES",
    "COMPETITORS",
    "CONSTRAINTS",
    "Adversarial",
    "DenseNetwork",
    "HeldOutThresholds",
    "MatrixEncoder",
    "Reduction",
    "RelaxedThresholds",
    "Thresholds",
    "Unconstrained",
]
