"""Fits on several processes, started as users start them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.distributed import data_parallel

ROOT = Path(__file__).parents[1]


def torchrun(n, script, *args):
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={n}"]
    return subprocess.run(
        [*command, "--standalone", str(script), *args],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_as_one_process(n):
    # A table of one batch for 3: its rows are merged, then shared.
    rows = {2: "2500", 3: "1500"}[n]
    ended = torchrun(n, ROOT / "examples" / "data_parallel.py", "--rows", rows, "--epochs", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Equal predictions" in ended.stdout


CHECKS = """
import os, sys
from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.distributed import data_parallel

X, y, s = make_biased_classification(400, random_state=0)
with data_parallel() as world:
    mine = world.share(len(X))
    rows = X[mine], y[mine]
    for own in ({"warm_start": True}, {"memory": "here"}, {"sparsity": 0.5 + 0.1 * world.rank}):
        try:
            FairPruner(**own).fit(*rows, sensitive_features=s["sex"][mine])
        except ValueError as error:
            print(f"{next(iter(own))}: {error}", flush=True)
    if world.rank == 1:
        os._exit(3)
    FairPruner().fit(*rows, sensitive_features=s["sex"][mine])
"""


@pytest.mark.slow
def test_errors_come_on_all_and_a_process_that_dies_ends_the_others(tmp_path):
    script = tmp_path / "checks.py"
    script.write_text(CHECKS)
    ended = torchrun(2, script)
    assert ended.returncode != 0
    assert ended.stdout.count("warm_start: Got warm_start=True in data_parallel()") == 2
    assert ended.stdout.count("memory: Got memory in data_parallel()") == 2
    assert ended.stdout.count("expected the same parameters and columns in all") == 2


def test_without_torchrun():
    with pytest.raises(RuntimeError, match="torchrun --nproc-per-node"), data_parallel():
        X, y, s = make_biased_classification(100, random_state=0)
        FairPruner().fit(X, y, sensitive_features=s["sex"])
