"""Tests of what is said from results: against formulas by hand, scipy, statsmodels and moocore."""

import importlib
import sys

import moocore
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fairprune_sk.benchmarks.statistics import (
    CELL,
    accuracy_at_gap,
    at_every_sparsity,
    at_tolerance,
    average_ranks,
    checked,
    compare,
    corrected_t_test,
    excess_cut,
    holm,
    hypervolume,
    iterations_to_reach,
    mean_interval,
    pareto_front,
    summarise,
)

NAN = float("nan")


def fit(method, seed=0, accuracy=0.8, gap=0.1, tolerance=NAN, sparsity=0.9, table="adult", **more):
    """Make one row of results; with NaN figures where there is an error."""
    row = {"table": table, "sensitive": "sex", "constraint": "equalized_odds", "method": method}
    row |= {"sparsity": sparsity, "tolerance": tolerance, "seed": seed, "error": ""}
    row |= {"accuracy": accuracy, "gap": gap, "noise_floor": 0.02, "majority_share": 0.75}
    row |= {"dense_accuracy": 0.85, "dense_gap": 0.2, "n_train": 800, "n_test": 200} | more
    if row["error"]:
        row |= dict.fromkeys(["accuracy", "gap", "noise_floor", "dense_accuracy"], NAN)
    return row


def frame(*rows):
    return pd.DataFrame(list(rows))


# --- what goes in ---


def test_missing_columns_are_named():
    with pytest.raises(ValueError, match=r"Got results without \['gap'\], but expected"):
        summarise(frame(fit("snip")).drop(columns="gap"))


def test_a_fit_that_is_there_twice_is_an_error():
    with pytest.raises(ValueError, match="Got more than one row of .*'snip'"):
        summarise(frame(fit("snip"), fit("snip", accuracy=0.9)))


def test_errors_come_back_from_a_file_as_nan(tmp_path):
    results = frame(fit("snip"), fit("snip", seed=1, error="ValueError: no"))
    results.to_csv(tmp_path / "results.csv", index=False)
    assert checked(pd.read_csv(tmp_path / "results.csv"))["failed"].tolist() == [False, True]


def test_sparsities_that_differ_by_rounding_are_one_cell():
    summary = summarise(frame(fit("snip", 0, sparsity=0.3), fit("snip", 1, sparsity=0.1 + 0.2)))
    assert summary["n_seeds"].tolist() == [2]


def test_dense_methods_take_part_at_every_sparsity_of_their_data_set():
    results = frame(
        fit("reductions", sparsity=0.0),
        fit("snip", sparsity=0.0),  # not dense, since it is pruned as well
        fit("snip", sparsity=0.7),
        fit("snip", sparsity=0.9, table="acs"),
        fit("reductions", sparsity=0.0, table="law"),
    )
    found = at_every_sparsity(results).groupby(["table", "method"])["sparsity"].apply(list)
    assert found["adult", "reductions"] == [0.0, 0.7]
    assert found["law", "reductions"] == [0.0]
    assert found["adult", "snip"] == [0.0, 0.7]
    assert ("acs", "reductions") not in found


def test_one_tolerance_is_kept_of_methods_that_have_several():
    results = frame(
        *[fit("fairpruner", tolerance=t) for t in (0.02, 0.1)],
        fit("balancing_act", tolerance=0.05),
        fit("snip"),
    )
    kept = at_tolerance(results, 0.1)
    assert kept["method"].tolist() == ["fairpruner", "balancing_act", "snip"]
    assert kept["tolerance"].iloc[0] == 0.1
    for tolerance in (None, 0.05):
        with pytest.raises(ValueError, match=r"expected one of \[0.02, 0.1\].*'fairpruner'"):
            at_tolerance(results, tolerance)


# --- means over seeds ---


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_mean_interval_is_that_of_scipy(confidence):
    values = np.random.RandomState(0).normal(0.8, 0.1, 7)
    expected = stats.ttest_1samp(values, 0).confidence_interval(confidence)
    mean, low, high = mean_interval(values, confidence)
    assert (mean, low, high) == pytest.approx((values.mean(), expected.low, expected.high))


