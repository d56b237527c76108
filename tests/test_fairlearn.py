"""fairlearn's data, constraints and mitigators with FairPruner, as a user of fairlearn runs them.

The oracle of every gap is fairlearn's own MetricFrame on the training rows.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from dense import MEMORY
from fairlearn import reductions
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from fairlearn.postprocessing import ThresholdOptimizer
from fairlearn.preprocessing import CorrelationRemover
from sklearn.metrics import accuracy_score, zero_one_loss
from sklearn.pipeline import make_pipeline
from torch import nn

from fairprune_sk import ConstraintNotMetWarning, FairPruner, SmallGroupWarning
from fairprune_sk.fairness.constraints import DemographicParity, hard_outcome
from fairprune_sk.networks.batch import Batch


class Mlp(nn.Module):
    def __init__(self, n_features=4, n_outputs=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 16), nn.ReLU(), nn.Linear(16, n_outputs))

    def forward(self, X):
        return self.layers(X)


@pytest.fixture(scope="module")
def rows():
    """400 rows of four numbers with noisy labels; the first says much about the group."""
    rng = np.random.default_rng(0)
    group = rng.choice(["a", "b", "c"], 400, p=[0.5, 0.3, 0.2])
    X = rng.normal(size=(400, 4))
    X[:, 0] += np.select([group == "a", group == "b"], [1.0, 0.3], -0.3)
    y = (X[:, 0] + X[:, 1] + rng.normal(size=400) > 0.5).astype(int)
    return X, y, group


# fairlearn 0.15 grows Series by .at, which pandas 3 deprecates.
fairlearn_on_pandas_3 = pytest.mark.filterwarnings(
    "ignore:Setting an? (value|item):DeprecationWarning:fairlearn"
)


def quick(**kwargs):
    settings = {
        "estimator": Mlp,
        "sparsity": 0.5,
        "max_epochs": 30,
        "random_state": 0,
        "tolerance": 0.5,
        "tolerance_on": "training",  # one fit, not three
        "memory": MEMORY,
    }
    return FairPruner(**settings | kwargs)


METRICS = {
    "demographic_parity": {"selection rate": selection_rate},
    "equalized_odds": {"tpr": true_positive_rate, "fpr": false_positive_rate},
    "equal_opportunity": {"tpr": true_positive_rate},
    "false_positive_rate_parity": {"fpr": false_positive_rate},
    "accuracy_parity": {"accuracy": accuracy_score},
    "error_rate_parity": {"error": zero_one_loss},
}


def frame(constraint, y, y_pred, s, **kwargs):
    """Fairlearn's view of the rates that a constraint compares."""
    return MetricFrame(
        metrics=METRICS[constraint], y_true=y, y_pred=y_pred, sensitive_features=s, **kwargs
    )


# --------------------------------------------------------------- containers of sensitive features

LETTERS = np.random.default_rng(1).choice(["a", "b", "c"], 400)
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "ndarray of objects": lambda v: v.astype(object),
    "ndarray of one column": lambda v: v[:, None],
    "Series": pd.Series,
    "Series named None": lambda v: pd.Series(v, name=None),
    "Series named by a number": lambda v: pd.Series(v, name=0),
    "Series named by a tuple": lambda v: pd.Series(v, name=("a", 1)),
    "Series with an index of its own": lambda v: pd.Series(v, index=np.arange(400)[::-1] * 7),
    "Series with a repeated index": lambda v: pd.Series(v, index=np.zeros(400)),
    "Index": pd.Index,
    "Categorical": pd.Categorical,
    "categorical Series with an unused category": lambda v: pd.Series(
        pd.Categorical(v, categories=["z", "c", "b", "a"])
    ),
    "Series of strings": lambda v: pd.Series(v, dtype="string"),
    "DataFrame": lambda v: pd.DataFrame({"race": v}),
    "DataFrame with a numbered column": lambda v: pd.DataFrame(v),
    "polars Series": pl.Series,
    "polars Series of categories": lambda v: pl.Series(v, dtype=pl.Categorical),
    "polars DataFrame": lambda v: pl.DataFrame({"race": v}),
    "dict of arrays": lambda v: {"race": v},
    "dict of lists": lambda v: {"race": v.tolist()},
}


