"""From a file of a table to what a fit takes: columns, roles, rows to test on."""

from __future__ import annotations

import datetime
import gzip
import json
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from fairprune_sk import SuspectColumnWarning
from fairprune_sk.datasets import (
    TableCleaner,
    TableDescription,
    read_frame,
    read_table,
    split_rows,
    with_roles,
)
from fairprune_sk.datasets.columns import date_formats, identifies

N = 100
DAYS = pd.Timestamp("2020-02-01") + pd.to_timedelta(np.random.default_rng(0).permutation(N), "D")
SINCE_1970 = (DAYS - pd.Timestamp(0)).days.to_numpy(dtype=float)


def cleaned(column, **options):
    frame = pd.DataFrame({"odd": column, "age": np.arange(len(column)) % 7})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspectColumnWarning)
        return TableCleaner(**options).fit(frame).transform(frame)


# --------------------------------------------------------------------------------- columns


@pytest.mark.parametrize(
    "column",
    [
        DAYS,
        DAYS.tz_localize("UTC"),
        DAYS.date,
        DAYS.strftime("%Y-%m-%d"),
        DAYS.strftime("%d.%m.%Y"),
        DAYS.strftime("%m/%d/%Y"),
        DAYS.strftime("%d/%m/%Y"),
        DAYS.strftime("%d %b %Y"),
        DAYS.strftime("%Y-%m-%dT%H:%M:%SZ"),
        pd.Categorical(DAYS.strftime("%Y-%m-%d")),
        [datetime.date(d.year, d.month, d.day) for d in DAYS],
    ],
    ids="typed zoned objects iso german american british named timed categories list".split(),
)
def test_a_date_becomes_days_since_1970(column):
    np.testing.assert_array_equal(cleaned(column)["odd"], SINCE_1970)


def test_dates_may_be_missing_and_have_a_time():
    texts = [*DAYS.strftime(" %d.%m.%Y 12:00 ")[1:], None]
    found = cleaned(texts)["odd"]
    np.testing.assert_array_equal(found[:-1], SINCE_1970[1:] + 0.5)
    assert np.isnan(found.iloc[-1])


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["1.3.2021", "14.3.2021"], ["%d.%m.%Y"]),
        (["3/14/2021", "3/1/2021"], ["%m/%d/%Y"]),
        (["3/4/2021", "3/1/2021"], ["%m/%d/%Y", "%d/%m/%Y"]),
        (["3.4.2021", "3.1.2021"], ["%d.%m.%Y", "%m.%d.%Y"]),
        (["2021-03-04", "2021-12-01"], ["%Y-%m-%d"]),
        (["2021-03-04", "soon"], []),
        (["3/14/2021", "14/3/2021"], []),
        (["May", "June"], []),
        (["2020", "2021"], []),
        (["1.5.2", "1.5.3"], []),
        ([1.5, 2.5], []),
        ([None, None], []),
    ],
)
def test_formats_of_dates(texts, formats):
    assert date_formats(pd.Series(texts)) == formats


def test_dates_in_which_day_and_month_cannot_be_told_apart_are_named():
    frame = pd.DataFrame({"seen": ["3/4/2021", "3/1/2021"]})
    with pytest.warns(SuspectColumnWarning, match="'seen' dates: read as %m/%d/%Y, but %d/%m/%Y"):
        cleaner = TableCleaner().fit(frame)
    later = cleaner.transform(pd.DataFrame({"seen": ["12/31/1970"]}))
    assert later["seen"].tolist() == [364.0]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (np.arange(N)[::-1], "numbers the rows"),
        (np.arange(0, 2 * N, 2) + 1, "numbers the rows"),  # a part of a table's rows
        ([f"id-{i}" for i in range(N)], "names nearly every row"),
        (["same"] * N, "constant"),
        ([None] * N, "constant"),
    ],
)
def test_a_column_that_teaches_nothing_is_left_out_with_a_word(column, reason):
    frame = pd.DataFrame({"odd": column, "age": np.arange(N) % 7})
    with pytest.warns(SuspectColumnWarning, match=f"'odd' left out: {reason}"):
        cleaner = TableCleaner().fit(frame)
    assert list(cleaner.transform(frame)) == ["age"] and reason in cleaner.dropped_["odd"]
    assert cleaner.get_feature_names_out().tolist() == ["age"]
    assert list(cleaned(column, keep=("odd",))) == ["odd", "age"]