def test_mean_interval_needs_two_values():
    assert mean_interval([0.8]) == pytest.approx((0.8, NAN, NAN), nan_ok=True)
    assert np.isnan(mean_interval([])).all()
    assert mean_interval([0.8, 0.8]) == pytest.approx((0.8, 0.8, 0.8))
    with pytest.raises(ValueError, match="Got 1 NaN of 2 values"):
        mean_interval([0.8, NAN])
    with pytest.raises(ValueError, match=r"Got confidence=1.2, but expected a number in \(0, 1\)"):
        mean_interval([0.8], 1.2)


def test_summary_leaves_failed_fits_out_and_counts_them():
    results = frame(
        fit("snip", 0, 0.80, 0.10),
        fit("snip", 1, 0.84, 0.01, noise_floor=0.04),
        fit("snip", 2, error="ValueError: no"),
        fit("snip", 3, gap=NAN),
        fit("grasp", 0, error="ValueError: no"),
        fit("fairpruner", 0, tolerance=0.05),
    )
    summary = summarise(results).set_index("method")
    snip = summary.loc["snip"]
    assert (snip.n_seeds, snip.n_failed) == (2, 2)
    assert snip.accuracy == pytest.approx(0.82)
    assert snip.accuracy_sd == pytest.approx(np.std([0.80, 0.84], ddof=1))
    assert snip.excess_gap == pytest.approx(0.055 - 0.03)
    assert snip.points_lost == pytest.approx(3.0)
    assert (snip.gap_low, snip.gap_high) == pytest.approx(mean_interval([0.10, 0.01])[1:])
    assert (summary.loc["grasp", ["n_seeds", "n_failed"]] == [0, 1]).all()
    assert np.isnan(summary.loc["grasp", "accuracy"])
    assert np.isnan(summary.loc["fairpruner", "gap_low"])  # one seed


def test_excess_below_the_noise_is_negative():
    assert summarise(frame(fit("snip", gap=0.01)))["excess_gap"].item() == pytest.approx(-0.01)


# --- tests of two methods ---

DIFFERENCES = [0.02, 0.03, -0.01, 0.04, 0.00]


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_without_correction_the_t_test_is_that_of_scipy(alternative):
    test = corrected_t_test(DIFFERENCES, 100, 0, alternative=alternative)
    expected = stats.ttest_1samp(DIFFERENCES, 0, alternative=alternative)
    interval = stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(0.95)
    assert test == pytest.approx((*expected, np.mean(DIFFERENCES), interval.low, interval.high))


def test_the_correction_widens_the_variance_as_in_the_paper():
    test = corrected_t_test(DIFFERENCES, n_train=900, n_test=100)
    # mean 0.016, s² = 0.00043, (1/5 + 1/9) s² = 0.000133778
    assert test.statistic == pytest.approx(0.016 / np.sqrt(0.00043 * (1 / 5 + 1 / 9)))
    assert test.p_value == pytest.approx(2 * stats.t.sf(1.38333, 4), rel=1e-4)
    assert test.p_value > corrected_t_test(DIFFERENCES, 900, 0).p_value


@pytest.mark.parametrize(
    "differences, p_values", [([0.0, 0.0], (1.0, 0.5, 0.5)), ([0.1] * 3, (0.0, 0.0, 1.0))]
)
def test_equal_differences_have_no_variance(differences, p_values):
    alternatives = ("two-sided", "greater", "less")
    tests = [corrected_t_test(differences, 8, 2, alternative=a) for a in alternatives]
    assert [test.p_value for test in tests] == pytest.approx(p_values)
    assert tests[0][2:] == pytest.approx((differences[0],) * 3)


def test_differences_that_are_rounding_alone_are_none():
    assert corrected_t_test([1e-17, 1e-17, 1.1e-17], 8, 2).p_value == 1.0


def test_one_difference_has_no_p_value():
    test = corrected_t_test([0.1], 8, 2)
    assert test == pytest.approx((NAN, NAN, 0.1, NAN, NAN), nan_ok=True)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"differences": [0.1, NAN]}, "Got differences=.*no NaN"),
        ({"differences": []}, "expected at least one"),
        ({"n_train": 0}, "Got n_train=0, n_test=2, but expected counts"),
        ({"alternative": "up"}, "Got alternative='up', but expected one of"),
    ],
)
def test_t_test_says_what_is_wrong(kwargs, message):
    with pytest.raises(ValueError, match=message):
        corrected_t_test(**{"differences": [0.1, 0.2], "n_train": 8, "n_test": 2} | kwargs)


