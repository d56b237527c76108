"""The pruning algorithms: fair bi-level pruning, and what it is compared with.

Each is a :class:`Solver`, so that all of them share the dense network, the optimiser, the number
of steps, the data and the choice of the best network at the end: what differs is what their
papers say.
"""

from fairprune_sk.fairness.objective import Enforcement
from fairprune_sk.solvers.balancing_act import BalancingAct
from fairprune_sk.solvers.base import Problem, Solver, SolverState, Start
from fairprune_sk.solvers.bilevel import BilevelSolver, Bip
from fairprune_sk.solvers.fairgrape import FairGrape
from fairprune_sk.solvers.lottery_ticket import LotteryTicket
from fairprune_sk.solvers.moving import AcDc, Rigl
from fairprune_sk.solvers.one_shot import Fpgm, Grasp, Magnitude, RandomPruning, Snip
from fairprune_sk.solvers.two_stages import FairThenPrune, PruneThenFair

SOLVERS: dict[str, type[Solver]] = {
    "bilevel": BilevelSolver,
    "magnitude": Magnitude,
    "random": RandomPruning,
    "snip": Snip,
    "grasp": Grasp,
    "fpgm": Fpgm,
    "bip": Bip,
    "lottery_ticket": LotteryTicket,
    "fairgrape": FairGrape,
    "prune_then_fair": PruneThenFair,
    "fair_then_prune": FairThenPrune,
    "balancing_act": BalancingAct,
    "rigl": Rigl,
    "acdc": AcDc,
}
"""Every solver by the name that ``FairPruner(solver=...)`` takes."""

__all__ = [
    "SOLVERS",
    "AcDc",
    "BalancingAct",
    "BilevelSolver",
    "Bip",
    "Enforcement",
    "FairGrape",
    "FairThenPrune",
    "Fpgm",
    "Grasp",
    "LotteryTicket",
    "Magnitude",
    "Problem",
    "PruneThenFair",
    "RandomPruning",
    "Rigl",
    "Snip",
    "Solver",
    "SolverState",
    "Start",
]
