"""What can be said from the results of a benchmark: intervals, tests, fronts, ranks.

Everything reads one tidy DataFrame, ``results``, with one row for each fit and measured gap:

``table``, ``sensitive``, ``constraint``
    The data set: where, between whose groups, and which gap the row measures.
``method``, ``sparsity``, ``tolerance``, ``seed``
    The fit. The sparsity of a dense method is 0, the tolerance of a method without one NaN.
``accuracy``, ``gap``, ``noise_floor``, ``dense_accuracy``, ``dense_gap``, ``majority_share``
    Measured on the test part, as fractions; the last is the accuracy of a constant classifier.
``n_train``, ``n_test``
    Rows of the two parts.
``error``
    Why the fit failed; empty where it did not.

A *cell* is a data set at one sparsity. A method that was only ever run at sparsity 0 is dense and
takes part in the comparisons at every sparsity. Failed fits, and those whose accuracy or gap is
NaN, are left out and counted; a seed that one of two methods lost is lost to their comparison.

Needs the extra ``benchmark``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

try:
    import moocore
    import scikit_posthocs
    from statsmodels.stats.multitest import multipletests
except ImportError as error:
    raise ImportError(
        "fairprune_sk.benchmarks.statistics needs moocore, scikit-posthocs and statsmodels: "
        "pip install fairprune_sk[benchmark]"
    ) from error

DATA_SET = ["table", "sensitive", "constraint"]
"""Columns that name a data set."""

CELL = [*DATA_SET, "sparsity"]
"""Columns that name a cell."""

FIT = [*CELL, "method", "tolerance"]
"""Columns that name a fit, up to its seed."""

UNAWARE = ("magnitude", "lottery_ticket", "snip", "grasp", "fpgm", "bip", "random")
"""Methods that prune without looking at groups."""

VALUES = {"accuracy": True, "gap": False, "hypervolume": True}
"""What methods are compared by, and whether more of it is better."""

_EQUAL = 1e-12  # differences of fractions that are rounding alone


class Interval(NamedTuple):
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float


class TTest(NamedTuple):
    """A test of whether a mean is 0, and the mean's confidence interval."""

    statistic: float
    p_value: float
    mean: float
    low: float
    high: float


class Ranks(NamedTuple):
    """Ranks of methods over data sets, and whether they differ."""

    ranks: pd.Series
    """Average rank of each method, 1 being the best; the best first."""
    scores: pd.DataFrame
    """What was ranked: a row for each data set, a column for each method."""
    statistic: float
    """Friedman's."""
    p_value: float
    """Friedman's: of all methods being the same."""
    posthoc: pd.DataFrame
    """p-value of each pair of methods, adjusted for the number of pairs."""
    critical_difference: float
    """Nemenyi's: ranks that are further apart differ. NaN for Wilcoxon's test."""


# --- what goes in ---


