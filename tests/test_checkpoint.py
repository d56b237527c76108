"""A fit that is killed goes on, and ends as if nothing had happened."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn

import fairprune_sk
from fairprune_sk import FairPruner
from fairprune_sk.fitting import checkpoint
from fairprune_sk.solvers import SOLVERS

N = 160


class Small(nn.Module):
    """With all that a state has: weights, buffers, and draws while it is trained."""

    def __init__(self, n_features=3, n_outputs=1):
        super().__init__()
        self.a, self.norm = nn.Linear(n_features, 12), nn.BatchNorm1d(12)
        self.drop, self.b = nn.Dropout(0.2), nn.Linear(12, n_outputs)

    def forward(self, X):
        return self.b(self.drop(torch.relu(self.norm(self.a(X.flatten(1))))))


class Counts(Callback):
    """Keeps data between epochs."""

    def initialize(self):
        self.seen_ = {"epochs": 0, "names": {"a"}}
        return self

    def on_epoch_end(self, net, **kwargs):
        self.seen_ = {"epochs": self.seen_["epochs"] + 1, "names": {"a", "b"}}
        net.history.record("seen", self.seen_["epochs"])


class Hoards(Callback):
    """Keeps what is no data."""

    def initialize(self):
        self.net_ = None
        return self

    def on_epoch_end(self, net, **kwargs):
        self.net_ = net.module_


class Killed(BaseException):
    """In the place of a signal that no handler sees."""


def net():
    return NeuralNetBinaryClassifier(
        Small,
        module__n_features=3,
        max_epochs=12,
        batch_size=40,
        optimizer=torch.optim.Adam,
        iterator_train__shuffle=True,
        callbacks=[
            ("schedule", LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=3)),
            ("stop", EarlyStopping(monitor="train_loss", patience=3, load_best=True)),
        ],
        verbose=0,
    )


@pytest.fixture(scope="module")
def rows():
    draws = np.random.default_rng(0)
    X = draws.normal(size=(N, 3)).astype(np.float32)
    sex = np.where(draws.random(N) < 0.4, "f", "m")
    y = (X[:, 0] + (sex == "m") + draws.normal(size=N) > 0.5).astype(int)
    return X, y, sex


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "WAIT", 0.0)


def fit(rows, **settings):
    X, y, sex = rows
    options = {"max_epochs": 5, "batch_size": 80, "sparsity": 0.5, "random_state": 0}
    options |= {"min_group_count": 1, "tolerance_on": "training"} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five epochs are not meant to be good
        return FairPruner(**options).fit(X, y, sensitive_features=sex)


def bits(pruner, X):
    """All that a fit leaves, but how long it took."""
    tensors = [
        *pruner.network_.state_dict().values(),
        *pruner.dense_estimator_.module_.state_dict().values(),
        *pruner.masks_.values(),
    ]
    epochs = [
        {name: value for name, value in epoch.items() if name not in ("dur", "batches")}
        for history in (pruner.history_, pruner.dense_estimator_.history)
        for epoch in history
    ]
    batches = [
        batch.get("train_loss") for epoch in pruner.history_ for batch in epoch.get("batches", [])
    ]
    gaps = pruner.train_gap_, pruner.unseen_gap_, pruner.unseen_gap_interval_, pruner.n_iter_
    rest = repr((epochs, batches, gaps, pruner.multipliers_))
    return [tensor.numpy().tobytes() for tensor in tensors], pruner.predict_proba(X).tobytes(), rest


def killed(monkeypatch, write, rows, **settings):
    """Fit, and be killed right after this write; return the name of the part that was written."""
    real, written = checkpoint.Checkpoint.keep, []

    def keep(self, name, saved):
        real(self, name, saved)
        written.append(name)
        if len(written) == write:
            raise Killed(name)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "keep", keep)
        with pytest.raises(Killed) as kill:
            fit(rows, **settings)
    return str(kill.value)


# --------------------------------------------------------------------------------- going on


@pytest.mark.parametrize(
    ("settings", "writes"),
    [
        ({"estimator": net(), "callbacks": [Counts()]}, [4, 10, 2]),
        ({"estimator": net(), "tolerance_on": "unseen"}, [4, 12, 10, 12, 3]),
    ],
    ids=["training", "unseen"],
)
def test_a_killed_fit_goes_on_to_the_same_bits(settings, writes, rows, monkeypatch, tmp_path):
    if "tolerance_on" in settings:  # what is no table is halved
        rows = rows[0][:, :, None], *rows[1:]
    undisturbed = bits(fit(rows, **settings), rows[0])
    settings = {**settings, "checkpoint": tmp_path / "a.checkpoint"}
    parts = [killed(monkeypatch, write, rows, **settings) for write in writes]
    assert len({part.rpartition("/")[2] for part in parts}) > 1, parts  # more than one phase
    resumed = fit(rows, **settings)
    assert bits(resumed, rows[0]) == undisturbed
    assert bits(fit(rows, **settings), rows[0]) == undisturbed  # at once, from what is finished
    assert [path.name for path in tmp_path.iterdir()] == ["a.checkpoint"]


def test_the_default_network_goes_on_and_writing_takes_a_small_part(rows, monkeypatch, tmp_path):
    settings = {"max_epochs": 3, "checkpoint": tmp_path / "a"}
    killed(monkeypatch, 10, rows, **settings)
    monkeypatch.setattr(checkpoint, "WAIT", 50.0)
    written, real = [], checkpoint.Checkpoint.keep
    monkeypatch.setattr(
        checkpoint.Checkpoint, "keep", lambda *args: (written.append(args[1]), real(*args))
    )
    resumed = fit(rows, **settings)
    assert {"dense", "pruning"} <= set(written) and len(written) < 300  # of 600 epochs
    assert bits(resumed, rows[0]) == bits(fit(rows, max_epochs=3), rows[0])


# "snip" and "grasp" keep what "magnitude" does, and need a network that takes longer.
@pytest.mark.parametrize("solver", sorted({*SOLVERS} - {"snip", "grasp"}))
def test_every_solver_goes_on(solver, rows, monkeypatch, tmp_path):
    settings = {"solver": solver, "estimator": net(), "constraint": "degradation_parity"}
    if solver == "fpgm":
        settings["granularity"] = "neuron"
    if solver in ("lottery_ticket", "rigl"):
        settings["estimator"] = Small  # they ask for the initial weights
    whole = fit(rows, **settings)
    settings["checkpoint"] = str(tmp_path / "a.checkpoint")
    n_dense = len(whole.dense_estimator_.history) + 1
    for write in (n_dense + 2, 2):
        assert killed(monkeypatch, write, rows, **settings) == "pruning"
    assert bits(fit(rows, **settings), rows[0]) == bits(whole, rows[0])


def test_a_batch_before_and_a_warm_start_go_on(rows, monkeypatch, tmp_path):
    solver = fairprune_sk.BilevelSolver(upper_batch="previous")
    settings = {"solver": solver, "estimator": net(), "checkpoint": tmp_path / "a.checkpoint"}
    whole = fit(rows, **settings | {"checkpoint": None})
    n_dense = len(whole.dense_estimator_.history) + 1
    assert killed(monkeypatch, n_dense - 1, rows, **settings) == "dense"  # after its last epoch
    assert killed(monkeypatch, 3, rows, **settings) == "pruning"
    first = fit(rows, **settings)
    assert bits(first, rows[0]) == bits(whole, rows[0])
    sequels = []
    for pruner in (first, whole):
        pruner.set_params(warm_start=True, sparsity=0.7, checkpoint=tmp_path / "b.checkpoint")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fairprune_sk.ConstraintNotMetWarning)
            warnings.simplefilter("ignore", fairprune_sk.CollapseWarning)
            pruner.fit(*rows[:2], sensitive_features=rows[2])
        sequels.append(bits(pruner, rows[0]))
    assert sequels[0] == sequels[1]


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import numpy as np, torch, test_checkpoint
torch.set_num_threads(1)
test_checkpoint.checkpoint.WAIT = 0.0
rows = tuple(np.load({rows!r}).values())
test_checkpoint.fit(rows, estimator=test_checkpoint.net(), max_epochs=60, checkpoint={path!r})
"""


