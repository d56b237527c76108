"""The experiments behind docs/comparison.md, and its tables and figures.

Every experiment writes each fit to a Parquet file as soon as it is done, and goes on from there
when it is started again::

    python examples/comparison.py run grid competitors     # or: all; hours on two cores
    python examples/comparison.py page                     # CSV files, figures and tables of docs/

The tables are not part of the package: adult.csv.gz and compas.csv.gz are looked for in --data.
"""

from __future__ import annotations

import argparse
import sqlite3
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import joblib
import pandas as pd
from comparison_networks import DeepPerceptron, Perceptron, WidePerceptron
from comparison_page import FAIR, FOLDER, make_page, read_one
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fairprune_sk import BilevelSolver, FairPruner, benchmark
from fairprune_sk.benchmarks import METHODS, Method
from fairprune_sk.benchmarks.competitors import COMPETITORS, MatrixEncoder
from fairprune_sk.benchmarks.jobs import CONDITIONS, KEYS
from fairprune_sk.benchmarks.landscape import along_the_line
from fairprune_sk.benchmarks.store import ResultsFile
from fairprune_sk.datasets.tables import load_table
from fairprune_sk.masks.importance import IMPORTANCES

TABLES = ["compas", "adult"]
# The sensitive feature of the experiments that look at one only.
MAIN = {"compas": ["race"], "adult": ["sex"]}
BOTH = ["equalized_odds", "demographic_parity"]
UNAWARE = ["bip", "magnitude", "lottery_ticket", "snip", "grasp", "random", "fpgm"]
# 0.8 to the power of an even number is left, as in the lottery ticket papers, up to 0.98.
SERIES = [round(1.0 - 0.8**k, 3) for k in (2, 4, 6, 8, 10, 12, 14, 16, 18)]
HERE = Path(__file__).resolve().parent

LEVELS = {
    "both": ("upper", "lower"),
    "mask only": ("upper",),
    "weights only": ("lower",),
    "none": (),
}


def _bilevel(**options: object) -> FairPruner:
    """Return the solver with other options, at the bound of the other methods."""
    return FairPruner(solver=BilevelSolver(**options), tolerance_on="training")


ABLATIONS = {name: _bilevel(constrained_levels=levels) for name, levels in LEVELS.items()}
VARIANTS = {
    "closed form, one batch": _bilevel(),
    "first order": _bilevel(implicit_gradient="first_order"),
    "two batches": _bilevel(upper_batch="previous"),
}
INITIALISATIONS = {name: _bilevel(importance=name) for name in IMPORTANCES}
NETWORKS = {
    f"{kind.__name__} {kind.hidden}": make_pipeline(
        MatrixEncoder(), FairPruner(kind, tolerance_on="training")
    )
    for kind in (Perceptron, WidePerceptron, DeepPerceptron)
}


def budgets(methods: list[str], epochs: dict[str, list[int]], table: str) -> dict[str, Method]:
    """Return the methods with several numbers of epochs, under names such as "bip@16"."""
    return {
        f"{name}@{n}": replace(
            METHODS[name], estimator=clone(METHODS[name].estimator).set_params(max_epochs=n)
        )
        for name in methods
        for n in epochs[table]
    }


# ------------------------------------------------------------------------------ the experiments


def grid(**where: object) -> None:
    """Every sparsity, both constraints, all sensitive features, ten seeds."""
    compare = {"sparsities": [0.9, 0.95], "constraints": BOTH, **where}
    benchmark(["fairpruner", "bip", "magnitude", *FAIR], TABLES, **compare)
    compare["sparsities"] = [0.7, 0.8]
    benchmark(["fairpruner", "bip", "magnitude"], TABLES, **compare)


def tolerances(**where: object) -> None:
    """Fronts of accuracy and gap at 90%."""
    benchmark(["fairpruner"], TABLES, constraints=BOTH, tolerances=[0.01, 0.02, 0.1], **where)


def competitors(**where: object) -> None:
    """Dense fair classifiers; the one that fits two dozen networks on the small table only."""
    slow = "exponentiated_gradient(mlp)"
    for table in TABLES:
        methods = [name for name in COMPETITORS if name != slow or table == "compas"]
        benchmark(methods, [table], constraints=BOTH, **where)


def unaware(**where: object) -> None:
    """Run the other baselines without fairness."""
    sparsities = [0.7, 0.8, 0.9, 0.95]
    benchmark(UNAWARE[2:], TABLES, sparsities=sparsities, constraints=BOTH, **where)


def series(**where: object) -> None:
    """Accuracy and gap against sparsity, up to 0.98."""
    methods = ["fairpruner", *UNAWARE, *FAIR]
    only = {"compas": MAIN["compas"]}
    benchmark(methods, ["compas"], sparsities=SERIES, sensitive=only, **{"seeds": 3, **where})


def ablation(**where: object) -> None:
    """Fairness on masks, weights, both, none."""
    benchmark(ABLATIONS, TABLES, sparsities=[0.7, 0.9], sensitive=MAIN, **{"seeds": 5, **where})


def variants(**where: object) -> None:
    """Vary the choices that the solver makes."""
    benchmark(VARIANTS | INITIALISATIONS, TABLES, sensitive=MAIN, **{"seeds": 5, **where})


