"""The training loop: reproducible, uninterrupted by itself, and skorch's own in its results."""

from __future__ import annotations

import os
import random
import re
import signal
import warnings

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from fairprune_sk import DivergedError, FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fitting import checkpoint
from fairprune_sk.fitting.resident import ResidentIterator, ResidentTable
from fairprune_sk.fitting.training import BinaryNet, seeded, train
from fairprune_sk.networks.batch import Batch


def data(n=64):
    torch.manual_seed(0)
    X = torch.randn(n, 3)
    return X, (X[:, 0] > 0).float()


def small_net(cls=NeuralNetBinaryClassifier, **kwargs):
    torch.manual_seed(0)
    options = {"train_split": None, "verbose": 0, "max_epochs": 5, "lr": 0.1} | kwargs
    return cls(nn.Linear(3, 1), **options)


def test_seeding_is_reproducible_and_leaves_no_trace():
    states = np.random.get_state()[1].copy(), torch.get_rng_state(), random.getstate()
    draws = []
    for _ in range(2):
        with seeded(3, torch.device("cpu")):
            draws.append((torch.rand(1).item(), np.random.rand(), random.random()))
    assert draws[0] == draws[1]
    assert np.array_equal(np.random.get_state()[1], states[0])
    assert torch.equal(torch.get_rng_state(), states[1])
    assert random.getstate() == states[2]


def test_seeding_restores_the_generators_after_an_error():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt), seeded(3, torch.device("cpu")):
        np.random.rand(), torch.rand(1)
        raise KeyboardInterrupt
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (10, 10), (10, 99), (2049, 2048), (1, 5)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_even_and_hold_every_row_once(n, batch_size, shuffle):
    X = torch.arange(n)[:, None].float()
    table = ResidentTable(Batch(X, torch.zeros(n), cell=torch.arange(n)))
    batches = list(ResidentIterator(table, batch_size, shuffle))
    sizes = [len(batch) for batch in batches]
    assert len(batches) == len(ResidentIterator(table, batch_size)) and max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    rows = torch.cat([batch.X[:, 0] for batch in batches])
    assert torch.equal(rows.sort().values, X[:, 0])
    for batch in batches:
        assert torch.equal(batch.X[:, 0].long(), batch.cell)
        assert len(batch.y) == len(batch.X) and batch.weight is batch.group is None


def test_an_epoch_of_a_large_table_is_a_part_of_it():
    table = ResidentTable(Batch(torch.arange(100.0)[:, None], torch.zeros(100)))
    batches = list(ResidentIterator(table, 8, shuffle=True, most=5))
    rows = torch.cat([batch.X for batch in batches]).flatten().tolist()
    assert [len(batch) for batch in batches] == [7, 8, 8, 7, 8]  # as in a whole epoch
    assert len({*rows}) == 38 and rows != sorted(rows)
    assert len(ResidentIterator(table, 8, most=5)) == 5


def test_deferred_losses_are_those_of_skorch():
    X, y = data()
    net = small_net(BinaryNet, batch_size=16, iterator_train=ResidentIterator)
    histories = [
        small_net(batch_size=16).fit(X, y).history,
        train(net, ResidentTable(Batch(X, y))).history,
    ]
    for name in ("train_loss", "train_batch_count"):
        assert histories[0][:, name] == pytest.approx(histories[1][:, name])
    assert (
        histories[0][:, "batches", :, "train_batch_size"]
        == (histories[1][:, "batches", :, "train_batch_size"])
    )


def test_train_gives_what_fit_gives():
    X, y = data()
    fitted = small_net().fit(X, y)
    trained = train(small_net(), X, y)
    torch.testing.assert_close(fitted.module_.weight, trained.module_.weight)


def test_sample_weights_act_as_repeated_rows():
    X, y = data()
    repeats = torch.arange(len(X)) % 3
    options = {"iterator_train": ResidentIterator, "batch_size": 10_000}
    weight = repeats / repeats.float().mean()
    weighted = train(small_net(BinaryNet, **options), ResidentTable(Batch(X, y, weight)))
    table = ResidentTable(Batch(X.repeat_interleave(repeats, 0), y.repeat_interleave(repeats)))
    repeated = train(small_net(BinaryNet, **options), table)
    torch.testing.assert_close(weighted.module_.weight, repeated.module_.weight)


def test_early_stopping_stops_and_keeps_what_there_is():
    X, y = data()
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0, threshold_mode="abs")
    net = train(small_net(max_epochs=50, callbacks=[stop]), X, y)
    assert 0 < len(net.history) < 50


class PressCtrlC(Callback):
    def on_batch_end(self, net, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)


class PressCtrlCBetweenEpochs(Callback):
    def on_epoch_end(self, net, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)


