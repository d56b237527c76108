"""Tests of displays: what is drawn is read off the axes; oracles are scikit-learn and fairlearn."""

from __future__ import annotations

import sys

import fairlearn.metrics as flm
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as skm
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from statsmodels.stats.proportion import proportion_confint

from fairprune_sk import FairPruner, displays, fairness_report, make_fairness_scorer
from fairprune_sk.benchmarks.figures import looks as figures_looks
from fairprune_sk.benchmarks.statistics import pareto_front
from fairprune_sk.displays import (
    ColumnsDisplay,
    CurvesByGroupDisplay,
    HistoryDisplay,
    RatesByGroupDisplay,
    RemovedByLayerDisplay,
    TradeOffDisplay,
    looks,
)

LONG = "a group whose name is much longer than a line of the axis has room for"


@pytest.fixture(autouse=True)
def close_figures():
    with matplotlib.rc_context({"backend": "agg"}):
        yield
    plt.close("all")


@pytest.fixture(scope="module")
def quick():
    """Fit a pruner in a second: what it reaches does not matter here."""
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.normal(size=(300, 3)), columns=["income", "savings", "age"])
    X["noise"] = 0.0
    y = (X["income"] + 0.3 * rng.normal(size=300) > 0).to_numpy().astype(int)
    group = pd.Series(rng.choice(["Female", "Male"], 300), name="sex")
    pruner = FairPruner(
        tolerance=1.0, tolerance_on="training", sparsity=0.97, max_epochs=6, random_state=0
    )
    with pytest.warns(UserWarning, match="constant"):
        pruner.fit(X, y, sensitive_features=group)
    return pruner, X, y, group


@pytest.fixture(scope="module")
def labels():
    rng = np.random.RandomState(1)
    y, pred = rng.randint(0, 2, 400), rng.randint(0, 2, 400)
    return y, pred, rng.choice(["a", "b", LONG], 400)


def names_of(ax):
    return [tick.get_text().replace("\n", " ") for tick in ax.get_yticklabels()]


# --- rates by group ---


def test_rates_and_intervals_are_those_of_others(labels):
    y, pred, group = labels
    rates = RatesByGroupDisplay.from_predictions(y, pred, sensitive_features=group).rates
    rates = rates.set_index(["metric", "group"])
    functions = {
        "accuracy": skm.accuracy_score,
        "selection_rate": flm.selection_rate,
        "true_positive_rate": flm.true_positive_rate,
        "false_positive_rate": flm.false_positive_rate,
    }
    frame = flm.MetricFrame(metrics=functions, y_true=y, y_pred=pred, sensitive_features=group)
    for metric in functions:
        expected = frame.by_group[metric]
        assert rates.loc[metric, "rate"].to_dict() == pytest.approx(expected.to_dict())
        for _, row in rates.loc[metric].iterrows():
            ends = proportion_confint(round(row["rate"] * row["n"]), row["n"], method="wilson")
            assert (row["low"], row["high"]) == pytest.approx(ends)
    n = {name: int(((group == name) & (y == 1)).sum()) for name in set(group)}
    assert rates.loc["true_positive_rate", "n"].to_dict() == n


def test_weights_count_by_kish(labels):
    y, pred, group = labels
    weight = np.random.RandomState(0).uniform(0, 3, len(y))
    display = RatesByGroupDisplay.from_predictions(
        y, pred, sensitive_features=group, sample_weight=weight
    )
    row = display.rates.set_index(["metric", "group"]).loc[("false_positive_rate", "a")]
    w = weight[(group == "a") & (y == 0)]
    assert row["n"] == round(w.sum() ** 2 / (w**2).sum())
    selected = pred[(group == "a") & (y == 0)] == 1
    assert row["rate"] == pytest.approx(w[selected].sum() / w.sum())


def test_what_is_drawn_are_the_rates(labels):
    y, pred, group = labels
    display = RatesByGroupDisplay.from_predictions(
        y, pred, sensitive_features=group, y_pred_dense=1 - pred, metrics=["accuracy"]
    )
    assert display.figure_ is display.ax_.figure
    assert names_of(display.ax_) == ["a", LONG, "b"]  # in full, sorted as the groups are
    drawn = {c.get_label(): c.lines[0].get_xdata() for c in display.ax_.containers}
    assert set(drawn) == {"dense network", "pruned network"}
    accuracy = [skm.accuracy_score(y[group == g], pred[group == g]) for g in ("a", LONG, "b")]
    assert drawn["pruned network"] == pytest.approx(accuracy)
    assert drawn["dense network"] == pytest.approx([1 - a for a in accuracy])
    [bars] = display.ax_.containers[1].lines[2]
    ends = display.rates[display.rates.network == "pruned"].query("metric == 'accuracy'")
    for segment, low, high in zip(bars.get_segments(), ends.low, ends.high, strict=True):
        assert segment[:, 0] == pytest.approx([low, high])
    assert display.ax_.get_legend().get_title().get_text() == "95% intervals"