def test_holm_by_hand_and_without_nan():
    assert holm([0.01, 0.04, NAN, 0.03]) == pytest.approx([0.03, 0.06, NAN, 0.06], nan_ok=True)
    p = np.random.RandomState(0).uniform(size=9)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert np.isnan(holm([NAN])).all()


# --- comparing methods ---


@pytest.fixture
def two_cells():
    """Draw five seeds of three methods at two sparsities; one fit of SNIP failed."""
    rng = np.random.RandomState(0)
    rows = []
    for sparsity in (0.7, 0.9):
        for seed in range(5):
            for method, gap in {"fairpruner": 0.04, "snip": 0.12, "random": 0.05}.items():
                error = "failed" if (method, seed, sparsity) == ("snip", 2, 0.9) else ""
                values = {"gap": gap + rng.normal(0, 0.01), "accuracy": rng.normal(0.8, 0.01)}
                rows.append(fit(method, seed, sparsity=sparsity, error=error, **values))
    return frame(*rows)


@pytest.mark.parametrize("value", ["gap", "accuracy"])
def test_compare_pairs_by_seed_and_corrects_over_the_table(two_cells, value):
    table = compare(two_cells, value=value).set_index(["sparsity", "competitor"])
    wide = two_cells.pivot_table(index=["sparsity", "seed"], columns="method", values=value)
    assert len(table) == 4
    for (sparsity, competitor), row in table.iterrows():
        here = wide.loc[sparsity]
        expected = corrected_t_test((here["fairpruner"] - here[competitor]).dropna(), 800, 200)
        assert row[["p_value", "difference", "low", "high"]].tolist() == pytest.approx(expected[1:])
    assert table.loc[(0.9, "snip"), ["n_seeds", "n_unpaired"]].tolist() == [4, 1]
    assert table.loc[(0.7, "snip"), ["n_seeds", "n_unpaired"]].tolist() == [5, 0]
    assert table["p_holm"].to_numpy() == pytest.approx(
        multipletests(table["p_value"], method="holm")[1]
    )


def test_compare_is_antisymmetric(two_cells):
    there = compare(two_cells, "fairpruner", competitors=["snip"])
    back = compare(two_cells, "snip", competitors=["fairpruner"])
    assert there["difference"].to_numpy() == pytest.approx(-back["difference"].to_numpy())
    assert there["p_value"].to_numpy() == pytest.approx(back["p_value"].to_numpy())


def test_compare_averages_what_is_not_kept_apart(two_cells):
    by = ["table", "sensitive", "constraint"]
    row = compare(two_cells, competitors=["snip"], by=by).iloc[0]
    wide = two_cells.pivot_table(index=["seed", "sparsity"], columns="method", values="gap")
    d = (wide["fairpruner"] - wide["snip"]).drop(2, level="seed").groupby("seed").mean()
    assert (row.n_seeds, row.n_unpaired) == (4, 1)  # a seed that lacks one sparsity is left out
    assert row.p_value == pytest.approx(corrected_t_test(d, 800, 200).p_value)
    with pytest.raises(ValueError, match=r"Got by=\['seed'\]"):
        compare(two_cells, by=["seed"])


def test_compare_pairs_tolerances():
    results = frame(*[
        fit(method, seed, gap=gap + t / 10, tolerance=t)
        for seed in range(2)
        for method, gap, tolerances in [
            ("fairpruner", 0.01, (0.02, 0.1)),
            ("balancing_act", 0.02, (0.1,)),
            ("snip", 0.05, (NAN,)),
            ("other", 0.05, (0.3,)),
        ]
        for t in tolerances
    ])  # fmt: skip
    results.loc[results["tolerance"].isna(), "gap"] = 0.05
    table = compare(results).set_index(["competitor", "tolerance"])
    assert table.loc[("balancing_act", 0.1), "difference"] == pytest.approx(-0.01)
    assert table.loc["snip"].index.tolist() == [0.02, 0.1]
    assert table.loc[("snip", 0.02), "difference"] == pytest.approx(0.012 - 0.05)
    other = table.loc[("other", 0.3)]
    assert other["note"] == "no tolerance in common"
    assert (other["n_seeds"], other["n_unpaired"]) == (0, 0)
    assert np.isnan(other["p_holm"])


