"""Masks: what can be removed from a network, what matters in it, and the network without the rest.

Here belongs what hangs together (units, from Torch-Pruning's dependency graph), the choice of what
goes together (granularity) with its layout of scores and masks, what ranks weights (importance),
and the way from a masked network to a smaller one (compaction). Nothing here trains.
"""

from fairprune_sk.masks.granularity import (
    GRANULARITIES,
    Granularity,
    Layout,
    Neuron,
    Pattern,
    Unstructured,
)

__all__ = ["GRANULARITIES", "Granularity", "Layout", "Neuron", "Pattern", "Unstructured"]
