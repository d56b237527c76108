"""The command: every subcommand on one small fitted folder, and every slip that a user makes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.pipeline import make_pipeline

import fairprune_sk.cli
from fairprune_sk import FairPruner, certify, fairness_report
from fairprune_sk.cli import learning, read_folder
from fairprune_sk.cli.app import app
from fairprune_sk.datasets import (
    TableCleaner,
    TableDescription,
    make_biased_classification,
    read_frame,
    split_rows,
    with_roles,
)

N = 400
QUICK = ["--tolerance-on", "training", "--max-epochs", "2"]
ROLES = ["--target", "approved", "--sensitive", "sex"]
FILES = ["model.fairprune", "report.html", "report.json", "report.md", "settings.json"]


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def done(*arguments):
    """Run a command that succeeds; return what it printed as JSON."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments):
    """Run a command with a slip; return its message."""
    result = run(*arguments)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def loans(tmp_path_factory):
    """Write a table with a date, an identifier, a constant and missing values."""
    X, y, s = make_biased_classification(N, random_state=0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(N) % 200, "D")
    frame = pd.concat([X, s, y], axis=1)
    frame = frame.assign(loan_id=range(N), since=days.strftime("%d.%m.%Y"), country="DE")
    frame.loc[[1, 2], "sex"], frame.loc[3, "approved"] = None, None
    path = tmp_path_factory.mktemp("loans") / "loans.csv"
    frame.to_csv(path, sep=";", decimal=",", index=False)
    return path


@pytest.fixture(scope="module")
def fit(loans):
    """Fit the table into a folder; return the folder and what the command printed."""
    folder = loans.with_name("fitted")
    result = run("fit", loans, *ROLES, *QUICK, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture
def folder(fit):
    return fit[0]


# ------------------------------------------------------------------------------- fit


def test_a_fit_says_what_it_does(fit):
    folder, result = fit
    said = " ".join(result.stdout.split())
    for text in [
        "400 rows, 18 columns",
        "1 counts as positive",
        "Groups by 'sex': male (",
        "dates in days since 1970: since",
        "'loan_id', numbers the rows",
        "'country', constant",
        "does not read 'sex'",
        "Rows: 277 to fit on, 120 set aside",
        "Is the gap in equalized odds within 0.05 for people not seen?",
        "90.0% of the weights are gone",
        f"Next: fairprune report {folder}",
    ]:
        assert text in said
    assert "━" not in result.stderr  # no bars where nobody watches
    warned = " ".join(result.stderr.split())
    assert "1 row without a target" in warned and "2 rows without a sensitive feature" in warned


def test_a_folder_holds_the_fit(loans, folder):
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "test_rows.csv"]
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]
    fitted = read_folder(folder)
    assert fitted.settings["data"]["rows"] == N and fitted.settings["split"]["test_size"] == 0.3
    assert fitted.description.sensitive == ("sex",) and "sex" not in fitted.cleaner.cleaning_
    assert len(fitted.test_rows) == 120 and not {1, 2, 3} & set(fitted.test_rows)
    rows, what = fitted.unseen()
    assert rows.rows.tolist() == fitted.test_rows.tolist() and "120 rows of loans.csv" in what
    assert not fitted.pruner.was_fitted_on(rows.X)


def test_a_script_does_the_same(loans, folder):
    frame = read_frame(loans)
    about = TableDescription(
        target="approved",
        sensitive="sex",
        sensitive_is_feature=False,
        missing_sensitive="leave_out",
    )
    roles = with_roles(frame, about, "loans")
    fitted, tested = (roles.take(rows) for rows in split_rows(roles))
    cleaner = TableCleaner()
    with pytest.warns(UserWarning, match="left out"):
        X = cleaner.fit_transform(fitted.X)
    pruner = FairPruner(
        tolerance_on="training", max_epochs=2, pos_label=roles.pos_label, random_state=0
    )
    with pytest.warns(UserWarning):  # of two epochs
        pruner.fit(X, fitted.y, sensitive_features=fitted.sensitive)
    script, command = make_pipeline(cleaner, pruner), read_folder(folder).pipeline
    np.testing.assert_array_equal(script.predict_proba(frame), command.predict_proba(frame))
    report = fairness_report(script, tested.X, tested.y, sensitive_features=tested.sensitive)
    told = done("report", folder)
    assert told["n_test_rows"] == report.n_rows == 120
    gaps = {row["name"]: row["pruned"] for row in told["gaps"]}
    assert gaps == pytest.approx(report.differences["pruned"].to_dict())


