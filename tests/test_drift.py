"""Columns that have left what the fit has seen are named; others are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from torch import nn

import fairprune_sk
from fairprune_sk import FairPruner

N = 200


@pytest.fixture(scope="module")
def X():
    draws = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "number": draws.uniform(0.0, 10.0, N),
            "some": np.where(draws.random(N) < 0.2, np.nan, draws.normal(size=N)),
            "town": draws.choice(["a", "b"], N),
            "job": draws.choice(["x", None], N),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(draws.integers(0, 100, N), "D"),
            "flag": draws.random(N) < 0.5,
            "twice": np.full(N, 2.0),
        }
    )


@pytest.fixture(scope="module")
def pruner(X):
    y = (X["number"] > 5).astype(int)
    options = {"constraint": None, "sparsity": 0.5, "max_epochs": 2, "random_state": 0}
    with pytest.warns(fairprune_sk.SuspectColumnWarning):
        return FairPruner(**options).fit(X, y)


def test_the_rows_of_the_fit_and_others_like_them_are_no_drift(pruner, X):
    assert pruner.drift_report(X).empty
    near = X.assign(number=X["number"] + 0.4)  # less than a tenth of the range beyond its end
    assert pruner.drift_report(near).empty
    assert list(pruner.drift_report(near, margin=0.0).index) == ["number"]


def test_each_way_to_leave_is_told_by_column_and_share(pruner, X):
    half = np.arange(N) < N // 2
    changed = X.assign(
        number=X["number"].where(~half, 30.0),
        some=-1e6,
        town=X["town"].where(~half, None),
        job=X["job"].where(X["job"].isna(), "z"),
        since=X["since"] + pd.Timedelta(days=500),
        twice=3.0,
    )
    report = pruner.drift_report(changed)
    assert set(report.index) == {"number", "some", "town", "job", "since", "twice"}
    assert report.loc["number", "out_of_range"] == report.loc["town", "missing"] == 0.5
    low, high = X["number"].min(), X["number"].max()
    assert report.loc["number", "farthest"] == pytest.approx((30 - high) / (high - low), rel=1e-4)
    assert report.loc["job", "unseen"] == X["job"].notna().mean()
    assert report.loc["job", "missing"] == report.loc["some", "missing"] == 0
    assert report.loc["since", "out_of_range"] == 1.0 and np.isinf(report.loc["twice", "farthest"])
    shares = report[["unseen", "out_of_range", "missing"]].max(axis=1)
    assert shares.is_monotonic_decreasing
    read = dict(zip(X.columns, pruner.get_support(), strict=True))
    assert report["read"].to_dict() == {name: read[name] for name in report.index}


def test_a_loaded_estimator_and_an_array_know_it_too(pruner, X, tmp_path):
    pruner.save(tmp_path / "a")
    changed = X.assign(number=99.0)
    pd.testing.assert_frame_equal(
        fairprune_sk.load(tmp_path / "a").drift_report(changed), pruner.drift_report(changed)
    )
    numbers, options = X[["number"]].to_numpy(copy=True), {"constraint": None, "max_epochs": 1}
    of_array = FairPruner(**options, random_state=0).fit(numbers, X["number"] > 5)
    numbers[3] = np.nan
    assert of_array.drift_report(numbers).loc[0, "missing"] == 1 / N


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_what_cannot_be_compared_is_an_error(pruner, X):
    for margin in (-0.1, "far", float("nan")):
        with pytest.raises(ValueError, match="Got margin="):
            pruner.drift_report(X, margin=margin)
    network = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    own = FairPruner(network, constraint=None, sparsity=0.0, max_epochs=1, random_state=0)
    own.fit(X[["number"]], X["number"] > 5)
    with pytest.raises(ValueError, match="network of your own"):
        own.drift_report(X[["number"]])