def test_compare_with_one_seed_or_none():
    results = frame(
        fit("fairpruner", 0, gap=0.02),
        fit("snip", 0, gap=0.1),
        fit("grasp", 1),
        fit("bip", 0, error="x"),
    )
    table = compare(results).set_index("competitor")
    assert table.loc["snip", "difference"] == pytest.approx(-0.08)
    assert table["p_value"].isna().all() and table["p_holm"].isna().all()
    assert table["n_seeds"].to_dict() == {"snip": 1, "grasp": 0, "bip": 0}
    assert table["n_unpaired"].to_dict() == {"snip": 0, "grasp": 2, "bip": 1}
    assert table.loc["grasp", "note"] == table.loc["bip", "note"] == "no seed in common"


def test_compare_meets_dense_methods_at_every_sparsity():
    results = frame(
        *[fit("fairpruner", sparsity=s) for s in (0.7, 0.9)], fit("reductions", sparsity=0.0)
    )
    assert compare(results)["sparsity"].tolist() == [0.7, 0.9]


def test_compare_hypervolumes_of_each_seed():
    results = frame(*[
        fit(method, seed, 0.80 + 0.01 * seed * better, 0.1 - better * t, tolerance=t)
        for seed in range(3)
        for method, better in [("fairpruner", 0.5), ("balancing_act", 0.2)]
        for t in (0.02, 0.1)
    ])  # fmt: skip
    volumes = hypervolume(results).pivot(index="seed", columns="method", values="hypervolume")
    row = compare(results, value="hypervolume").iloc[0]
    d = volumes["fairpruner"] - volumes["balancing_act"]
    assert np.isnan(row.tolerance)
    assert row.p_value == pytest.approx(corrected_t_test(d, 800, 200).p_value)


def test_compare_says_what_is_impossible(two_cells):
    with pytest.raises(ValueError, match="Got value='auc', but expected one of"):
        compare(two_cells, value="auc")
    with pytest.raises(ValueError, match="Got the method 'bip', but expected one of"):
        compare(two_cells, "bip")
    with pytest.raises(ValueError, match="Got results of 'snip' alone"):
        compare(frame(fit("snip")), "snip")
    apart = frame(fit("fairpruner", sparsity=0.7), fit("snip", sparsity=0.9))
    with pytest.raises(ValueError, match="Got no cell that has both 'fairpruner' and"):
        compare(apart)


# --- accuracy and gap at once ---


def test_front_keeps_what_no_other_point_beats():
    rng = np.random.RandomState(0)
    points = pd.DataFrame(rng.uniform(size=(40, 2)).round(1), columns=["accuracy", "gap"])
    points.loc[3, "gap"] = NAN
    front = pareto_front(points)
    plane = points[["accuracy", "gap"]].to_numpy() * [-1, 1]
    beaten = [  # in plain loops
        any((q <= p).all() and (q < p).any() for q in plane) or np.isnan(p).any() for p in plane
    ]
    expected = points[~np.array(beaten)].drop_duplicates().sort_values("gap")
    pd.testing.assert_frame_equal(front, expected)
    assert front["accuracy"].is_monotonic_increasing
    assert pareto_front(points.iloc[:0]).empty
    with pytest.raises(ValueError, match=r"Got points without \['gap'\]"):
        pareto_front(points[["accuracy"]])


def test_hypervolume_by_hand():
    results = frame(
        fit("fairpruner", 0, 0.80, 0.05, tolerance=0.02),
        fit("fairpruner", 0, 0.85, 0.10, tolerance=0.1),
        fit("fairpruner", 0, 0.79, 0.15, tolerance=0.2),  # beaten
        fit("magnitude", 0, 0.80, 0.25),  # the worst gap: contributes nothing
        fit("random", 0, 0.70, 0.01),  # less accurate than a constant
    )
    found = hypervolume(results).set_index("method")
    assert (found["reference_accuracy"] == 0.75).all() and (found["reference_gap"] == 0.25).all()
    # in the box 0.25 x 0.25: (0.25 - 0.10) x 0.10, and (0.10 - 0.05) x 0.05
    expected = (0.15 * 0.10 + 0.05 * 0.05) / 0.25**2
    assert found.loc["fairpruner", "hypervolume"] == pytest.approx(expected)
    assert found.loc["fairpruner", "n_points"] == 3
    assert found.loc[["magnitude", "random"], "hypervolume"].tolist() == [0, 0]


