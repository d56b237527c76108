"""Warnings about results that a user must not take for more than they are, and one error."""

from __future__ import annotations

import sys
import warnings
from itertools import count

# Modules whose frames lie between a user's line and what happens there.
_OURS = ("fairprune_sk.", "sklearn.callback")


class DivergedError(ValueError):
    """A loss, a weight or a logit is not finite: only training shows that, so no check before."""


class ConstraintNotMetWarning(UserWarning):
    """No network met the tolerance; the one with the smallest violation was returned."""


class CollapseWarning(UserWarning):
    """The pruned network predicts (almost) one class only."""


class SuspectColumnWarning(UserWarning):
    """A column teaches a network nothing, or gives the target away."""


class SmallGroupWarning(UserWarning):
    """Groups with too few rows, or rows that no comparison covers, are outside the constraint."""


def warn_at_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line of the user's that called, however deep in this package."""
    for depth in count(1):
        module = sys._getframe(depth).f_globals.get("__name__", "")
        if not module.startswith(_OURS) or sys._getframe(depth).f_back is None:
            warnings.warn(message, category, stacklevel=depth + 1)
            return
