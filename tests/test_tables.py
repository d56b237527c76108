"""Tables: from files, by name, generated, downloaded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from urllib.error import URLError

import fairlearn.datasets
import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from fairprune_sk.datasets.csv_files import read_csv
from fairprune_sk.datasets.description import TABLES, TableDescription
from fairprune_sk.datasets.tables import FETCHED, Table, load_table, read_table, table_from_frame

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def needs(name):
    path = DATA / f"{name}.csv.gz"
    return pytest.mark.skipif(not path.is_file(), reason=f"needs the table {path}")


def small() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": range(8),
            "age": [20, 30, None, 50, 20, 30, 40, 50],
            "job": ["care", "?", "office", "care", "care", "office", "office", "trade"],
            "member": [True, False] * 4,
            "code": [1, 2, 3, 1, 2, 3, 1, 2],
            "sex": ["f", "m"] * 4,
            "origin": ["a", "b", "c", "d", "a", "b", "c", "a"],
            "hired": [" yes.", "no.", "yes", "no", "yes", "yes", "no", "no"],
        }
    )


ABOUT = TableDescription(
    target="hired",
    positive="yes",
    sensitive=("sex", "origin"),
    groups={"origin": ("a", "b")},
    drop=("id",),
    categories=("code",),
    na_values=("?",),
)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_csv_becomes_features_target_and_groups(tmp_path, suffix):
    path = tmp_path / f"jobs.{suffix}"
    small().to_csv(path, index=False)
    table = read_table(path, ABOUT)
    assert table.name == "jobs"
    assert list(table.X) == ["age", "job", "member", "code", "sex", "origin"]
    np.testing.assert_array_equal(table.y, [1, 0, 1, 0, 1, 1, 0, 0])
    assert table.sensitive["sex"].tolist() == ["f", "m"] * 4
    assert table.sensitive["origin"].tolist() == ["a", "b", *["Other"] * 2, "a", "b", "Other", "a"]
    assert table.X["origin"].tolist() == small()["origin"].tolist()
    assert table.X["job"].isna().tolist() == [False, True, *[False] * 6]
    assert table.X["age"].dtype == float and table.X["member"].dtype == bool
    assert table.X["code"].tolist() == list("12312312")
    assert read_table(path, ABOUT, "other").name == "other"


def test_sensitive_columns_can_be_kept_from_the_features():
    about = TableDescription(
        target="hired", positive="yes", sensitive="sex", sensitive_is_feature=False
    )
    table = table_from_frame(small(), about, "jobs")
    assert "sex" not in table.X and "origin" in table.X
    assert list(table.sensitive) == ["sex"]


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        ([0, 1], None, [0, 1]),
        ([0.0, 1.0], None, [0, 1]),
        ([True, False], None, [1, 0]),
        ([2, 1], 2, [1, 0]),
        (["<=50K", ">50K."], ">50K", [0, 1]),
    ],
)
def test_targets(values, positive, expected):
    frame = small().assign(hired=values * 4)
    about = TableDescription(target="hired", positive=positive, sensitive="origin")
    assert table_from_frame(frame, about, "jobs").y.tolist() == expected * 4


def test_missing_sensitive_values_can_be_a_group():
    frame = small().assign(origin=[None, *"abcabca"])
    about = {"target": "hired", "positive": "yes", "sensitive": "origin"}
    about |= {"groups": {"origin": ["a"]}, "missing_sensitive": "group"}
    table = table_from_frame(frame, TableDescription.from_dict(about), "jobs")
    assert table.sensitive["origin"].tolist()[:3] == ["missing", "a", "Other"]


def test_whole_numbers_name_groups_without_a_fraction():
    frame = small().assign(sex=[1.0, 2.0] * 4)
    about = TableDescription(target="hired", positive="yes", sensitive="sex", groups={"sex": [1]})
    assert table_from_frame(frame, about, "jobs").sensitive["sex"].tolist() == ["1", "Other"] * 4


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"hired": ["yes", "no", "maybe", *["no"] * 5]}, {}, "3 values .*'maybe'.* expected two"),
        ({"hired": ["yes"] * 8}, {}, "1 values"),
        ({"hired": [None, None, *["yes", "no"] * 3]}, {}, "missing values in 2 rows"),
        ({}, {"positive": "Yes"}, r"positive='Yes'.*\['no', 'yes'\]"),
        ({}, {"positive": None}, "without a positive one"),
        ({"sex": "f"}, {}, "'sex' with one group, 'f'"),
        ({"sex": [None, "m"] * 4}, {}, "'sex' with missing values in 4 rows"),
        ({}, {"groups": {"origin": ["z"]}}, r"groups \['z'\].*'origin'"),
        ({}, {"drop": ["nr"]}, r"without the columns \['nr'\].*'age'"),
        ({}, {"sensitive": ["race"], "groups": {}}, r"without the columns \['race'\]"),
        ({}, {"drop": ["id", "age", "job", "member", "code"], "sensitive_is_feature": False},
         "without a feature"),
    ],
)  # fmt: skip
def test_errors_say_what_came(changes, more, message):
    fields = {**vars(ABOUT), **more}
    with pytest.raises(ValueError, match=message):
        table_from_frame(small().assign(**changes), TableDescription(**fields), "jobs")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"target": "y"}, "without .*sensitive"),
        ({"target": "y", "sensitive": "s", "label": 1}, r"\['label'\]"),
        ({"target": "y", "sensitive": []}, "no sensitive column"),
        ({"target": "y", "sensitive": "s", "groups": {"t": ["a"]}}, r"groups for \['t'\]"),
        ({"target": "y", "sensitive": "y"}, "a column of its own"),
        ({"target": "y", "sensitive": "s", "missing_sensitive": "ignore"}, "'ignore'"),
    ],
)
def test_descriptions_are_checked(content, message):
    with pytest.raises(ValueError, match=message):
        TableDescription.from_dict(content)


def test_descriptions_from_files(tmp_path):
    content = {"target": "hired", "positive": "yes", "sensitive": ["sex"]}
    (tmp_path / "a.json").write_text(json.dumps({**content, "groups": {"sex": ["f"]}}))
    (tmp_path / "a.toml").write_text(
        'target = "hired"\npositive = "yes"\nsensitive = ["sex"]\n[groups]\nsex = ["f"]\n'
    )
    expected = TableDescription(**content, groups={"sex": ("f",)})
    assert TableDescription.from_file(tmp_path / "a.json") == expected
    assert TableDescription.from_file(tmp_path / "a.toml") == expected
    small().to_csv(tmp_path / "jobs.csv", index=False)
    table = load_table(tmp_path / "jobs.csv", description=tmp_path / "a.toml")
    assert table.sensitive["sex"].tolist() == ["f", "Other"] * 4
    with pytest.raises(ValueError, match="without a description.*'jobs.toml' beside"):
        load_table(tmp_path / "jobs.csv")
    (tmp_path / "a.toml").rename(tmp_path / "jobs.toml")
    pd.testing.assert_frame_equal(load_table(tmp_path / "jobs.csv").sensitive, table.sensitive)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        TableDescription.from_file(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="names and values"):
        TableDescription.from_file(tmp_path / "list.json")
    (tmp_path / "a.yaml").write_text("")
    with pytest.raises(ValueError, match="json or .toml"):
        TableDescription.from_file(tmp_path / "a.yaml")
    with pytest.raises(FileNotFoundError, match="no such file"):
        TableDescription.from_file(tmp_path / "none.json")


def test_sources(tmp_path):
    small().rename(columns={"hired": "two_year_recid", "origin": "race"}).assign(
        race=["African-American", "Caucasian", "Asian", "Other"] * 2, two_year_recid=[0, 1] * 4
    ).to_csv(tmp_path / "compas.csv", index=False)
    table = load_table("compas", tmp_path)
    assert load_table(table) is table
    assert sorted(table.sensitive["race"].unique()) == ["African-American", "Caucasian", "Other"]
    with pytest.raises(FileNotFoundError, match="adult.csv.gz"):
        load_table("adult", tmp_path)
    with pytest.raises(FileNotFoundError, match="none.csv"):
        load_table(tmp_path / "none.csv", description=ABOUT)
    with pytest.raises(ValueError, match="without a description"):
        load_table(tmp_path / "compas.csv")
    with pytest.raises(ValueError, match="one of .*'adult'.*'synthetic'.*'fairlearn:adult'"):
        load_table("german")
    with pytest.raises(ValueError, match="n_samples.*options"):
        load_table("compas", tmp_path, n_samples=3)
    with pytest.raises(ValueError, match="has its own"):
        load_table("synthetic", description=ABOUT)


def test_synthetic_tables_are_reproducible():
    first, second = (load_table("synthetic", n_samples=200) for _ in range(2))
    other = load_table("synthetic", n_samples=200, random_state=1)
    pd.testing.assert_frame_equal(first.X, second.X)
    assert not first.X.equals(other.X)
    assert not set(first.sensitive) & set(first.X)


# What fairlearn hands out: the columns that matter, in the types that they come in.
LAYOUTS = {
    "adult": (
        {"age": [25.0, 38.0], "fnlwgt": [1.0, 2.0], "race": ["White", "Black"],
         "sex": ["Male", "Female"], "workclass": ["Private", None]},
        pd.Series(["<=50K", ">50K"] * 4, name="class", dtype="category"),
    ),
    "bank_marketing": (
        {"age": [25, 38], "marital": ["single", "married"]},
        pd.Series(["1", "2"] * 4, name="Class", dtype="category"),
    ),
    "credit_card": (
        {"LIMIT_BAL": [1.0, 2.0], "SEX": [1.0, 2.0], "EDUCATION": [2.0, 3.0], "MARRIAGE": [1, 2]},
        pd.Series(["0", "1"] * 4, name="y", dtype="category"),
    ),
    "diabetes_hospital": (
        {"race": ["Caucasian", "AfricanAmerican"], "gender": ["Male", "Female"],
         "readmitted": ["NO", "<30"], "readmit_binary": [0, 1]},
        pd.Series([0, 1] * 4, name="readmit_30_days"),
    ),
    "acs_income": (
        {"AGEP": [25.0, 38.0], "COW": [1.0, 2.0], "MAR": [1.0, 5.0], "OCCP": [10.0, 20.0],
         "POBP": [6.0, 12.0], "RELP": [0.0, 1.0], "SEX": [1.0, 2.0], "RAC1P": [1.0, 2.0]},
        pd.Series([50_000.0, 50_001.0] * 4, name="PINCP"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FETCHED)
def test_tables_of_fairlearn(name, monkeypatch):
    columns, target = LAYOUTS[name]
    data = pd.DataFrame({column: values * 4 for column, values in columns.items()})
    seen = {}

    def fetch(**options):
        seen.update(options)
        # A filter by state leaves gaps in the index.
        rows = range(0, 16, 2)
        return Bunch(data=data.set_axis(rows), target=target.set_axis(rows), frame=None)

    monkeypatch.setattr(fairlearn.datasets, FETCHED[name].function, fetch)
    table = load_table(f"fairlearn:{name}", data_home="somewhere")
    assert seen == {"as_frame": True, "data_home": "somewhere"}
    assert table.name == name
    assert table.y.tolist() == [0, 1] * 4
    assert not {"target", "fnlwgt", "readmitted", "readmit_binary", target.name} & set(table.X)
    assert list(table.sensitive) == list(FETCHED[name].description.sensitive)
    assert table.sensitive.iloc[:, 0].nunique() == 2
    for column in FETCHED[name].description.categories:
        assert table.X[column].map(type).eq(str).all()
    assert "target" not in data


def test_a_failed_download_says_so(monkeypatch):
    def fetch(**options):
        raise URLError("no route to host")

    monkeypatch.setattr(fairlearn.datasets, "fetch_adult", fetch)
    with pytest.raises(ConnectionError, match="fairlearn:adult.*no route to host.*go online"):
        load_table("fairlearn:adult")
    with pytest.raises(ValueError, match="fairlearn:bank_marketing"):
        load_table("fairlearn:boston")


def test_every_fetcher_exists():
    assert all(hasattr(fairlearn.datasets, fetched.function) for fetched in FETCHED.values())


@needs("adult")
def test_adult_is_what_the_evidence_uses():
    table = load_table("adult", DATA)
    raw = pd.read_csv(DATA / "adult.csv.gz", na_values="?", skipinitialspace=True)
    pd.testing.assert_frame_equal(table.X, raw.drop(columns=["income", "fnlwgt", "split"]))
    np.testing.assert_array_equal(table.y, raw["income"].str.contains(">50K"))
    assert table.sensitive["sex"].tolist() == raw["sex"].tolist()
    assert set(table.sensitive["race"]) == {"White", "Black", "Other"}


@needs("compas")
def test_compas_is_what_the_evidence_uses():
    table = load_table("compas", DATA)
    assert isinstance(table, Table) and list(TABLES["compas"].sensitive) == ["race", "sex"]
    raw = pd.read_csv(DATA / "compas.csv.gz")
    pd.testing.assert_frame_equal(table.X, raw.drop(columns="two_year_recid"))
    np.testing.assert_array_equal(table.y, raw["two_year_recid"])
    race = raw["race"].where(raw["race"].isin(["African-American", "Caucasian"]), "Other")
    assert table.sensitive["race"].tolist() == race.tolist()


# --- CSV files as people have them ---


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be"]
)
def test_separator_and_encoding_are_found_out(tmp_path, separator, encoding):
    rows = [["größe", " sex ", "y"], ["1.5", " Zoë ", "1"], ["2.5", "?", "0"], ["NA", "m ", " 1"]]
    content = "\n".join(separator.join(row) for row in rows).encode(encoding)
    for path, stored in (("a.csv", content), ("a.csv.gz", gzip.compress(content))):
        (tmp_path / path).write_bytes(stored)
        frame = read_csv(tmp_path / path)
        expected = {"größe": [1.5, 2.5, None], "sex": ["Zoë", None, "m"], "y": [1, 0, 1]}
        pd.testing.assert_frame_equal(frame, pd.DataFrame(expected))


def test_a_western_letter_far_behind_the_head_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"x,1\n" * 50_000 + "é,2\n".encode("latin-1"))
    assert read_csv(path)["a"].iloc[-1] == "é"


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_decimal_commas(tmp_path, separator):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(separator.join(r) for r in [("a", "b"), ("1,5", "x"), ("2", "y, z")]))
    frame = read_csv(path)
    assert frame["a"].tolist() == [1.5, 2.0] and frame["b"].tolist() == ["x", "y, z"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "which is empty"),
        (b"\n \n", "which is empty"),
        (b"PK\x03\x04" + bytes(100), "not text"),
        (b"a,b\n1,2\n1,2,3\n", "3 values in line 3, but expected 2"),
        (b"a,b\n1,2\n\n1\n", "1 values in line 4, but expected 2"),
        (b"a,b\n1,2,3\n1,2,3\n", "3 values in line 2, but expected 2"),
        (b"a, a ,b\n1,2,3\n", "several columns named \\['a'\\]"),
        (b'a,b\n1,"2\n3,4\n', "cannot be read as a table|values in line"),
        (b"\x1f\x8b123456789012345", "cannot be unpacked"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match="which is a folder"):
        read_csv(tmp_path)


def test_a_misspelled_column_gets_the_closest_name():
    about = TableDescription(target="hird", positive="yes", sensitive="SEX")
    with pytest.raises(ValueError, match="Did you mean 'hired', 'sex'"):
        table_from_frame(small(), about, "jobs")
