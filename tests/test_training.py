"""The training loop: reproducible, uninterrupted by itself, and skorch's own in its results."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

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
