"""Tests that figures show the numbers: what is drawn is read off the axes."""

import importlib.util
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fairprune_sk.benchmarks import figures
from fairprune_sk.benchmarks.figures import (
    LEVELS,
    ablation,
    against_sparsity,
    along_the_line,
    compare_variants,
    convergence,
    critical_difference,
    iterations,
    styles,
    trade_off,
)
from fairprune_sk.benchmarks.figures.looks import KNOWN
from fairprune_sk.benchmarks.statistics import average_ranks, mean_interval, summarise

NAN = float("nan")
DATA = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds"}


def make_results(methods, tables=("adult",), sparsities=(0.7, 0.9, 0.97), n_seeds=3):
    """Draw results; methods map to their tolerances, dense ones to None."""
    rng = np.random.RandomState(0)
    rows = []
    for table in tables:
        for method, tolerances in methods.items():
            dense = tolerances is None
            for sparsity in (0.0,) if dense else sparsities:
                for tolerance in tolerances or (NAN,):
                    for seed in range(n_seeds):
                        row = DATA | {"table": table, "method": method, "sparsity": sparsity}
                        row |= {"tolerance": tolerance, "seed": seed, "error": ""}
                        row |= {"accuracy": rng.normal(0.8, 0.01), "gap": rng.uniform(0.03, 0.2)}
                        row |= {"noise_floor": rng.uniform(0.01, 0.03), "majority_share": 0.7}
                        row |= {"dense_accuracy": 0.85, "dense_gap": 0.18}
                        rows.append(row | {"n_train": 800, "n_test": 200})
    return pd.DataFrame(rows)


METHODS = {"fairpruner": (0.02, 0.1), "snip": (), "random": (), "reductions": None}


@pytest.fixture(scope="module")
def results():
    return make_results(METHODS)


@pytest.fixture(scope="module")
def tables():
    return make_results(METHODS, tables=("adult", "acs", "law", "bank"), sparsities=(0.9,))


def line_named(ax, label):
    (line,) = [line for line in ax.get_lines() if line.get_label() == label]
    return line


def ends_of_band(collection):
    """Lower and upper end of a band at each x."""
    points = collection.get_paths()[0].vertices
    xs = np.unique(points[:, 0])
    at = [points[points[:, 0] == x, 1] for x in xs]
    return np.array([[y.min(), y.max()] for y in at]).T


def error_bars(ax):
    """Map the points that are drawn to the segments of their intervals, as arrays."""
    found = {}
    for container in ax.containers:
        line, _, bars = container
        found[tuple(np.ravel(line.get_data()))] = [bar.get_segments()[0] for bar in bars]
    return found


def can_be_written(figure):
    assert isinstance(figure, Figure)
    figure.savefig("/dev/null", format="png", dpi=20)


# --- methods ---


def test_methods_have_one_look_that_no_other_has():
    names = [*KNOWN, *(f"variant {i}" for i in range(30))]
    looks = styles(names)
    assert list(looks) == names
    named = {(s.color, s.marker) for name, s in looks.items() if name not in LEVELS}
    assert len(named) == len(names) - len(LEVELS)
    assert styles(reversed(names)) == looks
    several = styles(["wide", "narrow", "deep", "reductions"])
    assert len({style.color for style in several.values()} | {looks["fairpruner"].color}) == 5
    beside = styles(["fairpruner", "snip", "grasp", "reductions"])
    assert len({style.color for style in beside.values()}) == 4
    assert styles(["threshold_optimizer(mlp)"]).popitem()[1].label == "threshold optimizer (mlp)"


def test_a_method_that_fails_at_one_seed_does_not_press_the_others_together(results):
    collapsed = results.copy()
    rows = (collapsed["method"] == "random") & (collapsed["seed"] == 0)
    collapsed.loc[rows, "accuracy"] = 0.5
    figure = against_sparsity(collapsed, tolerance=0.1)
    low, high = figure.axes[0].get_ylim()
    random = summarise(collapsed).query("method == 'random'")
    assert low < random["accuracy"].min()  # its means can be seen
    assert low > random["accuracy_low"].max()
    assert high > 0.85  # and so can the dense network