def test_hypervolume_agrees_with_moocore_in_unit_coordinates():
    rng = np.random.RandomState(0)
    results = frame(*[
        fit("fairpruner", seed, rng.uniform(0.7, 0.9), rng.uniform(0, 0.3), tolerance=t)
        for seed in range(3) for t in range(6)
    ])  # fmt: skip
    found = hypervolume(results).set_index("seed")
    worst = max(results["gap"].max(), 0.2)
    for seed, fits in results.groupby("seed"):
        unit = np.c_[fits["gap"] / worst, (1 - fits["accuracy"]) / 0.25]
        expected = moocore.hypervolume(unit, ref=[1, 1])
        assert found.loc[seed, "hypervolume"] == pytest.approx(expected)


def test_the_ideal_has_hypervolume_1_and_a_new_tolerance_never_lowers_it():
    assert hypervolume(frame(fit("snip", accuracy=1.0, gap=0.0)))["hypervolume"].item() == 1
    rows = [fit("snip", 0, 0.8, 0.1, tolerance=0.1)]
    before = hypervolume(frame(*rows))["hypervolume"].item()
    rows.append(fit("snip", 0, 0.78, 0.15, tolerance=0.2))
    assert hypervolume(frame(*rows))["hypervolume"].item() == before


def test_hypervolume_of_failed_fits_and_of_no_box():
    found = hypervolume(frame(fit("snip"), fit("grasp", error="x"))).set_index("method")
    assert np.isnan(found.loc["grasp", "hypervolume"])
    assert found.loc["grasp", ["n_points", "n_failed"]].tolist() == [0, 1]
    ideal = frame(fit("snip", gap=0.0, dense_gap=0.0))
    assert np.isnan(hypervolume(ideal)["hypervolume"].item())


def test_excess_that_is_cut_by_hand():
    results = frame(
        fit("fairpruner", 0, 0.82, 0.03),
        fit("fairpruner", 1, 0.84, 0.05),
        fit("fairpruner", 2, error="x"),
        fit("snip", 0, 0.80, 0.10),
        fit("snip", 1, 0.80, 0.14),
        fit("snip", 2, 0.10, 0.90),  # its partner failed
        fit("magnitude", 0, gap=0.01),
        fit("custom", 0),
    )
    cut = excess_cut(results)
    assert cut["unaware"].tolist() == ["magnitude", "snip"]  # in the order of UNAWARE
    snip = cut.set_index("unaware").loc["snip"]
    assert snip.share_cut == pytest.approx(1 - (0.04 - 0.02) / (0.12 - 0.02))
    assert (snip.points_lost_fair, snip.points_lost_unaware) == pytest.approx((2.0, 5.0))
    assert (snip.n_seeds, snip.n_unpaired, snip.reason) == (2, 1, "")
    below = cut.set_index("unaware").loc["magnitude"]
    assert np.isnan(below.share_cut)
    assert below.reason == "the excess of magnitude is not positive"
    assert excess_cut(results, unaware=["custom"])["unaware"].tolist() == ["custom"]
    with pytest.raises(ValueError, match="say with unaware= which"):
        excess_cut(frame(fit("fairpruner"), fit("custom")))


def test_excess_cut_gives_the_reason_where_there_is_none():
    cut = excess_cut(frame(fit("fairpruner", 0), fit("snip", 1)))
    assert cut["reason"].item() == "no seed in common"
    cut = excess_cut(frame(fit("fairpruner", noise_floor=NAN), fit("snip")))
    assert cut["reason"].item() == "no noise floor"


def test_accuracy_at_an_equal_gap_by_hand():
    ours = [(0.02, 0.80), (0.06, 0.84), (0.10, 0.83)]  # the last is beaten
    results = frame(
        *[fit("fairpruner", 0, accuracy, gap, tolerance=gap) for gap, accuracy in ours],
        fit("between", 0, 0.81, 0.03),
        fit("beyond", 0, 0.81, 0.30),
        fit("below", 0, 0.79, 0.01),
        fit("equal", 0, 0.80, 0.02),
        fit("failed", 0, error="x"),
        fit("dense", 0, 0.85, 0.08, sparsity=0.0),
    )
    found = accuracy_at_gap(results).set_index("competitor")
    expected = {"between": 0.81, "beyond": 0.84, "below": NAN, "equal": 0.80}
    expected |= {"failed": NAN, "dense": 0.84}
    for name, accuracy in expected.items():
        assert found.loc[name, "front_accuracy"] == pytest.approx(accuracy, nan_ok=True)
    assert found.loc["beyond", "difference"] == pytest.approx(0.03)
    assert found.loc["below", "reason"] == "below the smallest gap of fairpruner, 0.0200"
    assert found.loc["failed", "reason"] == "no fit of failed"
    assert found.loc[["below", "failed"], "n_undefined"].tolist() == [1, 1]
    assert (found.loc[["between", "beyond", "equal"], "reason"] == "").all()


