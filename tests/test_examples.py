"""The examples run as the README says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from torch import nn

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
def refused(monkeypatch):
    """Run the demo in this process, and return what it stops with: a message, no traceback."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples/demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)

    def run_demo(*arguments):
        monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            demo.main()
        assert isinstance(stopped.value.code, str)
        return stopped.value.code

    return run_demo


@pytest.fixture
def csv(tmp_path):
    from fairprune_sk.datasets import make_biased_classification

    X, y, s = make_biased_classification(600, random_state=0)
    path = tmp_path / "credit.csv"
    pd.concat([X, s, y], axis=1).to_csv(path, index=False)
    return path


@pytest.mark.slow
def test_demo_on_a_csv(csv):
    columns = ["--target", "approved", "--sensitive", "sex,origin", "--positive", "0"]
    done = run("examples/demo.py", "--data", csv, *columns)
    assert done.returncode == 0, done.stderr
    texts = ["600 rows", "FairPruner", "Fairness report: 180 rows", "Sparsity 90.0%"]
    for text in [*texts, "0 counts as positive, 1 as negative", "positive label 0"]:
        assert text in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "nothing", "--sensitive", "sex"], "without the columns ['nothing']"),
        (["--target", "approved"], "Got only a part of --data, --target and --sensitive"),
        (["--target", "aproved", "--sensitive", "Sexx"], "Did you mean 'approved', 'sex'?"),
        (["--target", "income", "--sensitive", "sex"], "this is a classifier"),
        (["--target", "sex", "--sensitive", "sex"], "expected different ones"),
        (["--target", "approved", "--sensitive", "sex", "--positive", "yes"], "'approved': 0, 1"),
        (["--target", "origin", "--sensitive", "sex", "--positive", "x"], "leave it out"),
    ],
)
def test_demo_says_what_is_wrong_with_its_arguments(csv, refused, arguments, message):
    assert message in refused("--data", csv, *arguments)


@pytest.mark.parametrize(
    "arguments", [["--target", "y"], ["--sensitive", "sex"], ["--positive", "yes"]]
)
def test_demo_refuses_columns_without_a_file(refused, arguments):
    assert "expected all three, or none" in refused(*arguments)


def test_demo_stops_without_a_traceback():
    done = run("examples/demo.py", "--target", "y")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "expected all three, or none" in done.stderr


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
def test_demo_says_what_is_wrong_with_a_target(tmp_path, refused, labels, message):
    n = len(labels)
    path = tmp_path / "table.csv"
    sexes = ["f", "m"] * (n // 2)
    pd.DataFrame({"a": range(n), "sex": sexes, "y": labels}).to_csv(path, index=False)
    assert message in refused("--data", path, "--target", "y", "--sensitive", "sex")


@pytest.mark.parametrize("content", [None, b"", bytes(range(256))])
def test_demo_refuses_what_is_no_table(tmp_path, refused, content):
    path = tmp_path
    if content is not None:
        path = tmp_path / "table.csv"
        path.write_bytes(content)
    assert "but expected a" in refused("--data", path, "--target", "y", "--sensitive", "sex")


@pytest.mark.slow
def test_epoch_time_prints_its_ratios():
    done = run("examples/epoch_time.py", "--rows", 3000, "--epochs", 4)
    assert done.returncode == 0, done.stderr
    assert "x plain" in done.stdout


@pytest.mark.slow
def test_inference_time_prints_its_ratios():
    done = run("examples/inference_time.py", "--seconds", 0.01, "--rounds", 1, "--resnet10")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(("MLP", "ResNet"))]
    assert len([float(line[32:].split()[2]) for line in lines]) == 5


def test_a_network_is_masked_and_cut():
    spec = importlib.util.spec_from_file_location("networks", ROOT / "examples/networks.py")
    networks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(networks)
    layers = nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 2)
    row, reasons = networks.line("tiny", lambda: nn.Sequential(*layers), (5,))
    assert row.startswith("tiny") and " 8    1 of 3 " in row
    assert [reason.split(" makes")[0] for reason in reasons] == ["2: layer '3' (LayerNorm)"]
