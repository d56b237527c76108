"""One fit of a comparison, and what is measured of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import train_test_split

from fairprune_sk.assessment.classifiers import unwrapped
from fairprune_sk.assessment.gaps import fairness_gap
from fairprune_sk.assessment.noise import noise_floor
from fairprune_sk.benchmarks.methods import Method, settings_of
from fairprune_sk.datasets.tables import Table
from fairprune_sk.pruner import FairPruner

KEYS = ["table", "sensitive", "constraint", "method", "sparsity", "tolerance", "seed"]
"""Columns that tell one row from every other."""


@dataclass(frozen=True)
class Job:
    """One fit, and what is measured of it.

    Attributes
    ----------
    table : str
    seed : int
    method : str
    settings : dict
        Values of the method's knobs.
    measured : tuple of (str, str)
        Pairs of a sensitive feature and a constraint.
    """

    table: str
    seed: int
    method: str
    settings: Mapping[str, Any]
    measured: tuple[tuple[str, str], ...]

    def keys(self) -> Iterator[tuple]:
        """Values of :data:`KEYS` for each of its rows, a missing tolerance being -1."""
        for sensitive, constraint in self.measured:
            sparsity = self.settings.get("sparsity", 0.0)
            tolerance = self.settings.get("tolerance")
            tolerance = -1.0 if tolerance is None else tolerance
            yield self.table, sensitive, constraint, self.method, sparsity, tolerance, self.seed


def fit_one(
    job: Job, method: Method, table: Table, test_size: float, memory: str | Path | None = None
) -> pd.DataFrame:
    """Fit once, and measure on both parts.

    Parameters
    ----------
    job : Job
    method : Method
    table : Table
    test_size : float
    memory : path, optional

    Returns
    -------
    DataFrame
        A row for each gap, without the digest of the table; a fit that fails leaves its error.
    """
    part, rest = train_test_split(
        np.arange(len(table.y)), test_size=test_size, stratify=table.y, random_state=job.seed
    )
    y_test = table.y[rest]
    known = {
        "table": job.table,
        "method": job.method,
        "sparsity": job.settings.get("sparsity", 0.0),
        "tolerance": job.settings.get("tolerance", np.nan),
        "seed": job.seed,
        "n_train": len(part),
        "n_test": len(rest),
        "majority_share": max(y_test.mean(), 1.0 - y_test.mean()),
        "settings": settings_of(method),
    }
    start = perf_counter()
    try:
        # With routing, a pipeline hands the groups on to its last step.
        with (
            warnings.catch_warnings(record=True) as caught,
            config_context(enable_metadata_routing=True),
        ):
            warnings.simplefilter("always")
            estimator = _configured(method, job, memory)
            own = {}
            if "sensitive" in method.knobs:
                own = {"sensitive_features": table.sensitive[job.settings["sensitive"]].iloc[part]}
            estimator.fit(table.X.iloc[part], table.y[part], **own)
            known["seconds"] = perf_counter() - start
            known["warnings"] = " ".join(sorted({w.category.__name__ for w in caught}))
            known |= _reached(estimator)
            rows = [known | row for row in _measured(estimator, job, table, part, rest)]
    except Exception as error:  # one fit that fails must not take the others with it
        known |= {"seconds": perf_counter() - start, "warnings": ""}
        known["error"] = f"{type(error).__name__}: {error}"
        rows = [known | {"sensitive": s, "constraint": c} for s, c in job.measured]
    return typed(pd.DataFrame(rows, columns=COLUMNS))


COLUMNS = [
    *KEYS,
    "accuracy",
    "balanced_accuracy",
    "selection_rate",
    "gap",
    "noise_floor",
    "majority_share",
    "dense_accuracy",
    "dense_gap",
    "train_accuracy",
    "train_gap",
    "reached_sparsity",
    "n_iter",
    "seconds",
    "n_train",
    "n_test",
    "warnings",
    "error",
    "settings",
    "data",
]


_SHARES = ["sparsity", "tolerance", *COLUMNS[len(KEYS) : COLUMNS.index("n_iter")]]
_COUNTS = ["n_iter", "seconds", "n_train", "n_test"]

CONDITIONS = {
    **dict.fromkeys(COLUMNS, ""),
    **dict.fromkeys(_SHARES, "BETWEEN 0 AND 1"),
    **dict.fromkeys(_COUNTS, "BETWEEN 0 AND 1e99"),
}
"""What the values of each column meet, in SQL."""


def typed(results: pd.DataFrame) -> pd.DataFrame:
    """Give columns their type, also where all that they hold is missing."""
    numbers = ["sparsity", "tolerance", *COLUMNS[len(KEYS) : COLUMNS.index("n_train")]]
    return results.astype(dict.fromkeys(numbers, float))


def _configured(method: Method, job: Job, memory: str | Path | None) -> Any:
    estimator = clone(method.estimator)
    wanted = {knob: value for knob, value in job.settings.items() if knob != "sensitive"}
    keys = {method.parameter(name): value for name, value in wanted.items()}
    keys |= dict.fromkeys(method.parameters("random_state"), job.seed)
    if memory is not None:
        parts = {"": estimator, **{f"{k}__": v for k, v in estimator.get_params().items()}}
        keys |= {f"{k}memory": str(memory) for k, v in parts.items() if isinstance(v, FairPruner)}
    return estimator.set_params(**{key: value for key, value in keys.items() if key is not None})


def _reached(estimator: Any) -> dict[str, float]:
    """Size of the network and length of the pruning phase, where there is one."""
    _, pruner = unwrapped(estimator)
    if not isinstance(pruner, FairPruner):
        return {"reached_sparsity": 0.0, "n_iter": np.nan}
    return {"reached_sparsity": pruner.sparsity_, "n_iter": float(pruner.n_iter_)}


def _measured(
    estimator: Any, job: Job, table: Table, part: np.ndarray, rest: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Figures of each gap; what does not depend on it is predicted once."""
    X, X_test = table.X.iloc[part], table.X.iloc[rest]
    y, y_test = table.y[part], table.y[rest]

    @cache
    def predicted(sensitive: str | None) -> tuple[np.ndarray, np.ndarray]:
        if sensitive is None:
            return estimator.predict(X), estimator.predict(X_test)
        group = table.sensitive[sensitive]
        return (
            estimator.predict(X, sensitive_features=group.iloc[part]),
            estimator.predict(X_test, sensitive_features=group.iloc[rest]),
        )

    reads_groups = getattr(estimator, "needs_sensitive_features", False)
    transformers, pruner = unwrapped(estimator)
    dense = None
    if isinstance(pruner, FairPruner):
        encoded = X_test
        for transformer in transformers:
            encoded = transformer.transform(encoded)
        dense = pruner.predict_dense(encoded)
    for sensitive, constraint in job.measured:
        group, group_test = (table.sensitive[sensitive].iloc[rows] for rows in (part, rest))
        gap = partial(fairness_gap, constraint=constraint)
        train, test = predicted(sensitive if reads_groups else None)
        row = {
            "sensitive": sensitive,
            "constraint": constraint,
            "accuracy": accuracy_score(y_test, test),
            "balanced_accuracy": balanced_accuracy_score(y_test, test),
            "selection_rate": test.mean(),
            "gap": gap(y_test, test, sensitive_features=group_test),
            "noise_floor": noise_floor(
                y_test, test, sensitive_features=group_test, constraint=constraint
            ),
            "train_accuracy": accuracy_score(y, train),
            "train_gap": gap(y, train, sensitive_features=group),
            "error": "",
        }
        if dense is not None:
            row["dense_accuracy"] = accuracy_score(y_test, dense)
            row["dense_gap"] = gap(y_test, dense, sensitive_features=group_test)
        yield row
