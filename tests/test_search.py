"""Many cells in one fit: what FairPrunerCV finds, keeps and refuses."""

from __future__ import annotations

import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import (
    check_dict_unchanged,
    check_estimators_unfitted,
    check_n_features_in,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
)
from torch import nn

from fairprune_sk import FairPruner, FairPrunerCV
from fairprune_sk.assessment import fairness_gap, gap_estimate
from fairprune_sk.exceptions import CollapseWarning, ConstraintNotMetWarning
from fairprune_sk.fitting import checkpoint, pruning


class Mlp(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))


GRID = {"sparsity": (0.8, 0.5), "tolerance": (0.1, None), "cv": 3}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    s = rng.integers(2, size=900)
    X = (rng.normal(size=(900, 5)) + s[:, None] * [2.0, 0, 0, 0, 0]).astype(np.float32)
    y = (X[:, 0] + X[:, 1] + 0.5 * rng.normal(size=900) > 1.0).astype(int)
    return X, np.where(y == 1, "yes", "no"), np.where(s == 1, "b", "a")


def pruner(**kwargs):
    options = {"estimator": Mlp, "pos_label": "yes", "tolerance_on": "training", "random_state": 0}
    return FairPruner(**{**options, "tolerance": 0.3, "max_epochs": 120, **kwargs})


@pytest.fixture(scope="module")
def search(rows):
    X, y, s = rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNotMetWarning)
        return FairPrunerCV(pruner(), **GRID).fit(X, y, sensitive_features=s)


def test_every_cell_is_in_the_results(search):
    results, surface = search.cv_results_, search.surface_
    assert [*zip(surface["sparsity"], surface["tolerance"], strict=True)] == [
        (0.5, 0.1), (0.8, 0.1), (0.5, 1.0), (0.8, 1.0),
    ]  # fmt: skip
    assert results["params"][1] == {"sparsity": 0.8, "tolerance": 0.1}
    splits = np.column_stack([results[f"split{i}_test_accuracy"] for i in range(3)])
    np.testing.assert_allclose(results["mean_test_accuracy"], splits.mean(1))
    np.testing.assert_allclose(surface["accuracy"], splits.mean(1))
    np.testing.assert_array_equal(results["mean_test_gap"], -surface["gap"])
    assert results["rank_test_accuracy"].min() == results["rank_test_gap"].min() == 1
    assert (surface["accuracy"] > 0.7).all() and search.n_splits_ == 3


def test_a_bound_shows_on_rows_held_out(search):
    half = search.surface_["sparsity"] == 0.5
    by_tolerance = search.surface_[half].set_index("tolerance")["raw_gap"]
    assert by_tolerance[0.1] < by_tolerance[1.0] - 0.05
    assert (search.surface_["gap"] <= search.surface_["raw_gap"]).all()
    assert (search.surface_["gap_low"] <= search.surface_["gap_high"]).all()


def test_networks_of_all_cells_are_kept(search, rows):
    X, y, s = rows
    for sparsity in (0.5, 0.8):
        for tolerance in (0.1, None):
            cell = search.network_at(sparsity, tolerance)
            assert sparsity <= cell.sparsity_ < sparsity + 0.02
            assert cell.get_params()["tolerance"] == (tolerance or 1.0)
            assert cell.score(X, y) > 0.7
            if tolerance:
                assert cell.train_gap_ <= tolerance + 0.05
    # Only what begins at a dense network, or at one that nothing bound, takes a whole pruning.
    whole = search.network_at(0.5, None).n_iter_
    assert search.network_at(0.5, 0.1).n_iter_ == whole
    for tolerance in (0.1, None):
        assert search.network_at(0.8, tolerance).n_iter_ < whole
    with pytest.raises(ValueError, match=r"sparsity=0.7.*expected one of \[\(0.5, 0.1\)"):
        search.network_at(0.7)


def test_the_gap_is_that_of_all_held_out_rows_together(rows):
    X, y, s = rows
    seen = {}

    def score(estimator, X, y):
        seen.setdefault((estimator.sparsity, estimator.tolerance), []).append(estimator.predict(X))
        return estimator.score(X, y)

    test = np.arange(0, 900, 3), np.arange(1, 900, 3), np.arange(2, 900, 3)
    cv = [(np.setdiff1d(np.arange(900), part), part) for part in test]
    search = FairPrunerCV(pruner(), **{**GRID, "cv": cv, "refit": False, "scoring": score})
    search.fit(X, y, sensitive_features=s)
    order = np.concatenate(test)
    for row in search.surface_.itertuples():
        expected = gap_estimate(
            y[order],
            np.concatenate(seen[row.sparsity, row.tolerance]),
            sensitive_features=s[order],
            pos_label="yes",
        )
        assert (row.gap, row.raw_gap) == (expected.corrected, expected.gap)
        for split, part in enumerate(test):
            predicted = seen[row.sparsity, row.tolerance][split]
            of_fold = fairness_gap(y[part], predicted, sensitive_features=s[part], pos_label="yes")
            assert search.cv_results_[f"split{split}_test_gap"][row.Index] == -of_fold
    for use in (lambda: search.predict(X), lambda: search.network_at(0.5)):
        with pytest.raises((AttributeError, ValueError), match="refit=False"):
            use()