def test_estimator_and_report_give_the_same_rates(quick):
    pruner, X, y, group = quick
    piped = make_pipeline(FunctionTransformer(), pruner)
    report = fairness_report(pruner, X, y, sensitive_features=group, confidence_level=0.9)
    first = RatesByGroupDisplay.from_report(report)
    second = RatesByGroupDisplay.from_estimator(
        piped, X, y, sensitive_features=group, confidence_level=0.9
    )
    third = RatesByGroupDisplay.from_predictions(
        y,
        pruner.predict(X),
        y_pred_dense=pruner.predict_dense(X),
        sensitive_features=group,
        confidence_level=0.9,
    )
    pd.testing.assert_frame_equal(first.rates, second.rates)
    pd.testing.assert_frame_equal(first.rates, third.rates)
    assert len(first.ax_) == 4 and first.confidence_level == 0.9


def test_strata_and_classes(labels):
    _, _, group = labels
    rng = np.random.RandomState(0)
    y, pred = rng.choice(["x", "y", "z"], 400), rng.choice(["x", "y", "z"], 400)
    arguments = {"sensitive_features": group, "control_features": np.arange(400) % 2}
    display = RatesByGroupDisplay.from_predictions(y, pred, label="y", **arguments)
    assert names_of(display.ax_[0])[:2] == ["0: a", f"0: {LONG}"]
    [bars] = display.ax_[1].containers
    here = (group == "a") & (np.arange(400) % 2 == 0) & (y == "y")
    assert bars.lines[0].get_xdata()[0] == pytest.approx((pred[here] == "y").mean())
    assert display.ax_[1].get_title() == "true positive rate of 'y'"
    RatesByGroupDisplay.from_predictions(y, pred, metrics="accuracy", **arguments)
    with pytest.raises(ValueError, match=r"label=None, but expected one of the classes \['x'"):
        RatesByGroupDisplay.from_predictions(y, pred, **arguments)
    with pytest.raises(ValueError, match="label='w'"):
        display.plot(label="w")


