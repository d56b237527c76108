"""Exports against the estimator's own predictions, in onnxruntime and torch."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from networks import convolutions, rows
from skorch import NeuralNetClassifier
from torch import nn

from fairprune_sk import FairPruner
from fairprune_sk.exceptions import SuspectColumnWarning
from fairprune_sk.export.traced import TOLERANCE
from fairprune_sk.fitting.fitted import Fitted
from fairprune_sk.networks.transformer import TabularTransformer

# Networks of a few epochs on random labels may well predict one class, and tables here have
# columns of every kind, useless ones too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning"),
    pytest.mark.filterwarnings("ignore::fairprune_sk.SuspectColumnWarning"),
]


def quick(*args, **kwargs):
    return FairPruner(*args, **{"constraint": None, "max_epochs": 2, "random_state": 0} | kwargs)


def mixed_table(n, seed=0, unknown=False):
    """Every kind of column that the default network takes; unknown: with values not in fit."""
    rng = np.random.default_rng(seed)

    def some(values, missing=0.1):
        picked = np.empty(n, dtype=object)
        picked[:] = [values[i] for i in rng.integers(len(values), size=n)]
        return np.where(rng.random(n) < missing, None, picked)

    X = pd.DataFrame(
        {
            "income": np.where(rng.random(n) < 0.2, np.nan, rng.lognormal(3, 2, n)),
            "nothing": np.nan,
            "one": 1,
            "seconds": 1.6e9 + rng.integers(0, 1000, n),
            "visits": pd.array(some([1, 2, 3]), dtype="Int64"),
            "label": rng.normal(size=n).astype(np.float32),
            "probabilities": rng.normal(size=n),
            "married": rng.integers(0, 2, n).astype(bool),
            "maybe": pd.array(some([True, False]), dtype="boolean"),
            "job": some(["a", "b", "", "<unknown>"] + ["never seen"] * unknown),
            "text": pd.array(some(["x", "ünïcödé"]), dtype="str"),
            "region": pd.Categorical(some(["n", "s"])),
            "tier": pd.Categorical(some([1, 2, 7] + [0] * unknown)),
            "level": pd.Categorical(some([0.5, 1.25] + [3.0] * unknown)),
            "day": pd.to_datetime(some(["2020-01-01", "2021-05-05"] + ["1999-01-01"] * unknown)),
            "band": pd.cut(rng.uniform(-3 * unknown, 3, n), [-3, 0, 1, 2, 3]),
            "empty": None,
            "town": [f"t{i}" for i in rng.integers(0, 1000, n)],
        }
    )
    return X.astype({"empty": object, "town": object})


@pytest.fixture(scope="module")
def mixed():
    X = mixed_table(600)
    y = (X["income"].fillna(20) + 20 * X["married"] + 30 * (X["job"] == "a") > 30).astype(int)
    with pytest.warns(SuspectColumnWarning, match="'nothing', 'one', 'empty': constant"):
        return quick(sparsity=0.5).fit(X, y)


@pytest.fixture(scope="module")
def path(mixed, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "pruner.onnx"
    mixed.to_onnx(path)
    return path


@pytest.fixture(scope="module")
def session(path):
    return opened(path)


def opened(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def assert_agrees(session, pruner, X):
    label, probabilities = session.run(None, pruner.onnx_inputs(X))
    np.testing.assert_allclose(probabilities, pruner.predict_proba(X), rtol=0, atol=TOLERANCE)
    expected = pruner.predict(X)
    sure = np.ptp(np.sort(probabilities, axis=1)[:, -2:], axis=1) > 1e-4
    assert (label[sure] == expected[sure]).all() and sure.mean() > 0.9
    return label


# --------------------------------------------------------------------------------- the default net


def test_a_table_of_every_kind_with_missing_values_and_unknown_categories(mixed, session):
    for seed, unknown in ((0, False), (1, False), (2, True)):
        assert_agrees(session, mixed, mixed_table(500, seed, unknown))
    nothing = mixed_table(3).astype({"one": float, "seconds": float, "married": "boolean"})
    for column in nothing:
        nothing[column] = pd.Series([None] * 3).astype(nothing[column].dtype)
    assert_agrees(session, mixed, nothing)


@pytest.mark.parametrize("n", [1, 2, 31, 700])
def test_any_number_of_rows(mixed, session, n):
    assert_agrees(session, mixed, mixed_table(n, 5))


def test_inputs_are_the_columns(mixed, session):
    renamed = {"label": "label_", "probabilities": "probabilities_"}
    inputs = {i.name: (i.type, i.shape) for i in session.get_inputs()}
    assert list(inputs) == [renamed.get(name, name) for name in mixed.feature_names_in_]
    assert inputs["income"] == inputs["visits"] == ("tensor(double)", ["n", 1])
    assert inputs["job"] == inputs["band"] == ("tensor(string)", ["n", 1])
    assert inputs["married"] == inputs["tier"] == ("tensor(int64)", ["n", 1])
    assert inputs["level"] == ("tensor(string)", ["n", 1])
    assert inputs["day"] == ("tensor(double)", ["n", 1])  # days since 1970
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    assert outputs["probabilities"] == ("tensor(float)", ["n", 2])
    assert outputs["label"] == ("tensor(int64)", ["n"])
    missing = json.loads(session.get_modelmeta().custom_metadata_map["missing"])
    assert missing["job"] == "<missing>" and missing["region"] == "" and missing["tier"] == -(2**63)


def test_inputs_written_by_hand(mixed, session):
    X = mixed_table(40, 7)[["region", "income"]]
    full = mixed_table(40, 7)
    inputs = mixed.onnx_inputs(full)
    inputs["region"] = X["region"].astype(object).where(X["region"].notna(), "").to_numpy()[:, None]
    inputs["income"] = X[["income"]].to_numpy()
    got = session.run(["probabilities"], inputs)[0]
    np.testing.assert_allclose(got, mixed.predict_proba(full), rtol=0, atol=TOLERANCE)


def test_an_array_has_numbered_columns(tmp_path):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((300, 12)) < 0.1, np.nan, rng.normal(size=(300, 12)))
    y = np.array(["low", "mid", "high"])[(np.nan_to_num(X[:, :2]) > 0).sum(axis=1)]
    pruner = quick(sparsity=0.5, granularity="neuron").fit(X, y)
    pruner.to_onnx(tmp_path / "a.onnx", X=X)
    session = opened(tmp_path / "a.onnx")
    assert [i.name for i in session.get_inputs()] == [f"x{i}" for i in range(12)]
    assert set(assert_agrees(session, pruner, rng.normal(size=(200, 12)))) <= {"low", "mid", "high"}


@pytest.mark.parametrize("columns", [["job", "married"], ["income"], ["one"]])
def test_tables_of_one_kind(tmp_path, columns):
    X = mixed_table(120)[columns]
    pruner = quick().fit(X, np.arange(120) % 3 > 0)
    pruner.to_onnx(tmp_path / "a.onnx", X=X)
    assert_agrees(opened(tmp_path / "a.onnx"), pruner, mixed_table(50, 1, unknown=True)[columns])


@pytest.mark.parametrize(
    "labels",
    [[False, True], [1.0, 2.0], np.array(["a", "b"], dtype=object)],
    ids=str,
)
def test_labels_of_any_type(tmp_path, labels):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2))
    pruner = quick(Mlp(2), sparsity=0.2).fit(X, np.array(labels)[(X[:, 0] > 0).astype(int)])
    pruner.to_onnx(tmp_path / "a.onnx", X=X)
    assert_agrees(opened(tmp_path / "a.onnx"), pruner, X)


def test_columns_with_names_like_those_inside(tmp_path):
    X = mixed_table(100)[["income", "job"]].set_axis(["network/encoder/median", "X"], axis=1)
    pruner = quick().fit(X, np.arange(100) % 2)
    pruner.to_onnx(tmp_path / "a.onnx", X=X)
    assert_agrees(opened(tmp_path / "a.onnx"), pruner, X)


def test_categories_that_strings_cannot_tell_apart_are_refused(tmp_path):
    X = pd.DataFrame({"pair": [Alike("a"), Alike("b")] * 40}, dtype=object)
    pruner = quick().fit(X, np.arange(80) % 2)
    with pytest.raises(ValueError, match="'pair' with categories that are equal as strings"):
        pruner.to_onnx(tmp_path / "a.onnx")


class Alike(str):
    """Strings that differ, though not when they are written."""

    def __str__(self):
        return "alike"


# ----------------------------------------------------------------------------------- other networks


class Mlp(nn.Module):
    def __init__(self, n_features=5, n_outputs=1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, n_outputs)
        )

    def forward(self, X):
        return self.layers(X)


class Softmax(Mlp):
    def __init__(self):
        super().__init__(5, 2)

    def forward(self, X):
        return super().forward(X).softmax(dim=-1)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.output = nn.Linear(5, 1)

    def forward(self, numbers, kind):
        return self.output(torch.cat([numbers, self.embedding(kind)], dim=1))


NETWORKS = {
    "one logit": (Mlp, "matrix", "neuron"),
    "probabilities": (NeuralNetClassifier(Softmax, max_epochs=2, verbose=0), "matrix", "2:4"),
    "transformer": (TabularTransformer(5, 1, 8, 2, 1, 16), "matrix", "neuron"),
    "images": (convolutions(), "images", "neuron"),
    "dict": (TwoInputs(), "dict", "unstructured"),
}


@pytest.fixture(scope="module", params=NETWORKS)
def other(request):
    """Fit a network of the user's; give the pruner and the kind of rows that it takes."""
    estimator, kind, granularity = NETWORKS[request.param]
    torch.manual_seed(0)
    pruner = quick(estimator, sparsity=0.5, granularity=granularity)
    return pruner.fit(rows(kind), np.arange(80) % 2), kind


