"""Fit on several processes, and compare with one: ``torchrun --nproc-per-node=2 data_parallel.py``.

Prints seconds, rows a second and differences, and ends with an error if the two fits differ.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.distributed import data_parallel


def main() -> None:
    """Fit twice, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--tolerance-on", choices=["training", "unseen"], default="training")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    X, y, sensitive = make_biased_classification(asked.rows, random_state=0)
    sex = sensitive["sex"]
    parameters = {
        "tolerance_on": asked.tolerance_on,
        "max_epochs": asked.epochs,
        "random_state": 0,
    }
    with data_parallel() as world:
        mine, start = world.share(len(X)), time.perf_counter()
        shared = FairPruner(**parameters).fit(X[mine], y[mine], sensitive_features=sex[mine])
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
    alone = FairPruner(**parameters).fit(X, y, sensitive_features=sex)
    of_one = time.perf_counter() - start
    equal = np.mean(shared.predict(X) == alone.predict(X))
    apart = np.abs(shared.multipliers_.to_numpy() - alone.multipliers_.to_numpy()).max()
    gaps = abs(shared.train_gap_ - alone.train_gap_)
    print(
        f"{asked.rows:,} rows: {of_one:.1f} s in one process, {seconds:.1f} s in {world.size}. "
        f"Equal predictions: {equal:.4%}. Multipliers apart: {apart:.2g}. Gaps apart: {gaps:.2g}."
    )
    if equal < 0.999 or apart > 1e-4 or gaps > 0.001:
        raise SystemExit("The fits differ.")


if __name__ == "__main__":
    main()
