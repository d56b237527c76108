"""What columns hold: dates, types that change between fit and predict, columns that hurt."""

from __future__ import annotations

import datetime
import re
import tempfile
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from torch import nn

import fairprune_sk
from fairprune_sk import FairPruner, SuspectColumnWarning, fairness_report
from fairprune_sk.assessment import make_fairness_scorer, noise_floor

# A few steps prune a network that a small table holds back to nothing: not what is looked at.
pytestmark = pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")

N = 240


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "income": rng.normal(size=N),
            "job": rng.choice(["clerk", "cook", "nurse"], N),
            "member": rng.integers(0, 2, N).astype(bool),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, N), "D"),
        },
        index=rng.permutation(N),
    )


@pytest.fixture
def y(frame):
    noise = np.random.default_rng(1).normal(size=N)
    return pd.Series((frame["income"].to_numpy() + noise > 0).astype(int), frame.index, name="y")


@pytest.fixture
def sex(frame):
    values = np.random.default_rng(2).choice(["f", "m"], N)
    return pd.Series(values, frame.index, name="sex")


def quick(**kwargs):
    options = {"constraint": None, "max_epochs": 2, "random_state": 0, "tolerance_on": "training"}
    options |= kwargs
    return FairPruner(**options)


# ------------------------------------------------------------------------------------ the order


@pytest.mark.parametrize("what", ["y", "sensitive_features", "control_features", "sample_weight"])
@pytest.mark.parametrize("repeated", [False, True])
def test_the_same_index_in_another_order_is_refused(frame, y, sex, what, repeated):
    index = frame.index // 2 if repeated else frame.index
    weight = pd.Series(1.0, frame.index)
    given = {"y": y, "sensitive_features": sex, "control_features": sex, "sample_weight": weight}
    given = {name: value.set_axis(index) for name, value in given.items()}
    given[what] = given[what].sort_index()
    pruner = quick(constraint="demographic_parity", tolerance=1.0)
    with pytest.raises(ValueError, match=f"Got {what} with the index labels .* in another order"):
        pruner.fit(frame.set_axis(index), **given)
    assert not hasattr(pruner, "n_features_in_")


def test_a_different_index_is_taken_as_it_comes(frame, y, sex):
    pruner = quick(constraint="demographic_parity", tolerance=1.0)
    plain = pruner.fit(frame, y, sensitive_features=sex).predict_proba(frame)
    for other in (sex.set_axis(range(5, N + 5)), sex.to_numpy(), sex.set_axis(map(str, range(N)))):
        again = pruner.fit(frame, y, sensitive_features=other).predict_proba(frame)
        np.testing.assert_array_equal(again, plain)


def test_reports_scorers_and_noise_floors_look_at_the_order_too(frame, y, sex):
    pruner = quick().fit(frame, y)
    message = "Got sensitive_features with the index labels"
    with pytest.raises(ValueError, match=message):
        fairness_report(pruner, frame, y, sensitive_features=sex.sort_index())
    with pytest.raises(ValueError, match=message):
        make_fairness_scorer()(pruner, frame, y, sensitive_features=sex.sort_index())
    with pytest.raises(ValueError, match=message):
        noise_floor(y, y, sensitive_features=sex.sort_index())


# ------------------------------------------------------------------------------- kinds of columns


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("income", lambda c: pd.Timestamp("2020-01-01") + pd.to_timedelta(c, "D"), "with dates"),
        ("income", lambda c: c.map("{:.1f} EUR".format), "with text, such as '.*EUR'"),
        ("income", lambda c: pd.to_timedelta(c, "D"), "with durations"),
        ("job", lambda c: c.map({"clerk": 1, "cook": 2, "nurse": 3}), "with numbers"),
        ("member", lambda c: c.map(str), "with text, such as '(True|False)', but expected boo"),
        ("since", lambda c: c.dt.year, "with numbers, such as 20.*, but expected dates"),
        ("since", lambda c: c.astype(str), "with text, such as '20.*, but expected dates"),
    ],
)
def test_a_column_that_holds_something_else_than_in_fit_is_refused(frame, y, name, change, message):
    pruner = quick().fit(frame, y)
    with pytest.raises(ValueError, match=f"Got column '{name}' {message}"):
        pruner.predict(frame.assign(**{name: change(frame[name])}))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("income", lambda c: c.map(repr)),
        ("income", lambda c: c.astype("Float64")),
        ("income", lambda c: c.astype(object)),
        ("job", lambda c: c.astype("category")),
        ("job", lambda c: c.astype("string")),
        ("member", lambda c: c.astype(int)),
        ("member", lambda c: c.astype("boolean")),
        ("since", lambda c: c.dt.tz_localize("UTC")),
    ],
)
def test_what_loses_nothing_is_converted(frame, y, name, change):
    pruner = quick().fit(frame, y)
    changed = frame.assign(**{name: change(frame[name])})
    np.testing.assert_array_equal(pruner.predict_proba(changed), pruner.predict_proba(frame))