def test_a_group_without_positives_has_no_rate_and_no_bar():
    y, pred = [0, 0, 1, 0], [0, 1, 1, 0]
    display = RatesByGroupDisplay.from_predictions(
        y, pred, sensitive_features=list("aabb"), metrics=["true_positive_rate"]
    )
    [bars] = display.ax_.containers
    assert np.isnan(bars.lines[0].get_xdata()).tolist() == [True, False]
    assert names_of(display.ax_) == ["a", "b"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"metrics": ["auc"]}, r"Got metrics=\['auc'\], but expected some of"),
        ({"metrics": []}, "but expected some of"),
        ({"label": 1}, "Got label=1 with two classes"),
        ({"confidence_level": 1.0}, "confidence_level=1.0"),
        ({"sensitive_features": ["a"] * 400}, "at least two groups"),
        ({"sensitive_features": ["a", "b"]}, "2 rows"),
        ({"y_pred": [1] * 399}, "399 rows"),
        ({"y_pred": [None] + [1] * 399}, "1 of 400 predictions"),
        ({"y_pred": [1] * 400, "y_true": [1] * 400}, r"labels \[1\]"),
        ({"pos_label": 7}, "pos_label=7"),
        ({"ax": np.array([None, None])}, "Got 2 axes, but expected one for each of 4 panels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(labels, changed, message):
    y, pred, group = labels
    arguments = {"y_true": y, "y_pred": pred, "sensitive_features": group} | changed
    with pytest.raises(ValueError, match=message):
        RatesByGroupDisplay.from_predictions(**arguments)


# --- the trade-off ---


@pytest.fixture
def surface():
    rng = np.random.RandomState(0)
    sparsity, tolerance = map(np.ravel, np.meshgrid([0.7, 0.8, 0.9, 0.95], [0.02, 0.05, 0.1]))
    return pd.DataFrame(
        {
            "sparsity": sparsity,
            "tolerance": tolerance,
            "accuracy": rng.uniform(0.7, 0.9, 12),
            "gap": rng.uniform(0, 0.1, 12),
            "accuracy_se": 0.01,
            "gap_se": 0.02,
            "n_folds": 5,
        }
    )


def test_the_front_is_that_of_moocore(surface):
    for _ in range(20):
        surface[["accuracy", "gap"]] = surface[["accuracy", "gap"]].sample(frac=1).round(2).values
        display = TradeOffDisplay(surface)
        front = display.points[display.points["on_front"]].drop_duplicates(["accuracy", "gap"])
        expected = pareto_front(surface).drop_duplicates(["accuracy", "gap"])
        assert set(zip(front.accuracy, front.gap, strict=True)) == set(
            zip(expected.accuracy, expected.gap, strict=True)
        )


def test_points_front_errors_and_tolerance_are_drawn(surface):
    display = TradeOffDisplay.from_results(surface, tolerance=0.04)
    drawn = np.concatenate([c.get_offsets().data for c in display.ax_.collections[-3:]])
    expected = surface.sort_values("tolerance", kind="stable")[["gap", "accuracy"]]
    assert drawn == pytest.approx(expected.to_numpy())
    [line] = [line for line in display.ax_.get_lines() if line.get_gid() == "front"]
    front = display.points[display.points["on_front"]].sort_values("gap")
    assert line.get_xydata() == pytest.approx(front[["gap", "accuracy"]].to_numpy())
    texts = {t.get_text() for t in display.ax_.get_legend().get_texts()}
    assert {"tolerance 0.04", "trained for 0.02", "± standard error"} <= texts
    assert [t.get_text() for t in display.ax_.texts] == [f"{s:.4g}" for s in front["sparsity"]]
    assert display.ax_.get_xlim()[0] == 0 and len(display.figure_.axes) == 2


def test_only_accuracy_and_gap_are_needed(surface):
    few = surface.rename(columns={"accuracy": "score"})[["score", "gap"]]
    few.loc[0, "gap"] = np.nan
    display = TradeOffDisplay.from_results(few, accuracy="score")
    assert len(display.points) == 11 and len(display.figure_.axes) == 1
    assert display.plot(ax=plt.figure().subplots()).ax_.get_ylabel() == "accuracy"
    with pytest.raises(ValueError, match=r"without \['accuracy'\], but expected columns"):
        TradeOffDisplay.from_results(few)
    with pytest.raises(ValueError, match="12 rows without both accuracy and gap"):
        TradeOffDisplay.from_results(few.assign(score=np.nan), accuracy="score")


def test_a_search_is_drawn_with_its_errors(labels):
    rng = np.random.RandomState(0)
    X = pd.DataFrame(rng.normal(size=(300, 2)), columns=["a", "b"])
    X["sex"] = rng.randint(0, 2, 300)
    y = (X["a"] > 0).astype(int)
    scoring = {
        "accuracy": "accuracy",
        "gap": make_fairness_scorer("demographic_parity", sensitive_features="sex"),
    }
    search = GridSearchCV(
        make_pipeline(LogisticRegression()), {"logisticregression__C": [0.01, 1.0]},
        scoring=scoring, refit=False, cv=4,
    ).fit(X, y)  # fmt: skip
    display = TradeOffDisplay.from_results(search)
    results = search.cv_results_
    assert display.points["gap"].tolist() == pytest.approx(-results["mean_test_gap"])
    folds = [[results[f"split{k}_test_accuracy"][i] for k in range(4)] for i in range(2)]
    errors = [np.std(fold, ddof=1) / 2 for fold in folds]
    assert display.points["accuracy_se"].tolist() == pytest.approx(errors)
    results = dict(results) | {"param_fairpruner__sparsity": np.array([0.8, 0.9], dtype=object)}
    assert TradeOffDisplay.from_results(results).points["sparsity"].tolist() == [0.8, 0.9]
    with pytest.raises(ValueError, match=r"score 'f1', but expected one of the search's: \['acc"):
        TradeOffDisplay.from_results(search, accuracy="f1")


# --- the history ---


def test_the_history_is_what_the_fit_recorded(quick):
    pruner, X, _, _ = quick
    display = HistoryDisplay.from_estimator(make_pipeline(FunctionTransformer(), pruner))
    assert display.panels == [
        "loss", "gap", "largest multiplier", "accuracy", "sparsity", "mask change",
    ]  # fmt: skip
    assert display.history["sparsity"].tolist() == pruner.history_[:, "sparsity"]
    panels = dict(zip(display.panels, display.ax_, strict=True))
    [line] = panels["loss"].get_lines()
    assert line.get_ydata() == pytest.approx(pruner.history_[:, "train_loss"])
    assert line.get_xdata().tolist() == list(range(1, 7))
    running, hard, tolerance = panels["gap"].get_lines()
    assert running.get_ydata() == pytest.approx(pruner.history_[:, "running_gap"])
    assert hard.get_ydata()[-1] == pruner.history_[-1, "train_gap"]
    assert tolerance.get_label() == "tolerance 1" and tolerance.get_ydata()[0] == 1.0


def test_panels_can_be_chosen(quick):
    pruner, *_ = quick
    figure, axes = plt.subplots(2)
    display = HistoryDisplay.from_estimator(pruner, panels=["loss", "sparsity"], ax=axes)
    assert display.figure_ is figure and list(display.ax_) == list(axes)
    one = HistoryDisplay.from_estimator(pruner, panels=["sparsity"])
    assert one.ax_.get_title() == "sparsity"
    within = plt.figure().subplots()
    display.plot(ax=within)
    assert len(display.ax_) == 6 and display.figure_ is within.figure
    with pytest.raises(ValueError, match=r"Got panels=\['lss'\], but expected some of \['loss'"):
        display.plot(panels=["lss"])


# --- what was removed ---


def test_layers_sum_to_the_sparsity(quick):
    pruner, *_ = quick
    display = RemovedByLayerDisplay.from_estimator(pruner)
    layers = display.layers
    assert names_of(display.ax_) == list(pruner.masks_)
    assert layers["removed"].sum() / layers.to_numpy().sum() == pytest.approx(pruner.sparsity_)
    bars = [patch.get_width() for patch in display.ax_.containers[1]]
    assert bars == pytest.approx([float(m.float().mean()) for m in pruner.masks_.values()])
    assert display.ax_.texts[0].get_text() == (
        f"{layers['removed'].iloc[0]:,} of {layers.iloc[0].sum():,} removed"
    )


def test_columns_are_those_of_the_support(quick):
    pruner, X, *_ = quick
    display = ColumnsDisplay.from_estimator(pruner)
    assert display.columns["read"].tolist() == pruner.get_support().tolist()
    assert not display.columns.loc["noise", "read"]
    first = pruner.masks_["hidden.0.weight"]
    assert display.columns["kept"].sum() == int(first.sum())
    assert display.columns["weights"].sum() == first.numel()
    assert names_of(display.ax_) == X.columns.tolist()
    assert display.ax_.texts[3].get_text() == "not read"
    n_read = int(pruner.get_support().sum())
    assert display.ax_.get_title(loc="left") == f"{n_read} of 4 columns are read"


def test_columns_of_a_network_of_ones_own(quick):
    class Stub(BaseEstimator):
        """What is read of a FairPruner whose network is the user's."""

        encoder_, selected_features_ = None, np.array([0, 2])
        dense_estimator_ = type("Net", (), {"module_": None})()

        def predict_dense(self, X): ...

        def fit(self): ...

        def __sklearn_is_fitted__(self):
            return True

        def get_support(self):
            return np.array([True, False, True])

    display = ColumnsDisplay.from_estimator(Stub())
    assert display.columns.columns.tolist() == ["read"]
    assert names_of(display.ax_) == ["column 0", "column 1", "column 2"]
    assert [t.get_text() for t in display.ax_.texts] == ["read", "not read", "read"]


@pytest.mark.parametrize("display", [HistoryDisplay, RemovedByLayerDisplay, ColumnsDisplay])
def test_only_a_pruner_has_been_pruned(display):
    model = LogisticRegression().fit([[0], [1]], [0, 1])
    with pytest.raises(ValueError, match="Got LogisticRegression, but expected a FairPruner"):
        display.from_estimator(model)


# --- curves ---


@pytest.fixture(scope="module")
def scores():
    rng = np.random.RandomState(0)
    y = rng.randint(0, 2, 600)
    return y, np.clip(0.4 * y + rng.uniform(0, 0.6, 600), 0, 1), rng.choice(["a", "b"], 600)


def test_curves_are_scikit_learns(scores):
    y, score, group = scores
    display = CurvesByGroupDisplay.from_predictions(y, score, sensitive_features=group)
    here = group == "b"
    assert display.groups.loc["b", "roc_auc"] == skm.roc_auc_score(y[here], score[here])
    roc, calibration = display.ax_
    drawn = {line.get_label().partition("\n")[0]: line for line in roc.get_lines()}
    fpr, tpr, _ = skm.roc_curve(y[here], score[here])
    assert drawn["b"].get_xydata() == pytest.approx(np.column_stack([fpr, tpr]))
    lines = {line.get_label().partition("\n")[0]: line for line in calibration.get_lines()}
    assert lines["b"].get_xydata() == pytest.approx(display.calibration["b"].to_numpy())
    # As many rows in each bin: the mean over bins is that of the rows.
    assert display.calibration["b"]["observed"].mean() == pytest.approx(y[here].mean(), abs=0.01)
    assert drawn["a"].get_color() != drawn["b"].get_color()
    assert drawn["a"].get_linestyle() != drawn["b"].get_linestyle()  # told apart without colour


def test_the_positive_class_is_the_estimators(quick):
    pruner, X, y, group = quick
    display = CurvesByGroupDisplay.from_estimator(
        pruner, X, y, sensitive_features=group, kind="roc"
    )
    here = (group == "Male").to_numpy()
    auc = skm.roc_auc_score(y[here], pruner.predict_proba(X[here])[:, 1])
    assert display.groups.loc["Male", "roc_auc"] == pytest.approx(auc)
    other = CurvesByGroupDisplay.from_estimator(
        pruner, X, y, sensitive_features=group, pos_label=0, kind="roc"
    )
    assert other.groups.loc["Male", "positives"] == int((y[here] == 0).sum())
    assert display.ax_.get_title() == "ROC"


def test_groups_of_one_class_have_no_roc_and_many_groups_are_counted(scores):
    y, score, _ = scores
    group = np.arange(600) % 12
    display = CurvesByGroupDisplay.from_predictions(
        np.where(group == 3, 0, y), score, sensitive_features=group
    )
    assert "3" not in display.roc and np.isnan(display.groups.loc["3", "roc_auc"])
    legend = display.ax_[-1].get_legend()
    assert len(legend.get_texts()) == 8
    assert legend.get_title().get_text() == "The largest groups; 4 more"
    assert any("one class only" in t.get_text() for t in legend.get_texts())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_score": np.full(600, 2.0)}, "Got y_score from 2 to 2, but expected probabilities"),
        ({"y_score": np.full(600, np.nan)}, "expected probabilities"),
        ({"y_true": np.zeros(600)}, r"labels \[0.0\], but expected two"),
        ({"n_bins": 0}, "n_bins=0"),
        ({"kind": "det"}, "Got kind='det', but expected one of"),
        ({"sensitive_features": ["a"] * 600}, "at least two groups"),
    ],
)
def test_curves_refuse_what_they_cannot_draw(scores, changed, message):
    y, score, group = scores
    arguments = {"y_true": y, "y_score": score, "sensitive_features": group} | changed
    with pytest.raises(ValueError, match=message):
        CurvesByGroupDisplay.from_predictions(**arguments)


