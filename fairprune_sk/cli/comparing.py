"""The subcommand that compares methods on a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from fairprune_sk.cli import options as opt
from fairprune_sk.cli.fitting import cleaner_of, say_roles
from fairprune_sk.cli.screen import Screen
from fairprune_sk.datasets.files import read_frame, stem_of
from fairprune_sk.datasets.roles import with_roles
from fairprune_sk.datasets.tables import Table

METHODS = "fairpruner,magnitude,prune_then_fair,threshold_optimizer(logistic)"


@click.command(short_help="Compare methods on a table, over several splits.")
@click.argument("data", type=opt.PATH)
@opt.columns
@click.option("--methods", type=opt.Names(), default=METHODS, show_default=True)
@click.option("--sparsities", type=opt.Numbers(), default="0.9", show_default=True)
@click.option("--tolerances", type=opt.Numbers(), default="0.05", show_default=True)
@opt.constraint
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Splits.")
@click.option("--test-size", type=opt.FRACTION, default=0.3, show_default=True)
@click.option("--results", type=opt.PATH, help="An SQLite file to go on from, and to add to.")
@click.option("--memory", type=opt.PATH, help="A folder that keeps dense networks for later runs.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@opt.shown
def bench(screen: Screen, data: Path, **options: Any) -> None:
    """Compare methods on the table DATA, over several splits of its rows.

    Methods are those of fairprune_sk.benchmark: FairPruner, eleven other pruning algorithms, and
    dense classifiers that fairlearn makes fair. The target needs two classes.
    """
    from fairprune_sk.benchmarks import METHODS as KNOWN
    from fairprune_sk.benchmarks import benchmark
    from fairprune_sk.benchmarks.statistics import summarise  # says which extra it needs

    unknown = [name for name in options["methods"] if name not in KNOWN]
    if unknown:
        raise click.UsageError(f"Got the methods {unknown}, but expected some of {sorted(KNOWN)}.")
    description, keep = opt.description_of(options), options.pop("keep")
    frame = read_frame(data, description.na_values)
    screen.say(f"{data}: {len(frame):,} rows, {frame.shape[1]} columns.", bold=True)
    name = stem_of(data)
    roles = with_roles(frame, description, name)
    if roles.pos_label is None:
        raise ValueError(
            f"Got the target {description.target!r} with {len(roles.classes)} classes, but methods "
            "are compared on two: join classes."
        )
    # Each seed splits all rows; what becomes of a column, no label has a say in.
    cleaner = cleaner_of(roles, description, keep)
    say_roles(roles, description, cleaner, screen)
    y = (roles.y == roles.pos_label).to_numpy(dtype=np.int64)
    table = Table(name, cleaner.transform(roles.X), y, roles.sensitive)
    with screen.warnings():
        fits = benchmark(
            options["methods"],
            [table],
            sparsities=options["sparsities"],
            constraints=[options["constraint"]],
            tolerances=options["tolerances"],
            seeds=options["seeds"],
            test_size=options["test_size"],
            results=options["results"],
            memory=options["memory"],
            n_jobs=options["jobs"],
            progress=screen.bars,
        )
    summary = summarise(fits)
    screen.show(f"\nMeans over {options['seeds']} splits, on rows that no fit has seen:")
    screen.show(_in_words(summary).to_string())
    screen.result(results=options["results"], summary=summary)


def _in_words(summary: pd.DataFrame) -> pd.DataFrame:
    """Lay out the columns of a summary that people look at first."""

    def written(column: str, form: str = "{:.3f}") -> list[str]:
        return ["–" if np.isnan(value) else form.format(value) for value in summary[column]]

    shown = pd.DataFrame(
        {
            "sparsity": written("sparsity", "{:g}"),
            "accuracy": written("accuracy"),
            "gap": written("gap"),
            "noise floor": written("noise_floor"),
            "points lost": written("points_lost"),
        }
    )
    if summary["tolerance"].nunique() > 1:
        shown.insert(1, "tolerance", written("tolerance", "{:g}"))
    for column, heading in (("sensitive", "by"), ("n_failed", "failed")):
        if summary[column].nunique() > 1:
            shown[heading] = summary[column].astype(str).to_numpy()
    return shown.set_axis(summary["method"].tolist())
