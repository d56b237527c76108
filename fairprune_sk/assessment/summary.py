"""What a fit came to, for a notebook: what it reached, and what it says about people not seen."""

from __future__ import annotations

from typing import Any

import pandas as pd

from fairprune_sk.documents.blocks import Block, Figures, Span, Text, Verdict, number, shown
from fairprune_sk.fairness.requirement import Requirement, requirement_of
from fairprune_sk.masks.granularity import prunable_parameters


def network_size(model: Any) -> pd.Series:
    """Count the weights: those that could be pruned, and those that are left."""
    left = prunable_parameters(model.network_).values()
    if hasattr(model, "masks_"):
        prunable = model.masks_
    else:  # saved without them, but the shapes are known
        prunable = prunable_parameters(model._fitted.dense_module)
    values = {
        "n_weights": sum(weight.numel() for weight in prunable.values()),
        "n_nonzero": sum(int(weight.count_nonzero()) for weight in left),
        "sparsity": float(model.sparsity_),
    }
    return pd.Series(values, dtype=object)  # object: counts stay integers


def fit_blocks(estimator: Any) -> tuple[Block, ...]:
    """Put together what a fitted estimator reached.

    Parameters
    ----------
    estimator : FairPruner
        Fitted.

    Returns
    -------
    tuple of Block
        Whether the gap is within the tolerance on the rows that it is for, sparsity, gaps.
    """
    requirement = requirement_of(estimator)
    size = network_size(estimator)
    left = f"{size['n_nonzero']:,} of {size['n_weights']:,} left"
    figures = [("Weights removed", f"{estimator.sparsity_:.1%}", left)]
    if estimator.selected_features_ is not None:
        read = f"{len(estimator.selected_features_)} of {estimator.n_features_in_}"
        figures.append(("Columns read", read, ""))
    if requirement is None or estimator.train_gap_ is None:
        return (Figures(tuple(figures)), Text("No constraint: nothing was done about groups."))
    name = requirement.constraint.name
    figures.append((f"Gap in {name}, rows of the fit", number(estimator.train_gap_), ""))
    if estimator.unseen_gap_ is not None:
        interval = ""
        if estimator.unseen_gap_interval_ is not None:
            interval = f"95% interval {shown(Span(*estimator.unseen_gap_interval_))}"
        expected = number(estimator.unseen_gap_)
        figures.append(("Gap expected for people not seen", expected, interval))
    return (_verdict(estimator, requirement), Figures(tuple(figures)))


def _verdict(estimator: Any, requirement: Requirement) -> Verdict:
    more = (
        "No certificate: measure it on rows that had no part in the fit, with fairness_report or "
        "certify.",
    )
    if requirement.tolerance is None or estimator.violation_ is None:
        text = "The fit had a penalty instead of a tolerance: there is no yes or no."
        return Verdict("open", "No tolerance", text, more)
    within = estimator.violation_ <= 0
    side = "Within" if within else "Above"
    tolerance = f"the tolerance {requirement.tolerance:g}"
    of = f"The gap in {requirement.constraint.name}"
    if estimator.unseen_gap_ is None:
        word = f"{side} the tolerance on the rows of the fit"
        text = f"{of} is {side.lower()} {tolerance} on the rows of the fit. "
        text += "On others it is larger: a network learns its rows by heart."
        return Verdict("open" if within else "no", word, text, more)
    text = f"{of} that is to be expected for people not seen is {number(estimator.unseen_gap_)}, "
    text += f"{side.lower()} {tolerance}."
    word = f"{side} the tolerance, by the fit's own estimate"
    return Verdict("yes" if within else "no", word, text, more)
