"""No fit claims fairness that is not there: numbers that are not finite, weights, coverage."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from torch import nn

from fairprune_sk import DivergedError, FairPruner, SmallGroupWarning, fairness_report
from fairprune_sk.assessment import fairness_gap, noise_floor
from fairprune_sk.fairness import DemographicParity
from fairprune_sk.fitting.validation import check_weight

# A few steps prune a network that a small table holds back to nothing: not what is looked at.
pytestmark = pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")

N = 300


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, X):
        return self.layers(X)


class NaNAbove(Plain):
    """Gives no number where the first feature is above a limit."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def forward(self, X):
        return self.layers(X) + torch.where(X[:, :1] > self.limit, torch.nan, 0.0)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 2)).astype(np.float32)
    sex = np.where(np.arange(N) % 2, "f", "m")
    y = (X[:, 0] + 0.5 * (sex == "m") + rng.normal(size=N) > 0).astype(int)
    return X, y, sex


def quick(**settings):
    return FairPruner(
        **{"max_epochs": 4, "tolerance": 1.0, "tolerance_on": "training", "random_state": 0}
        | settings
    )


def net(**settings):
    settings = {"lr": 0.01, "max_epochs": 2, "train_split": None, "verbose": 0} | settings
    return NeuralNetClassifier(Plain, criterion=nn.CrossEntropyLoss, **settings)


# ------------------------------------------------------------------------------- not finite


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": net(lr=1e30)}, r"dense network .* loss of epoch \d of 2 .* Lower its lr"),
        ({"estimator": NaNAbove(1.0)}, r"dense training diverged.* epoch 1 .* forward"),
        ({"lr": 1e30}, r"pruning diverged.* epoch \d of 4.* lower lr \(1e\+30\)"),
        ({"fairness_weight": 1e38, "tolerance": 0.0}, "pruning diverged.*fairness_weight"),
    ],
    ids=["net", "module", "lr", "fairness_weight"],
)
def test_a_fit_that_diverges_ends_with_an_error_and_loses_nothing(rows, settings, message):
    X, y, sex = rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = quick(max_epochs=1).fit(X, y, sensitive_features=sex)
    before = pruner.predict_proba(X)
    pruner.set_params(max_epochs=4, **settings)
    with pytest.raises(DivergedError, match=message):
        pruner.fit(X, y, sensitive_features=sex)
    pruner.set_params(estimator=None)
    np.testing.assert_array_equal(pruner.predict_proba(X), before)


def test_predictions_that_are_not_finite_are_refused(rows):
    X, y, sex = rows
    pruner = quick(estimator=NaNAbove(100.0), sparsity=0.0).fit(X, y, sensitive_features=sex)
    X = X.copy()
    X[[3, 7], 0] = 1000.0
    for method in ("predict", "predict_proba", "decision_function", "predict_dense"):
        with pytest.raises(ValueError, match=f"not finite: 2 of {N}, the first is row 3"):
            getattr(pruner, method)(X)
    with pytest.raises(ValueError, match="not finite"):
        fairness_report(pruner, X, y, sensitive_features=sex)


def test_predictions_that_are_missing_have_no_gap(rows):
    _, y, sex = rows
    y_pred = y.astype(float)
    y_pred[0] = np.nan
    with pytest.raises(ValueError, match=f"1 of {N} predictions that are NaN"):
        fairness_gap(y, y_pred, sensitive_features=sex)


# ---------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("weight", [0.0, 1e-46, 1e-300])
def test_a_group_without_weight_is_named(rows, weight):
    X, y, sex = rows
    weights = np.where(sex == "f", weight, 1.0)
    with pytest.raises(ValueError, match=r"no two groups .* 'f' \(0 negative rows by weight\)"):
        quick().fit(X, y, sensitive_features=sex, sample_weight=weights)
    three = np.where(np.arange(N) % 3 == 0, "d", sex)
    weights = np.where(three == "d", weight, 1.0)
    with pytest.warns(SmallGroupWarning, match=r"'d' \(0 negative rows by weight\)"):
        pruner = quick().fit(X, y, sensitive_features=three, sample_weight=weights)
    assert pruner.n_unconstrained_ == 2


def test_a_group_of_one_heavy_row_counts_as_one(rows):
    X, y, sex = rows
    weights = np.ones(N)
    weights[np.flatnonzero((sex == "f") & (y == 1))[0]] = 1e6
    with pytest.raises(ValueError, match=r"'f' \(1 positive rows by weight\)"):
        quick(constraint="equal_opportunity").fit(
            X, y, sensitive_features=sex, sample_weight=weights
        )


@pytest.mark.parametrize("scale", [1e305, 1e-320])
def test_only_the_ratios_of_weights_count(rows, scale):
    X, y, sex = rows
    weights = 1.0 + np.arange(N) % 2
    scaled = weights * np.ldexp(1.0, int(np.log2(scale)))
    scores = [
        quick().fit(X, y, sensitive_features=sex, sample_weight=w).decision_function(X)
        for w in (weights, scaled)
    ]
    np.testing.assert_array_equal(*scores)
    floors = [noise_floor(y, y, sensitive_features=sex, sample_weight=w) for w in (weights, scaled)]
    assert floors[0] == floors[1]


