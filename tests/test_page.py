"""Tests of the report as a page, as Markdown, as JSON, and in a notebook."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
import time
import webbrowser
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairprune_sk import fairness_report
from fairprune_sk.assessment.content import document_of
from fairprune_sk.documents.blocks import (
    Change,
    Chart,
    Document,
    Mark,
    Section,
    Span,
    Table,
    number,
    shown,
    sort_key,
)
from fairprune_sk.documents.drawing import drawn, ticks_between
from fairprune_sk.documents.markup import MOST_ROWS, page
from fairprune_sk.documents.plain import as_json, as_markdown

EVIL = "\"><script>alert('x')</script>|_*`"
BLOCKS = {"td", "th", "dt", "dd", "p", "li", "h2", "caption"}
VOID = {"meta", "link", "br", "circle", "line", "input", "img", "hr"}


class Reader(HTMLParser):
    """Read a page as a browser does: elements with attributes and text; complain of bad nesting."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.stack = [], []
        self.feed(text)
        self.close()
        assert not self.stack, [e["tag"] for e in self.stack]

    def handle_starttag(self, tag, attrs):
        element = {
            "tag": tag,
            "attrs": dict(attrs),
            "text": "",
            "in": [e["tag"] for e in self.stack],
        }
        self.elements.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop()["tag"] == tag
        if tag in BLOCKS:
            self.handle_data(" ")

    def handle_data(self, data):
        for element in self.stack:
            element["text"] += data

    def all(self, *tags):
        return [e for e in self.elements if e["tag"] in tags]

    def one(self, tag):
        [element] = self.all(tag)
        return element


def words(element):
    return " ".join(element["text"].split())


@pytest.fixture(scope="module")
def report(fitted, table):
    X, y, s = table
    y = pd.Series(y, name="approved")
    return fairness_report(fitted, X[2000:], y[2000:], sensitive_features=s["sex"][2000:])


@pytest.fixture(scope="module")
def read(report):
    return Reader(report.to_html())