def test_against_sparsity_draws_means_bands_dense_and_floor(results):
    figure = against_sparsity(results, "adult", "sex", "equalized_odds", tolerance=0.1)
    can_be_written(figure)
    means = summarise(results)
    means = means[means["tolerance"].isna() | (means["tolerance"] == 0.1)]
    for ax, value in zip(figure.axes, ("accuracy", "gap"), strict=True):
        for method, label in {"fairpruner": "FairPruner", "snip": "SNIP"}.items():
            expected = means[means["method"] == method]
            line = line_named(ax, label)
            assert line.get_xdata() == pytest.approx(expected["sparsity"].to_numpy())
            assert line.get_ydata() == pytest.approx(expected[value].to_numpy())
            color = matplotlib.colors.to_rgb(line.get_color())
            (band,) = [c for c in ax.collections if tuple(c.get_facecolor()[0][:3]) == color]
            ends = expected[[f"{value}_low", f"{value}_high"]].to_numpy().T
            assert ends_of_band(band) == pytest.approx(ends)
        dense_method = line_named(ax, "reductions")
        mean = means.loc[means["method"] == "reductions", value].item()
        assert dense_method.get_ydata() == pytest.approx([mean] * 3)
        assert dense_method.get_linestyle() == "--"
        before = results[f"dense_{value}"].iloc[0]
        assert line_named(ax, "dense").get_ydata() == pytest.approx([before] * 2)
        assert ax.get_xlim()[1] < 1
    (floor,) = [c for c in figure.axes[1].collections if c.get_label() == "noise floor"]
    # the dense method's floor counts at every sparsity
    dense_floor = means.loc[means["method"] == "reductions", "noise_floor"].item()
    pruned = means[means["sparsity"] > 0].groupby("sparsity")["noise_floor"]
    medians = [np.median([*floors, dense_floor]) for _, floors in pruned]
    assert ends_of_band(floor)[1] == pytest.approx(medians)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["FairPruner", "SNIP", "random", "reductions", "dense", "noise floor"]


def test_failed_fits_are_told_and_not_drawn(results):
    broken = results.copy()
    row = broken.index[(broken["method"] == "snip") & (broken["sparsity"] == 0.9)][0]
    broken.loc[row, "error"] = "ValueError: no"
    figure = against_sparsity(broken, methods=["snip", "random"])
    assert "(1 failed fit left out)" in figure.get_suptitle()
    rest = broken[broken.index != row]
    rest = rest[(rest["method"] == "snip") & (rest["sparsity"] == 0.9)]
    assert line_named(figure.axes[0], "SNIP").get_ydata()[1] == pytest.approx(
        rest["accuracy"].mean()
    )
    assert "failed" not in against_sparsity(results, methods=["snip"]).get_suptitle()


def test_one_seed_and_one_sparsity_can_be_drawn():
    small = make_results({"snip": (), "fairpruner": (0.1,)}, sparsities=(0.9,), n_seeds=1)
    can_be_written(against_sparsity(small))
    can_be_written(trade_off(small, 0.9))
    can_be_written(compare_variants(small))
    can_be_written(against_sparsity(make_results({"reductions": None})))


def test_what_is_not_clear_is_asked_for(results, tables):
    with pytest.raises(ValueError, match="Got table=None, but expected one of .*'law'"):
        against_sparsity(tables)
    with pytest.raises(ValueError, match="Got table='x', but expected one of"):
        compare_variants(tables, "x")
    with pytest.raises(ValueError, match="Got tolerance=None, but expected one of"):
        against_sparsity(results)
    with pytest.raises(ValueError, match="Got the method 'x', but expected one of"):
        against_sparsity(results, methods=["x"])
    for draw in (trade_off, compare_variants):
        with pytest.raises(ValueError, match="Got sparsity=0.1, but expected one of"):
            draw(results, sparsity=0.1, methods=["snip"])