def test_a_fit_that_fails_leaves_nothing(loans, tmp_path, monkeypatch):
    def broken(*arguments):
        raise ValueError("no report")

    monkeypatch.setattr(learning.Prepared, "fit", lambda self, e: (e, 1.0))
    monkeypatch.setattr(learning, "report_on", lambda *rows: None)
    monkeypatch.setattr(learning, "write_folder", broken)
    assert "no report" in refused("fit", loans, *ROLES, "--out", tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_by_force_alone_and_only_if_it_is_a_fit(loans, folder, tmp_path):
    again = ["fit", loans, *ROLES, "--out", tmp_path / "a"]
    (tmp_path / "a").mkdir()
    assert "exists: name another folder, or replace it with --force" in refused(*again)
    (tmp_path / "a/diary.txt").write_text("mine")
    assert "holds ['diary.txt'], which fairprune did not write" in refused(*again, "--force")
    assert "is no folder" in refused("fit", loans, *ROLES, "--force", "--out", loans)
    nowhere = tmp_path / "b" / "c"
    assert "there is no folder" in refused("fit", loans, *ROLES, "--out", nowhere)
    with fairprune_sk.cli.folder.new_folder(folder, force=True) as draft:
        for path in folder.iterdir():
            (draft / path.name).write_bytes(path.read_bytes())
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "test_rows.csv"]


# ------------------------------------------------------------------------------- using it


@pytest.mark.parametrize("kind", ["csv", "parquet", "stdout", "json"])
def test_predictions(loans, folder, tmp_path, kind):
    frame = read_frame(loans).drop(columns=["approved", "sex", "country"])
    frame.to_parquet(tmp_path / "new.parquet")
    path, command = tmp_path / f"p.{kind}", ["predict", folder, tmp_path / "new.parquet"]
    command += ["--with", "loan_id"]
    if kind == "stdout":
        path.write_text(run(*command).stdout)
    elif kind == "json":
        pd.DataFrame(done(*command)["predictions"]).to_csv(path, index=False)
    else:
        said = run(*command, "--out", path).stdout
        assert said.startswith("Wrote 400 predictions to")
    found = pd.read_parquet(path) if kind == "parquet" else pd.read_csv(path)
    expected = read_folder(folder).pipeline.predict_proba(frame)
    assert list(found) == ["loan_id", "prediction", "probability_0", "probability_1"]
    np.testing.assert_allclose(found[["probability_0", "probability_1"]], expected, atol=1e-6)
    assert found["loan_id"].tolist() == list(range(N))
    assert (found["prediction"] == (expected[:, 1] > 0.5)).all()


def test_a_report_is_printed_and_written(folder, tmp_path):
    result = run("report", folder)
    assert result.exit_code == 0, result.output
    assert "On 120 rows of loans.csv that were set aside before the fit." in result.stdout
    assert "Fairness report: 120 rows, 2 groups by sex" in result.stdout
    page = (folder / "report.html").read_text()
    assert "<html" in page and "approved" in page
    assert json.loads((folder / "report.json").read_text())
    assert done("report", folder, "--html", tmp_path / "a.html")["files"] == {
        "html": str(tmp_path / "a.html")
    }
    assert (tmp_path / "a.html").read_text().startswith("<!")


