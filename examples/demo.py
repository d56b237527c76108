"""Fit the default FairPruner on a generated table, or on a CSV, and print the report.

Without arguments the table is made up (a lender's decisions with a known bias), so that nothing
has to be downloaded. With your own::

    python examples/demo.py --data loans.csv --target repaid --sensitive sex
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

from fairprune_sk import FairPruner, fairness_report
from fairprune_sk.datasets import make_biased_classification


def read_table(path: str, target: str, sensitive: list[str]) -> tuple:
    """Read X, y and the sensitive features from a CSV; all columns but the target are features."""
    if not Path(path).is_file():
        sys.exit(f"Got --data {path}, but there is no such file.")
    table = pd.read_csv(path)
    for column in [target, *sensitive]:
        if column not in table:
            sys.exit(f"Got column {column!r}, but {path} has {', '.join(map(str, table.columns))}.")
    missing = table[[target, *sensitive]].isna().any(axis=1)
    if missing.any():
        print(f"Left out: {missing.sum():,} rows without a target or a sensitive feature.")
        table = table[~missing].reset_index(drop=True)
    return table.drop(columns=target), table[target], table[sensitive]


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a CSV file; by default a generated table")
    parser.add_argument("--target", help="its target column, with two values")
    parser.add_argument("--sensitive", help="its sensitive column, or several, with commas")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--tolerance", type=float, default=0.05)
    options = parser.parse_args()

    if options.data:
        if not (options.target and options.sensitive):
            sys.exit(
                "Got --data alone, but expected --target and --sensitive with it: which "
                "column is to be predicted, and between which groups should it be fair?"
            )
        X, y, s = read_table(options.data, options.target, options.sensitive.split(","))
        print(f"{options.data}: {len(X):,} rows, {X.shape[1]} features")
    else:
        X, y, s = make_biased_classification(20_000, random_state=0)
        s = s[["sex"]]
        print(f"A generated table of credit decisions: {len(X):,} rows, {X.shape[1]} features")
        print(X.head(3).to_string(max_colwidth=14), end="\n\n")
    if y.nunique() != 2:
        sys.exit(f"Got a target with {y.nunique()} values, but expected two.")

    X_train, X_test, y_train, y_test, s_train, s_test = train_test_split(
        X, y, s, test_size=0.3, stratify=y, random_state=0
    )
    pruner = FairPruner(sparsity=options.sparsity, tolerance=options.tolerance, random_state=0)
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
