"""The command and its subcommands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pandas as pd

from fairprune_sk._version import __version__
from fairprune_sk.assessment.certificate import certify as certificate_of
from fairprune_sk.assessment.report import FairnessReport, fairness_report
from fairprune_sk.cli import options as opt
from fairprune_sk.cli.fitting import Prepared, prepared
from fairprune_sk.cli.folder import (
    ONNX,
    REPORTS,
    about_data,
    check_free,
    new_folder,
    read_folder,
    write_folder,
)
from fairprune_sk.cli.screen import ABOVE, CANNOT_TELL, Commands, Screen
from fairprune_sk.datasets.cleaning import DATES
from fairprune_sk.datasets.csv_files import check_columns
from fairprune_sk.datasets.files import read_frame, stem_of
from fairprune_sk.pruner import FairPruner


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fairprune")
def app() -> None:
    """Small, accurate and fair networks for tables.

    A first fit: fairprune fit loans.csv --target repaid --sensitive sex --out loans

    Exit codes: 0 done; 2 what was given cannot be used; of certify, 3 the gap is above the
    tolerance, 4 the rows cannot tell; 130 stopped by Ctrl-C.
    """


@app.command()
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

    DATA is a CSV, TSV, Parquet or Feather file, compressed or not. Of its rows, 30% are set aside
    for the report. The folder --out gets the network, its settings, the numbers of these rows and
    the report; it is written as a whole, or not at all.
    """
    description, keep = opt.description_of(options), options.pop("keep")
    check_free(out, force)
    split = {"test_size": options.pop("test_size"), "seed": options.pop("seed")}
    frame = read_frame(data, description.na_values)
    screen.say(f"{data}: {len(frame):,} rows, {frame.shape[1]} columns.", bold=True)
    table = prepared(frame, description, stem_of(data), screen, **split, keep=keep)
    pruner = FairPruner(**_parameters(options, table, split["seed"], screen))
    with screen.warnings():
        pruner, seconds = table.fit(pruner)
    screen.say(f"The fit took {seconds:.0f} seconds.")
    settings = {
        "data": about_data(data, len(frame)),
        "split": split,
        "parameters": options,
        "seconds": round(seconds, 1),
        "warnings": screen.warned,
    }
    report = _report(pruner, table.tested)
    with new_folder(out, force) as folder:
        write_folder(folder, pruner, table.cleaner, description, table.tested.rows, settings)
        _write_reports(report, {kind: folder / name for kind, name in REPORTS.items()}, screen)
    _say_outcome(report, pruner, screen)
    _say_written(out, screen)
    screen.result(out=str(out), **_outcome(report, pruner), seconds=settings["seconds"])


@app.command()
@click.argument("folder", type=opt.PATH)
@click.argument("data", type=opt.PATH)
@click.option("--out", type=opt.PATH, help="A CSV or Parquet file; without it, CSV on stdout.")
@click.option("--with", "copied", type=opt.Names(), default="", help="Columns of DATA to copy.")
@opt.shown
def predict(
    screen: Screen, folder: Path, data: Path, out: Path | None, copied: tuple[str, ...]
) -> None:
    """Predict the rows of DATA with the network in FOLDER.

    DATA needs the columns that the network reads, neither target nor sensitive columns. There is a
    line for each of its rows: the predicted label, and the probability of each class.
    """
    fitted = read_folder(folder)
    frame = read_frame(data, fitted.description.na_values)
    check_columns(frame.columns, copied, str(data))
    X = fitted.features(frame)
    predicted = frame[list(copied)].assign(prediction=fitted.pruner.predict(X))
    for i, label in enumerate(fitted.pruner.classes_):
        predicted[f"probability_{label}"] = fitted.pruner.predict_proba(X)[:, i].round(6)
    if screen.as_json:
        screen.result(predictions=predicted, out=None if out is None else str(out))
    if out is None:
        screen.show(predicted.to_csv(index=False), nl=False)
    else:
        opt.write_frame(predicted, out)
        counts = predicted["prediction"].value_counts()
        shown = ", ".join(f"{label} {n:,}" for label, n in counts.items())
        screen.say(f"Wrote {len(predicted):,} predictions to {out}: {shown}.")


_rows = opt.several(
    click.argument("folder", type=opt.PATH),
    click.option("--data", type=opt.PATH, help="The file of the fit, where it was moved."),
    click.option("--new", type=opt.PATH, help="A file of other people, none of them in the fit."),
)


@app.command()
@_rows
@click.option("--html", type=opt.PATH, help="Where to write the page.")
@click.option("--markdown", "md", type=opt.PATH, help="Where to write Markdown.")
@click.option("--to-json", "json", type=opt.PATH, help="Where to write all figures as JSON.")
@opt.shown
def report(
    screen: Screen, folder: Path, data: Path | None, new: Path | None, **paths: Path | None
) -> None:
    """Report on the network in FOLDER, for people that the fit has not seen.

    Those are the rows that were set aside, or those of --new. The report is printed, and written
    into FOLDER, as a page, as Markdown and as JSON, where no other place is named.
    """
    fitted = read_folder(folder)
    wanted = {kind: path for kind, path in paths.items() if path is not None}
    rows, what = fitted.unseen(data, new)
    screen.say(f"On {what}.", bold=True)
    with screen.warnings():
        found = _report(fitted.pruner, rows)
    places = wanted or {kind: fitted.path / name for kind, name in REPORTS.items()}
    _write_reports(found, places, screen)
    screen.show(str(found))
    screen.say("Wrote " + ", ".join(str(path) for path in places.values()) + ".")
    files = {kind: str(path) for kind, path in places.items()}
    screen.result(rows=what, files=files, **_outcome(found, fitted.pruner))


