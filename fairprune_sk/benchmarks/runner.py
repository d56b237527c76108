"""Comparisons: methods × tables × sparsities × constraints × seeds, as one tidy table."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from numbers import Integral, Number, Real
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from fairprune_sk.benchmarks.jobs import COLUMNS, CONDITIONS, KEYS, Job, fit_one, typed
from fairprune_sk.benchmarks.methods import METHODS, Method, method_of, settings_of
from fairprune_sk.benchmarks.store import ResultsFile
from fairprune_sk.datasets.tables import Table, load_table
from fairprune_sk.fairness.constraints import CONSTRAINTS
from fairprune_sk.fitting.progress import counting

MEASURED = tuple(name for name, kind in CONSTRAINTS.items() if not kind.relative_to_dense)
"""Every constraint whose gap a dense classifier has as well."""


def benchmark(
    methods: Iterable[str] | Mapping[str, Any],
    tables: Iterable[Any],
    *,
    sparsities: Iterable[float] = (0.9,),
    constraints: Iterable[str] = ("equalized_odds",),
    tolerances: Iterable[float] = (0.03,),
    sensitive: Mapping[str, Iterable[str]] | None = None,
    seeds: int | Iterable[int] = 10,
    test_size: float = 0.3,
    results: str | Path | None = None,
    folder: str | Path | None = None,
    memory: str | Path | None = None,
    n_jobs: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Compare methods on tables.

    Each seed splits a table into a training and a test part, stratified by the target, and is
    the ``random_state`` of every method. A method that does not depend on something (on the
    sparsity, the constraint, the sensitive feature) is fitted once for all of its values.

    Parameters
    ----------
    methods : list of str, or dict of scikit-learn classifiers
        Names in :data:`METHODS`, or classifiers under names of your own; what the benchmark
        varies is set where a classifier has a parameter of that name, and its ``constraint=None``
        is left alone. One that has a constraint is given ``sensitive_features`` in ``fit``, and
        in ``predict`` if it says so with ``needs_sensitive_features``; a :class:`Method` tells
        otherwise.
    tables : list of str, path or Table
        What :func:`~fairprune_sk.datasets.tables.load_table` takes.
    sparsities, constraints, tolerances : list
        A tolerance of None is a penalty without a bound, for methods that have one.
    sensitive : dict, optional
        The sensitive features to compare, by table; by default all that a table has.
    seeds : int or list of int
        A number of seeds stands for 0, 1, 2, ...
    test_size : float
        Fraction of the rows, in (0, 1).
    results : path, optional
        An SQLite file (``.sqlite`` or ``.db``). Every fit is added to it as soon as it is done,
        and what it holds already is not done again: a run that stopped goes on. Fits that failed
        are tried again. The rows are in its table ``fits``, for other programs to read; each has a
        ``checksum``, so that rows that were edited or damaged are not taken for results.
    folder : path, optional
        Where tables with a known name are looked for.
    memory : path, optional
        Where dense networks are kept, so that the fits of one table and seed share them.
    n_jobs : int
        Processes; each takes seconds to start.
    progress : bool
        Whether to show a bar with the time left.

    Returns
    -------
    DataFrame
        One row for each fit and each gap that is measured of it: the columns of :data:`KEYS`;
        on the test part ``accuracy``, ``balanced_accuracy``, ``selection_rate``, ``gap`` (as
        :func:`~fairprune_sk.assessment.fairness_gap` measures it, like the other two), its
        ``noise_floor``, ``majority_share`` (the accuracy of a constant), and, where there is one,
        ``dense_accuracy`` and ``dense_gap`` of the network before pruning; ``train_accuracy`` and
        ``train_gap``; ``reached_sparsity``, ``n_iter`` (training iterations of the pruning phase),
        ``seconds``, ``n_train``, ``n_test``; ``warnings`` by class; ``error``, empty unless the
        fit failed; ``settings``, the method with its parameters; and ``data``, a digest of the
        table. Times are shorter where the memory held the dense network already.

    Warns
    -----
    UserWarning
        If a fit failed.

    Raises
    ------
    ValueError
        If a name is unknown, nothing can be written to ``results``, or the file was damaged or
        edited, or holds results of a method with other settings or of another table.

    Examples
    --------
    >>> from fairprune_sk.benchmarks import benchmark
    >>> from fairprune_sk.datasets import Table, make_biased_classification
    >>> X, y, s = make_biased_classification(600, random_state=0)
    >>> fits = benchmark(
    ...     ["magnitude"], [Table("made", X, y, s[["sex"]])], seeds=1, progress=False
    ... )
    >>> fits[["table", "sensitive", "method", "sparsity"]].to_string(index=False, header=False)
    'made sex magnitude 0.9'
    """
    chosen = _methods(methods)
    loaded = _tables(tables, folder)
    constraints = _listed("constraints", constraints)
    unknown = sorted(set(constraints) - set(MEASURED))
    if unknown:
        raise ValueError(f"Got constraints {unknown}, but expected some of {list(MEASURED)}.")
    strangers = sorted(set(sensitive or {}) - set(loaded))
    if strangers:
        raise ValueError(
            f"Got sensitive features for tables {strangers}, but expected some of {list(loaded)}."
        )
    wanted = {name: _sensitive(table, sensitive) for name, table in loaded.items()}
    values = {
        "sparsity": _numbers("sparsities", sparsities),
        "constraint": constraints,
        "tolerance": _numbers("tolerances", tolerances),
    }
    if isinstance(seeds, Integral):
        seeds = range(int(seeds))
    if isinstance(test_size, bool) or not isinstance(test_size, float) or not 0 < test_size < 1:
        raise ValueError(f"Got test_size={test_size!r}, but expected a fraction in (0, 1).")
    jobs = list(_jobs(chosen, wanted, values, _listed("seeds", seeds)))
    file = None if results is None else ResultsFile(results, CONDITIONS, KEYS)
    digests = {name: digest_of(table, test_size) for name, table in loaded.items()}
    done = pd.DataFrame(columns=COLUMNS) if file is None else _reusable(file, chosen, digests)
    done = _run(jobs, done, file, chosen, loaded, digests, test_size, memory, n_jobs, progress)
    asked = {key for job in jobs for key in job.keys()}
    mine = np.array([key in asked for key in _key_rows(done)], dtype=bool)
    done = done.loc[mine].sort_values(KEYS, ignore_index=True)
    failed = done[done["error"] != ""]
    if len(failed):
        warnings.warn(
            f"{len(failed)} of {len(done)} rows are of fits that failed, the first with "
            f"{failed['error'].iloc[0]!r} ({failed['method'].iloc[0]}): see the column 'error'.",
            stacklevel=2,
        )
    return done


