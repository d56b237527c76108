"""What a certificate costs in rows, how often it is wrong, and how long it takes.

Prints the tables of docs/unseen.md, section "Certificates"::

    python examples/certificates.py --data ../shared/data

The first table takes the counts of groups and labels from Adult's test part and from 1,852 rows
of COMPAS (adult.csv.gz and compas.csv.gz in --data), the second draws 10,000 samples of tables
whose true gap is the tolerance, and the last one times a call. No network is fitted.
"""

from __future__ import annotations

import argparse
import time
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom, binomtest, norm
from sklearn.base import BaseEstimator, ClassifierMixin

from fairprune_sk import certify
from fairprune_sk.assessment.proportions import Counts, Excess, upper_excess

ALPHA = 0.05
RATES = {"adult": (0.07, 0.6), "compas": (0.3, 0.3)}
"""Rates that all groups show among the negatives, and among the positives."""

N_SAMPLES = 10_000


def tables(folder: Path) -> list[tuple[str, pd.DataFrame, tuple[float, float], float | None]]:
    """Rows by group and label, the rates that are seen there, and the target for the bound."""
    adult = pd.read_csv(folder / "adult.csv.gz")
    adult = adult[adult["split"] == "test"]
    compas = pd.read_csv(folder / "compas.csv.gz").sample(1852, random_state=0)
    race, y = compas["race"], compas["two_year_recid"]
    three = race.where(race.isin(["African-American", "Caucasian"]), "Other")
    african_american = race == "African-American"

    def equal(n: int) -> pd.DataFrame:
        return pd.DataFrame([[round(n * 0.375), round(n * 0.125)]] * 2)

    return [
        (
            "Adult, test part, by sex",
            pd.crosstab(adult["sex"], adult["income"] == ">50K"),
            RATES["adult"],
            0.040,
        ),
        ("COMPAS, African-American or not", pd.crosstab(african_american, y), (0.3, 0.3), 0.070),
        ("COMPAS, by sex", pd.crosstab(compas["sex"], y), (0.3, 0.3), 0.070),
        ("COMPAS, three races", pd.crosstab(three, y), (0.3, 0.3), 0.070),
        ("5,000 rows, two equal groups", equal(5000), RATES["adult"], 0.050),
        ("20,000 rows, two equal groups", equal(20_000), RATES["adult"], 0.025),
    ]


def pairs_of(counts: pd.DataFrame, rates: tuple[float, float]) -> list[tuple[Counts, Counts]]:
    """Ordered pairs of groups for each label, as near to these rates as counts can be."""
    cells = [
        [Counts(round(rate * n), int(n)) for n in counts.iloc[:, label]]
        for label, rate in enumerate(rates)
    ]
    return [pair for label in cells for pair in permutations(label, 2)]


def clopper_pearson(pairs: list[tuple[Counts, Counts]], n_cells: int) -> float:
    """Largest difference between the ends of exact intervals of 1 − alpha / cells."""
    ends = {
        cell: binomtest(cell.hits, cell.n).proportion_ci(1 - ALPHA / n_cells)
        for pair in pairs
        for cell in pair
    }
    return max(ends[first].high - ends[second].low for first, second in pairs)


def bounds_table(folder: Path) -> pd.DataFrame:
    """Upper bounds where no gap is seen, beside what normal rates and exact intervals give."""
    lines = []
    for name, counts, rates, target in tables(folder):
        pairs = pairs_of(counts, rates)
        upper = max(upper_excess(*pair, ALPHA, "difference") for pair in pairs)
        spread = max(np.sqrt(sum(c.rate * (1 - c.rate) / c.n for c in pair)) for pair in pairs)
        lines.append(
            {
                "table": name,
                "rows": f"{counts.to_numpy().sum():,}",
                "bound": f"{upper:.4f}",
                "target": f"{target:.3f}",
                "Clopper-Pearson with Bonferroni": f"{clopper_pearson(pairs, counts.size):.3f}",
                "if rates were normal": f"{-norm.ppf(ALPHA) * spread:.4f}",
            }
        )
    return pd.DataFrame(lines)