@app.command()
@_rows
@click.option("--tolerance", type=opt.FRACTION, help="By default that of the fit.")
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
)
@opt.shown
def certify(
    screen: Screen,
    folder: Path,
    data: Path | None,
    new: Path | None,
    tolerance: float | None,
    confidence: float,
) -> int:
    """Bound the gap of the network in FOLDER among people not seen.

    Ends with 0 where it is within the tolerance, 3 where it is above, 4 where the rows cannot tell.
    """
    fitted = read_folder(folder)
    rows, what = fitted.unseen(data, new)
    screen.say(f"On {what}.", bold=True)
    with screen.warnings():
        found = certificate_of(
            fitted.pruner,
            rows.X,
            rows.y,
            sensitive_features=rows.sensitive,
            control_features=rows.control,
            tolerance=tolerance,
            confidence=confidence,
        )
    screen.show(str(found))
    screen.result(
        rows=what,
        verdict=found.verdict,
        lower=found.lower,
        upper=found.upper,
        gap=found.gap,
        tolerance=found.tolerance,
        confidence=found.confidence,
        constraint=found.requirement.constraint.name,
        rows_needed={str(group): n for group, n in found.rows_needed.items()},
        pairs=found.pairs,
        notes=found.notes,
    )
    return {"above": ABOVE, "cannot tell": CANNOT_TELL}.get(found.verdict, 0)


@app.command()
@click.argument("folder", type=opt.PATH)
@click.option("--out", type=opt.PATH, help="The file; by default model.onnx in FOLDER.")
@click.option("--data", type=opt.PATH, help="The file of the fit, where it was moved.")
@opt.shown
def export(screen: Screen, folder: Path, out: Path | None, data: Path | None) -> None:
    """Write the network in FOLDER as ONNX, with the encoding of its columns.

    It is checked on the rows that were set aside, where their file is at hand.
    """
    fitted = read_folder(folder)
    path = fitted.path / ONNX if out is None else out
    try:
        X = fitted.unseen(data)[0].X
    except (OSError, ValueError) as error:
        if data is not None:
            raise
        X = None
        screen.warn(f"The network was not checked on rows. {error}")
    with screen.warnings():
        fitted.pruner.to_onnx(path, X=X)
    checked = "" if X is None else f", and checked it on {len(X):,} rows"
    screen.say(f"Wrote {path} ({path.stat().st_size:,} bytes){checked}.")
    dates = [n for n, c in fitted.cleaner.cleaning_.items() if c.becomes == DATES]
    inputs = fitted.cleaner.get_feature_names_out().tolist()
    screen.say(f"One input for each of {len(inputs)} columns: {', '.join(inputs)}.")
    if dates:
        screen.say(f"Dates go in as days since 1970: {', '.join(dates)}.")
    screen.result(
        out=str(path), inputs=inputs, dates=dates, checked_rows=0 if X is None else len(X)
    )


# --- what several of them do ---


def _parameters(
    options: dict[str, Any], table: Prepared, seed: int, screen: Screen
) -> dict[str, Any]:
    """Parameters of the pruner, from options of the same names."""
    chosen = {name: value for name, value in options.items() if value is not None}
    return {
        **chosen,
        "pos_label": table.fitted.pos_label,
        "random_state": seed,
        "verbose": int(screen.bars),
    }


def _report(pruner: Any, rows: Any) -> FairnessReport:
    return fairness_report(
        pruner,
        rows.X,
        rows.y,
        sensitive_features=rows.sensitive,
        control_features=rows.control,
    )


def _write_reports(report: FairnessReport, places: dict[str, Path], screen: Screen) -> None:
    writers = {"html": report.to_html, "json": report.to_json, "md": report.to_markdown}
    for kind, path in places.items():
        writers[kind](path)


def _outcome(report: FairnessReport, pruner: FairPruner) -> dict[str, Any]:
    """Say in plain values what came out."""
    certificate = report.certificate
    return {
        "answer": report.answer,
        "alarms": report.alarms,
        "verdict": None if certificate is None else certificate.verdict,
        "sparsity": pruner.sparsity_,
        "unseen_gap": pruner.unseen_gap_,
        "n_test_rows": report.n_rows,
        "overall": report.overall,
        "gaps": report.differences,
    }


def _say_outcome(report: FairnessReport, pruner: FairPruner, screen: Screen) -> None:
    """Show the answer and the rates overall, as the report begins."""
    for alarm in report.alarms:
        screen.show(alarm, fg="red")
    screen.say()
    for i, line in enumerate(report.answer):
        screen.say(line, bold=i == 0)
    dense, pruned = (report.overall.loc["accuracy", n] for n in ("dense", "pruned"))
    if isinstance(dense, pd.Series):
        dense, pruned = dense.iloc[0], pruned.iloc[0]
    screen.say(
        f"Accuracy on them {pruned:.3f}, of the dense network {dense:.3f}; {pruner.sparsity_:.1%} "
        "of the weights are gone."
    )


def _say_written(out: Path, screen: Screen) -> None:
    files = ", ".join(sorted(entry.name for entry in out.iterdir()))
    screen.say(f"\nWrote {out}: {files}.\nNext: fairprune report {out}", fg="green")
