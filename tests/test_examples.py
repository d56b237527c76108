"""The examples run as the README says."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.slow
def test_epoch_time_prints_its_ratios():
    done = run("examples/epoch_time.py", "--rows", 2000, "--epochs", 4)
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