class Given(ClassifierMixin, BaseEstimator):
    """Predict what the first column says, of three classes or as many as there are."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[np.asarray(X)[:, 0].astype(int) % len(self.classes_)]


def many(n_groups=4, n_classes=3, n=1200, strata=True):
    rng = np.random.RandomState(0)
    X, y = rng.randint(0, 60, (n, 2)), rng.randint(0, n_classes, n)
    names = np.array(
        [EVIL, *(f"group {i} of a very long name indeed" for i in range(n_groups - 1))]
    )
    groups = pd.Series(names[rng.randint(0, n_groups, n)], name="<i>race</i>")
    regions = pd.Series(np.where(rng.rand(n) > 0.5, "North", "South"), name="region")
    control = {"control_features": regions} if strata else {}
    return fairness_report(Given().fit(X, y), X, y, sensitive_features=groups, **control)


# --- one file that fetches nothing ---


def test_a_page_is_one_file_that_fetches_nothing(report):
    start = time.perf_counter()
    text = report.to_html()
    assert time.perf_counter() - start < 5
    assert len(text.encode()) < 1_000_000
    read = Reader(text)
    for element in read.elements:
        assert not element["attrs"].keys() & {"src", "srcset", "data", "action", "onclick", "style"}
        assert element["attrs"].get("href", "#").startswith("#")
    assert not read.all("link", "img", "iframe", "object", "base", "form")
    style = read.one("style")["text"]
    assert "url(" not in style and "@import" not in style
    assert not re.search(r"\b(fetch|XMLHttpRequest|import|eval)\b", read.one("script")["text"])
    assert "http" not in text.replace("http-equiv", "")


def test_a_page_forbids_what_it_does_not_bring(read):
    [policy] = [e["attrs"]["content"] for e in read.all("meta") if e["attrs"].get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        digest = hashlib.sha256(read.one(tag)["text"].encode()).digest()
        assert f"{directive} 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_links_lead_to_sections_and_headings_follow_each_other(read):
    ids = [e["attrs"]["id"] for e in read.elements if "id" in e["attrs"]]
    assert len(ids) == len(set(ids))
    links = {e["attrs"]["href"][1:] for e in read.all("a")}
    assert links == {e["attrs"]["id"] for e in read.all("section")}
    assert [e["tag"] for e in read.all("h1", "h2", "h3")] == ["h1"] + ["h2"] * len(links)
    for section in read.all("section"):
        assert section["attrs"]["aria-labelledby"] in ids
    assert read.one("html")["attrs"]["lang"] == "en"


def test_every_picture_has_a_text_and_every_table_its_headings(read, report):
    pictures = read.all("svg")
    assert len(pictures) == 6  # the answer, four rates, the gaps
    for picture in pictures:
        assert picture["attrs"]["role"] == "img" and len(picture["attrs"]["aria-label"]) > 60
        assert set(picture["attrs"]) == {"role", "aria-label", "width", "height"}
    texts = [e["text"] for e in read.all("desc")]
    assert len(texts) == 6
    row = report.differences.loc["equalized_odds_difference"]
    assert f"After pruning, on these rows: {number(row.pruned)}." in texts[0]
    assert f"{number(row.low)} to {number(row.high)}" in texts[0]
    for group in ("female", "male"):
        assert all(f"{group}: dense network" in text for text in texts[1:5])
    n_tables = len(read.all("table"))
    assert n_tables == 2 == len([c for c in read.all("caption") if words(c)])
    assert all(e["attrs"]["scope"] in ("row", "col") for e in read.all("th"))
    regions = [e for e in read.all("div") if e["attrs"].get("role") == "region"]
    assert len(regions) == n_tables
    assert all(e["attrs"]["tabindex"] == "0" and e["attrs"]["aria-label"] for e in regions)


def test_cells_carry_the_numbers_that_they_are_sorted_by(read, report):
    values = [float(e["attrs"]["data-value"]) for e in read.all("td") if "data-value" in e["attrs"]]
    gaps = report.differences["pruned"]
    assert values[-4 * len(gaps) :: 4] == pytest.approx(gaps.tolist(), abs=1e-5)
    totals = [e for e in read.all("tbody") if e["attrs"].get("class") == "totals"]
    assert len(totals) == 1 and words(totals[0]).startswith("overall 1,000")


# --- what it says ---


def test_the_answer_comes_first(read, report):
    main = words(read.one("main"))
    assert report.certificate.verdict in ("within", "above", "cannot tell")
    word = {"within": "Yes", "above": "No", "cannot tell": "Cannot tell"}
    start = f"The answer {word[report.certificate.verdict]} {report.answer[0]}"
    assert re.sub("[✓✕?] ", "", main, count=1).startswith(start)
    assert f"at most {number(report.certificate.upper)}" in main


def test_what_must_be_known_is_said(read, report):
    main = words(read.one("main"))
    for note in report.notes:
        assert " ".join(note.split()) in main
    for name in ("approved", "female", "male", "sparsity", "equalized_odds", "torch"):
        assert name in main
    assert f"{report.size['n_nonzero']:,} of {report.size['n_weights']:,} weights are left" in main
    assert "probabilities mean what they say" in main
    low = 100 * report.by_group.loc["female", ("selection_rate", "pruned")]
    assert f"about {low:.0f} of 100 in 'female'" in main
    assert report.provenance.checksum in main and report.provenance.versions["numpy"] in main


def test_a_warning_stands_before_the_answer(table):
    X, y, s = table
    X = X.select_dtypes("number").fillna(0)[:300]

    class Nobody(Given):
        def predict(self, X):
            return np.zeros(len(X), dtype=int)

    report = fairness_report(
        Nobody().fit(X, y[:300]), X, y[:300], sensitive_features=s["sex"][:300]
    )
    main = words(Reader(report.to_html()).one("main"))
    assert main.startswith("The answer ! Warning COLLAPSED: the classifier predicts 1")
    assert "No tolerance was set for this model: there is no yes or no." in main


def test_rows_of_the_fit_tell_nothing(fitted, table):
    X, y, s = table
    report = fairness_report(fitted, X[:2000], y[:2000], sensitive_features=s["sex"][:2000])
    main = words(Reader(report.to_html()).one("main"))
    assert main.startswith("The answer ? Cannot tell Is the gap")
    assert "Is this the table of the fit? yes" in main
    assert "certified" not in main.partition("What the model does")[0]


def test_a_classifier_that_was_not_pruned(table):
    X, y, s = table
    X = X.select_dtypes("number").fillna(0)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[:500], y[:500])
    report = fairness_report(model, X[500:], y[500:], sensitive_features=s["sex"][500:])
    read = Reader(report.to_html())
    main = words(read.one("main"))
    assert main.startswith("The answer ? No tolerance")
    assert "this model" in main and "dense" not in main.partition("Data, settings")[0]
    assert "Is this the table of the fit? the model does not tell" in main
    assert len(read.all("svg")) == 5


# --- names of any kind, and many of them ---


@pytest.fixture(scope="module")
def large():
    return many()


def test_names_are_text_wherever_they_stand(large):
    text = large.to_html()
    read = Reader(text)
    assert len(read.all("script")) == 1 and not read.all("i")
    assert sum(EVIL in e["attrs"]["aria-label"] for e in read.all("svg")) > 3
    heads = [e["text"] for e in read.all("th")]
    assert heads.count(EVIL) == 2 * 4 and "<i>race</i>" in heads
    fragment = Reader(large._repr_html_())
    assert not fragment.all("script", "i")


def test_strata_and_classes_have_tables_and_pictures(large):
    read = Reader(large.to_html())
    assert len(read.all("table")) == 1 + 3 + 2  # all, each class, gaps and gaps by class
    assert len(read.all("svg")) == 3 * 3 + 1 + 1  # three rates a class, accuracy, gaps
    overall = [e for e in read.all("th") if e["text"] == "overall"]
    assert len(overall) == 4 and all(e["attrs"]["colspan"] == "2" for e in overall)


def test_hundreds_of_groups_stay_one_small_file():
    report = many(n_groups=205, n_classes=2, n=2000, strata=False)
    text = report.to_html()
    assert len(text.encode()) < 300_000
    assert f"{206 - MOST_ROWS} more rows are in the tables" in text
    charts = [e["attrs"]["aria-label"] for e in Reader(text).all("svg")]
    assert sum("24 groups with the most rows; 181 more are in the table" in c for c in charts) == 4
    data = json.loads(report.to_json())
    [groups] = [s for s in data["sections"] if s["key"] == "groups"]
    assert len(groups["blocks"][0]["rows"]) == 206  # nothing is left out of the data


def test_of_dozens_of_classes_those_with_the_largest_gaps_are_shown():
    report = many(n_classes=14, strata=False)
    text = report.to_html()
    assert len(text.encode()) < 300_000
    captions = [words(e) for e in Reader(text).all("caption")]
    gaps = report.by_class.drop(columns="positives", level=0).max(axis=1)
    shown = {c for c in report.by_class.index if f"Class {c!r} against the rest" in captions}
    assert len(shown) == 12 and gaps[list(shown)].min() >= gaps.drop(list(shown)).max()
    assert "`report.by_group` has the rates of 2 more" in text


# --- Markdown and JSON say the same ---


def test_markdown_says_what_the_page_says(report):
    text = report.to_markdown()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        section.title for section in document_of(report).sections
    ]
    plain = text.replace("\\", "")
    for said in (*report.answer, *report.notes):
        assert " ".join(said.split()) in " ".join(plain.split())
    [line] = [row for row in text.splitlines() if row.startswith("| equalized odds")]
    gap = report.differences.loc["equalized_odds_difference"]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == [f"{number(gap.dense)}→{number(gap.pruned)}", number(gap.corrected)]
    assert text.count("(a picture in words)") == 6


def test_markdown_tables_survive_any_name(large):
    lines = large.to_markdown().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    [row] = {line.split(" | ")[1] for line in tables if "alert" in line}
    assert row == r""" "\>\<script\>alert('x')\</script\>\|\_\*\` """.strip()
    widths = [len(re.split(r"(?<!\\)\|", line)) for line in tables]
    starts = [i - 1 for i, line in enumerate(tables) if set(line) <= set("|-: ")]
    assert len(starts) == 6
    for start, end in zip(starts, [*starts[1:], len(tables)], strict=True):
        assert len(set(widths[start:end])) == 1  # no row is cut in two by a name


