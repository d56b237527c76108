"""Warnings about results that a user must not take for more than they are."""


class ConstraintNotMetWarning(UserWarning):
    """No network met the tolerance; the one with the smallest violation was returned."""


class CollapseWarning(UserWarning):
    """The pruned network predicts (almost) one class only."""


class SmallGroupWarning(UserWarning):
    """Groups with too few rows were left out of the constraint."""