def test_trade_off_draws_every_point_and_the_front(tables):
    figure = trade_off(tables, 0.9, n_columns=2)
    can_be_written(figure)
    assert len(figure.axes) == 4
    means = summarise(tables)
    for ax, (data_set, expected) in zip(
        figure.axes, means.groupby(["table", "sensitive", "constraint"]), strict=True
    ):
        assert ax.get_title("left") == f"{data_set[0]} by sex, equalized odds"
        drawn = error_bars(ax)
        points = expected[["gap", "accuracy"]].to_numpy()
        assert np.array(sorted(drawn)) == pytest.approx(points[points[:, 0].argsort()])
        for row in expected.itertuples():
            across, along = drawn[row.gap, row.accuracy]
            assert across[:, 0] == pytest.approx([row.gap_low, row.gap_high])
            assert along[:, 1] == pytest.approx([row.accuracy_low, row.accuracy_high])
        ours = expected[expected["method"] == "fairpruner"].sort_values("gap")
        fronts = [line for line in ax.get_lines() if len(line.get_xdata()) > 1]
        if ours["accuracy"].is_monotonic_increasing:
            assert fronts[0].get_ydata() == pytest.approx(ours["accuracy"].to_numpy())
        else:  # the laxer tolerance is beaten
            assert not fronts
        (floor,) = [patch for patch in ax.patches if patch.get_label() == "noise floor"]
        rows = tables[tables["table"] == data_set[0]]
        assert floor.get_width() == pytest.approx(rows["noise_floor"].median())
        (star,) = ax.collections[-1:] if ax.collections[-1].get_label() == "dense" else [None]
        assert star.get_offsets()[0].tolist() == pytest.approx([0.18, 0.85])


def test_variants_are_drawn_from_top_to_bottom(results):
    figure = compare_variants(results, sparsity=0.9, methods=["random", "snip"])
    can_be_written(figure)
    means = summarise(results)
    means = means[means["sparsity"] == 0.9].set_index("method")
    for ax, value in zip(figure.axes, ("accuracy", "gap"), strict=True):
        drawn = error_bars(ax)
        for height, method in enumerate(["random", "snip"]):
            (bar,) = drawn[means.loc[method, value], height]
            ends = means.loc[method, [f"{value}_low", f"{value}_high"]].tolist()
            assert bar[:, 0] == pytest.approx(ends)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["random", "SNIP"]
    assert figure.axes[0].yaxis_inverted()


def test_a_variant_of_which_every_fit_failed_keeps_its_line(results):
    broken = results.copy()
    broken.loc[broken["method"] == "snip", "error"] = "x"
    figure = compare_variants(broken, sparsity=0.9, methods=["random", "snip"])
    can_be_written(figure)
    assert "(3 failed fits left out)" in figure.get_suptitle()


def test_ablation_has_a_row_for_each_sparsity():
    levels = make_results(dict.fromkeys(reversed(LEVELS), (0.1,)), sparsities=(0.9, 0.97))
    figure = ablation(levels)
    can_be_written(figure)
    accuracy, _, sparser, _ = figure.axes
    assert [t.get_text() for t in accuracy.get_yticklabels()] == list(LEVELS)
    assert [ax.get_title("left") for ax in (accuracy, sparser)] == ["sparsity 0.9", "sparsity 0.97"]
    mean = levels[(levels["method"] == "both") & (levels["sparsity"] == 0.97)]["accuracy"].mean()
    assert any(point == pytest.approx((mean, 0)) for point in error_bars(sparser))


@pytest.mark.parametrize("value", ["hypervolume", "gap"])
def test_critical_difference_draws_the_ranks(tables, value):
    figure = critical_difference(tables, value, tolerance=0.1)
    can_be_written(figure)
    found = average_ranks(tables, value, tolerance=0.1)
    drawn = sorted(float(c.get_offsets()[0, 0]) for c in figure.axes[0].collections)
    assert drawn == pytest.approx(found.ranks.tolist())
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert any(f"FairPruner ({found.ranks['fairpruner']:.2f})" in text for text in labels) or any(
        f"({found.ranks['fairpruner']:.2f}) FairPruner" in text for text in labels
    )
    assert f"critical difference {found.critical_difference:.2f}" in figure.get_suptitle()
    assert f"Friedman p = {found.p_value:.2g}" in figure.get_suptitle()


def test_bars_join_what_does_not_differ():
    rows = make_results(dict.fromkeys("abc", ()), [f"t{i}" for i in range(12)], (0.9,), 1)
    turn = rows["table"].str[1:].astype(int) < 5  # where c is better than b
    gaps = rows["method"].map({"a": 0.01, "b": 0.1, "c": 0.11})
    rows["gap"] = gaps - 0.02 * (turn & (rows["method"] == "c")) + rows.index * 1e-5
    figure = critical_difference(rows, "gap", posthoc="wilcoxon")
    can_be_written(figure)
    bars = [
        sorted(map(float, line.get_xdata())) for line in figure.axes[0].get_lines()
        if line.get_color() == "k"
    ]  # fmt: skip
    assert bars == [pytest.approx([2 + 5 / 12, 2 + 7 / 12])]