@pytest.fixture(scope="module")
def by_array(rows):
    """Fit with the letters as a plain array, and with two columns of them."""
    X, y, _ = rows
    one = quick(max_epochs=12).fit(X, y, sensitive_features=LETTERS)
    columns = np.column_stack([LETTERS, np.roll(LETTERS == "a", 1).astype(str)])
    two = quick(max_epochs=12).fit(X, y, sensitive_features=columns)
    return one, two, columns


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_sensitive_features_in_any_container_give_the_same_fit(rows, by_array, container):
    X, y, _ = rows
    expected, _, _ = by_array
    pruner = quick(max_epochs=12).fit(X, y, sensitive_features=container(LETTERS))
    assert list(pruner.groups_) == list(expected.groups_) == ["a", "b", "c"]
    assert list(pruner.multipliers_.columns) == ["a", "b", "c"]
    np.testing.assert_array_equal(pruner.decision_function(X), expected.decision_function(X))
    assert pruner.violation_ == expected.violation_


@pytest.mark.parametrize(
    "container",
    [
        lambda v: [tuple(row) for row in v],
        pd.DataFrame,
        lambda v: pd.DataFrame(v, columns=["race", "race"]),
        lambda v: pd.DataFrame(v, columns=["race", "sex"]).astype("category"),
        lambda v: pl.DataFrame({"race": v[:, 0], "sex": v[:, 1]}),
        lambda v: {"race": v[:, 0], "sex": v[:, 1].tolist()},
        lambda v: {"race": pd.Series(v[:, 0]), "sex": pd.Series(v[:, 1], index=range(400, 0, -1))},
    ],
    ids=[
        "list of tuples",
        "DataFrame",
        "DataFrame with a repeated name",
        "categorical DataFrame",
        "polars DataFrame",
        "dict",
        "dict of Series with indexes of their own",
    ],
)
def test_several_sensitive_columns_give_the_same_intersections(rows, by_array, container):
    X, y, _ = rows
    _, expected, columns = by_array
    pruner = quick(max_epochs=12).fit(X, y, sensitive_features=container(columns))
    assert list(pruner.groups_) == list(expected.groups_)
    assert len(pruner.groups_) == 6 and pruner.groups_[0] == ("a", "False")
    np.testing.assert_array_equal(pruner.decision_function(X), expected.decision_function(X))


@pytest.mark.parametrize(
    "values",
    [
        [False, True],
        [0, 1],
        [-1.5, 2.0],
        pd.array([0, 1], dtype="Int64"),
        pd.array([False, True], dtype="boolean"),
        pd.to_datetime(["1980-01-01", "1990-01-01"]),
    ],
    ids=["bool", "int", "float", "Int64", "boolean", "datetime"],
)
def test_booleans_and_numbers_are_groups(rows, values):
    X, y, group = rows
    codes = (group == "a").astype(int)
    letters = quick(max_epochs=12).fit(X, y, sensitive_features=np.array(["n", "y"])[codes])
    pruner = quick(max_epochs=12).fit(X, y, sensitive_features=pd.Series(values).take(codes))
    assert list(pruner.groups_) == list(values)
    np.testing.assert_array_equal(pruner.decision_function(X), letters.decision_function(X))


# ------------------------------------------------------------------------------- missing values


@pytest.fixture(scope="module")
def lacking(rows):
    """Leave out the group of 60 rows, and say which."""
    _, _, group = rows
    without = np.zeros(400, dtype=bool)
    without[np.random.default_rng(2).choice(400, 60, replace=False)] = True
    return pd.Series(group).mask(without), without


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=str)
def test_missing_sensitive_error_says_where(rows, missing):
    X, y, group = rows
    s = group.astype(object)
    s[7] = missing
    with pytest.raises(ValueError, match=r"missing values in 1 row \(the first is row 7\)"):
        quick().fit(X, y, sensitive_features=s)


