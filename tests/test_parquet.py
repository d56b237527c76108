"""Tables on disk: read in blocks, fitted as tables in memory are."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from torch import nn

from fairprune_sk import FairPruner, certify, fairness_report
from fairprune_sk.datasets import ParquetTable, make_biased_classification, parquet
from fairprune_sk.fitting import resident, validation
from fairprune_sk.networks import encoding

pytestmark = [
    pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning"),
    pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning"),
]


@pytest.fixture(scope="module")
def rows():
    X, y, s = make_biased_classification(3000, random_state=0)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(3000) % 400, unit="D")
    return X.assign(day=day), y, s["sex"]


@pytest.fixture(scope="module")
def path(rows, tmp_path_factory):
    X, y, sex = rows
    path = tmp_path_factory.mktemp("parquet") / "loans.parquet"
    X.assign(approved=y, sex=sex).to_parquet(path, row_group_size=1100)
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    """So that three thousand rows are many."""
    monkeypatch.setattr(parquet, "BLOCK_ROWS", 700)
    monkeypatch.setattr(validation, "BLOCK_ROWS", 700)


def quick(**settings):
    return FairPruner(**{"max_epochs": 3, "tolerance": 0.3, "random_state": 0} | settings)


def test_rows_are_those_of_the_files(path, rows, small_blocks):
    X, y, sex = rows
    table = ParquetTable(path)
    own = table.drop(["approved", "sex"])
    assert table.shape == (3000, 15) and own.columns == [*X.columns]
    assert [len(block) for block in own.blocks()] == [700, 400, 700, 400, 700, 100]
    np.testing.assert_array_equal(table.column("approved"), y)
    np.testing.assert_array_equal(own.column("sex").astype(str), sex.astype(str))
    draws = np.random.default_rng(0)
    for index in (
        slice(5, 1500, 7),
        draws.permutation(3000)[:900],
        np.array([9, 9, 2999, 0]),
        draws.random(3000) < 0.2,
        [4, 2],
        (slice(0, 3), ...),
    ):
        at = index[0] if isinstance(index, tuple) else index
        part, expected = own[index], X.iloc[at].reset_index(drop=True)
        assert len(part) == len(expected)
        for name in ("age", "income", "day"):
            np.testing.assert_array_equal(part.to_pandas()[name], expected[name])
        np.testing.assert_array_equal(part.column("approved"), y.iloc[at])
    again = pickle.loads(pickle.dumps(own[10:20]))
    pd.testing.assert_frame_equal(again.to_pandas(), own[10:20].to_pandas())


def test_row_groups_that_nobody_asks_for_stay_closed(path, monkeypatch):
    read, real = [], ParquetTable._table_of
    monkeypatch.setattr(ParquetTable, "_table_of", lambda *args: read.append(args) or real(*args))
    assert len(ParquetTable(path)[1200:1300].to_pandas()) == 100
    assert len(read) == 1


@pytest.mark.parametrize("settings", [{}, {"tolerance_on": "training", "constraint": None}])
def test_a_fit_is_that_of_the_table_in_memory(path, rows, small_blocks, settings):
    X, y, sex = rows
    table = ParquetTable(path).drop(["approved", "sex"])
    expected = quick(**settings).fit(X, y, sensitive_features=sex)
    found = quick(**settings).fit(table, y, sensitive_features=sex)
    probabilities = expected.predict_proba(X)
    assert np.array_equal(found.predict_proba(X), probabilities)
    assert np.array_equal(found.predict_proba(table), probabilities)
    index = np.random.default_rng(0).permutation(3000)[:1000]
    assert np.array_equal(found.predict(table[index]), found.predict(X.iloc[index]))
    assert np.array_equal(found.transform(table), found.transform(X))
    assert found.was_fitted_on(table) and not found.was_fitted_on(table[:2000])
    assert found.drift_report(table).empty


def test_rows_in_any_order_are_fitted_in_that_order(path, rows, small_blocks):
    X, y, sex = rows
    index = np.random.default_rng(1).permutation(3000)[:2500]
    table = ParquetTable(path).drop(["approved", "sex"])[index]
    of_rows = y.iloc[index], sex.iloc[index]
    fits = [
        quick(tolerance_on="training").fit(part, of_rows[0], sensitive_features=of_rows[1])
        for part in (X.iloc[index], table)
    ]
    assert np.array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))


def test_reports_and_certificates_read_it_too(path, rows, small_blocks):
    X, y, sex = rows
    table = ParquetTable(path).drop(["approved", "sex"])
    fitted = quick(tolerance_on="training").fit(
        table[:2200], y[:2200], sensitive_features=sex[:2200]
    )
    rest = slice(2200, 3000)
    for use in (fairness_report, certify):
        found, expected = (
            str(use(fitted, part, y[rest], sensitive_features=sex[rest]))
            for part in (table[rest], X[rest])
        )
        assert found == expected


def test_a_network_of_ones_own_reads_numbers(rows, tmp_path, small_blocks):
    X, y, sex = rows
    numbers = X[["age", "income"]].fillna(0.0)
    numbers.to_parquet(tmp_path / "numbers.parquet")
    table = ParquetTable(tmp_path / "numbers.parquet")

    class Mlp(nn.Sequential):
        def __init__(self):
            super().__init__(nn.BatchNorm1d(2), nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))

    fits = [
        quick(estimator=Mlp, sparsity=0.5, tolerance_on="training").fit(
            part, y, sensitive_features=sex
        )
        for part in (table, numbers)
    ]
    assert np.array_equal(*(fit.predict_proba(numbers) for fit in fits))
    with pytest.raises(ValueError, match="columns that hold no numbers: .*'sex'"):
        bad = tmp_path / "bad.parquet"
        numbers.assign(sex=sex.astype(str)).to_parquet(bad)
        fits[0].fit(ParquetTable(bad), y, sensitive_features=sex)


def test_folders_with_columns_in_their_names(rows, tmp_path):
    X, y, sex = rows
    table = pa.Table.from_pandas(X[["age"]].assign(sex=sex.astype(str), y=y))
    ds.write_dataset(
        table, tmp_path / "all", format="parquet", partitioning=["sex"], partitioning_flavor="hive"
    )
    found = ParquetTable(tmp_path / "all")
    assert {*found.columns} == {"age", "sex", "y"} and len(found) == 3000
    assert found.column("sex").value_counts().to_dict() == sex.astype(str).value_counts().to_dict()
    assert len(ParquetTable(ds.dataset(tmp_path / "all", format="parquet"))) == 3000


def test_what_cannot_be_read_is_said_before_any_training(path, rows, tmp_path, small_blocks):
    X, y, sex = rows
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileNotFoundError, match="no such file"):
        ParquetTable(tmp_path / "nothing.parquet")
    with pytest.raises(ValueError, match="expected Parquet"):
        ParquetTable(tmp_path / "a.csv")
    for make in (
        lambda: ParquetTable(path, ["age", "size"]),
        lambda: ParquetTable(path).drop("size"),
        lambda: ParquetTable(path).column("size"),
    ):
        with pytest.raises(ValueError, match=r"columns \['size'\], but expected some of \['age'"):
            make()
    with pytest.raises(ValueError, match="expected each once"):
        ParquetTable(path, ["age", "age"])
    with pytest.raises(ValueError, match="expected a list of names"):
        ParquetTable(path, "age")
    with pytest.raises(TypeError, match="Got row 3"):
        ParquetTable(path)[3]
    table = ParquetTable(path)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(table, y[:100], sensitive_features=sex)
    infinite = X.assign(income=X["income"].where(X.index != 2500, np.inf))
    infinite.to_parquet(tmp_path / "infinite.parquet", row_group_size=500)
    bad = ParquetTable(tmp_path / "infinite.parquet")
    with pytest.raises(ValueError, match="infinity, .* in column 'income'"):
        quick().fit(bad, y, sensitive_features=sex)
    fitted = quick(tolerance_on="training").fit(
        table.drop(["sex", "approved"]), y, sensitive_features=sex
    )
    with pytest.raises(ValueError, match="infinity, .* in column 'income'"):
        fitted.predict(bad)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(table)
    X.assign(age="old").to_parquet(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match="column 'age' with text"):
        fitted.predict(ParquetTable(tmp_path / "text.parquet"))


def test_a_full_disk_is_said(path, rows, small_blocks, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoding.os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="TMPDIR"):
        X, y, sex = rows
        quick().fit(ParquetTable(path).drop(["sex", "approved"]), y, sensitive_features=sex)


def test_the_encoding_is_learned_from_some_rows(path, rows, small_blocks, monkeypatch):
    X, y, sex = rows
    monkeypatch.setattr(encoding, "SAMPLE_ROWS", 500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = quick(tolerance_on="training").fit(
            ParquetTable(path).drop(["sex", "approved"]), y, sensitive_features=sex
        )
    whole = encoding.TableEncoder().fit(X, y.to_numpy())
    assert 0 < sum(map(len, fitted.encoder_.edges_)) < sum(map(len, whole.edges_))


def test_a_large_table_is_shuffled_by_runs(monkeypatch):
    import torch

    monkeypatch.setattr(resident, "SHUFFLED_ROWS", 64)
    monkeypatch.setattr(resident, "SIDE_BY_SIDE", 8)
    order = resident.shuffled(500, torch.device("cpu"))
    assert sorted(order.tolist()) == [*range(500)]
    for part in order.split(64):  # of eight runs, or nine at an end
        assert len({*(part // 8).tolist()}) <= 9
    assert (order[1:] - order[:-1]).abs().float().mean() > 50