def test_a_certificate_ends_with_its_verdict(loans, folder):
    result = run("certify", folder, "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == {"within": 0, "above": 3, "cannot tell": 4}[told["verdict"]]
    fitted = read_folder(folder)
    rows, _ = fitted.unseen()
    found = certify(fitted.pruner, rows.X, rows.y, sensitive_features=rows.sensitive)
    assert told["upper"] == found.upper and told["gap"] == found.gap
    assert run("certify", folder, "--tolerance", 1).exit_code == 0
    assert run("certify", folder, "--tolerance", found.upper - 1e-3).exit_code == 4


def test_quiet_leaves_the_result(folder):
    shown = run("certify", folder, "--tolerance", 1, "--quiet").stdout
    assert shown.startswith("WITHIN: the gap in equalized odds")


def test_an_export_predicts_the_same(folder, tmp_path):
    told = done("export", folder, "--out", tmp_path / "a.onnx")
    assert (
        told["checked_rows"] == 120 and told["dates"] == ["since"] and "sex" not in told["inputs"]
    )
    fitted = read_folder(folder)
    X = fitted.unseen()[0].X
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    (found,) = session.run(["probabilities"], fitted.pruner.onnx_inputs(X))
    np.testing.assert_allclose(found, fitted.pruner.predict_proba(X), atol=1e-5)


def test_what_is_in_a_folder(folder):
    said = run("info", folder).stdout
    assert "approved: 0, 1, positive 1" in said and "left out    loan_id, country" in said
    told = done("info")
    assert told["devices"][0] == "cpu" and "torch" in told["versions"]


def test_rows_that_the_fit_has_not_seen(loans, folder, tmp_path, monkeypatch):
    assert "this is the very file of the fit" in refused("report", folder, "--new", loans)
    new = tmp_path / "new.csv"
    read_frame(loans).head(60).to_csv(new, index=False)
    assert "is not the file of the fit, or was changed" in refused("report", folder, "--data", new)
    told = done("certify", folder, "--new", new, "--tolerance", 1)
    assert told["rows"].startswith("all 57 rows")
    moved = loans.rename(tmp_path / "elsewhere.csv")
    try:
        assert "no longer at" in refused("report", folder)
        assert "no such file" in refused("report", folder, "--data", tmp_path / "none.csv")
        assert done("certify", folder, "--data", moved, "--tolerance", 1)["verdict"] == "within"
        assert done("export", folder, "--out", tmp_path / "a.onnx")["checked_rows"] == 0
    finally:
        moved.rename(loans)


@pytest.mark.parametrize("name", ["settings.json", "test_rows.csv", "model.fairprune"])
def test_a_folder_that_was_changed_is_refused(folder, tmp_path, name):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_text("{}")
    assert "Got" in refused("report", tmp_path)
    (tmp_path / name).unlink()
    assert f"without ['{name}']" in refused("report", tmp_path)


# ------------------------------------------------------------------------------- slips


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "aproved", "--sensitive", "Sexx"], "Did you mean 'approved', 'sex'?"),
        (["--target", "country", "--sensitive", "sex"], "with one value, 'DE'"),
        (["--target", "income", "--sensitive", "sex"], "this is a classifier"),
        (["--target", "sex", "--sensitive", "sex"], "expected a column of its own"),
        (["--target", "approved", "--sensitive", "loan_id"], "'loan_id' with 399 values"),
        (["--target", "approved", "--sensitive", "country"], "'country' with one group"),
        (["--target", "approved", "--sensitive", "age"], "--bins age="),
        ([*ROLES, "--bins", "age"], "no numbers with commas between"),
        ([*ROLES, "--bins", "age=30"], "Got groups for ['age']"),
        ([*ROLES, "--positive", "yes"], "'approved': 0, 1"),
        ([*ROLES, "--keep", "lone_id"], "Did you mean 'loan_id'?"),
        ([*ROLES, "--drop", "incom"], "Did you mean 'income'?"),
        ([*ROLES, "--sparsity", "2"], "'--sparsity': 2.0 is not in the range"),
        ([*ROLES, "--constraint", "fair"], "'fair' is not one of"),
        ([*ROLES, "--test-size", "0"], "test_size=0.0 of"),
        (["--sensitive", "sex"], "Got no --target: which column"),
        ([], "Got no --target and no --sensitive"),
        ([*ROLES, "--description", "about.yaml"], "no such file"),
    ],
)
def test_a_fit_says_what_is_wrong_with_its_arguments(loans, tmp_path, arguments, message):
    assert message in refused("fit", loans, *arguments, "--out", tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "which is empty"),
        (bytes(range(256)), "not text"),
        (b"approved,sex\n", "no rows"),
        (b"PAR1" + bytes(50), "begins as a Parquet file but cannot be read"),
    ],
)
def test_a_fit_refuses_what_is_no_table(tmp_path, content, message):
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    assert message in refused("fit", path, *ROLES, "--out", tmp_path / "b")
    told = json.loads(run("fit", path, *ROLES, "--out", tmp_path / "b", "--json").stdout)
    assert message in told["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "nowhere"], "no such folder: fairprune fit makes one"),
        (["predict", "FOLDER", "LOANS", "--with", "incom"], "Did you mean 'income'?"),
        (["predict", "FOLDER", "LOANS", "--out", "a.doc"], "'a.doc', but expected a name with"),
        (["bench", "LOANS", *ROLES, "--methods", "magnitud"], "Got the methods ['magnitud']"),
        (["bench", "LOANS", *ROLES, "--sparsities", "much"], "'much' are no numbers"),
        (["bench", "LOANS", "--target", "origin", "--sensitive", "sex"], "join classes"),
        (["frobnicate"], "No such command 'frobnicate'. See fairprune"),
        (["demo", "--target", "y"], "expected all three, or none"),
        (["demo", "--sensitive", "sex"], "expected all three, or none"),
        (["demo", "--positive", "yes"], "expected all three, or none"),
        (["demo", "--data", "LOANS", "--target", "approved"], "expected all three, or none"),
    ],
)
def test_other_slips(loans, folder, arguments, message):
    places = {"FOLDER": folder, "LOANS": loans}
    assert message in refused(*(places.get(argument, argument) for argument in arguments))