def networks(**where: object) -> None:
    """Larger networks."""
    benchmark(NETWORKS, TABLES, sensitive=MAIN, **{"seeds": 3, **where})


def iterations(**where: object) -> None:
    """Training iterations of the pruning phase, from far too few to far more than the default."""
    epochs = {
        "compas": [8, 16, 32, 64, 128, 256, 512, 1024],
        "adult": [4, 8, 16, 32, 64],
    }
    for table in TABLES:
        methods = budgets(["fairpruner", "prune_then_fair", "fair_then_prune"], epochs, table)
        only = {table: MAIN[table]}
        benchmark(methods, [table], sensitive=only, **{"seeds": 3, **where})


def convergence(results: Path, folder: Path, memory: Path, n_jobs: int, seeds: int = 5) -> None:
    """Keep the history of each fit."""

    def one(table: str, seed: int) -> pd.DataFrame:
        X, _, y, _, s, _ = part_of(table, folder, seed)
        pruner = FairPruner(
            tolerance=0.03, tolerance_on="training", random_state=seed, memory=str(memory)
        )
        history = pruner.fit(X, y, sensitive_features=s).history_
        columns = [
            "epoch",
            "train_loss",
            "running_gap",
            "max_multiplier",
            "mask_change",
            "sparsity",
        ]
        return pd.DataFrame(history[:, columns], columns=columns).assign(table=table, seed=seed)

    parts = joblib.Parallel(n_jobs=n_jobs)(
        joblib.delayed(one)(table, seed) for table in TABLES for seed in range(seeds)
    )
    write(pd.concat(parts, ignore_index=True), results)


def line(results: Path, folder: Path, memory: Path, n_jobs: int, seeds: int = 5) -> None:
    """Measure between the ablated solutions, on the test part."""

    def one(table: str, seed: int) -> list[pd.DataFrame]:
        X, X_test, y, y_test, s, s_test = part_of(table, folder, seed)
        fitted = {}
        for name, pruner in ABLATIONS.items():
            settings = {"tolerance": 0.03, "random_state": seed, "memory": str(memory)}
            pruner = clone(pruner).set_params(**settings)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the ablated ones miss the constraint
                fitted[name] = pruner.fit(X, y, sensitive_features=s)
        return [
            along_the_line(
                fitted["both"], fitted[other], X_test, y_test, sensitive_features=s_test
            ).assign(pair=f"both to {other}", table=table, seed=seed)
            for other in ABLATIONS
            if other != "both"
        ]

    parts = joblib.Parallel(n_jobs=n_jobs)(
        joblib.delayed(one)(table, seed) for table in TABLES for seed in range(seeds)
    )
    write(pd.concat([curve for part in parts for curve in part], ignore_index=True), results)


def write(frame: pd.DataFrame, results: Path) -> None:
    """Write a file of results, as the benchmark itself does."""
    if {*KEYS} <= {*frame.columns}:
        ResultsFile(results, CONDITIONS, KEYS).add(frame)
        return
    with closing(sqlite3.connect(results)) as connection, connection:
        frame.to_sql("fits", connection, if_exists="replace", index=False)


def part_of(table: str, folder: Path, seed: int) -> list:
    """Split as the benchmark does, with the main sensitive feature."""
    loaded = load_table(table, folder)
    return train_test_split(
        loaded.X,
        loaded.y,
        loaded.sensitive[MAIN[table][0]],
        test_size=0.3,
        stratify=loaded.y,
        random_state=seed,
    )


EXPERIMENTS = {
    f.__name__: f
    for f in (
        grid,
        tolerances,
        competitors,
        unaware,
        series,
        ablation,
        variants,
        networks,
        iterations,
        convergence,
        line,
    )
}


def main() -> None:
    """Run experiments, or make the page from their results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", "page"])
    parser.add_argument("experiments", nargs="*", metavar="experiment", default=[])
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--results", type=Path, default=HERE.parent / "build" / "comparison")
    parser.add_argument("--seeds", type=int, help="fewer than the experiment has")
    parser.add_argument("--n-jobs", type=int, default=2)
    options = parser.parse_args()
    if options.command == "page":
        make_page(options.results)
        return
    chosen = list(EXPERIMENTS) if options.experiments == ["all"] else options.experiments
    unknown = [name for name in chosen if name not in EXPERIMENTS]
    if unknown or not chosen:
        parser.error(f"got experiments {unknown}, but expected all, or some of {[*EXPERIMENTS]}")
    for name in TABLES:
        if not (options.data / f"{name}.csv.gz").is_file():
            parser.exit(1, f"Missing {options.data / f'{name}.csv.gz'}: pass --data FOLDER.\n")
    options.results.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        print(name, flush=True)
        path = options.results / f"{name}.sqlite"
        committed = FOLDER / f"{name}.csv"
        if committed.is_file() and not path.is_file():  # go on from there
            write(read_one(committed), path)
        fewer = {} if options.seeds is None else {"seeds": options.seeds}
        EXPERIMENTS[name](
            results=path,
            folder=options.data,
            memory=options.results / "dense",
            n_jobs=options.n_jobs,
            **fewer,
        )


if __name__ == "__main__":
    main()
