"""Small tables: the network beside what people use there, and what it learns by heart.

Writes docs/small_tables.csv, and puts the table that it makes of it into docs/unseen.md::

    python examples/small_tables.py

Tables of scikit-learn and generated ones; no fairness is asked for. The last four were not looked
at when capacity was chosen.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from comparison_page import put
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from fairprune_sk import FairPruner
from fairprune_sk.benchmarks.competitors import MatrixEncoder
from fairprune_sk.datasets import make_biased_classification

DOCS = Path(__file__).resolve().parent.parent / "docs"
FITS = DOCS / "small_tables.csv"
SEEDS = (100, 101)
N_UNSEEN = 5000


def tables(seed: int) -> Iterator[tuple[str, pd.DataFrame, np.ndarray, int]]:
    """Return tables by name, and the rows to learn from."""
    cancer, digits, diabetes, wine = (
        getattr(datasets, f"load_{name}")()
        for name in ("breast_cancer", "digits", "diabetes", "wine")
    )
    yield "breast cancer", pd.DataFrame(cancer.data), cancer.target, 398
    yield "digits, odd or even", pd.DataFrame(digits.data), digits.target % 2, 400
    yield "diabetes, above 140", pd.DataFrame(diabetes.data), (diabetes.target > 140) * 1, 309
    for n, noise in ((400, 0.1), (1000, 0.2), (3000, 0.1)):
        X, y = datasets.make_classification(
            n + N_UNSEEN,
            n_features=20,
            n_informative=6,
            n_redundant=4,
            flip_y=noise,
            n_clusters_per_class=3,
            random_state=seed,
        )
        yield f"make_classification, {noise:.0%} noise", pd.DataFrame(X), y, n
    for n in (300, 700, 1500, 3000, 5000):
        X, target, _ = make_biased_classification(n + N_UNSEEN, random_state=seed)
        yield "loan applications", X, target.to_numpy(), n
    yield "wine, second cultivar", pd.DataFrame(wine.data), (wine.target == 1) * 1, 124
    X, y = datasets.make_moons(500 + N_UNSEEN, noise=0.35, random_state=seed)
    yield "make_moons", pd.DataFrame(X), y, 500
    X, y = datasets.make_hastie_10_2(2000 + N_UNSEEN, random_state=seed)
    yield "make_hastie_10_2", pd.DataFrame(X), (y > 0) * 1, 2000
    X, y = datasets.make_gaussian_quantiles(
        n_samples=800 + N_UNSEEN, n_features=5, n_classes=2, random_state=seed
    )
    yield "make_gaussian_quantiles", pd.DataFrame(X), y, 800


def fits() -> pd.DataFrame:
    """Fit everything on everything; a row for each table and seed."""
    rows = []
    for seed in SEEDS:
        for name, X, y, n in tables(seed):
            X, X_unseen, y, y_unseen = train_test_split(
                X.rename(columns=str), y, train_size=n, stratify=y, random_state=seed
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pruner = FairPruner(constraint=None, random_state=seed).fit(X, y)
                others = {
                    "logistic": LogisticRegression(max_iter=5000),
                    "boosting": HistGradientBoostingClassifier(random_state=seed),
                }
                reached = {
                    other: make_pipeline(MatrixEncoder(), model).fit(X, y).score(X_unseen, y_unseen)
                    for other, model in others.items()
                }
            rows.append(
                {
                    "table": name,
                    "n_rows": n,
                    "seed": seed,
                    "dense": (pruner.predict_dense(X_unseen) == y_unseen).mean(),
                    "dense_train": (pruner.predict_dense(X) == y).mean(),
                    "pruned": pruner.score(X_unseen, y_unseen),
                    "pruned_train": pruner.score(X, y),
                    **reached,
                }
            )
    return pd.DataFrame(rows).round(6)


def page_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds, and over tables in the last row."""
    table = rows.groupby(["table", "n_rows"], sort=False).mean().drop(columns="seed").reset_index()
    behind = {
        f"points {name} is ahead": 100 * (table[name] - table[["logistic", "boosting"]].max(axis=1))
        for name in ("dense", "pruned")
    }
    by_heart = {
        f"points {name} loses on unseen rows": 100 * (table[f"{name}_train"] - table[name])
        for name in ("dense", "pruned")
    }
    table = table.drop(columns=["dense_train", "pruned_train"]).assign(**behind, **by_heart)
    numbers = table.columns.drop(["table", "n_rows"])
    mean = pd.DataFrame([{"table": "mean", "n_rows": "", **table[numbers].mean()}])
    return pd.concat([table.astype({"n_rows": object}), mean], ignore_index=True)


if __name__ == "__main__":
    fits().to_csv(FITS, index=False, lineterminator="\n")
    page = DOCS / "unseen.md"
    page.write_text(put(page.read_text(), "small_tables", page_table(pd.read_csv(FITS))))
