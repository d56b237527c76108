"""The benchmark's file: what it takes, and what it does not take for results."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from fairprune_sk.benchmarks.jobs import COLUMNS, CONDITIONS, KEYS
from fairprune_sk.benchmarks.store import ResultsFile


def fits(seeds, **values):
    row = {"table": "made", "sensitive": "sex", "constraint": "equalized_odds", "method": "tree"}
    row |= {"sparsity": 0.9, "tolerance": np.nan, "accuracy": 0.75, "gap": 0.125, "n_train": 70}
    rows = [row | {"seed": seed, "error": ""} | values for seed in seeds]
    return pd.DataFrame(rows, columns=COLUMNS)


def opened(path):
    return ResultsFile(path, CONDITIONS, KEYS)


@pytest.fixture
def path(tmp_path):
    opened(tmp_path / "a.sqlite").add(fits(range(20)))
    return tmp_path / "a.sqlite"


def execute(path, *statements):
    """Do what another program may do to a file."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_what_is_written_is_read(path):
    found, expected = opened(path).read(), fits(range(20))
    pd.testing.assert_frame_equal(found.dropna(axis=1), expected.dropna(axis=1), check_dtype=False)
    assert found.columns.tolist() == COLUMNS


@pytest.mark.parametrize(
    "values",
    [
        {"accuracy": 7.0},
        {"accuracy": "high"},
        {"gap": -0.1},
        {"noise_floor": np.inf},
        {"tolerance": 3.0},
        {"seconds": -1.0},
        {"n_train": "many"},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_not_taken(path, values):
    (name,) = values
    with pytest.raises(sqlite3.IntegrityError, match=f"CHECK constraint failed: {name}"):
        opened(path).add(fits([99], **values))
    assert len(opened(path).read()) == 20


def test_an_accuracy_of_seven_is_refused_however_it_came_there(path):
    update = "UPDATE fits SET accuracy = 7 WHERE seed = 3"
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        execute(path, update)
    execute(path, "PRAGMA ignore_check_constraints = 1", update)
    with pytest.raises(ValueError, match="a.sqlite', which was damaged .*CHECK constraint failed"):
        opened(path).read()


def test_an_edited_row_is_refused_and_told(path):
    execute(path, "UPDATE fits SET gap = 0.01 WHERE seed IN (3, 7)")
    with pytest.raises(ValueError, match=r"a.sqlite' with 2 rows .* rowid IN \(4, 8\)") as error:
        opened(path).read()
    execute(path, str(error.value).partition("again: ")[2].removesuffix("."))
    assert len(opened(path).read()) == 18


def test_rows_are_not_doubled(path):
    again = "INSERT INTO fits SELECT * FROM fits"
    opened(path).add(fits(range(20)))
    assert len(opened(path).read()) == 20
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE constraint failed"):
        execute(path, again)
    execute(path, "DROP INDEX one_each", again)
    with pytest.raises(ValueError, match="a.sqlite': UNIQUE constraint failed"):
        opened(path)


def test_a_file_without_checksums_is_no_file_of_results(path):
    with closing(sqlite3.connect(path)) as connection:
        fits(range(3)).to_sql("fits", connection, if_exists="replace", index=False)
    with pytest.raises(ValueError, match=r"without the columns \['checksum'\]"):
        opened(path)


def test_flipped_bits_are_refused_or_do_not_matter(path):
    content, expected = path.read_bytes(), opened(path).read()
    n_refused = 0
    for rng in np.random.default_rng(0).spawn(150):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = opened(path).read()
        except ValueError as error:
            assert "a.sqlite" in str(error)
            n_refused += 1
        else:
            pd.testing.assert_frame_equal(found, expected)
    assert n_refused > 30


def test_runs_that_start_at_once_leave_each_row_once(tmp_path):
    def run(path, seeds):
        for seed in seeds:
            opened(path).add(fits([seed]))

    with ThreadPoolExecutor(3) as pool:
        for i in range(2):
            path = tmp_path / f"{i}.sqlite"
            list(pool.map(run, [path] * 3, [range(8), range(4, 12), range(8, 16)]))
            assert sorted(opened(path).read()["seed"]) == [*range(16)]
