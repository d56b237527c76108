"""How far a fit is, for whoever watches."""

from __future__ import annotations

import re

import pytest
import torch
from skorch import NeuralNetBinaryClassifier
from torch import nn

from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.fitting.progress import counting

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of fits of two epochs


@pytest.fixture(scope="module")
def small():
    X, y, s = make_biased_classification(300, random_state=0)
    return X[["age", "experience_years"]], y, s["sex"]


def quick(**options):
    torch.manual_seed(0)  # the layers are drawn here, not in the fit
    layers = nn.Sequential(nn.Linear(2, 20), nn.ReLU(), nn.Linear(20, 1))
    net = NeuralNetBinaryClassifier(layers, max_epochs=3, train_split=None, verbose=0)
    return FairPruner(net, **{"max_epochs": 2, "random_state": 0} | options)


def lines_of(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return [re.sub(r"[━╸╺]+", "|", line) for line in err.splitlines()]


def test_a_bar_for_each_phase_ends_with_its_figures(small, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    X, y, s = small
    quick(verbose=1).fit(X, y, sensitive_features=s)
    dense, pruning = lines_of(capsys)
    assert re.match(r"dense training \| 0:00:\d\d epoch 3/3  loss \d\.\d{3} *$", dense)
    assert re.match(r"pruning +\| 0:00:\d\d epoch 2/2  loss \d\.\d+  gap 0\.\d+  sparsity", pruning)


def test_a_fit_is_quiet_unless_it_is_asked(small, capsys):
    X, y, _ = small
    quick(constraint=None).fit(X, y)
    assert capsys.readouterr() == ("", "")


def test_lines_for_each_epoch_come_at_the_second_level(small, capsys):
    X, y, _ = small
    quick(constraint=None, verbose=2).fit(X, y)
    assert "train_loss" in capsys.readouterr().out


def test_a_bar_does_not_change_what_is_learned(small, capsys):
    X, y, _ = small
    quiet, shown = (quick(constraint=None, verbose=verbose).fit(X, y) for verbose in (0, 1))
    assert (quiet.predict_proba(X) == shown.predict_proba(X)).all()


def test_counting(capsys):
    for shown in (True, False):
        with counting("fits", 3, shown) as moved:
            for remark in ("", "1 failed", "2 failed"):
                moved(remark)
    (line,) = lines_of(capsys)
    assert re.match(r"fits \| 0:00:00 3/3  2 failed", line)