def test_the_sparsest_within_is_chosen(search):
    surface, best = search.surface_, search.best_index_
    top = surface["accuracy"].idxmax()
    enough = surface["accuracy"] >= surface["accuracy"][top] - surface["accuracy_se"][top] - 1e-9
    within = surface[enough & (surface["gap"] <= 0.3)]
    assert surface["sparsity"][best] == within["sparsity"].max()
    assert search.best_params_ == search.cv_results_["params"][best]
    assert search.best_score_ == search.cv_results_["mean_test_accuracy"][best]
    assert search.best_estimator_.get_params()["sparsity"] == surface["sparsity"][best]


def test_nothing_on_the_front_is_beaten(search):
    front, surface = search.pareto_front_, search.surface_
    assert 1 <= len(front) <= len(surface)
    for row in front.itertuples():
        assert not (
            (surface["sparsity"] >= row.sparsity)
            & (surface["accuracy"] > row.accuracy)
            & (surface["gap"] < row.gap)
        ).any()


def test_two_processes_find_the_same(search, rows):
    X, y, s = rows
    with joblib.parallel_config(backend="threading"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNotMetWarning)
        other = clone(search).set_params(n_jobs=2, refit="accuracy").fit(X, y, sensitive_features=s)
    for name in ("split0_test_accuracy", "split2_test_gap"):
        np.testing.assert_array_equal(other.cv_results_[name], search.cv_results_[name])
    assert other.best_index_ == np.argmax(search.cv_results_["mean_test_accuracy"])
    np.testing.assert_array_equal(
        other.network_at(0.8, 0.1).predict_proba(X), search.network_at(0.8, 0.1).predict_proba(X)
    )


@pytest.mark.slow
def test_a_cluster_finds_the_same(search, rows):
    distributed = pytest.importorskip("distributed")
    X, y, s = rows
    local = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with (
        distributed.LocalCluster(**local, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        other = clone(search).set_params(refit=False).fit(X, y, sensitive_features=s)
    assert other.surface_.equals(search.surface_)


def test_it_predicts_pickles_and_goes_into_a_pipeline(search, rows):
    X, y, s = rows
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))
    np.testing.assert_array_equal(search.predict(X), search.best_estimator_.predict(X))
    assert search.score(X, y) == search.best_estimator_.score(X, y)
    assert search.decision_function(X).shape == y.shape
    small = FairPrunerCV(pruner(max_epochs=10), sparsity=[0.5], tolerance=[None], cv=2)
    with config_context(enable_metadata_routing=True):
        piped = make_pipeline(StandardScaler(), small).fit(X, y, sensitive_features=s)
    assert piped.score(X, y) > 0.7 and len(piped[-1].surface_) == 1


def test_without_a_constraint_only_sparsities_are_searched(rows):
    X, y, _ = rows
    cv = ShuffleSplit(2, test_size=0.3, random_state=0)
    search = FairPrunerCV(pruner(constraint=None), sparsity=(0.5, 0.8), cv=cv).fit(X, y)
    assert search.surface_["tolerance"].tolist() == [1.0, 1.0]
    assert search.surface_["gap"].isna().all() and len(search.pareto_front_) >= 1
    assert search.network_at(0.8).sparsity_ >= 0.8


def test_one_split_is_enough(rows):
    X, y, s = rows
    cv = ShuffleSplit(1, test_size=0.3, random_state=0)
    grid = {"sparsity": (0.5,), "tolerance": (0.1, None), "cv": cv}
    search = FairPrunerCV(pruner(max_epochs=10, tolerance=1.0), **grid)
    search.fit(X, y, sensitive_features=s)
    assert search.surface_["accuracy_se"].isna().all()  # not known
    assert search.best_score_ == search.surface_["accuracy"].max()


