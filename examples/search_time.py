"""What a search costs, and whether its cells are those of fits of their own: docs/trade_off.md.

``python examples/search_time.py --data FOLDER`` fits COMPAS by race (or ``--table adult``, by sex)
with ``FairPrunerCV``, and some of its cells with fits of their own on the same folds. Seconds are
those of the processor, of one thread.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from fairprune_sk import FairPruner, FairPrunerCV
from fairprune_sk.assessment import gap_estimate
from fairprune_sk.datasets.tables import load_table

BY = {"compas": "race", "adult": "sex"}
# Spread over the grid of the defaults; what the others would take is as much on average.
OWN = [(0.5, 0.05), (0.7, 0.02), (0.9, 0.05), (0.9, 0.01), (0.95, 0.1)]


def own_fits(X, y, s, folds, seed: int) -> pd.DataFrame:
    """Fit cells one by one, as GridSearchCV does, and pool their held-out rows."""
    found, order = [], np.concatenate([test for _, test in folds])
    for sparsity, tolerance in OWN:
        start, predicted, scores = time.process_time(), [], []
        for train, test in folds:
            pruner = FairPruner(sparsity=sparsity, tolerance=tolerance, random_state=seed)
            pruner.fit(X.iloc[train], y[train], sensitive_features=s.iloc[train])
            predicted.append(pruner.predict(X.iloc[test]))
            scores.append((predicted[-1] == y[test]).mean())
        gap = gap_estimate(y[order], np.concatenate(predicted), sensitive_features=s.iloc[order])
        seconds = time.process_time() - start
        found.append((sparsity, tolerance, np.mean(scores), gap.corrected, seconds))
    return pd.DataFrame(found, columns=["sparsity", "tolerance", "accuracy", "gap", "seconds"])


def main(table: str, folder: Path, seed: int) -> None:
    """Search, fit, compare."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    data = load_table(table, folder)
    X, y, s = data.X, data.y, data.sensitive[BY[table]]
    search = FairPrunerCV(FairPruner(random_state=seed), cv=3)
    pruner = clone(search.estimator)
    pruner.random_state = np.random.RandomState(seed).randint(np.iinfo(np.int32).max)
    folds = search._splits(
        pruner._given(X, y, None, s, None, None), pruner.random_state
    )  # those that it takes
    start = time.process_time()
    search.fit(X, y, sensitive_features=s)
    seconds = time.process_time() - start
    own = own_fits(X, y, s, folds, seed)
    cells = own.merge(search.surface_, on=["sparsity", "tolerance"], suffixes=("_own", ""))
    shown = ["sparsity", "tolerance", "accuracy_own", "accuracy", "gap_own", "gap", "seconds"]
    print(cells[shown].round(4).to_string(index=False))
    print(cells[["accuracy_own", "accuracy", "gap_own", "gap"]].mean().round(4).to_string())
    all_cells = own["seconds"].mean() * len(search.surface_) * (1 + 1 / 75)  # and one refit
    print(f"search {seconds:.0f} s; {len(search.surface_)} cells one by one {all_cells:.0f} s")
    print(f"(from {len(own)} of them): {all_cells / seconds:.1f} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=sorted(BY), default="compas")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    main(options.table, options.data, options.seed)