def false_certificates(n: list[int], rates: list[float], seed: int) -> int:
    """Count the samples, of 10,000, whose bound is below the true gap of the rates.

    The largest of the pairs' bounds is below it where each pair excludes it.
    """
    gap = max(rates) - min(rates)
    hits = np.random.default_rng(seed).binomial(n, rates, (N_SAMPLES, len(n)))
    pairs = sorted(permutations(range(len(n)), 2), key=lambda p: rates[p[1]] - rates[p[0]])
    known: dict[tuple[Counts, Counts], bool] = {}

    def excluded(first: Counts, second: Counts) -> bool:
        if (first, second) not in known:
            known[first, second] = Excess(first, second, ALPHA).excluded(gap)
        return known[first, second]

    wrong = 0
    for row in hits:
        cells = [Counts(int(x), m) for x, m in zip(row, n, strict=True)]
        wrong += all(excluded(cells[i], cells[j]) for i, j in pairs)
    return wrong


def exact_share(n: list[int], rates: list[float]) -> float:
    """Chance that the bound of one pair is too small, summed over all samples."""
    (n1, n2), (p1, p2) = n, rates
    chance = np.outer(binom.pmf(range(n1 + 1), n1, p1), binom.pmf(range(n2 + 1), n2, p2))
    share = 0.0
    for x1, x2 in np.argwhere(chance > 1e-8).tolist():
        if Excess(Counts(x1, n1), Counts(x2, n2), ALPHA).excluded(p1 - p2):
            share += chance[x1, x2]
    return share


def errors_table() -> pd.DataFrame:
    """Count false certificates where the true gap is as large as the bound may be."""
    cases = [
        ("2 groups of 100 and 400", [100, 400], [0.35, 0.30]),
        ("2 groups of 590 and 3,256", [590, 3256], [0.64, 0.60]),
        ("2 groups of 1,000, rates near 0", [1000, 1000], [0.04, 0.01]),
        ("3 groups, one apart", [500, 300, 100], [0.30, 0.30, 0.40]),
        ("3 groups, one between", [500, 300, 100], [0.30, 0.35, 0.40]),
        ("8 groups, two apart", [400] * 8, [0.30, *[0.35] * 6, 0.40]),
        ("8 groups, one apart", [50, *[1000] * 7], [0.5, *[0.3] * 7]),
    ]
    lines = []
    for seed, (name, n, rates) in enumerate(cases):
        wrong = false_certificates(n, rates, seed)
        gap = max(rates) - min(rates)
        lines.append(
            {"table": name, "true gap": f"{gap:.2f}", "false": f"{100 * wrong / N_SAMPLES:.2f}%"}
        )
    return pd.DataFrame(lines)


class Guess(ClassifierMixin, BaseEstimator):
    """Classifier whose only input is its prediction."""

    classes_ = np.array([0, 1])

    def predict(self, X):
        """Return the first column."""
        return X[:, 0]


def seconds(n_groups: int, n_rows: int = 16_000) -> float:
    """Time of one call, equalized odds, with nothing in the cache."""
    rng = np.random.default_rng(0)
    y, group = rng.binomial(1, 0.25, n_rows), rng.integers(n_groups, size=n_rows)
    predicted = rng.binomial(1, np.where(y == 1, 0.6, 0.07))
    upper_excess.cache_clear()
    start = time.process_time()
    certify(Guess(), predicted[:, None], y, sensitive_features=group, tolerance=0.05)
    return time.process_time() - start


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    folder = parser.parse_args().data
    for table in (bounds_table(folder), errors_table()):
        print(markdown(table), end="\n\n")
    for n, rates in (([100, 400], [0.35, 0.30]), ([1000, 1000], [0.04, 0.01])):
        share = 100 * exact_share(n, rates)
        print(f"Bound of the pair too small, summed over all samples of {n}, {rates}: {share:.2f}%")
    for n_groups in (2, 8):
        print(f"16,000 rows, {n_groups} groups: {seconds(n_groups):.2f} s of one core")


def markdown(table: pd.DataFrame) -> str:
    """Lay out a table of strings."""
    lines = [[*table], ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
