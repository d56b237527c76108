"""Random fits: tables, labels, groups, weights and parameters, ordinary and otherwise."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars
import torch
from attack_rules import (
    REFUSALS,
    BrokenRuleError,
    Known,
    check_claim,
    only_documented_warnings,
    watched_training,
)
from fairlearn import reductions
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import EarlyStopping, EpochTimer
from torch import nn

from fairprune_sk import BilevelSolver, DivergedError, FairPruner
from fairprune_sk.fairness import constraints
from fairprune_sk.fairness.constraints import CONSTRAINTS, OUTSIDE, Constraint
from fairprune_sk.masks import GRANULARITIES, Neuron, Pattern
from fairprune_sk.solvers import SOLVERS, Magnitude


class Dice:
    """Random choices, of which some are out of the ordinary: in some cases none, in others many."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.odd_share = rng.choice([0.0, 0.01, 0.08], p=[0.5, 0.35, 0.15])

    def happens(self, share: float) -> bool:
        """Whether what has this probability happens."""
        return bool(self.rng.random() < share)

    def one_of(self, ordinary: list, odd: list = ()) -> Any:
        """Draw an ordinary thing, or, now and then, an odd one."""
        things = odd if odd and self.happens(self.odd_share) else ordinary
        return things[self.rng.integers(len(things))]


# -------------------------------------------------------------------------------------- networks


class Small(nn.Module):
    """A network of eight hidden units."""

    def __init__(self, n_features: int = 2, n_outputs: int = 1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, n_outputs)
        )

    def forward(self, X):
        """Logits."""
        return self.layers(X)


class NaNs(Small):
    """Gives no number for large features."""

    def forward(self, X):
        """Logits, some of them NaN."""
        return super().forward(X) + torch.where(X[:, :1] > 1.5, torch.nan, 0.0)


class Logarithms(Small):
    """Takes logarithms of what may be negative."""

    def forward(self, X):
        """Logits, infinite or NaN."""
        return super().forward(X.log())


class Tuple(Small):
    """Gives its hidden layer as well."""

    def forward(self, X):
        """Logits and features."""
        return super().forward(X), X


def _net(n_features: int, n_classes: int, dice: Dice) -> NeuralNetClassifier:
    return NeuralNetClassifier(
        dice.one_of([Small], [NaNs]),
        module__n_features=n_features,
        module__n_outputs=n_classes,
        criterion=nn.CrossEntropyLoss,
        lr=dice.one_of([0.1, 0.01], [1e4, 1e30, 0.0, -1.0, float("nan")]),
        max_epochs=dice.one_of([1, 2], [0]),
        batch_size=dice.one_of([32, 128], [1, -1]),
        train_split=None,
        verbose=0,
    )


def _binary_net(n_features: int, n_classes: int, dice: Dice) -> NeuralNetBinaryClassifier:
    return NeuralNetBinaryClassifier(
        Small, module__n_features=n_features, max_epochs=2, train_split=None, verbose=0
    )


def _estimator(n_features: int, n_classes: int, dice: Dice) -> Any:
    n_outputs = 1 if n_classes == 2 else n_classes
    return dice.one_of(
        [
            lambda: Small,
            lambda: Small(n_features, n_outputs),
            lambda: _net(n_features, n_classes, dice),
            lambda: _net(n_features, n_classes, dice),
            lambda: (_binary_net if n_classes == 2 else _net)(n_features, n_classes, dice),
        ],
        [
            lambda: _binary_net(n_features, n_classes, dice),
            lambda: NaNs,
            lambda: Logarithms(n_features, n_outputs),
            lambda: Tuple,
            lambda: Small(n_features, 7),
            lambda: Small(n_features + 1),
            lambda: nn.Identity(),
            lambda: nn.Sequential(),
            lambda: nn.Linear(n_features, n_outputs),
            lambda: nn.Module,
            lambda: FrozenEstimator(_net(n_features, n_classes, dice)),
            lambda: FrozenEstimator(LogisticRegression()),
            lambda: LogisticRegression(),
            lambda: "mlp",
            lambda: int,
            lambda: _net(n_features, n_classes, dice).set_params(criterion=nn.MSELoss),
        ],
    )()


# ---------------------------------------------------------------------------------------- tables

Rng = np.random.Generator