def _run(
    jobs: list[Job],
    done: pd.DataFrame,
    file: ResultsFile | None,
    methods: Mapping[str, Method],
    tables: Mapping[str, Table],
    digests: Mapping[str, str],
    test_size: float,
    memory: str | Path | None,
    n_jobs: int,
    progress: bool,
) -> pd.DataFrame:
    """Do the jobs that are not done, and add their rows."""
    known = set(_key_rows(done))
    todo = [job for job in jobs if not set(job.keys()) <= known]
    calls = (
        joblib.delayed(fit_one)(job, methods[job.method], tables[job.table], test_size, memory)
        for job in todo
    )
    n_failed = 0
    with counting("fits", len(todo), progress) as moved:
        for rows in joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls):
            rows = rows.assign(data=rows["table"].map(digests))
            # A fit may bring rows again that are known: of what it was already measured for.
            done = pd.concat([done, rows], ignore_index=True) if len(done) else rows
            done = done.drop_duplicates(KEYS, keep="last", ignore_index=True)
            if file is not None:
                file.add(rows)
            n_failed += int((rows["error"] != "").any())
            moved(f"{n_failed} failed" if n_failed else "")
    return done


def _methods(methods: Iterable[str] | Mapping[str, Any]) -> dict[str, Method]:
    names = _listed("methods", methods)
    if not isinstance(methods, Mapping):
        methods = dict(zip(names, names, strict=True))
    chosen = {}
    for name, estimator in methods.items():
        if isinstance(estimator, str) and estimator in METHODS:
            chosen[name] = METHODS[estimator]
        elif isinstance(estimator, Method) or (
            hasattr(estimator, "get_params") and not isinstance(estimator, type)
        ):
            chosen[name] = method_of(estimator)
        else:
            raise ValueError(
                f"Got the method {estimator!r}, but expected a name among {sorted(METHODS)}, or a "
                "dict of classifiers."
            )
    return chosen


