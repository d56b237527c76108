"""Rates and gaps in plain words, with the figures of a report as examples."""

from __future__ import annotations

from fairprune_sk.fairness.constraints import (
    AccuracyParity,
    Constraint,
    DegradationParity,
    DemographicParity,
    EqualizedOdds,
    EqualOpportunity,
    ErrorRateParity,
    FalsePositiveRateParity,
)

TITLES = {
    "accuracy": "Right predictions (accuracy)",
    "balanced_accuracy": "Right predictions, each class counting the same (balanced accuracy)",
    "selection_rate": "Selected (selection rate)",
    "true_positive_rate": "Rightly selected (true positive rate, TPR)",
    "false_positive_rate": "Wrongly selected (false positive rate, FPR)",
}
"""Names of the rates for readers who know none of them."""

_RATES = {
    "accuracy": "the share of people for whom the prediction is right",
    "balanced_accuracy": "the mean, over the classes, of the share of their people for whom the "
    "prediction is right: a class of few people counts as much as one of many",
    "selection_rate": "the share of all people for whom the model predicts {label}",
    "true_positive_rate": "of the people whose true label is {label}, the share for whom the "
    "model predicts it",
    "false_positive_rate": "of the people whose true label is not {label}, the share for whom the "
    "model predicts it all the same",
}

_NOTIONS: dict[type[Constraint], str] = {
    DemographicParity: "{label} is predicted for the same share of every group",
    EqualizedOdds: "of the people whose true label is {label}, the same share of every group is "
    "given it, and of those whose true label is another one, as well; the larger of the two "
    "differences counts",
    EqualOpportunity: "of the people whose true label is {label}, the same share of every group "
    "is given it",
    FalsePositiveRateParity: "of the people whose true label is not {label}, the same share of "
    "every group is given it all the same",
    AccuracyParity: "predictions are right for the same share of every group",
    ErrorRateParity: "predictions are wrong for the same share of every group",
    DegradationParity: "pruning took as much accuracy from every group",
}


def rate_in_words(metric: str, label: str) -> str:
    """Say what a rate is."""
    return _RATES[metric].format(label=label)


def notion_in_words(constraint: Constraint, label: str) -> str:
    """Say what a notion asks for; of one that a user wrote, what its docstring begins with."""
    known = _NOTIONS.get(type(constraint))
    if known is not None:
        return known.format(label=label)
    own = (type(constraint).__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return own or f"the rates that {constraint.name!r} compares are the same in every group"


def per_hundred(rate: float) -> str:
    """Write a rate as people count: ``about 31 of 100``."""
    hundred = 100 * rate
    if 0 < hundred < 0.5 or 99.5 < hundred < 100:
        return "fewer than 1 of 100" if hundred < 1 else "more than 99 of 100"
    return f"about {hundred:.0f} of 100"


def points(gap: float) -> str:
    """Write a gap in percentage points: ``3.1 percentage points``."""
    size = 100 * gap
    text = f"{size:.1f}".removesuffix(".0")
    return f"{text} percentage point" + ("" if text == "1" else "s")
