"""Tables of a search over sparsities and tolerances: its surface, its front, its results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata


def surface_of(
    cells: list[tuple[float, float]], scores: np.ndarray, gaps: list[Any]
) -> pd.DataFrame:
    """Lay cells out as a table, one row for each.

    Parameters
    ----------
    cells : list of (sparsity, tolerance)
    scores : ndarray of shape (n_cells, n_splits)
    gaps : list of GapEstimate or None
        Of all held-out rows; None where nothing is compared.

    Returns
    -------
    DataFrame of shape (n_cells, 9)
    """
    names = {
        "gap": "corrected",
        "gap_low": "low",
        "gap_high": "high",
        "raw_gap": "gap",
        "noise_floor": "noise_floor",
    }
    columns = {
        name: [np.nan if gap is None else getattr(gap, part) for gap in gaps]
        for name, part in names.items()
    }
    return pd.DataFrame(
        {
            "sparsity": [sparsity for sparsity, _ in cells],
            "tolerance": [tolerance for _, tolerance in cells],
            "accuracy": scores.mean(1),
            "accuracy_se": pd.DataFrame(scores).sem(axis=1),
            **columns,
        }
    )


def front_of(surface: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that no other beats: none is as good in all three, and better in one.

    Parameters
    ----------
    surface : DataFrame
        As :func:`surface_of` gives it.

    Returns
    -------
    DataFrame
    """
    values = surface[["sparsity", "accuracy"]].assign(gap=-surface["gap"].fillna(0)).to_numpy()
    return surface[unbeaten(values)].reset_index(drop=True)


def unbeaten(values: np.ndarray) -> np.ndarray:
    """Whether no other row is at least as good in everything and better in something.

    Parameters
    ----------
    values : ndarray of shape (n, n_values)
        The larger, the better; all known.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    beaten = [((values >= row).all(1) & (values > row).any(1)).any() for row in values]
    return ~np.array(beaten, dtype=bool)


def results_of(
    cells: list[tuple[float, float]],
    scores: np.ndarray,
    gaps: np.ndarray,
    seconds: np.ndarray,
    surface: pd.DataFrame,
) -> dict[str, Any]:
    """Lay cells out as ``GridSearchCV`` does.

    Parameters
    ----------
    cells : list of (sparsity, tolerance)
    scores, gaps, seconds : ndarray of shape (n_cells, n_splits)
        Raw gaps of single folds.
    surface : DataFrame
        Whose corrected gap becomes the mean one.

    Returns
    -------
    dict of arrays of shape (n_cells,)
    """
    results: dict[str, Any] = {
        "mean_fit_time": seconds.mean(1),
        "std_fit_time": seconds.std(1),
        "param_sparsity": np.ma.array([sparsity for sparsity, _ in cells]),
        "param_tolerance": np.ma.array([tolerance for _, tolerance in cells]),
        "params": [{"sparsity": sparsity, "tolerance": tolerance} for sparsity, tolerance in cells],
    }
    for name, values in {"accuracy": scores, "gap": -gaps}.items():
        for split in range(values.shape[1]):
            results[f"split{split}_test_{name}"] = values[:, split]
        mean = values.mean(1) if name == "accuracy" else -surface["gap"].to_numpy()
        results[f"mean_test_{name}"] = mean
        results[f"std_test_{name}"] = values.std(1)
        ranked = np.where(np.isnan(mean), -np.inf, mean)
        results[f"rank_test_{name}"] = rankdata(-ranked, method="min").astype(np.int32)
    return results
