"""Warnings about a fit whose result is not what was asked for."""

from __future__ import annotations

from fairprune_sk.exceptions import CollapseWarning, ConstraintNotMetWarning, warn_at_caller
from fairprune_sk.fitting.dense import Dense
from fairprune_sk.fitting.pruning import Run, outcome_totals
from fairprune_sk.fitting.task import Task

# A pruned network that predicts a class for less than this share of the rows for which the dense
# one does has bought its small gap by hardly predicting it.
COLLAPSE_SHARE = 0.25


def warn_about(task: Task, dense: Dense, run: Run) -> None:
    """Warn about a result that is not what was asked for.

    Parameters
    ----------
    task : Task
    dense : Dense
    run : Run
    """
    best, parity, classes = run.best, task.parity, task.given.classes
    n, _, *selected = outcome_totals(dense.logits, task.rows).tolist()
    dense_rates = [rows / n for rows in selected]
    if parity is not None and best.violation > 0.0:
        requirement = parity.requirement
        warn_at_caller(
            f"No pruned network met {type(requirement.constraint).__name__}: the gap on the "
            f"training rows is {best.gap:.4f}, the tolerance {requirement.tolerance:g}. Allow a "
            "larger tolerance, a lower sparsity, more max_epochs or a larger fairness_weight; very "
            "small groups may need merging.",
            ConstraintNotMetWarning,
        )
    columns = classes[1:] if len(classes) == 2 else classes
    for label, rate, dense_rate in zip(columns, best.selection_rates, dense_rates, strict=True):
        if rate < COLLAPSE_SHARE * dense_rate or (rate == 1.0 and dense_rate < 1.0):
            warn_at_caller(
                f"The pruned network collapsed: it predicts {str(label)!r} for {rate:.1%} of the "
                f"training rows, the dense one for {dense_rate:.1%}. A gap between rates near 0 "
                "or 1 is small without being fair. Allow a lower sparsity or a larger tolerance, "
                "or, with tolerance=None, a smaller fairness_weight.",
                CollapseWarning,
            )
            return