def test_where_an_error_is_from_is_told_on_request(tmp_path):
    assert "Traceback" in run("report", tmp_path, "--traceback").stderr


def test_ctrl_c_is_no_error(loans, tmp_path, monkeypatch):
    def pressed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(learning, "read_frame", pressed)
    result = run("fit", loans, *ROLES, "--out", tmp_path / "a")
    assert result.exit_code == 130 and "nothing was written" in result.stderr


def test_the_command_names_the_extra_that_it_needs():
    code = "import runpy, sys; sys.modules['click'] = None; sys.argv = ['fairprune', '--help']; "
    code += "runpy.run_module('fairprune_sk', run_name='__main__')"
    stopped = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    assert "pip install 'fairprune_sk[cli]'" in stopped.stderr


# ------------------------------------------------------------------------------- demo, bench


def test_a_demo_of_ones_own_table(loans):
    result = run(
        "demo", "--data", loans, "--target", "approved", "--sensitive", "sex,origin", *QUICK
    )
    assert result.exit_code == 0, result.output
    for text in ["Groups by 'origin'", "Fairness report: 120 rows", "Sparsity 90.0%"]:
        assert text in result.stdout
    flipped = [
        "--bins",
        "age=30,50",
        "--positive",
        "0",
        "--keep-sensitive",
        "--control",
        "district",
    ]
    roles = ["--target", "approved", "--sensitive", "age"]
    result = run("demo", "--data", loans, *roles, *QUICK, *flipped)
    told = " ".join(result.stdout.split())  # wherever its lines end
    for text in ("30 to below 50", "0 counts as positive", "positive label 0"):
        assert text in told
    assert "within strata of district" in told and "The network reads 'age'" in result.stderr


def test_a_search_keeps_its_surface_and_the_network_that_it_chose(loans, tmp_path):
    axes = ["--sparsities", "0.8,0.9", "--tolerances", "1", "--cv", 2]
    told = done("search", loans, *ROLES, *QUICK, *axes, "--out", tmp_path / "a")
    assert {row["sparsity"] for row in told["surface"]} == {0.8, 0.9}
    assert len(pd.read_csv(tmp_path / "a/surface.csv")) == len(told["surface"])
    fitted = read_folder(tmp_path / "a")
    assert fitted.pruner.sparsity == told["kept"]["sparsity"] and len(fitted.test_rows) == 120
    assert fitted.settings["parameters"]["kept"] == told["kept"]


def test_methods_are_compared(loans, tmp_path):
    told = done(
        *("bench", loans, *ROLES, "--methods", "threshold_optimizer(logistic)"),
        *("--seeds", 2, "--results", tmp_path / "fits.sqlite"),
    )
    (row,) = told["summary"]
    assert row["n_seeds"] == 2 and row["method"] == "threshold_optimizer(logistic)"
    assert 0 < row["gap"] < 1 and (tmp_path / "fits.sqlite").is_file()