def _sensitive(table: Table, sensitive: Mapping[str, Iterable[str]] | None) -> list[str]:
    known = list(table.sensitive.columns)
    wanted = _listed("sensitive features", (sensitive or {}).get(table.name, known))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(
            f"Got sensitive features {unknown} for {table.name!r}, but expected some of {known}."
        )
    return wanted


def _jobs(
    methods: Mapping[str, Method],
    sensitive: Mapping[str, list[str]],
    values: Mapping[str, list],
    seeds: list[int],
) -> Iterator[Job]:
    """Every fit: seeds outermost, so that a run that stops early has whole comparisons."""
    for seed, (table, features), (name, method) in product(
        seeds, sensitive.items(), methods.items()
    ):
        choices = {knob: features if knob == "sensitive" else values[knob] for knob in method.knobs}
        for combination in product(*choices.values()):
            settings = dict(zip(choices, combination, strict=True))
            measured = product(
                [settings["sensitive"]] if "sensitive" in settings else features,
                [settings["constraint"]] if "constraint" in settings else values["constraint"],
            )
            yield Job(table, seed, name, settings, tuple(measured))


def _key_rows(results: pd.DataFrame) -> Iterator[tuple]:
    """Keys of every row, as :meth:`Job.keys` gives them."""
    keys = results[KEYS].astype({"sparsity": float, "tolerance": float})
    keys = keys.round({"sparsity": 9, "tolerance": 9}).fillna({"tolerance": -1.0})
    return keys.itertuples(index=False, name=None)


def _reusable(
    file: ResultsFile, methods: Mapping[str, Method], digests: Mapping[str, str]
) -> pd.DataFrame:
    """Read earlier results; those of fits that failed are left out, to be tried again."""
    done = typed(file.read())
    done = done[done["error"] == ""].reset_index(drop=True)
    for name, method in methods.items():
        before = set(done.loc[done["method"] == name, "settings"]) - {settings_of(method)}
        if before:
            raise ValueError(
                f"Got results of {name!r} in {file.path} with the settings {before.pop()}, but "
                f"this run has {settings_of(method)}: use another file, or another name."
            )
    for name, digest in digests.items():
        if set(done.loc[done["table"] == name, "data"]) - {digest}:
            raise ValueError(
                f"Got results in {file.path} of another table {name!r}, or of other splits of it: "
                "use another file, or give the table another name."
            )
    return done


def digest_of(table: Table, test_size: float) -> str:
    """Digest of everything in a table, and of how it is split, to know both again."""
    digest = hashlib.blake2b(repr(test_size).encode(), digest_size=8)
    digest.update(repr([*table.X.columns, *table.sensitive.columns]).encode())
    for part in (table.X, table.sensitive, pd.DataFrame({"y": table.y})):
        plain = part.astype(object).where(part.notna(), None)
        digest.update(pd.util.hash_pandas_object(plain.astype(str), index=False).to_numpy().data)
    return digest.hexdigest()


def _listed(name: str, values: Any) -> list:
    """Return several values as a list; one by itself is a slip."""
    if isinstance(values, (str, Number)) or not isinstance(values, Iterable):
        raise ValueError(f"Got {name}={values!r}, but expected a list.")
    listed = list(values)
    if not listed:
        raise ValueError(f"Got no {name}, but expected at least one.")
    return listed


def _numbers(name: str, values: Any) -> list:
    listed = _listed(name, values)
    for value in listed:
        if not (value is None and name == "tolerances") and not (
            isinstance(value, Real) and 0 <= float(value) <= 1
        ):
            raise ValueError(f"Got {value!r} among the {name}, but expected numbers in [0, 1].")
    # Sums of tenths are not tenths: the same number must be the same key.
    return [None if value is None else round(float(value), 9) for value in listed]


def _tables(tables: Iterable[Any], folder: str | Path | None) -> dict[str, Table]:
    if isinstance(tables, (Table, pd.DataFrame)):
        raise ValueError(f"Got tables as one {type(tables).__name__}, but expected a list.")
    loaded = [load_table(table, folder) for table in _listed("tables", tables)]
    names = [table.name for table in loaded]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Got several tables named {twice}, but expected names of their own.")
    return dict(zip(names, loaded, strict=True))