def test_missing_sensitive_ignore_leaves_rows_out_of_the_constraint(rows, lacking):
    X, y, _ = rows
    s, without = lacking
    pruner = quick(missing_sensitive="ignore", tolerance=0.3)
    with pytest.warns(SmallGroupWarning, match=rf"covers {without.sum()} rows of {len(y)} \(15%\)"):
        pruner.fit(X, y, sensitive_features=s)
    assert list(pruner.groups_) == ["a", "b", "c"]
    known = frame("equalized_odds", y[~without], pruner.predict(X[~without]), s[~without])
    assert pruner.violation_ + 0.3 == pytest.approx(known.difference().max(), abs=1e-6)


def test_missing_sensitive_ignore_keeps_rows_in_the_loss(rows, lacking):
    X, y, _ = rows
    s, without = lacking
    # One epoch has one candidate, and a bound of 1 never binds: what is left is the loss.
    settings = {"max_epochs": 1, "batch_size": 40, "constraint": "demographic_parity"}
    ignoring = quick(missing_sensitive="ignore", tolerance=1.0, **settings)
    with pytest.warns(SmallGroupWarning, match="No comparison covers"):
        ignoring.fit(X, y, sensitive_features=s)
    scores = ignoring.decision_function(X)
    free = quick(**settings | {"constraint": None})
    np.testing.assert_array_equal(scores, free.fit(X, y).decision_function(X))
    fewer = free.fit(X[~without], y[~without]).decision_function(X)
    assert np.abs(fewer - scores).max() > 0.01


def test_missing_sensitive_group_is_a_group_of_its_own(rows, lacking):
    X, y, _ = rows
    s, _ = lacking
    pruner = quick(missing_sensitive="group").fit(X, y, sensitive_features=s)
    assert list(pruner.groups_) == ["a", "b", "c", "missing"]
    filled = quick().fit(X, y, sensitive_features=s.fillna("missing"))
    np.testing.assert_array_equal(pruner.decision_function(X), filled.decision_function(X))
    gap = frame("equalized_odds", y, pruner.predict(X), s.fillna("missing")).difference().max()
    assert pruner.violation_ + 0.5 == pytest.approx(gap, abs=1e-6)


# ----------------------------------------------------------------------------- control features


@pytest.mark.parametrize("constraint", METRICS)
@pytest.mark.parametrize("method", ["between_groups", "to_overall"])
def test_control_features_compare_groups_within_each_stratum(rows, constraint, method):
    X, y, s = rows
    job = np.where(X[:, 2] > 0, "office", "shop")
    pruner = quick(constraint=constraint, gap_method=method)
    pruner.fit(X, y, sensitive_features=s, control_features=job)
    within = frame(constraint, y, pruner.predict(X), s, control_features=job)
    gap = within.difference(method=method).max(axis=None)
    assert pruner.violation_ + 0.5 == pytest.approx(gap, abs=1e-6)
    assert gap != frame(constraint, y, pruner.predict(X), s).difference(method=method).max()
    n_events = len(METRICS[constraint])
    assert pruner.multipliers_.shape == (2 * n_events, 3)
    for stratum in ("office", "shop"):
        assert sum(stratum in name for name in pruner.multipliers_.index) == n_events


def test_control_features_may_have_several_columns(rows):
    X, y, s = rows
    control = pd.DataFrame({"job": X[:, 2] > 0, "city": X[:, 3] > 0})
    pruner = quick(constraint="demographic_parity", tolerance=0.9)
    pruner.fit(X, y, sensitive_features=s, control_features=control)
    within = frame("demographic_parity", y, pruner.predict(X), s, control_features=control)
    gap = within.difference().max(axis=None)
    assert pruner.violation_ + 0.9 == pytest.approx(gap, abs=1e-6)
    assert pruner.multipliers_.shape == (4, 3)


# ---------------------------------------------------------------------------- fairlearn's moments

MOMENTS = {
    "DemographicParity": "demographic_parity",
    "EqualizedOdds": "equalized_odds",
    "TruePositiveRateParity": "equal_opportunity",
    "FalsePositiveRateParity": "false_positive_rate_parity",
    "ErrorRateParity": "error_rate_parity",
}


