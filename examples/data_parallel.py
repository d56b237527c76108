"""Fit on several processes, and compare with one: ``torchrun --nproc-per-node=2 data_parallel.py``.

The processes must end with the same network, and its training must begin as that of one process
does, or the script ends with an error. Rounding grows from step to step, so that long fits end some
way apart, as those of one process do where a batch holds its rows in another order (docs/scale.md):
how far is printed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fairprune_sk import FairPruner
from fairprune_sk.datasets import load_table, make_biased_classification
from fairprune_sk.distributed import data_parallel


def rows_of(asked: argparse.Namespace) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Table, labels and groups."""
    if asked.table is None:
        X, y, s = make_biased_classification(asked.rows, random_state=0)
        return X, y.to_numpy(), s["sex"].to_numpy()
    table = load_table(asked.table, asked.data)
    return table.X, np.asarray(table.y), table.sensitive["sex"].to_numpy()


def main() -> None:
    """Fit twice, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--table", choices=["adult", "compas"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--epochs", type=int, help="of the pruning; as FairPruner has them")
    parser.add_argument("--tolerance-on", choices=["training", "unseen"], default="unseen")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # a short fit is not meant to be good
    X, y, sex = rows_of(asked)
    options = {"tolerance_on": asked.tolerance_on, "max_epochs": asked.epochs or "auto"}
    with data_parallel() as world:
        mine, start = world.share(len(X)), time.perf_counter()
        shared = FairPruner(random_state=0, **options)
        shared.fit(X[mine], y[mine], sensitive_features=sex[mine])
        seconds = time.perf_counter() - start
        alike = world.gathered([mask.numpy() for mask in shared.masks_.values()])
        probabilities = world.gathered(shared.predict_proba(X))
    for masks, predicted in zip(alike, probabilities, strict=True):
        same = all(map(np.array_equal, masks, alike[0]))
        if not (same and np.array_equal(predicted, probabilities[0])):
            raise SystemExit("The processes have different networks.")
    if world.rank:
        return
    start = time.perf_counter()
    alone = FairPruner(random_state=0, **options).fit(X, y, sensitive_features=sex)
    of_one = time.perf_counter() - start
    equal = np.mean(shared.predict(X) == alone.predict(X))
    apart = np.abs(shared.multipliers_.to_numpy() - alone.multipliers_.to_numpy()).max()
    print(
        f"{len(X):,} rows: {of_one:.1f} s in one process, {seconds:.1f} s in {world.size}. "
        f"Equal predictions: {equal:.2%}. "
        f"Apart: accuracy {abs(shared.score(X, y) - alone.score(X, y)):.2g}, "
        f"gap {abs(shared.train_gap_ - alone.train_gap_):.2g}, multipliers {apart:.2g}."
    )
    first = [np.array(p.dense_estimator_.history_[:3, "train_loss"]) for p in (shared, alone)]
    if np.abs(first[0] - first[1]).max() > 1e-5 or equal < 0.95:
        raise SystemExit("The fits differ by more than rounding.")


if __name__ == "__main__":
    main()
