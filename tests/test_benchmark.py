"""Comparisons: every fit that is asked for, once, and what is measured of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import product

import fairlearn.metrics as flm
import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from fairprune_sk import FairPruner
from fairprune_sk.assessment.noise import noise_floor
from fairprune_sk.benchmarks import METHODS, Method, benchmark, jobs, runner
from fairprune_sk.benchmarks.jobs import COLUMNS, KEYS
from fairprune_sk.benchmarks.methods import KNOBS, method_of, settings_of
from fairprune_sk.benchmarks.runner import MEASURED
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.datasets.tables import Table
from fairprune_sk.fitting import dense

# A few steps prune a network that a small table holds back to nothing: not what is looked at.
pytestmark = pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")


class Mlp(nn.Module):
    def __init__(self, n_features, n_outputs=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), nn.ReLU(), nn.Linear(8, n_outputs))

    def forward(self, X):
        return self.layers(X)


class Moody(ClassifierMixin, BaseEstimator):
    """A classifier that fails for as long as it likes."""

    fails = True

    def fit(self, X, y):
        if self.fails:
            raise RuntimeError("not today")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.arange(len(X)) % 2


def make_table(name="loans", seed=0):
    X, y, s = make_biased_classification(200, random_state=seed)
    X = X.select_dtypes("number").fillna(600.0)
    X = ((X - X.mean()) / X.std()).astype(np.float32)
    return Table(name, X, y.to_numpy(), s.astype(str))


@pytest.fixture(scope="module")
def loans():
    """200 loan applications with two sensitive features, sex and origin."""
    return make_table()


def pruner(**kwargs):
    options = {"max_epochs": 2, "min_group_count": 1, "tolerance_on": "training"}
    return FairPruner(Mlp, **options | kwargs)


def tree():
    return DecisionTreeClassifier(max_depth=2)


def compare(methods, tables, **kwargs):
    return benchmark(methods, tables, **{"seeds": 1, "progress": False} | kwargs)


@pytest.fixture
def fits(monkeypatch):
    """List of the jobs that were done."""
    done = []
    original = runner.fit_one

    def fit_one(job, *args):
        done.append(job)
        return original(job, *args)

    monkeypatch.setattr(runner, "fit_one", fit_one)
    return done


@pytest.fixture
def no_noise(monkeypatch):
    """Leave out what takes most of the time: the floor has tests of its own."""
    monkeypatch.setattr(jobs, "noise_floor", lambda *args, **kwargs: 0.0)


@pytest.fixture
def no_fit(monkeypatch):
    """Fail when anything is fitted."""

    def fit_one(*args):
        pytest.fail("this was to be refused, or was done before")

    monkeypatch.setattr(runner, "fit_one", fit_one)


def pretended(job, method, table, test_size, memory=None):
    """Rows of a job without a fit."""
    rows = [dict(zip(KEYS, key, strict=True)) | {"error": ""} for key in job.keys()]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["settings"] = settings_of(method)
    frame["data"] = runner.digest_of(table, test_size)
    return frame.assign(tolerance=frame["tolerance"].replace(-1.0, np.nan))


def held_in(path):
    """Read what a file of results holds, as another program would."""
    with closing(sqlite3.connect(path)) as connection:
        return pd.read_sql("SELECT * FROM fits", connection)


def same(ours, theirs):
    """Whether two tables of results are the same but for the time that they took."""
    pd.testing.assert_frame_equal(ours.drop(columns="seconds"), theirs.drop(columns="seconds"))


# ------------------------------------------------------------------------------- what is fitted


def test_a_row_for_each_combination_and_one_fit_for_what_does_not_depend_on_it(loans, monkeypatch):
    fits = []
    monkeypatch.setattr(
        runner, "fit_one", lambda job, *args: fits.append(job) or pretended(job, *args)
    )
    methods = {
        "fair": pruner(constraint="demographic_parity"),
        "penalised": pruner(tolerance=None),
        "unaware": pruner(constraint=None, solver="magnitude"),
        "tree": tree(),
    }
    sparsities, tolerances, seeds = [0.3, 0.6], [0.5, 1.0], [0, 5]
    constraints = ["equalized_odds", "demographic_parity"]
    results = compare(
        methods,
        [loans],
        sparsities=sparsities,
        constraints=constraints,
        tolerances=tolerances,
        seeds=seeds,
    )
    assert list(results.columns) == COLUMNS
    assert not results.duplicated(KEYS).any()
    sensitive = ["origin", "sex"]
    for name, (combinations, n_fits) in {
        "fair": (product(sensitive, constraints, sparsities, tolerances, seeds), 2**5),
        "penalised": (product(sensitive, constraints, sparsities, [-1.0], seeds), 2**4),
        "unaware": (product(sensitive, constraints, sparsities, [-1.0], seeds), 2**2),
        "tree": (product(sensitive, constraints, [0.0], [-1.0], seeds), 2),
    }.items():
        mine = results[results["method"] == name].fillna({"tolerance": -1.0})
        columns = ["sensitive", "constraint", "sparsity", "tolerance", "seed"]
        assert set(mine[columns].itertuples(index=False, name=None)) == set(combinations)
        assert sum(job.method == name for job in fits) == n_fits


@pytest.mark.usefixtures("no_noise")
def test_what_is_fitted_once_is_measured_for_each_feature_and_constraint(loans, fits):
    methods = {"unaware": pruner(constraint=None, solver="magnitude"), "tree": tree()}
    constraints = ["equalized_odds", "demographic_parity"]
    results = compare(methods, [loans], sparsities=[0.3, 0.6], constraints=constraints)
    assert len(fits) == 2 + 1 and len(results) == 4 * len(fits)
    assert list(results.columns) == COLUMNS and (results["error"] == "").all()
    by_fit = results.groupby(["method", "sparsity"])
    assert (by_fit["accuracy"].nunique() == 1).all()  # the same predictions
    assert (by_fit["gap"].nunique() > 1).all()
    pruned, others = (results[results["method"] == name] for name in methods)
    assert (pruned["reached_sparsity"] >= pruned["sparsity"]).all()
    assert (pruned["n_iter"] == 2).all() and pruned["dense_accuracy"].between(0, 1).all()
    assert (others["sparsity"] == 0.0).all() and (others["reached_sparsity"] == 0.0).all()
    absent = ["tolerance", "n_iter", "dense_accuracy", "dense_gap"]
    assert others[absent].isna().all(axis=None)


def test_every_method_of_the_list_depends_on_what_it_has_a_parameter_for(monkeypatch, loans):
    monkeypatch.setattr(runner, "fit_one", pretended)
    results = compare(list(METHODS), [loans], sparsities=[0.5, 0.9], tolerances=[0.1, 0.2])
    counts = results.groupby("method").size()
    assert set(counts.index) == set(METHODS)
    for name, method in METHODS.items():
        settable = {knob for knob in KNOBS if method.parameter(knob)}
        assert set(method.knobs) - {"sensitive"} <= settable
        n_values = {"sparsity": 2, "tolerance": 2}
        expected = 2 * np.prod([n_values.get(knob, 1) for knob in method.knobs])
        assert counts[name] == expected
        if isinstance(method.estimator, FairPruner):
            assert "sparsity" in method.knobs
            constraint = method.estimator.constraint
            assert ("sensitive" in method.knobs) == (constraint is not None)


@pytest.mark.parametrize(
    ("estimator", "knobs"),
    [
        (FairPruner(), ("sparsity", "sensitive", "constraint", "tolerance")),
        (FairPruner(tolerance=None), ("sparsity", "sensitive", "constraint")),
        (FairPruner(constraint=None), ("sparsity",)),
        (make_pipeline(StandardScaler(), FairPruner()), KNOBS),
        (tree(), ()),
        (Method(FairPruner(), ("sparsity",)), ("sparsity",)),
    ],
)
def test_what_a_classifier_depends_on_is_read_off_its_parameters(estimator, knobs):
    assert set(method_of(estimator).knobs) == set(knobs)


def test_several_tables_and_the_sensitive_features_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(runner, "fit_one", pretended)
    tables = [make_table("a"), make_table("b", seed=1)]
    results = compare({"tree": tree()}, tables, sensitive={"b": ["sex"]}, seeds=2)
    rows = results[["table", "sensitive", "seed"]].itertuples(index=False, name=None)
    features = [("a", "origin"), ("a", "sex"), ("b", "sex")]
    assert list(rows) == [(*feature, seed) for feature in features for seed in (0, 1)]


# ----------------------------------------------------------------------------- what is measured


def test_a_row_is_what_one_gets_by_hand(loans):
    method = pruner(tolerance=0.7)
    results = compare(
        {"mine": method},
        [loans],
        sparsities=[0.6],
        constraints=["demographic_parity"],
        tolerances=[0.1],
        sensitive={"loans": ["sex"]},
        seeds=[3],
        test_size=0.4,
    )
    (row,) = results.to_dict("records")
    sex = loans.sensitive["sex"]
    X, X_test, y, y_test, s, s_test = train_test_split(
        loans.X, loans.y, sex, test_size=0.4, stratify=loans.y, random_state=3
    )
    own = clone(method).set_params(
        sparsity=0.6, constraint="demographic_parity", tolerance=0.1, random_state=3
    )
    with pytest.warns() as caught:  # two epochs reach no gap of 0.1
        own.fit(X, y, sensitive_features=s)
    predicted, dense_predicted = own.predict(X_test), own.predict_dense(X_test)
    gap = demographic_parity_difference
    expected = {
        "table": "loans",
        "sensitive": "sex",
        "constraint": "demographic_parity",
        "method": "mine",
        "sparsity": 0.6,
        "tolerance": 0.1,
        "seed": 3,
        "accuracy": accuracy_score(y_test, predicted),
        "balanced_accuracy": balanced_accuracy_score(y_test, predicted),
        "selection_rate": predicted.mean(),
        "gap": gap(y_test, predicted, sensitive_features=s_test),
        "noise_floor": noise_floor(
            y_test,
            predicted,
            sensitive_features=s_test,
            constraint="demographic_parity",
        ),
        "majority_share": max(np.mean(y_test == 0), np.mean(y_test == 1)),
        "dense_accuracy": accuracy_score(y_test, dense_predicted),
        "dense_gap": gap(y_test, dense_predicted, sensitive_features=s_test),
        "train_accuracy": own.score(X, y),
        "train_gap": gap(y, own.predict(X), sensitive_features=s),
        "reached_sparsity": own.sparsity_,
        "n_iter": own.n_iter_,
        "n_train": 120,
        "n_test": 80,
        "warnings": " ".join(sorted({w.category.__name__ for w in caught})),
        "error": "",
        "settings": row["settings"],
        "data": row["data"],
    }
    assert row.pop("seconds") > 0
    assert row == expected
    assert "ConstraintNotMetWarning" in row["warnings"]
    assert row["settings"].startswith("FairPruner(") and "tolerance=0.7" in row["settings"]


def test_a_classifier_that_reads_groups_to_predict_is_given_them(loans):
    results = compare(
        ["threshold_optimizer(logistic)"],
        [loans],
        tolerances=[0.05],
        sensitive={"loans": ["sex"]},
    )
    assert (results["error"] == "").all()
    method = METHODS["threshold_optimizer(logistic)"].estimator
    rows = np.arange(200)
    part, rest = train_test_split(rows, test_size=0.3, stratify=loans.y, random_state=0)
    own = clone(method).set_params(constraint="equalized_odds", tolerance=0.05, random_state=0)
    sex = loans.sensitive["sex"]
    own.fit(loans.X.iloc[part], loans.y[part], sensitive_features=sex.iloc[part])
    predicted = own.predict(loans.X.iloc[rest], sensitive_features=sex.iloc[rest])
    gap = equalized_odds_difference(loans.y[rest], predicted, sensitive_features=sex.iloc[rest])
    assert results["gap"].tolist() == [gap]


@pytest.mark.usefixtures("no_noise")
def test_each_constraint_is_measured_by_its_own_gap_of_fairlearn(loans):
    results = compare({"tree": tree()}, [loans], constraints=list(MEASURED), seeds=[1])
    assert results["constraint"].nunique() == 6
    part, rest = train_test_split(np.arange(200), test_size=0.3, stratify=loans.y, random_state=1)
    own = tree().set_params(random_state=1).fit(loans.X.iloc[part], loans.y[part])
    predicted = own.predict(loans.X.iloc[rest])
    for row in results.itertuples():
        groups = loans.sensitive[row.sensitive].iloc[rest]
        gap = getattr(flm, FAIRLEARNS[row.constraint])
        expected = gap(loans.y[rest], predicted, sensitive_features=groups)
        assert row.gap == pytest.approx(expected, abs=1e-12)


FAIRLEARNS = {
    "equalized_odds": "equalized_odds_difference",
    "demographic_parity": "demographic_parity_difference",
    "equal_opportunity": "equal_opportunity_difference",
    "false_positive_rate_parity": "false_positive_rate_difference",
    "accuracy_parity": "accuracy_score_difference",
    "error_rate_parity": "zero_one_loss_difference",
}


def test_a_rate_that_a_group_has_not_counts_neither_in_the_gap_nor_in_its_noise(loans):
    rare = np.where(np.arange(200) < 12, "rare", loans.sensitive["sex"])
    y = np.where(rare == "rare", 0, loans.y)
    table = Table("loans", loans.X, y, pd.DataFrame({"sex": rare}))
    (row,) = compare(
        {"mine": pruner()}, [table], constraints=["equal_opportunity"], tolerances=[1.0], seeds=[1]
    ).to_dict("records")
    part, rest = train_test_split(np.arange(200), test_size=0.3, stratify=y, random_state=1)
    assert {"rare"} < set(rare[part]) & set(rare[rest])
    own = pruner(sparsity=0.9, constraint="equal_opportunity", tolerance=1.0, random_state=1)
    with pytest.warns():
        own.fit(loans.X.iloc[part], y[part], sensitive_features=rare[part])
    for name, rows, predict in (
        ("gap", rest, own.predict),
        ("train_gap", part, own.predict),
        ("dense_gap", rest, own.predict_dense),
    ):
        known = rows[rare[rows] != "rare"]
        expected = flm.equal_opportunity_difference(
            y[known], predict(loans.X.iloc[known]), sensitive_features=rare[known]
        )
        assert row[name] == pytest.approx(expected, abs=1e-12)
    assert row["noise_floor"] > 0


def test_a_search_at_the_end_of_a_pipeline_is_looked_into(loans):
    search = GridSearchCV(pruner(), {"max_epochs": [2]}, cv=2)
    for estimator in (
        make_pipeline(StandardScaler(), search),
        GridSearchCV(make_pipeline(search), {"gridsearchcv__cv": [2]}, cv=2),
    ):
        (row,) = compare(
            {"mine": estimator},
            [loans],
            sparsities=[0.6],
            tolerances=[1.0],
            sensitive={"loans": ["sex"]},
        ).to_dict("records")
        assert row["error"] == ""
        assert row["reached_sparsity"] >= 0.6
        assert row["n_iter"] == 2
        assert 0 < row["dense_accuracy"] < 1


@pytest.mark.usefixtures("no_noise")
def test_a_pipeline_is_varied_in_its_last_step(loans):
    pipeline = make_pipeline(StandardScaler(), pruner())
    results = compare(
        {"pipeline": pipeline},
        [loans],
        sparsities=[0.3, 0.7],
        tolerances=[1.0],
        sensitive={"loans": ["sex"]},
    )
    assert (results["error"] == "").all()
    assert results["sparsity"].tolist() == [0.3, 0.7]
    assert 0.3 <= results["reached_sparsity"][0] < 0.5
    assert results["reached_sparsity"][1] >= 0.7
    assert pipeline[-1].sparsity == 0.9  # the one that was passed stays as it was
    assert not get_config()["enable_metadata_routing"]
    own = clone(pipeline).set_params(
        fairpruner__sparsity=0.3, fairpruner__tolerance=1.0, fairpruner__random_state=0
    )
    part, rest = train_test_split(np.arange(200), test_size=0.3, stratify=loans.y, random_state=0)
    with config_context(enable_metadata_routing=True):
        own.fit(
            loans.X.iloc[part],
            loans.y[part],
            sensitive_features=loans.sensitive["sex"].iloc[part],
        )
    assert results["accuracy"][0] == own.score(loans.X.iloc[rest], loans.y[rest])


@pytest.mark.usefixtures("no_noise")
def test_dense_networks_of_one_table_and_seed_are_shared_through_the_memory(
    loans, tmp_path, monkeypatch
):
    trained = []
    original = dense.fit_dense
    monkeypatch.setattr(dense, "fit_dense", lambda *a: trained.append(a) or original(*a))
    methods = {"fair": pruner(tolerance=1.0), "plain": pruner(constraint=None, solver="magnitude")}
    options = {"sparsities": [0.3, 0.6], "tolerances": [1.0], "seeds": 2}
    options["sensitive"] = {"loans": ["sex"]}
    shared = compare(methods, [loans], memory=tmp_path, **options)
    assert len(trained) == 2
    alone = compare(methods, [loans], **options)
    assert len(trained) == 2 + 2 * (2 + 2)
    assert (alone["error"] == "").all()
    same(shared, alone)


@pytest.mark.slow  # new processes have to import everything
def test_two_processes_give_the_same_table_as_one():
    # From the package alone: what is defined here, a new process would have to import.
    table = make_table()
    methods = {"tree": tree(), "logistic": LogisticRegression()}
    one, two = (compare(methods, [table], seeds=2, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert (one["error"] == "").all()
    same(one, two)


# ------------------------------------------------------------------------ files, and going on


@pytest.mark.usefixtures("no_noise")
def test_what_the_file_holds_is_not_done_again(loans, tmp_path, monkeypatch):
    path = tmp_path / "a" / "b.sqlite"
    options = {"sparsities": [0.3, 0.6], "tolerances": [1.0], "results": path}
    methods = {"fair": pruner(), "tree": tree()}
    first = compare(methods, [loans], **options)
    assert list(path.parent.iterdir()) == [path]

    def fit_one(*args):
        pytest.fail("it was done before")

    monkeypatch.setattr(runner, "fit_one", fit_one)
    second = compare(methods, [loans], **options)
    pd.testing.assert_frame_equal(first, second)
    # Of what the file holds, a call returns what it asks for.
    part = compare({"tree": tree()}, [loans], **options | {"sensitive": {"loans": ["sex"]}})
    assert part["method"].tolist() == ["tree"] and part["sensitive"].tolist() == ["sex"]


@pytest.mark.usefixtures("no_noise")
def test_more_seeds_methods_and_sparsities_are_added_to_the_file(loans, tmp_path, fits):
    options = {"tolerances": [1.0], "sensitive": {"loans": ["sex"]}}
    path = tmp_path / "a.sqlite"
    compare({"fair": pruner()}, [loans], sparsities=[0.3], seeds=1, results=path, **options)
    del fits[:]
    methods, options = {"fair": pruner(), "tree": tree()}, options | {"sparsities": [0.3, 0.6]}
    more = compare(methods, [loans], seeds=2, results=path, **options)
    assert sum(job.method == "fair" for job in fits) == 4 - 1
    assert sum(job.method == "tree" for job in fits) == 2
    assert len(more) == 4 + 2 and (more["error"] == "").all()
    same(more, compare(methods, [loans], seeds=2, **options))


@pytest.mark.usefixtures("no_noise")
def test_an_interrupted_run_goes_on_where_it_stopped(loans, tmp_path, fits, monkeypatch):
    path = tmp_path / "a.sqlite"
    counting = runner.fit_one

    def interrupted(*args):
        if len(fits) == 2:
            raise KeyboardInterrupt
        return counting(*args)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "fit_one", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compare({"tree": tree()}, [loans], seeds=4, results=path)
    held = held_in(path)
    assert sorted(set(held["seed"])) == [0, 1] and len(held) == 4
    results = compare({"tree": tree()}, [loans], seeds=4, results=path)
    assert [job.seed for job in fits] == [0, 1, 2, 3]
    same(results, compare({"tree": tree()}, [loans], seeds=4))


@pytest.mark.usefixtures("no_noise")
def test_a_method_that_fails_leaves_its_error_and_is_tried_again(
    loans, tmp_path, fits, monkeypatch
):
    path = tmp_path / "a.sqlite"
    methods = {"a": Moody(), "tree": tree(), "z": Moody()}
    with pytest.warns(UserWarning, match="4 of 6 rows are of fits that failed.*not today"):
        results = compare(methods, [loans], results=path).set_index("method")
    for name in ("a", "z"):
        assert (results.loc[name, "error"] == "RuntimeError: not today").all()
        assert results.loc[name, ["accuracy", "gap"]].isna().all(axis=None)
    assert (results.loc["tree", "error"] == "").all()
    assert len(held_in(path)) == len(results) == 6
    monkeypatch.setattr(Moody, "fails", False)
    del fits[:]
    results = compare(methods, [loans], results=path)
    assert sorted(job.method for job in fits) == ["a", "z"]
    assert (results["error"] == "").all() and results["accuracy"].notna().all()
    assert len(held_in(path)) == len(results) == 6


@pytest.mark.usefixtures("no_noise")
def test_an_error_of_a_fit_names_its_reason(loans):
    with pytest.warns(UserWarning, match="fits that failed"):
        results = compare(
            {"mine": pruner()}, [loans], sparsities=[0.5, 0.99], sensitive={"loans": ["sex"]}
        )
    assert results["error"][0] == ""
    assert results["error"][1].startswith("ValueError: Got sparsity=0.99")


@pytest.mark.parametrize(
    ("other", "change"),
    [
        (pruner(), "max_epochs=2"),
        (pruner(max_epochs=1, solver="bip"), "solver='bip'"),
        (tree(), ""),
    ],
)
def test_results_of_the_same_name_with_other_settings_are_refused(
    loans, tmp_path, monkeypatch, other, change
):
    path = tmp_path / "a.sqlite"
    with monkeypatch.context() as patched:
        patched.setattr(runner, "fit_one", pretended)
        compare({"mine": pruner(max_epochs=1)}, [loans], results=path)
    with pytest.raises(ValueError, match="results of 'mine' in .*a.sqlite.*max_epochs=1") as error:
        compare({"mine": other}, [loans], results=path)
    assert change in str(error.value).split("but this run has")[1]
    with monkeypatch.context() as patched:  # under another name they may stand beside each other
        patched.setattr(runner, "fit_one", pretended)
        compare({"other": other}, [loans], results=path)
    assert set(held_in(path)["method"]) == {"mine", "other"}


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["magnitude", "magic"]}, r"Got the method 'magic'.*'fairpruner'.*a dict"),
        (
            {"constraints": ["equality"]},
            r"Got constraints \['equality'\].*'demographic_parity'",
        ),
        (
            {"sensitive": {"loans": ["sex", "age"]}},
            r"Got sensitive features \['age'\] for 'loans'.*\['sex', 'origin'\]",
        ),
        ({"tables": ["nowhere"]}, "Got source='nowhere'"),
    ],
    ids=["method", "constraint", "sensitive", "table"],
)
def test_unknown_names_are_refused_before_any_fit(loans, no_fit, change, message):
    options = {"methods": ["magnitude"], "tables": [loans]} | change
    with pytest.raises(ValueError, match=message):
        compare(options.pop("methods"), options.pop("tables"), **options)


@pytest.mark.usefixtures("no_noise")
def test_more_constraints_do_not_double_the_rows(loans, tmp_path):
    for constraints in (["equalized_odds"], ["equalized_odds", "demographic_parity"]):
        results = compare(
            {"tree": tree()}, [loans], constraints=constraints, results=tmp_path / "a.sqlite"
        )
    assert not results.duplicated(KEYS).any()


@pytest.mark.usefixtures("no_noise")
def test_another_split_needs_another_file(loans, tmp_path):
    compare({"tree": tree()}, [loans], results=tmp_path / "a.sqlite")
    with pytest.raises(ValueError, match="use another file"):
        compare({"tree": tree()}, [loans], results=tmp_path / "a.sqlite", test_size=0.5)


@pytest.mark.parametrize("name", ["methods", "tables", "seeds", "constraints", "sparsities"])
def test_nothing_to_do_is_an_error(loans, name):
    arguments = {"methods": {"tree": tree()}, "tables": [loans], name: []}
    with pytest.raises(ValueError, match=f"Got no {name}"):
        compare(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": "magnitude"}, "Got methods='magnitude', but expected a list"),
        ({"methods": {"mine": DecisionTreeClassifier}}, "Got the method <class"),
        ({"tables": "compas"}, "Got tables='compas', but expected a list"),
        ({"constraints": "equalized_odds"}, "Got constraints='equalized_odds'"),
        ({"sensitive": {"loans": "sex"}}, "Got sensitive features='sex'"),
        ({"sparsities": 0.9}, "Got sparsities=0.9, but expected a list"),
        ({"sparsities": [90]}, "Got 90 among the sparsities"),
        ({"tolerances": [-1]}, "Got -1 among the tolerances"),
        ({"test_size": 300}, "Got test_size=300, but expected a fraction"),
        ({"results": "fits.csv"}, r"Got results='fits.csv', but expected a file named \*.sqlite"),
        ({"results": "/proc/nowhere/fits.sqlite"}, "nothing can be written there"),
    ],
)
def test_a_slip_is_told_before_any_fit(loans, no_fit, change, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"methods": {"tree": tree()}, "tables": [loans]} | change)


def test_two_tables_of_one_name_are_refused(loans, no_fit):
    with pytest.raises(ValueError, match=r"several tables named \['loans'\]"):
        compare({"tree": tree()}, [loans, loans])


@pytest.mark.usefixtures("no_noise")
def test_another_table_of_the_same_name_and_size_needs_another_file(loans, tmp_path):
    compare({"tree": tree()}, [loans], results=tmp_path / "a.sqlite")
    turned = replace(loans, y=1 - loans.y)
    with pytest.raises(ValueError, match="of another table 'loans'"):
        compare({"tree": tree()}, [turned], results=tmp_path / "a.sqlite")


def test_what_is_no_file_of_results_is_said(loans, tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_text("a,b" * 1000)
    with pytest.raises(ValueError, match="a.sqlite': file is not a database"):
        compare({"tree": tree()}, [loans], results=path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        pd.DataFrame({"a": [1]}).to_sql("fits", connection)
    with pytest.raises(ValueError, match="without the columns"):
        compare({"tree": tree()}, [loans], results=path)


class Inner(DecisionTreeClassifier):
    """Starts a benchmark on the same file while it is fitted."""

    path = None

    def fit(self, X, y):
        compare({"other": tree()}, [make_table()], results=self.path)
        return super().fit(X, y)


@pytest.mark.usefixtures("no_noise")
def test_two_runs_may_add_to_one_file(loans, tmp_path, monkeypatch):
    path = tmp_path / "a.sqlite"
    monkeypatch.setattr(Inner, "path", path)
    results = compare({"mine": Inner()}, [loans], results=path)
    assert (results["error"] == "").all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.sqlite"]
    held = held_in(path)
    assert set(held["method"]) == {"mine", "other"} and not held.duplicated(KEYS).any()


@pytest.mark.usefixtures("no_noise")
def test_a_full_disk_loses_no_fit(loans, tmp_path, monkeypatch):
    path = tmp_path / "a.sqlite"
    monkeypatch.setattr(runner, "fit_one", pretended)
    compare({"tree": tree()}, [loans], results=path, seeds=1)
    before = held_in(path)
    connect = sqlite3.connect

    def full(*args, **options):
        connection = connect(*args, **options)
        connection.execute("PRAGMA max_page_count = 1")  # as small as it is
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", full)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            compare({"tree": tree()}, [loans], results=path, seeds=60)
    after = held_in(path)
    assert len(after) >= len(before)
    pd.testing.assert_frame_equal(after[: len(before)], before)
    results = compare({"tree": tree()}, [loans], results=path, seeds=60)
    assert results["seed"].nunique() == 60


@pytest.mark.usefixtures("no_noise")
def test_a_pipeline_with_an_object_of_no_name_is_known_again(loans, tmp_path):
    def model():
        numbers = make_column_selector(dtype_include="number")
        return make_pipeline(make_column_transformer(("passthrough", numbers)), tree())

    compare({"mine": model()}, [loans], results=tmp_path / "a.sqlite")
    compare({"mine": model()}, [loans], results=tmp_path / "a.sqlite")


@pytest.mark.usefixtures("no_noise")
def test_a_tolerance_of_none_is_a_row_like_others(loans, tmp_path):
    sensitive = {"loans": ["sex"]}
    for _ in range(2):
        results = compare(
            {"mine": pruner()},
            [loans],
            tolerances=[0.7, None],
            sensitive=sensitive,
            results=tmp_path / "a.sqlite",
        )
        assert results["tolerance"].tolist()[:1] == [0.7] and results["tolerance"].isna().sum() == 1


@pytest.mark.usefixtures("no_noise")
def test_the_same_number_is_the_same_key(loans, fits):
    results = compare({"m": pruner(constraint=None)}, [loans], sparsities=[0.3, 0.1 + 0.2], seeds=1)
    assert not results.duplicated(KEYS).any()


@pytest.mark.usefixtures("no_noise")
def test_a_search_and_a_classifier_with_iterations_tell_what_they_can(loans):
    search = GridSearchCV(pruner(constraint=None), {"lr": [1e-3]}, cv=2)
    other = make_pipeline(
        make_column_transformer(
            ("passthrough", make_column_selector(dtype_include="number")), remainder="drop"
        ),
        LogisticRegression(),
    )
    results = compare({"search": search, "other": other}, [loans]).set_index("method")
    assert (results.loc["search", "reached_sparsity"] > 0.8).all()
    assert results.loc["search", ["n_iter", "dense_accuracy"]].notna().all(axis=None)
    assert results.loc["other", "n_iter"].isna().all() and (results["error"] == "").all()


def test_a_method_that_failed_may_be_corrected_under_its_name(loans, tmp_path):
    wrong, right = tree().set_params(max_depth=-1), tree()
    with pytest.warns(UserWarning, match="fits that failed"):
        first = compare({"tree": wrong}, [loans], results=tmp_path / "a.sqlite")
    assert first["error"].str.contains("max_depth").all()
    again = compare({"tree": right}, [loans], results=tmp_path / "a.sqlite")
    assert (again["error"] == "").all()


def test_sensitive_features_of_an_unknown_table_are_refused(loans):
    with pytest.raises(ValueError, match="typo"):
        compare({"tree": tree()}, [loans], sensitive={"typo": ["sex"]})