def test_json_has_the_answer_and_all_numbers_in_full(report):
    data = json.loads(report.to_json())
    answer = data["answer"]
    gap = report.differences.loc["equalized_odds_difference"]
    assert answer["verdict"] == report.certificate.verdict
    assert answer["certified"] == [report.certificate.lower, report.certificate.upper]
    assert (answer["gap"], answer["dense_gap"]) == (gap.pruned, gap.dense)
    assert answer["interval"] == [gap.low, gap.high] and answer["tolerance"] == 0.05
    assert answer["constraint"] == "equalized odds" and answer["on_training_rows"] is False
    sections = {section["key"]: section["blocks"] for section in data["sections"]}
    table = sections["groups"][0]
    for row, (name, rates) in zip(table["rows"][1:], report.by_group.iterrows(), strict=True):
        assert row["name"] == [name] and row["rows"] == rates[("count", "")]
        assert row["TPR"] == {
            network: rates[("true_positive_rate", network)] for network in ("dense", "pruned")
        }
    assert sections["notes"][0]["items"] == list(report.notes)


def test_json_of_what_is_not_known_is_null():
    rng = np.random.RandomState(0)
    X, y = rng.randint(0, 2, (60, 1)), np.r_[np.zeros(30), np.arange(30) % 2].astype(int)
    groups = np.repeat(["without positives", "with"], 30)
    report = fairness_report(Given().fit(X, y), X, y, sensitive_features=groups)
    data = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert data["answer"]["verdict"] is None and data["answer"]["tolerance"] is None
    [table] = [s["blocks"][0] for s in data["sections"] if s["key"] == "groups"]
    assert {row["name"][0]: row["TPR"] for row in table["rows"]}["without positives"] is None
    assert "–" in report.to_html() and "NaN" not in report.to_html()


