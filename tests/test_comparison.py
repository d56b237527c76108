"""What docs/comparison.md shows is what its CSV files say, and what a fit gives again."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pandas as pd
import pytest

from fairprune_sk import benchmark
from fairprune_sk.benchmarks import runner
from fairprune_sk.benchmarks.statistics import checked

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "comparison.md"
FOLDER = ROOT / "docs" / "comparison"


needs_tables = pytest.mark.skipif(
    not all((DATA / f"{name}.csv.gz").is_file() for name in ("adult", "compas")),
    reason=f"needs the tables adult.csv.gz and compas.csv.gz in {DATA}",
)


def example(name):
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def page():
    return example("comparison_page")


@pytest.fixture(scope="module")
def results(page):
    return page.read()


def test_the_tables_of_the_page_are_those_of_the_csv_files(page, results):
    text = PAGE.read_text()
    for name in page.PAGE_TABLES:
        assert len(re.findall(rf"<!-- /?{name} -->", text)) == 2, name
    assert page.filled(text, results) == text


def test_the_tables_of_unseen_rows_are_those_of_their_csv_files():
    unseen, small = example("unseen_rows"), example("small_tables")
    text = unseen.PAGE.read_text()
    fits = pd.read_csv(unseen.FITS)
    remade = text
    for name, make in unseen.PAGE_TABLES.items():
        assert len(re.findall(rf"<!-- /?{name} -->", text)) == 2, name
        remade = unseen.put(remade, name, make(fits))
    remade = small.put(remade, "small_tables", small.page_table(pd.read_csv(small.FITS)))
    assert remade == text


def test_every_figure_is_there_and_shown(page):
    shown = set(re.findall(r"comparison/(\w+)\.png", PAGE.read_text()))
    assert shown == {path.stem for path in FOLDER.glob("*.png")} == set(page.PAGE_FIGURES)


def test_the_figures_can_be_drawn_from_the_csv_files(page, results):
    for name in ("ranks", "iterations", "convergence_compas"):
        assert page.PAGE_FIGURES[name](results).axes


def test_no_committed_fit_failed(results):
    for name, frame in results.items():
        if "error" in frame:
            assert not checked(frame)["failed"].any(), name


@needs_tables
def test_every_experiment_goes_on_from_the_committed_fits(results, tmp_path, monkeypatch):
    # Which were made with the settings that the methods have now, or it would refuse.
    monkeypatch.setattr(runner, "_run", lambda jobs, done, *others: done)
    experiments = example("comparison").EXPERIMENTS
    for name in experiments.keys() - {"convergence", "line"}:  # no runs of the benchmark
        path = tmp_path / f"{name}.sqlite"
        example("comparison").write(results[name], path)
        experiments[name](results=path, folder=DATA, memory=tmp_path, n_jobs=1)


@pytest.mark.slow
@needs_tables
def test_a_slice_of_the_comparison_comes_out_again(results, tmp_path):
    where = {"table": "compas", "sensitive": "race", "constraint": "equalized_odds"}
    where |= {"sparsity": 0.9, "seed": 0}
    methods = ["fairpruner", "bip", "magnitude"]
    fits = benchmark(
        methods,
        ["compas"],
        sparsities=[0.9],
        memory=tmp_path,
        sensitive={"compas": ["race"]},
        seeds=1,
        folder=DATA,
        progress=False,
    )
    then = results["grid"]
    for key, value in where.items():
        then = then[then[key] == value]
    both = fits.merge(then, on="method", suffixes=("", "_then"))
    assert set(both["method"]) == set(methods)
    # Other processors round otherwise, and a fit has four hundred steps: close, not equal.
    columns = {"accuracy": 0.015, "dense_accuracy": 0.01, "train_gap": 0.05, "gap": 0.06}
    for column, close in columns.items():
        assert (both[column] - both[f"{column}_then"]).abs().max() <= close, column
    assert (both["settings"] == both["settings_then"]).all()
    assert pd.Series(both["n_iter"]).eq(both["n_iter_then"]).all()
