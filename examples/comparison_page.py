"""Tables and figures of docs/comparison.md, from the results of examples/comparison.py.

What the page shows is committed: each experiment as a CSV file, from which this module makes the
rest. Tables stand between comments in the page, ``<!-- cut -->`` and ``<!-- /cut -->``.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from fairprune_sk.benchmarks import figures, statistics
from fairprune_sk.benchmarks.statistics import CELL, DATA_SET
from fairprune_sk.masks.importance import IMPORTANCES

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = DOCS / "comparison"
FAIR = ["prune_then_fair", "fair_then_prune", "fairgrape", "balancing_act"]
TOLERANCE = 0.03
# An unaware gap that is not further above its noise floor has no excess to speak of.
WITHIN_NOISE = 0.02
SHORT = {"equalized_odds": "EO", "demographic_parity": "DP"}

Results = dict[str, pd.DataFrame]


def read_one(path: Path) -> pd.DataFrame:
    """Read one committed experiment; empty texts are texts."""
    texts = {"error": "str", "warnings": "str"}
    frame = pd.read_csv(path, dtype=texts)
    return frame.fillna({name: "" for name in texts if name in frame})


def read(folder: Path = FOLDER) -> Results:
    """Read the committed experiments."""
    return {path.stem: read_one(path) for path in sorted(folder.glob("*.csv"))}


def export(results: Path, folder: Path = FOLDER) -> None:
    """Write every experiment as a CSV file with five digits."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(results.glob("*.sqlite")):
        with closing(sqlite3.connect(path)) as connection:
            frame = pd.read_sql("SELECT * FROM fits", connection)
        frame = frame.drop(columns="checksum", errors="ignore")
        frame.to_csv(folder / f"{path.stem}.csv", index=False, float_format="%.5g")


def everything(results: Results) -> pd.DataFrame:
    """Rows of all methods on the grid of sparsities, constraints and sensitive features."""
    names = ["grid", "unaware", "competitors", "tolerances"]
    return pd.concat([results[name] for name in names if name in results], ignore_index=True)


def at_one_tolerance(results: Results) -> pd.DataFrame:
    """Keep of :func:`everything` the fits at the tolerance of the comparison, or without one."""
    frame = everything(results)
    return frame[frame["tolerance"].isna() | np.isclose(frame["tolerance"], TOLERANCE)]


