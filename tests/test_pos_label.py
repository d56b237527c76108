"""The label that counts as selected: which one it is, and what depends on it."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from fairlearn.metrics import equal_opportunity_difference
from parities import parity_of

import fairprune_sk
from fairprune_sk import FairPruner


@pytest.mark.parametrize("pos_label", ["repaid", "default"])
def test_the_positive_label_decides_what_equal_opportunity_compares(table, pos_label):
    X, y, s = table
    y, sex = np.where(y == 1, "repaid", "default"), s["sex"]
    pruner = FairPruner(
        constraint="equal_opportunity", pos_label=pos_label, max_epochs=3, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fairprune_sk.ConstraintNotMetWarning)
        pruner.fit(X, y, sensitive_features=sex)
    assert pruner.pos_label_ == pos_label and list(pruner.classes_) == ["default", "repaid"]
    expected = equal_opportunity_difference(
        y == pos_label, pruner.predict(X) == pos_label, sensitive_features=sex
    )
    assert pruner.violation_ == pytest.approx(expected - 0.05, abs=1e-6)


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
def test_a_positive_label_that_is_none_is_refused(table, labels, pos_label, message):
    X, _, s = table
    y = np.resize(labels, len(X))
    with pytest.raises(ValueError, match=message):
        FairPruner(pos_label=pos_label).fit(X, y, sensitive_features=s["sex"])
