"""Every net that skorch's own tests fit, handed to FairPruner: a plugin of pytest.

    python -m pytest -n 0 -p tests.skorch_suite --pyargs skorch.tests.test_net \
        skorch.tests.test_classifier

runs skorch's tests from its released package (they need ``flaky``). After each test that has
fitted nets, up to four of them are pruned: trained anew, and frozen with nothing removed, where
both must predict as the net does. Each test is counted once: passed, refused by name, failed, or
not applicable.
"""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet

from fairprune_sk import FairPruner
from fairprune_sk.exceptions import DivergedError

fits: list[tuple] = []
outcomes: dict[str, tuple[str, str]] = {}
_partial_fit = NeuralNet.partial_fit


def _remember(net, X, y=None, classes=None, *, _routing_method="partial_fit", **fit_params):
    routing = {"_routing_method": _routing_method}
    fitted = _partial_fit(net, X, y, classes, **routing, **fit_params)
    fits.append((net, X, y, fit_params))
    return fitted


NeuralNet.partial_fit = _remember  # which fit calls as well


def outcome(net, X, y, fit_params):
    """Say what becomes of a net in FairPruner, and why."""
    for cls in type(net).__mro__:
        if cls.__module__.startswith("skorch.tests"):
            cls.__module__ = "a_user"  # what a test writes is not skorch's own
    if fit_params.keys() - {"epochs"}:
        return "not applicable", "parameters of fit that go on to the module"
    if y is None or isinstance(X, torch.utils.data.Dataset):
        return "not applicable", f"a {type(X).__name__} with its labels"
    if issparse(X):
        return "not applicable", "a sparse matrix, which scikit-learn's own check refuses"
    if np.ndim(y) != 1 or np.ndim(y[0]):
        return "not applicable", "several labels for each row"
    try:
        clone(net)
    except TypeError as error:
        return "not applicable", f"mocks, which scikit-learn cannot clone: {error}"
    quick = {"constraint": None, "max_epochs": 1, "random_state": 0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            anew = FairPruner(clone(net).set_params(verbose=0), sparsity=0.5, **quick).fit(X, y)
            same = np.array_equal(anew.predict_dense(X), anew.dense_estimator_.predict(X))
            if getattr(net, "initialized_", False) and len(net.history):
                frozen = FrozenEstimator(net)
                kept = FairPruner(frozen, sparsity=0.0, lr=1e-12, mask_lr=0.0, **quick).fit(X, y)
                same &= np.array_equal(kept.predict(X), np.asarray(net.predict(X)))
                proba = net.predict_proba(X)
                if np.allclose(proba.sum(1), 1.0, atol=1e-3):
                    same &= np.allclose(kept.predict_proba(X), proba, atol=1e-4)
    except DivergedError as error:
        return "refused", str(error)
    except ValueError as error:
        return ("refused" if str(error).startswith("Got") else "failed"), str(error)
    except Exception as error:
        return "failed", repr(error)
    return ("passed", "") if same else ("failed", "predictions are not those of the net")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Forget what other tests have fitted."""
    fits.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Prune what a test has fitted."""
    result = yield
    seen = [outcome(*fit) for fit in fits[:4]]
    order = ["failed", "refused", "passed", "not applicable"]
    nothing = ("not applicable", "fits no net")
    outcomes[item.nodeid] = min(seen, key=lambda o: order.index(o[0]), default=nothing)
    return result


def pytest_terminal_summary(terminalreporter):
    """Print the counts, and what was refused or failed."""
    for name, (what, why) in outcomes.items():
        if why != "fits no net" and what != "passed":
            terminalreporter.write_line(f"{what}: {name.split('::', 1)[1]}: {why[:160]}")
    terminalreporter.write_line(str(Counter(what for what, _ in outcomes.values())))
