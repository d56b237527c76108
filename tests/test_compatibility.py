"""The page on compatibility claims nothing without a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/compatibility.md").read_text()


def names_in(file):
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def sections():
    for section in PAGE.split("\n## ")[1:]:
        file = re.search(r"\(\.\./tests/(\w+\.py)\)", section)
        if file:
            rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
            yield file.group(1), rows


def test_every_row_names_tests_that_exist():
    n_rows = 0
    for file, rows in sections():
        for row in rows:
            others = re.findall(r"\(\.\./tests/(\w+\.py)\)", row)
            known = names_in(file).union(*map(names_in, others))
            named = re.findall(r"`(test_\w+)`", row)
            assert named, row
            assert set(named) <= known, set(named) - known
            n_rows += 1
    assert n_rows > 40


def test_every_test_of_the_three_libraries_is_named():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    for file, _ in sections():
        left_out = names_in(file) - named
        assert len(left_out) <= 2, left_out  # details that belong to no row
