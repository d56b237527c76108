"""How often the interval of a gap covers it, and how much the gap and the corrected one lean.

Tables are drawn from known rates, again and again: 2 to 8 groups of 100 to 10,000 rows, gaps of 0,
0.02, 0.05 and 0.2, rates from 0.05 up, one event (a rate) or two (equalized odds)::

    python examples/gap_intervals.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import pandas as pd

from fairprune_sk.assessment.gaps import Cells, gaps_by_class, largest_gap
from fairprune_sk.assessment.noise import estimate_of, gap_interval

SIZES = {"100": 100, "1,000": 1000, "10,000": 10_000, "100 to 10,000": None}


def cells_of(hits: np.ndarray, n: np.ndarray, comparison: str = "difference") -> Cells:
    """Cells of one outcome: hits and rows by event and group."""
    hits, n = (a[:, None, None, :] for a in (hits, n))
    pooled = hits.sum(-1, keepdims=True) / n.sum(-1, keepdims=True)
    shares = (hits / n)[..., None]
    return Cells(comparison, n, n.astype(float), shares, pooled[..., None], np.array([[1]]))


def configurations() -> Iterator[tuple[dict[str, object], np.ndarray, np.ndarray]]:
    """Each with its rates and rows, shape (n_events, n_groups)."""
    for n_groups in (2, 3, 5, 8):
        for size, n in SIZES.items():
            rows = np.full(n_groups, n) if n else np.geomspace(100, 10_000, n_groups).astype(int)
            for base in (0.05, 0.3):
                for gap in (0.0, 0.02, 0.05, 0.2):
                    # The others in the middle, at the ends, or evenly between them.
                    places = {"middle": np.full(n_groups, 0.5), "ends": np.arange(n_groups) % 2}
                    places["middle"][:2] = 0.0, 1.0
                    places["even"] = np.linspace(0, 1, n_groups)
                    few = 1 if gap == 0 or n_groups == 2 else 3
                    for place, at in list(places.items())[:few]:
                        rates = base + gap * at
                        for n_events in (1, 2):
                            known = {"groups": n_groups, "rows": size, "rate": base, "gap": gap}
                            known |= {"others": place, "events": n_events}
                            # The second event has a smaller gap, and so adds noise only.
                            events = np.stack([rates, base + gap / 2 * at])[:n_events]
                            yield known, events, np.broadcast_to(rows, events.shape)


def percentiles(cells: Cells, rng: np.random.Generator, n_draws: int = 200) -> tuple[float, float]:
    """Interval of the percentile bootstrap, which knows nothing of the lean."""
    n, rates = cells.n[:, 0, 0], cells.shares[:, 0, 0, :, 0]
    drawn = rng.binomial(n, rates, (n_draws, *n.shape)) / n
    gaps = np.ptp(drawn, axis=-1).max(-1)
    return tuple(np.quantile(gaps, [0.025, 0.975]))


def tried(
    rates: np.ndarray, n: np.ndarray, n_resamples: int, n_corrected: int, seed: int
) -> dict[str, float]:
    """Draw tables from rates, and compare what is estimated with the true gap."""
    rng, truth = np.random.default_rng(seed), float(np.ptp(rates, axis=-1).max())
    drawn = [cells_of(hits, n) for hits in rng.binomial(n, rates, (n_resamples, *n.shape))]
    own = np.array([gap_interval(cells, 0.95) for cells in drawn])
    few = drawn[:n_corrected]
    old = np.array([percentiles(cells, rng) for cells in few])
    gaps = np.array([float(largest_gap(gaps_by_class(cells))) for cells in few])
    corrected = np.array([estimate_of(cells, 0.95).corrected for cells in few])

    def covered(ends: np.ndarray) -> float:
        return float(np.mean((ends[:, 0] <= truth + 1e-12) & (truth <= ends[:, 1])))

    return {
        "coverage": covered(own),
        "percentile coverage": covered(old),
        "width": np.diff(own).mean(),
        "percentile width": np.diff(old).mean(),
        "lean": gaps.mean() - truth,
        "corrected lean": corrected.mean() - truth,
        "error": np.sqrt(np.mean((gaps - truth) ** 2)),
        "corrected error": np.sqrt(np.mean((corrected - truth) ** 2)),
    }


def main() -> None:
    """Run, and print by number of groups, by rows and by gap."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--corrected", type=int, default=100, help="resamples that are corrected")
    options = parser.parse_args()
    rows = [
        known | tried(rates, n, options.resamples, options.corrected, seed)
        for seed, (known, rates, n) in enumerate(configurations())
    ]
    table = pd.DataFrame(rows)
    print(f"{len(table)} configurations, {options.resamples} resamples each\n")
    numbers = list(table)[6:]
    for name in ("groups", "rows", "gap", "events"):
        grouped = table.groupby(name)
        shown = grouped[numbers].mean()
        shown.insert(0, "least coverage", grouped["coverage"].min())
        print(shown.round(3).to_string(), end="\n\n")
    leaning = table[table["lean"] > 4 * table["error"] / np.sqrt(options.corrected)]
    share = (leaning["corrected lean"].abs() / leaning["lean"]).round(3)
    print(f"Least coverage: {table['coverage'].min():.3f}")
    print(
        f"Lean of the corrected gap, in parts of that of the measured one, where that is clear "
        f"({len(leaning)} configurations): mean {share.mean():.2f}, at most a half in "
        f"{(share <= 0.5).mean():.0%}, largest {share.max():.2f}"
    )


if __name__ == "__main__":
    main()