def test_accuracy_at_an_equal_gap_is_tested_seed_by_seed():
    rng = np.random.RandomState(0)
    rows, expected = [], []
    for seed in range(4):
        low, high = 0.80 + rng.normal(0, 0.01), 0.84 + rng.normal(0, 0.01)
        rows += [fit("fairpruner", seed, low, 0.02, tolerance=0.02)]
        rows += [fit("fairpruner", seed, high, 0.10, tolerance=0.1)]
        rows += [fit("snip", seed, 0.79, 0.01 if seed == 3 else 0.06)]
        if seed < 3:
            expected.append((low + high) / 2 - 0.79)
    row = accuracy_at_gap(frame(*rows)).iloc[0]
    test = corrected_t_test(expected, 800, 200)
    assert (row.n_seeds, row.n_undefined) == (3, 1)
    assert row.seed_difference == pytest.approx(np.mean(expected))
    assert (row.p_value, row.p_holm) == pytest.approx((test.p_value, test.p_value))


def test_accuracy_at_gap_says_what_is_unknown():
    results = frame(fit("fairpruner", tolerance=0.1), fit("snip"))
    with pytest.raises(ValueError, match=r"Got sparsity=0.5, but expected one of \[0.9\]"):
        accuracy_at_gap(results, sparsity=0.5)
    with pytest.raises(ValueError, match="Got the method 'bip'"):
        accuracy_at_gap(results, competitors=["bip"])


# --- many methods ---


def gaps_of(n_tables, gaps):
    """Make results of methods on tables, of the same sex gap, one seed each."""
    return frame(*[
        fit(method, table=f"t{i}", gap=gap + 0.001 * i)
        for i in range(n_tables) for method, gap in gaps.items()
    ])  # fmt: skip


def test_ranks_and_friedman_are_those_of_scipy():
    rng = np.random.RandomState(0)
    results = frame(*[
        fit(method, seed, table=f"t{i}", gap=rng.uniform(0, 0.2))
        for i in range(6) for method in "abcd" for seed in range(2)
    ])  # fmt: skip
    found = average_ranks(results, "gap")
    scores = results.groupby(["table", "method"])["gap"].mean().unstack()
    ranks = stats.rankdata(scores, axis=1).mean(0)
    assert found.ranks.to_dict() == pytest.approx(dict(zip("abcd", ranks, strict=True)))
    assert found.ranks.is_monotonic_increasing
    assert (found.statistic, found.p_value) == pytest.approx(
        stats.friedmanchisquare(*scores.T.values)
    )
    # Demšar's Table 5: q of 4 methods at 0.05 is 2.569
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 6)), rel=1e-3)
    # A pair differs at 0.05 exactly where its ranks are further apart than that.
    apart = abs(found.ranks.to_numpy()[:, None] - found.ranks.to_numpy())
    assert ((found.posthoc.to_numpy() < 0.05) == (apart > found.critical_difference)).all()
    assert (
        found.posthoc.index.tolist() == found.posthoc.columns.tolist() == found.ranks.index.tolist()
    )


def test_wilcoxon_with_holm_is_that_of_scipy():
    rng = np.random.RandomState(0)
    results = frame(*[
        fit(method, table=f"t{i}", accuracy=0.8 + better + rng.normal(0, 0.01))
        for i in range(8) for method, better in {"a": 0.0, "b": 0.05, "c": 0.01}.items()
    ])  # fmt: skip
    found = average_ranks(results, "accuracy", posthoc="wilcoxon")
    wide = found.scores
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    p = [stats.wilcoxon(wide[one], wide[other]).pvalue for one, other in pairs]
    expected = multipletests(p, method="holm")[1]
    assert [found.posthoc.loc[pair] for pair in pairs] == pytest.approx(expected)
    assert found.ranks.index[0] == "b" and np.isnan(found.critical_difference)


