"""The cost report against counts by hand."""

from __future__ import annotations

import copy
import zipfile

import numpy as np
import pytest
import torch
from networks import TwoInputs
from torch import nn

from fairprune_sk import FairPruner

# Networks of a few epochs on random labels may well predict one class.
pytestmark = pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")

QUICK = {"batch_sizes": (1, 3), "min_run_time": 0.003}


def quick(*args, **kwargs):
    return FairPruner(
        *args, **{"constraint": None, "max_epochs": 2, "random_state": 0, "sparsity": 0.5} | kwargs
    )


def fitted_on(X, *args, **kwargs):
    return quick(*args, **kwargs).fit(X, np.arange(len(X)) % 2)


@pytest.fixture(scope="module")
def matrix():
    return np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def default(matrix):
    return fitted_on(matrix, sparsity=0.9)


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))


def nonzero(network):
    return sum(int(p.count_nonzero()) for p in network.parameters())


def test_size_and_arithmetic_of_a_matrix_network(matrix):
    pruner = fitted_on(matrix, mlp())
    report = pruner.cost_report(**QUICK)
    n_weights = 6 * 16 + 16 * 8 + 8
    dense, pruned = report.table.loc["dense"], report.table.loc["pruned"]
    assert dense["parameters"] == n_weights + 16 + 8 + 1
    assert dense["multiply_adds"] == dense["nonzero_multiply_adds"] == n_weights
    layers = [layer for layer in pruner.network_ if isinstance(layer, nn.Linear)]
    assert pruned["parameters"] == sum(p.numel() for p in pruner.network_.parameters())
    assert pruned["nonzero_parameters"] == nonzero(pruner.network_)
    assert pruned["multiply_adds"] == sum(layer.weight.numel() for layer in layers)
    assert pruned["nonzero_multiply_adds"] == sum(int(v.weight.count_nonzero()) for v in layers)
    assert pruned["nonzero_multiply_adds"] < 0.6 * n_weights
    ratio = n_weights / pruned["nonzero_multiply_adds"]
    assert report.ratios["nonzero_multiply_adds"] == pytest.approx(ratio)


@pytest.mark.parametrize("granularity", ["unstructured", "neuron"])
def test_arithmetic_of_convolutions(granularity):
    X = np.random.default_rng(0).normal(size=(40, 3, 8, 8)).astype(np.float32)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Flatten(),
        nn.Linear(32, 1),
    )
    pruner = fitted_on(X, module, granularity=granularity)
    report = pruner.cost_report(X, **QUICK)
    assert report.table.loc["dense", "multiply_adds"] == 16 * 27 * 8 + 4 * 9 * 8 + 32
    first, _, _, second, _, last = pruner.network_
    for column, count in (
        ("multiply_adds", torch.numel),
        ("nonzero_multiply_adds", torch.count_nonzero),
    ):
        places = ((first, 16), (second, 4), (last, 1))
        expected = sum(n * int(count(layer.weight)) for layer, n in places)
        assert report.table.loc["pruned", column] == expected
    if granularity == "neuron":
        assert report.ratios["multiply_adds"] > 1.5


class Attention(nn.Module):
    """One head over the six columns as tokens."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(1, 8), nn.Linear(1, 8), nn.Linear(1, 8)
        self.output = nn.Linear(8, 1)

    def forward(self, X):
        tokens = X.unsqueeze(-1)
        weight = (self.q(tokens) @ self.k(tokens).transpose(1, 2)).softmax(-1)
        return self.output((weight @ self.v(tokens)).mean(dim=1))


def test_products_of_values_count_whole(matrix):
    pruner = fitted_on(matrix, Attention())
    table = pruner.cost_report(**QUICK).table
    assert table.loc["dense", "multiply_adds"] == 6 * 3 * 8 + 2 * 6 * 6 * 8 + 8
    network = pruner.network_
    zeros = [int((v.weight == 0).sum()) for v in (network.q, network.k, network.v, network.output)]
    expected = 6 * sum(zeros[:3]) + zeros[3]
    pruned = table.loc["pruned"]
    assert expected > 0
    assert pruned["multiply_adds"] - pruned["nonzero_multiply_adds"] == expected


def test_bytes_are_those_of_a_file(default, tmp_path):
    table = default.cost_report(**QUICK).table
    default.save(tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "a") as archive:
        stored = archive.getinfo("tensors.safetensors")
    assert table["bytes"].sum() == pytest.approx(stored.file_size, rel=0.3)  # masks are there too
    assert table["compressed_bytes"].sum() == pytest.approx(stored.compress_size, rel=0.3)
    assert (table["bytes"] > 4 * table["parameters"]).all()
    assert table.loc["pruned", "compressed_bytes"] < 0.3 * table.loc["dense", "bytes"]


def test_times(default):
    report = default.cost_report(batch_sizes=[1, 64], min_run_time=0.02)
    table = report.table
    assert (table[["latency_ms_1", "latency_ms_64"]] > 0).all(axis=None)
    assert (table["latency_ms_64"] < 64 * table["latency_ms_1"]).all()
    for size in (1, 64):
        seconds = table[f"latency_ms_{size}"] / 1e3
        np.testing.assert_allclose(table[f"throughput_{size}"], size / seconds)
        faster = (
            table.loc["dense", f"latency_ms_{size}"] / table.loc["pruned", f"latency_ms_{size}"]
        )
        assert report.ratios[f"latency_ms_{size}"] == faster
        assert report.ratios[f"throughput_{size}"] == pytest.approx(faster)


def test_it_prints_and_shows(default):
    report = default.cost_report(batch_sizes=[1, 4096], min_run_time=0.003)
    text = str(report)
    assert repr(report) == text
    assert max(map(len, text.splitlines())) <= 100
    for words in (
        "cpu, 1 thread",
        "nonzero multiply adds",
        "ms for 4,096 rows",
        "dense / pruned",
        "×",
    ):
        assert words in text and words in report._repr_html_()


def test_the_estimator_and_torch_stay_as_they_are(default, matrix):
    before = copy.deepcopy(default.network_.state_dict())
    n_threads = torch.get_num_threads()
    default.network_.train()
    report = default.cost_report(matrix[:2], n_threads=2, **QUICK)
    assert "2 threads" in str(report)
    assert torch.get_num_threads() == n_threads
    assert default.network_.training
    default.network_.eval()
    assert all(torch.equal(v, before[k]) for k, v in default.network_.state_dict().items())


def test_networks_of_several_inputs_need_rows():
    rng = np.random.default_rng(0)
    X = {"numbers": rng.normal(size=(80, 2)), "kind": rng.integers(0, 4, 80)}
    pruner = quick(TwoInputs()).fit(X, np.arange(80) % 2)
    with pytest.raises(ValueError, match="Got X=None, but TwoInputs .* pass a few rows as X"):
        pruner.cost_report(**QUICK)
    assert pruner.cost_report(X, **QUICK).table.loc["dense", "multiply_adds"] == 48


def test_batch_sizes_are_positive(default):
    with pytest.raises(ValueError, match=r"batch_sizes=\(0, 1\), but expected positive"):
        default.cost_report(batch_sizes=(0, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and there is none")
def test_on_a_gpu(matrix):
    report = fitted_on(matrix, device="cuda").cost_report(**QUICK)
    assert report.device.startswith("cuda") and (report.table > 0).all(axis=None)
