"""Displays: pictures of a fit and of what it does to groups, in scikit-learn's style.

Each is made from an estimator, from predictions or from results, and draws itself:
``RatesByGroupDisplay.from_estimator(pruner, X_test, y_test, sensitive_features=s_test)``. It keeps
what it shows, ``plot(ax=ax)`` draws it into axes of yours, and ``ax_`` and ``figure_`` are what it
drew.

Drawing needs the extra ``plot`` (matplotlib). Colours are those of Okabe and Ito, which people who
are colour-blind can tell apart; marks differ in shape too, for print without colour.
"""

from fairprune_sk.displays.curves import CurvesByGroupDisplay
from fairprune_sk.displays.history import HistoryDisplay
from fairprune_sk.displays.layers import ColumnsDisplay, RemovedByLayerDisplay
from fairprune_sk.displays.rates import RatesByGroupDisplay
from fairprune_sk.displays.trade_off import TradeOffDisplay

__all__ = [
    "ColumnsDisplay",
    "CurvesByGroupDisplay",
    "HistoryDisplay",
    "RatesByGroupDisplay",
    "RemovedByLayerDisplay",
    "TradeOffDisplay",
]
