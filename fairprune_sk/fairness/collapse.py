"""When a classifier has collapsed: one rule, for the warning of a fit and for every report."""

from __future__ import annotations

import numpy as np

LABEL_SHARE = 0.1
"""A class is hardly predicted where that is for less than this share of the rows that have it.

A sound classifier of a rare class predicts it less often than it occurs; where the dense network
does not, a larger share (``COLLAPSE_SHARE``) is too small for the pruned one.
"""

COLLAPSE_SHARE = 0.25


def hardly_predicted(
    predicted: np.ndarray, labelled: np.ndarray, dense: np.ndarray | None = None
) -> np.ndarray:
    """Classes that a classifier hardly predicts, any of them: it has collapsed where there is one.

    Rates near 0 or 1 are near each other without being fair, so that no gap speaks for it.

    Parameters
    ----------
    predicted, labelled : ndarray of shape (n_classes,)
        Fraction of the rows that it predicts each class for, and of those that have it.
    dense : ndarray of shape (n_classes,), optional
        What the dense network predicts, for a pruned one.

    Returns
    -------
    ndarray of shape (n_classes,), bool
    """
    hardly = predicted < LABEL_SHARE * labelled
    hardly |= (predicted == 0) & (np.count_nonzero(predicted) == 1)
    if dense is not None:
        hardly |= predicted < COLLAPSE_SHARE * np.minimum(dense, labelled)
    return hardly