@pytest.mark.parametrize("bound", [{"difference_bound": 0.1}, {"ratio_bound": 0.7}], ids=str)
@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning")
def test_moments_of_fairlearn_are_constraints(rows, name, bound):
    X, y, s = rows
    moment = getattr(reductions, name)
    # Neither the tolerance nor the gap_method of the pruner counts: the moment has its own.
    pruner = quick(constraint=moment(**bound), tolerance=None, max_epochs=20)
    y_pred = pruner.fit(X, y, sensitive_features=s).predict(X)
    rates = frame(MOMENTS[name], y, y_pred, s)
    if "difference_bound" in bound:
        gap = rates.difference(method="to_overall").max()
        tolerance = bound["difference_bound"]
    else:
        gap = 1 - rates.ratio(method="to_overall").min()
        tolerance = 1 - bound["ratio_bound"]
    assert gap > 1e-3  # something to compare
    assert pruner.violation_ + tolerance == pytest.approx(gap, abs=1e-6)


@fairlearn_on_pandas_3
@pytest.mark.parametrize("max_epochs", [2, 120])
@pytest.mark.parametrize("bound", [{"difference_bound": 0.13}, {"ratio_bound": 0.6}], ids=str)
@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning")
def test_a_moment_is_met_where_fairlearn_finds_it_met(rows, name, bound, max_epochs):
    X, y, s = rows
    moment = getattr(reductions, name)(**bound)
    pruner = quick(constraint=moment, max_epochs=max_epochs, fairness_weight=5.0)
    pruner.fit(X, y, sensitive_features=s)
    assert not hasattr(moment, "tags")  # no data were loaded into the user's object
    moment.load_data(X, y, sensitive_features=s)
    excess = (moment.gamma(pruner.predict) - moment.bound()).max()
    assert (pruner.violation_ <= 0) == (excess <= 1e-9)
    if "difference_bound" in bound:
        assert pruner.violation_ == pytest.approx(excess, abs=1e-6)
    if max_epochs == 120:
        assert pruner.violation_ <= 0


STRATA = {  # what there is in stratum "v", with groups, labels and strata changed in place
    "all": lambda s, y, c: None,
    "no positive": lambda s, y, c: np.copyto(y, 0, where=c == "v"),
    "no group c": lambda s, y, c: np.copyto(c, "u", where=s == "c"),
    "one group": lambda s, y, c: np.copyto(s, "a", where=c == "v"),
}


@fairlearn_on_pandas_3
@pytest.mark.parametrize("bound", [{"difference_bound": 0.07}, {"ratio_bound": 0.8}], ids=str)
@pytest.mark.parametrize("strata", STRATA)
@pytest.mark.parametrize("name", MOMENTS)
def test_the_cells_of_a_moment_are_fairlearns_with_strata_and_without_some(name, strata, bound):
    rng = np.random.default_rng(0)
    s, c = rng.choice(["a", "b", "c"], 400), rng.choice(["u", "v", "w"], 400)
    y, y_pred = rng.integers(0, 2, (2, 400))
    STRATA[strata](s, y, c)
    X, moment = np.zeros((400, 1)), getattr(reductions, name)(**bound)
    pruner = FairPruner(constraint=moment, min_group_count=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SmallGroupWarning)
        given = pruner._given(X, y, None, s, c, None)
    parity = given.parity
    logits = torch.from_numpy(2.0 * y_pred - 1.0)[:, None]
    rows = Batch(X, torch.from_numpy(y), cell=given.cell)
    violation = parity.violation(parity.sums(hard_outcome, logits, rows))

    moment.load_data(X, y, sensitive_features=s, control_features=c)
    # With control features, its moments of one label compare the rows of the other as well.
    own = [cell for cell in moment.index if not cell[1].endswith(",nan")]
    excess = (moment.gamma(lambda X: y_pred) - moment.bound())[own].max()
    assert (violation <= 0) == (excess <= 0)
    if "difference_bound" in bound:
        assert violation == pytest.approx(excess, abs=1e-6)
    cells = {cell[1:] for cell in own}
    alone = {event for event, _ in cells if sum(other == event for other, _ in cells) == 1}
    assert int(parity.constrained.sum()) == len(cells) - len(alone)


