"""The attack finds nothing in a few cases, and finds what is there."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from fairprune_sk import FairPruner

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def attack():
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("attack")
    finally:
        sys.path.remove(str(EXAMPLES))


def test_sixty_cases_break_no_rule(attack, capsys):
    assert attack.main(["--cases", "60"]) == 0, capsys.readouterr().out
    assert "60 cases in" in capsys.readouterr().out


def test_mutated_files_predict_or_are_refused_by_name(attack, capsys):
    assert attack.main(["--cases", "600", "--only", "files"]) == 0, capsys.readouterr().out
    assert "refused by name" in capsys.readouterr().out


def test_a_case_is_the_same_each_time(attack, monkeypatch):
    monkeypatch.setitem(attack.ATTACKS, "fits", attack.Attack(lambda rng: str(rng.random()), 1))
    assert attack.run_case("fits", 7) == attack.run_case("fits", 7) != attack.run_case("fits", 8)


def test_a_broken_rule_is_printed_with_its_number(attack, monkeypatch, capsys):
    def breaks(rng):
        raise KeyError("lost")

    monkeypatch.setattr(attack, "ATTACKS", {"fits": attack.Attack(breaks, 1)})
    assert attack.main(["--cases", "2"]) == 1
    printed = capsys.readouterr().out
    assert "fits:0 KeyError: 'lost'" in printed and "fits:1 KeyError" in printed
    with pytest.raises(KeyError):
        attack.main(["--only", "fits:1"])


def test_a_false_claim_is_found(attack):
    from attack_rules import BrokenRuleError, Known, check_claim

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 1))
    y, group = (X[:, 0] > 0).astype(int), [("a",) if x > 0 else ("b",) for x in X[:, 0]]
    group[:4] = [("b",)] * 4
    pruner = FairPruner(
        constraint="demographic_parity", tolerance=1.0, sparsity=0.5, max_epochs=1, random_state=0
    )
    pruner.fit(X, y, sensitive_features=group)
    known = Known(y, group, None, None)
    assert "tolerance met" in check_claim(pruner, X, known)
    pruner.train_gap_ = 0.1
    with pytest.raises(BrokenRuleError, match="a gap of 0.1000000 is claimed, MetricFrame finds"):
        check_claim(pruner, X, known)