def test_a_column_of_missing_values_is_taken(frame, y):
    pruner = quick().fit(frame, y)
    assert len(pruner.predict(frame.assign(job=None, income=np.nan, since=pd.NaT))) == N


def test_dates_and_durations_are_numbers(frame, y, tmp_path):
    frame = frame.assign(age=frame["since"].max() - frame["since"])
    pruner = quick(sparsity=0.3).fit(frame, y)
    assert [len(codes) for codes in pruner.encoder_.codes_] == [3, 2]  # job and member alone
    later = frame.assign(since=pd.NaT).head(3)
    assert len(pruner.predict(later)) == 3
    pruner.save(tmp_path / "a")
    loaded = fairprune_sk.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded.predict_proba(frame), pruner.predict_proba(frame))
    with pytest.raises(ValueError, match="Got column 'since' with text"):
        loaded.predict(frame.assign(since="now"))


# ------------------------------------------------------------------------------- columns that hurt


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (np.full(N, 3.0), "constant"),
        (["same"] * N, "constant"),
        (np.arange(1000, 1000 + N)[::-1], "numbers the rows"),
        ([f"customer {i:04}" for i in range(N)], "names nearly every row"),
        ([f"2021-0{1 + i % 9}-1{i % 10}" for i in range(N)], "dates as text.*to_datetime"),
        ([f"{1 + i % 28}.3.2021 10:30" for i in range(N)], "dates as text"),
    ],
)
def test_a_column_that_hurts_is_named(frame, y, column, message):
    with pytest.warns(SuspectColumnWarning, match=f"^'odd': .*{message}"):
        quick().fit(frame.assign(odd=column), y)


@pytest.mark.parametrize("kind", ["number", "text"])
def test_a_column_that_gives_the_target_away_is_named(frame, y, kind):
    values = y.to_numpy() * 2.5 + np.random.default_rng(3).uniform(size=N)
    if kind == "text":
        values = np.where(y == 1, "paid", np.where(values > 0.5, "late", "lost"))
    with pytest.warns(SuspectColumnWarning, match="^'odd': predicts the target almost alone"):
        quick().fit(frame.assign(odd=values), y)


