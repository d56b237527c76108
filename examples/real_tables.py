"""What FairPruner reaches on Adult and COMPAS, against its targets.

Each seed splits a table 70/30 (stratified), fits the default FairPruner with the named settings
only, and measures on the part that it has not seen. Prints one table, and writes every fit to a
CSV as soon as it is done; a run that stops goes on from there::

    python examples/real_tables.py --data ../shared/data --results docs/comparison/real_tables.csv

The tables are not part of the package: adult.csv.gz and compas.csv.gz are looked for in --data.
"""

from __future__ import annotations

import argparse
import platform
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fairprune_sk import FairPruner
from fairprune_sk.assessment.gaps import fairness_gap
from fairprune_sk.assessment.noise import noise_floor

TOLERANCE = 0.03
# (constraint, sparsity, granularity); None prunes without fairness, and its gap is that of
# equalized odds.
SETTINGS = [
    ("equalized_odds", 0.9, "unstructured"),
    (None, 0.9, "unstructured"),
    ("demographic_parity", 0.9, "unstructured"),
    ("equalized_odds", 0.97, "unstructured"),
    ("equalized_odds", 0.9, "neuron"),
    ("equalized_odds", 0.97, "neuron"),
]


def load(name: str, folder: Path) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Load X, y and the sensitive feature of "adult" or "compas"."""
    path = folder / f"{name}.csv.gz"
    if name == "adult":
        table = pd.read_csv(path, na_values="?", skipinitialspace=True)
        y = table["income"].str.contains(">50K").astype(int)
        return table.drop(columns=["income", "fnlwgt", "split"]), y, table["sex"]
    table = pd.read_csv(path)
    race = table["race"]
    race = race.where(race.isin(["African-American", "Caucasian"]), "Other")
    return table.drop(columns="two_year_recid"), table["two_year_recid"], race


def split(
    X: pd.DataFrame, y: pd.Series, s: pd.Series, seed: int, sensitive_is_feature: bool
) -> tuple:
    """Split 70/30, stratified by the target, with or without the sensitive column in X."""
    if not sensitive_is_feature:
        X = X.drop(columns=s.name)
    return train_test_split(X, y, s, test_size=0.3, stratify=y, random_state=seed)


def fit_one(
    name: str,
    folder: Path,
    seed: int,
    constraint: str | None,
    sparsity: float,
    granularity: str,
    sensitive_is_feature: bool,
    memory: str | None = None,
) -> dict:
    """Fit once, and measure the dense and the pruned network on both parts."""
    torch.set_num_threads(1)
    X, X_test, y, y_test, s, s_test = split(*load(name, folder), seed, sensitive_is_feature)
    pruner = FairPruner(
        sparsity=sparsity,
        constraint=constraint,
        granularity=granularity,
        tolerance=TOLERANCE,
        tolerance_on="training",
        random_state=seed,
        memory=memory,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pruner.fit(X, y, sensitive_features=None if constraint is None else s)
    measured = constraint or "equalized_odds"
    gap = partial(fairness_gap, constraint=measured)
    dense, pruned = pruner.predict_dense(X_test), pruner.predict(X_test)
    return {
        "table": name,
        "seed": seed,
        "constraint": constraint or "none",
        "sparsity": sparsity,
        "granularity": granularity,
        "sensitive_is_feature": sensitive_is_feature,
        "reached_sparsity": pruner.sparsity_,
        "dense_accuracy": (dense == y_test).mean(),
        "accuracy": (pruned == y_test).mean(),
        "dense_balanced_accuracy": balanced_accuracy_score(y_test, dense),
        "balanced_accuracy": balanced_accuracy_score(y_test, pruned),
        "dense_selection_rate": dense.mean(),
        "selection_rate": pruned.mean(),
        "train_gap": gap(y, pruner.predict(X), sensitive_features=s),
        "dense_gap": gap(y_test, dense, sensitive_features=s_test),
        "gap": gap(y_test, pruned, sensitive_features=s_test),
        "noise_floor": noise_floor(
            y_test,
            pruned,
            sensitive_features=s_test,
            constraint=measured,
        ),
        "warnings": " ".join(sorted({w.category.__name__ for w in caught})),
    }


def reference_accuracy(name: str, folder: Path, seed: int) -> dict:
    """Fit what a scikit-learn user would fit instead: boosting, and MLPClassifier."""
    X, X_test, y, y_test, _, _ = split(*load(name, folder), seed, True)
    numeric = make_column_selector(dtype_include="number")
    other = make_column_selector(dtype_exclude="number")
    encode = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), numeric),
        (OneHotEncoder(handle_unknown="ignore"), other),
    )
    boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
    categories = {column: "category" for column in X.columns if column in other(X)}
    X, X_test = X.astype(categories), X_test.astype(categories)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = make_pipeline(encode, MLPClassifier((128, 64), random_state=seed)).fit(X, y)
        boosting.fit(X, y)
    return {
        "table": name,
        "seed": seed,
        "boosting": boosting.score(X_test, y_test),
        "mlp": mlp.score(X_test, y_test),
    }


def run(
    folder: Path,
    names: list[str],
    seeds: range,
    results: Path | None,
    n_jobs: int,
    with_and_without: tuple[bool, ...] = (True, False),
) -> pd.DataFrame:
    """Fit everything that is not in the results yet; append each fit as it is done."""
    done = pd.DataFrame()
    if results is not None and results.exists():
        # "none" is a constraint here, not a missing value.
        done = pd.read_csv(results, keep_default_na=False)
    keys = ["table", "seed", "constraint", "sparsity", "granularity", "sensitive_is_feature"]
    known = set(done[keys].itertuples(index=False, name=None)) if len(done) else set()
    jobs = [
        (name, seed, *setting, is_feature)
        for is_feature in with_and_without
        for setting in SETTINGS
        for name in names
        for seed in seeds
        if (name, seed, setting[0] or "none", *setting[1:], is_feature) not in known
        and (is_feature or setting[2] == "unstructured")
    ]
    with TemporaryDirectory() as memory:  # the settings share their dense networks
        rows = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(
            joblib.delayed(fit_one)(name, folder, *job, memory) for name, *job in jobs
        )
        for row in rows:
            done = pd.concat([done, pd.DataFrame([row])], ignore_index=True)
            if results is not None:
                # Written beside and moved: a crash in between loses no fit.
                partial = results.with_suffix(".partial")
                done.sort_values(keys).to_csv(partial, index=False, float_format="%.6g")
                partial.replace(results)
            print(".", end="", flush=True)
    print()
    return done[done["seed"].isin(seeds) & done["table"].isin(names)]


def summarise(fits: pd.DataFrame) -> pd.DataFrame:
    """Average over seeds; the training gap is the largest of all seeds."""
    fits = fits.assign(
        points_lost=100 * (fits["dense_accuracy"] - fits["accuracy"]),
        balanced_points_lost=100 * (fits["dense_balanced_accuracy"] - fits["balanced_accuracy"]),
        selected_share=fits["selection_rate"] / fits["dense_selection_rate"],
    )
    by = fits.groupby(
        ["sensitive_is_feature", "table", "granularity", "constraint", "sparsity"], sort=False
    )
    summary = by[
        ["dense_accuracy", "accuracy", "points_lost", "dense_gap", "gap", "noise_floor"]
    ].mean()
    summary["gap_sd"] = by["gap"].std()
    summary["largest_train_gap"] = by["train_gap"].max()
    summary["selected_share"] = by["selected_share"].mean()
    summary["balanced_points_lost"] = by["balanced_points_lost"].mean()
    summary["seeds"] = by.size()
    return summary


def targets(summary: pd.DataFrame) -> pd.DataFrame:
    """Compare with the targets, for the tables at hand, the sensitive column being a feature."""
    rows: list[tuple[str, str, float, str, float]] = []
    limits = {"adult": (0.04, 0.6, 0.8), "compas": (0.08, 0.4, 1.5)}
    for name in summary.loc[True].index.unique("table"):
        cell, units = (summary.loc[True].loc[name].loc[g] for g in ("unstructured", "neuron"))
        fair, unaware = cell.loc[("equalized_odds", 0.9)], cell.loc[("none", 0.9)]
        gap_limit, share, points = limits[name]
        if name == "adult":
            rows += [
                (name, "dense accuracy", fair["dense_accuracy"], ">=", 0.868),
                (name, "EO 0.9: largest train gap", fair["largest_train_gap"], "<=", 0.033),
            ]
        parity, sparse = (
            cell.loc[("demographic_parity", 0.9)],
            cell.loc[("equalized_odds", 0.97)],
        )
        rows += [
            (name, "EO 0.9: test gap", fair["gap"], "<=", gap_limit),
            (name, "EO 0.9: share of the unaware gap", fair["gap"] / unaware["gap"], "<=", share),
            (name, "EO 0.9: points lost", fair["points_lost"], "<=", points),
            (name, "DP 0.9: test gap", parity["gap"], "<=", 0.045),
            (name, "DP 0.9: points lost", parity["points_lost"], "", np.nan),
            (name, "EO 0.97: share of the selection rate", sparse["selected_share"], ">=", 0.5),
            (name, "EO 0.97: balanced points lost", sparse["balanced_points_lost"], "<=", 4.0),
        ]
        neurons, few = units.loc[("equalized_odds", 0.9)], units.loc[("equalized_odds", 0.97)]
        if name == "adult":
            train_gap = neurons["largest_train_gap"]
            rows += [
                (name, "EO 0.9 neurons: largest train gap", train_gap, "<=", 0.033),
                (name, "EO 0.9 neurons: test gap", neurons["gap"], "<=", 0.04),
                (name, "EO 0.9 neurons: points lost", neurons["points_lost"], "<=", 1.2),
            ]
        share, lost = few["selected_share"], few["balanced_points_lost"]
        rows += [
            (name, "EO 0.97 neurons: share of the selection rate", share, ">=", 0.5),
            (name, "EO 0.97 neurons: balanced points lost", lost, "<=", 6.0),
        ]
    table = pd.DataFrame(rows, columns=["table", "figure", "reached", "", "target"])
    higher, lower = table[""] == ">=", table[""] == "<="
    met = (higher & (table["reached"] >= table["target"])) | (
        lower & (table["reached"] <= table["target"])
    )
    table["met"] = np.where(table[""] == "", "", np.where(met, "yes", "NO"))
    return table


def main() -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("--data", type=Path, default=here.parent.parent / "shared" / "data")
    parser.add_argument("--tables", nargs="+", default=["adult", "compas"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, help="CSV to append to and to continue from")
    parser.add_argument("--n-jobs", type=int, default=2)
    options = parser.parse_args()
    for name in options.tables:
        if not (options.data / f"{name}.csv.gz").is_file():
            parser.exit(1, f"Missing {options.data / f'{name}.csv.gz'}: pass --data FOLDER.\n")
    seeds = range(options.seeds)
    fits = run(options.data, options.tables, seeds, options.results, options.n_jobs)
    summary = summarise(fits)
    print(f"\n{platform.machine()}, torch {torch.__version__}, tolerance {TOLERANCE}")
    for is_feature, part in summary.groupby(level=0, sort=False):
        print(f"\nSensitive column {'among' if is_feature else 'not among'} the features")
        print(part.droplevel(0).round(4).to_string())
    references = pd.DataFrame(
        joblib.Parallel(n_jobs=options.n_jobs)(
            joblib.delayed(reference_accuracy)(name, options.data, seed)
            for name in options.tables
            for seed in seeds
        )
    )
    dense = fits[fits["sensitive_is_feature"]].groupby(["table", "seed"])["dense_accuracy"].first()
    references = references.join(dense, on=["table", "seed"])
    references["seeds_below_mlp"] = references["dense_accuracy"] < references["mlp"]
    print("\nDense accuracy: the default network, gradient boosting, MLPClassifier((128, 64))")
    columns = {
        "dense_accuracy": "mean",
        "boosting": "mean",
        "mlp": "mean",
        "seeds_below_mlp": "sum",
    }
    print(references.groupby("table").agg(columns).round(4).to_string())
    print("\nTargets")
    print(targets(summary).round(4).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()
