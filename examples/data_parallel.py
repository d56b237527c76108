"""Fit on several processes, and compare with one: ``torchrun --nproc-per-node=2 data_parallel.py``.

A perceptron of this file's own must come out equal, or the script ends with an error. With
``--network default`` rounding grows in the long dense phase (docs/scale.md), and what is printed is
how far the two fits are apart; ``--table adult --data FOLDER`` takes a real table.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fairprune_sk import FairPruner
from fairprune_sk.datasets import load_table, make_biased_classification
from fairprune_sk.distributed import data_parallel


class Perceptron(nn.Sequential):
    """Two hidden layers, with dropout."""

    def __init__(self, n_features: int):
        layers = nn.Linear(n_features, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64)
        super().__init__(*layers, nn.ReLU(), nn.Linear(64, 1))


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
    parser.add_argument("--network", choices=["perceptron", "default"], default="perceptron")
    parser.add_argument("--epochs", type=int, help="of the pruning; as FairPruner has them")
    parser.add_argument("--tolerance-on", choices=["training", "unseen"], default="unseen")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # a short fit is not meant to be good
    X, y, sex = rows_of(asked)
    options: dict[str, Any] = {"tolerance_on": asked.tolerance_on, "random_state": 0}
    options["max_epochs"] = asked.epochs or "auto"
    if asked.network == "perceptron":
        numbers = X.select_dtypes("number").fillna(0.0)
        X = ((numbers - numbers.mean()) / (numbers.std() + 1e-9)).to_numpy(np.float32)
        options["estimator"] = Perceptron
    with data_parallel() as world:
        mine, start = world.share(len(X)), time.perf_counter()
        shared = FairPruner(**options).fit(X[mine], y[mine], sensitive_features=sex[mine])
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
    alone = FairPruner(**options).fit(X, y, sensitive_features=sex)
    of_one = time.perf_counter() - start
    equal = np.mean(shared.predict(X) == alone.predict(X))
    apart = np.abs(shared.multipliers_.to_numpy() - alone.multipliers_.to_numpy()).max()
    gaps = abs(shared.train_gap_ - alone.train_gap_)
    accuracy = abs(shared.score(X, y) - alone.score(X, y))
    print(
        f"{len(X):,} rows: {of_one:.1f} s in one process, {seconds:.1f} s in {world.size}. "
        f"Equal predictions: {equal:.2%}. Apart: accuracy {accuracy:.2g}, gap {gaps:.2g}, "
        f"multipliers {apart:.2g}."
    )
    if asked.network == "perceptron" and (equal < 0.999 or apart > 1e-4 or gaps > 0.001):
        raise SystemExit("The fits differ.")


if __name__ == "__main__":
    main()