# --- training ---


def test_iterations_mark_the_first_budget_that_reaches_both_targets():
    rows = [
        DATA | {"method": m, "n_iter": n, "seed": s, "accuracy": a + 0.01 * s, "gap": 4 / n}
        for m, base in {"fairpruner": 0.8, "snip": 0.6}.items()
        for n, a in zip((100, 200, 400), (base, base + 0.03, base + 0.04), strict=True)
        for s in range(3)
    ]
    figure = iterations(pd.DataFrame(rows), target_accuracy=0.83, target_gap=0.02)
    can_be_written(figure)
    accuracy, gap = figure.axes
    line = line_named(accuracy, "FairPruner")
    assert line.get_xdata().tolist() == [100, 200, 400]
    assert line.get_ydata() == pytest.approx([0.81, 0.84, 0.85])
    low, high = ends_of_band(accuracy.collections[0])
    assert (low[0], high[0]) == pytest.approx(mean_interval([0.80, 0.81, 0.82])[1:])
    for ax, at in ((accuracy, 0.84), (gap, 0.02)):
        rings = [ring.get_xydata()[0] for ring in ax.get_lines() if ring.get_markersize() == 13]
        (ring,) = [ring for ring in rings if not np.isnan(ring).any()]  # SNIP never does
        assert ring.tolist() == pytest.approx([200, at])
        assert ax.get_xscale() == "log"
    assert line_named(gap, "target").get_ydata() == pytest.approx([0.02, 0.02])


def test_along_the_line_draws_means_of_each_pair():
    curves = pd.DataFrame([
        {"table": table, "pair": pair, "seed": seed, "position": x, "loss": x + seed, "gap": x / 10}
        for table in ("adult", "acs") for pair in ("a to b", "b to c")
        for seed in range(3) for x in (0.0, 0.5, 1.0)
    ])  # fmt: skip
    figure = along_the_line(curves)
    can_be_written(figure)
    loss, gap, *_ = figure.axes
    assert len(figure.axes) == 4
    assert line_named(loss, "a to b").get_ydata() == pytest.approx([1, 1.5, 2])
    assert line_named(gap, "b to c").get_ydata() == pytest.approx([0, 0.05, 0.1])
    assert ends_of_band(loss.collections[0])[0] == pytest.approx(
        [mean_interval(np.arange(3) + x).low for x in (0, 0.5, 1)]
    )
    with pytest.raises(ValueError, match=r"Got curves without \['gap'\]"):
        along_the_line(curves.drop(columns="gap"))


def test_convergence_draws_mean_and_range():
    columns = ["train_loss", "running_gap", "max_multiplier", "sparsity", "mask_change"]
    rng = np.random.RandomState(0)
    history = pd.DataFrame([
        {"seed": s, "epoch": e} | {name: rng.uniform() for name in columns}
        for s in range(3) for e in range(1, 5 - (s == 0))  # one seed stopped early
    ])  # fmt: skip
    figure = convergence(history)
    can_be_written(figure)
    for ax, column in zip(figure.axes, columns, strict=True):
        epochs = history.groupby("epoch")[column]
        assert ax.get_lines()[0].get_ydata() == pytest.approx(epochs.mean().to_numpy())
        ends = np.array([epochs.min(), epochs.max()])
        assert ends_of_band(ax.collections[0]) == pytest.approx(ends)
    with pytest.raises(ValueError, match=r"Got history without \['sparsity'\]"):
        convergence(history.drop(columns="sparsity"))


def test_nothing_is_left_open_or_changed(results):
    from matplotlib import pyplot

    before, opened = dict(matplotlib.rcParams), pyplot.get_fignums()
    against_sparsity(results, tolerance=0.1)
    assert pyplot.get_fignums() == opened
    assert dict(matplotlib.rcParams) == before


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for name in [name for name in sys.modules if name.startswith(f"{figures.__name__}.")]:
        monkeypatch.delitem(sys.modules, name)
    spec = importlib.util.spec_from_file_location("copy_of_figures", figures.__file__)
    with pytest.raises(ImportError, match=r"pip install fairprune_sk\[benchmark\]"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
