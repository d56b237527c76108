"""What lies between two solutions of one problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from fairlearn.metrics import equalized_odds_difference
from sklearn.metrics import accuracy_score, log_loss

from fairprune_sk.fitting.outputs import logits
from fairprune_sk.masks.compaction import with_tensors
from fairprune_sk.pruner import FairPruner


def along_the_line(
    first: FairPruner,
    second: FairPruner,
    X: Any,
    y: np.ndarray,
    *,
    sensitive_features: Any,
    gap: Any = equalized_odds_difference,
    n_points: int = 21,
) -> pd.DataFrame:
    """Loss, accuracy and gap of the networks on the line between two pruned networks.

    At position t the parameters are ``(1 − t) z₁ + t z₂``, with z the masked parameters in the
    size of the dense network: the picture of Dai et al. (arXiv 2312.10181), Figure 8. Networks
    that were pruned from one dense network, as with one ``random_state`` and a ``memory``, are
    comparable neuron by neuron; others are not.

    Parameters
    ----------
    first, second : FairPruner
        Fitted on the same table, of two classes.
    X : DataFrame or ndarray of shape (n, n_features)
    y : ndarray of shape (n,)
    sensitive_features : Series or array-like of shape (n,)
    gap : callable, default=fairlearn.metrics.equalized_odds_difference
        ``gap(y_true, y_pred, sensitive_features=...)``.
    n_points : int, default=21
        At least 2, the ends included.

    Returns
    -------
    DataFrame of shape (n_points, 4)
        ``position``, ``loss`` (mean log-loss), ``accuracy`` and ``gap``.

    Raises
    ------
    ValueError
        If the networks differ in shape.

    Examples
    --------
    >>> from fairprune_sk import BilevelSolver, FairPruner
    >>> from fairprune_sk.benchmarks.landscape import along_the_line
    >>> from fairprune_sk.datasets import make_biased_classification
    >>> X, y, s = make_biased_classification(500, random_state=0)
    >>> pruners = [
    ...     FairPruner(max_epochs=2, tolerance=0.3, random_state=0, solver=solver)
    ...     for solver in (BilevelSolver(), BilevelSolver(constrained_levels=()))
    ... ]
    >>> for pruner in pruners:
    ...     _ = pruner.fit(X, y, sensitive_features=s["sex"])
    >>> along_the_line(*pruners, X, y, sensitive_features=s["sex"], n_points=3).position.tolist()
    [0.0, 0.5, 1.0]
    """
    ends = [pruner._fitted.masked_network() for pruner in (first, second)]
    states = [network.state_dict() for network in ends]
    shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in states]
    if shapes[0] != shapes[1]:
        raise ValueError("Got networks of different shapes, but expected two fits of one network.")
    fitted = first._fitted
    table = fitted.table(first._checked(X))
    rows = []
    for position in np.linspace(0.0, 1.0, n_points):
        # lerp leaves alone what is equal at both ends: a buffer of category codes, one rounding
        # off, would know no category any more.
        between = {
            name: value.lerp(states[1][name], float(position))
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
        # Written into the tensors: a dict has lost the version that loading a state may ask for.
        network = with_tensors(ends[0], between, next(iter(between.values())).device)
        scores = logits(network, table, fitted.probabilities).numpy()[:, 0].astype(float)
        predicted = first.classes_[(scores > 0).astype(int)]
        rows.append(
            {
                "position": position,
                "loss": log_loss(y, 1.0 / (1.0 + np.exp(-scores))),
                "accuracy": accuracy_score(y, predicted),
                "gap": gap(y, predicted, sensitive_features=sensitive_features),
            }
        )
    return pd.DataFrame(rows)
