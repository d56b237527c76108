"""Fit the default FairPruner on a generated table, or on a CSV, and print the report.

Without arguments the table is made up (a lender's decisions with a known bias), so that nothing
has to be downloaded. With your own::

    python examples/demo.py --data loans.csv --target repaid --sensitive sex --positive yes
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import pandas as pd
from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification
from fairprune_sk.datasets.csv_files import check_columns, read_csv

MIN_ROWS = 20
"""Fewer rows cannot be split into rows to fit on and rows to test on."""


def split_columns(table: pd.DataFrame, target: str, sensitive: list[str]) -> tuple:
    """Split a table into X, y and sensitive features; all columns but the target are features."""
    check_columns(table.columns, [target, *sensitive], "a table")
    if target in sensitive:
        raise ValueError(
            f"Got {target!r} as the target and as a sensitive column, but expected different ones."
        )
    missing = table[[target, *sensitive]].isna().any(axis=1)
    if missing.any():
        print(f"Left out: {missing.sum():,} rows without a target or a sensitive feature.")
        table = table[~missing].reset_index(drop=True)
    if len(table) < MIN_ROWS:
        raise ValueError(
            f"Got {len(table)} rows with a target and a sensitive feature, but expected at least "
            f"{MIN_ROWS}: add rows."
        )
    check_target(table[target])
    return table.drop(columns=target), table[target], table[sensitive]


def check_target(y: pd.Series) -> None:
    """Check that a classifier can be fitted and tested."""
    counts = y.value_counts()
    if len(counts) < 2:
        raise ValueError(
            f"Got the target {y.name!r} with one value, {counts.index[0]!r}, but expected two or "
            "more classes: name another column, or add rows of other classes."
        )
    numbers = pd.api.types.is_numeric_dtype(y) and not pd.api.types.is_bool_dtype(y)
    if numbers and (len(counts) > 20 or (y % 1 != 0).any()):
        raise ValueError(
            f"Got the target {y.name!r} with {len(counts):,} distinct numbers from {y.min()} to "
            f"{y.max()}, but this is a classifier, which expected classes: make a column of "
            f"classes first, such as table[{y.name!r}] > {y.median():g}, and name that one."
        )
    rare = counts[counts < 2]
    if len(rare):
        shown = ", ".join(map(repr, rare.index[:5])) + (", ..." if len(rare) > 5 else "")
        raise ValueError(
            f"Got the target {y.name!r} with {len(rare)} classes of one row ({shown}), but "
            "expected two rows or more, to fit on and to test on: remove these rows, or join the "
            "class with another."
        )
    if len(counts) > 0.3 * len(y):
        raise ValueError(
            f"Got the target {y.name!r} with {len(counts):,} classes in {len(y):,} rows, but "
            "expected few classes: name another column, or join classes."
        )


def positive_label(y: pd.Series, wanted: str | None) -> object:
    """Find the label that is written so; None for more than two classes."""
    classes = sorted(y.unique())
    if len(classes) > 2:
        if wanted is not None:
            raise ValueError(
                f"Got the positive label {wanted!r} for the target {y.name!r} with "
                f"{len(classes)} classes, but of more than two each is compared with the rest: "
                "leave it out."
            )
        return None
    if wanted is None:
        return classes[1]
    for label in classes:
        if str(label) == wanted.strip():
            return label
    raise ValueError(
        f"Got the positive label {wanted!r}, but expected one of the target {y.name!r}: "
        f"{', '.join(map(str, classes))}."
    )


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a CSV file; by default a generated table")
    parser.add_argument("--target", help="its target column: two or more classes")
    parser.add_argument("--sensitive", help="its sensitive column, or several, with commas")
    parser.add_argument("--positive", help="the positive label; by default the last in order")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--tolerance", type=float, default=0.05)
    options = parser.parse_args()

    given = [bool(options.data), bool(options.target), bool(options.sensitive)]
    if (any(given) or options.positive) and not all(given):
        sys.exit(
            "Got only a part of --data, --target and --sensitive (with make: DATA, TARGET and "
            "SENSITIVE), but expected all three, or none for a generated table: which file, which "
            "column is to be predicted, and between which groups should it be fair?"
        )
    if options.data:
        try:
            table = read_csv(options.data)
            sensitive = [name.strip() for name in options.sensitive.split(",")]
            X, y, s = split_columns(table, options.target.strip(), sensitive)
            positive = positive_label(y, options.positive)
        except (OSError, ValueError) as error:
            sys.exit(str(error))
        print(f"{options.data}: {len(X):,} rows, {X.shape[1]} features")
    else:
        X, y, s = make_biased_classification(20_000, random_state=0)
        s = s[["sex"]]
        positive = positive_label(y, None)
        print(f"A generated table of credit decisions: {len(X):,} rows, {X.shape[1]} features")
        print(X.head(3).to_string(max_colwidth=14), end="\n\n")
    classes = sorted(y.unique())
    if len(classes) == 2:
        negative = classes[0] if positive == classes[1] else classes[1]
        print(f"Target {y.name!r}: {positive} counts as positive, {negative} as negative.")
    else:
        print(f"Target {y.name!r} with {len(classes)} classes: {', '.join(map(str, classes))}.")

    X_train, X_test, y_train, y_test, s_train, s_test = train_test_split(
        X, y, s, test_size=0.3, stratify=y, random_state=0
    )
    pruner = FairPruner(
        sparsity=options.sparsity,
        tolerance=options.tolerance,
        pos_label=None if options.positive is None else positive,
        random_state=0,
    )
    print(f"Fitting {pruner} on {len(X_train):,} rows ...", flush=True)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            pruner.fit(X_train, y_train, sensitive_features=s_train)
        except ValueError as error:
            sys.exit(f"This table does not fit: {error}")
    print(f"... took {time.perf_counter() - start:.1f} s.\n")
    for warning in caught:
        print(f"{warning.category.__name__}: {warning.message}\n")
    print(f"On {len(X_test):,} rows that the fit has not seen:\n")
    print(fairness_report(pruner, X_test, y_test, sensitive_features=s_test))


if __name__ == "__main__":
    main()