def test_ordinary_columns_are_not_named(frame, y, table):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SuspectColumnWarning)
        quick().fit(frame, y)
        quick().fit(frame.assign(year=np.arange(N) % 40, note=["a", None] * (N // 2)), y)
        quick().fit(table[0], table[1])


def test_the_target_is_no_sensitive_feature(frame, y):
    pruner = quick(constraint="demographic_parity")
    with pytest.raises(ValueError, match="sensitive_features that are the target y"):
        pruner.fit(frame, y, sensitive_features=y.map({0: "no", 1: "yes"}))


def test_more_groups_than_the_rows_carry_are_refused_in_few_words(frame, y):
    age = np.random.default_rng(0).integers(18, 80, N)
    with pytest.raises(ValueError, match=r"with \d+ groups in 240 rows.*bin numbers") as refused:
        quick(constraint="demographic_parity").fit(frame, y, sensitive_features=age)
    assert len(str(refused.value)) < 500


def test_onnx_takes_dates_as_days(frame, y):
    onnxruntime = pytest.importorskip("onnxruntime")
    pruner = quick(sparsity=0.3).fit(frame, y)
    with tempfile.TemporaryDirectory() as folder:
        pruner.to_onnx(f"{folder}/a.onnx", X=frame)
        session = onnxruntime.InferenceSession(f"{folder}/a.onnx")
    inputs = pruner.onnx_inputs(frame)
    assert inputs["since"].dtype == np.float64
    got = session.run(["probabilities"], inputs)[0]
    np.testing.assert_allclose(got, pruner.predict_proba(frame), atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1 + 1j] * N, "column 'income' with complex numbers"),
        ([[1]] * N, "column 'income' with values .* no categories"),
        ([(1, 2)] * N, "column 'income' with values .* no categories"),
        ([1, "a", 2.5] * (N // 3), "column 'income' with values .* no categories"),
        ([10**400] * N, "numbers beyond 1e.300, in column 'income'"),
        ([np.inf, 1, 2] * (N // 3), "infinity.* in column 'income'"),
        ([1.7e308, -1.7e308] * (N // 2), "numbers beyond 1e.300, in column 'income'"),
    ],
    ids=["complex", "lists", "tuples", "mixed", "huge", "infinity", "extreme"],
)
def test_values_that_no_network_can_read_are_refused_by_column(frame, y, values, message):
    for dtype in (object, None):
        column = pd.Series(values, frame.index, dtype=dtype)
        with pytest.raises(ValueError, match=message):
            quick(constraint=None).fit(frame.assign(income=column), y)


def test_arrays_of_extreme_numbers_are_refused(y):
    X = np.where(np.arange(2 * N).reshape(N, 2) % 3, 1.7e308, -1.7e308)
    with pytest.raises(ValueError, match="column 0"):
        quick(constraint=None).fit(X, y.to_numpy())
    with pytest.raises(ValueError, match="none in 64 bits"):
        quick(constraint=None).fit([[10**400, 1]] * N, y.to_numpy())


def test_booleans_take_0_and_1_and_no_other_number(frame, y):
    pruner = quick(constraint=None).fit(frame, y)
    as_numbers = frame.assign(member=frame["member"].astype(float))
    np.testing.assert_array_equal(pruner.predict_proba(as_numbers), pruner.predict_proba(frame))
    with pytest.raises(ValueError, match="column 'member' with numbers"):
        pruner.predict(frame.assign(member=frame["member"] * 5))
    with pytest.raises(ValueError, match="infinity.* in column 'income'"):
        pruner.predict(frame.assign(income=pd.Series([np.inf] * N, frame.index, dtype=object)))


def test_a_column_keeps_the_type_of_its_values(frame, y):
    days = frame["since"].dt.date
    pruner = quick().fit(frame.assign(since=days), y)
    assert len(pruner.predict(frame.assign(since=days)))
    for other in (pd.Period("2020-01"), datetime.time(1), pd.Interval(0, 1), days.iloc[0].year):
        with pytest.raises(ValueError, match="column 'since' with .*, but expected date values"):
            pruner.predict(frame.assign(since=[other] * N))


def test_nothing_is_nothing_whatever_its_type(frame, y):
    pruner = quick().fit(frame, y)
    for nothing in (pd.NaT, pd.NA, None, np.nan):
        expected = pruner.predict_proba(frame.assign(income=np.nan))
        column = pd.Series([nothing] * N, frame.index)
        np.testing.assert_array_equal(pruner.predict_proba(frame.assign(income=column)), expected)
    some = frame["income"].astype(object)
    some.iloc[::2] = pd.NA
    assert np.isfinite(pruner.predict_proba(frame.assign(income=some))).all()


def test_a_signaling_nan_is_refused_by_column(frame, y):
    column = pd.Series([Decimal("sNaN"), *[Decimal(1)] * (N - 1)], frame.index)
    with pytest.raises(ValueError, match="column 'income' with a signaling NaN"):
        quick().fit(frame.assign(income=column), y)


@pytest.mark.parametrize("dtype", ["datetime64[s]", "timedelta64[s]"])
def test_arrays_of_dates_are_no_numbers(y, dtype):
    X = np.arange(2 * N).reshape(N, 2).astype(dtype)
    for estimator in (None, nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=f"X of type {re.escape(dtype)}, but expected numbers"):
            quick(estimator=estimator).fit(X, y.to_numpy())


def test_an_array_holds_numbers(frame, y):
    pruner = quick().fit(frame[["income", "job"]], y)
    with pytest.raises(ValueError, match="column 1 with numbers, such as 2.0, but expected text"):
        with pytest.warns(UserWarning, match="valid feature names"):
            pruner.predict(np.full((3, 2), 2.0))
    pruner.fit(frame[["income"]].to_numpy(), y.to_numpy())
    with pytest.raises(ValueError, match="column 0 with dates, .* but expected numbers"):
        pruner.predict(frame[["since"]].set_axis([0], axis=1))


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_a_network_of_numbers_names_the_column_that_holds_none(frame, y):
    numbers = frame[["income"]].assign(other=1.0)
    pruner = quick(estimator=nn.Linear(2, 2), sparsity=0.0).fit(numbers, y)
    for value in (np.nan, np.inf, 1e200, 1 + 1j):
        for call in (pruner.predict, lambda X: pruner.fit(X, y)):
            with pytest.raises(ValueError, match=r"columns that hold .*: \['other'\]"):
                call(numbers.assign(other=value))


@pytest.mark.filterwarnings("ignore::fairprune_sk.CollapseWarning")
def test_a_forward_that_fails_at_predict_is_refused(y):
    X = np.arange(2.0 * N).reshape(N, 2) / N
    pruner = quick(estimator=nn.Linear(2, 2), sparsity=0.0).fit(X, y.to_numpy())
    with pytest.raises(ValueError, match="on which the forward of Linear fails"):
        pruner.predict(X[:, :, None])
