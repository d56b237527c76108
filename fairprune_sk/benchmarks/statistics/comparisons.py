"""What one method does in each cell, and against each other method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fairprune_sk.benchmarks.statistics.fronts import hypervolume
from fairprune_sk.benchmarks.statistics.results import (
    CELL,
    FIT,
    VALUES,
    at_every_sparsity,
    checked,
    only_present,
)
from fairprune_sk.benchmarks.statistics.significance import (
    TTest,
    corrected_t_test,
    holm,
    mean_interval,
)


def summarise(results: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Average every method over its seeds, cell by cell.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the package.
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row for each cell, method and tolerance. ``accuracy`` and ``gap`` are means, with
        ``_low``, ``_high`` (Student's t interval) and ``_sd``; ``noise_floor`` is a mean, and
        ``excess_gap`` the mean gap less it, negative where the gap is below the noise.
        ``points_lost`` is 100 · (dense accuracy − accuracy). ``n_seeds`` fits are behind the row;
        ``n_failed`` more failed, and a row of which all failed has NaN figures.

    Raises
    ------
    ValueError
        If a column is missing, or a fit is there twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import summarise
    >>> fit = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds"}
    >>> fit |= {"method": "snip", "sparsity": 0.9, "tolerance": float("nan"), "error": ""}
    >>> fit |= {"noise_floor": 0.02, "dense_accuracy": 0.85}
    >>> results = pd.DataFrame([
    ...     fit | {"seed": 0, "accuracy": 0.82, "gap": 0.10},
    ...     fit | {"seed": 1, "accuracy": 0.84, "gap": 0.12},
    ... ])
    >>> row = summarise(results).iloc[0]
    >>> print(f"{row.accuracy:.2f} {row.points_lost:.1f} {row.excess_gap:.2f} {row.n_seeds}")
    0.83 2.0 0.09 2
    """
    frame = checked(results, ["noise_floor", "dense_accuracy"])
    rows = []
    for fit, part in frame.groupby(FIT, dropna=False):
        good = part[~part["failed"]]
        row: dict[str, Any] = dict(zip(FIT, fit, strict=True))
        for name in ("accuracy", "gap"):
            interval = mean_interval(good[name], confidence)
            row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
            row[f"{name}_sd"] = good[name].std()
        row["noise_floor"] = good["noise_floor"].mean()
        row["excess_gap"] = row["gap"] - row["noise_floor"]
        row["points_lost"] = 100 * (good["dense_accuracy"] - good["accuracy"]).mean()
        row |= {"n_seeds": len(good), "n_failed": int(part["failed"].sum())}
        rows.append(row)
    return pd.DataFrame(rows)


class Pair(NamedTuple):
    """Two methods in one cell: a row for each seed that either has."""

    cell: tuple[Any, ...]
    competitor: str
    tolerance: float
    seeds: pd.DataFrame  # columns of the reference, and with "_other" of the competitor
    note: str


def pairs(
    frame: pd.DataFrame, reference: str, competitors: Sequence[str], columns: list[str]
) -> Iterator[Pair]:
    """Pair each competitor with the reference in every cell, by tolerance and seed."""
    # Grouped once: hundreds of pairs are looked up.
    fits: dict[Any, list[tuple[float, pd.DataFrame]]] = {}
    by_seed = frame.set_index("seed")
    for (*cell, method, t), part in by_seed.groupby([*CELL, "method", "tolerance"], dropna=False):
        fits.setdefault((*cell, method), []).append((float(t), part[columns]))
    nothing = by_seed.iloc[:0][columns]
    for (*cell, method), ours in fits.items():
        if method != reference:
            continue
        for competitor in competitors:
            for t, theirs in fits.get((*cell, competitor), []):
                # One without a tolerance is compared with every tolerance of the other.
                partners = [(u, f) for u, f in ours if u == t or np.isnan(u) or np.isnan(t)]
                for u, own in partners:
                    seeds = own.join(theirs.add_suffix("_other"), how="outer")
                    yield Pair(tuple(cell), competitor, t if np.isnan(u) else u, seeds, "")
                if not partners:
                    seeds = nothing.join(nothing.add_suffix("_other"))
                    yield Pair(tuple(cell), competitor, t, seeds, "no tolerance in common")


def checked_competitors(
    frame: pd.DataFrame, reference: str, competitors: Sequence[str] | None
) -> list[str]:
    """Check the methods that are compared; by default all others."""
    only_present(frame, [reference])
    if competitors is not None:
        return only_present(frame, competitors)
    others = [method for method in frame["method"].unique() if method != reference]
    if not others:
        raise ValueError(f"Got results of {reference!r} alone, but expected others beside it.")
    return others