@pytest.mark.parametrize(
    "class_weight", [{0: -1, 1: 1}, {0: np.nan, 1: 1}, {0: np.inf, 1: 1}, {0: "x", 1: 1}]
)
def test_class_weights_are_numbers_from_0(rows, class_weight):
    X, y, sex = rows
    with pytest.raises(ValueError, match="class_weight=.* for 0 is none"):
        quick(class_weight=class_weight).fit(X, y, sensitive_features=sex)


@pytest.mark.parametrize("value", [1, 4, 0.25, 1e300])
def test_a_class_without_class_weight_has_weight_1(value):
    y = np.array(["a", "b", "b", "c"])
    weight = check_weight(None, {"b": value, "c": value}, y)
    assert weight[0] * value == weight[1] == weight[3]


def test_weights_beyond_64_bits_are_refused(rows):
    X, y, sex = rows
    with pytest.raises(ValueError, match="sample_weight with a number that is none in 64 bits"):
        quick().fit(X, y, sensitive_features=sex, sample_weight=[10**400] * N)
    with pytest.raises(ValueError, match="for 1 is none"):
        quick(class_weight={1: 10**400}).fit(X, y, sensitive_features=sex)


def test_two_classes_must_have_weight(rows):
    X, y, sex = rows
    for settings, weight in (({"class_weight": {0: 0, 1: 1}}, None), ({}, y)):
        with pytest.raises(ValueError, match=r"leave weight to the classes \[1\] only"):
            quick(**settings).fit(X, y, sensitive_features=sex, sample_weight=weight)
    with pytest.raises(ValueError, match=r"classes \[\] only"):
        quick(class_weight={0: 0, 1: 0}).fit(X, y, sensitive_features=sex)


# --------------------------------------------------------------------------------- coverage


def test_strata_of_a_single_group_are_named(rows):
    X, y, sex = rows
    job = np.where(np.arange(N) < 60, "both", sex)
    with pytest.warns(SmallGroupWarning) as caught:
        pruner = quick(constraint="demographic_parity").fit(
            X, y, sensitive_features=sex, control_features=job
        )
    (message,) = {str(w.message) for w in caught}
    assert "with no other group to compare with: 'f' (120 all, f rows); 'm' (120 all, m" in message
    assert "No comparison covers 240 rows of 300 (80%)" in message
    assert pruner.n_unconstrained_ == 4  # also those that no row is in


def test_rows_of_unknown_groups_are_counted(rows):
    X, y, sex = rows
    known = np.where(np.arange(N) < 60, sex, None)
    pruner = quick(constraint="demographic_parity", missing_sensitive="ignore")
    with pytest.warns(SmallGroupWarning, match=r"240 rows of 300 \(80%\), 240 of them without"):
        pruner.fit(X, y, sensitive_features=known)


# -------------------------------------------------------------- refused before any training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"callbacks": [3]}, "callbacks with 3"),
        ({"callbacks": [("x", "y")]}, "callbacks with "),
        ({"callbacks": [("x", EarlyStopping()), ("x", EarlyStopping())]}, "different names"),
        ({"callbacks": [("train_loss", EarlyStopping())]}, "none of .*'train_loss'"),
        ({"callbacks": [("print_log", EarlyStopping())], "verbose": 2}, "none of .*'print_log'"),
        ({"callbacks": [("EarlyStopping", EarlyStopping()), EarlyStopping()]}, "different names"),
        ({"mask_lr": 1e300}, "mask_lr"),
        ({"lr": 10**400}, "lr"),
        ({"device": "meta"}, "device='meta'"),
        ({"device": "cuda:77"}, "device='cuda:77'"),
        ({"device": "foo"}, "device='foo'"),
        ({"min_group_count": 10**30}, "min_group_count=10"),
    ],
)
def test_parameters_are_refused_before_training(rows, monkeypatch, settings, message):
    X, y, sex = rows
    monkeypatch.setattr("fairprune_sk.pruner.train_dense", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        quick(**settings).fit(X, y, sensitive_features=sex)


def test_events_of_a_notion_of_ones_own_are_those_that_it_names(rows):
    class Nonsense(DemographicParity):
        def event(self, is_class):
            return torch.full_like(is_class, 7, dtype=torch.int64)

    X, y, sex = rows
    with pytest.raises(ValueError, match="Nonsense with codes of events beyond its .'all',"):
        quick(constraint=Nonsense()).fit(X, y, sensitive_features=sex)


def test_groups_may_be_an_index_of_several_levels(rows):
    X, y, sex = rows
    index = pd.MultiIndex.from_arrays([sex, sex], names=["sex", "again"])
    assert quick().fit(X, y, sensitive_features=index).groups_.tolist() == [("f", "f"), ("m", "m")]


def test_a_tolerance_of_true_is_1(rows):
    X, y, sex = rows
    pruner = quick(tolerance=True, gap_method="to_overall", max_epochs=1)
    assert pruner.fit(X, y, sensitive_features=sex).violation_ <= 0