@pytest.mark.parametrize("name", ["customer_id", "customerId", "Customer ID", "uuid", "ID"])
def test_names_that_say_identifier(name):
    far_apart = pd.Series(np.arange(N) * 1000, name=name)
    assert identifies(far_apart) and not identifies(far_apart.rename("paid"))
    assert not identifies(far_apart.astype(float).rename("paid"))


def test_ordinary_columns_stay_as_they_are():
    frame = pd.DataFrame(
        {
            "age": np.arange(N) % 50,
            "income": np.random.default_rng(0).normal(size=N),
            "job": pd.Categorical(["cook", "nurse"] * (N // 2)),
            "member": [True, False] * (N // 2),
            "known": ["yes", None] * (N // 2),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(TableCleaner().fit_transform(frame), frame)


def test_polars_gives_the_same():
    columns = {"since": list(DAYS.strftime("%Y-%m-%d")), "age": [i % 7 for i in range(N)]}
    found = [TableCleaner().fit_transform(kind(columns)) for kind in (pd.DataFrame, pl.DataFrame)]
    pd.testing.assert_frame_equal(*found)


def test_a_pipeline_of_any_classifier_takes_it(tmp_path):
    frame = pd.DataFrame({"since": DAYS.strftime("%d.%m.%Y"), "age": np.arange(N) % 7})
    y = DAYS > DAYS.min() + pd.Timedelta(50, "D")
    pipeline = make_pipeline(TableCleaner(), DecisionTreeClassifier(max_depth=1))
    assert clone(pipeline).fit(frame, y).score(frame, y) > 0.95


def test_what_was_learned_goes_through_json():
    frame = pd.DataFrame({"since": DAYS.strftime("%d.%m.%Y"), "id": range(N)})
    with pytest.warns(SuspectColumnWarning, match="'id'"):
        cleaner = TableCleaner().fit(frame)
    again = TableCleaner.from_dict(json.loads(json.dumps(cleaner.to_dict())))
    pd.testing.assert_frame_equal(again.transform(frame), cleaner.transform(frame))
    assert again.dropped_ == cleaner.dropped_ and again.n_features_in_ == 2
    with pytest.raises(ValueError, match="expected what to_dict says"):
        TableCleaner.from_dict({"columns": {"a": {"width": 3}}, "keep": []})


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"sincee": ["1.3.2021"], "age": [1]}, r"without the columns \['since'\].*'sincee'"),
        ({"since": ["2021-03-01"], "age": [1]}, "'2021-03-01', but expected dates like %d.%m.%Y"),
        ({"since": [17.0], "age": [1]}, "'since' with numbers, but expected dates"),
    ],
)
def test_other_rows_must_be_like_those_of_fit(later, message):
    cleaner = TableCleaner().fit(
        pd.DataFrame({"since": DAYS.strftime("%d.%m.%Y"), "age": np.arange(N) % 7})
    )
    with pytest.raises(ValueError, match=message):
        cleaner.transform(pd.DataFrame(later))


def test_dates_with_a_type_may_come_as_text_later():
    cleaner = TableCleaner().fit(pd.DataFrame({"since": DAYS, "age": np.arange(N) % 7}))
    found = cleaner.transform(pd.DataFrame({"since": ["1.2.1970", None], "age": [1, 2], "x": 3}))
    assert found["since"].fillna(-1).tolist() == [31.0, -1.0] and list(found) == ["since", "age"]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 2)), "Got a ndarray, but expected a DataFrame"),
        (pd.DataFrame({0: [1, 2]}), "names that are text"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "different names"),
        (pd.DataFrame({"a": []}), "of 0 rows"),
        (pd.DataFrame({"a": [1, 1]}), "no column is left"),
    ],
)
@pytest.mark.filterwarnings("ignore::fairprune_sk.SuspectColumnWarning")
def test_what_is_no_table_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        TableCleaner().fit(X)


