"""Kill fits, searches and benchmarks at random moments, and see whether they go on as they must.

Each process is forked, does its work with a checkpoint (a benchmark with a file of results), and is
killed at a moment drawn from the time that an undisturbed one takes, in seconds of the processor,
so that other load does not matter. Another one then does the same, without a kill, and what it ends
with is compared to what an undisturbed one gave, bit by bit; times are left out. The exit status is
1 if anything differs::

    python examples/survival.py               # 30 kills of each
    python examples/survival.py --kills 5 --only fit

Needs Linux: ``fork``, and ``/proc`` for the time that a process has used.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fairprune_sk import FairPruner, FairPrunerCV, benchmark
from fairprune_sk.archive import from_json, read_file
from fairprune_sk.datasets import Table, make_biased_classification


def digest_of_fit(folder: Path, keep: bool = True) -> str:
    """Fit on 1,000 rows, and give a digest of networks, masks, multipliers, gaps and epochs."""
    X, y, s = make_biased_classification(1000, random_state=0)
    path = folder / "fit.checkpoint" if keep else None
    pruner = FairPruner(max_epochs=30, batch_size=250, random_state=0, checkpoint=path)
    pruner.fit(X, y, sensitive_features=s["sex"])
    digest = hashlib.sha256()
    networks = pruner.network_, pruner.dense_estimator_.module_
    tensors = [tensor for network in networks for tensor in network.state_dict().values()]
    for tensor in [*tensors, *pruner.masks_.values()]:
        digest.update(tensor.numpy().tobytes())
    for history in (pruner.dense_estimator_.history, pruner.history_):
        epochs = [
            {k: v for k, v in epoch.items() if k not in ("dur", "batches")} for epoch in history
        ]
        digest.update(repr(epochs).encode())
    rest = pruner.multipliers_, pruner.unseen_gap_interval_, pruner.violation_, pruner.n_iter_
    digest.update(repr(rest).encode() + pruner.predict_proba(X).tobytes())
    return digest.hexdigest()


class Small(nn.Module):
    """A network of eight hidden units."""

    def __init__(self, n_features: int = 2):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, X):
        """Logits."""
        return self.layers(X)


def digest_of_search(folder: Path, keep: bool = True) -> str:
    """Search four cells of small networks, and give a digest of the surface and all networks."""
    X, y, s = make_biased_classification(600, random_state=0)
    X = (X.select_dtypes("number").fillna(0.0) / 10).to_numpy(np.float32)
    torch.manual_seed(0)  # the first weights of an instance are those of every process
    quick = FairPruner(Small(X.shape[1]), max_epochs=20, random_state=0)
    search = FairPrunerCV(
        quick,
        sparsity=(0.5, 0.7),
        tolerance=(0.05, None),
        cv=3,
        checkpoint=folder / "search" if keep else None,
    )
    search.fit(X, y, sensitive_features=s["sex"])
    digest = hashlib.sha256(search.surface_.to_json(double_precision=15).encode())
    for cell in search.cv_results_["params"]:
        digest.update(search.network_at(**cell).predict_proba(X).tobytes())
    return digest.hexdigest()


def digest_of_benchmark(folder: Path, keep: bool = True) -> str:
    """Fit 12 small networks, and give a digest of the table of results."""
    X, y, s = make_biased_classification(400, random_state=0)
    X = X.select_dtypes("number").fillna(0.0) / 10
    quick = {"estimator": Small, "tolerance_on": "training", "max_epochs": 10}
    fits = benchmark(
        {"ours": FairPruner(**quick), "magnitude": FairPruner(solver="magnitude", **quick)},
        [Table("made", X, y, s[["sex"]])],
        sparsities=[0.5, 0.7],
        seeds=3,
        results=folder / "fits.sqlite" if keep else None,
        progress=False,
    )
    plain = fits.drop(columns="seconds").to_json(double_precision=15)
    return hashlib.sha256(plain.encode()).hexdigest()


def told_of_fit(folder: Path) -> str:
    """Say how far a killed fit had come, as its checkpoint has it."""
    path = folder / "fit.checkpoint"
    if not path.exists():
        return "before the first write"
    parts = from_json(*read_file(path))["parts"]
    epochs = {
        name: len(part["net"]["epochs"]) for name, part in parts.items() if "half" not in name
    }
    halves = sorted(name for name in parts if name.startswith("half"))
    return ", ".join([*halves, *(f"{name} epoch {n}" for name, n in epochs.items())]) or "begun"


def told_of_search(folder: Path) -> str:
    """Say how many trainings and folds of a killed search were there."""
    files = [path for path in (folder / "search").rglob("*") if path.is_file()]
    finished = sum(path.name == "finished" for path in files)
    return f"{len(files)} files, {finished} of finished folds"


def told_of_benchmark(folder: Path) -> str:
    """Say how many fits a killed benchmark had added."""
    if not (folder / "fits.sqlite").exists():
        return "0 rows"
    with closing(sqlite3.connect(folder / "fits.sqlite")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name='fits'").fetchall()
        rows = connection.execute("SELECT count(*) FROM fits").fetchone()[0] if tables else 0
    return f"{rows} rows"


WORK: dict[str, tuple[Callable[..., str], Callable[[Path], str]]] = {
    "fit": (digest_of_fit, told_of_fit),
    "search": (digest_of_search, told_of_search),
    "benchmark": (digest_of_benchmark, told_of_benchmark),
}


def run(work: Callable[..., str], folder: Path, kill_after: float | None = None, keep: bool = True):
    """Do the work in a process of its own.

    Returns
    -------
    digest : str or None
        None for a process that was killed.
    seconds : float
        Of the processor.
    """
    answer = folder / "answer"
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            warnings.simplefilter("ignore")
            digest = work(folder, keep)
            answer.with_suffix(".new").write_text(digest)
            os.replace(answer.with_suffix(".new"), answer)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    while kill_after is not None and processor_seconds(child) < kill_after:
        time.sleep(0.001)
    if kill_after is not None:
        os.kill(child, signal.SIGKILL)  # one that has ended waits to be waited for
    used = os.wait4(child, 0)[2]
    return (answer.read_text() if answer.exists() else None), used.ru_utime + used.ru_stime


def processor_seconds(process: int) -> float:
    """Seconds of the processor that a process has used; infinity once it has ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    if fields[0] == "Z":
        return np.inf
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Kill, go on, compare; print a line for each kill."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--only", choices=WORK)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, wrong = np.random.default_rng(options.seed), 0
    for name, (work, told) in WORK.items():
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as scratch:
            expected, seconds = run(work, Path(scratch), keep=False)
            kept, with_file = run(work, Path(scratch))
        wrong += kept != expected
        print(f"{name}: undisturbed {seconds:.1f} s, with its file {with_file:.1f} s", flush=True)
        rows = []
        for number in range(options.kills):
            with tempfile.TemporaryDirectory() as scratch:
                folder, moment = Path(scratch), rng.uniform(0, with_file)
                answer, spent = run(work, folder, kill_after=moment)
                stood = told(folder) if answer is None else "had ended"
                digest, rest = run(work, folder)
                same = digest == expected
                wrong += not same
            rows.append(max(spent + rest - with_file, 0.0))
            print(
                f"{number:3d} killed after {spent:5.2f} s ({stood}); the rest took {rest:5.2f} s: "
                f"{'identical' if same else 'DIFFERENT'}",
                flush=True,
            )
        print(
            f"{name}: {options.kills} kills; both parts together took {np.median(rows):.2f} s more "
            f"than an undisturbed one in the median, {max(rows):.2f} s at most"
        )
    print("all identical" if not wrong else f"{wrong} DIFFERENT")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