def test_ties_share_their_rank():
    found = average_ranks(gaps_of(4, {"a": 0.02, "b": 0.1, "c": 0.1}), "gap")
    assert found.ranks.to_dict() == {"a": 1.0, "b": 2.5, "c": 2.5}
    same = average_ranks(gaps_of(4, {"a": 0.1, "b": 0.1, "c": 0.1}), "gap")
    assert same.p_value == 1.0 and (same.posthoc > 0.99).all(axis=None)
    same = average_ranks(gaps_of(4, {"a": 0.1, "b": 0.1, "c": 0.1}), "gap", posthoc="wilcoxon")
    assert (same.posthoc == 1.0).all(axis=None)


def test_larger_hypervolumes_rank_first():
    found = average_ranks(gaps_of(3, {"a": 0.15, "b": 0.02, "c": 0.1}))
    assert found.ranks.index.tolist() == ["b", "c", "a"]


def test_ranks_say_what_is_missing():
    results = gaps_of(3, {"a": 0.1, "b": 0.2, "c": 0.3})
    failed = results.assign(error=["x"] + [""] * 8)
    with pytest.raises(ValueError, match="Got no gap of 'a' on t0 / sex / equalized_odds"):
        average_ranks(failed, "gap")
    with pytest.raises(ValueError, match="Got no hypervolume of 'a' on t0"):
        average_ranks(failed)
    with pytest.raises(ValueError, match="Got no gap of 'b' on t1"):
        average_ranks(results.drop(index=4), "gap")
    with pytest.raises(ValueError, match="Got 2 methods on 3 data sets"):
        average_ranks(results, "gap", methods=["a", "b"])
    with pytest.raises(ValueError, match="Got 3 methods on 1 data sets"):
        average_ranks(results[results["table"] == "t0"], "gap")
    with pytest.raises(ValueError, match="Got posthoc='tukey'"):
        average_ranks(results, posthoc="tukey")


# --- how long it takes ---


def test_iterations_need_both_targets_at_the_same_budget():
    rows = [
        ("fairpruner", 100, 0.83, 0.09),
        ("fairpruner", 200, 0.80, 0.04),
        ("fairpruner", 400, 0.83, 0.05),
        ("fairpruner", 800, 0.84, 0.01),
        ("snip", 100, 0.90, 0.20),
    ]
    keys = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds"}
    convergence = frame(*[
        keys | {"method": m, "n_iter": n, "seed": seed, "accuracy": a + d, "gap": g - d}
        for m, n, a, g in rows for seed, d in enumerate((-0.01, 0.01))
    ])  # fmt: skip
    failed = convergence.iloc[[4]].assign(seed=2, accuracy=NAN)
    convergence = pd.concat([convergence, failed], ignore_index=True)
    found = iterations_to_reach(convergence, 0.83, 0.05).set_index("method")
    assert found.loc["fairpruner", "n_iter"] == 400  # both targets met exactly
    assert found.loc["fairpruner", "n_seeds"] == 2
    assert np.isnan(found.loc["snip", "n_iter"])
    columns = convergence.assign(target_accuracy=0.83, target_gap=0.05)
    pd.testing.assert_frame_equal(iterations_to_reach(columns), found.reset_index()[
        ["table", "sensitive", "constraint", "method", *found.columns[3:]]
    ])  # fmt: skip
    with pytest.raises(ValueError, match=r"Got convergence without \['target_gap'\]"):
        iterations_to_reach(convergence, 0.8)
    columns.loc[0, "target_gap"] = 0.1
    with pytest.raises(ValueError, match="Got target_gap=.* but expected one"):
        iterations_to_reach(columns)


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "moocore", None)
    name = "fairprune_sk.benchmarks.statistics"
    for module in [module for module in sys.modules if module.startswith(name)]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match=r"pip install fairprune_sk\[benchmark\]"):
        importlib.import_module(name)


def test_every_table_begins_with_what_it_is_about(two_cells):
    for table in (summarise(two_cells), hypervolume(two_cells), compare(two_cells)):
        assert table.columns[:4].tolist() == CELL


def test_a_confidence_in_percent_is_refused():
    with pytest.raises(ValueError, match="Got confidence=95"):
        corrected_t_test([0.1, 0.2], 70, 30, confidence=95)