def test_a_moment_without_a_bound_has_fairlearns_default(rows):
    X, y, s = rows
    pruner = quick(constraint=reductions.DemographicParity(), max_epochs=4)
    with pytest.warns(ConstraintNotMetWarning, match=r"the tolerance 0\.01"):
        pruner.fit(X, y, sensitive_features=s)


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        (
            reductions.BoundedGroupLoss(reductions.ZeroOneLoss(), upper_bound=0.1),
            "Got constraint=BoundedGroupLoss.*expected one of fairlearn's parity moments: Demog",
        ),
        (reductions.ErrorRate(), r"Got constraint=ErrorRate\("),
        (reductions.UtilityParity(), r"Got constraint=UtilityParity\("),
        (
            reductions.EqualizedOdds(ratio_bound=0.8, ratio_bound_slack=0.05),
            "EqualizedOdds with ratio_bound_slack=0.05.*put the slack into ratio_bound",
        ),
    ],
    ids=["BoundedGroupLoss", "ErrorRate", "UtilityParity", "ratio_bound_slack"],
)
def test_moments_that_are_no_parity_are_refused_by_name(rows, moment, message):
    X, y, s = rows
    with pytest.raises(ValueError, match=message):
        quick(constraint=moment).fit(X, y, sensitive_features=s)


# ------------------------------------------------------------------------------ ratios, and loss


def test_ratios_hold_the_four_fifths_rule(rows):
    X, y, s = rows
    pruner = quick(constraint=DemographicParity(comparison="ratio"), tolerance=0.2, max_epochs=150)
    pruner.fit(X, y, sensitive_features=s)
    ratio = demographic_parity_ratio(y, pruner.predict(X), sensitive_features=s)
    assert pruner.violation_ + 0.2 == pytest.approx(1 - ratio, abs=1e-6)
    assert ratio >= 0.8 - 1e-9
    dense = demographic_parity_ratio(y, pruner.predict_dense(X), sensitive_features=s)
    assert dense < 0.8


def test_degradation_parity_compares_what_pruning_takes_from_each_group(rows):
    X, y, s = rows
    pruner = quick(constraint="degradation_parity", sparsity=0.9, tolerance=0.1, max_epochs=150)
    pruner.fit(X, y, sensitive_features=s)
    accuracy = {
        name: MetricFrame(metrics=accuracy_score, y_true=y, y_pred=p, sensitive_features=s).by_group
        for name, p in (("dense", pruner.predict_dense(X)), ("pruned", pruner.predict(X)))
    }
    lost = accuracy["dense"] - accuracy["pruned"]
    assert pruner.violation_ + 0.1 == pytest.approx(lost.max() - lost.min(), abs=1e-6)
    assert pruner.violation_ <= 0


# -------------------------------------------------------------------------- fairlearn's mitigators


def gap_of(y, y_pred, s):
    return demographic_parity_difference(y, y_pred, sensitive_features=s)


@pytest.fixture(scope="module")
def free(rows):
    """Fit without a constraint: the base estimator of fairlearn's mitigators."""
    X, y, _ = rows
    return quick(constraint=None).fit(X, y)


@fairlearn_on_pandas_3
@pytest.mark.parametrize("as_frame", [False, True], ids=["array", "DataFrame"])
def test_exponentiated_gradient_mitigates_with_pruned_networks(rows, free, as_frame):
    X, y, s = rows
    X = pd.DataFrame(X, columns=list("abcd")) if as_frame else X
    base = quick(constraint=None, max_epochs=15)
    mitigator = reductions.ExponentiatedGradient(
        base, reductions.DemographicParity(difference_bound=0.05), max_iter=6
    )
    mitigator.fit(X, y, sensitive_features=s)
    networks = [p for p in mitigator.predictors_ if isinstance(p, FairPruner)]
    assert len(networks) > 1 and all(p.sparsity_ >= 0.5 for p in networks)
    # A randomised classifier: its rates are means of the probabilities to predict 1.
    rates = pd.Series(mitigator._pmf_predict(X)[:, 1]).groupby(s).mean()
    assert rates.max() - rates.min() < gap_of(y, free.predict(np.asarray(X)), s) / 2


