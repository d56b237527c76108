"""Files of fitted estimators: the same predictions, and no way in for code or damage."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import pickle
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn import reductions
from networks import TwoInputs, convolutions, rows
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import EpochTimer
from torch import nn

from fairprune_sk import BilevelSolver, FairPruner, fairness_report, load
from fairprune_sk.archive import write_atomically
from fairprune_sk.fairness.constraints import DemographicParity
from fairprune_sk.masks.granularity import GRANULARITIES
from fairprune_sk.networks.transformer import TabularTransformer

# Networks of a few epochs on random labels may well predict one class, and tables here have
# columns of every kind, useless ones too.
pytestmark = [
    pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning"),
    pytest.mark.filterwarnings("ignore::fairprune_sk.SuspectColumnWarning"),
]


def quick(*args, **kwargs):
    return FairPruner(
        *args, **{"constraint": None, "max_epochs": 2, "random_state": 0, "sparsity": 0.5} | kwargs
    )


def saved_and_loaded(pruner, folder, modules=None):
    pruner.save(folder / "a.fairprune")
    return load(folder / "a.fairprune", modules=modules)


@pytest.fixture(scope="module")
def numbers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 5)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] > 0).astype(int), np.arange(120) % 2


@pytest.fixture(scope="module")
def small(numbers):
    """Fit the default network in no time."""
    X, y, s = numbers
    return quick(constraint="equalized_odds", tolerance=1.0).fit(X, y, sensitive_features=s)


@pytest.fixture
def file(small, tmp_path):
    small.save(tmp_path / "a.fairprune")
    return tmp_path / "a.fairprune"


# --------------------------------------------------------------------------------- what comes back


def test_everything_comes_back(fitted, table, tmp_path):
    X, y, s = table
    loaded = saved_and_loaded(fitted, tmp_path)
    for method in ("predict_proba", "predict", "predict_dense", "transform"):
        np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(fitted, method)(X))
    assert loaded.get_params() == fitted.get_params()
    assert vars(loaded).keys() == vars(fitted).keys()
    for name in ("classes_", "groups_", "feature_names_in_"):
        before, after = getattr(fitted, name), getattr(loaded, name)
        assert before.dtype == after.dtype and before.tolist() == after.tolist()
    for name in ("n_features_in_", "sparsity_", "violation_", "n_iter_"):
        assert getattr(loaded, name) == getattr(fitted, name)
    pd.testing.assert_frame_equal(loaded.multipliers_, fitted.multipliers_)
    assert all(torch.equal(loaded.masks_[name], mask) for name, mask in fitted.masks_.items())
    assert loaded.history_[:, "train_loss"] == fitted.history_[:, "train_loss"]
    assert loaded.history_[-1, "sparsity"] == loaded.sparsity_
    reports = [str(fairness_report(p, X, y, sensitive_features=s)) for p in (fitted, loaded)]
    assert reports[0] == reports[1]
    assert loaded.was_fitted_on(X[:2000]) and not loaded.was_fitted_on(X[2000:])


def test_a_loaded_estimator_is_an_estimator(small, numbers, tmp_path):
    X, y, s = numbers
    loaded = saved_and_loaded(small, tmp_path)
    expected = small.predict_proba(X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(loaded)).predict_proba(X), expected)
    again = saved_and_loaded(loaded, tmp_path)
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    assert clone(loaded).get_params() == small.get_params()
    refitted = loaded.fit(X, y, sensitive_features=s)
    np.testing.assert_array_equal(refitted.predict_proba(X), expected)


@pytest.mark.parametrize("granularity", ["unstructured", "neuron"])
def test_a_slim_file_predicts_and_says_what_it_lacks(numbers, tmp_path, granularity):
    X, y, s = numbers
    for own in (None, Mlp):
        settings = {"constraint": "equalized_odds", "tolerance": 1.0, "granularity": granularity}
        settings["tolerance_on"] = "training"
        pruner = quick(own, **settings).fit(X, y, sensitive_features=s)
        whole, slim = tmp_path / "whole", tmp_path / "slim"
        pruner.save(whole)
        pruner.save(slim, slim=True)
        assert slim.stat().st_size < (0.8 if own else 0.4) * whole.stat().st_size
        loaded = load(slim, modules=own)
        loaded.save(slim)  # stays slim
        loaded = pickle.loads(pickle.dumps(load(slim, modules=own)))
        for method in ("predict_proba", "transform"):
            expected = getattr(pruner, method)(X)
            np.testing.assert_array_equal(getattr(loaded, method)(X), expected)
        assert loaded.sparsity_ == pruner.sparsity_ and not hasattr(loaded, "masks_")
        report = fairness_report(loaded, X, y, sensitive_features=s)
        assert report.overall.loc["accuracy"].iloc[-1] == pruner.score(X, y)
        assert "Sparsity" in str(report) and "dense" not in str(report)
        assert "dense" not in report.to_markdown() and loaded._repr_html_()
        report.to_html(tmp_path / "page.html")
        with pytest.raises(AttributeError) as absent:
            loaded.predict_dense(X)
        assert "saved with slim=True" in str(absent.value.__cause__)
        with pytest.raises(ValueError, match="Got cost_report for an estimator that was saved"):
            loaded.cost_report(X)
        with pytest.raises(ValueError, match="Got warm_start=True for an estimator"):
            loaded.set_params(warm_start=True).fit(X, y, sensitive_features=s)
        again = loaded.set_params(warm_start=False).fit(X, y, sensitive_features=s)
        np.testing.assert_array_equal(again.predict_dense(X), pruner.predict_dense(X))


def test_the_same_estimator_gives_the_same_file(small, tmp_path):
    for name in "ab":
        small.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_warm_start_goes_on_after_loading(numbers, tmp_path):
    X, y, _ = numbers
    pruner = quick(warm_start=True).fit(X, y)
    loaded = saved_and_loaded(pruner, tmp_path)
    probabilities = [
        p.set_params(sparsity=0.8).fit(X, y).predict_proba(X) for p in (pruner, loaded)
    ]
    np.testing.assert_array_equal(*probabilities)


def frame(n, seed=0, unknown=False):
    """Columns whose categories are of every type."""
    rng = np.random.default_rng(seed)
    kinds = {
        "text": ["a", "ü", "", "new"],
        "truth": [True, False],
        "number": [1, 2, 7, 8],
        "fraction": [0.5, 1e300, -0.0, 3.25],
        "time": [pd.Timestamp(2020, 1, 1, 1), pd.Timestamp(2021, 5, 5), pd.Timestamp(2022, 1, 1)],
        "zone": pd.to_datetime(["2020-01-01", "2021-05-05"]).tz_localize("Europe/Paris").tolist(),
        "span": pd.to_timedelta(["1h", "2 days 3ns", "3h"]).tolist(),
        "day": [datetime.date(2020, 1, 1), datetime.date(2021, 1, 2)],
        "band": pd.interval_range(0, 3, freq=1.5).tolist(),
        "nothing": [None],
    }
    columns = {"amount": np.where(rng.random(n) < 0.2, np.nan, rng.normal(1e9, 1, n))}
    for name, values in kinds.items():
        values = values if unknown or len(values) < 3 else values[:-1]
        column = np.empty(n, dtype=object)
        column[:] = [values[i] for i in rng.integers(len(values), size=n)]
        columns[name] = pd.Series(np.where(rng.random(n) < 0.2, None, column), dtype=object)
    columns["many"] = pd.Series([f"c{i}" for i in rng.integers(0, 600, n)], dtype=object)
    return pd.DataFrame(columns)


def test_categories_of_every_type(tmp_path):
    X = frame(700)
    pruner = quick().fit(X, np.arange(700) % 2)
    loaded = saved_and_loaded(pruner, tmp_path)
    types = [[[type(k) for k in codes] for codes in p.encoder_.codes_] for p in (pruner, loaded)]
    assert types[0] == types[1]
    for seed, unknown in ((0, False), (1, False), (2, True)):
        new = frame(400, seed, unknown)
        encoded = [p.encoder_.transform(new) for p in (pruner, loaded)]
        assert encoded[0].tobytes() == encoded[1].tobytes()
        assert loaded.encoder_.n_categories_ == pruner.encoder_.n_categories_
        np.testing.assert_array_equal(pruner.predict_proba(new), loaded.predict_proba(new))


@pytest.mark.parametrize(
    "labels",
    [["no", "yes"], [False, True], [2.0, 7.0], [0, 1, 5], np.array(["a", "b"], dtype=object)],
    ids=str,
)
def test_labels_and_groups_of_any_type(numbers, tmp_path, labels):
    X, y, s = numbers
    labels = np.array(labels)
    y = labels[(y + (X[:, 2] > 1)) % len(labels)]
    groups = pd.DataFrame({"sex": np.where(s, "f", "m"), "old": X[:, 3] > 0})
    pruner = quick(constraint="accuracy_parity", tolerance=1.0).fit(X, y, sensitive_features=groups)
    loaded = saved_and_loaded(pruner, tmp_path)
    assert loaded.classes_.dtype == pruner.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), pruner.predict(X))
    assert loaded.groups_.tolist() == pruner.groups_.tolist()


@pytest.mark.parametrize(
    "parameters",
    [
        {"constraint": DemographicParity("ratio"), "class_weight": {0: 1.0, 1: np.float64(2.5)}},
        {"solver": BilevelSolver(gamma=2.0, constrained_levels=("lower",)), "verbose": 1},
        {"granularity": type(GRANULARITIES["2:4"])("layer", 1, 4), "sparsity": np.float64(0.75)},
        {"tolerance": None, "device": "cpu", "random_state": np.int64(3), "callbacks": None},
    ],
)
def test_parameters_come_back(small, tmp_path, parameters):
    pruner = pickle.loads(pickle.dumps(small)).set_params(**parameters)
    assert saved_and_loaded(pruner, tmp_path).get_params() == pruner.get_params()


@pytest.mark.parametrize(
    "moment",
    [
        reductions.EqualizedOdds(difference_bound=0.02),
        reductions.DemographicParity(ratio_bound=0.8),
        reductions.TruePositiveRateParity(),
    ],
)
def test_moments_of_fairlearn_come_back(small, tmp_path, moment):
    pruner = pickle.loads(pickle.dumps(small)).set_params(constraint=moment)
    loaded = saved_and_loaded(pruner, tmp_path).constraint
    assert type(loaded) is type(moment)
    assert (loaded.eps, loaded.ratio) == (moment.eps, moment.ratio)


# --------------------------------------------------------------------------------------- networks


class Mlp(nn.Module):
    def __init__(self, n_features=5, n_outputs=1, hidden=16, slope=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.LeakyReLU(slope),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_outputs),
        )

    def forward(self, X):
        return self.layers(X)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.output = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 1)
        self.second.weight = self.first.weight

    def forward(self, X):
        return self.output(self.second(self.first(X).relu()).relu())


NETWORKS = {
    "default": (None, "matrix"),
    "mlp": (Mlp(), "matrix"),
    "transformer": (TabularTransformer(5, 1, 8, 2, 1, 16), "matrix"),
    "images": (convolutions(), "images"),
    "dict": (TwoInputs(), "dict"),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("granularity", ["unstructured", "neuron", "2:4"])
def test_networks_that_became_smaller(tmp_path, network, granularity):
    module, kind = NETWORKS[network]
    X = rows(kind)
    pruner = quick(module, granularity=granularity).fit(X, np.arange(80) % 2)
    if granularity == "neuron":
        n_before, n_after = (
            sum(p.numel() for p in m.parameters())
            for m in (pruner.dense_estimator_.module_, pruner.network_)
        )
        assert n_after < n_before
    loaded = saved_and_loaded(pruner, tmp_path, module)
    new = rows(kind, seed=1)
    for method in ("predict_proba", "predict_dense"):
        np.testing.assert_array_equal(getattr(loaded, method)(new), getattr(pruner, method)(new))
    assert str(loaded.network_) == str(pruner.network_)  # sizes of the layers
    assert not loaded.network_.training


@pytest.mark.parametrize(
    ("estimator", "modules"),
    [
        (Mlp, Mlp),
        (Mlp, Mlp()),
        (Mlp(), lambda: Mlp()),
        (NeuralNetBinaryClassifier(Mlp, max_epochs=2, verbose=0), Mlp()),
        *[
            (
                NeuralNetClassifier(
                    Mlp, module__n_outputs=2, max_epochs=2, verbose=0, criterion=nn.CrossEntropyLoss
                ),
            )
            * 2
        ],
    ],
    ids=["class", "instance", "callable", "skorch as module", "skorch"],
)
def test_who_builds_the_network(numbers, tmp_path, estimator, modules):
    X, y, _ = numbers
    pruner = quick(estimator).fit(X, y)
    state = {k: v.clone() for k, v in modules.state_dict().items()} if type(modules) is Mlp else {}
    loaded = saved_and_loaded(pruner, tmp_path, modules)
    np.testing.assert_array_equal(loaded.predict_proba(X), pruner.predict_proba(X))
    np.testing.assert_array_equal(loaded.predict_dense(X), pruner.predict_dense(X))
    if callable(modules) and not isinstance(modules, type | nn.Module):
        assert isinstance(loaded.estimator, Mlp)
    else:
        assert loaded.estimator is modules
    assert all(torch.equal(modules.state_dict()[k], v) for k, v in state.items())
    loaded.fit(X, y)


def test_tied_weights_stay_tied(numbers, tmp_path):
    X, y, _ = numbers
    pruner = quick(Tied()).fit(X, y)
    loaded = saved_and_loaded(pruner, tmp_path, Tied)
    dense = loaded.dense_estimator_.module_
    assert dense.first.weight is dense.second.weight
    tied = [p.network_.first.weight is p.network_.second.weight for p in (pruner, loaded)]
    assert tied[0] == tied[1]
    np.testing.assert_array_equal(loaded.predict_proba(X), pruner.predict_proba(X))


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (None, "expected modules=<the dense Mlp>"),
        (Mlp(hidden=8), r"layers.0.weight has shape \(8, 5\), but expected \(16, 5\)"),
        (nn.Linear(5, 1), r"Linear with parameters \['bias', 'weight'\], but expected"),
        (Mlp(slope=0.5), "does not compute what the saved network did"),
    ],
)
def test_another_network_is_refused(numbers, tmp_path, modules, message):
    X, y, _ = numbers
    quick(Mlp).fit(X, y).save(tmp_path / "a")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "a", modules=modules)


def test_the_default_network_takes_no_modules(file):
    with pytest.raises(ValueError, match="expected no modules"):
        load(file, modules=Mlp())


class Scale(nn.Module):
    """A layer of the user's own, which could keep its size anywhere."""

    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, X):
        return X * self.weight[:, None, None]