def test_other_networks_keep_their_inputs(other, tmp_path):
    pruner, kind = other
    pruner.to_onnx(tmp_path / "a.onnx", X=rows(kind))
    session = opened(tmp_path / "a.onnx")
    names = {i.name: i.shape[0] for i in session.get_inputs()}
    assert names == (dict.fromkeys(["kind", "numbers"], "n") if kind == "dict" else {"X": "n"})
    for n in (1, 50):
        assert_agrees(session, pruner, rows(kind, n, seed=n))


def test_torch_export_of_other_networks(other, tmp_path):
    pruner, kind = other
    program = pruner.to_torch_export(tmp_path / "a.pt2", X=rows(kind))
    loaded = torch.export.load(tmp_path / "a.pt2")
    X = rows(kind, 50, seed=1)
    inputs = pruner._fitted.table(pruner._checked(X)).X
    for module in (program.module(), loaded.module()):
        got = module(inputs).detach().numpy()
        np.testing.assert_allclose(got, pruner.predict_proba(X), rtol=0, atol=TOLERANCE)


def test_networks_that_take_no_matrix_need_rows(other, tmp_path):
    pruner, kind = other
    if kind == "matrix":
        pruner.to_torch_export()
        return
    for export in (lambda: pruner.to_onnx(tmp_path / "a.onnx"), lambda: pruner.to_torch_export()):
        with pytest.raises(ValueError, match="pass a few rows as X"):
            export()