# ----------------------------------------------------------------------------------- files


def people():
    """Make up forty people: two women of each three are hired, and one man of three."""
    sex = np.array(["f", "m"] * 20)
    hired = np.where(sex == "f", np.arange(40) % 3 != 0, np.arange(40) % 3 == 0)
    return pd.DataFrame(
        {
            "age": np.arange(40) % 13 + 20.5,
            "sex": sex,
            "region": ["n", "s", "s", "n"] * 10,
            "hired": np.where(hired, "yes", "no"),
        }
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "tsv.gz", "parquet", "feather"])
def test_every_kind_of_file_gives_the_same_table(tmp_path, kind):
    path = tmp_path / f"jobs.{kind}"
    if kind in ("parquet", "feather"):
        getattr(people(), f"to_{kind}")(path)
    else:
        people().to_csv(path, sep="\t" if "tsv" in kind else ",", index=False)
    pd.testing.assert_frame_equal(read_frame(path), people())
    about = {"target": "hired", "positive": "yes", "sensitive": "sex"}
    assert read_table(path, about).name == "jobs"


def test_an_index_of_a_parquet_file_is_a_column(tmp_path):
    people().set_index("region").to_parquet(tmp_path / "a")
    assert list(read_frame(tmp_path / "a")) == ["region", "age", "sex", "hired"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n", "no rows"),
        (b"PAR1 and then something else", "begins as a Parquet file but cannot be read"),
        (b"ARROW1" + bytes(100), "begins as a Feather file but cannot be read"),
        (b"", "which is empty"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "cannot be unpacked"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_frame(tmp_path / "a.csv")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    people().to_parquet(tmp_path / "a.parquet")

    def missing(path):
        raise ImportError("Missing optional dependency 'pyarrow'")

    monkeypatch.setattr("fairprune_sk.datasets.files._READERS", ((b"PAR1", "Parquet", missing),))
    with pytest.raises(ImportError, match=r"pip install 'fairprune_sk\[cli\]'"):
        read_frame(tmp_path / "a.parquet")


# ----------------------------------------------------------------------------------- roles


ABOUT = TableDescription(target="hired", sensitive="sex", sensitive_is_feature=False)


def test_roles_of_columns():
    about = {**vars(ABOUT), "control": ("region",), "positive": "no"}
    roles = with_roles(people(), TableDescription(**about), "jobs")
    assert list(roles.X) == ["age", "region"] and roles.y.name == "hired"
    assert roles.y.tolist() == people()["hired"].tolist() and roles.pos_label == "no"
    assert roles.sensitive["sex"].tolist() == people()["sex"].tolist()
    assert roles.control["region"].tolist() == people()["region"].tolist()
    assert with_roles(people(), ABOUT, "jobs").control is None
    kept = TableDescription(target="hired", sensitive="sex")
    assert list(with_roles(people(), kept, "jobs").X) == ["age", "sex", "region"]


def test_rows_without_a_target_or_a_group_are_left_out_and_counted():
    frame = people()
    frame.loc[3, "hired"], frame.loc[[5, 7], "sex"] = None, None
    about = {**vars(ABOUT), "missing_sensitive": "leave_out"}
    roles = with_roles(frame, TableDescription(**about), "jobs")
    assert roles.rows.tolist() == [i for i in range(40) if i not in (3, 5, 7)]
    assert roles.left_out == {"without a target": 1, "without a sensitive feature": 2}
    group = with_roles(frame, TableDescription(**{**about, "missing_sensitive": "group"}), "jobs")
    assert group.sensitive["sex"].eq("missing").sum() == 2 and len(group.y) == 39


@pytest.mark.parametrize(
    ("labels", "expected", "positive"),
    [
        ([1.0, 0.0], [1, 0], 1),
        ([True, False], [True, False], True),
        ([" >50K.", "<=50K. "], [">50K", "<=50K"], ">50K"),
        (["a", "b", "c", "d"], list("abcd"), None),
    ],
)
def test_labels_stay_what_they_are(labels, expected, positive):
    frame = people().assign(hired=labels * (40 // len(labels)))
    roles = with_roles(frame, ABOUT, "jobs")
    assert roles.y.tolist() == expected * (40 // len(expected)) and roles.pos_label == positive


def test_test_rows_are_alike_in_classes_and_groups():
    roles = with_roles(people(), ABOUT, "jobs")
    fitted, tested = split_rows(roles, 0.25, 0)
    assert sorted([*fitted, *tested]) == list(range(40)) and len(tested) == 10
    for part, n_each in ((fitted, 15), (tested, 5)):
        assert roles.take(part).sensitive["sex"].value_counts().tolist() == [n_each, n_each]
    again, other = split_rows(roles, 0.25, 0), split_rows(roles, 0.25, 1)
    assert again[1].tolist() == tested.tolist() != other[1].tolist()


def test_a_group_of_one_row_is_split_with_the_rest_of_its_class():
    frame = people()
    frame.loc[0, "sex"] = "x"
    fitted, tested = split_rows(with_roles(frame, ABOUT, "jobs"), 0.25, 0)
    assert len(fitted) == 30 and len(tested) == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hired": "yes"}, "'hired' with one value, 'yes'"),
        ({"hired": np.linspace(0, 1, 40)}, "this is a classifier.*> 0.5"),
        ({"hired": range(40)}, "this is a classifier"),
        ({"hired": ["yes", *["no"] * 39]}, "1 classes of one row"),
        ({"hired": [f"{i // 2}-" for i in range(40)]}, "20 classes in 40 rows"),
        ({"hired": None}, "Got 0 rows"),
        ({"sex": "f"}, "'sex' with one group"),
        ({"sex": range(40)}, "'sex' with 40 values in 40 rows.*--bins sex=9.75,19.5,29.25"),
    ],
)
def test_a_table_to_learn_nothing_from_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        with_roles(people().assign(**changes), ABOUT, "jobs")


def test_hundreds_of_groups_are_refused_unless_they_are_joined():
    frame = pd.concat([people()] * 10, ignore_index=True)
    frame["sex"] = [f"g{i % 150}" for i in range(400)]
    with pytest.raises(ValueError, match="'sex' with 150 values in 400 rows.*join values"):
        with_roles(frame, ABOUT, "jobs")
    about = TableDescription(**{**vars(ABOUT), "groups": {"sex": ("g1",)}})
    assert sorted(with_roles(frame, about, "jobs").sensitive["sex"].unique()) == ["Other", "g1"]


def test_groups_by_the_bins_of_a_number():
    frame = people()
    frame["age"], frame.loc[4, "age"] = np.arange(40), None
    fields = {"sensitive": "age", "bins": {"age": [18, 30]}, "missing_sensitive": "leave_out"}
    roles = with_roles(frame, TableDescription(target="hired", **fields), "jobs")
    counts = roles.sensitive["age"].value_counts()
    assert counts.to_dict() == {"below 18": 17, "18 to below 30": 12, "30 and over": 10}
    sex = TableDescription(target="hired", sensitive="sex", bins={"sex": [1]})
    with pytest.raises(ValueError, match="'sex' with text, but expected numbers"):
        with_roles(frame, sex, "jobs")
    for edges in ([], [3, 2], ["a"]):
        with pytest.raises(ValueError, match="expected ascending numbers"):
            TableDescription(target="hired", sensitive="age", bins={"age": edges})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sensitive": ("Sexx",)}, r"without the columns \['Sexx'\].*Did you mean 'sex'"),
        ({"positive": "maybe"}, "'maybe', but expected one of the target 'hired': no, yes"),
        ({"drop": ("age", "region")}, "without a feature"),
        ({"control": ("regio",)}, "Did you mean 'region'"),
    ],
)
def test_a_description_must_fit_its_table(fields, message):
    with pytest.raises(ValueError, match=message):
        with_roles(people(), TableDescription(**{**vars(ABOUT), **fields}), "jobs")


def test_a_column_is_not_sensitive_and_control():
    with pytest.raises(ValueError, match="as sensitive and as control"):
        TableDescription(target="hired", sensitive="sex", control="sex")