def test_unseen_rows_are_asked_for_once_a_fold(rows, monkeypatch):
    from fairprune_sk.fitting import path

    X, y, s = rows
    asked, real = [], path.chances

    def chances(task, *args):
        asked.append(len(task.rows))
        return real(task, *args)

    monkeypatch.setattr(path, "chances", chances)
    search = FairPrunerCV(pruner(tolerance_on="unseen", max_epochs=10), **{**GRID, "cv": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(X, y, sensitive_features=s)
    assert asked == [450, 450, 900]
    assert search.network_at(0.5, 0.1).unseen_gap_ is not None


class Killed(BaseException):
    """In the place of a signal that no handler sees."""


def kept_search(rows, folder, **kwargs):
    X, y, s = rows
    settings = {"tolerance_on": "unseen", "max_epochs": 4, **kwargs}
    search = FairPrunerCV(pruner(**settings), **{**GRID, "cv": 2}, checkpoint=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstraintNotMetWarning)
        warnings.simplefilter("ignore", CollapseWarning)
        return search.fit(X, y, sensitive_features=s)


@pytest.fixture(scope="module")
def undisturbed(rows):
    return kept_search(rows, None)


# While a half of the first fold, its cells, the second fold, and all rows are trained.
@pytest.mark.parametrize("write", [2, 9, 16, 24])
def test_a_killed_search_goes_on(rows, undisturbed, tmp_path, monkeypatch, write):
    real, files = checkpoint.Checkpoint.keep, []

    def keep(self, name, saved):
        real(self, name, saved)
        files.append(self.path)
        if len(files) == write:
            raise Killed

    monkeypatch.setattr(checkpoint, "WAIT", 1e9)  # of each training, the end alone is kept
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "keep", keep)
        with pytest.raises(Killed):
            kept_search(rows, tmp_path / "search")
    found, expected = kept_search(rows, tmp_path / "search"), undisturbed
    for name, values in expected.cv_results_.items():
        if "time" not in name:
            np.testing.assert_array_equal(found.cv_results_[name], values)
    for cell in found.cv_results_["params"]:
        first, second = (search.network_at(**cell) for search in (found, expected))
        assert first.predict_proba(rows[0]).tobytes() == second.predict_proba(rows[0]).tobytes()


def test_a_search_that_has_ended_fits_nothing_and_another_begins_anew(rows, tmp_path, monkeypatch):
    first = kept_search(rows, tmp_path, tolerance_on="training")
    assert [path.name for path in (tmp_path / "fold 0").iterdir()] == ["finished"]
    with pytest.warns(UserWarning, match="other data or settings.*starts afresh"):
        other = kept_search(rows, tmp_path, tolerance_on="training", lr=0.02)
    assert not other.surface_.equals(first.surface_)
    monkeypatch.setattr(pruning.PruningNet, "train_step", None)
    again = kept_search(rows, tmp_path, tolerance_on="training", lr=0.02)
    assert again.surface_.equals(other.surface_)


def test_a_folder_of_something_else_is_refused(rows, tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    for path, message in ((tmp_path, "of something else"), (tmp_path / "letters.txt", "a folder")):
        with pytest.raises(ValueError, match=message):
            kept_search(rows, path)
    assert (tmp_path / "letters.txt").read_text() == "dear"


def test_an_interrupted_search_leaves_the_estimator_as_it_was(rows, monkeypatch):
    search = FairPrunerCV(pruner(), **GRID)
    before = dict(vars(search))
    monkeypatch.setattr(pruning, "train", lambda *args, **kwargs: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        search.fit(*rows[:2], sensitive_features=rows[2])
    assert vars(search) == before


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sparsity": (0.5, 1.0)}, r"1.0 in sparsity.*\[0, 1\)"),
        ({"sparsity": ()}, "sparsity=.*expected a sequence"),
        ({"sparsity": (0.5, None)}, "None in sparsity"),
        ({"tolerance": 0.1}, "tolerance=0.1.*expected a sequence"),
        ({"tolerance": (0.1, "a")}, "'a' in tolerance"),
        ({"refit": "best"}, "refit='best'.*'sparsest_within', 'accuracy'"),
        ({"cv": 1}, "cv=1.*at least 2"),
        ({"estimator": FairPruner(constraint="degradation_parity")}, "expected a constraint on"),
    ],
)
def test_parameters_are_checked(rows, kwargs, message):
    X, y, s = rows
    with pytest.raises(ValueError, match=message):
        FairPrunerCV(**{"estimator": pruner(), **kwargs}).fit(X, y, sensitive_features=s)


def test_another_estimator_is_refused(rows):
    with pytest.raises(TypeError, match="expected a FairPruner"):
        FairPrunerCV(StandardScaler()).fit(*rows[:2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "check",
    [
        check_dict_unchanged,
        check_estimators_unfitted,
        check_n_features_in,
        check_no_attributes_set_in_init,
        check_parameters_default_constructible,
    ],
)
def test_scikit_learn_checks(check):
    quick = FairPruner(constraint=None, max_epochs=2, random_state=0)
    check("FairPrunerCV", FairPrunerCV(quick, sparsity=(0.5,), cv=2))
