"""Going back to earlier weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from fairprune_sk.solvers.base import SolverState, copied, load_tensors

REWINDS = ("initial", "dense")


@dataclass
class Rounds:
    """Rounds of pruning that are behind, and where each began.

    Attributes
    ----------
    done : int
    weights : dict of Tensor
        Parameters and buffers to go back to; none where rounds go on from each other.
    """

    done: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Copy both."""
        return {"done": self.done, "weights": copied(self.weights)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take them over."""
        self.done, self.weights = saved["done"], copied(saved["weights"])


def rewound(state: SolverState, weights: Mapping[str, Tensor]) -> SolverState:
    """Put earlier weights (and running statistics) back; the optimiser forgets its moments."""
    own: dict[str, Tensor] = {**state.weights, **state.buffers}
    load_tensors({name: tensor for name, tensor in own.items() if name in weights}, weights)
    state.lower.state.clear()
    return state


def check_rewind(solver: Any, knows_initial_weights: bool) -> None:
    """Refuse to go back to weights that nobody knows."""
    if solver.rewind_to == "initial" and not knows_initial_weights:
        name = type(solver).__name__
        raise ValueError(
            f"Got solver={name}(rewind_to='initial') with a network whose weights before training "
            "are not known (a skorch net trains itself; a warm start is trained already): use "
            f"{name}(rewind_to='dense'), or pass the module itself as the estimator."
        )
