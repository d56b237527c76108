"""Many methods over many data sets: their ranks, and whether these differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats

from fairprune_sk.benchmarks.statistics.fronts import hypervolume
from fairprune_sk.benchmarks.statistics.results import (
    DATA_SET,
    VALUES,
    at_every_sparsity,
    at_sparsity,
    at_tolerance,
    checked,
    only_present,
)


class Ranks(NamedTuple):
    """Ranks of methods over data sets, and whether they differ.

    Attributes
    ----------
    ranks : Series
        Average rank of each method, 1 being the best; the best first.
    scores : DataFrame
        What was ranked: a row for each data set, a column for each method.
    statistic, p_value : float
        Friedman's: of all methods being the same.
    posthoc : DataFrame
        p-value of each pair of methods, adjusted for the number of pairs.
    critical_difference : float
        Nemenyi's: ranks that are further apart differ. NaN for Wilcoxon's test.
    """

    ranks: pd.Series
    scores: pd.DataFrame
    statistic: float
    p_value: float
    posthoc: pd.DataFrame
    critical_difference: float


def average_ranks(
    results: pd.DataFrame,
    value: str = "hypervolume",
    *,
    sparsity: float = 0.9,
    methods: Sequence[str] | None = None,
    tolerance: float | None = None,
    posthoc: str = "nemenyi",
    alpha: float = 0.05,
) -> Ranks:
    """Rank methods on each data set, and test whether their average ranks differ.

    Friedman's test asks whether any method differs, the post-hoc test which do. Both take the
    data sets as independent, which those of one table are not: the p-values are too small by
    what they share.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the package.
    value : {"hypervolume", "gap", "accuracy"}
        Averaged over seeds on each data set; the smallest gap is the best.
    sparsity : float
        Dense methods take part at each.
    methods : sequence of str, optional
        By default all, and at least three.
    tolerance : float, optional
        Needed for gap and accuracy of methods that were fitted at several.
    posthoc : {"nemenyi", "wilcoxon"}
        Nemenyi's test of average ranks, or Wilcoxon's signed-rank tests with Holm's correction,
        which do not depend on the other methods and need more data sets.
    alpha : float
        Level of the critical difference.

    Returns
    -------
    Ranks

    Raises
    ------
    ValueError
        If there are fewer than three methods or two data sets, or a method has no fit on one.

    References
    ----------
    J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import average_ranks
    >>> gaps = {"fairpruner": 0.02, "snip": 0.10, "random": 0.12}
    >>> results = pd.DataFrame([
    ...     {"table": table, "sensitive": "sex", "constraint": "equalized_odds", "seed": 0,
    ...      "sparsity": 0.9, "tolerance": float("nan"), "error": "", "accuracy": 0.8,
    ...      "method": method, "gap": gap}
    ...     for table in ("adult", "acs", "law") for method, gap in gaps.items()
    ... ])
    >>> found = average_ranks(results, "gap")
    >>> print(found.ranks.to_dict(), f"p={found.p_value:.2f}")
    {'fairpruner': 1.0, 'snip': 2.0, 'random': 3.0} p=0.05
    """
    if value not in VALUES:
        raise ValueError(f"Got value={value!r}, but expected one of {list(VALUES)}.")
    if posthoc not in ("nemenyi", "wilcoxon"):
        raise ValueError(f"Got posthoc={posthoc!r}, but expected 'nemenyi' or 'wilcoxon'.")
    frame = hypervolume(results) if value == "hypervolume" else checked(results)
    frame = at_sparsity(at_every_sparsity(frame), sparsity)
    if methods is not None:
        frame = frame[frame["method"].isin(only_present(frame, methods))]
    if value != "hypervolume":
        frame = at_tolerance(frame, tolerance)
    scores = frame.groupby([*DATA_SET, "method"])[value].mean().unstack("method")
    for method, row in scores.isna().T.iterrows():
        if row.any():
            where = " / ".join(map(str, row.index[row][0]))
            raise ValueError(
                f"Got no {value} of {method!r} on {where} at sparsity={sparsity}, but expected "
                "every method on every data set: choose with methods=."
            )
    if len(scores) < 2 or len(scores.columns) < 3:
        raise ValueError(
            f"Got {len(scores.columns)} methods on {len(scores)} data sets, but expected at "
            "least 3 methods on 2 data sets."
        )
    # Equal numbers that were averaged in another order must tie.
    ranked = scores.round(12).rank(axis=1, ascending=not VALUES[value])
    ranks = ranked.mean().sort_values(kind="stable")
    scores, ranked = scores[ranks.index], ranked[ranks.index]
    statistic, p_value = 0.0, 1.0
    if (ranked.nunique(axis=1) > 1).any():  # otherwise 0 / 0
        statistic, p_value = stats.friedmanchisquare(*ranked.to_numpy().T)
    names, critical = list(ranks.index), np.nan
    if posthoc == "nemenyi":
        pairs = scikit_posthocs.posthoc_nemenyi_friedman(ranked.to_numpy())
        q = stats.studentized_range.ppf(1 - alpha, len(names), np.inf) / np.sqrt(2)
        critical = float(q * np.sqrt(len(names) * (len(names) + 1) / (6 * len(scores))))
    else:
        pairs = scikit_posthocs.posthoc_wilcoxon(
            scores.round(12).to_numpy().T, zero_method="zsplit", p_adjust="holm"
        )
    pairs = pairs.set_axis(names, axis=0).set_axis(names, axis=1)
    ranks.index.name = ranks.name = None
    return Ranks(ranks, scores, float(statistic), float(p_value), pairs, critical)