def checked(results: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Check results, and mark the fits that cannot be used.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the module.
    columns : sequence of str
        Columns that are needed beside those that name a fit, accuracy, gap and error.

    Returns
    -------
    DataFrame
        With a column ``failed``; accuracy, gap and ``columns`` are NaN where it is True.

    Raises
    ------
    ValueError
        If a column is missing, or a fit is there twice.
    """
    figures = list(dict.fromkeys(["accuracy", "gap", *columns]))
    needed = [*FIT, "seed", "error", *figures]
    missing = [name for name in needed if name not in results]
    if missing:
        raise ValueError(f"Got results without {missing}, but expected the columns {needed}.")
    frame = results.reset_index(drop=True)
    # A grid made of sums or read from a file has 0.7 and 0.7000000000000001.
    frame = frame.assign(
        sparsity=frame["sparsity"].astype(float).round(9),
        tolerance=frame["tolerance"].astype(float).round(9),
    )
    twice = frame.duplicated([*FIT, "seed"])
    if twice.any():
        first = frame.loc[twice, [*FIT, "seed"]].iloc[0].to_dict()
        raise ValueError(f"Got more than one row of {first}, but expected one for each seed.")
    # An empty string that went through a CSV file comes back as NaN.
    error = frame["error"].astype(object).fillna("").astype(str) != ""
    failed = error | frame[["accuracy", "gap"]].isna().any(axis=1)
    frame[figures] = frame[figures].astype(float)
    frame.loc[failed, figures] = np.nan
    return frame.assign(failed=failed)


def at_every_sparsity(frame: pd.DataFrame) -> pd.DataFrame:
    """Let dense methods, those that were only run at sparsity 0, take part at every sparsity.

    Parameters
    ----------
    frame : DataFrame
        With the columns of a cell, and ``method``.

    Returns
    -------
    DataFrame
        Their rows are repeated at each other sparsity of the same data set.
    """
    dense = frame.groupby("method")["sparsity"].transform("max") == 0
    others = frame.loc[~dense & (frame["sparsity"] > 0), CELL].drop_duplicates()
    repeated = frame[dense].drop(columns="sparsity").merge(others, on=DATA_SET)
    parts = [part for part in (frame, repeated[frame.columns]) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else frame


def at_tolerance(frame: pd.DataFrame, tolerance: float | None) -> pd.DataFrame:
    """Keep one tolerance of each method.

    Parameters
    ----------
    frame : DataFrame
        With the columns ``method`` and ``tolerance``.
    tolerance : float or None
        The one to keep of the methods that were fitted at several.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If a method has several tolerances and this is not one of them.
    """
    kept = []
    for method, part in frame.groupby("method", sort=False):
        found = sorted(part["tolerance"].dropna().unique().tolist())
        if len(found) > 1:
            if tolerance is None or not np.isclose(found, tolerance).any():
                raise ValueError(
                    f"Got tolerance={tolerance}, but expected one of {found}, at which "
                    f"{method!r} was fitted."
                )
            part = part[np.isclose(part["tolerance"], tolerance)]
        kept.append(part)
    return pd.concat(kept).sort_index() if kept else frame


def _only_present(frame: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """Check that methods are in the results."""
    found = frame["method"].unique().tolist()
    methods = [methods] if isinstance(methods, str) else list(methods)
    for method in methods:
        if method not in found:
            raise ValueError(f"Got the method {method!r}, but expected one of {found}.")
    return methods


def _at_sparsity(frame: pd.DataFrame, sparsity: float) -> pd.DataFrame:
    """Keep one sparsity."""
    kept = frame[np.isclose(frame["sparsity"], sparsity)]
    if kept.empty:
        found = sorted(frame["sparsity"].unique().tolist())
        raise ValueError(f"Got sparsity={sparsity}, but expected one of {found}.")
    return kept


# --- means over seeds ---


def mean_interval(values: Any, confidence: float = 0.95) -> Interval:
    """Mean of independent values and Student's t interval of it.

    Parameters
    ----------
    values : array-like of shape (n,)
        One for each seed.
    confidence : float
        Probability that the interval covers the mean.

    Returns
    -------
    Interval
        ``mean``, ``low``, ``high``, in the units of the values. The ends are NaN for fewer than
        two values, the mean is for none.

    Raises
    ------
    ValueError
        If a value is NaN, or the confidence is not in (0, 1).

    Examples
    --------
    >>> from fairprune_sk.benchmarks.statistics import mean_interval
    >>> mean, low, high = mean_interval([0.80, 0.82, 0.84])
    >>> print(f"{mean:.2f} [{low:.3f}, {high:.3f}]")
    0.82 [0.770, 0.870]
    """
    if not 0 < confidence < 1:
        raise ValueError(f"Got confidence={confidence}, but expected a number in (0, 1).")
    v = np.asarray(values, dtype=float)
    if np.isnan(v).any():
        raise ValueError(
            f"Got {np.isnan(v).sum()} NaN of {len(v)} values, but expected numbers: leave failed "
            "fits out first."
        )
    if len(v) < 2:
        return Interval(float(v[0]) if len(v) else np.nan, np.nan, np.nan)
    mean = float(v.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(v) - 1) * v.std(ddof=1) / np.sqrt(len(v)))
    return Interval(mean, mean - half, mean + half)


def summarise(results: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Average every method over its seeds, cell by cell.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the module.
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        One row for each cell, method and tolerance. ``accuracy`` and ``gap`` are means, with
        ``_low``, ``_high`` (Student's t interval) and ``_sd``; ``noise_floor`` is a mean, and
        ``excess_gap`` the mean gap less it, negative where the gap is below the noise.
        ``points_lost`` is 100 · (dense accuracy − accuracy). ``n_seeds`` fits are behind the row;
        ``n_failed`` more failed, and a row of which all failed has NaN figures.

    Raises
    ------
    ValueError
        If a column is missing, or a fit is there twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import summarise
    >>> fit = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds"}
    >>> fit |= {"method": "snip", "sparsity": 0.9, "tolerance": float("nan"), "error": ""}
    >>> fit |= {"noise_floor": 0.02, "dense_accuracy": 0.85}
    >>> results = pd.DataFrame([
    ...     fit | {"seed": 0, "accuracy": 0.82, "gap": 0.10},
    ...     fit | {"seed": 1, "accuracy": 0.84, "gap": 0.12},
    ... ])
    >>> row = summarise(results).iloc[0]
    >>> print(f"{row.accuracy:.2f} {row.points_lost:.1f} {row.excess_gap:.2f} {row.n_seeds}")
    0.83 2.0 0.09 2
    """
    frame = checked(results, ["noise_floor", "dense_accuracy"])
    rows = []
    for fit, part in frame.groupby(FIT, dropna=False):
        good = part[~part["failed"]]
        row: dict[str, Any] = dict(zip(FIT, fit, strict=True))
        for name in ("accuracy", "gap"):
            interval = mean_interval(good[name], confidence)
            row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
            row[f"{name}_sd"] = good[name].std()
        row["noise_floor"] = good["noise_floor"].mean()
        row["excess_gap"] = row["gap"] - row["noise_floor"]
        row["points_lost"] = 100 * (good["dense_accuracy"] - good["accuracy"]).mean()
        row |= {"n_seeds": len(good), "n_failed": int(part["failed"].sum())}
        rows.append(row)
    return pd.DataFrame(rows)


# --- comparing two methods ---


def corrected_t_test(
    differences: Any,
    n_train: float,
    n_test: float,
    *,
    alternative: str = "two-sided",
    confidence: float = 0.95,
) -> TTest:
    """Test whether a mean difference is 0, with Nadeau and Bengio's corrected resampled t-test.

    Random splits of one table share rows, so that J differences are not independent and the
    usual variance of their mean, s² / J, is too small. Here it is (1/J + n_test/n_train) · s².

    Parameters
    ----------
    differences : array-like of shape (J,)
        Of two methods, one for each split.
    n_train, n_test : float
        Rows of the two parts of a split. With ``n_test=0`` this is the usual t-test.
    alternative : {"two-sided", "greater", "less"}
        What the p-value is of: a mean that is not 0, above 0, or below 0.
    confidence : float
        Of the interval, which has two sides for every alternative.

    Returns
    -------
    TTest
        ``statistic``, ``p_value``, ``mean``, ``low``, ``high``. All but the mean are NaN for one
        difference. Where all differences are the same, they have no variance: the p-value is
        that of a statistic of 0 if they are 0, and of ±infinity if they are not.

    Raises
    ------
    ValueError
        If there is no difference, one is NaN, or n_train is not positive.

    References
    ----------
    C. Nadeau and Y. Bengio, "Inference for the generalization error", Machine Learning 52, 2003.

    Examples
    --------
    >>> from fairprune_sk.benchmarks.statistics import corrected_t_test
    >>> test = corrected_t_test([0.02, 0.03, 0.01, 0.02], n_train=800, n_test=200)
    >>> print(f"{test.mean:.3f} [{test.low:.3f}, {test.high:.3f}] p={test.p_value:.3f}")
    0.020 [0.002, 0.038] p=0.041
    """
    tails = {
        "two-sided": lambda t, df: 2 * stats.t.sf(abs(t), df),
        "greater": stats.t.sf,
        "less": stats.t.cdf,
    }
    if alternative not in tails:
        raise ValueError(f"Got alternative={alternative!r}, but expected one of {list(tails)}.")
    if not 0 < confidence < 1:
        raise ValueError(f"Got confidence={confidence}, but expected a number in (0, 1).")
    if not (n_train > 0 and n_test >= 0):
        raise ValueError(f"Got n_train={n_train}, n_test={n_test}, but expected counts of rows.")
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or not len(d) or np.isnan(d).any():
        raise ValueError(f"Got differences={d.tolist()}, but expected at least one, and no NaN.")
    mean, df = float(d.mean()), len(d) - 1
    if df == 0:
        return TTest(np.nan, np.nan, mean, np.nan, np.nan)
    if np.ptp(d) <= _EQUAL:
        statistic = 0.0 if abs(mean) <= _EQUAL else float(np.copysign(np.inf, mean))
        return TTest(statistic, float(tails[alternative](statistic, df)), mean, mean, mean)
    scale = float(np.sqrt((1 / len(d) + n_test / n_train) * d.var(ddof=1)))
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * scale
    p_value = float(tails[alternative](mean / scale, df))
    return TTest(mean / scale, p_value, mean, mean - half, mean + half)


def holm(p_values: Any) -> np.ndarray:
    """Adjust p-values for their number, by Holm's step-down method.

    Parameters
    ----------
    p_values : array-like of shape (n,)
        NaN for a test that could not be made, which does not count.

    Returns
    -------
    ndarray of shape (n,)

    Examples
    --------
    >>> from fairprune_sk.benchmarks.statistics import holm
    >>> holm([0.01, float("nan"), 0.04])
    array([0.02,  nan, 0.04])
    """
    p = np.asarray(p_values, dtype=float)
    adjusted, made = np.full(len(p), np.nan), ~np.isnan(p)
    if made.any():
        adjusted[made] = multipletests(p[made], method="holm")[1]
    return adjusted


class _Pair(NamedTuple):
    """Two methods in one cell: a row for each seed that either has."""

    cell: tuple[Any, ...]
    competitor: str
    tolerance: float
    seeds: pd.DataFrame  # columns of the reference, and with "_other" of the competitor
    note: str


def _pairs(
    frame: pd.DataFrame, reference: str, competitors: Sequence[str], columns: list[str]
) -> Iterator[_Pair]:
    """Pair each competitor with the reference in every cell, by tolerance and seed."""
    nothing = frame.iloc[:0].set_index("seed")[columns]

    def by_tolerance(part: pd.DataFrame, method: str) -> list[tuple[float, pd.DataFrame]]:
        fits = part[part["method"] == method].groupby("tolerance", dropna=False)
        return [(float(t), fit.set_index("seed")[columns]) for t, fit in fits]

    for cell, part in frame.groupby(CELL):
        ours = by_tolerance(part, reference)
        if not ours:
            continue
        for competitor in competitors:
            for t, theirs in by_tolerance(part, competitor):
                # One without a tolerance is compared with every tolerance of the other.
                partners = [(u, f) for u, f in ours if u == t or np.isnan(u) or np.isnan(t)]
                for u, fits in partners:
                    seeds = fits.join(theirs.add_suffix("_other"), how="outer")
                    yield _Pair(cell, competitor, t if np.isnan(u) else u, seeds, "")
                if not partners:
                    seeds = nothing.join(nothing.add_suffix("_other"))
                    yield _Pair(cell, competitor, t, seeds, "no tolerance in common")


def _competitors(
    frame: pd.DataFrame, reference: str, competitors: Sequence[str] | None
) -> list[str]:
    """Check the methods that are compared; by default all others."""
    _only_present(frame, [reference])
    if competitors is not None:
        return _only_present(frame, competitors)
    others = [method for method in frame["method"].unique() if method != reference]
    if not others:
        raise ValueError(f"Got results of {reference!r} alone, but expected others beside it.")
    return others


def compare(
    results: pd.DataFrame,
    reference: str = "fairpruner",
    value: str = "gap",
    *,
    competitors: Sequence[str] | None = None,
    by: Sequence[str] = tuple(CELL),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare each method with one, paired by seed, and correct for the number of comparisons.

    Each comparison is a :func:`corrected_t_test`, and :func:`holm` counts all of the table.
    Methods are paired at the same tolerance; one that has none is compared with each tolerance
    of the other.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the module.
    reference : str
        The method that all others are compared with.
    value : {"gap", "accuracy", "hypervolume"}
        A :func:`hypervolume` is of all tolerances at once.
    competitors : sequence of str, optional
        By default all other methods.
    by : sequence of str
        Of the columns of a cell, those that are kept apart; over the others, the differences of
        a seed are averaged. A seed that lacks one of them is left out.
    confidence : float
        Of the interval of each difference, which is not corrected for their number.

    Returns
    -------
    DataFrame
        Columns ``by``, ``tolerance``, ``competitor``; ``difference`` (the reference less the
        competitor: above 0, the reference has more), ``low``, ``high``, ``p_value``, ``p_holm``;
        ``n_seeds`` behind it, ``n_unpaired`` seeds that either method lacks or failed at; and a
        ``note`` where no comparison was possible.

    Raises
    ------
    ValueError
        If a method, a column or the value is unknown, or there is nothing to compare.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import compare
    >>> fit = {"table": "adult", "sensitive": "sex", "constraint": "equalized_odds"}
    >>> fit |= {"sparsity": 0.9, "tolerance": float("nan"), "error": "", "accuracy": 0.8}
    >>> fit |= {"n_train": 800, "n_test": 200}
    >>> results = pd.DataFrame([
    ...     fit | {"method": method, "seed": seed, "gap": gap}
    ...     for method, gaps in {"fairpruner": [0.03, 0.04], "snip": [0.11, 0.13]}.items()
    ...     for seed, gap in enumerate(gaps)
    ... ])
    >>> row = compare(results, value="gap").iloc[0]
    >>> print(f"{row.competitor} {row.difference:.3f} p={row.p_holm:.2f}")
    snip -0.085 p=0.05
    """
    if value not in VALUES:
        raise ValueError(f"Got value={value!r}, but expected one of {list(VALUES)}.")
    by = [by] if isinstance(by, str) else list(by)
    if not by or not set(by) <= set(CELL):
        raise ValueError(f"Got by={by}, but expected some of {CELL}.")
    if value == "hypervolume":
        frame = hypervolume(results).assign(tolerance=np.nan)
    else:
        frame = checked(results, [value, "n_train", "n_test"])
    frame = at_every_sparsity(frame)
    others = _competitors(frame, reference, competitors)
    parts = []
    for pair in _pairs(frame, reference, others, [value, "n_train", "n_test"]):
        seeds = pair.seeds.reset_index()
        if seeds.empty:  # a row of its own, so that the note is not lost
            seeds = seeds.reindex([0])
        seeds["difference"] = seeds[value] - seeds[f"{value}_other"]
        for name, key in zip(CELL, pair.cell, strict=True):
            seeds[name] = key
        keys = {"tolerance": pair.tolerance, "competitor": pair.competitor, "note": pair.note}
        parts.append(seeds.assign(**keys))
    if not parts:
        raise ValueError(f"Got no cell that has both {reference!r} and one of {others}.")
    columns = [*by, "tolerance", "competitor"]
    rows = []
    for key, part in pd.concat(parts).groupby(columns, dropna=False):
        groups = part.dropna(subset="seed").groupby("seed")
        found = groups["difference"]
        differences = found.mean()[found.count() == found.size()]  # of seeds that lack no cell
        used = part[part["difference"].notna()]
        test = TTest(*[np.nan] * 5)
        if len(differences):
            sizes = used["n_train"].mean(), used["n_test"].mean()
            test = corrected_t_test(differences, *sizes, confidence=confidence)
        notes = [note for note in part["note"].unique() if note]
        if not len(differences) and not notes:
            notes = ["no seed in common"]
        row = dict(zip(columns, key, strict=True))
        row |= {"difference": test.mean, "low": test.low, "high": test.high}
        row |= {"p_value": test.p_value, "n_seeds": len(differences)}
        row |= {"n_unpaired": len(groups) - len(differences), "note": "; ".join(notes)}
        rows.append(row)
    table = pd.DataFrame(rows)
    table.insert(table.columns.get_loc("p_value") + 1, "p_holm", holm(table["p_value"]))
    return table


# --- accuracy and gap at once ---


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
        One row for each fit and gap; see the module.

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
        One row for each fit and gap; see the module.
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
    methods = _competitors(frame, fair, methods)
    rows = []
    columns = ["gap", "noise_floor", "accuracy", "dense_accuracy"]
    for pair in _pairs(frame, fair, methods, columns):
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
        if not reason and theirs <= _EQUAL:
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


def _accuracy_on(front: pd.DataFrame, gap: float) -> float:
    """Accuracy of a front at a gap; NaN below its smallest.

    Between two points, tossing a coin for each row decides by one network or the other: that has
    the interpolated accuracy, and at most the interpolated gap, which is convex in the rates.
    """
    front = pareto_front(front)
    if front.empty or np.isnan(gap) or gap < front["gap"].iloc[0] - _EQUAL:
        return np.nan
    return float(np.interp(gap, front["gap"], front["accuracy"]))


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
        One row for each fit and gap; see the module.
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
    others = _competitors(frame, front, competitors)
    frame = _at_sparsity(frame, sparsity)
    rows = []
    for data_set, part in frame.groupby(DATA_SET):
        ours = part[(part["method"] == front) & ~part["failed"]]
        mean_front = ours.groupby("tolerance", dropna=False)[["accuracy", "gap"]].mean()
        keys = dict(zip(DATA_SET, data_set, strict=True))
        theirs = part[part["method"].isin(others)]
        for (method, tolerance), fits in theirs.groupby(["method", "tolerance"], dropna=False):
            good = fits[~fits["failed"]]
            gap, accuracy = good["gap"].mean(), good["accuracy"].mean()
            level = _accuracy_on(mean_front, gap)
            reason = ""
            if mean_front.empty:
                reason = f"no fit of {front}"
            elif good.empty:
                reason = f"no fit of {method}"
            elif np.isnan(level):
                reason = f"below the smallest gap of {front}, {mean_front['gap'].min():.4f}"
            by_seed = np.array([
                _accuracy_on(ours[ours["seed"] == fit.seed], fit.gap) - fit.accuracy
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


# --- many methods over many data sets ---


def average_ranks(
    results: pd.DataFrame,
    value: str = "hypervolume",
    *,
    sparsity: float = 0.9,
    methods: Sequence[str] | None = None,
    tolerance: float | None = None,
    posthoc: str = "nemenyi",
    alpha: float = 0.05,
) -> Ranks:
    """Rank methods on each data set, and test whether their average ranks differ.

    Friedman's test asks whether any method differs, the post-hoc test which do. Both take the
    data sets as independent, which those of one table are not: the p-values are too small by
    what they share.

    Parameters
    ----------
    results : DataFrame
        One row for each fit and gap; see the module.
    value : {"hypervolume", "gap", "accuracy"}
        Averaged over seeds on each data set; the smallest gap is the best.
    sparsity : float
        Dense methods take part at each.
    methods : sequence of str, optional
        By default all, and at least three.
    tolerance : float, optional
        Needed for gap and accuracy of methods that were fitted at several.
    posthoc : {"nemenyi", "wilcoxon"}
        Nemenyi's test of average ranks, or Wilcoxon's signed-rank tests with Holm's correction,
        which do not depend on the other methods and need more data sets.
    alpha : float
        Level of the critical difference.

    Returns
    -------
    Ranks

    Raises
    ------
    ValueError
        If there are fewer than three methods or two data sets, or a method has no fit on one.

    References
    ----------
    J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.

    Examples
    --------
    >>> import pandas as pd
    >>> from fairprune_sk.benchmarks.statistics import average_ranks
    >>> gaps = {"fairpruner": 0.02, "snip": 0.10, "random": 0.12}
    >>> results = pd.DataFrame([
    ...     {"table": table, "sensitive": "sex", "constraint": "equalized_odds", "seed": 0,
    ...      "sparsity": 0.9, "tolerance": float("nan"), "error": "", "accuracy": 0.8,
    ...      "method": method, "gap": gap}
    ...     for table in ("adult", "acs", "law") for method, gap in gaps.items()
    ... ])
    >>> found = average_ranks(results, "gap")
    >>> print(found.ranks.to_dict(), f"p={found.p_value:.2f}")
    {'fairpruner': 1.0, 'snip': 2.0, 'random': 3.0} p=0.05
    """
    if value not in VALUES:
        raise ValueError(f"Got value={value!r}, but expected one of {list(VALUES)}.")
    if posthoc not in ("nemenyi", "wilcoxon"):
        raise ValueError(f"Got posthoc={posthoc!r}, but expected 'nemenyi' or 'wilcoxon'.")
    frame = hypervolume(results) if value == "hypervolume" else checked(results)
    frame = _at_sparsity(at_every_sparsity(frame), sparsity)
    if methods is not None:
        frame = frame[frame["method"].isin(_only_present(frame, methods))]
    if value != "hypervolume":
        frame = at_tolerance(frame, tolerance)
    scores = frame.groupby([*DATA_SET, "method"])[value].mean().unstack("method")
    for method, row in scores.isna().T.iterrows():
        if row.any():
            where = " / ".join(map(str, row.index[row][0]))
            raise ValueError(
                f"Got no {value} of {method!r} on {where} at sparsity={sparsity}, but expected "
                "every method on every data set: choose with methods=."
            )
    if len(scores) < 2 or len(scores.columns) < 3:
        raise ValueError(
            f"Got {len(scores.columns)} methods on {len(scores)} data sets, but expected at "
            "least 3 methods on 2 data sets."
        )
    # Equal numbers that were averaged in another order must tie.
    ranked = scores.round(12).rank(axis=1, ascending=not VALUES[value])
    ranks = ranked.mean().sort_values(kind="stable")
    scores, ranked = scores[ranks.index], ranked[ranks.index]
    statistic, p_value = 0.0, 1.0
    if (ranked.nunique(axis=1) > 1).any():  # otherwise 0 / 0
        statistic, p_value = stats.friedmanchisquare(*ranked.to_numpy().T)
    names, critical = list(ranks.index), np.nan
    if posthoc == "nemenyi":
        pairs = scikit_posthocs.posthoc_nemenyi_friedman(ranked.to_numpy())
        q = stats.studentized_range.ppf(1 - alpha, len(names), np.inf) / np.sqrt(2)
        critical = float(q * np.sqrt(len(names) * (len(names) + 1) / (6 * len(scores))))
    else:
        pairs = scikit_posthocs.posthoc_wilcoxon(
            scores.round(12).to_numpy().T, zero_method="zsplit", p_adjust="holm"
        )
    pairs = pairs.set_axis(names, axis=0).set_axis(names, axis=1)
    ranks.index.name = ranks.name = None
    return Ranks(ranks, scores, float(statistic), float(p_value), pairs, critical)


# --- how long it takes ---


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
            enough = means["accuracy"] >= target["target_accuracy"][0] - _EQUAL
            reached = means[enough & (means["gap"] <= target["target_gap"][0] + _EQUAL)]
            row = dict(zip(DATA_SET, data_set, strict=True)) | {"method": method}
            row |= {name: found[0] for name, found in target.items()} | {"n_iter": np.nan}
            row |= {"accuracy": np.nan, "gap": np.nan, "n_seeds": 0}
            if len(reached):
                row |= {"n_iter": reached.index[0], **reached.iloc[0].to_dict()}
                row["n_seeds"] = int(row["n_seeds"])
            rows.append(row)
    return pd.DataFrame(rows)
