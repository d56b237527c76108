"""A certificate bounds the population's gap in finite samples, and says what would decide."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.reductions import DemographicParity as FairlearnParity
from fairlearn.reductions import ExponentiatedGradient
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairprune_sk import certify
from fairprune_sk.assessment.gaps import fairness_gap
from fairprune_sk.assessment.proportions import (
    Counts,
    Excess,
    approximate_limit,
    excess_of,
    lower_excess,
    upper_excess,
)
from fairprune_sk.fairness.constraints import CONSTRAINTS, DemographicParity


class Says(ClassifierMixin, BaseEstimator):
    """Predicts the first column of X."""

    def __init__(self, classes=(0, 1)):
        self.classes = classes

    @property
    def classes_(self):
        return np.array(self.classes)

    def predict(self, X):
        return np.asarray(X)[:, 0]


def cells(*of):
    """Rows of groups a, b, ...: (hits, n) among the positives, as X, y and groups."""
    predicted = [np.repeat([1, 0], [hits, n - hits]) for hits, n in of]
    group = np.repeat(list("abcdefgh")[: len(of)], [n for _, n in of])
    predicted = np.concatenate(predicted)
    return predicted[:, None], np.ones(len(predicted), dtype=int), group


def certificate(*of, **how):
    X, y, group = cells(*of)
    how = {"constraint": "equal_opportunity"} | how
    return certify(Says(), X, y, sensitive_features=group, **how)


# --- bounds of two proportions ---


@pytest.mark.parametrize("comparison", ["difference", "ratio"])
@pytest.mark.parametrize(("n1", "n2", "alpha"), [(5, 11, 0.05), (9, 6, 0.1)])
def test_bounds_of_both_ends_miss_at_most_as_often_as_they_may(comparison, n1, n2, alpha):
    shape = (n1 + 1, n2 + 1)
    upper, lower = np.empty(shape), np.empty(shape)
    for x1, x2 in np.ndindex(shape):
        counts = Counts(x1, n1), Counts(x2, n2)
        upper[x1, x2] = upper_excess(*counts, alpha, comparison)
        lower[x1, x2] = lower_excess(*counts, alpha, comparison)
    assert (lower < upper).all()
    missed = []
    rates = np.linspace(0.01, 0.99, 29)
    for p1 in rates:
        for p2 in rates:
            excess = excess_of(p1, p2, comparison)
            chance = np.outer(
                stats.binom.pmf(range(n1 + 1), n1, p1), stats.binom.pmf(range(n2 + 1), n2, p2)
            )
            missed.append((chance[upper < excess].sum(), chance[lower > excess].sum()))
    assert np.max(missed) <= alpha
    assert np.max(missed, axis=0).min() > 0.8 * alpha  # and they are not much too wide


@pytest.mark.parametrize(
    ("x1", "n1", "x2", "n2"), [(10, 40, 20, 40), (3, 30, 12, 50), (25, 70, 40, 75)]
)
def test_at_no_excess_it_is_an_exact_test_of_equal_rates(x1, n1, x2, n2):
    counts = Counts(x1, n1), Counts(x2, n2)
    table = [[x1, x2], [n1 - x1, n2 - x2]]
    tests = (stats.barnard_exact, stats.boschloo_exact)
    p = [test(table, alternative="less").pvalue for test in tests]
    # The tests order samples in their own ways, and agree up to a tenth or so.
    assert Excess(*counts, 1.2 * max(p)).excluded(0.0)
    assert not Excess(*counts, 0.8 * min(p)).excluded(0.0)
    assert upper_excess(*counts, 1.2 * max(p), "difference") < 0
    assert lower_excess(*counts[::-1], 1.2 * max(p), "difference") > 0


@pytest.mark.parametrize(("x", "n"), [(0, 20), (7, 20), (20, 20), (130, 400)])
def test_against_a_known_rate_or_none_it_is_an_exact_binomial_interval(x, n):
    def ends(alpha):
        interval = stats.binomtest(x, n).proportion_ci(1 - 2 * alpha)
        return interval.low, interval.high

    known, nobody = Counts(0, 10**6), Counts(0, 0)
    (low, high), (lower, higher) = ends(0.05), ends(0.05 * 0.98)  # without the nuisance's part
    for bound, exact, reach in [
        (upper_excess(Counts(x, n), known, 0.05, "difference"), (high, higher), high - x / n),
        (1 - upper_excess(nobody, Counts(x, n), 0.05, "difference"), (low, lower), x / n - low),
    ]:
        assert min(exact) - 0.1 * reach - 2e-5 <= bound <= max(exact) + 0.1 * reach + 2e-5


@pytest.mark.parametrize("comparison", ["difference", "ratio"])
def test_the_order_rises_with_the_first_count_and_falls_with_the_second(comparison):
    x1, x2 = np.arange(31)[:, None], np.arange(8)[None]
    for z in (0.5, 1.64, 3.5):
        order = approximate_limit(x1 / 30, 30, x2 / 7, 7, z, comparison)
        assert np.diff(order, axis=0).min() > -1e-12
        assert np.diff(order, axis=1).max() < 1e-12


# --- certificates ---


@pytest.mark.parametrize(
    ("rates", "n", "target"),
    [
        ((0.07, 0.6), [(4831, 590), (7604, 3256)], 0.040),  # Adult's test part, by sex
        ((0.3, 0.3), [(453, 496), (400, 503)], 0.070),  # 1,852 rows as those of COMPAS
        ((0.07, 0.6), [(1875, 625)] * 2, 0.050),
        ((0.07, 0.6), [(7500, 2500)] * 2, 0.025),
    ],
)
def test_without_a_gap_the_bound_is_as_small_as_promised(rates, n, target):
    bounds = [
        upper_excess(Counts(round(p * n1), n1), Counts(round(p * n2), n2), 0.05, "difference")
        for p, of_label in zip(rates, zip(*n, strict=True), strict=True)
        for n1, n2 in permutations(of_label)
    ]
    assert max(bounds) <= target


@pytest.mark.parametrize(
    ("n", "rates"),
    [([150, 150], [0.1, 0.02]), ([60, 90, 40], [0.2, 0.3, 0.5]), ([30] * 8, [0.3] * 7 + [0.8])],
)
def test_false_certificates_are_as_rare_as_promised(n, rates):
    gap, wrong, known = max(rates) - min(rates), 0, {}
    hits = np.random.default_rng(0).binomial(n, rates, (1000, len(n)))
    pairs = sorted(permutations(range(len(n)), 2), key=lambda p: rates[p[1]] - rates[p[0]])
    for row in hits.tolist():
        below = True  # the largest of the pairs' bounds is below the gap
        for i, j in pairs:
            pair = Counts(row[i], n[i]), Counts(row[j], n[j])
            if pair not in known:
                known[pair] = Excess(*pair, 0.05).excluded(gap)
            below = known[pair]
            if not below:
                break
        wrong += below
    assert wrong <= stats.binom.isf(1e-3, 1000, 0.05)


def test_verdicts():
    within = certificate((600, 1000), (600, 1000), tolerance=0.06)
    above = certificate((800, 1000), (600, 1000), tolerance=0.06)
    unknown = certificate((620, 1000), (600, 1000), tolerance=0.03)
    assert [c.verdict for c in (within, above, unknown)] == ["within", "above", "cannot tell"]
    assert certificate((620, 1000), (600, 1000)).verdict is None
    for found in (within, above, unknown):
        assert found.lower <= found.gap <= found.upper == found.pairs["upper"].iloc[0]
    assert within.upper < 0.06 and above.lower > 0.06
    assert unknown.gap == pytest.approx(0.02)
    assert str(unknown).startswith("CANNOT TELL whether the gap in equal opportunity (difference)")
    assert "rows would decide" in str(unknown) and repr(unknown) == str(unknown)


@pytest.mark.parametrize(
    ("comparison", "seen", "verdict"),
    [
        ("difference", 0.615, "within"),
        ("difference", 0.72, "above"),
        ("ratio", 0.615, "within"),
        ("ratio", 0.67, "above"),
    ],
)
def test_as_many_rows_as_it_asks_for_decide(comparison, seen, verdict):
    constraint = CONSTRAINTS["equal_opportunity"](comparison)
    how = {"tolerance": 0.06, "constraint": constraint}
    found = certificate((round(seen * 200), 200), (360, 600), **how)
    assert found.verdict == "cannot tell"
    needed = found.rows_needed
    assert needed["a"] > 200 and (needed.get("b", 601) > 600)
    n = {"a": 200, "b": 600} | (1.04 * needed).round().astype(int).to_dict()  # "about"
    rates = {"a": round(seen * 200) / 200, "b": 0.6}
    enough = [(round(rates[g] * n[g]), n[g]) for g in "ab"]
    assert certificate(*enough, **how).verdict == verdict
    half = [(round(rates[g] * n[g] * 0.7), round(n[g] * 0.7)) for g in "ab"]
    assert certificate(*half, **how).verdict == "cannot tell"


def test_small_and_empty_groups_enter_the_bound_and_are_named():
    big = certificate((600, 1000), (600, 1000), tolerance=0.06)
    small = certificate((600, 1000), (600, 1000), (6, 10), tolerance=0.06)
    assert big.verdict == "within" and small.verdict == "cannot tell"
    assert any("c (positive: 10 rows)" in note for note in small.notes)
    assert list(small.rows_needed.index) == ["c"] and small.rows_needed["c"] > 200

    X, y, group = cells((600, 1000), (600, 1000), (6, 10))
    y[group == "c"] = 0
    found = certify(
        Says(), X, y, sensitive_features=group, constraint="equal_opportunity", tolerance=0.06
    )
    assert found.gap == 0.0 and found.upper > 0.6 and found.verdict == "cannot tell"
    assert np.isinf(found.rows_needed["c"])
    assert any("c (positive: 0 rows)" in note for note in found.notes)


def test_gap_and_pairs_are_those_of_every_condition():
    rng = np.random.RandomState(0)
    X, y = rng.randint(3, size=(600, 1)), rng.randint(3, size=600)
    group, stratum = rng.choice(list("ab"), 600), rng.choice(["N", "S"], 600)
    asked = {"sensitive_features": group, "control_features": stratum}
    found = certify(Says((0, 1, 2)), X, y, **asked, tolerance=0.1)
    assert found.gap == pytest.approx(fairness_gap(y, X[:, 0], **asked))
    assert len(found.pairs) == 2 * 3 * 2 * 2  # events, classes, strata, orders
    assert found.pairs["gap"].max() == pytest.approx(found.gap)
    row = found.pairs.iloc[0]
    here = (group == row.group) & (stratum == row.stratum)
    here &= (y == row["class"]) == (row.event == "positive")
    assert row.n == here.sum() and row.rate == (X[here, 0] == row["class"]).mean()

    alone = stratum[group == "b"] = "N"
    found = certify(Says((0, 1, 2)), X, y, sensitive_features=group, control_features=stratum)
    assert set(found.pairs["stratum"]) == {alone}
    assert any("no rows: S: b" in note for note in found.notes)


def test_a_bound_to_overall_is_that_between_groups():
    of = (700, 1000), (600, 1000)
    between = certificate(*of, tolerance=0.03)
    overall = certificate(*of, tolerance=0.03, gap_method="to_overall")
    assert between.verdict == "above" and overall.verdict == "cannot tell"
    assert overall.upper == between.upper and overall.lower == 0.0
    assert overall.gap == pytest.approx(0.05)


def test_several_classifiers_share_what_may_go_wrong():
    X, y, group = cells((600, 1000), (600, 1000))
    how = {"sensitive_features": group, "constraint": "equal_opportunity"}
    first, second = certify([Says(), Says()], X, y, **how)
    alone = certify(Says(), X, y, **how, confidence=0.975)
    assert first.upper == second.upper == alone.upper
    assert first.confidence == 0.95 and any("One of 2" in note for note in first.notes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fairlearn's own, with pandas 3
def test_takes_classifiers_of_fairlearn_and_pipelines():
    rng = np.random.RandomState(0)
    X, sex = rng.normal(size=(1500, 2)), rng.choice(["f", "m"], 1500)
    X[:, 0] += sex == "m"
    y = (X.sum(axis=1) + rng.normal(size=1500) > 0.5).astype(int)
    old, new = slice(500), slice(500, None)
    model = LogisticRegression()
    post = ThresholdOptimizer(estimator=model, predict_method="predict_proba")
    reduced = ExponentiatedGradient(model, FairlearnParity(), max_iter=3)
    models = [
        post.fit(X[old], y[old], sensitive_features=sex[old]),
        reduced.fit(X[old], y[old], sensitive_features=sex[old]),
        make_pipeline(StandardScaler(), model).fit(X[old], y[old]),
    ]
    how = {"sensitive_features": sex[new], "constraint": DemographicParity("ratio")}
    found = certify(models, X[new], y[new], **how)
    again = certify(models, X[new], y[new], **how)
    assert [c.upper for c in found] == [c.upper for c in again]
    assert found[0].upper < found[2].upper


def test_a_pruner_brings_what_it_was_fitted_for_and_its_rows_are_refused(fitted, table):
    X, y, s = table
    found = certify(fitted, X[2000:], y[2000:], sensitive_features=s[2000:])
    assert found.tolerance == fitted.tolerance and found.verdict is not None
    assert found.requirement.gap_method == fitted.gap_method
    with pytest.raises(ValueError, match="Got the rows of the fit"):
        certify(fitted, X[:2000], y[:2000], sensitive_features=s[:2000])


def test_rows_without_a_group_are_left_out_and_counted():
    X, y, group = cells((600, 1000), (600, 1000))
    group = pd.Series(group, dtype=object)
    group[:3] = None
    how = {"sensitive_features": group, "missing_sensitive": "ignore"}
    found = certify(Says(), X, y, **how, constraint="equal_opportunity")
    assert found.n_rows == 1997 and any("3 rows without a group" in n for n in found.notes)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sample_weight": np.ones(20)}, "counts rows"),
        ({"confidence": 95}, r"Got confidence=95, but expected a number in \(0, 1\)"),
        ({"tolerance": 3}, r"Got tolerance=3, but expected a number in \[0, 1\]"),
        ({"gap_method": "pairs"}, "Got gap_method='pairs'"),
        ({"constraint": "degradation_parity"}, "needs no dense network"),
        ({"pos_label": 7}, "Got pos_label=7"),
    ],
)
def test_refuses_what_it_cannot_certify(how, message):
    with pytest.raises(ValueError, match=message):
        certificate((5, 10), (5, 10), **how)
    X, y, group = cells((5, 10), (5, 10))
    with pytest.raises(ValueError, match="empty list"):
        certify([], X, y, sensitive_features=group)
    with pytest.raises(ValueError, match="but X has 19 rows"):
        certify(Says(), X[1:], y, sensitive_features=group)
