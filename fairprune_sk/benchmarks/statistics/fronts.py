"""Accuracy and gap at once: Pareto fronts, and the area that they dominate."""

from __future__ import annotations

import moocore
import numpy as np
import pandas as pd

from fairprune_sk.benchmarks.statistics.results import CELL, DATA_SET, EQUAL, checked


def pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """Keep the points that no other beats: at least as accurate, and a gap at most as large.

    Parameters
    ----------
    points : DataFrame
        With the columns ``accuracy`` and ``gap``. Rows with a NaN among them are left out.

    Returns
    -------
    DataFrame
        The rows on the front, by rising gap, and so by rising accuracy. Of equal points, the
        first.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import pareto_front
    >>> points = pd.DataFrame({"accuracy": [0.85, 0.80, 0.82], "gap": [0.10, 0.05, 0.11]})
    >>> pareto_front(points)
       accuracy   gap
    1      0.80  0.05
    0      0.85  0.10
    """
    missing = [name for name in ("accuracy", "gap") if name not in points]
    if missing:
        raise ValueError(f"Got points without {missing}, but expected columns accuracy and gap.")
    points = points.dropna(subset=["accuracy", "gap"])
    if points.empty:
        return points
    plane = points[["accuracy", "gap"]].to_numpy(dtype=float)
    return points[moocore.is_nondominated(plane, maximise=[True, False])].sort_values("gap")


def accuracy_on(front: pd.DataFrame, gap: float) -> float:
    """Accuracy of a front at a gap; NaN below its smallest.

    Between two points, tossing a coin for each row decides by one network or the other: that has
    the interpolated accuracy, and at most the interpolated gap, which is convex in the rates.
    """
    front = pareto_front(front)
    if front.empty or np.isnan(gap) or gap < front["gap"].iloc[0] - EQUAL:
        return np.nan
    return float(np.interp(gap, front["gap"], front["accuracy"]))


def hypervolume(results: pd.DataFrame) -> pd.DataFrame:
    """Measure the area that each method dominates in the plane of gap and accuracy.

    A method's points are its fits of one seed over all tolerances. The area is cut off at a
    reference point, and divided by the area between that and the ideal, a gap of 0 and an
    accuracy of 1: it is 1 for the ideal, and 0 for points that are nowhere better than the
    reference. The reference has the accuracy of a constant classifier (the mean
    ``majority_share``) and the largest gap of any fit of the data set, dense ones included.

    The reference comes from ``results``, so that hypervolumes of the same call can be compared,
    those of different calls cannot.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the package.

    Returns
    -------
    DataFrame
        One row for each cell, method and seed: ``hypervolume`` in [0, 1], NaN where all fits
        failed or the reference is the ideal itself; ``n_points``, ``n_failed``,
        ``reference_accuracy``, ``reference_gap``, ``n_train`` and ``n_test``.

    Raises
    ------
    ValueError
        If a column is missing, or a fit is there twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import hypervolume
    >>> fit = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds", "seed": 0}
    >>> fit |= {"method": "fairpruner", "sparsity": 0.9, "error": "", "dense_gap": 0.2}
    >>> fit |= {"majority_share": 0.75, "n_train": 800, "n_test": 200}
    >>> results = pd.DataFrame([
    ...     fit | {"tolerance": 0.05, "accuracy": 0.80, "gap": 0.05},
    ...     fit | {"tolerance": 0.10, "accuracy": 0.85, "gap": 0.10},
    ... ])

    Two rectangles: 0.10 of the gap at 0.85 − 0.75, and 0.05 more at 0.80 − 0.75, in a box of
    0.2 by 0.25:

    >>> print(f"{hypervolume(results)['hypervolume'].item():.2f}")
    0.25
    """
    frame = checked(results, ["dense_gap", "majority_share", "n_train", "n_test"])
    rows = []
    for _, part in frame.groupby(DATA_SET):
        worst = float(part[["gap", "dense_gap"]].max().max())
        constant = float(part["majority_share"].mean())
        box = worst * (1 - constant)
        for key, fits in part.groupby([*CELL, "method", "seed"]):
            points = fits.loc[~fits["failed"], ["gap", "accuracy"]].to_numpy(dtype=float)
            area = np.nan
            if len(points) and box > 0:
                reference = [worst, constant]
                area = moocore.hypervolume(points, ref=reference, maximise=[False, True]) / box
            row = dict(zip([*CELL, "method", "seed"], key, strict=True)) | {"hypervolume": area}
            row |= {"n_points": len(points), "n_failed": int(fits["failed"].sum())}
            row |= {"reference_accuracy": constant, "reference_gap": worst}
            row |= {name: fits[name].mean() for name in ("n_train", "n_test")}
            rows.append(row)
    return pd.DataFrame(rows)