class RaiseInABatch(Callback):
    def on_batch_end(self, net, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize("callback", [PressCtrlC, PressCtrlCBetweenEpochs, RaiseInABatch])
def test_ctrl_c_reaches_the_caller(callback):
    X, y = data()
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(small_net(callbacks=[callback()]), X, y)
    assert signal.getsignal(signal.SIGINT) is handler


# ------------------------------------------------------------------------------ out of memory


class Tight(nn.Module):
    """A network on a device that holds few rows at a time while it is trained."""

    def __init__(self, most=40):
        super().__init__()
        self.most, self.layers = most, nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, X):
        if self.training and len(X) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.layers(X)


class Recording(Tight):
    """Notes how many rows come at a time."""

    def forward(self, X):
        logits = super().forward(X)
        if self.training:
            SIZES.append(len(X))
        return logits


SIZES: list[int] = []


def fit_tight(most, rows, kind=Tight, **settings):
    X, y, sex = rows
    options = {"max_epochs": 8, "batch_size": 80, "sparsity": 0.5, "tolerance": 1.0}
    options |= {"tolerance_on": "training", "random_state": 0, "min_group_count": 1} | settings
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pruner = FairPruner(kind(most), **options).fit(X, y, sensitive_features=sex)
    return pruner, [str(w.message) for w in caught if "memory" in str(w.message)]


@pytest.fixture(scope="module")
def people():
    draws = np.random.default_rng(0)
    X = draws.normal(size=(160, 3)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int), np.where(draws.random(160) < 0.5, "f", "m")


def test_a_batch_that_does_not_fit_is_halved_and_the_step_done_again(people):
    SIZES.clear()
    pruner, told = fit_tight(40, people, Recording)
    # Dense: 160 rows, 80, 40; pruning: 80, 40.
    assert [int(re.search(r"for (\d+) rows", text)[1]) for text in told] == [160, 80, 80]
    assert all("done again in halves" in text and "smaller batch_size" in text for text in told)
    n_dense = len(pruner.dense_estimator_.history)
    assert SIZES.count(40) >= 4 * (n_dense + 8) and max(SIZES) == 40
    assert pruner.n_iter_ == 16 and pruner.sparsity_ >= 0.5  # in batches, as without
    losses = pruner.history_[:, "train_loss"] + pruner.dense_estimator_.history[:, "train_loss"]
    assert np.isfinite(losses).all()
    _, told = fit_tight(160, people)
    assert not told


def test_a_row_that_does_not_fit_is_an_error(people):
    with pytest.raises(torch.OutOfMemoryError):
        fit_tight(0, people)


def test_a_fit_in_pieces_goes_on_in_pieces(people, tmp_path, monkeypatch):
    whole, _ = fit_tight(30, people)
    real = checkpoint.Checkpoint.keep

    def killing(self, name, saved):
        real(self, name, saved)
        if name == "pruning":
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "keep", killing)
        with pytest.raises(SystemExit):
            fit_tight(30, people, checkpoint=tmp_path / "a")
    resumed, told = fit_tight(30, people, checkpoint=tmp_path / "a")
    assert not told
    np.testing.assert_array_equal(
        resumed.decision_function(people[0]), whole.decision_function(people[0])
    )


# -------------------------------------------------------------------------------- divergence


def test_weights_that_overflow_end_the_epoch_in_which_they_do(people):
    class Overflow(Callback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(len(net.history))
            if len(epochs) == 2:
                with torch.no_grad():
                    next(net.module_.parameters())[0] = torch.inf

    epochs: list[int] = []
    X, y, sex = people
    own = NeuralNetBinaryClassifier(
        Tight, module__most=999, max_epochs=9, train_split=None, verbose=0, callbacks=[Overflow()]
    )
    with pytest.raises(DivergedError, match="weights that are not finite.* epoch 2"):
        FairPruner(own, constraint=None, random_state=0).fit(X, y)
    assert epochs == [1, 2]


def test_a_learning_rate_of_a_thousand_is_told_early():
    X, y, s = make_biased_classification(200, random_state=0)
    pruner = FairPruner(lr=1000.0, tolerance_on="training", max_epochs=40, random_state=0)
    with pytest.raises(DivergedError, match=r"epoch [1-3] of 40 .*lower lr \(1000\)"):
        pruner.fit(X, y, sensitive_features=s["sex"])


@pytest.mark.parametrize("max_epochs", [10**400, 2**31])
def test_epochs_that_would_take_years_are_refused(people, max_epochs):
    with pytest.raises(ValueError, match="'max_epochs' parameter of FairPruner must be"):
        fit_tight(160, people, max_epochs=max_epochs)
