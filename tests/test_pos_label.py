"""The label that counts as selected: which one it is, and what depends on it."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from fairlearn.metrics import equal_opportunity_difference
from parities import parity_of
from sklearn.pipeline import make_pipeline

import fairprune_sk
from fairprune_sk import FairPruner, fairness_report, make_fairness_scorer


@pytest.mark.parametrize("pos_label", ["repaid", "default"])
def test_the_pos_label_decides_what_equal_opportunity_compares(table, pos_label):
    X, y, s = table
    y, sex = np.where(y == 1, "repaid", "default"), s["sex"]
    pruner = FairPruner(
        constraint="equal_opportunity",
        pos_label=pos_label,
        max_epochs=3,
        tolerance_on="training",
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fairprune_sk.ConstraintNotMetWarning)
        pruner.fit(X, y, sensitive_features=sex)
    assert pruner.pos_label_ == pos_label and list(pruner.classes_) == ["default", "repaid"]
    expected = equal_opportunity_difference(
        y == pos_label, pruner.predict(X) == pos_label, sensitive_features=sex
    )
    assert pruner.train_gap_ == pytest.approx(expected, abs=1e-6)


def test_rows_at_the_threshold_are_of_the_first_class_whichever_is_positive():
    logits, y = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([0, 0, 0])
    second = parity_of("demographic_parity")
    first = dataclasses.replace(second, positive=0)
    assert (second.outcome_logits(logits, y) > 0).flatten().tolist() == [False, False, True]
    assert (first.outcome_logits(logits, y) > 0).flatten().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("labels", "pos_label", "message"),
    [
        (["no", "yes"], "maybe", r"Got pos_label='maybe', but expected one of .*\['no', 'yes'\]"),
        (["a", "b", "c"], "a", "with 3 classes, but expected None"),
    ],
)
def test_a_pos_label_that_is_none_is_refused(table, labels, pos_label, message):
    X, _, s = table
    y = np.resize(labels, len(X))
    with pytest.raises(ValueError, match=message):
        FairPruner(pos_label=pos_label).fit(X, y, sensitive_features=s["sex"])


def test_reports_and_scorers_take_the_positive_label_of_the_estimator(table):
    X, y, s = table
    y, sex = np.where(y == 1, "repaid", "default"), s["sex"]
    pruner = FairPruner(pos_label="default", constraint=None, max_epochs=2, random_state=0)
    pruner.fit(X, y)
    predicted = pruner.predict(X)
    expected = {
        label: equal_opportunity_difference(y == label, predicted == label, sensitive_features=sex)
        for label in ("default", "repaid")
    }
    assert expected["default"] != pytest.approx(expected["repaid"], abs=1e-3)
    gaps = {
        label: fairness_report(pruner, X, y, sensitive_features=sex, pos_label=label)
        for label in (None, "default", "repaid")
    }
    for label, report in gaps.items():
        label = label or "default"
        assert report.pos_label == label and f"positive label '{label}'" in str(report)
        gap = report.differences.loc["equal_opportunity_difference", "pruned"]
        assert gap == pytest.approx(expected[label])
        selected = report.overall.loc["selection_rate", "pruned"]
        assert selected == pytest.approx((predicted == label).mean())
    for label in (None, "default", "repaid"):
        scorer = make_fairness_scorer("equal_opportunity", pos_label=label)
        score = scorer(make_pipeline(pruner), X, y, sensitive_features=sex)
        assert score == pytest.approx(-expected[label or "default"])


@pytest.mark.parametrize("pos_label", ["maybe", 3])
def test_reports_and_scorers_refuse_a_positive_label_that_is_none(table, pos_label):
    X, y, s = table
    pruner = FairPruner(constraint=None, max_epochs=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="but expected one of the labels"):
        fairness_report(pruner, X, y, sensitive_features=s["sex"], pos_label=pos_label)
    with pytest.raises(ValueError, match="but expected one of the labels"):
        make_fairness_scorer(pos_label=pos_label)(pruner, X, y, sensitive_features=s["sex"])
