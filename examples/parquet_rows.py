"""Fit on a Parquet file that is larger than memory should be: time, peak memory, what came out.

    python examples/parquet_rows.py --rows 20000000 --folder /tmp/rows

writes generated rows first, in a process of its own, a million at a time. ``--memory`` fits on the
same rows as a DataFrame instead.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fairprune_sk import FairPruner
from fairprune_sk.assessment import gap_estimate
from fairprune_sk.datasets import ParquetTable, make_biased_classification

AT_A_TIME = 1_000_000


def rows_of(n: int, seed: int) -> pd.DataFrame:
    """Draw rows with target and sensitive columns."""
    X, y, s = make_biased_classification(n, random_state=seed)
    return X.assign(approved=y, sex=s["sex"])


def write(path: Path, n: int) -> None:
    """Write n rows, some at a time."""
    writer = None
    for seed, start in enumerate(range(0, n, AT_A_TIME)):
        table = pa.Table.from_pandas(rows_of(min(AT_A_TIME, n - start), seed))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=AT_A_TIME // 4)
    assert writer is not None
    writer.close()


def peak() -> float:
    """Most memory that this process has held, in GiB, pages of its files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Write, fit, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--tolerance-on", choices=["training", "unseen"], default="unseen")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    path = asked.folder / f"rows_{asked.rows}.parquet"
    if not path.exists():
        writing = multiprocessing.get_context("spawn").Process(
            target=write, args=(path, asked.rows)
        )
        writing.start()
        writing.join()
    warnings.simplefilter("ignore")
    table, before = ParquetTable(path), peak()
    start = time.perf_counter()
    y, sex = table.column("approved"), table.column("sex")
    X = table.drop(["approved", "sex"])
    if asked.memory:
        X = X.to_pandas()
    read = time.perf_counter() - start
    pruner = FairPruner(random_state=0, tolerance_on=asked.tolerance_on)
    pruner.fit(X, y, sensitive_features=sex)
    fitted = time.perf_counter() - start
    predicted = pruner.predict(X)
    seconds = time.perf_counter() - start
    others = rows_of(300_000, 10_000)
    found = pruner.predict(others.drop(columns=["approved", "sex"]))
    gap = gap_estimate(others["approved"], found, sensitive_features=others["sex"])
    print(
        f"{len(y):,} rows {'in memory' if asked.memory else 'on disk'} "
        f"({path.stat().st_size / 2**30:.2f} GiB), {torch.get_num_threads()} threads: columns "
        f"{read:.0f} s, fit {fitted - read:.0f} s, predictions of all rows {seconds - fitted:.0f} "
        f"s; at most {peak():.2f} GiB ({before:.2f} before), training accuracy "
        f"{np.mean(predicted == y):.4f}, on 300,000 other rows "
        f"{np.mean(found == others['approved']):.4f} with a gap of {gap.gap:.4f}"
    )


if __name__ == "__main__":
    main()