def test_kill_9_loses_nothing(rows, tmp_path):
    path = tmp_path / "a.checkpoint"
    names = {"tests": str(Path(__file__).parent), "rows": str(tmp_path / "rows.npz")}
    np.savez(tmp_path / "rows.npz", *rows)
    child = subprocess.Popen([sys.executable, "-c", PROGRAM.format(path=str(path), **names)])
    deadline = time.monotonic() + 60
    try:
        while not (path.exists() and b"pruning" in path.read_bytes()):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    begun = checkpoint.Checkpoint(path, _identity_in(path), 0).parts
    assert begun["dense"]["finished"] and len(begun["pruning"]["net"]["epochs"]) > 0
    settings = {"estimator": net(), "max_epochs": 60}
    resumed = fit(rows, checkpoint=path, **settings)
    assert bits(resumed, rows[0]) == bits(fit(rows, **settings), rows[0])


def _identity_in(path):
    from fairprune_sk.archive import from_json, read_file

    return from_json(*read_file(path))["checkpoint"]


# ----------------------------------------------------------------------------- which fit it is


def test_a_fit_without_a_seed_goes_on_with_the_one_that_it_drew(rows, monkeypatch, tmp_path):
    settings = {"estimator": net(), "random_state": None, "checkpoint": tmp_path / "a"}
    killed(monkeypatch, 3, rows, **settings)
    seed = checkpoint.Checkpoint(tmp_path / "a", _identity_in(tmp_path / "a"), 0).seed
    resumed = fit(rows, **settings)

    class Drawn(np.random.RandomState):
        def randint(self, *args, **kwargs):
            return seed

    whole = fit(rows, **settings | {"checkpoint": None, "random_state": Drawn()})
    assert bits(resumed, rows[0]) == bits(whole, rows[0])


