"""Figures of a benchmark: each function takes its results and returns a Figure.

Results are the tidy DataFrame of :mod:`fairprune_sk.benchmarks.statistics`. Intervals are 95% of
Student's t over seeds. A method has the same colour and marker in every figure. Figures stand
alone: ``figure.savefig("trade_off.pdf")`` writes one, and nothing has to be closed.

Needs the extra ``benchmark``.
"""

try:
    from fairprune_sk.benchmarks.figures.looks import Style, styles
    from fairprune_sk.benchmarks.figures.methods import (
        against_sparsity,
        critical_difference,
        trade_off,
    )
    from fairprune_sk.benchmarks.figures.runs import along_the_line, convergence, iterations
    from fairprune_sk.benchmarks.figures.variants import LEVELS, ablation, compare_variants
except ModuleNotFoundError as error:
    raise ImportError(
        "fairprune_sk.benchmarks.figures needs matplotlib and scikit-posthocs: "
        "pip install fairprune_sk[benchmark]"
    ) from error

__all__ = [
    "LEVELS",
    "Style",
    "ablation",
    "against_sparsity",
    "along_the_line",
    "compare_variants",
    "convergence",
    "critical_difference",
    "iterations",
    "styles",
    "trade_off",
]
