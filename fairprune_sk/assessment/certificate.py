"""A certificate: what a sample proves about the gap in the population, at any number of rows."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d

from fairprune_sk.assessment.classifiers import (
    check_predicted,
    is_pruner,
    positive_last,
    unwrapped,
)
from fairprune_sk.assessment.gaps import (
    check_gap_method,
    gaps_by_class,
    largest_gap,
    notion_cells,
    notion_of,
)
from fairprune_sk.assessment.notes import alarms_of, listed
from fairprune_sk.assessment.pairs import (
    Pair,
    Sample,
    group_name_in,
    ordered_pairs,
    rows_needed,
    too_small,
)
from fairprune_sk.assessment.proportions import lower_excess, upper_excess
from fairprune_sk.assessment.rates import Rows, checked_groups, checked_strata, row_names
from fairprune_sk.assessment.scoring import label_codes
from fairprune_sk.documents.blocks import number
from fairprune_sk.documents.terminal import laid_out, text_of, wrapped
from fairprune_sk.fairness.constraints import Constraint
from fairprune_sk.fairness.groups import check_order, counted
from fairprune_sk.fairness.requirement import Requirement, requirement_of

_MAX_PAIRS = 12  # of a printed certificate


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """What :func:`certify` found: print it, or read its fields.

    Attributes
    ----------
    upper : float
        Upper bound of the population's gap: at least as large with the given confidence.
    lower : float
        Lower bound of the same confidence.
    gap : float
        The gap of these rows; NaN where fewer than two groups have one of the rates.
    tolerance : float or None
    verdict : {"within", "above", "cannot tell"} or None
        Whether the population's gap is within the tolerance. A wrong "within" has a chance of
        at most 1 minus the confidence, and so has a wrong "above". None without a tolerance.
    confidence : float
        Of each bound, and where several models were compared, of all upper (or all lower) bounds
        together.
    pairs : DataFrame
        One row for each condition and ordered pair of groups, the largest upper bound first:
        ``event``; ``class`` and ``stratum``, where there are several; ``group`` and ``other``,
        ``n`` and ``rate`` of the first, ``n_other`` and ``rate_other`` of the second; ``gap``,
        by how much the first rate exceeds the second (of ratios, 1 − second / first), with its
        bounds ``lower`` and ``upper``. Each upper bound holds with the given confidence by
        itself, the lower ones hold together; NaN where the first rate was not the larger one.
    rows_needed : Series
        Where the verdict is "cannot tell", about how many rows of which group (or stratum and
        group) would decide it, in all, if rates and labels stay as seen; infinite where no
        number of rows can be named. Groups that have enough are not in it.
    notes : tuple of str
        What to know before relying on it.
    requirement : Requirement
        Constraint, tolerance and gap method that it is about.
    n_rows : int
        Rows that have a group.
    """

    upper: float
    lower: float
    gap: float
    tolerance: float | None
    verdict: str | None
    confidence: float
    pairs: pd.DataFrame
    rows_needed: pd.Series
    notes: tuple[str, ...]
    requirement: Requirement
    n_rows: int

    def __repr__(self) -> str:
        """Return the printed certificate, so that a console shows it."""
        return str(self)

    def __str__(self) -> str:
        """Lay out the certificate for a terminal of 100 columns."""
        title = "\n".join(wrapped(line) for line in self._title())
        return "\n\n".join([title, self._table(), laid_out(self.notes)])

    def _title(self) -> list[str]:
        """Return the answer, and what it rests on."""
        constraint = self.requirement.constraint
        of = f"the gap in {constraint.name} ({constraint.comparison}"
        of += ", to overall)" if self.requirement.gap_method == "to_overall" else ")"
        first = {
            "within": f"WITHIN: {of} is within the tolerance {self.tolerance}",
            "above": f"ABOVE: {of} is above the tolerance {self.tolerance}",
            "cannot tell": f"CANNOT TELL whether {of} is within the tolerance {self.tolerance}",
            None: f"Certificate of {of}",
        }[self.verdict]
        level = f"{self.confidence * 100:g}%"
        return [
            f"{first}, at {level} confidence",
            f"For people not seen it is at most {number(self.upper)} and at least "
            f"{number(self.lower)}; on these {counted(self.n_rows, 'row')} it is "
            f"{number(self.gap)}.",
        ]

    def _table(self) -> str:
        """Lay out the pairs with the largest upper bounds."""
        shown = self.pairs.head(_MAX_PAIRS)
        where = [name for name in ("event", "class", "stratum") if name in shown]
        table = pd.DataFrame(
            {
                "rows": [f"{a:,} / {b:,}" for a, b in zip(shown.n, shown.n_other, strict=True)],
                "rates": [
                    f"{number(a)} / {number(b)}"
                    for a, b in zip(shown.rate, shown.rate_other, strict=True)
                ],
                **{name: [*map(number, shown[name])] for name in ("gap", "lower", "upper")},
            },
            index=[
                f"{', '.join(map(str, row[:-2]))}: {row[-2]} over {row[-1]}"
                for row in shown[[*where, "group", "other"]].itertuples(index=False)
            ],
        )
        more = len(self.pairs) - len(shown)
        caption = "Pairs of groups, by the upper bound" + (f" ({more} more)" if more else "")
        return f"{caption}\n{text_of(table)}"


def certify(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    sensitive_features: Any,
    control_features: Any = None,
    constraint: str | Constraint | None = None,
    tolerance: float | None = None,
    gap_method: str | None = None,
    pos_label: Any = None,
    missing_sensitive: str = "error",
    sample_weight: Any = None,
    confidence: float = 0.95,
) -> Any:
    """Bound the gap of a classifier in the population, from rows that it has not seen.

    The bounds hold in samples of any size, whatever the rates: no normal approximation and no
    bootstrap. The rows must be independent draws from the population, and must have played no
    part in the fit or in the choice of the classifier.

    Parameters
    ----------
    estimator : fitted classifier, or list of them
        A :class:`~fairprune_sk.FairPruner`, or any other with ``predict``, in pipelines and
        searches as well; one whose ``predict`` takes ``sensitive_features``, as fairlearn's
        post-processors, is given them. Of k classifiers on the same rows each gets a k-th of 1
        − ``confidence`` (Bonferroni), so that all upper bounds hold together and the best may
        be chosen by them.
    X : array-like of shape (n, n_features), DataFrame, or dict of arrays
    y : array-like of shape (n,)
        True labels.
    sensitive_features, control_features, missing_sensitive
        As for :func:`fairness_report`; rows without a group are left out.
    constraint : str or Constraint, optional
        As for :func:`make_fairness_scorer`, without metrics. By default what a pruner was
        fitted for, and "equalized_odds" for other classifiers.
    tolerance : float in [0, 1], optional
        Largest gap allowed. By default the pruner's own, for its own constraint; without one
        there are bounds, but no verdict.
    gap_method : {"between_groups", "to_overall"}, optional
        By default the pruner's own, or "between_groups". The rate of all rows together is a
        mean of the groups' rates, so that no group is further from it than from another
        group: the upper bound holds for "to_overall" too. The lower bound does not, and is 0.
    pos_label : label, optional
        Of two classes the one that counts as selected; by default the estimator's own
        (``pos_label_``), or the second. Of more, each is held against the rest.
    sample_weight : None
        Refused: a finite-sample bound of proportions knows no weights.
    confidence : float in (0, 1), default=0.95

    Returns
    -------
    Certificate, or list of Certificate
        A list where ``estimator`` is one.

    Raises
    ------
    ValueError
        If these are the rows of the fit, there are weights, the constraint is no rate (what
        pruning cost), fewer than two groups have rows, or a parameter is not as described.

    See Also
    --------
    fairness_report : All rates and gaps.

    Notes
    -----
    For each condition (event, class, stratum) and each ordered pair of groups, the exact
    unconditional test of two proportions is inverted, with the nuisance rate in a Berger-Boos
    interval. The upper bound is the largest of the pairs'. That needs no correction for their
    number: the pair that is truly furthest apart is one fixed pair, and the bound is too small
    only if that pair's is (intersection-union). The lower bound is the largest of the pairs'
    too, but any of them may mislead: each is taken at 1 − ``confidence`` over the number of
    ordered pairs in all conditions.

    A group without rows in a condition (no positives) may have any rate there, and makes the
    bound large; :func:`fairness_report` leaves it out of the gap. A group that a stratum does
    not have at all is left out of that stratum, and named.

    References
    ----------
    Berger: Multiparameter hypothesis testing and acceptance sampling. Technometrics, 1982.
    Berger, Boos: P values maximized over a confidence set for the nuisance parameter. JASA, 1994.
    Chan, Zhang: Test-based exact confidence intervals for the difference of two binomial
    proportions. Biometrics, 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from fairprune_sk import certify
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(5000, 2))
    >>> sex = np.where(rng.rand(5000) < 0.5, "Female", "Male")
    >>> y = (X.sum(axis=1) + rng.normal(size=5000) > 0).astype(int)
    >>> model = LogisticRegression().fit(X[:1000], y[:1000])
    >>> certificate = certify(
    ...     model, X[1000:], y[1000:], sensitive_features=sex[1000:], tolerance=0.1
    ... )
    >>> certificate.verdict
    'within'
    >>> print(f"{certificate.gap:.3f}, at most {certificate.upper:.3f}")
    0.016, at most 0.045
    """
    if sample_weight is not None:
        raise ValueError(
            "Got sample_weight, but expected none: a finite-sample bound of proportions counts "
            "rows. Certify rows that were drawn as the population is, or control for what the "
            "weights correct (control_features=); fairness_report measures with weights."
        )
    if not (isinstance(confidence, Real) and 0 < float(confidence) < 1):
        raise ValueError(f"Got confidence={confidence!r}, but expected a number in (0, 1).")
    several = isinstance(estimator, list | tuple)
    estimators = list(estimator) if several else [estimator]
    if not estimators:
        raise ValueError("Got an empty list of estimators, but expected at least one.")
    features = {"sensitive_features": sensitive_features, "control_features": control_features}
    check_order(X, y=y, **features)
    check_order(y, **features)
    y = column_or_1d(y)
    grouping = checked_groups(sensitive_features, len(y), missing_sensitive)
    strata = checked_strata(control_features, len(y))
    alpha = (1 - float(confidence)) / len(estimators)
    certificates = []
    for one in estimators:
        requirement = _asked(unwrapped(one)[1], constraint, tolerance, gap_method)
        labels, y_true, y_pred = _predicted(one, X, y, sensitive_features, pos_label)
        rows = Rows(
            y_true,
            grouping.codes,
            np.zeros(len(y), dtype=np.int64) if strata is None else strata.codes,
            None,
            len(labels),
            (1,) if len(labels) == 2 else tuple(range(len(labels))),
        )
        kept = rows.grouped()
        sample = Sample(
            rows.take(kept),
            y_pred[kept],
            labels,
            row_names(grouping.values),
            None if strata is None else row_names(strata.values),
        )
        certificate = certificate_of(sample, requirement, alpha)
        if certificate is None:
            raise ValueError(
                "Got fewer than two groups in every stratum: there is nothing to compare."
            )
        notes = [*certificate.notes]
        if not kept.all():
            notes.append(f"Left out: {counted(int((~kept).sum()), 'row')} without a group.")
        if len(estimators) > 1:
            notes.append(
                f"One of {len(estimators)} classifiers on the same rows: each has a share of "
                f"{alpha:.2g} of the {1 - confidence:.2g} that may go wrong."
            )
        certificates.append(replace(certificate, confidence=float(confidence), notes=tuple(notes)))
    return certificates if several else certificates[0]


# --- what is asked, and of whom ---


def _asked(
    model: Any, constraint: Any, tolerance: float | None, gap_method: str | None
) -> Requirement:
    """Return what is to be certified: what a user says, then what the pruner was fitted for."""
    own = requirement_of(model) if is_pruner(model) else None
    if constraint is not None or own is None:
        notion = notion_of("equalized_odds" if constraint is None else constraint)
    else:
        notion = notion_of(own.constraint)
    if own is not None and own.constraint == notion:
        tolerance = own.tolerance if tolerance is None else tolerance
        gap_method = own.gap_method if gap_method is None else gap_method
    gap_method = "between_groups" if gap_method is None else gap_method
    check_gap_method(gap_method)
    if tolerance is not None and not (isinstance(tolerance, Real) and 0 <= float(tolerance) <= 1):
        raise ValueError(f"Got tolerance={tolerance!r}, but expected a number in [0, 1] or None.")
    return Requirement(notion, tolerance, gap_method)


def _predicted(
    estimator: Any, X: Any, y: np.ndarray, sensitive_features: Any, pos_label: Any
) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """Return the classes, the positive one last, and the codes of true and predicted labels."""
    transformers, model = unwrapped(estimator)
    for transformer in transformers:
        X = transformer.transform(X)
    if hasattr(model, "was_fitted_on") and model.was_fitted_on(X):
        raise ValueError(
            "Got the rows of the fit, but expected rows that the network has not seen: on its "
            "training rows a gap is what the fit made it, and proves nothing."
        )
    asks = inspect.signature(model.predict).parameters
    given = {"sensitive_features": sensitive_features} if "sensitive_features" in asks else {}
    if "random_state" in asks:  # a randomised classifier: one draw, the same in every call
        given["random_state"] = 0
    predicted = column_or_1d(model.predict(X, **given))
    if len(predicted) != len(y):
        raise ValueError(
            f"Got y with {counted(len(y), 'row')}, but X has {counted(len(predicted), 'row')}."
        )
    check_predicted(predicted)
    classes = np.asarray(model.classes_ if hasattr(model, "classes_") else np.unique(y)).tolist()
    if len(classes) < 2:
        raise ValueError(f"Got classes {classes}, but expected at least two.")
    labels = positive_last(classes, model, pos_label)
    return labels, label_codes(y, labels), label_codes(predicted, labels)


# --- bounds ---


def certificate_of(sample: Sample, requirement: Requirement, alpha: float) -> Certificate | None:
    """Bound the gap of one classifier; None where no stratum has two groups to compare."""
    constraint, tolerance = requirement.constraint, requirement.tolerance
    cells = notion_cells(constraint, sample.rows.tally(sample.y_pred))
    rows = np.zeros(cells.n.shape[2:], dtype=np.int64)
    np.add.at(rows, (sample.rows.stratum, sample.rows.group), 1)
    pairs = ordered_pairs(
        np.rint(cells.shares @ cells.patterns * cells.n[..., None]), cells.n, rows
    )
    if not pairs:
        return None

    kind, each = constraint.comparison, alpha / len(pairs)
    table = pd.DataFrame(
        {
            "gap": [p.gap(kind) for p in pairs],
            "lower": [
                lower_excess(p.first, p.second, each, kind) if p.gap(kind) > 0 else np.nan
                for p in pairs
            ],
            "upper": [upper_excess(p.first, p.second, alpha, kind) for p in pairs],
        }
    )
    upper = float(np.clip(table["upper"].max(), 0.0, 1.0))
    lower = float(np.clip(table["lower"].fillna(0.0).max(), 0.0, 1.0))
    if requirement.gap_method == "to_overall":
        lower = 0.0
    verdict, needed = None, pd.Series(dtype=float)
    if tolerance is not None:
        verdict = "within" if upper <= tolerance else "cannot tell"
        verdict = "above" if lower > tolerance else verdict
    if verdict == "cannot tell":
        needed = rows_needed(pairs, table, rows, requirement, alpha)
        keys = [group_name_in(sample, *key) for key in needed.index]
        needed = pd.Series(needed.to_numpy(), pd.Index(keys, name="group"), name="rows_needed")
    return Certificate(
        upper=upper,
        lower=lower,
        gap=float(largest_gap(gaps_by_class(cells, requirement.gap_method))),
        tolerance=tolerance,
        verdict=verdict,
        confidence=1 - alpha,
        pairs=_named(pairs, table, sample, constraint),
        rows_needed=needed,
        notes=tuple(_notes(sample, requirement, pairs, rows, needed, alpha)),
        requirement=requirement,
        n_rows=len(sample.y_pred),
    )


def _named(
    pairs: list[Pair], bounds: pd.DataFrame, sample: Sample, constraint: Constraint
) -> pd.DataFrame:
    """Tidy table of the pairs, the largest upper bound first."""
    columns: dict[str, list[Any]] = {"event": [constraint.events[p.event] for p in pairs]}
    if len(sample.labels) > 2 and constraint.one_vs_rest:
        columns["class"] = [sample.labels[p.outcome] for p in pairs]
    if sample.strata is not None:
        columns["stratum"] = [sample.strata[p.stratum] for p in pairs]
    columns |= {
        "group": [sample.groups[p.group] for p in pairs],
        "other": [sample.groups[p.other] for p in pairs],
        "n": [p.first.n for p in pairs],
        "n_other": [p.second.n for p in pairs],
        "rate": [p.first.rate if p.first.n else np.nan for p in pairs],
        "rate_other": [p.second.rate if p.second.n else np.nan for p in pairs],
    }
    table = pd.DataFrame(columns).join(bounds)
    return table.sort_values("upper", ascending=False, kind="stable", ignore_index=True)


# --- what is said ---


def _notes(
    sample: Sample,
    requirement: Requirement,
    pairs: list[Pair],
    rows: np.ndarray,
    needed: pd.Series,
    alpha: float,
) -> list[str]:
    """Say what the bounds rest on, and what they lack."""
    notes = alarms_of(sample.rows, {"value": sample.y_pred}, {}, sample.labels)
    if len(needed):
        has = {group_name_in(sample, *at): int(n) for at, n in np.ndenumerate(rows)}
        said = {
            name: "too many to name" if np.isinf(n) else f"{n:,.0f}" for name, n in needed.items()
        }
        wanted = [f"{name} {said[name]} (here {has[name]:,})" for name in needed.index]
        notes.append(f"About how many rows would decide, if rates stay as seen: {listed(wanted)}.")
    small = too_small(sample, requirement, pairs, alpha)
    if small:
        notes.append(
            "Too few rows to be within the tolerance even with equal rates, and so part of the "
            f"upper bound: {listed(small)}."
        )
    absent = [group_name_in(sample, s, g) for s, g in np.argwhere(rows == 0).tolist()]
    if absent:
        notes.append(f"Not certified, as there are no rows: {listed(absent)}.")
    if requirement.gap_method == "to_overall":
        notes.append(
            "The upper bound is that of the gap between groups, which is never the smaller one; "
            "there is no lower bound of the gap to overall."
        )
    notes.append(
        "Holds for people of whom these rows are an independent sample, if the rows had no part "
        "in the fit or in a choice."
    )
    return notes