OTHER = {
    "a setting": lambda rows: (rows, {"sparsity": 0.6}),
    "a callback": lambda rows: (rows, {"callbacks": [EarlyStopping("train_loss", patience=4)]}),
    "a seed": lambda rows: (rows, {"random_state": 1}),
    "a network": lambda rows: (rows, {"estimator": net().set_params(lr=0.02)}),
    "labels": lambda rows: ((rows[0], 1 - rows[1], rows[2]), {}),
    "groups": lambda rows: ((*rows[:2], rows[2][::-1]), {}),
    "numbers": lambda rows: ((rows[0] + 1, *rows[1:]), {}),
}


@pytest.mark.parametrize("what", OTHER)
def test_another_fit_says_so_and_starts_afresh(what, rows, tmp_path, monkeypatch):
    path = tmp_path / "a"
    settings = {"estimator": net(), "checkpoint": path}
    killed(monkeypatch, 2, rows, **settings)
    others, changed = OTHER[what](rows)
    said = []
    monkeypatch.setattr(checkpoint, "warn_at_caller", lambda text, kind: said.append(text))
    resumed = fit(others, **settings | changed)
    assert len(said) == 1 and "other data or settings" in said[0] and "afresh" in said[0]
    alone = fit(others, **settings | changed | {"checkpoint": None})
    assert bits(resumed, rows[0]) == bits(alone, rows[0])


