"""Changed tables at predict: what changes its type, its name or its place after ``fit``.

A change says what becomes of the values' meaning. ``SAME``: predictions are those of the unchanged
table, or the change is refused. ``OTHER``: predictions are finite, or it is refused. ``WRONG``: it
must be refused. A refusal of a column names it.
"""

from __future__ import annotations

import datetime
import functools
import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from attack_fits import Small, as_polars
from attack_rules import REFUSALS, BrokenRuleError, only_documented_warnings
from scipy import sparse

from fairprune_sk import FairPruner

SAME, OTHER, WRONG = "same", "other", "wrong"
N_ROWS = 240
_DAY = pd.Timedelta(days=1)


class Change(NamedTuple):
    """A change of a column, or of a whole table."""

    of: Callable[[Any, np.random.Generator], Any]
    meaning: str


def same(of: Callable) -> Change:
    """Values that mean what they did."""
    return Change(of, SAME)


def other(of: Callable) -> Change:
    """Other values, which a network may read."""
    return Change(of, OTHER)


def wrong(of: Callable) -> Change:
    """Values that no network may be given."""
    return Change(of, WRONG)


# ---------------------------------------------------------------------------- what is fitted


def table(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Columns of all kinds, and labels that depend on each."""
    columns = {
        "number": rng.normal(size=n),
        "count": rng.integers(0, 9, n),
        "gaps": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
        "nullable": pd.array([*rng.integers(0, 9, n - 1), None], dtype="Int64"),
        "flag": rng.random(n) < 0.5,
        "text": rng.choice(["a", "b", "c"], n),
        "digits": rng.choice(["1", "2", "3"], n),
        "codes": pd.Categorical(rng.integers(1, 4, n)),
        "grade": pd.Categorical(rng.choice(["lo", "hi"], n), ["lo", "hi"], ordered=True),
        "date": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
        "duration": pd.to_timedelta(rng.integers(0, 900, n), "h"),
        "day": [datetime.date(2020, 1, 1 + day) for day in rng.integers(0, 3, n)],
        "nothing": np.full(n, None, dtype=object),
    }
    frame = pd.DataFrame(columns)
    signal = sum(pd.Series(pd.factorize(frame[c], sort=True)[0]).rank(pct=True) for c in frame)
    return frame, (signal + rng.normal(size=n) > signal.median()).to_numpy().astype(int)


@functools.cache
def fitted() -> dict[str, tuple[FairPruner, Any]]:
    """Estimators with tables like those that they were fitted on."""
    rng = np.random.default_rng(0)
    frame, y = table(rng, N_ROWS)
    numbers = frame[["number", "count"]]
    quick = {"constraint": None, "sparsity": 0.5, "max_epochs": 2, "random_state": 0}
    inputs = {
        "all kinds": (FairPruner(**quick), frame),
        "numbers": (FairPruner(**quick), numbers),
        "array": (FairPruner(**quick), frame[["number", "count", "gaps"]].to_numpy()),
        "module": (FairPruner(Small, **quick), numbers),
        "module on array": (FairPruner(Small, **quick), numbers.to_numpy()),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: (pruner.fit(X, y), X) for name, (pruner, X) in inputs.items()}


# ------------------------------------------------------------------------ changes of a column


def _objects(values: list) -> pd.Series:
    series = pd.Series([None] * len(values), dtype=object)
    series[:] = values
    return series


def _some(column: pd.Series, rng: np.random.Generator, value: Any) -> pd.Series:
    """Put a value in the place of some, one at least."""
    places = rng.random(len(column)) < 0.3
    places[rng.integers(len(column))] = True
    return _objects([value if here else v for v, here in zip(column, places, strict=True)])


ANY = [
    wrong(lambda c, rng: _objects([[1, 2]] * len(c))),
    wrong(lambda c, rng: _objects([{"a": 1}] * len(c))),
    wrong(lambda c, rng: _objects([{1, 2}] * len(c))),
    wrong(lambda c, rng: _objects([object()] * len(c))),
    wrong(lambda c, rng: _objects([b"x"] * len(c))),
    wrong(lambda c, rng: pd.Series(np.full(len(c), 1 + 2j))),
    wrong(lambda c, rng: pd.Series(np.full(len(c), 1 + 0j))),
    wrong(lambda c, rng: _objects([1 + 2j] * len(c))),
    wrong(lambda c, rng: pd.Series(pd.period_range("2020", periods=len(c), freq="D"))),
    wrong(lambda c, rng: pd.Series(pd.interval_range(0, len(c)))),
    wrong(lambda c, rng: _objects([datetime.time(1)] * len(c))),
    wrong(lambda c, rng: _objects([np.array([1.0])] * len(c))),
    wrong(lambda c, rng: _some(c, rng, [1])),
    wrong(lambda c, rng: _some(c, rng, 1j)),
    other(lambda c, rng: _some(c, rng, None)),
    other(lambda c, rng: _some(c, rng, pd.NA)),
    other(lambda c, rng: _objects([None] * len(c))),
    other(lambda c, rng: pd.Series(np.full(len(c), np.nan))),
    same(lambda c, rng: _objects(c.tolist())),
    same(lambda c, rng: c.astype("category")),
]
DATES = [
    wrong(lambda c, rng: pd.Series(pd.Timestamp("2020") + np.arange(len(c)) * _DAY)),
    wrong(lambda c, rng: pd.Series(pd.Timestamp("2020", tz="UTC") + np.arange(len(c)) * _DAY)),
    wrong(lambda c, rng: _objects([pd.Timestamp("2020")] * len(c))),
    wrong(lambda c, rng: pd.Series([pd.Timestamp("2020")] * len(c)).astype("category")),
    wrong(lambda c, rng: _some(c, rng, pd.Timestamp("2020"))),
]
DURATIONS = [
    wrong(lambda c, rng: pd.Series(np.arange(len(c)) * _DAY)),
    wrong(lambda c, rng: _objects([_DAY] * len(c))),
]
WORDS = [
    wrong(lambda c, rng: pd.Series(rng.choice(["yes", "no"], len(c)))),
    wrong(lambda c, rng: pd.Series(rng.choice(["yes", "no"], len(c))).astype("category")),
    wrong(lambda c, rng: _some(c, rng, "yes")),
]
AMOUNTS = [
    wrong(lambda c, rng: pd.Series(rng.normal(size=len(c)))),
    wrong(lambda c, rng: pd.Series(rng.integers(5, 90, len(c)))),
    wrong(lambda c, rng: pd.array(rng.integers(5, 90, len(c)), dtype="Int64")),
]
TRUTHS = [
    wrong(lambda c, rng: pd.Series(rng.random(len(c)) < 0.5)),
    wrong(lambda c, rng: pd.Series(rng.random(len(c)) < 0.5).astype(str)),
]
NUMBERS = [
    *DATES,
    *DURATIONS,
    *WORDS,
    wrong(lambda c, rng: pd.Series(rng.random(len(c)) < 0.5).astype(str)),
    wrong(lambda c, rng: pd.Series(np.full(len(c), np.inf))),
    wrong(lambda c, rng: _some(c, rng, np.inf)),
    wrong(lambda c, rng: _some(c, rng, float("-inf")).astype(float)),
    wrong(lambda c, rng: pd.Series(["inf"] * len(c))),
    wrong(lambda c, rng: pd.Series(["Infinity"] * len(c)).astype("category")),
    wrong(lambda c, rng: _some(c, rng, Decimal("Infinity"))),
    wrong(lambda c, rng: _some(c, rng, 10**400)),
    wrong(lambda c, rng: _some(c, rng, 1.7e308)),
    other(lambda c, rng: _some(c, rng, 1e200)),
    other(lambda c, rng: _some(c, rng, 10**30)),
    other(lambda c, rng: _some(c, rng, Decimal("sNaN"))),
    other(lambda c, rng: pd.Series(rng.random(len(c)) < 0.5)),
    other(lambda c, rng: c.astype(float).astype("float32")),
    other(lambda c, rng: c.astype(float).astype("float16")),
    same(lambda c, rng: c.map(repr)),
    same(lambda c, rng: c.astype("Float64")),
    same(lambda c, rng: c.astype(float)),
    same(lambda c, rng: c.astype(str).astype("category")),
    same(lambda c, rng: _objects([Decimal(v) if v == v else None for v in c.astype(float)])),
    same(lambda c, rng: _objects([Fraction(v) if v == v else None for v in c.astype(float)])),
    same(lambda c, rng: _objects([repr(v) if v > 3 else v for v in c.astype(float)])),
    same(lambda c, rng: pd.Series(pd.arrays.SparseArray(c.astype(float)))),
]
TEXT = [
    *DATES,
    *DURATIONS,
    *AMOUNTS,
    *TRUTHS[:1],
    other(lambda c, rng: pd.Series(["unseen"] * len(c))),
    other(lambda c, rng: pd.Series([""] * len(c))),
    other(lambda c, rng: _some(c, rng, "unseen")),
    other(lambda c, rng: _some(c, rng, 1)),
    same(lambda c, rng: c.astype("string")),
    same(lambda c, rng: c.astype("string[pyarrow]")),
    same(lambda c, rng: _objects([np.str_(v) for v in c])),
]
BY_COLUMN: dict[str, list[Change]] = {
    "number": NUMBERS,
    "gaps": NUMBERS,
    "count": [*NUMBERS, same(lambda c, rng: c.astype("int8")), same(lambda c, rng: c.astype("O"))],
    "nullable": [*NUMBERS, same(lambda c, rng: c.astype("Float64"))],
    "flag": [
        *DATES,
        *DURATIONS,
        *WORDS,
        *AMOUNTS,
        same(lambda c, rng: c.astype(int)),
        same(lambda c, rng: c.astype(float)),
        same(lambda c, rng: c.astype(str)),
        same(lambda c, rng: c.astype(int).astype(str)),
        same(lambda c, rng: c.astype("boolean")),
        same(lambda c, rng: c.astype(int).astype("category")),
        same(lambda c, rng: _objects([int(v) if i % 2 else v for i, v in enumerate(c.tolist())])),
        same(lambda c, rng: _objects([Decimal(int(v)) for v in c])),
    ],
    "text": TEXT,
    "grade": [
        *TEXT,
        same(
            lambda c, rng: c.cat.add_categories("mid").cat.reorder_categories(["mid", "hi", "lo"])
        ),
    ],
    "digits": [
        *TEXT,
        same(lambda c, rng: c.astype(int)),
        same(lambda c, rng: c.astype(float)),
        same(lambda c, rng: c.astype(int).astype("category")),
        same(lambda c, rng: _objects([int(v) if i % 2 else v for i, v in enumerate(c)])),
    ],
    "codes": [
        *DATES,
        *DURATIONS,
        *WORDS,
        same(lambda c, rng: c.astype(int)),
        same(lambda c, rng: c.astype(float)),
        same(lambda c, rng: c.astype(str)),
        same(lambda c, rng: c.astype(float).astype(str)),
        same(lambda c, rng: c.astype(str).astype("category")),
        other(lambda c, rng: c.astype(float) + 0.5),
        other(lambda c, rng: c.astype(int) + 7),
        wrong(lambda c, rng: _some(c, rng, np.inf)),
    ],
    "date": [
        *DURATIONS,
        *WORDS,
        *AMOUNTS,
        *TRUTHS,
        same(lambda c, rng: c.dt.tz_localize("UTC")),
        same(lambda c, rng: c.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
        same(lambda c, rng: c.astype("datetime64[s]")),
        same(lambda c, rng: c.astype("datetime64[us]")),
        same(lambda c, rng: c.astype(str)),
        same(lambda c, rng: _objects([v.date() for v in c])),
        same(lambda c, rng: _objects([v.to_pydatetime() for v in c])),
        wrong(lambda c, rng: c.astype("int64")),
        other(lambda c, rng: c + 300 * 365 * _DAY),
        other(lambda c, rng: pd.Series(np.full(len(c), np.datetime64("NaT", "ns")))),
        other(lambda c, rng: _objects([datetime.datetime(9999, 1, 1)] * len(c))),
    ],
    "duration": [
        *DATES,
        *WORDS,
        *AMOUNTS,
        *TRUTHS,
        same(lambda c, rng: c.astype("timedelta64[s]")),
        same(lambda c, rng: c.astype(str)),
        same(lambda c, rng: _objects([v.to_pytimedelta() for v in c])),
        wrong(lambda c, rng: c.astype("int64")),
        wrong(lambda c, rng: c / _DAY),
    ],
    "day": [
        *WORDS,
        *AMOUNTS,
        *TRUTHS,
        *DURATIONS,
        same(lambda c, rng: pd.to_datetime(c)),
        same(lambda c, rng: c.astype(str)),
        other(lambda c, rng: _objects([datetime.date(1, 1, 1)] * len(c))),
    ],
    "nothing": [Change(change.of, OTHER) for change in (*WORDS, *AMOUNTS, *TRUTHS, *DATES)],
}


# ------------------------------------------------------------------------- changes of a table

RENAMED = [
    wrong(lambda X, rng: X.iloc[:, ::-1]),
    wrong(lambda X, rng: X.iloc[:, 1:]),
    wrong(lambda X, rng: X.rename(columns={X.columns[0]: "renamed"})),
    wrong(lambda X, rng: X.assign(extra=1.0)),
    wrong(lambda X, rng: pd.concat([X, X.iloc[:, :1]], axis=1)),
    wrong(lambda X, rng: X.set_axis(X.columns.str.upper(), axis=1)),
    wrong(lambda X, rng: X.set_axis(["twice", "twice", *X.columns[2:]], axis=1)),
    wrong(lambda X, rng: X.set_axis([0, *X.columns[1:]], axis=1)),
    wrong(lambda X, rng: X.iloc[:, :0]),
    wrong(lambda X, rng: X.iloc[:0]),
    wrong(lambda X, rng: X.iloc[:, 0]),
    wrong(lambda X, rng: X.to_dict("list")),
    wrong(lambda X, rng: X.to_dict("records")),
    wrong(lambda X, rng: X.columns),
    wrong(lambda X, rng: X.groupby(X.columns[0], observed=True)),
    same(lambda X, rng: X.set_axis(rng.permutation(len(X)))),
    same(lambda X, rng: X.set_axis([0] * len(X))),
    same(lambda X, rng: X.set_axis(pd.MultiIndex.from_arrays([range(len(X))] * 2))),
    same(lambda X, rng: X.to_numpy(dtype=object)),
    same(lambda X, rng: X.to_numpy(dtype=object).tolist()),
    same(lambda X, rng: X.set_axis(range(X.shape[1]), axis=1)),
    same(lambda X, rng: X.convert_dtypes()),
    same(lambda X, rng: X.infer_objects()),
    same(lambda X, rng: X.copy(deep=True)),
    same(lambda X, rng: as_polars(X)),
]
ARRAYS = [
    same(lambda X, rng: np.asfortranarray(X)),
    same(lambda X, rng: X.astype(object)),
    same(lambda X, rng: X.astype(str)),
    same(lambda X, rng: X.astype(np.longdouble)),
    same(lambda X, rng: X.tolist()),
    same(lambda X, rng: tuple(map(tuple, X))),
    same(lambda X, rng: pd.DataFrame(X)),
    same(lambda X, rng: pd.DataFrame(X).add_prefix("x")),
    same(lambda X, rng: torch.from_numpy(X)),
    other(lambda X, rng: X.astype(np.float32)),
    other(lambda X, rng: X > 0),
    other(lambda X, rng: np.where(rng.random(X.shape) < 0.3, np.nan, X)),
    other(lambda X, rng: np.ma.masked_greater(X, 0)),
    wrong(lambda X, rng: np.where(X > X.min(), X, np.inf)),
    wrong(lambda X, rng: np.where(X > X.min(), X, -np.inf).astype(object)),
    wrong(lambda X, rng: np.where(X == X, 1.7e308, X)),
    wrong(lambda X, rng: X + 1j),
    wrong(lambda X, rng: (X + 1j).astype(object)),
    wrong(lambda X, rng: np.nan_to_num(X).astype("datetime64[D]")),
    wrong(lambda X, rng: np.nan_to_num(X).astype("timedelta64[h]")),
    wrong(lambda X, rng: pd.DataFrame(np.nan_to_num(X).astype("datetime64[s]"))),
    wrong(lambda X, rng: pd.DataFrame(np.nan_to_num(X).astype("timedelta64[s]"))),
    wrong(lambda X, rng: pd.DataFrame(X).astype("string").fillna("x") + "x"),
    wrong(lambda X, rng: np.full(X.shape, "word")),
    wrong(lambda X, rng: np.full(X.shape, b"word")),
    wrong(lambda X, rng: np.full(X.shape, None)[:, :, None]),
    wrong(lambda X, rng: X[:, 1:]),
    wrong(lambda X, rng: np.hstack([X, X])),
    wrong(lambda X, rng: X[:0]),
    wrong(lambda X, rng: X[0]),
    wrong(lambda X, rng: X[:, :, None]),
    wrong(lambda X, rng: sparse.csr_matrix(X)),
    wrong(lambda X, rng: None),
    wrong(lambda X, rng: "table.csv"),
    wrong(lambda X, rng: 3.0),
    wrong(lambda X, rng: [[1.0], *X.tolist()]),
    wrong(lambda X, rng: [[[1.0]] * X.shape[1]] * len(X)),
    wrong(lambda X, rng: {"X": X}),
]


def case(rng: np.random.Generator) -> str:
    """Change a table in one to three places, and predict; give the outcome in words, or break."""
    estimators = [*fitted()]
    name = str(rng.choice(estimators, p=[0.6, 0.1, 0.1, 0.1, 0.1]))
    pruner, X = fitted()[name]
    rows = rng.choice(N_ROWS, size=int(rng.choice([1, 2, 5, 40])), replace=False)
    if not isinstance(X, pd.DataFrame):
        change = ARRAYS[rng.integers(len(ARRAYS))]
        return _predict(pruner, X[rows], change.of(X[rows], rng), change.meaning, [])
    before = X.iloc[rows].reset_index(drop=True)
    after, meanings, names = before, [], []
    for column in rng.choice(X.columns, size=int(rng.choice([0, 1, 2, 3], p=[0.1, 0.5, 0.2, 0.2]))):
        if column in names:
            continue
        changes = BY_COLUMN[column] + (ANY if column != "nothing" else ANY[-6:])
        change = changes[rng.integers(len(changes))]
        changed = change.of(before[column], rng)
        after = after.assign(**{column: changed})
        meanings.append(change.meaning)
        names.append(str(column))
    if not names or rng.random() < 0.15:
        change = RENAMED[rng.integers(len(RENAMED))]
        try:
            after, names = change.of(after, rng), []
        except Exception:  # pandas cannot do that to these columns
            return "no such table"
        meanings.append(change.meaning)
    meaning = next(m for m in (WRONG, OTHER, SAME) if m in meanings)
    return _predict(pruner, before, after, meaning, names)


def _predict(pruner: FairPruner, before: Any, after: Any, meaning: str, names: list[str]) -> str:
    """Predict for both tables, and compare."""
    expected = pruner.predict_proba(before)
    with only_documented_warnings():
        try:
            found = pruner.predict_proba(after)
        except REFUSALS as error:
            if names and not any(name in str(error) for name in names):
                raise BrokenRuleError(f"refused, but by no name of {names}: {error}") from error
            return f"{meaning} in meaning, refused"
    if meaning == WRONG:
        raise BrokenRuleError(f"predicted from what means something else: {_brief(after, names)}")
    if found.shape[1:] != expected.shape[1:] or not np.isfinite(found).all():
        raise BrokenRuleError(f"predictions that are not finite: {_brief(after, names)}")
    if meaning == SAME and not np.allclose(found, expected, atol=1e-6):
        difference = np.abs(found - expected).max()
        raise BrokenRuleError(f"other predictions, by {difference:.4f}: {_brief(after, names)}")
    return f"{meaning} in meaning, predicted"


def _brief(X: Any, names: list[str]) -> str:
    """Describe a table for a message: the columns that were changed, if it has any."""
    if isinstance(X, pd.DataFrame):
        changed = [X[name] for name in names] or [X.iloc[:, i] for i in range(X.shape[1])]
        return "; ".join(f"{c.name!r} of {c.dtype}, such as {c.iloc[0]!r}" for c in changed)
    return f"{type(X).__name__} of {getattr(X, 'dtype', '')} {np.shape(X)}, {X!r:.80}"
