"""Whether columns have left what a fit has seen: a cheap sign, without labels and groups."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from fairprune_sk.fitting.fitted import Fitted
from fairprune_sk.networks.batch import in_blocks, n_rows

MARGIN = 0.1
"""A number is far out where it is further from the range of the fit than this part of its width.

Of new rows like the old ones some are a little outside always: a range ends with the last row.
"""


def drift_report(fitted: Fitted, X: Any, *, margin: float = MARGIN) -> pd.DataFrame:
    """Compare rows with what the fit has seen of each column.

    Parameters
    ----------
    fitted : Fitted
    X : as for ``predict``, checked
    margin : float
        Part of the width of a column's range by which a number must be outside of it to count.

    Returns
    -------
    DataFrame of shape (n_departed_columns, 5)
        One row for each column with a value that the fit had nothing like, by the column's name,
        the largest share first; none where all is as it was. ``unseen``, the share of rows with a
        category that is none of the fit's; ``out_of_range``, with a number far out; ``missing``,
        with no value, where the fit had one in every row; ``farthest``, how far the farthest number
        is outside, in widths of the range; ``read``, whether the pruned network reads the column.

    Raises
    ------
    ValueError
        If the network is not the default one, or the margin is negative.
    """
    if fitted.encoder is None:
        raise ValueError(
            "Got a network of your own, but only the encoder of the default network "
            "(estimator=None) knows what the columns held in fit."
        )
    if isinstance(margin, bool) or not isinstance(margin, Real) or not 0 <= float(margin):
        raise ValueError(f"Got margin={margin!r}, but expected a number that is not negative.")
    counts, farthest = 0, 0.0
    for block in X.blocks() if in_blocks(X) else [X]:
        found = fitted.encoder.departures(block)
        out = found["beyond"] > float(margin)
        counts = counts + np.array([found["unseen"].sum(0), out.sum(0), found["missing"].sum(0)])
        farthest = np.maximum(farthest, found["beyond"].max(axis=0))
    unseen, out_of_range, missing = counts / n_rows(X)
    names = fitted.feature_names
    if names is None:
        names = np.arange(len(unseen))
    report = pd.DataFrame(
        {
            "unseen": unseen,
            "out_of_range": out_of_range,
            "missing": missing,
            "farthest": farthest,
            "read": np.isin(names, fitted.selected_features),
        },
        index=pd.Index(names, name="column"),
    )
    shares = report[["unseen", "out_of_range", "missing"]].max(axis=1)
    return report.loc[shares[shares > 0].sort_values(ascending=False, kind="stable").index]