def test_the_three_are_made_from_one_document(report):
    document = document_of(report)
    assert report.to_html() == page(document)
    assert report.to_markdown() == as_markdown(document)
    assert json.loads(report.to_json())["sections"] == json.loads(as_json(document))["sections"]


# --- files ---


@pytest.mark.parametrize("name", ["html", "markdown", "json"])
def test_a_file_holds_what_is_returned(report, tmp_path, name):
    path = tmp_path / "report"
    path.write_text("before")
    text = getattr(report, f"to_{name}")(path)
    assert path.read_bytes() == text.encode() and [*tmp_path.iterdir()] == [path]


def test_a_failed_write_leaves_what_was_there(report, tmp_path):
    with pytest.raises(OSError):
        report.to_html(tmp_path / "no such folder" / "report.html")
    folder = tmp_path / "a folder"
    folder.mkdir()
    with pytest.raises(OSError):
        report.to_html(folder)
    assert folder.is_dir() and [*tmp_path.iterdir()] == [folder]


def test_a_browser_is_given_a_file_that_stays(report, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(webbrowser, "open", lambda uri: bool(opened.append(uri)) or True)
    path = report.open_in_browser()
    assert opened == [path.as_uri()] and path.read_text() == report.to_html()
    monkeypatch.setattr(webbrowser, "open", lambda uri: False)
    with pytest.warns(UserWarning, match="no browser to show the page. It is in "):
        assert report.open_in_browser().is_file()


# --- in a notebook ---


def test_a_notebook_shows_the_answer_the_tables_and_the_notes(report):
    read = Reader(report._repr_html_())
    assert not read.all("script", "html", "body", "head", "link")
    text = words(read.elements[0])
    assert report.answer[0] in text and report.notes[-1] in text
    assert len(read.all("table")) == 2 and len(read.all("svg")) == 1
    style = read.one("style")["text"]
    # Ink and ground are the notebook's own, whatever the browser prefers.
    assert "color: inherit" in style and "prefers-color-scheme" not in style
    assert all(".fairprune" in rule for rule in re.findall(r"(?m)^([^\s/@}][^{]*)\{", style))


def test_a_fitted_pruner_shows_what_it_reached(fitted):
    text = fitted._repr_html_()
    own, found, _ = text.partition("<style>.sk-global")
    assert found and "sk-container-id" in text  # scikit-learn's own stays
    own = words(Reader(own).elements[0])
    assert number(fitted.train_gap_) in own and f"{fitted.sparsity_:.1%}" in own
    state = "Within" if fitted.violation_ <= 0 else "Above"
    assert f"{state} the tolerance on the rows of the fit" in own
    assert "fairness_report" in own
    assert fitted._repr_mimebundle_()["text/html"].startswith('<div class="fairprune">')
    assert 'class="fairprune"' not in clone(fitted)._repr_html_()


def test_a_pruner_says_what_is_to_be_expected_for_people_not_seen(fitted):
    pruner = copy.copy(fitted)  # as a fit for unseen rows leaves it
    pruner.unseen_gap_, pruner.unseen_gap_interval_, pruner.violation_ = 0.06, (0.01, 0.1), 0.01
    text = pruner._repr_html_()
    assert "Gap expected for people not seen" in text and "95% interval 0.010 to 0.100" in text
    assert "Above the tolerance, by the fit&#39;s own estimate" in text
    pruner.unseen_gap_, pruner.violation_ = 0.04, -0.01
    assert "Within the tolerance, by the fit&#39;s own estimate" in pruner._repr_html_()
    pruner.set_params(tolerance=None)
    assert "a penalty instead of a tolerance" in pruner._repr_html_()
    pruner.set_params(constraint=None)
    assert "No constraint: nothing was done about groups." in pruner._repr_html_()


# --- the parts ---


def test_cells_as_people_read_them():
    assert shown("text") == "text" and shown(1234) == "1,234" and shown(np.int64(1)) == "1"
    assert shown(-0.0001) == "0.000" and shown(float("nan")) == "–"
    assert shown(Change(0.1, 0.25)) == "0.100→0.250" and shown(Span(0.1, 0.2)) == "0.100 to 0.200"
    assert sort_key(Change(0.1, 0.25)) == 0.25 and sort_key("text") is None
    assert sort_key(float("nan")) is None


@pytest.mark.parametrize(
    ("low", "high"), [(0, 0.23), (0.8, 0.81), (0, 0), (0.37, 0.370001), (0, 1)]
)
def test_ticks_are_round_and_cover(low, high):
    ticks = ticks_between(low, high)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9
    assert np.ptp(np.diff(ticks)) < 1e-9


def test_a_chart_keeps_marks_within_and_names_in_full():
    nan = float("nan")
    name = "a name that is much too long for one line of a telephone"
    marks = (Mark("dense", 0.2), Mark("pruned", 0.5, 0.4, 0.9))
    chart = Chart(
        "t",
        "x",
        ((name, marks), ("no rows", (Mark("dense", nan), Mark("pruned", nan)))),
        (("dense", "d"), ("pruned", "p")),
    )
    picture = drawn(chart)
    first, second = picture.rows
    assert " ".join(line for _, line in first["names"]) == name
    assert [m["look"] for m in first["marks"]] == ["dense", "pruned"] and not second["marks"]
    assert second["value"][1] == "–→–"
    places = [x for m in first["marks"] for x in (m["value"], *(m["span"] or ()))]
    assert all(0 <= x <= 100 for x in places)
    dense, pruned = first["marks"]
    assert dense["value"] < pruned["span"][0] < pruned["value"] < pruned["span"][1]


def test_a_long_table_says_what_it_leaves_out():
    frame = pd.DataFrame({"n": np.arange(MOST_ROWS + 7)}, index=pd.Index(range(MOST_ROWS + 7)))
    document = Document("t", "s", (Section("k", "K", (Table("c", frame),)),))
    text = page(document)
    assert "7 more rows" in text and text.count('<th scope="row">') == MOST_ROWS