def test_a_layer_of_unknown_size_is_refused_where_it_cannot_be_tried(tmp_path):
    module = nn.Sequential(*list(convolutions())[:3], Scale(8), *list(convolutions())[4:])
    pruner = quick(module).fit(rows("images"), np.arange(80) % 2)
    first, norm, _, scale, *_, last = pruner.network_
    for layer, size in ((first, "out_channels"), (norm, "num_features"), (last, "in_features")):
        setattr(layer, size, 4)
    first.weight = nn.Parameter(first.weight[:4])
    for name in ("weight", "bias"):
        setattr(norm, name, nn.Parameter(getattr(norm, name)[:4]))
    norm.running_mean, norm.running_var = norm.running_mean[:4], norm.running_var[:4]
    last.weight = nn.Parameter(last.weight[:, :4])
    scale.weight = nn.Parameter(scale.weight[:4])
    pruner.predict(rows("images"))
    pruner.save(tmp_path / "a")
    with pytest.raises(ValueError, match="'Scale'.* cannot be resized"):
        load(tmp_path / "a", modules=module)


# -------------------------------------------------------------------------------- what is no data


class OwnConstraint(DemographicParity):
    """Code of the user's."""


def test_what_is_no_data_is_refused_or_left_out_with_a_warning(small, tmp_path):
    with pytest.raises(NotFittedError):
        FairPruner().save(tmp_path / "a")
    pruner = pickle.loads(pickle.dumps(small)).set_params(constraint=OwnConstraint())
    with pytest.raises(ValueError, match="Got constraint=OwnConstraint"):
        pruner.save(tmp_path / "a")
    pruner.set_params(constraint=None)
    assert not list(tmp_path.iterdir())
    pruner.set_params(callbacks=[EpochTimer()], random_state=np.random.RandomState(0))
    with pytest.warns(UserWarning, match="Not saved: (callbacks|random_state)="):
        loaded = saved_and_loaded(pruner, tmp_path)
    assert loaded.callbacks is None and loaded.random_state is None


