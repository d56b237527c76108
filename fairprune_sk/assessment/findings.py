"""What a report found: a value, and the ways to show it."""

from __future__ import annotations

import tempfile
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fairprune_sk.archive import write_atomically
from fairprune_sk.assessment.certificate import Certificate
from fairprune_sk.assessment.content import document_of, main_blocks
from fairprune_sk.assessment.noise import GapEstimate
from fairprune_sk.assessment.provenance import Provenance
from fairprune_sk.assessment.tables import tables_of, title_of
from fairprune_sk.documents.markup import fragment, page
from fairprune_sk.documents.plain import as_json, as_markdown
from fairprune_sk.documents.terminal import laid_out, text_of, wrapped
from fairprune_sk.exceptions import warn_at_caller
from fairprune_sk.fairness.requirement import Requirement


@dataclass(frozen=True, eq=False, repr=False)
class FairnessReport:
    """What :func:`fairness_report` measured: print it, or read its tables.

    Rates and gaps are fractions. For a classifier that was not pruned, one column ``value``
    takes the place of ``dense`` and ``pruned``, there is no ``change``, and
    ``performance_reduction`` and ``size`` are empty. With more than two classes,
    ``selection_rate``, ``true_positive_rate``, ``false_positive_rate`` and ``positives`` have
    one entry for each class against the rest.

    Attributes
    ----------
    overall : DataFrame
        One row for each metric, of all rows; columns ``dense``, ``pruned`` and ``change``. With
        more than two classes the index is (metric, class), where a metric of no single class
        has the class ``""``.
    by_group : DataFrame
        One row for each group, or for each (stratum, group); columns (metric, ``dense`` or
        ``pruned``), before them ``count`` and ``positives``: the group's rows, and those with
        the positive label. With more than two classes the columns are (metric, class,
        ``dense`` or ``pruned``).
    differences : DataFrame
        One row for each gap, the largest difference between two groups as
        ``fairlearn.metrics`` defines it, the largest over strata and classes; a constraint of
        your own, where the network was pruned with one, has a row as well; columns
        ``dense``, ``pruned``, and of the latter ``corrected`` (a largest difference leans upwards:
        what is left without that), ``low`` and ``high`` (interval of the gap of the people whom
        the rows were drawn from; both see :func:`gap_estimate`), ``noise_floor`` (see
        :func:`noise_floor`), and ``parity_high``: what groups with equal rates show in a share
        ``confidence_level`` of the draws, below which a gap cannot be told from parity.
        The row ``accuracy_lost_difference`` is the gap in the accuracy that pruning cost
        (performance degradation fairness, Definition 3 of Dai et al.): 0 for the dense network,
        and only there for a pruned one. What is redrawn are the rows that pruning turned wrong,
        turned right and left alone.
    by_class : DataFrame
        With more than two classes, one row for each: its true rows (``positives``), and its
        gaps in the columns (gap, ``dense`` or ``pruned``). Empty for two classes.
    performance_reduction : Series
        Accuracy of the dense minus accuracy of the pruned network (Definition 2 of Dai et al.,
        arXiv 2312.10181): ``overall``, each group, and ``gap``, the largest difference between
        two groups. Indexed by (stratum, group) where there are strata, with ``("overall", "")``
        and ``("gap", "")``.
    size : Series
        ``n_weights`` (prunable), ``n_nonzero`` (left in the pruned network), ``sparsity``.
    answer : tuple of str
        Of a network that was pruned for a tolerance: whether the gap is within it for people not
        seen, and what is known of that gap. Empty otherwise.
    certificate : Certificate or None
        What the answer rests on; see :func:`certify`. None where nothing can be certified: on the
        rows of the fit, with weights, of a notion that is no rate, with fewer than two groups.
    alarms : tuple of str
        What must be known first, and is said first: a network that hardly predicts a class, or
        that lost more than five points of balanced accuracy. Gaps are no good news then.
    notes : tuple of str
        What to know before believing the numbers; the alarms come first.
    intervals : DataFrame
        Every rate of every group that is a share of rows, in tidy form: ``stratum`` (where there
        are any), ``group``, ``metric``, ``class`` (with more than two), ``network``, ``rate``,
        ``low`` and ``high`` (Wilson's limits at ``confidence_level``), and ``n``, the rows that
        it is of.
    requirement : Requirement or None
        Constraint, tolerance and gap method that the network was pruned for.
    estimate : GapEstimate or None
        Of the gap of that requirement, for the pruned network.
    dense_gap : float
        The same gap of the dense network; NaN without a requirement.
    provenance : Provenance
        What was measured, on which rows, with what.
    pos_label : object
        The label that counts as selected; None with more than two classes.
    confidence_level : float
        Level of the intervals.
    n_rows : int
        Rows measured overall, those without a sensitive feature included.
    """

    overall: pd.DataFrame
    by_group: pd.DataFrame
    differences: pd.DataFrame
    by_class: pd.DataFrame
    performance_reduction: pd.Series
    size: pd.Series
    answer: tuple[str, ...]
    certificate: Certificate | None
    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    intervals: pd.DataFrame
    requirement: Requirement | None
    estimate: GapEstimate | None
    dense_gap: float
    provenance: Provenance
    pos_label: Any
    confidence_level: float
    n_rows: int

    def __repr__(self) -> str:
        """Return the printed report, so that a console shows it."""
        return str(self)

    def __str__(self) -> str:
        """Lay out the report for a terminal of 100 columns."""
        parts = [self.alarms, self.answer, title_of(self).split("\n")]
        head = ["\n".join(wrapped(line) for line in lines) for lines in parts if lines]
        tables = [
            f"{wrapped('; '.join(filter(None, [t.caption, t.note])))}\n{text_of(t.strings())}"
            for t in tables_of(self)
        ]
        return "\n\n".join([*head, *tables, laid_out(self.notes)])

    def _repr_html_(self) -> str:
        """Lay out the main part of the page for a notebook."""
        return fragment(main_blocks(self))

    def to_html(self, path: Any = None) -> str:
        """Lay out the report as one HTML file, for readers who know no code.

        The answer comes first, then tables and pictures by group, what the numbers mean and
        cannot say, and what it takes to make them again. The file fetches nothing, works without
        Python and without scripts, in light and dark, on paper and on a telephone.

        Parameters
        ----------
        path : str or path, optional
            Where to write it, as a whole or not at all.

        Returns
        -------
        str
            The page.

        Raises
        ------
        OSError
            If the file cannot be written; one that was there before stays as it was.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.dummy import DummyClassifier
        >>> from fairprune_sk import fairness_report
        >>> X, y, sex = np.zeros((40, 1)), np.arange(40) % 2, np.repeat(["Female", "Male"], 20)
        >>> model = DummyClassifier().fit(X, y)
        >>> page = fairness_report(model, X, y, sensitive_features=sex).to_html()
        >>> page.startswith("<!doctype html>"), "Female" in page
        (True, True)
        """
        return _written(page(document_of(self)), path)

    def to_markdown(self, path: Any = None) -> str:
        """Lay out what :meth:`to_html` says as Markdown, pictures in words.

        Parameters
        ----------
        path : str or path, optional
            Where to write it, as a whole or not at all.

        Returns
        -------
        str
        """
        return _written(as_markdown(document_of(self)), path)

    def to_json(self, path: Any = None) -> str:
        """Lay out what :meth:`to_html` says as JSON, numbers in full precision.

        Parameters
        ----------
        path : str or path, optional
            Where to write it, as a whole or not at all.

        Returns
        -------
        str
            ``sections`` as on the page, each a list of blocks with a ``kind``; before them
            ``answer``, for machines: ``verdict`` ("within", "above", "cannot tell" or null),
            ``constraint``, ``tolerance``, ``gap``, ``dense_gap``, ``corrected``, ``interval``,
            ``certified`` (lower and upper bound), ``confidence``, ``alarms``. What is not known
            is null.
        """
        return _written(as_json(document_of(self), answer=self._answer()), path)

    def open_in_browser(self) -> Path:
        """Write the page to a temporary file and show it in the browser.

        Returns
        -------
        Path
            The file; it stays.

        Warns
        -----
        UserWarning
            If there is no browser to show it.
        """
        path = Path(tempfile.mkdtemp(prefix="fairness_report_")) / "fairness_report.html"
        self.to_html(path)
        if not webbrowser.open(path.as_uri()):
            warn_at_caller(f"Got no browser to show the page. It is in {path}.", UserWarning)
        return path

    def _answer(self) -> dict[str, Any]:
        """Return the answer for machines."""
        asked, found, certificate = self.requirement, self.estimate, self.certificate
        return {
            "verdict": None if certificate is None else certificate.verdict,
            "constraint": None if asked is None else asked.constraint.name,
            "comparison": None if asked is None else asked.constraint.comparison,
            "tolerance": None if asked is None else asked.tolerance,
            "gap": None if found is None else found.gap,
            "dense_gap": self.dense_gap,
            "corrected": None if found is None else found.corrected,
            "interval": None if found is None else [found.low, found.high],
            "certified": None if certificate is None else [certificate.lower, certificate.upper],
            "confidence": self.confidence_level,
            "on_training_rows": self.provenance.seen,
            "alarms": self.alarms,
        }


def _written(text: str, path: Any) -> str:
    """Write a text to a file, if there is one, and return it."""
    if path is not None:
        write_atomically(path, text.encode())
    return text