def compare(
    results: pd.DataFrame,
    reference: str = "fairpruner",
    value: str = "gap",
    *,
    competitors: Sequence[str] | None = None,
    by: Sequence[str] = tuple(CELL),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare each method with one, paired by seed, and correct for the number of comparisons.

    Each comparison is a :func:`corrected_t_test`, and :func:`holm` counts all of the table.
    Methods are paired at the same tolerance; one that has none is compared with each tolerance
    of the other.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the package.
    reference : str
        The method that all others are compared with.
    value : {"gap", "accuracy", "hypervolume"}
        A :func:`hypervolume` is of all tolerances at once.
    competitors : sequence of str, optional
        By default all other methods.
    by : sequence of str
        Of the columns of a cell, those that are kept apart; over the others, the differences of
        a seed are averaged. A seed that lacks one of them is left out.
    confidence : float
        Of the interval of each difference, which is not corrected for their number.

    Returns
    -------
    DataFrame
        Columns ``by``, ``tolerance``, ``competitor``; ``difference`` (the reference less the
        competitor: above 0, the reference has more), ``low``, ``high``, ``p_value``, ``p_holm``;
        ``n_seeds`` behind it, ``n_unpaired`` seeds that either method lacks or failed at; and a
        ``note`` where no comparison was possible.

    Raises
    ------
    ValueError
        If a method, a column or the value is unknown, or there is nothing to compare.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import compare
    >>> fit = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds"}
    >>> fit |= {"sparsity": 0.9, "tolerance": float("nan"), "error": "", "accuracy": 0.8}
    >>> fit |= {"n_train": 800, "n_test": 200}
    >>> results = pd.DataFrame([
    ...     fit | {"method": method, "seed": seed, "gap": gap}
    ...     for method, gaps in {"fairpruner": [0.03, 0.04], "snip": [0.11, 0.13]}.items()
    ...     for seed, gap in enumerate(gaps)
    ... ])
    >>> row = compare(results, value="gap").iloc[0]
    >>> print(f"{row.competitor} {row.difference:.3f} p={row.p_holm:.2f}")
    snip -0.085 p=0.05
    """
    if value not in VALUES:
        raise ValueError(f"Got value={value!r}, but expected one of {list(VALUES)}.")
    by = [by] if isinstance(by, str) else list(by)
    if not by or not set(by) <= set(CELL):
        raise ValueError(f"Got by={by}, but expected some of {CELL}.")
    if value == "hypervolume":
        frame = hypervolume(results).assign(tolerance=np.nan)
    else:
        frame = checked(results, [value, "n_train", "n_test"])
    frame = at_every_sparsity(frame)
    others = checked_competitors(frame, reference, competitors)
    parts = []
    for pair in pairs(frame, reference, others, [value, "n_train", "n_test"]):
        seeds = pair.seeds.reset_index()
        if seeds.empty:  # a row of its own, so that the note is not lost
            seeds = seeds.reindex([0])
        seeds["difference"] = seeds[value] - seeds[f"{value}_other"]
        for name, key in zip(CELL, pair.cell, strict=True):
            seeds[name] = key
        keys = {"tolerance": pair.tolerance, "competitor": pair.competitor, "note": pair.note}
        parts.append(seeds.assign(**keys))
    if not parts:
        raise ValueError(f"Got no cell that has both {reference!r} and one of {others}.")
    columns = [*by, "tolerance", "competitor"]
    rows = []
    for key, part in pd.concat(parts).groupby(columns, dropna=False):
        groups = part.dropna(subset="seed").groupby("seed")
        found = groups["difference"]
        differences = found.mean()[found.count() == found.size()]  # of seeds that lack no cell
        used = part[part["difference"].notna()]
        test = TTest(*[np.nan] * 5)
        if len(differences):
            sizes = used["n_train"].mean(), used["n_test"].mean()
            test = corrected_t_test(differences, *sizes, confidence=confidence)
        notes = [note for note in part["note"].unique() if note]
        if not len(differences) and not notes:
            notes = ["no seed in common"]
        row = dict(zip(columns, key, strict=True))
        row |= {"difference": test.mean, "low": test.low, "high": test.high}
        row |= {"p_value": test.p_value, "n_seeds": len(differences)}
        row |= {"n_unpaired": len(groups) - len(differences), "note": "; ".join(notes)}
        rows.append(row)
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p_value") + 1, "p_holm", holm(table["p_value"]))
    return table
