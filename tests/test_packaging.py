"""What the package declares is what it needs: with each extra, and with none."""

from __future__ import annotations

import ast
import functools
import importlib.resources
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fairprune_sk"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The extra that a file may count on, by its path in the package or that of its folder.
EXTRA_OF = {
    "benchmarks": "benchmark",
    "cli": "cli",
    "datasets/images.py": "images",
    "datasets/parquet.py": "parquet",
    "displays": "plot",
    "export/traced.py": "onnx",
    "export/onnx_graph.py": "onnx",
}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


distributions = functools.cache(packages_distributions)


def declared(extra):
    """Read what the package requires with an extra, or with none."""
    extras = PROJECT["optional-dependencies"]
    chosen = extras if extra == "test" else {extra} & extras.keys()
    lines = PROJECT["dependencies"] + [line for name in chosen for line in extras[name]]
    return [Requirement(line) for line in lines if not line.startswith("fairprune_sk")]


def imported(path):
    """Find the top-level names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_imported":
            yield node.args[0].value


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: "/".join(p.relative_to(PACKAGE).parts)
)
def test_what_a_file_imports_is_declared(path):
    inside = path.relative_to(PACKAGE)
    extra = EXTRA_OF.get(str(inside), EXTRA_OF.get(inside.parts[0]))
    allowed = {plain(requirement.name) for requirement in declared(extra)}
    of = distributions()
    for name in set(imported(path)) - sys.stdlib_module_names - {"fairprune_sk"}:
        assert allowed & {plain(distribution) for distribution in of[name]}, name


def closure(extra):
    """Find the names of all that pip would install with an extra, or with none."""
    found, todo = set(), [(requirement, "") for requirement in declared(extra)]
    while todo:
        requirement, asked = todo.pop()
        key = (plain(requirement.name), frozenset(requirement.extras))
        if key in found or (
            requirement.marker and not requirement.marker.evaluate({"extra": asked})
        ):
            continue
        try:
            lines = requires(requirement.name) or []
        except PackageNotFoundError:  # for other machines, such as a GPU's libraries
            continue
        found.add(key)
        for asked in ("", *requirement.extras):
            todo += [(Requirement(line), asked) for line in lines]
    return {name for name, _ in found}


# In a process of its own that finds nothing but the modules of some distributions.
ALONE = """
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {hidden!r}:
            return self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
"""
FIT = """
from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification
X, y, s = make_biased_classification(200, random_state=0)
pruner = FairPruner(tolerance=1.0, max_epochs=2, random_state=0)
pruner.fit(X, y, sensitive_features=s["sex"])
pruner.predict(X)
"""
USES = {
    None: FIT
    + """
from fairprune_sk import fairness_report
from fairprune_sk.displays import HistoryDisplay
assert "<svg" in fairness_report(pruner, X, y, sensitive_features=s["sex"]).to_html()
try:
    HistoryDisplay.from_estimator(pruner)
except ImportError as error:
    assert "pip install fairprune_sk[plot]" in str(error)
else:
    raise AssertionError("matplotlib is there")
""",
    "plot": FIT
    + """
from fairprune_sk.displays import HistoryDisplay
HistoryDisplay.from_estimator(pruner).figure_.canvas.draw()
""",
    "cli": """
import tempfile
from click.testing import CliRunner
from fairprune_sk.cli.app import app
from fairprune_sk.datasets import make_biased_classification
path = tempfile.mkdtemp() + "/a.parquet"
X, y, s = make_biased_classification(200, random_state=0)
X.assign(y=y, sex=s["sex"]).to_parquet(path)
fast = "--tolerance-on training --tolerance 1 --max-epochs 2 --quiet"
arguments = [*f"demo --data {path} --target y --sensitive sex {fast}".split()]
done = CliRunner().invoke(app, arguments)
assert done.exit_code == 0, done.output
""",
    "onnx": FIT + "import tempfile\npruner.to_onnx(tempfile.mkdtemp() + '/a.onnx', X=X)\n",
    "parquet": """
import tempfile
import pandas as pd
from fairprune_sk.datasets import ParquetTable
path = tempfile.mkdtemp() + "/a.parquet"
pd.DataFrame({"a": [1, 2]}).to_parquet(path)
assert ParquetTable(path).column("a").tolist() == [1, 2]
""",
    "images": """
import tempfile
import numpy as np
from PIL import Image
from fairprune_sk.datasets import ImageFiles
folder = tempfile.mkdtemp()
Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder + "/a.png")
assert ImageFiles(folder, ["a.png"], image_size=8).read().shape == (1, 3, 8, 8)
""",
    "benchmark": """
import tempfile
from sklearn.tree import DecisionTreeClassifier
from fairprune_sk.benchmarks import benchmark, figures, landscape, statistics
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.datasets.tables import Table
X, y, s = make_biased_classification(200, random_state=0)
X = X.select_dtypes("number").fillna(0)
fits = benchmark(
    {"tree": DecisionTreeClassifier()}, [Table("made", X, y, s[["sex"]])], seeds=2,
    results=tempfile.mkdtemp() + "/a.sqlite", progress=False,
)
assert statistics.summarise(fits) is not None
""",
}


def test_every_extra_is_tried():
    # The package itself uses nothing of the extra that its site is built with.
    assert USES.keys() - {None} == PROJECT["optional-dependencies"].keys() - {"test", "docs"}


@pytest.mark.slow
@pytest.mark.parametrize("extra", USES, ids=str)
def test_an_extra_brings_what_its_part_of_the_package_needs(extra, tmp_path):
    # setuptools, which comes with every environment, has a copy of packaging of its own.
    others = closure("test") - closure(extra) - {"packaging"}
    hidden = {
        module
        for module, distributions in packages_distributions().items()
        if {plain(name) for name in distributions} <= others
    }
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(hidden=hidden) + USES[extra]],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr


def test_type_checkers_are_told_of_the_types():
    assert (importlib.resources.files("fairprune_sk") / "py.typed").is_file()
