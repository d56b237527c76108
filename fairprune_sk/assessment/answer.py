"""The answer that a report begins with: whether the gap is within the tolerance elsewhere."""

from __future__ import annotations

import numpy as np

from fairprune_sk.assessment.certificate import Certificate
from fairprune_sk.assessment.noise import GapEstimate
from fairprune_sk.assessment.notes import listed
from fairprune_sk.documents.blocks import number
from fairprune_sk.fairness.requirement import Requirement


def answer_lines(
    requirement: Requirement,
    estimate: GapEstimate,
    certificate: Certificate | None,
    level: float,
    seen: bool,
) -> list[str]:
    """Say whether the gap is within the tolerance for people not seen, and what is known of it.

    Parameters
    ----------
    requirement : Requirement
        With a tolerance.
    estimate : GapEstimate
        Of its gap.
    certificate : Certificate or None
    level : float
        Of both.
    seen : bool
        Whether these are the training rows.

    Returns
    -------
    list of str
        The answer, and a line of figures.
    """
    confidence = f"{level * 100:g}%"
    question = (
        f"Is the gap in {requirement.constraint.name} within {requirement.tolerance:g} for people "
        "not seen?"
    )
    figures = (
        f"Best estimate {number(estimate.corrected)} ({confidence} interval "
        f"{number(estimate.low)} to {number(estimate.high)}); on these rows it is "
        f"{number(estimate.gap)}, where equal rates would show {number(estimate.noise_floor)}."
    )
    if seen:
        return [f"{question} These rows cannot tell: the network was trained on them."]
    if certificate is None:
        return [f"{question} Not certified on rows like these.", figures]
    bounds = {
        "within": f"Yes: it is at most {number(certificate.upper)}, with {confidence} confidence.",
        "above": f"No: it is at least {number(certificate.lower)}, with {confidence} confidence.",
        "cannot tell": f"Cannot tell: it may be {number(certificate.lower)} to "
        f"{number(certificate.upper)}, with {confidence} confidence for either end.",
    }
    assert certificate.verdict is not None
    lines = [f"{question} {bounds[certificate.verdict]}"]
    needed = certificate.rows_needed.replace(np.inf, np.nan).dropna()
    if len(needed):
        wanted = [f"{n:,.0f} of {name!r}" for name, n in needed.items()]
        lines.append(f"About how many rows would tell, in all: {listed(wanted)}.")
    return [*lines, figures]
