"""Going back to earlier weights."""

from __future__ import annotations

from typing import Any

from fairprune_sk.solvers.base import Problem, SolverState

REWINDS = ("initial", "dense")


def rewound(problem: Problem, state: SolverState, weights: Any) -> SolverState:
    """Put earlier weights (and running statistics) back; the optimiser forgets its moments."""
    problem.module.load_state_dict(weights, strict=False)
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
