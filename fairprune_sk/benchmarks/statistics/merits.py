"""What methods reach: the excess gap cut, accuracy at an equal gap, iterations to a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairprune_sk.benchmarks.statistics.comparisons import checked_competitors, pairs
from fairprune_sk.benchmarks.statistics.fronts import accuracy_on
from fairprune_sk.benchmarks.statistics.results import (
    CELL,
    DATA_SET,
    EQUAL,
    UNAWARE,
    at_every_sparsity,
    at_sparsity,
    checked,
)
from fairprune_sk.benchmarks.statistics.significance import (
    TTest,
    corrected_t_test,
    holm,
)


def excess_cut(
    results: pd.DataFrame,
    fair: str = "fairpruner",
    unaware: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Tell which share of the gap beyond noise a fair method takes away, and what it costs.

    The excess is the mean gap less the mean noise floor, and the share 1 − excess of the fair
    method / excess of the unaware one: 1 where nothing but noise is left, more where the gap is
    below what noise shows on average, negative where it has grown. Only seeds at which both
    methods have a fit count.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the package.
    fair : str
    unaware : sequence of str, optional
        By default those of :data:`UNAWARE` that are there.

    Returns
    -------
    DataFrame
        One block for each unaware method, one row for each cell and tolerance. ``gap``,
        ``noise_floor``, ``excess`` and ``points_lost`` (100 · (dense accuracy − accuracy)) once
        with ``_fair`` and once with ``_unaware``; ``share_cut``, NaN with a ``reason`` where the
        unaware excess is not positive; ``n_seeds`` and ``n_unpaired``.

    Raises
    ------
    ValueError
        If a method or a column is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import excess_cut
    >>> fit = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds", "seed": 0}
    >>> fit |= {"sparsity": 0.9, "tolerance": float("nan"), "error": "", "accuracy": 0.8}
    >>> fit |= {"noise_floor": 0.02, "dense_accuracy": 0.85}
    >>> results = pd.DataFrame([
    ...     fit | {"method": "fairpruner", "gap": 0.04}, fit | {"method": "snip", "gap": 0.12}
    ... ])
    >>> print(f"{excess_cut(results)['share_cut'].item():.0%}")
    80%
    """
    frame = at_every_sparsity(checked(results, ["noise_floor", "dense_accuracy"]))
    found = set(frame["method"])
    if unaware is None and not found & set(UNAWARE):
        raise ValueError(f"Got results without any of {UNAWARE}: say with unaware= which.")
    unaware = [unaware] if isinstance(unaware, str) else unaware
    methods = [m for m in UNAWARE if m in found] if unaware is None else list(unaware)
    methods = checked_competitors(frame, fair, methods)
    rows = []
    columns = ["gap", "noise_floor", "accuracy", "dense_accuracy"]
    for pair in pairs(frame, fair, methods, columns):
        seeds = pair.seeds.dropna(subset=["gap", "gap_other"])
        row: dict[str, Any] = {
            "unaware": pair.competitor,
            **dict(zip(CELL, pair.cell, strict=True)),
        }
        row["tolerance"] = pair.tolerance
        for end, name in {"": "fair", "_other": "unaware"}.items():
            row |= {f"{c}_{name}": seeds[f"{c}{end}"].mean() for c in ("gap", "noise_floor")}
            row[f"excess_{name}"] = row[f"gap_{name}"] - row[f"noise_floor_{name}"]
            lost = seeds[f"dense_accuracy{end}"] - seeds[f"accuracy{end}"]
            row[f"points_lost_{name}"] = 100 * lost.mean()
        reason = pair.note or ("" if len(seeds) else "no seed in common")
        ours, theirs = row["excess_fair"], row["excess_unaware"]
        if not reason and np.isnan([ours, theirs]).any():
            reason = "no noise floor"
        if not reason and theirs <= EQUAL:
            reason = f"the excess of {pair.competitor} is not positive"
        row["share_cut"] = np.nan if reason else 1 - ours / theirs
        row |= {"n_seeds": len(seeds), "n_unpaired": len(pair.seeds) - len(seeds)}
        rows.append(row | {"reason": reason})
    if not rows:
        raise ValueError(f"Got no cell that has both {fair!r} and one of {methods}.")
    order = {name: i for i, name in enumerate(methods)}
    table = pd.DataFrame(rows)
    return table.sort_values(
        "unaware", key=lambda c: c.map(order), kind="stable", ignore_index=True
    )


