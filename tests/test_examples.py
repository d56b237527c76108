"""The examples run as the README says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def csv(tmp_path):
    from fairprune_sk.datasets import make_biased_classification

    X, y, s = make_biased_classification(600, random_state=0)
    path = tmp_path / "credit.csv"
    pd.concat([X, s, y], axis=1).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_demo_on_a_csv(csv):
    done = run(
        "examples/demo.py", "--data", csv, "--target", "approved", "--sensitive", "sex,origin"
    )
    assert done.returncode == 0, done.stderr
    for text in ("600 rows", "FairPruner", "Fairness report: 180 rows", "Sparsity 90.0%"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "nothing", "--sensitive", "sex"], "without the columns ['nothing']"),
        (["--target", "approved"], "Got only a part of --data, --target and --sensitive"),
        (["--target", "aproved", "--sensitive", "Sexx"], "Did you mean 'approved', 'sex'?"),
        (["--target", "income", "--sensitive", "sex"], "this is a classifier"),
        (["--target", "sex", "--sensitive", "sex"], "expected different ones"),
    ],
)
def test_demo_says_what_is_wrong_with_its_arguments(csv, arguments, message):
    done = run("examples/demo.py", "--data", csv, *arguments)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("arguments", [["--target", "y"], ["--sensitive", "sex"]])
def test_demo_refuses_columns_without_a_file(arguments):
    done = run("examples/demo.py", *arguments)
    assert done.returncode != 0 and "expected all three, or none" in done.stderr


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["yes"] * 40, "with one value, 'yes'"),
        (["yes", *["no"] * 39], "1 classes of one row ('yes')"),
        (["yes", "no"] * 4, "Got 8 rows"),
        ([f"{i // 2}-" for i in range(40)], "20 classes in 40 rows"),
        ([i / 10 for i in range(40)], "this is a classifier"),
    ],
)
def test_demo_says_what_is_wrong_with_a_target(tmp_path, labels, message):
    n = len(labels)
    path = tmp_path / "table.csv"
    sexes = ["f", "m"] * (n // 2)
    pd.DataFrame({"a": range(n), "sex": sexes, "y": labels}).to_csv(path, index=False)
    done = run("examples/demo.py", "--data", path, "--target", "y", "--sensitive", "sex")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("content", [None, b"", bytes(range(256))])
def test_demo_refuses_what_is_no_table(tmp_path, content):
    path = tmp_path
    if content is not None:
        path = tmp_path / "table.csv"
        path.write_bytes(content)
    done = run("examples/demo.py", "--data", path, "--target", "y", "--sensitive", "sex")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "but expected a" in done.stderr


@pytest.mark.slow
def test_epoch_time_prints_its_ratios():
    done = run("examples/epoch_time.py", "--rows", 3000, "--epochs", 4)
    assert done.returncode == 0, done.stderr
    assert "x plain" in done.stdout


@pytest.mark.slow
def test_inference_time_prints_ratios_that_meet_the_targets():
    done = run("examples/inference_time.py", "--seconds", 0.05)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("MLP", "ResNet"))]
    faster = [float(line[32:].split()[2]) for line in lines]
    assert len(faster) == 5
    assert faster[0] > 2.5 and faster[3] > 1.5  # half of what an idle machine shows
