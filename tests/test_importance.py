"""Initial mask scores."""

from __future__ import annotations

import pytest
import torch

from fairprune_sk.masks.importance import IMPORTANCES, lamp


@pytest.mark.parametrize("name", IMPORTANCES)
def test_scores_have_the_weights_shapes_and_stay_in_the_unit_interval(name):
    weights = {"a": torch.randn(7, 5), "b": torch.zeros(3, 4), "c": torch.randn(2, 3, 3, 3)}
    scores = IMPORTANCES[name](weights)
    for key, weight in weights.items():
        assert scores[key].shape == weight.shape
        assert ((scores[key] >= 0) & (scores[key] <= 1)).all()


def test_lamp_equals_its_definition():
    weight = torch.tensor([[3.0, -1.0], [0.5, 2.0]])
    scores = lamp({"a": weight})["a"]
    squares = weight.square()
    for i in range(2):
        for j in range(2):
            at_least = squares[squares >= squares[i, j]].sum()
            torch.testing.assert_close(scores[i, j], (squares[i, j] / at_least).sqrt())
    assert scores.max() == 1.0
