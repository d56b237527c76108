"""Table encoding and the default network, against the reference piecewise-linear encoding."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from rtdl_num_embeddings import PiecewiseLinearEncoding, compute_bins
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, RobustScaler

from fairprune_sk.networks.default import ColumnEncoding, TabularNetwork
from fairprune_sk.networks.encoding import MAX_BINS, MIN_ROWS_PER_BIN, TableEncoder, tree_bins


def test_encoding_equals_rtdl_within_the_bins():
    rng = np.random.default_rng(0)
    X = rng.exponential(size=(300, 4)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] > 2).astype(np.int64)
    edges = [torch.from_numpy(tree_bins(column, y)) for column in X.T]
    ours = ColumnEncoding(edges, [])(torch.from_numpy(X))
    theirs = PiecewiseLinearEncoding(edges)(torch.from_numpy(X))
    # rtdl stores the last bin of a column after its padding; the columns come in the same order.
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_bins_are_those_of_rtdl_where_rtdl_has_some():
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000).astype(np.float32)
    y = (np.sin(3 * x) + 0.3 * rng.normal(size=2000) > 0).astype(np.int64)
    (theirs,) = compute_bins(
        torch.from_numpy(x)[:, None],
        MAX_BINS,
        tree_kwargs={"min_samples_leaf": MIN_ROWS_PER_BIN, "random_state": 0},
        y=torch.from_numpy(y),
        regression=False,
    )
    np.testing.assert_allclose(tree_bins(x, y), theirs.numpy(), rtol=1e-6)


def test_weights_move_the_bins():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=500), rng.integers(0, 2, 500)
    weight = rng.integers(1, 4, 500)
    weighted = tree_bins(x, y, weight.astype(float))
    assert not np.array_equal(weighted, tree_bins(x, y))


@pytest.mark.parametrize(
    "values",
    [np.zeros(50), np.full(50, 1e20), np.arange(2.0), np.array([0.0] * 99 + [1e6])],
    ids=["constant", "large constant", "two rows", "one outlier"],
)
def test_difficult_columns_have_ascending_edges(values):
    y = np.arange(len(values)) % 2
    edges = tree_bins(values, y)
    assert len(edges) >= 2 and (np.diff(edges) > 0).all() and np.isfinite(edges).all()


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    n = 200
    income = rng.lognormal(size=n)
    income[::7] = np.nan
    return pd.DataFrame(
        {
            "income": income,
            "children": rng.integers(0, 4, n),
            "nothing": np.nan,
            "one": 1,
            "married": rng.integers(0, 2, n).astype(bool),
            "job": rng.choice(["a", "b", "c"], n),
            "region": pd.Categorical(rng.choice(["n", "s"], n), categories=["n", "s", "unused"]),
            "maybe": pd.array(rng.choice([True, False, None], n), dtype="boolean"),
            "visits": pd.array(rng.choice([1, 2, None], n), dtype="Int64"),
        }
    )


def test_every_kind_of_column_becomes_finite_floats(frame):
    y = np.arange(len(frame)) % 2
    frame.loc[3, "job"] = None
    encoder = TableEncoder().fit(frame, y)
    encoded = encoder.transform(frame)
    assert encoded.dtype == np.float32 and np.isfinite(encoded).all()
    n_numeric = len(encoder.edges_)
    assert n_numeric == 5 + 3  # income, nothing and visits have an indicator of missing values
    assert encoder.n_categories_ == [2, 4, 2, 3]
    network = TabularNetwork(encoder.edges_, encoder.n_categories_).eval()
    assert network(torch.from_numpy(encoded)).shape == (len(frame), 1)


def test_encoding_is_that_of_scikit_learn(frame):
    frame.loc[3, "job"] = None
    encoder = TableEncoder().fit(frame, np.arange(len(frame)) % 2)
    names = ["income", "children", "nothing", "one", "visits"]
    numbers = frame[names].to_numpy(dtype=float, na_value=np.nan)
    steps = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    expected = make_pipeline(steps, RobustScaler()).fit_transform(numbers).astype(np.float32)
    np.testing.assert_array_equal(encoder.transform(frame)[:, :8], expected)
    words = frame.drop(columns=names).astype(object)
    words = words.where(words.notna(), None).to_numpy()
    codes = OrdinalEncoder().fit_transform(words)
    np.testing.assert_array_equal(encoder.transform(frame)[:, 8:], codes)


def test_categories_not_seen_before_are_zeros_and_outliers_are_cut(frame):
    y = np.arange(len(frame)) % 2
    encoder = TableEncoder().fit(frame, y)
    new = frame.head(2).copy()
    new["job"] = "unheard of"
    new["income"] = [1e12, -1e12]
    encoded = encoder.transform(new)
    known = encoder.transform(frame)
    assert (encoded[:, 0] == [known[:, 0].max(), known[:, 0].min()]).all()
    encoding = ColumnEncoding(encoder.edges_, encoder.n_categories_)
    job = encoding.columns == len(encoder.edges_) + 1
    assert (encoding(torch.from_numpy(encoded))[:, job] == 0).all()
    assert (encoding(torch.from_numpy(known))[:, job].sum(dim=1) == 1).all()


def test_columns_are_told_apart_by_position(frame):
    y = np.arange(len(frame)) % 2
    twice = pd.concat([frame[["income"]], frame[["income"]], frame[["job"]]], axis=1)
    assert TableEncoder().fit(twice, y).transform(twice).shape == (200, 5)


def test_arrays_are_numeric_tables():
    X = np.random.default_rng(0).normal(size=(50, 3))
    X[0, 0] = np.nan
    encoded = TableEncoder().fit(X, np.arange(50) % 2).transform(X)
    assert encoded.shape == (50, 4)


def test_many_categories_share_a_code():
    frame = pd.DataFrame({"id": [f"c{i // 2}" for i in range(2000)]})
    encoder = TableEncoder().fit(frame, np.arange(2000) % 2)
    assert encoder.n_categories_ == [256]


def test_encoding_has_no_parameters():
    edges = [torch.tensor([0.0, 1.0, 2.0])]
    encoding = ColumnEncoding(edges, [3])
    assert not list(encoding.parameters())
    assert encoding.n_outputs == 5
    assert encoding.columns.tolist() == [0, 0, 1, 1, 1]
    X = torch.tensor([[0.5, 0.0], [1.5, 2.0]])
    expected = torch.tensor([[0.5, 0, 1, 0, 0], [1, 0.5, 0, 0, 1]])
    torch.testing.assert_close(encoding(X), expected)


@pytest.mark.parametrize("exponent", [-57, -700, 600])
def test_a_scale_changes_nothing(exponent):
    values = np.random.default_rng(0).normal(size=(200, 1))
    y = (values[:, 0] > 0.3).astype(int)
    scaled = np.ldexp(values, exponent)
    encoded = [TableEncoder().fit(X, y).transform(X) for X in (values, scaled)]
    np.testing.assert_array_equal(*encoded)


def test_a_large_table_is_encoded_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    n = 50_000
    X = pd.DataFrame(rng.normal(size=(n, 6)), columns=list("abcdef"))
    X["a"] = X["a"].where(X["a"] < 1)
    X["kind"] = rng.choice(["x", "y", None], n)
    y = (X["b"] > 0).to_numpy()
    whole = TableEncoder().fit(X[:2000], y[:2000]).transform(X[:2000])
    tracemalloc.start()
    encoded = TableEncoder().fit(X, y).transform(X)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What the network reads, and a few copies of one column, in 64 bits.
    assert peak < n * 4 * encoded.shape[1] + 100 * n
    monkeypatch.setattr("fairprune_sk.networks.encoding.CHUNK", 3000)
    np.testing.assert_array_equal(TableEncoder().fit(X[:2000], y[:2000]).transform(X[:2000]), whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda dates: dates.astype("category"),
        lambda dates: dates.astype("datetime64[ns]"),
        lambda dates: dates.dt.tz_localize("UTC"),
    ],
)
def test_dates_are_days_in_any_form(change):
    dates = pd.Series(pd.date_range("2020-01-01", periods=40, unit="s"))
    y = np.arange(40) % 2
    encoder = TableEncoder().fit(dates.to_frame(), y)
    expected = encoder.transform(dates.to_frame())
    np.testing.assert_array_equal(encoder.transform(change(dates).to_frame()), expected)
    again = TableEncoder().fit(change(dates).to_frame(), y)
    np.testing.assert_array_equal(again.transform(dates.to_frame()), expected)


def test_dates_beyond_nanoseconds_are_days():
    dates = pd.Series(pd.date_range("2020-01-01", periods=40, unit="s"))
    dates.iloc[0] = pd.Timestamp("9999-12-31").as_unit("s")
    encoded = TableEncoder().fit_transform(dates.to_frame(), np.arange(40) % 2)
    assert encoded[0, 0] == encoded.max() and np.isfinite(encoded).all()
