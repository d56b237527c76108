"""Subcommands that fit a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pandas as pd

from fairprune_sk.cli import options as opt
from fairprune_sk.cli.fitting import Prepared, prepared
from fairprune_sk.cli.folder import (
    REPORTS,
    SURFACE,
    about_data,
    check_free,
    new_folder,
    write_folder,
)
from fairprune_sk.cli.outcome import outcome_of, report_on, show_outcome, write_reports
from fairprune_sk.cli.screen import Screen, narrowed
from fairprune_sk.datasets.description import TableDescription
from fairprune_sk.datasets.files import read_frame, stem_of
from fairprune_sk.datasets.synthetic import make_biased_classification
from fairprune_sk.pruner import FairPruner


@click.command()
@click.argument("data", type=opt.PATH)
@opt.columns
@opt.sparsity
@opt.tolerance
@opt.network
@opt.split
@opt.written
@opt.shown
def fit(screen: Screen, data: Path, out: Path, force: bool, **options: Any) -> None:
    """Fit a fair, sparse network on the table DATA.

    DATA is a CSV, TSV, Parquet or Feather file; text may be compressed. Of its rows, 30% are set
    aside for the report. The folder --out gets the network, its settings, the numbers of these
    rows and the report; it is written as a whole, or not at all.
    """
    check_free(out, force)
    table, about = _read(screen, data, options)
    pruner = _fitted(_pruner(options, table, about), table, about, screen)
    _write(screen, out, force, table, pruner, about)


@click.command(short_help="Fit a table at several sparsities and tolerances.")
@click.argument("data", type=opt.PATH)
@opt.columns
@click.option("--sparsities", type=opt.Numbers(), default="0.7,0.8,0.9,0.95", show_default=True)
@click.option("--tolerances", type=opt.Numbers(), default="0.02,0.05,0.1", show_default=True)
@opt.network
@click.option("--cv", type=click.IntRange(2), default=5, show_default=True, help="Folds.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
@opt.split
@opt.written
@opt.shown
def search(screen: Screen, data: Path, out: Path, force: bool, **options: Any) -> None:
    """Fit the table DATA at several sparsities and tolerances, and keep the best network.

    What each pair comes to is measured by cross-validation on the rows to fit on; the rows that are
    set aside have no say in the choice. The folder --out is that of fit, with the surface besides.
    """
    from fairprune_sk import FairPrunerCV

    check_free(out, force)
    axes = {"sparsity": options.pop("sparsities"), "tolerance": options.pop("tolerances")}
    folds, jobs = options.pop("cv"), options.pop("jobs")
    table, about = _read(screen, data, options)
    estimator = FairPrunerCV(_pruner(options, table, about), **axes, cv=folds, n_jobs=jobs)
    found = _fitted(estimator, table, about, screen)
    about["parameters"] |= {**axes, "cv": folds, "kept": dict(found.best_params_)}
    surface = found.surface_
    screen.show(f"\nBy {folds}-fold cross-validation on the rows to fit on:\n")
    screen.show(surface.to_string(index=False, float_format="{:.3f}".format))
    best = ", ".join(f"{name} {value:g}" for name, value in found.best_params_.items())
    screen.say(f"\nKept: {best}.", bold=True)
    _write(screen, out, force, table, found.best_estimator_, about, surface)


@click.command(short_help="Fit a generated table, and print the report.")
@click.option("--data", type=opt.PATH, help="A table; by default a generated one.")
@opt.columns
@opt.sparsity
@opt.tolerance
@opt.network
@opt.split
@opt.shown
def demo(screen: Screen, data: Path | None, **options: Any) -> None:
    """Fit a generated table, or one of yours, and print the report; nothing is written.

    The generated table is made up (a lender's decisions with a known bias).
    """
    columns = ("target", "sensitive")
    given = [bool(data), *(bool(options[name] or options["description"]) for name in columns)]
    if (any(given) or options["positive"]) and not all(given):
        raise click.UsageError(
            "Got only a part of --data, --target and --sensitive (with make: DATA, TARGET and "
            "SENSITIVE), but expected all three, or none for a generated table: which file, which "
            "column is to be predicted, and between which groups should it be fair?"
        )
    if data is None:
        X, y, s = make_biased_classification(20_000, random_state=0)
        frame = pd.concat([X, s[["sex"]], y], axis=1)
        options.update(target=str(y.name), sensitive=("sex",))
        screen.say("A generated table of credit decisions", bold=True)
        screen.show(X.head(3).to_string(max_colwidth=14) + "\n")
        description = opt.description_of(options)
        table, about = _prepared(screen, frame, "generated", description, options)
    else:
        table, about = _read(screen, data, options)
    pruner = _fitted(_pruner(options, table, about), table, about, screen)
    report = report_on(pruner, table.tested)
    screen.show(
        f"\nOn {len(table.tested.y):,} rows that the fit has not seen:\n\n{narrowed(str(report))}"
    )
    screen.result(**outcome_of(report, pruner), seconds=about["seconds"])


def _read(screen: Screen, data: Path, options: dict[str, Any]) -> tuple[Prepared, dict[str, Any]]:
    """Read and prepare a table; the options left are parameters of a pruner."""
    description = opt.description_of(options)
    frame = read_frame(data, description.na_values)
    screen.say(f"{data}: {len(frame):,} rows, {frame.shape[1]} columns.", bold=True)
    table, about = _prepared(screen, frame, stem_of(data), description, options)
    return table, {"data": about_data(data, len(frame)), **about}


def _prepared(
    screen: Screen,
    frame: pd.DataFrame,
    name: str,
    description: TableDescription,
    options: dict[str, Any],
) -> tuple[Prepared, dict[str, Any]]:
    """Split and clean a table."""
    keep = options.pop("keep")
    split = {"test_size": options.pop("test_size"), "seed": options.pop("seed")}
    table = prepared(frame, description, name, screen, keep=keep, **split)
    return table, {"description": description, "split": split}


def _pruner(options: dict[str, Any], table: Prepared, about: dict[str, Any]) -> FairPruner:
    """Make a pruner with these options."""
    chosen = {name: value for name, value in options.items() if value is not None}
    about["parameters"] = chosen
    seed = about["split"]["seed"]
    return FairPruner(**chosen, pos_label=table.fitted.pos_label, random_state=seed)


def _fitted(estimator: Any, table: Prepared, about: dict[str, Any], screen: Screen) -> Any:
    """Fit an estimator, with bars where somebody watches."""
    estimator.set_params(verbose=int(screen.bars))
    with screen.warnings():
        estimator, seconds = table.fit(estimator)
    screen.say(f"The fit took {seconds:.0f} seconds.")
    about["seconds"] = round(seconds, 1)
    return estimator


def _write(
    screen: Screen,
    out: Path,
    force: bool,
    table: Prepared,
    pruner: FairPruner,
    about: dict[str, Any],
    surface: pd.DataFrame | None = None,
) -> None:
    """Write a fit with its report, and say what came out."""
    description: TableDescription = about.pop("description")
    with screen.warnings():
        report = report_on(pruner, table.tested)
    with new_folder(out, force) as folder:
        settings = {**about, "warnings": screen.warned}
        write_folder(folder, pruner, table.cleaner, description, table.tested.rows, settings)
        if surface is not None:
            surface.to_csv(folder / SURFACE, index=False)
        write_reports(report, {kind: folder / name for kind, name in REPORTS.items()})
    show_outcome(report, pruner, screen)
    files = sorted(entry.name for entry in out.iterdir())
    screen.say(f"\nWrote {out}: {', '.join(files)}.\nNext: fairprune report {out}", fg="green")
    result = outcome_of(report, pruner) | {"seconds": about["seconds"]}
    if surface is not None:
        result |= {"surface": surface, "kept": about["parameters"]["kept"]}
    screen.result(out=str(out), **result)
