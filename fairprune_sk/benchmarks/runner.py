"""Comparisons: methods × tables × sparsities × constraints × seeds, as one tidy table."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from numbers import Integral, Number, Real
from pathlib import Path
from time import perf_counter
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from fairprune_sk.assessment.metrics import fairness_gap, noise_floor
from fairprune_sk.assessment.report import unwrapped
from fairprune_sk.benchmarks.competitors import COMPETITORS
from fairprune_sk.benchmarks.store import ResultsFile
from fairprune_sk.datasets.tables import Table, load_table
from fairprune_sk.fairness.constraints import CONSTRAINTS
from fairprune_sk.pruner import FairPruner
from fairprune_sk.solvers import Snip

MEASURED = tuple(name for name, kind in CONSTRAINTS.items() if not kind.relative_to_dense)
"""Every constraint whose gap a dense classifier has as well."""

KEYS = ["table", "sensitive", "constraint", "method", "sparsity", "tolerance", "seed"]
"""Columns that tell one row from every other."""

KNOBS = ("sparsity", "sensitive", "constraint", "tolerance")


@dataclass(frozen=True)
class Method:
    """One way to get a classifier.

    Attributes
    ----------
    estimator : scikit-learn classifier
        Cloned for each fit; what the benchmark varies is set by name, in a pipeline's last steps
        as well (``fairpruner__sparsity``).
    knobs : tuple of {"sparsity", "sensitive", "constraint", "tolerance"}
        What a fit depends on. A method that does not know the sensitive feature is fitted once,
        and measured for all of them.
    """

    estimator: Any
    knobs: tuple[str, ...]

    def parameters(self, name: str) -> list[str]:
        """Names of a parameter of the estimator, or of its steps, the last step's first."""
        return [
            key
            for key in reversed(list(self.estimator.get_params(deep=True)))
            if key == name or key.endswith(f"__{name}")
        ]

    def parameter(self, name: str) -> str | None:
        """Name of the estimator's own parameter, or of the last step that has one."""
        found = self.parameters(name)
        return name if name in found else next(iter(found), None)


def method_of(estimator: Any) -> Method:
    """Read off an estimator's parameters what its fits depend on.

    Parameters
    ----------
    estimator : scikit-learn classifier, or Method

    Returns
    -------
    Method
        ``sparsity`` is a knob where there is such a parameter; the sensitive feature and the
        constraint are where there is a ``constraint`` that is not None; ``tolerance`` is where
        there is one besides.
    """
    if isinstance(estimator, Method):
        return estimator
    method = Method(estimator, KNOBS)
    values = {knob: method.parameter(knob) for knob in KNOBS}
    params = estimator.get_params(deep=True)
    knobs = ["sparsity"] if values["sparsity"] else []
    if values["constraint"] and params[values["constraint"]] is not None:
        knobs += ["sensitive", "constraint"]
        if values["tolerance"] and params[values["tolerance"]] is not None:
            knobs.append("tolerance")
    return replace(method, knobs=tuple(knobs))


_FAIR, _GROUPS = ("sparsity", "sensitive", "constraint", "tolerance"), ("sparsity", "sensitive")
# Chosen on splits of the training parts of Adult and COMPAS, as FairPruner's own defaults were:
# what is pruned at one stroke learns better at three times the rate, and SNIP ranks the trained
# network better than the untrained one of its paper.
_ONE_SHOT: dict[str, Any] = {"constraint": None, "lr": 3e-3}

METHODS: dict[str, Method] = {
    "fairpruner": Method(FairPruner(), _FAIR),
    "fairpruner(neuron)": Method(FairPruner(granularity="neuron"), _FAIR),
    "prune_then_fair": Method(FairPruner(solver="prune_then_fair"), _FAIR),
    "fair_then_prune": Method(FairPruner(solver="fair_then_prune"), _FAIR),
    # These two have a notion of fairness of their own.
    "fairgrape": Method(FairPruner(solver="fairgrape", tolerance=1.0), _GROUPS),
    "balancing_act": Method(
        FairPruner(solver="balancing_act", constraint="degradation_parity", tolerance=0.01),
        _GROUPS,
    ),
    "bip": Method(FairPruner(solver="bip", constraint=None), ("sparsity",)),
    "magnitude": Method(FairPruner(solver="magnitude", **_ONE_SHOT), ("sparsity",)),
    "lottery_ticket": Method(FairPruner(solver="lottery_ticket", **_ONE_SHOT), ("sparsity",)),
    "snip": Method(FairPruner(solver=Snip(rewind_to="dense"), **_ONE_SHOT), ("sparsity",)),
    "grasp": Method(FairPruner(solver="grasp", **_ONE_SHOT), ("sparsity",)),
    "random": Method(FairPruner(solver="random", **_ONE_SHOT), ("sparsity",)),
    "fpgm": Method(FairPruner(solver="fpgm", granularity="neuron", constraint=None), ("sparsity",)),
    **{name: method_of(estimator) for name, estimator in COMPETITORS.items()},
}
"""Every method by the name that :func:`benchmark` takes."""


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
        are tried again. The rows are in its table ``fits``, for other programs to read.
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
        :func:`~fairprune_sk.assessment.metrics.fairness_gap` measures it, like the other two), its
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
        If a name is unknown, nothing can be written to ``results``, or the file holds results of
        a method with other settings or of another table.

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
    file = None if results is None else ResultsFile(results, COLUMNS, KEYS)
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
    with tqdm(total=len(todo), unit="fit", disable=not progress) as bar:
        for rows in joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")(calls):
            rows = rows.assign(data=rows["table"].map(digests))
            # A fit may bring rows again that are known: of what it was already measured for.
            done = pd.concat([done, rows], ignore_index=True) if len(done) else rows
            done = done.drop_duplicates(KEYS, keep="last", ignore_index=True)
            if file is not None:
                file.add(rows)
            n_failed += int((rows["error"] != "").any())
            if n_failed:
                bar.set_postfix(failed=n_failed)
            bar.update()
    return done


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
    return _typed(pd.DataFrame(rows, columns=COLUMNS))


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


def _typed(results: pd.DataFrame) -> pd.DataFrame:
    """Give columns their type, also where all that they hold is missing."""
    numbers = ["sparsity", "tolerance", *COLUMNS[len(KEYS) : COLUMNS.index("n_train")]]
    return results.astype(dict.fromkeys(numbers, float))


def settings_of(method: Method) -> str:
    """Text of a method's estimator with every parameter that is not a default."""
    text = " ".join(method.estimator.__repr__(N_CHAR_MAX=10**6).split())
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)  # where an object happens to lie


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


def _key_rows(results: pd.DataFrame) -> Iterator[tuple]:
    """Keys of every row, as :meth:`Job.keys` gives them."""
    keys = results[KEYS].astype({"sparsity": float, "tolerance": float})
    keys = keys.round({"sparsity": 9, "tolerance": 9}).fillna({"tolerance": -1.0})
    return keys.itertuples(index=False, name=None)


def _reusable(
    file: ResultsFile, methods: Mapping[str, Method], digests: Mapping[str, str]
) -> pd.DataFrame:
    """Read earlier results; those of fits that failed are left out, to be tried again."""
    done = _typed(file.read())
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
