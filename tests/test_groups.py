"""Tests of what may be passed as sensitive features."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from fairprune_sk.fairness.groups import group_codes, group_name, sensitive_frame

RACE = ["W", "B", None, "W"]


@pytest.mark.parametrize(
    ("features", "column"),
    [
        (RACE, "sensitive_feature"),
        (tuple(RACE), "sensitive_feature"),
        (iter(RACE), "sensitive_feature"),
        (["W", "B", float("nan"), "W"], "sensitive_feature"),
        ([[v] for v in RACE], "sensitive_feature"),
        (np.array(RACE, dtype=object), "sensitive_feature"),
        (np.array(RACE, dtype=object)[:, None], "sensitive_feature"),
        (pd.Categorical(RACE), "sensitive_feature"),
        (pd.Series(RACE), "sensitive_feature"),
        (pd.Series(RACE, name="race", index=[7, 7, 8, 9]), "race"),
        (pd.Series(RACE, name=0), "0"),
        (pd.Series(RACE, name="race", dtype="category"), "race"),
        (pd.Series(RACE, name="race", dtype="string"), "race"),
        (pd.Index(RACE, name="race"), "race"),
        (pd.DataFrame({"race": RACE}, index=list("abcd")), "race"),
        (pd.DataFrame({0: RACE}), "0"),
        (pl.Series("race", RACE), "race"),
        (pl.Series(RACE), "sensitive_feature"),
        (pl.Series("race", RACE, dtype=pl.Categorical), "race"),
        (pl.DataFrame({"race": RACE}), "race"),
        ({"race": RACE}, "race"),
        ({"race": ["W", "B", np.nan, "W"]}, "race"),
        ({"race": pl.Series(RACE)}, "race"),
        ({"race": pd.Series(RACE, index=[3, 2, 1, 0])}, "race"),
    ],
)
def test_every_container_means_the_same(features, column):
    frame = sensitive_frame(features, 4, missing="ignore")
    assert list(frame.columns) == [column]
    assert list(frame.index) == [0, 1, 2, 3]
    codes, groups = group_codes(frame)
    assert codes.dtype == np.int64
    assert (codes.tolist(), groups.tolist()) == ([1, 0, -1, 1], ["B", "W"])


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([3, 1, None, 3], [1, 3]),
        (pd.Series([3, 1, None, 3], dtype="Int64"), [1, 3]),
        (pl.Series([3, 1, None, 3]), [1, 3]),
        (pd.Series([3.5, 1.0, None, 3.5]), [1.0, 3.5]),
        (np.array([3.5, 1.0, np.nan, 3.5]), [1.0, 3.5]),
        ([True, False, None, True], [False, True]),
        (pd.Series([True, False, None, True], dtype="boolean"), [False, True]),
        (pl.Series([True, False, None, True]), [False, True]),
        (["1", 1, None, "1"], [1, "1"]),
        (pd.Series(pd.to_datetime(["2024", "2023", None, "2024"])), None),
    ],
)
def test_values_of_every_type(values, groups):
    codes, found = group_codes(sensitive_frame(values, 4, missing="ignore"))
    assert codes.tolist() in ([1, 0, -1, 1], [0, 1, -1, 0])
    assert found[codes[0]] != found[codes[1]]
    if groups is not None:
        assert sorted(found.tolist(), key=repr) == sorted(groups, key=repr)
        assert set(map(type, found)) == set(map(type, groups))
    codes, found = group_codes(sensitive_frame(values, 4, missing="group"))
    assert found[codes[2]] == "missing"
    assert len(found) == 3


def test_a_complete_column_keeps_its_type_next_to_an_incomplete_one():
    frame = sensitive_frame({"race": RACE, "age": np.array([1, 2, 3, 4])}, 4, missing="group")
    assert frame["age"].dtype == np.int64
    assert frame["race"].tolist() == ["W", "B", "missing", "W"]


def test_the_string_missing_and_missing_values_are_one_group():
    codes, groups = group_codes(sensitive_frame(["missing", None, "a"], 3, missing="group"))
    assert (codes.tolist(), groups.tolist()) == ([1, 1, 0], ["a", "missing"])


def test_several_columns_are_intersections_that_occur():
    columns = {"sex": list("fmfmf"), "race": ["W", "W", "B", "W", None], "age": [1] * 5}
    for features in (columns, pd.DataFrame(columns), pl.DataFrame(columns)):
        codes, groups = group_codes(sensitive_frame(features, 5, missing="ignore"))
        assert groups.tolist() == [("f", "B", 1), ("f", "W", 1), ("m", "W", 1)]
        assert codes.tolist() == [1, 2, 0, 2, -1]
    pairs = sensitive_frame([("f", 1), ("m", 1)], 2)
    assert list(pairs.columns) == ["sensitive_feature_0", "sensitive_feature_1"]
    assert group_codes(pairs)[1].tolist() == [("f", 1), ("m", 1)]
    assert group_name(("f", 1)) == "f, 1"


def test_columns_of_the_same_name_stay_apart():
    frame = sensitive_frame(pd.DataFrame({0: ["a", None], "0": ["x", "y"]}), 2, missing="group")
    assert group_codes(frame)[1].tolist() == [("a", "x"), ("missing", "y")]


def test_categories_that_do_not_occur_are_no_groups():
    race = pd.Series(pd.Categorical(["b", "a"], categories=["c", "b", "a"]))
    assert group_codes(sensitive_frame(race, 2))[1].tolist() == ["a", "b"]


def test_codes_do_not_depend_on_the_order_of_rows():
    values = pd.Series(["1", 1, 2.5, "b", 3, "b"] * 20, dtype=object)
    codes, groups = group_codes(sensitive_frame(values, 120))
    shuffled = values.sample(frac=1, random_state=0)
    again, same = group_codes(sensitive_frame(shuffled, 120))
    assert list(map(repr, same)) == list(map(repr, groups))
    np.testing.assert_array_equal(again, codes[shuffled.index])


def test_codes_of_many_columns_with_many_values():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(rng.randint(50_000, size=(50_000, 6)))
    codes, groups = group_codes(frame)
    assert len(groups) == len(frame.drop_duplicates())
    np.testing.assert_array_equal(np.array(groups.tolist())[codes], frame)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("sex", "Got sensitive_features='sex', but expected a value for each row"),
        (None, "Got sensitive_features=None, but expected a value for each row"),
        (["a"], "Got sensitive_features with 1 row, but X has 4 rows"),
        ({"a": [1, 2], "b": [1, 2, 3]}, r"different numbers of rows: a \(2\), b \(3\)"),
        ({"a": np.zeros((4, 2))}, r"with a column of shape \(4, 2\)"),
        ({}, "Got sensitive_features without a column"),
        (pd.DataFrame(index=range(4)), "Got sensitive_features without a column"),
        (np.zeros((4, 1, 1)), "Got sensitive_features with 3 dimensions"),
        (RACE, r"missing values in 1 row \(the first is row 2\)"),
        (pl.Series(RACE), r"missing values in 1 row \(the first is row 2\)"),
        ({"a": [1, 2, 3, 4], "b": [np.nan, 1, None, pd.NA]}, r"in 3 rows \(the first is row 0\)"),
    ],
)
def test_errors(features, message):
    with pytest.raises(ValueError, match=message):
        sensitive_frame(features, 4)
    renamed = message.replace("sensitive_features", "control_features")
    with pytest.raises(ValueError, match=renamed):
        sensitive_frame(features, 4, name="control_features")


def test_the_default_column_is_called_after_the_features():
    assert list(sensitive_frame([1, 2], 2, name="control_features")) == ["control_feature"]
    assert list(sensitive_frame(np.eye(2), 2, name="control_features")) == [
        "control_feature_0",
        "control_feature_1",
    ]


def test_more_errors():
    with pytest.raises(ValueError, match="Got missing_sensitive='drop', but expected 'error'"):
        sensitive_frame([1, 2], 2, missing="drop")
    with pytest.raises(ValueError, match="values that are no categories .*unhashable"):
        group_codes(sensitive_frame([["a", 1], ["b"]], 2))