@fairlearn_on_pandas_3
def test_grid_search_mitigates_with_pruned_networks(rows, free):
    X, y, s = rows
    group = np.where(s == "a", "a", "others")
    mitigator = reductions.GridSearch(
        quick(constraint=None), reductions.DemographicParity(), grid_size=7, constraint_weight=0.9
    )
    mitigator.fit(X, y, sensitive_features=group)
    assert all(p.sparsity_ >= 0.5 for p in mitigator.predictors_)
    assert gap_of(y, mitigator.predict(X), group) < gap_of(y, free.predict(X), group) / 2
    np.testing.assert_allclose(mitigator.predict_proba(X).sum(axis=1), 1.0)


@pytest.mark.parametrize("prefit", [False, True])
@pytest.mark.parametrize("method", ["predict_proba", "decision_function", "predict"])
def test_threshold_optimizer_sets_thresholds_on_a_pruned_network(rows, free, prefit, method):
    X, y, s = rows
    mitigator = ThresholdOptimizer(
        estimator=free if prefit else quick(constraint=None), prefit=prefit, predict_method=method
    )
    mitigator.fit(X, y, sensitive_features=s)
    assert (mitigator.estimator_ is free) is prefit
    np.testing.assert_array_equal(mitigator.estimator_.predict(X), free.predict(X))
    probability = pd.Series(mitigator._pmf_predict(X, sensitive_features=s)[:, 1])
    rates = probability.groupby(s).mean()
    assert rates.max() - rates.min() < 0.02 < gap_of(y, free.predict(X), s)


@pytest.mark.parametrize("constraint", [None, "demographic_parity"])
def test_correlation_remover_goes_before_in_a_pipeline(rows, free, constraint):
    X, y, s = rows
    frame = pd.DataFrame(X, columns=list("pqrt")).assign(a=s == "a", b=s == "b")
    frame = frame.astype(float)
    pipeline = make_pipeline(
        CorrelationRemover(sensitive_feature_ids=["a", "b"]),
        quick(constraint=constraint, tolerance=0.15, max_epochs=100),
    )
    params = {} if constraint is None else {"fairpruner__sensitive_features": s}
    pipeline.fit(frame, y, **params)
    assert pipeline[-1].n_features_in_ == 4
    gap = gap_of(y, pipeline.predict(frame), s)
    assert gap < gap_of(y, free.predict(X), s)
    if constraint is not None:
        assert pipeline[-1].violation_ + 0.15 == pytest.approx(gap, abs=1e-6)


# ------------------------------------------------------------------------ many and small groups


def test_a_hundred_intersections_are_stable_and_small_ones_are_named():
    rng = np.random.default_rng(0)
    n = 1500
    s = pd.DataFrame(
        {
            "sex": rng.choice(["f", "m"], n),
            "race": rng.choice(list("ABCDE"), n, p=[0.5, 0.3, 0.1, 0.07, 0.03]),
            "age": rng.choice(range(10), n, p=np.arange(10, 0, -1) / 55),
        }
    )
    X = rng.normal(size=(n, 4))
    X[:, 0] += (s["sex"] == "m") * 0.7
    y = (X[:, 0] + X[:, 1] + rng.normal(size=n) > 0.5).astype(int)
    counts = s.value_counts()
    assert len(counts) > 90 and (counts < 10).sum() > 40 and (counts <= 3).sum() > 15
    pruner = quick(constraint="demographic_parity", tolerance=0.2, max_epochs=60)
    with pytest.warns() as caught:
        pruner.fit(X, y, sensitive_features=s)
    kinds = {w.category for w in caught}
    assert kinds <= {SmallGroupWarning, ConstraintNotMetWarning}  # and no collapse
    (message,) = (str(w.message) for w in caught if w.category is SmallGroupWarning)
    for group, count in counts.items():
        name = f"{', '.join(map(str, group))!r} ({count} rows)"
        assert (name in message) is (count < 10), name
    assert len(pruner.groups_) == len(counts)
    assert all(torch.isfinite(p).all() for p in pruner.network_.parameters())
    multipliers = pruner.multipliers_.to_numpy()
    assert np.isfinite(multipliers).all() and 0 < np.abs(multipliers).max() < 100
    free = quick(constraint=None, max_epochs=60).fit(X, y)
    assert pruner.score(X, y) > free.score(X, y) - 0.08


