"""What can be said from the results of a benchmark: intervals, tests, fronts, ranks.

Everything reads one tidy DataFrame, ``results``, with one row for each fit and measured gap:

``table``, ``sensitive``, ``constraint``
    The data set: where, between whose groups, and which gap the row measures.
``method``, ``sparsity``, ``tolerance``, ``seed``
    The fit. The sparsity of a dense method is 0, the tolerance of a method without one NaN.
``accuracy``, ``gap``, ``noise_floor``, ``dense_accuracy``, ``dense_gap``, ``majority_share``
    Measured on the test part, as fractions; the last is the accuracy of a constant classifier.
``n_train``, ``n_test``
    Rows of the two parts.
``error``
    Why the fit failed; empty where it did not.

A *cell* is a data set at one sparsity. A method that was only ever run at sparsity 0 is dense and
takes part in the comparisons at every sparsity. Failed fits, and those whose accuracy or gap is
NaN, are left out and counted; a seed that one of two methods lost is lost to their comparison.

Needs the extra ``benchmark``.
"""

try:
    from fairprune_sk.benchmarks.statistics.comparisons import compare, summarise
    from fairprune_sk.benchmarks.statistics.fronts import hypervolume, pareto_front
    from fairprune_sk.benchmarks.statistics.merits import (
        accuracy_at_gap,
        excess_cut,
        iterations_to_reach,
    )
    from fairprune_sk.benchmarks.statistics.ranks import Ranks, average_ranks
    from fairprune_sk.benchmarks.statistics.results import (
        CELL,
        DATA_SET,
        FIT,
        UNAWARE,
        VALUES,
        at_every_sparsity,
        at_tolerance,
        checked,
    )
    from fairprune_sk.benchmarks.statistics.significance import (
        Interval,
        TTest,
        corrected_t_test,
        holm,
        mean_interval,
    )
except ModuleNotFoundError as error:
    raise ImportError(
        "fairprune_sk.benchmarks.statistics needs moocore, scikit-posthocs and statsmodels: "
        "pip install fairprune_sk[benchmark]"
    ) from error

__all__ = [
    "CELL",
    "DATA_SET",
    "FIT",
    "UNAWARE",
    "VALUES",
    "Interval",
    "Ranks",
    "TTest",
    "accuracy_at_gap",
    "at_every_sparsity",
    "at_tolerance",
    "average_ranks",
    "checked",
    "compare",
    "corrected_t_test",
    "excess_cut",
    "holm",
    "hypervolume",
    "iterations_to_reach",
    "mean_interval",
    "pareto_front",
    "summarise",
]