def pruning(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the dense classifiers."""
    return frame[frame["sparsity"] > 0]


# ----------------------------------------------------------------------------------- the tables


def cut(results: Results, unaware: Sequence[str] = ("bip", "magnitude")) -> pd.DataFrame:
    """Share of the gap beyond noise that is cut, against pruning without fairness."""
    table = statistics.excess_cut(at_one_tolerance(results), unaware=unaware)
    columns = {
        "unaware": "against",
        **dict.fromkeys(CELL),
        "gap_unaware": "unaware gap",
        "gap_fair": "fair gap",
        "noise_floor_fair": "floor",
        "share_cut": "share cut",
        "points_lost_fair": "points lost",
        "points_lost_unaware": "points lost without fairness",
        "n_seeds": "seeds",
    }
    return table.rename(columns={k: v for k, v in columns.items() if v})[
        [new or old for old, new in columns.items()]
    ]


def cut_overall(results: Results) -> pd.DataFrame:
    """Means of the above, against all methods without fairness."""
    found = set(everything(results)["method"])
    table = cut(results, [name for name in statistics.UNAWARE if name in found])
    wide = table["unaware gap"] > 0.15
    noise = table["unaware gap"] - table["floor"] <= WITHIN_NOISE
    return (
        table.assign(wide=wide, told=table["share cut"].mask(noise))
        .groupby("against", sort=False)
        .apply(
            lambda part: pd.Series(
                {
                    "cells": len(part),
                    "beyond noise": int(part["told"].count()),
                    "mean share cut": part["told"].mean(),
                    "smallest": part["told"].min(),
                    "pooled share cut": 1.0
                    - (part["fair gap"] - part["floor"]).sum()
                    / (part["unaware gap"] - part["floor"]).sum(),
                    "cells with a gap above 0.15": int(part["wide"].sum()),
                    "smallest share cut there": part.loc[part["wide"], "share cut"].min(),
                    "mean points lost": part["points lost"].mean(),
                    "most points lost": part["points lost"].max(),
                    "mean points lost without fairness": (
                        part["points lost without fairness"].mean()
                    ),
                }
            ),
            include_groups=False,
        )
        .reset_index()
    )


def means(results: Results) -> pd.DataFrame:
    """Every method at 90%, and the dense ones."""
    frame = at_one_tolerance(results)
    table = statistics.summarise(frame[frame["sparsity"].isin([0.0, 0.9])])
    columns = [*DATA_SET, "method", "accuracy", "gap", "gap_sd", "noise_floor", "points_lost"]
    table = table.sort_values([*DATA_SET, "gap"])
    return table[[*columns, "n_seeds"]].rename(columns={"n_seeds": "seeds"})


def against_fair(results: Results, by: Sequence[str] = tuple(CELL)) -> pd.DataFrame:
    """Hypervolume, gap and accuracy against the pruning baselines with fairness."""
    frame = at_one_tolerance(results)
    frame = frame[frame["method"].isin(["fairpruner", *FAIR])]
    frame = frame[frame["sparsity"].isin([0.9, 0.95])]
    parts = {}
    for value in ("hypervolume", "gap", "accuracy"):
        table = statistics.compare(frame, value=value, competitors=FAIR, by=by)
        parts[value] = table.set_index([*by, "competitor"])[["difference", "p_holm", "n_seeds"]]
    table = pd.concat(parts, axis=1)
    table.columns = [f"{value} {name}" for value, name in table.columns]
    table = table.reset_index().rename(
        columns={f"{v} difference": f"Δ {v}" for v in parts}
        | {f"{v} p_holm": f"p ({v})" for v in parts}
        | {"hypervolume n_seeds": "seeds"}
    )
    return table.drop(columns=["gap n_seeds", "accuracy n_seeds"])


def against_fair_mean(results: Results) -> pd.DataFrame:
    """Average the above over the data sets, seed by seed."""
    return against_fair(results, by=["sparsity"])


def against_fair_overall(results: Results) -> pd.DataFrame:
    """How many of those comparisons are won, and significantly so."""
    table = against_fair(results)
    won = table["Δ hypervolume"] > 0
    clear = table["p (hypervolume)"] < 0.05
    return (
        table.assign(larger=won, clearly=won & clear, smaller=~won & clear)
        .groupby(["competitor", "sparsity"])[["larger", "clearly", "smaller"]]
        .sum()
        .join(table.groupby(["competitor", "sparsity"]).size().rename("cells"))
        .reset_index()
        .rename(
            columns={
                "larger": "larger hypervolume",
                "clearly": "of these p < 0.05",
                "smaller": "smaller with p < 0.05",
            }
        )
    )


def equal_gap(results: Results) -> pd.DataFrame:
    """Accuracy at the gap that a dense fair competitor achieved."""
    frame = everything(results)
    frame = frame[
        (frame["method"] == "fairpruner") | frame["method"].str.contains("(", regex=False)
    ]
    frame = frame[frame["sparsity"].isin([0.0, 0.9])]
    # Ours on the same splits: where competitors have fewer seeds, the means would differ by those.
    seeds = frame[frame["method"] != "fairpruner"].groupby("table")["seed"].agg(set)
    same = [
        seed in seeds.get(table, ())
        for table, seed in zip(frame["table"], frame["seed"], strict=True)
    ]
    table = statistics.accuracy_at_gap(frame[same], sparsity=0.9)
    columns = [*DATA_SET, "competitor", "gap", "accuracy", "front_accuracy", "difference"]
    table = table[[*columns, "p_holm", "n_seeds", "reason"]]
    return table.rename(columns={"front_accuracy": "FairPruner", "n_seeds": "seeds"})


def reached(results: Results) -> pd.DataFrame:
    """Smallest budget with the accuracy and the gap of the default FairPruner, less a little."""
    frame, _ = with_targets(results)
    table = statistics.iterations_to_reach(frame)
    tried = frame.groupby([*DATA_SET, "method"])["n_iter"].max()
    ours = table[table["method"] == "fairpruner"].set_index(DATA_SET)["n_iter"]
    rows = []
    for row in table.to_dict("records"):
        data_set = tuple(row[name] for name in DATA_SET)
        most = tried[(*data_set, row["method"])]
        never = np.isnan(row["n_iter"])
        fewer = 1.0 - ours[data_set] / (most if never else row["n_iter"])
        rows.append(
            {name: row[name] for name in (*DATA_SET, "method", "target_accuracy", "target_gap")}
            | {"iterations": f"not within {most:.0f}" if never else f"{row['n_iter']:.0f}"}
            | {"accuracy": row["accuracy"], "gap": row["gap"], "seeds": row["n_seeds"]}
            | {"fewer by FairPruner": f"{'at least ' if never else ''}{fewer:.0%}"}
        )
    return pd.DataFrame(rows)


def with_targets(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Budgets as numbers, and the targets: the default fit's means, within a standard error."""
    frame = results["iterations"].copy()
    names = frame["method"].str.split("@", expand=True)
    frame["method"], epochs = names[0], names[1].astype(int)
    default = frame["table"].map({"compas": 128, "adult": 32})
    ours = frame[(frame["method"] == "fairpruner") & (epochs == default)]
    by = ours.groupby(DATA_SET)
    error = by[["accuracy", "gap"]].std() / np.sqrt(by.size().to_numpy()[:, None])
    targets = pd.DataFrame(
        {
            "target_accuracy": by["accuracy"].mean() - error["accuracy"],
            "target_gap": by["gap"].mean() + error["gap"],
        }
    )
    return frame.join(targets, on=DATA_SET), targets


def summary(name: str) -> Callable[[Results], pd.DataFrame]:
    """Means of one experiment."""

    def table(results: Results) -> pd.DataFrame:
        means = statistics.summarise(results[name])
        columns = ["table", "sparsity", "method", "accuracy", "gap", "gap_sd", "noise_floor"]
        means = means[[*columns, "points_lost", "n_seeds"]]
        return means.rename(columns={"n_seeds": "seeds"})

    return table


PAGE_TABLES: dict[str, Callable[[Results], pd.DataFrame]] = {
    "cut_overall": cut_overall,
    "cut": cut,
    "means": means,
    "against_fair_mean": against_fair_mean,
    "against_fair_overall": against_fair_overall,
    "against_fair": against_fair,
    "equal_gap": equal_gap,
    "reached": reached,
    "ablation": summary("ablation"),
    "variants": summary("variants"),
    "networks": summary("networks"),
}


# ---------------------------------------------------------------------------------- the figures


def _variants(results: Results, initial: bool) -> pd.DataFrame:
    frame = results["variants"]
    return frame[frame["method"].isin(IMPORTANCES) == initial]


PAGE_FIGURES: dict[str, Callable[[Results], object]] = {
    "series": lambda r: figures.against_sparsity(r["series"]),
    **{
        f"sparsity_{table}_{sensitive}_{SHORT[constraint]}": (
            lambda r, at=(table, sensitive, constraint): figures.against_sparsity(
                pruning(at_one_tolerance(r)), *at
            )
        )
        for table, sensitive in (("adult", "sex"), ("compas", "race"))
        for constraint in SHORT
    },
    "trade_off_70": lambda r: figures.trade_off(everything(r), sparsity=0.7),
    "trade_off_90": lambda r: figures.trade_off(everything(r), sparsity=0.9),
    "ranks": lambda r: figures.critical_difference(
        at_one_tolerance(r).query("sparsity == 0.9"),
        methods=["fairpruner", *FAIR, "bip", "magnitude"],
    ),
    "iterations": lambda r: figures.iterations(with_targets(r)[0]),
    "ablation_compas": lambda r: figures.ablation(r["ablation"], "compas"),
    "ablation_adult": lambda r: figures.ablation(r["ablation"], "adult"),
    "line": lambda r: figures.along_the_line(r["line"]),
    "initialisations_compas": lambda r: figures.compare_variants(_variants(r, True), "compas"),
    "initialisations_adult": lambda r: figures.compare_variants(_variants(r, True), "adult"),
    "variants_compas": lambda r: figures.compare_variants(_variants(r, False), "compas"),
    "variants_adult": lambda r: figures.compare_variants(_variants(r, False), "adult"),
    "convergence_adult": lambda r: figures.convergence(_history(r, "adult")),
    "convergence_compas": lambda r: figures.convergence(_history(r, "compas")),
}


def _history(results: Results, table: str) -> pd.DataFrame:
    history = results["convergence"]
    return history[history["table"] == table]


# ------------------------------------------------------------------------------------- the page


def markdown(table: pd.DataFrame) -> str:
    """Write a table as markdown, numbers with four digits after the point or p-values shorter."""
    table = table.replace({"constraint": SHORT})

    def cell(name: str, value: object) -> str:
        if isinstance(value, (float, np.floating)):
            if np.isnan(value):
                return ""
            if float(value).is_integer() and abs(value) >= 1:
                return str(int(value))
            if name.startswith(("p (", "p_")):
                return "<0.001" if value < 0.001 else f"{value:.3f}"
            return f"{value:.{2 if 'points' in name or name in ('sparsity', 'seeds') else 4}f}"
        return str(value)

    head = [str(name).replace("_", " ") for name in table.columns]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.itertuples(index=False):
        cells = [cell(str(name), value) for name, value in zip(table.columns, row, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def filled(page: str, results: Results) -> str:
    """Put every table in its place."""
    for name, make in PAGE_TABLES.items():
        if f"<!-- {name} -->" in page:
            try:
                page = put(page, name, make(results))
            except (KeyError, ValueError) as error:  # not run yet
                print(f"no table {name}: {error}")
    return page


def put(page: str, name: str, table: pd.DataFrame) -> str:
    """Put a table in its place."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n?<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}{markdown(table)}\n{found[2].lstrip()}", page)


def make_page(results: Path) -> None:
    """Export the results that are there, draw the figures, fill the page."""
    if results.is_dir():
        export(results)
    known = read()
    for name, draw in PAGE_FIGURES.items():
        try:
            figure = draw(known)
        except (KeyError, ValueError) as error:
            print(f"no figure {name}: {error}")
            continue
        figure.savefig(FOLDER / f"{name}.png", dpi=110)
        print(FOLDER / f"{name}.png")
    path = DOCS / "comparison.md"
    path.write_text(filled(path.read_text(), known))