def accuracy_at_gap(
    results: pd.DataFrame,
    front: str = "fairpruner",
    competitors: Sequence[str] | None = None,
    *,
    sparsity: float = 0.9,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare accuracies at an equal achieved gap.

    One method has a front over its tolerances: the points that no other of its points beats,
    joined by straight lines, and level beyond the last. At the gap that a competitor achieved,
    how accurate is the front?

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the package.
    front : str
        The method whose front is drawn.
    competitors : sequence of str, optional
        By default all other methods. Each of their tolerances is a row.
    sparsity : float
        Dense methods take part at each.
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row for each data set, competitor and tolerance of the competitor. ``gap`` and
        ``accuracy`` are its means, ``front_accuracy`` that of the mean front at this gap, and
        ``difference`` the front's less the competitor's; NaN with a ``reason`` where the front
        does not reach so small a gap. ``seed_difference``, ``low``, ``high``, ``p_value`` and
        ``p_holm`` do the same seed by seed, with a :func:`corrected_t_test`: they rest on
        ``n_seeds`` seeds whose own front reaches the gap, leave out ``n_undefined`` whose front
        does not or whose fit failed, and so speak for the former only.

    Raises
    ------
    ValueError
        If a method, the sparsity or a column is unknown.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import accuracy_at_gap
    >>> fit = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds", "seed": 0}
    >>> fit |= {"sparsity": 0.9, "error": "", "n_train": 800, "n_test": 200}
    >>> ours = fit | {"method": "fairpruner"}
    >>> results = pd.DataFrame([
    ...     ours | {"tolerance": 0.02, "accuracy": 0.80, "gap": 0.02},
    ...     ours | {"tolerance": 0.10, "accuracy": 0.84, "gap": 0.10},
    ...     fit | {"method": "snip", "accuracy": 0.81, "gap": 0.06},
    ... ])
    >>> row = accuracy_at_gap(results).iloc[0]
    >>> print(f"{row.front_accuracy:.2f} against {row.accuracy:.2f}")
    0.82 against 0.81
    """
    frame = at_every_sparsity(checked(results, ["n_train", "n_test"]))
    others = checked_competitors(frame, front, competitors)
    frame = at_sparsity(frame, sparsity)
    rows = []
    for data_set, part in frame.groupby(DATA_SET):
        ours = part[(part["method"] == front) & ~part["failed"]]
        mean_front = ours.groupby("tolerance", dropna=False)[["accuracy", "gap"]].mean()
        keys = dict(zip(DATA_SET, data_set, strict=True))
        theirs = part[part["method"].isin(others)]
        for (method, tolerance), fits in theirs.groupby(["method", "tolerance"], dropna=False):
            good = fits[~fits["failed"]]
            gap, accuracy = good["gap"].mean(), good["accuracy"].mean()
            level = accuracy_on(mean_front, gap)
            reason = ""
            if mean_front.empty:
                reason = f"no fit of {front}"
            elif good.empty:
                reason = f"no fit of {method}"
            elif np.isnan(level):
                reason = f"below the smallest gap of {front}, {mean_front['gap'].min():.4f}"
            by_seed = np.array([
                accuracy_on(ours[ours["seed"] == fit.seed], fit.gap) - fit.accuracy
                for fit in good.itertuples()
            ], dtype=float)  # fmt: skip
            defined = ~np.isnan(by_seed)
            test = TTest(*[np.nan] * 5)
            if defined.any():
                sizes = good["n_train"].mean(), good["n_test"].mean()
                test = corrected_t_test(by_seed[defined], *sizes, confidence=confidence)
            row = keys | {"competitor": method, "tolerance": tolerance, "gap": gap}
            row |= {"accuracy": accuracy, "front_accuracy": level, "difference": level - accuracy}
            row |= {"seed_difference": test.mean, "low": test.low, "high": test.high}
            row |= {"p_value": test.p_value, "n_seeds": int(defined.sum())}
            row |= {"n_undefined": len(fits) - int(defined.sum()), "reason": reason}
            rows.append(row)
    if not rows:
        raise ValueError(f"Got no fit of {others} at sparsity={sparsity}.")
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p_value") + 1, "p_holm", holm(table["p_value"]))
    return table


def iterations_to_reach(
    convergence: pd.DataFrame,
    target_accuracy: float | None = None,
    target_gap: float | None = None,
) -> pd.DataFrame:
    """Find the smallest budget with which a method is as accurate and as fair as asked.

    Parameters
    ----------
    convergence : DataFrame
        One row for each fit: ``table``, ``sensitive``, ``constraint``, ``method``, ``n_iter``
        (the budget), ``seed``, ``accuracy``, ``gap``. Rows with a NaN among the last two are
        left out.
    target_accuracy, target_gap : float, optional
        By default the columns of that name, one value for each data set.

    Returns
    -------
    DataFrame
        One row for each data set and method: both targets; ``n_iter``, the smallest budget whose
        mean accuracy over seeds is at least, and mean gap at most the target, NaN if there is
        none; ``accuracy``, ``gap`` and ``n_seeds`` there.

    Raises
    ------
    ValueError
        If a column or a target is missing, or a data set has more than one target.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import iterations_to_reach
    >>> convergence = pd.DataFrame({
    ...     "table": "adult", "sensitive": "sex", "constraint": "equalized_odds",
    ...     "method": "fairpruner", "seed": 0, "n_iter": [100, 200, 400],
    ...     "accuracy": [0.80, 0.83, 0.84], "gap": [0.02, 0.08, 0.04],
    ... })
    >>> int(iterations_to_reach(convergence, 0.82, 0.05)["n_iter"].item())
    400
    """
    targets = {"target_accuracy": target_accuracy, "target_gap": target_gap}
    needed = [*DATA_SET, "method", "n_iter", "seed", "accuracy", "gap"]
    needed += [name for name, target in targets.items() if target is None]
    missing = [name for name in needed if name not in convergence]
    if missing:
        raise ValueError(f"Got convergence without {missing}, but expected columns {needed}.")
    frame = convergence.assign(**{k: v for k, v in targets.items() if v is not None})
    rows = []
    for data_set, part in frame.groupby(DATA_SET):
        target = {name: part[name].unique().tolist() for name in targets}
        for name, found in target.items():
            if len(found) != 1:
                raise ValueError(f"Got {name}={found} for {data_set}, but expected one.")
        for method, fits in part.groupby("method", sort=False):
            fits = fits.dropna(subset=["accuracy", "gap"]).groupby("n_iter")
            means = fits[["accuracy", "gap"]].mean().assign(n_seeds=fits.size())
            enough = means["accuracy"] >= target["target_accuracy"][0] - EQUAL
            reached = means[enough & (means["gap"] <= target["target_gap"][0] + EQUAL)]
            row = dict(zip(DATA_SET, data_set, strict=True)) | {"method": method}
            row |= {name: found[0] for name, found in target.items()} | {"n_iter": np.nan}
            row |= {"accuracy": np.nan, "gap": np.nan, "n_seeds": 0}
            if len(reached):
                row |= {"n_iter": reached.index[0], **reached.iloc[0].to_dict()}
                row["n_seeds"] = int(row["n_seeds"])
            rows.append(row)
    return pd.DataFrame(rows)