def test_an_instance_with_other_weights_is_another_network(rows, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(checkpoint, "WAIT", 50.0)
    monkeypatch.setattr(checkpoint, "warn_at_caller", lambda text, kind: said.append(text))
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        fit(rows, estimator=Small(), checkpoint=tmp_path / "a")
    assert len(said) == 1 and "pass its class, or call torch.manual_seed" in said[0]


def test_frames_are_known_by_their_values(rows):
    from fairprune_sk.fitting.identity import _digest_of_rows

    X = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None], "c": pd.Categorical(["u", "v"])})
    same = pd.concat([X[["a"]], X[["b"]], X[["c"]]], axis=1).set_axis([5, 6])
    assert _digest_of_rows(X) == _digest_of_rows(same)
    for other in (X.assign(a=[1.0, 3.0]), X.assign(b=["x", "y"]), X.rename(columns={"a": "z"})):
        assert _digest_of_rows(X) != _digest_of_rows(other)


# -------------------------------------------------------------------------------- bad ends


def test_a_file_of_the_users_is_left_alone(rows, tmp_path):
    pruner = fit(rows, estimator=net())
    pruner.save(tmp_path / "pruner")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    for name in ("pruner", "table.csv"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match=f"{name}.* is no checkpoint: pass a path of its own"):
            fit(rows, checkpoint=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(ValueError, match="nothing can be written there"):
        fit(rows, checkpoint=tmp_path / "nowhere" / "a")
    with pytest.raises(ValueError, match="is no file"):
        fit(rows, checkpoint=tmp_path)


def test_a_damaged_checkpoint_is_told_of(rows, tmp_path, monkeypatch):
    path = tmp_path / "a"
    killed(monkeypatch, 3, rows, estimator=net(), checkpoint=path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    identity = _identity_in(path)
    for damaged in (bytes(content), bytes(content[:-100])):
        path.write_bytes(damaged)
        with pytest.warns(UserWarning, match="cannot be read .*starts afresh"):
            assert checkpoint.Checkpoint(path, identity, 7).seed == 7


def test_a_full_disk_leaves_the_last_good_file(rows, tmp_path, monkeypatch):
    path, settings = tmp_path / "a", {"estimator": net()}
    whole = fit(rows, **settings)
    killed(monkeypatch, 3, rows, checkpoint=path, **settings)
    good = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(checkpoint, "warn_at_caller", lambda text, kind: said.append(text))
        said = []
        resumed = fit(rows, checkpoint=path, **settings)
    assert len(said) == 1 and "No space left on device" in said[0] and "goes on" in said[0]
    assert path.read_bytes() == good and [p.name for p in tmp_path.iterdir()] == ["a"]
    assert bits(resumed, rows[0]) == bits(whole, rows[0])
    assert bits(fit(rows, checkpoint=path, **settings), rows[0]) == bits(whole, rows[0])


def test_a_callback_that_keeps_no_data_makes_its_phase_begin_anew(rows, tmp_path, monkeypatch):
    settings = {"estimator": net(), "callbacks": [Hoards()]}
    whole = fit(rows, **settings)
    said = []
    monkeypatch.setattr(checkpoint, "warn_at_caller", lambda text, kind: said.append(text))
    resumed = fit(rows, checkpoint=tmp_path / "a", **settings)
    assert len(said) == 1 and "Hoards" in said[0] and "begins anew" in said[0]
    kept = checkpoint.Checkpoint(tmp_path / "a", _identity_in(tmp_path / "a"), 0).parts
    assert set(kept) == {"dense"} and kept["dense"]["finished"]
    for pruner in (resumed, fit(rows, checkpoint=tmp_path / "a", **settings)):
        assert bits(pruner, rows[0]) == bits(whole, rows[0])


def test_a_network_whose_code_cannot_be_known_again_is_refused(rows, tmp_path):
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    network.scale = lambda x: x
    with pytest.raises(ValueError, match="in a module, without lambdas"):
        fit(rows, estimator=network, checkpoint=tmp_path / "a")


def test_a_file_that_is_saved_does_not_name_the_checkpoint(rows, tmp_path):
    fit(rows, estimator=net(), checkpoint=tmp_path / "a").save(tmp_path / "b")
    assert fairprune_sk.load(tmp_path / "b", modules=net()).checkpoint is None
