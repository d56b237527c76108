"""Memory that a fit takes for each row, beyond the table that it is given.

Generated rows; the pruning phase goes over them once, which takes as much memory as more often::

    python examples/memory_per_row.py --rows 1000000

The peak is that of the process, read from the kernel (Linux with glibc), less what it had before
the fit, so that networks and batches, whose memory does not depend on the rows, count as well: ask
for many rows. Before and after it the allocator gives back what it only keeps for later.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import warnings
from pathlib import Path

import torch

from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification


def resident(name: str = "VmRSS") -> int:
    """Bytes of this process in memory, or their peak since it was last reset ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def settled() -> int:
    """Bytes that are held, when all that is free has been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident()


def main() -> None:
    """Fit, and print bytes by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    X, y, s = make_biased_classification(3000, random_state=1)
    FairPruner(max_epochs=1, random_state=0).fit(X, y, sensitive_features=s["sex"])  # imports
    n = options.rows
    X, y, s = make_biased_classification(n, random_state=0)
    before = settled()
    Path("/proc/self/clear_refs").write_text("5")
    pruner = FairPruner(max_epochs=1, random_state=0).fit(X, y, sensitive_features=s["sex"])
    peak, after = resident("VmHWM"), settled()
    print(
        f"{n:,} rows of {X.memory_usage().sum() / n:.0f} bytes, {len(X.columns)} columns;", end=" "
    )
    print(f"the network reads {4 * len(pruner.encoder_.source_)} bytes of each")
    print(
        f"during the fit: {(peak - before) / n:.0f} bytes a row; after: {(after - before) / n:.0f}"
    )


if __name__ == "__main__":
    main()