def test_a_network_with_other_layers_than_the_dense_one_is_refused(small, tmp_path):
    pruner = pickle.loads(pickle.dumps(small))
    pruner.network_.hidden = nn.Identity()
    with pytest.raises(ValueError, match="layers that the dense network has not"):
        pruner.save(tmp_path / "a")


# -------------------------------------------------------------------------------------- bad files


def test_loading_runs_no_code(file, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("code from a file")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ):
        monkeypatch.setattr(module, name, forbidden)
    load(file)


def rewritten(file, change, checksums=True):
    """Change the state of a file, with or without its checksums."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest, state = json.loads(members["fairprune_sk.json"]), json.loads(members["state.json"])
    change(manifest, state)
    members["state.json"] = json.dumps(state).encode()
    if checksums:
        digest = hashlib.sha256(members["state.json"]).hexdigest()
        manifest["sha256"]["state.json"] = digest
    members["fairprune_sk.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_an_edited_file_is_refused(file):
    rewritten(file, lambda manifest, state: state["dict"].append(["more", 1]), checksums=False)
    with pytest.raises(ValueError, match="was changed or damaged after it was saved"):
        load(file)


@pytest.mark.parametrize(
    "content",
    [
        {"object": ["os.system", {"dict": [["command", "true"]]}]},
        {"object": ["OwnConstraint", {"dict": []}]},
        {"object": ["BilevelSolver", {"dict": [["gamma", -1]]}]},
        {"unheard of": 1},
        {"tensor": "none such"},
        {},
        {"a": 1, "b": 2},
    ],
)
def test_only_known_things_are_built(file, content):
    rewritten(file, lambda manifest, state: state["dict"][0].__setitem__(1, content))
    with pytest.raises(ValueError, match="state is not as version 3 writes it"):
        load(file)


@pytest.mark.parametrize(("version", "age"), [(4, "newer"), (2, "older")])
def test_a_file_of_another_version_says_so(file, version, age):
    rewritten(file, lambda manifest, state: manifest.update(version=version))
    with pytest.raises(ValueError, match=f"version {version}, but expected 3.*{age} fairprune_sk"):
        load(file)


@pytest.mark.parametrize("version", [0, -5, 1.9, 3.0, 2.9, "3", True, None, [3]])
def test_a_version_that_was_never_written_is_refused(file, version):
    rewritten(file, lambda manifest, state: manifest.update(version=version))
    with pytest.raises(ValueError, match="a.fairprune of format version"):
        load(file)


def inside(state, *keys):
    """Return the list of a key and its value, deep in dicts as a file holds them."""
    for key in keys:
        pair = next(pair for pair in state["dict"] if pair[0] == key)
        state = pair[1]
    return pair


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("encoder", "median_"), None),
        (("encoder", "edges_"), []),
        (("encoder", "_categorical"), {"array": ["|b1", [4], [False] * 4]}),
        (("fitted", "classes"), {"array": ["<i8", [3], [0, 1, 2]]}),
        (("fitted", "positive"), 7),
        (("fitted", "schema"), {"dict": [["n_features_in_", 4]]}),
        (("fitted", "sparsity", None), None),
        (("parameters", "sparsity", None), None),
        (("sizes",), {"dict": [["output", {"dict": [["in_features", 0.5]]}]]}),
        (("history",), [1]),
        (("probe",), None),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_refused_by_name(file, keys, value):
    def change(manifest, state):
        if keys[-1] is None:  # a name that nothing has
            inside(state, *keys[:-1])[0] = "unheard_of"
        else:
            inside(state, *keys)[1] = value

    rewritten(file, change)
    with pytest.raises(ValueError, match="a.fairprune"):
        load(file)


def test_a_class_that_does_not_fit_is_refused_for_networks_of_the_users_as_well(numbers, tmp_path):
    X, y, _ = numbers
    quick(Mlp).fit(X, y).save(tmp_path / "a.fairprune")
    three = {"array": ["<i8", [3], [0, 1, 2]]}
    rewritten(
        tmp_path / "a.fairprune",
        lambda manifest, state: inside(state, "fitted", "classes").__setitem__(1, three),
    )
    with pytest.raises(ValueError, match=r"a.fairprune, .*outputs of shape \(8, 1\) for classes"):
        load(tmp_path / "a.fairprune", modules=Mlp())


def other_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("state.json", "{}")
    return buffer.getvalue()


def torch_file():
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", pickle.dumps([1]), other_zip(), torch_file()],
    ids=["empty", "text", "pickle", "zip", "torch"],
)
def test_a_foreign_file_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="was not written by fairprune_sk"):
        load(tmp_path / "a")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "a")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99, -1])
def test_a_truncated_file_is_refused(file, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content)) if share > 0 else -1])
    with pytest.raises(ValueError, match="is truncated or damaged"):
        load(file)


def test_a_flipped_bit_is_found_or_does_not_matter(small, file, numbers):
    X, *_ = numbers
    content, expected = file.read_bytes(), small.predict_proba(X)
    rng = np.random.default_rng(0)
    ends = [*range(0, 120, 3), *range(len(content) - 200, len(content), 3)]
    n_refused = 0
    for place in [*ends, *rng.integers(len(content), size=60)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        try:
            loaded = load(file)
        except ValueError as error:
            assert "Got " in str(error)
            n_refused += 1
        else:  # a date, a flag
            np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    assert n_refused > 100


def test_a_file_that_would_fill_the_memory_is_refused(file, small, monkeypatch, tmp_path):
    monkeypatch.setattr("fairprune_sk.archive.MAX_BYTES", 10_000)
    with pytest.raises(ValueError, match="more than 10000 bytes"):
        load(file)
    with pytest.raises(ValueError, match="more than 10000 bytes"):
        small.save(tmp_path / "b")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("architecture", "hidden"), [40000, 40000], "weights of shapes"),
        (("encoder", "n_categories_"), [2 * 10**8], "weights of shapes"),
        (("encoder", "n_categories_"), [2 * 10**8, 1 - 2 * 10**8], "weights of shapes"),
        (("fitted", "classes"), {"array": ["<U100000000", [1], ["a"]]}, "no text of that length"),
        (("fitted", "classes"), {"array": ["|V100000000", [1], ["a"]]}, "no array is of type"),
        (("fitted", "groups"), {"frame": [0, [*range(9000)], [*range(9000)]]}, "called 'frame'"),
        (("fitted", "groups"), [{"tensor": "state/0"}] * 9, "KeyError"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_small_file_cannot_fill_the_memory(file, keys, value, message):
    rewritten(file, lambda manifest, state: inside(state, *keys).__setitem__(1, value))
    with pytest.raises(ValueError, match=f"a.fairprune, .*{message}"):
        load(file)


def test_more_values_than_a_file_of_its_size_holds_are_not_read(file, small, monkeypatch, tmp_path):
    monkeypatch.setattr("fairprune_sk.archive._MIN_VALUES", 1000)
    monkeypatch.setattr("fairprune_sk.archive._VALUES_PER_BYTE", 0)
    with pytest.raises(ValueError, match="a.fairprune, .*more values than a file of this size"):
        load(file)
    with pytest.raises(ValueError, match="Got a network whose state.json"):
        small.save(tmp_path / "b")


@pytest.mark.parametrize(
    ("compression", "message"),
    [
        (zipfile.ZIP_DEFLATED, "state.json has more than"),
        (zipfile.ZIP_BZIP2, "compressed in another way"),
    ],
)
def test_a_small_file_of_spaces_is_refused(file, compression, message):
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    n_bytes = 150 * 2**20 if compression == zipfile.ZIP_DEFLATED else 10
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("fairprune_sk.json", members["fairprune_sk.json"], zipfile.ZIP_STORED)
        archive.writestr("state.json", b" " * n_bytes)
        archive.writestr("tensors.safetensors", members["tensors.safetensors"])
    with pytest.raises(ValueError, match=f"a.fairprune, .*{message}"):
        load(file)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_what_a_killed_writer_left_is_removed_by_the_next(small, tmp_path):
    import fcntl

    def beside(name):
        path = tmp_path / name
        path.write_bytes(b"half")
        return path

    orphan = beside(".a.fairprune.0123abcd.fairprune_sk")
    others = [
        beside(".b.fairprune.0123abcd.fairprune_sk"),
        beside(".a.fairprune.0123abcd"),
        beside("a.fairprune.0123abcd.fairprune_sk"),
    ]
    alive = beside(".a.fairprune.4567abcd.fairprune_sk")
    with open(alive, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        small.save(tmp_path / "a.fairprune")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "a.fairprune", alive, *others])
    small.save(tmp_path / "a.fairprune")
    assert not alive.exists() and not orphan.exists()


def test_writers_of_one_file_do_not_take_each_other_for_killed(tmp_path):
    def write(letter):
        for _ in range(60):
            write_atomically(tmp_path / "a", letter * 1000)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [b"a", b"b", b"c", b"d"]))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert len(set((tmp_path / "a").read_bytes())) == 1


@pytest.mark.parametrize(
    ("function", "error"),
    [("fsync", OSError(28, "No space left on device")), ("replace", KeyboardInterrupt())],
)
def test_a_failed_write_leaves_the_file_that_was_there(small, file, monkeypatch, function, error):
    before = file.read_bytes()

    def fail(*args):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        small.save(file)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]
