"""Every block of Python in the README and the pages, and every script of the gallery, runs.

On tiny tables and with short fits: `make docs` runs the scripts as they are.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn
from matplotlib import pyplot
from torch import nn

import fairprune_sk

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
GALLERY = sorted((ROOT / "examples" / "gallery").glob("*.py"))
# What would take minutes, and what takes its place.
SHORT = {
    r"make_biased_classification\([\d_]+,": "make_biased_classification(600,",
    r"\[(:?)7000(:?)\]": r"[\g<1>400\g<2>]",
    r"\[:800\]": "[:100]",
    r"train_size=\d+": "train_size=300",
    r"max_epochs=40, |max_epochs=60, |tolerance_on=\"training\", ": "",
    r"sparsities=\[0.8, 0.9\],": "sparsities=[0.8],",
    r"seeds=\d,": "seeds=1,",
    r"n_jobs=2,": "",
}
QUICK = 'tolerance_on="training", max_epochs=2'


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))


def shortened(code, quick):
    for long, short in SHORT.items():
        code = re.sub(long, short, code)
    # A network of the script's own is its first argument, and stays it.
    return re.sub(
        r"FairPruner\(\s*((?:net|network|FrozenEstimator\(net\)),)?(?=[^)])",
        lambda found: f"FairPruner({found[1] or ''}{quick}, ",
        code,
    )


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Give what a reader of the pages has: a table in memory and in a file, and a network."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 3)).astype(np.float32), columns=["a", "b", "c"])
    s = pd.Series(np.where(rng.random(400) < 0.5, "x", "y"), name="sex")
    y = (X["a"] + 0.5 * rng.normal(size=400) > 0).astype(int)
    repaid = y.map({0: "no", 1: "yes"})
    X.assign(repaid=repaid, sex=s, id=np.arange(400)).to_csv(tmp_path / "loans.csv", index=False)
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    yield {
        "fairprune_sk": fairprune_sk, "FairPruner": fairprune_sk.FairPruner, "Small": Small,
        "X": X[:300], "y": y[:300], "s": s[:300],
        "X_test": X[300:], "y_test": y[300:], "s_test": s[300:],
    }  # fmt: skip
    pyplot.close("all")


def test_there_are_blocks_to_run():
    assert sum(len(blocks(page)) for page in PAGES) >= 13


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_every_block_of_a_page_runs(page, known):
    if page == "docs/unseen.md":
        known["s_test"] = known["s_test"].to_frame()
        known["pruner"] = fairprune_sk.FairPruner(estimator=Small, max_epochs=2, tolerance=1.0)
        known["pruner"].fit(known["X"], known["y"], sensitive_features=known["s"])
    with sklearn.config_context():  # a block may set it for good
        for block in sorted(blocks(page), key=lambda text: "(search, " in text):
            network = "estimator=Small, " if "search = " in block else ""
            block = shortened(block, f"{network}{QUICK}")
            # What reads a file of its own leaves the names of the other blocks alone.
            exec(compile(block, page, "exec"), dict(known) if "loans.csv" in block else known)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_every_script_of_the_gallery_runs(path, capsys):
    if path.stem == "plot_09_onnx":
        pytest.importorskip("onnxruntime")
    matplotlib.use("agg")
    code = shortened(path.read_text(encoding="utf-8"), QUICK)
    exec(compile(code, path.name, "exec"), {"__name__": "__main__"})
    pyplot.close("all")
    assert len(capsys.readouterr().out) > 100


def test_the_gallery_has_its_examples():
    assert len(GALLERY) >= 10


def test_the_reference_lists_every_public_name():
    page = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    for room in re.findall(r"^``(fairprune_sk[.\w]*)``$", page, re.M):
        section = page.split(f"``{room}``\n", 1)[1].split("``fairprune_sk", 1)[0]
        for name in importlib.import_module(room).__all__:
            listed = re.search(rf"^(   |- ``|- ``.*\.){name}\b", section, re.M)
            assert listed, (room, name)