ORDINARY: list[Callable[[Rng, np.ndarray], Any]] = [
    lambda rng, s: s + rng.normal(size=len(s)),
    lambda rng, s: rng.integers(0, 9, len(s)),
    lambda rng, s: np.where(s > rng.normal(size=len(s)), "yes", "no"),
    lambda rng, s: rng.choice(["a", "b", "c", "d"], len(s)).astype(object),
    lambda rng, s: s > 0,
    lambda rng, s: np.where(rng.random(len(s)) < 0.3, np.nan, s),
    lambda rng, s: pd.Categorical(rng.choice(["lo", "hi"], len(s)), ["lo", "mid", "hi"]),
    lambda rng, s: pd.Categorical(rng.integers(0, 3, len(s))),
    lambda rng, s: pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, len(s)), "D"),
    lambda rng, s: pd.to_timedelta(rng.integers(0, 999, len(s)), "h"),
    lambda rng, s: pd.array(rng.integers(0, 5, len(s)), dtype="Int64"),
    lambda rng, s: pd.array([None, *(s[1:] > 0)], dtype="boolean"),
    lambda rng, s: pd.array([None, *rng.choice(["x", "y"], len(s) - 1)], dtype="string"),
    lambda rng, s: np.array([None, *rng.choice(["x", "y"], len(s) - 1)], dtype=object),
    lambda rng, s: s.astype(np.float32),
]

