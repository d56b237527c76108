"""Attack the package with what no user should pass, and with what some do.

Each attack draws its cases from their numbers alone: the same number is the same case, today and
on another machine. A case gives its outcome in words, or breaks a rule; then its number is printed,
and the exit status is 1::

    python examples/attack.py                  # 10,000 cases
    python examples/attack.py --cases 500
    python examples/attack.py --only fits:1234 # one again, with its traceback

The rules are those of ``attack_rules``: no error but ValueError and TypeError, none after training
has begun but DivergedError, no warning that is not documented, no claim of fairness that
fairlearn's MetricFrame does not find, no prediction that rests on values which changed their
meaning, and no changed file that is not refused by name or predicts.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import attack_files
import attack_fits
import attack_tables
import numpy as np
import torch


class Attack(NamedTuple):
    """Cases of one kind."""

    case: Callable[[np.random.Generator], str]
    """From random numbers to the outcome in words; what it raises is a broken rule."""
    share: int
    """How many of all cases are of this kind, in proportion to the others' shares."""


ATTACKS = {
    "fits": Attack(attack_fits.case, 2500),
    "tables": Attack(attack_tables.case, 6500),
    "files": Attack(attack_files.case, 1000),
}
"""Every attack by name: one more is a line here."""


def run_case(name: str, number: int) -> str:
    """Run one case, from its name and number alone."""
    seeds = np.random.SeedSequence([*name.encode(), number])
    np.random.seed(seeds.generate_state(1)[0])
    torch.manual_seed(number)
    return ATTACKS[name].case(np.random.default_rng(seeds))


def numbers_of(n_cases: int) -> Iterator[tuple[str, int]]:
    """Share a number of cases out among the attacks."""
    total = sum(attack.share for attack in ATTACKS.values())
    for name, attack in ATTACKS.items():
        for number in range(round(n_cases * attack.share / total)):
            yield name, number


def main(arguments: list[str] | None = None) -> int:
    """Run all cases, or one, and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="number of cases, of all attacks")
    parser.add_argument("--only", metavar="NAME:NUMBER", help="one case, or (NAME) one attack")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    name, _, number = (options.only or "").partition(":")
    if name and name not in ATTACKS:
        parser.error(f"Got --only {options.only}, but expected one of {', '.join(ATTACKS)}.")
    if number:
        print(run_case(name, int(number)))
        return 0
    cases = [case for case in numbers_of(options.cases) if name in ("", case[0])]
    outcomes: dict[str, Counter[str]] = {name: Counter() for name in ATTACKS}
    failures = 0
    start = time.perf_counter()
    for name, number in cases:
        try:
            outcomes[name][run_case(name, number)] += 1
        except Exception as error:  # of any class: that is what is looked for
            failures += 1
            outcomes[name]["BROKEN RULE"] += 1
            print(f"{name}:{number} {''.join(traceback.format_exception_only(error)).strip()}")
    for name, counts in outcomes.items():
        for outcome, count in sorted(counts.items(), key=lambda item: -item[1]):
            print(f"{name:8} {count:6,}  {outcome}")
    seconds = time.perf_counter() - start
    print(f"{len(cases):,} cases in {seconds:,.0f} s, {failures} of them broke a rule")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
