"""Tables and fitted estimators that several tests share."""

from __future__ import annotations

import signal

import numpy as np
import pandas as pd
import pytest
import torch

from fairprune_sk import FairPruner
from fairprune_sk.datasets import make_biased_classification


@pytest.fixture(scope="session")
def table() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Generate a table of 3,000 rows: X, y, sensitive features."""
    X, y, s = make_biased_classification(3000, random_state=0)
    return X, y.to_numpy(), s


@pytest.fixture(scope="session")
def fitted(table) -> FairPruner:
    """Fit a pruner on the first 2,000 rows of the table, long enough to meet its tolerance."""
    X, y, s = table
    pruner = FairPruner(random_state=0, tolerance=0.05, tolerance_on="training", max_epochs=150)
    return pruner.fit(X[:2000], y[:2000], sensitive_features=s["sex"][:2000])


def pytest_configure(config):
    # More threads make networks as small as these slower, not faster; doctests as well.
    torch.set_num_threads(1)
    # A job in the background is started with Ctrl-C ignored; tests press it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