ODD: list[Callable[[Rng, np.ndarray], Any]] = [
    lambda rng, s: np.where(s > 1, np.inf, s),
    lambda rng, s: np.where(s > 1, -np.inf, s).astype(object),
    lambda rng, s: s * 1e308,
    lambda rng, s: s * 1e299,
    lambda rng, s: s * 1e150,
    lambda rng, s: s * 1e-300,
    lambda rng, s: s * 5e-324,
    lambda rng, s: s * 1e-18 + 1.0,
    lambda rng, s: s * 1e30 * (rng.random(len(s)) < 0.1),
    lambda rng, s: np.zeros(len(s)),
    lambda rng, s: np.full(len(s), np.nan),
    lambda rng, s: np.full(len(s), None, dtype=object),
    lambda rng, s: ["constant"] * len(s),
    lambda rng, s: np.array([1, "a", None, 2.5] * len(s), dtype=object)[: len(s)],
    lambda rng, s: np.array([True, 0, 2.5] * len(s), dtype=object)[: len(s)],
    lambda rng, s: [[1, 2]] * len(s),
    lambda rng, s: [{1}] * len(s),
    lambda rng, s: [{"a": 1}] * len(s),
    lambda rng, s: [(1, int(x > 0)) for x in s],
    lambda rng, s: [b"x", *[b"y"] * (len(s) - 1)],
    lambda rng, s: s + 1j,
    lambda rng, s: (s + 1j).astype(object),
    lambda rng, s: [10**400, *[1] * (len(s) - 1)],
    lambda rng, s: [10**30, *[1] * (len(s) - 1)],
    lambda rng, s: [Decimal("0.1"), *[Decimal(1)] * (len(s) - 1)],
    lambda rng, s: [Decimal("sNaN"), *[Decimal(1)] * (len(s) - 1)],
    lambda rng, s: [datetime.date(2020, 1, 1 + i % 28) for i in range(len(s))],
    lambda rng, s: [datetime.datetime(9999, 1, 1 + i % 28) for i in range(len(s))],
    lambda rng, s: [datetime.time(i % 24) for i in range(len(s))],
    lambda rng, s: [pd.Timestamp(0, tz="Asia/Tokyo"), *[pd.Timestamp(1)] * (len(s) - 1)],
    lambda rng, s: pd.date_range("1900-01-01", periods=len(s), tz="America/New_York"),
    lambda rng, s: np.full(len(s), np.datetime64("NaT", "ns")),
    lambda rng, s: pd.period_range("2000-01", periods=len(s), freq="M"),
    lambda rng, s: pd.cut(s, 3),
    lambda rng, s: pd.arrays.SparseArray(np.where(s > 0, s, 0.0)),
    lambda rng, s: pd.Categorical([np.nan] * len(s), [1.5]),
    lambda rng, s: pd.Categorical(pd.to_timedelta(np.arange(len(s)) % 3, "D")),
    lambda rng, s: rng.integers(0, 2**63, len(s), dtype=np.uint64) * 2,
    lambda rng, s: s.astype(np.float16),
    lambda rng, s: s.astype(np.longdouble),
    lambda rng, s: [f"name {i}" for i in range(len(s))],
    lambda rng, s: ["", "\x00", "nan", "NaN", "None", "ж"] * (len(s) // 6) + ["x"] * (len(s) % 6),
    lambda rng, s: [np.float64(1), "1"] * (len(s) // 2) + [1] * (len(s) % 2),
    lambda rng, s: [object()] * len(s),
    lambda rng, s: [np.array([1.0, 2.0])] * len(s),
    lambda rng, s: [pd.NA, *[1.0] * (len(s) - 1)],
    lambda rng, s: [pd.NaT, *[pd.Timestamp(0)] * (len(s) - 1)],
]


def _frame(dice: Dice, signal: np.ndarray) -> pd.DataFrame:
    n_columns = int(dice.one_of([1, 2, 3, 4, 5, 6], [0]))
    columns = {
        f"column {i}": pd.Series(dice.one_of(ORDINARY, ODD)(dice.rng, signal))
        for i in range(n_columns)
    }
    frame = pd.DataFrame(columns, index=None if columns else range(len(signal)))
    odd_names = [
        lambda f: f.set_axis(["same"] * n_columns, axis=1),
        lambda f: f.set_axis([*range(n_columns)], axis=1),
        lambda f: f.set_axis([None, *range(n_columns)][:n_columns], axis=1),
        lambda f: f.set_axis(["a", *range(n_columns)][:n_columns], axis=1),
        lambda f: f.set_axis([("a", i) for i in range(n_columns)], axis=1),
        lambda f: f.set_axis(pd.MultiIndex.from_arrays([["a"] * n_columns] * 2), axis=1),
        lambda f: f.set_axis(dice.rng.permutation(len(f))),
        lambda f: f.set_axis([0] * len(f)),
        lambda f: f.set_axis(pd.MultiIndex.from_arrays([range(len(f))] * 2)),
        lambda f: f.assign(nested=f.to_dict("records")),
        lambda f: f.iloc[:-1],
        lambda f: f.iloc[:0],
        lambda f: dict(f),
        lambda f: f.to_numpy(),
        lambda f: f.to_numpy(dtype=object).tolist(),
        as_polars,
    ]
    return dice.one_of([lambda f: f], odd_names)(frame)


def as_polars(frame: pd.DataFrame) -> Any:
    """Table of polars, where it has only columns that polars knows."""
    if any(map(pd.api.types.is_object_dtype, frame.dtypes)) or not frame.columns.is_unique:
        return frame
    try:
        return polars.DataFrame({str(name): frame[name].tolist() for name in frame.columns})
    except (TypeError, ValueError, polars.exceptions.PolarsError):
        return frame


def _matrix(dice: Dice, signal: np.ndarray) -> Any:
    n, rng = len(signal), dice.rng
    X = signal[:, None] + rng.normal(size=(n, int(dice.one_of([1, 2, 3, 6]))))
    change = [
        lambda X: np.where(rng.random(X.shape) < 0.01, np.nan, X),
        lambda X: np.where(rng.random(X.shape) < 0.01, np.inf, X),
        lambda X: X * 1e308,
        lambda X: X * 1e38,
        lambda X: X * 1e20,
        lambda X: X * 1e-30,
        lambda X: X * 1e-310,
        lambda X: X * 0,
        lambda X: X.astype(np.float16),
        lambda X: X > 0,
        lambda X: X + 1j,
        lambda X: X.astype(str),
        lambda X: X.astype("datetime64[D]"),
        lambda X: X.astype("timedelta64[D]"),
        lambda X: np.ma.masked_greater(X, 1),
        lambda X: X[:, 0],
        lambda X: X[:, :, None],
        lambda X: X[:, :0],
        lambda X: X[:0],
        lambda X: X[:-1],
        lambda X: X[:1],
        lambda X: sparse.csr_matrix(X),
        lambda X: sparse.dok_matrix(X),
        lambda X: torch.from_numpy(X),
        lambda X: pd.Series(X[:, 0]),
        lambda X: {"X": X},
        lambda X: [*X[:-1], [1.0]],
        lambda X: None,
        lambda X: "table.csv",
        lambda X: 5,
        lambda X: X.view([("a", float)]),
        lambda X: iter(X),
    ]
    ordinary = [
        lambda X: X,
        lambda X: X.astype(np.float32),
        lambda X: X.astype(object),
        lambda X: (10 * X).astype(int),
        lambda X: X.tolist(),
        lambda X: np.asfortranarray(X),
        lambda X: X[::-1][::-1],
        lambda X: pd.DataFrame(X).add_prefix("x"),
    ]
    return dice.one_of(ordinary, change)(X)


# ------------------------------------------------------------------- what goes with each row


def _labels(dice: Dice, signal: np.ndarray) -> tuple[Any, np.ndarray, list]:
    """Labels as they are passed, as they are, and their names."""
    rng, n = dice.rng, len(signal)
    n_classes = int(dice.one_of([2, 2, 2, 3, 5]))
    noisy = signal + dice.one_of([0.3, 1.0, 3.0]) * rng.normal(size=n)
    shares = np.linspace(0, 1, n_classes + 1)[1:-1] ** dice.one_of([1, 1, 4])
    codes = np.searchsorted(np.quantile(noisy, shares), noisy)
    names = dice.one_of(
        [
            list(range(n_classes)),
            [f"class {i}" for i in range(n_classes)],
            [-1.0, *range(1, n_classes)],
            [False, True] if n_classes == 2 else [*range(n_classes)],
        ]
    )
    y = np.array(names)[codes]
    odd = [
        lambda y: np.zeros(n),
        lambda y: np.where(np.arange(n) == 0, np.nan, codes),
        lambda y: np.where(np.arange(n) == 0, np.inf, codes),
        lambda y: [None, *y[1:]],
        lambda y: noisy,
        lambda y: y[:-1],
        lambda y: np.column_stack([y, y]),
        lambda y: y[:, None],
        lambda y: [["a"], *y[1:]],
        lambda y: [1, "a"] * (n // 2) + [1] * (n % 2),
        lambda y: np.arange(n),
        lambda y: y.astype("datetime64[D]") if y.dtype.kind == "i" else y.astype(bytes),
        lambda y: codes + 1j,
        lambda y: None,
        lambda y: "y",
        lambda y: pd.Series(y, index=range(1, n + 1)),
        lambda y: pd.Series(y, index=rng.permutation(n)),
        lambda y: pd.array([pd.NA, *codes[1:]], dtype="Int64"),
        lambda y: (np.arange(n) == 0).astype(int),
        lambda y: (np.arange(n) < 3).astype(int),
    ]
    forms = [lambda y: y, lambda y: y.tolist(), pd.Series, pd.Categorical]
    forms += [lambda y: y.astype(object)] * (y.dtype.kind == "U")
    change = dice.one_of(forms, odd)
    passed = change(y)
    truth = y if change in forms else _flat(passed, y)
    return passed, truth, names


def _flat(passed: Any, y: np.ndarray) -> np.ndarray:
    """Labels after an odd change, where a fit may take them."""
    try:
        flat = np.asarray(passed).reshape(-1)
    except ValueError:  # of several shapes
        return y
    return flat if len(flat) == len(y) else y


def _groups(dice: Dice, signal: np.ndarray, largest: int) -> tuple[Any, list]:
    """Draw groups as they are passed, and the columns of their values, None where missing."""
    rng, n = dice.rng, len(signal)

    def column() -> np.ndarray:
        n_groups = int(dice.one_of([2, 2, 3, largest], [1, 30]))
        shift = dice.one_of([0.0, 1.0, 3.0]) * signal
        codes = np.clip(np.round(shift + rng.integers(0, n_groups, n)), 0, n_groups - 1).astype(int)
        names = dice.one_of(
            [
                [f"g{i}" for i in range(n_groups)],
                [*range(n_groups)],
                [i / 2 for i in range(n_groups)],
            ]
        )
        values = np.array(names, dtype=object)[codes]
        lacking = dice.one_of([0.0], [0.02, 0.5, 1.0])
        return np.where(rng.random(n) < lacking, None, values)

    columns = [column() for _ in range(int(dice.one_of([1, 1, 1, 2], [3])))]
    single = [
        lambda c: c[0],
        lambda c: c[0].tolist(),
        lambda c: pd.Series(c[0]),
        lambda c: {"sex": c[0]},
        lambda c: np.array([np.nan if v is None else v for v in c[0]], dtype=object),
    ]
    several = [
        lambda c: np.column_stack(c),
        lambda c: pd.DataFrame(dict(enumerate(c))),
        lambda c: {f"s{i}": v for i, v in enumerate(c)},
        lambda c: pd.MultiIndex.from_arrays(c),
    ]
    odd = [
        lambda c: None,
        lambda c: c[0][:-1],
        lambda c: "sex",
        lambda c: 7,
        lambda c: [[1], *[[2]] * (n - 1)],
        lambda c: [{1}, *[{2}] * (n - 1)],
        lambda c: np.zeros((n, 1, 1)),
        lambda c: np.zeros((n, 0)),
        lambda c: pd.DataFrame(index=range(n)),
        lambda c: {},
        lambda c: {"a": c[0], "b": c[0][:-1]},
        lambda c: sparse.csr_matrix(np.arange(n) % 2),
    ]
    own = [
        lambda c: signal,
        lambda c: signal.astype(complex),
        lambda c: pd.date_range("2020", periods=n),
        lambda c: pd.Series(np.arange(n) // 20, index=rng.permutation(n)),
    ]
    change = dice.one_of(single if len(columns) == 1 else several, odd + own)
    passed = change(columns)
    if change in own:
        columns = [np.asarray(passed).astype(object)]
    return passed, [] if change in odd else columns


def _weights(dice: Dice, y: np.ndarray, group: list) -> tuple[Any, np.ndarray | None]:
    """Weights as they are passed, and as numbers."""
    rng, n = dice.rng, len(y)
    one_class = np.asarray(y == y[0])
    one_group = np.array([g == group[0] for g in group]) if len(group) == n else one_class
    weight = dice.one_of(
        [
            lambda: None,
            lambda: None,
            lambda: rng.uniform(0.5, 2.0, n),
            lambda: rng.integers(0, 3, n),
            lambda: np.where(one_group, 0.0, 1.0),
            lambda: rng.lognormal(0, 1, n),
        ],
        [
            lambda: np.where(one_group, 1e-46, 1.0),
            lambda: np.where(one_group, 1e-39, 1.0),
            lambda: np.where(one_group, 1e305, 1.0),
            lambda: np.where(one_class, 1.0, 0.0),
            lambda: np.where(one_class, 1.0, 1e-40),
            lambda: rng.uniform(size=n) * 1e305,
            lambda: rng.uniform(size=n) * 1e-320,
            lambda: rng.lognormal(0, 5, n),
            lambda: rng.lognormal(0, 300, n),
            lambda: np.where(np.arange(n) == 0, -1.0, 1.0),
            lambda: np.where(np.arange(n) == 0, np.nan, 1.0),
            lambda: np.where(np.arange(n) == 0, np.inf, 1.0),
            lambda: np.where(np.arange(n) == 0, 1e30, 1.0),
            lambda: np.zeros(n),
            lambda: np.ones(n - 1),
            lambda: np.ones((n, 2)),
            lambda: np.ones(n) * 1j,
            lambda: ["1"] * n,
            lambda: ["heavy"] * n,
            lambda: 1.0,
            lambda: 2,
            lambda: "balanced",
            lambda: [10**400] * n,
            lambda: pd.Series(np.ones(n), index=rng.permutation(n)),
        ],
    )()
    try:
        numbers = None if weight is None else np.broadcast_to(np.asarray(weight), n).astype(float)
    except (TypeError, ValueError, OverflowError):
        numbers = None
    return weight, numbers


# ------------------------------------------------------------------------------------ parameters


class PassedOver(Constraint):
    """A notion of a user's own: of those who are positive, as many are passed over."""

    events = ("positive",)

    def event(self, is_class):
        """Positive rows."""
        return torch.where(is_class, 0, OUTSIDE)

    def outcome_logits(self, margins, is_class):
        """Above 0 where the row is not selected."""
        return -margins


class Nonsense(Constraint):
    """A notion whose codes are of no event."""

    events = ("all",)

    def event(self, is_class):
        """Give a code of no event."""
        return torch.full_like(is_class, 7, dtype=torch.int64)


CONSTRAINT = (
    [lambda name=name: name for name in CONSTRAINTS]
    + [lambda name=name: CONSTRAINTS[name]("ratio") for name in [*CONSTRAINTS][:-1]]
    + [
        lambda: None,
        PassedOver,
        lambda: reductions.DemographicParity(difference_bound=0.1),
        lambda: reductions.EqualizedOdds(ratio_bound=0.8),
        lambda: reductions.TruePositiveRateParity(difference_bound=0.2),
        lambda: reductions.ErrorRateParity(difference_bound=0.05),
    ],
    [
        lambda: "equality",
        lambda: 3,
        lambda: constraints.DegradationParity("ratio"),
        lambda: constraints.EqualizedOdds("quotient"),
        lambda: constraints.EqualizedOdds,
        lambda: reductions.DemographicParity(ratio_bound=0.8, ratio_bound_slack=0.1),
        lambda: reductions.BoundedGroupLoss(reductions.SquareLoss(0, 1), upper_bound=0.1),
        lambda: reductions.ErrorRate(),
        Nonsense,
        lambda: Constraint(),
    ],
)

NUMBERS_THAT_ARE_NONE = [float("nan"), float("inf"), -1, "1", None, [1], 10**400, 1j, True]
DEFAULT = object()

PARAMETERS: dict[str, tuple[list, list]] = {
    "sparsity": (
        [0.9, 0.5, 0.6, 0.8, 0.97],
        [0.0, 0.3, 1, 1.0, 0.99999999, 1e-300, *NUMBERS_THAT_ARE_NONE],
    ),
    "tolerance": ([0.05, 0.2, 0.5, 1.0, 0.0, None], [2, 1e-300, *NUMBERS_THAT_ARE_NONE]),
    "fairness_weight": ([1.0, 5.0], [0, 1e38, 1e30, 1e-300, *NUMBERS_THAT_ARE_NONE]),
    "gap_method": (["between_groups", "to_overall"], ["both", None, 1]),
    "min_group_count": ([1, 2, 5, 10], [0, 10**30, 1.5, *NUMBERS_THAT_ARE_NONE]),
    "missing_sensitive": (["error", "ignore", "group"], ["drop", None, True]),
    "pos_label": ([None], [0, 1, 1.0, True, "class 1", "nobody", float("nan"), [1]]),
    "class_weight": (
        [None, None, None, "balanced"],
        [
            {0: 1, 1: 2},
            {0: 0, 1: 1},
            {0: -1, 1: 1},
            {0: float("nan")},
            {"x": 2},
            {0: "heavy"},
            {0: 1e305, 1: 1e-305},
            {},
            {0: None},
            {0: 10**400, 1: 1},
            {0: 1j},
            "heavy",
            [1, 2],
            3,
            {None: 1},
            {(0, 1): 1},
        ],
    ),
    "max_epochs": ([1, 1, 2, 3], [0, 1.5, *NUMBERS_THAT_ARE_NONE]),
    "batch_size": (["auto", 16, 64, 1000], [1, 10**30, 0, *NUMBERS_THAT_ARE_NONE]),
    "lr": ([1e-3, 1e-2], [1e30, 1e-300, 10.0, 0.0, *NUMBERS_THAT_ARE_NONE]),
    "mask_lr": ([3e-4, 1e-2], [1e38, 0.0, 1e300, *NUMBERS_THAT_ARE_NONE]),
    "warm_start": ([False], [True, "no", None, 1]),
    "memory": ([None], [3, object()]),
    "checkpoint": ([None], [3, "nowhere/a", ".", "/dev/null/a"]),
    "device": (["cpu"], ["auto", "meta", "cuda:77", "tpu", None, 0, torch.device("meta")]),
    "random_state": ([0, 1, None], [np.random.RandomState(0), -1, 2**40, "seed", 1.5]),
    "verbose": ([0], [-1, None, "much", 1.5]),
}


def _objects(dice: Dice) -> dict[str, Callable[[], Any]]:
    """Parameters that are objects, each made when it is asked for: that may be refused."""
    solvers = [*[lambda: "bilevel"] * 10, *[lambda name=name: name for name in SOLVERS]]
    solvers += [lambda: Magnitude(), lambda: BilevelSolver(upper_batch="previous")]
    odd_solvers = [
        lambda: "prune",
        lambda: 5,
        lambda: BilevelSolver,
        lambda: BilevelSolver(ramp_end=float("nan")),
        lambda: BilevelSolver(freeze_start=7),
        lambda: BilevelSolver(gamma=1e-300),
        lambda: BilevelSolver(mask_momentum=float("nan")),
        lambda: BilevelSolver(constrained_levels="all"),
        lambda: BilevelSolver(gamma=0.0),
        lambda: BilevelSolver(weight_decay=1e30),
    ]
    granularities = [lambda: "unstructured"] * 10
    granularities += [lambda name=name: name for name in GRANULARITIES]
    granularities += [lambda: Neuron(scope="layer"), lambda: Pattern(1, 3)]
    odd_granularities = [
        lambda: "filters",
        lambda: Neuron,
        lambda: Neuron(scope="universe"),
        lambda: Pattern(4, 2),
        lambda: Pattern(0, 0),
        lambda: 2.4,
        lambda: None,
    ]
    callbacks = [
        lambda: [EpochTimer()],
        lambda: [("x", EarlyStopping(monitor="train_loss", patience=1))],
        lambda: [3],
        lambda: [("x", "y")],
        lambda: [EpochTimer],
        lambda: EpochTimer(),
        lambda: [None],
        lambda: [("train_loss", EpochTimer())],
    ]
    return {
        "constraint": dice.one_of(*CONSTRAINT),
        "solver": dice.one_of(solvers, odd_solvers),
        "granularity": dice.one_of(granularities, odd_granularities),
        "callbacks": dice.one_of([lambda: None], callbacks),
    }


@dataclass(frozen=True)
class Fit:
    """One fit: what is passed, and what is known of it."""

    rows: dict[str, Any]
    """Arguments of ``fit``."""
    parameters: dict[str, Any]
    objects: dict[str, Callable[[], Any]]
    """Parameters that are made when they are asked for, which may be refused."""
    known: Known


def draw(rng: np.random.Generator) -> Fit:
    """Draw a fit."""
    dice = Dice(rng)
    n = int(np.exp(rng.uniform(np.log(20), np.log(400))))
    if dice.happens(0.1):
        n = int(rng.integers(5, 20))
    signal = rng.normal(size=n)
    default = dice.happens(0.3)
    X = (_frame if default and dice.happens(0.8) else _matrix)(dice, signal)
    y, truth, names = _labels(dice, signal)
    groups, columns = _groups(dice, signal, min(8, 1 + n // 40))
    controls, strata = _groups(dice, signal, 2) if dice.happens(0.15) else (None, [])
    parameters: dict[str, Any] = {name: dice.one_of(*of) for name, of in PARAMETERS.items()}
    if dice.happens(0.9):  # for time: one fit, not three
        parameters["tolerance_on"] = dice.one_of(["training"], ["test", None])
    if dice.happens(0.1):
        parameters["class_weight"] = {name: 2.0 ** rng.integers(-2, 3) for name in names[:2]}
    objects = _objects(dice)
    if not default:
        shape = (1, *np.shape(X[0])) if isinstance(X, list) else getattr(X, "shape", ())
        n_features = shape[1] if len(shape) > 1 else 1
        objects["estimator"] = lambda: _estimator(n_features, len(names), dice)
    missing = parameters["missing_sensitive"]
    group = _joined(columns, "ignore" if missing == "error" else missing)
    weight, numbers = _weights(dice, truth, group)
    rows = {"X": X, "y": y, "sensitive_features": groups}
    rows |= {"control_features": controls, "sample_weight": weight}
    known = Known(truth, group, _joined(strata, "ignore") if strata else None, numbers)
    return Fit(rows, parameters, objects, known)


def _joined(columns: list, missing: str) -> list:
    """Join columns of values to groups: None for a row that is in no group."""
    if missing == "group":
        columns = [["missing" if v is None else v for v in column] for column in columns]
    rows = zip(*columns, strict=True)
    return [None if any(v is None for v in row) else tuple(row) for row in rows]


def case(rng: np.random.Generator) -> str:
    """Fit once; give the outcome in words, or break."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = draw(rng)
    with watched_training() as begun, only_documented_warnings():
        try:
            objects = {name: make() for name, make in drawn.objects.items()}
            pruner = FairPruner(**drawn.parameters, **objects).fit(**drawn.rows)
        except DivergedError:
            return "diverged"
        except REFUSALS as error:
            if begun:
                raise BrokenRuleError(f"an error after training on {begun}: {error}") from error
            return "refused"
        return check_claim(pruner, drawn.rows["X"], drawn.known)
