"""The examples of CONTRIBUTING run, and its table of rooms is the one that is checked."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fairprune_sk import fairness_report

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def test_there_is_an_example_of_a_constraint_and_one_of_a_solver():
    assert [re.findall(r"class (\w+)\(", example) for example in EXAMPLES] == [
        ["PassedOver"],
        ["Largest"],
    ]


@pytest.mark.filterwarnings("ignore::fairprune_sk.ConstraintNotMetWarning")
@pytest.mark.parametrize("example", EXAMPLES, ids=["constraint", "solver"])
def test_an_example_fits_and_reports(example, table):
    X, y, s = table
    names: dict = {}
    exec(example, names)
    pruner = names["pruner"].set_params(max_epochs=5, random_state=0)
    pruner.fit(X, y, sensitive_features=s["sex"])
    assert pruner.sparsity_ >= 0.9
    report = str(fairness_report(pruner, X, y, sensitive_features=s["sex"]))
    assert ("passed over" in report) == ("PassedOver" in names)


def test_the_rooms_are_those_that_are_checked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (contract,) = project["tool"]["importlinter"]["contracts"]
    table = TEXT[TEXT.index("| room |") : TEXT.index("## Words")]
    rooms = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert rooms == [room for room in contract["layers"] if not room.startswith("_")]