def test_torch_export_of_the_default_network(mixed, tmp_path):
    program = mixed.to_torch_export(tmp_path / "a.pt2")
    for n in (1, 33, 500):
        X = mixed_table(n, n, unknown=True)
        encoded = torch.from_numpy(mixed.encoder_.transform(X))
        for module in (program.module(), torch.export.load(tmp_path / "a.pt2").module()):
            got = module(encoded).detach().numpy()
            np.testing.assert_allclose(got, mixed.predict_proba(X), rtol=0, atol=TOLERANCE)


def test_exports_leave_the_estimator_as_it_is(mixed, tmp_path):
    before = mixed.predict_proba(mixed_table(50))
    mixed.network_.train()
    mixed.to_onnx(tmp_path / "a.onnx")
    mixed.to_torch_export()
    assert mixed.network_.training
    mixed.network_.eval()
    np.testing.assert_array_equal(mixed.predict_proba(mixed_table(50)), before)


# ---------------------------------------------------------------------------------- what goes wrong


class Branching(Mlp):
    """Decides by the data: nothing to trace."""

    def forward(self, X):
        return super().forward(X) if X.sum() > 0 else super().forward(-X)


@pytest.mark.parametrize("export", [FairPruner.to_onnx, FairPruner.to_torch_export])
def test_a_network_that_cannot_be_traced_is_named(tmp_path, export):
    pruner = quick(Branching).fit(rows("matrix"), np.arange(80) % 2)
    with pytest.raises(ValueError, match="Got Branching, which torch cannot export"):
        export(pruner, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_wrong_result_is_not_written(mixed, tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"before")
    right = Fitted.probabilities_of
    monkeypatch.setattr(Fitted, "probabilities_of", lambda self, X: right(self, X) + 1e-3)
    with pytest.raises(RuntimeError, match=r"differ by 1.0e-03 .* nothing was written"):
        mixed.to_onnx(path, X=mixed_table(5))
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_onnx_the_message_says_what_to_install(mixed, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}: pip install fairprune_sk\[onnx\]"):
        mixed.to_onnx(tmp_path / "a.onnx", X=mixed_table(5))


def test_the_file_tells_nothing_of_this_machine(path):
    content = path.read_bytes()
    assert b"/home" not in content and b".py" not in content and b"site-packages" not in content
    onnx.checker.check_model(path, full_check=True)