def test_groups_of_a_handful_of_rows_leave_the_others_alone(rows):
    X, y, group = rows
    s = group.astype(object)
    s[:3] = "few"
    with pytest.warns(SmallGroupWarning, match=r"'few' \(\d negative rows\); 'few' \(\d positive"):
        pruner = quick(tolerance=0.2, max_epochs=400).fit(X, y, sensitive_features=s)
    assert (pruner.multipliers_["few"] == 0).all()
    gap = frame("equalized_odds", y[3:], pruner.predict(X[3:]), s[3:]).difference().max()
    assert pruner.violation_ + 0.2 == pytest.approx(gap, abs=1e-6)


# ------------------------------------------------------------------------ more than two classes


def one_vs_rest(constraint, y, y_pred, s):
    """Compute the metrics of a constraint for each class against the rest."""
    if constraint == "accuracy_parity":
        return [frame(constraint, y, y_pred, s)]
    return [frame(constraint, y == label, y_pred == label, s) for label in np.unique(y)]


@pytest.fixture(scope="module")
def three_classes(rows):
    X, _, s = rows
    noise = np.random.default_rng(3).normal(size=400) * np.where(s == "b", 2.0, 0.4)
    score = X[:, 0] + X[:, 1] + noise
    return X, np.array(["high", "low", "mid"])[np.select([score > 1.2, score < -0.6], [0, 1], 2)], s


@pytest.mark.parametrize("method", ["between_groups", "to_overall"])
@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds", "accuracy_parity"])
@pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning")
def test_three_classes_are_each_held_against_the_rest(three_classes, constraint, method):
    X, y, s = three_classes
    pruner = quick(constraint=constraint, tolerance=0.2, gap_method=method)
    y_pred = pruner.fit(X, y, sensitive_features=s).predict(X)
    gaps = [f.difference(method=method).max() for f in one_vs_rest(constraint, y, y_pred, s)]
    assert pruner.violation_ + 0.2 == pytest.approx(max(gaps), abs=1e-6)
    n_rows = {"demographic_parity": 3, "equalized_odds": 6, "accuracy_parity": 1}[constraint]
    assert pruner.multipliers_.shape == (n_rows, 3)
    if n_rows > 1:
        for label in ("high", "low", "mid"):
            assert sum(f"class {label}" in name for name in pruner.multipliers_.index) == n_rows / 3


@pytest.mark.parametrize(
    ("constraint", "tolerance", "weight"),
    [("demographic_parity", 0.1, 1.0), ("equalized_odds", 0.3, 3.0), ("accuracy_parity", 0.2, 1.0)],
)
def test_the_gap_of_three_classes_is_cut_to_the_tolerance(
    three_classes, constraint, tolerance, weight
):
    X, y, s = three_classes
    settings = {"constraint": constraint, "tolerance": tolerance, "fairness_weight": weight}
    pruner = quick(**settings, max_epochs=200).fit(X, y, sensitive_features=s)
    y_pred = pruner.predict(X)
    free = quick(constraint=None, max_epochs=200).fit(X, y).predict(X)

    def gap(y_pred):
        return max(f.difference().max() for f in one_vs_rest(constraint, y, y_pred, s))

    assert gap(y_pred) <= tolerance + 1e-6 < gap(free)
    assert (y_pred == y).mean() > 0.5