def test_curves_of_an_estimator_need_probabilities_and_of_several_classes_a_label(scores):
    _, score, group = scores
    X, y = score[:, None], np.arange(600) % 3
    model = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match=r"pos_label=None, but expected one of the classes \[0, 1"):
        CurvesByGroupDisplay.from_estimator(model, X, y, sensitive_features=group)
    display = CurvesByGroupDisplay.from_estimator(
        model, X, y, sensitive_features=group, pos_label=2
    )
    assert display.groups["positives"].sum() == 200
    with pytest.raises(ValueError, match="expected a classifier with predict_proba"):
        CurvesByGroupDisplay.from_estimator(object(), X, y, sensitive_features=group)


# --- all of them ---


def test_colours_are_told_apart_and_shared_with_the_figures_of_benchmarks():
    assert looks.BLUE == "#0072B2" and looks.RED == "#D55E00"  # Okabe and Ito
    assert figures_looks.COLOURS is looks.COLOURS and len(set(looks.COLOURS)) == len(looks.COLOURS)
    (_, dense, inside), (_, pruned, _) = looks.NETWORKS["dense"], looks.NETWORKS["pruned"]
    assert dense != pruned and inside == "white"  # hollow against filled: also without colour


def test_every_display_says_how_it_is_made_and_drawn():
    for name in displays.__all__:
        kind = getattr(displays, name)
        assert callable(kind.plot) and any(m.startswith("from_") for m in vars(kind))


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError) as caught:
        RatesByGroupDisplay.from_predictions([0, 1], [0, 1], sensitive_features=["a", "b"])
    said = "RatesByGroupDisplay draws with matplotlib: pip install fairprune_sk[plot]"
    assert str(caught.value) == said
