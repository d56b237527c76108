"""Subcommands that use a folder which a fit left."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import click
import torch

from fairprune_sk.assessment.certificate import certify as certificate_of
from fairprune_sk.cli import options as opt
from fairprune_sk.cli.fitting import with_counts
from fairprune_sk.cli.folder import ONNX, REPORTS, read_folder, versions
from fairprune_sk.cli.outcome import outcome_of, report_on, write_reports
from fairprune_sk.cli.screen import ABOVE, CANNOT_TELL, Screen, in_lines, narrowed
from fairprune_sk.datasets.cleaning import DATES
from fairprune_sk.datasets.csv_files import check_columns
from fairprune_sk.datasets.files import read_frame


@click.command(short_help="Predict the rows of a table.")
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
        shown = with_counts(predicted["prediction"].value_counts())
        screen.say(f"Wrote {len(predicted):,} predictions to {out}: {shown}.")


_rows = opt.several(
    click.argument("folder", type=opt.PATH),
    click.option("--data", type=opt.PATH, help="The file of the fit, where it was moved."),
    click.option("--new", type=opt.PATH, help="A file of other people, none of them in the fit."),
)


@click.command(short_help="Report on people that a fit has not seen.")
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
        found = report_on(fitted.pruner, rows)
    places = wanted or {kind: fitted.path / name for kind, name in REPORTS.items()}
    write_reports(found, places)
    screen.show(narrowed(str(found)))
    screen.say("Wrote " + ", ".join(str(path) for path in places.values()) + ".")
    files = {kind: str(path) for kind, path in places.items()}
    screen.result(rows=what, files=files, **outcome_of(found, fitted.pruner))


@click.command(short_help="Bound the gap among people not seen.")
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
    screen.show(narrowed(str(found)))
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


@click.command(short_help="Write the network of a folder as ONNX.")
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


@click.command(short_help="Say what is installed, or what is in a folder.")
@click.argument("folder", type=opt.PATH, required=False)
@opt.shown
def info(screen: Screen, folder: Path | None) -> None:
    """Say what is installed, or what is in FOLDER."""
    if folder is None:
        devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        extras = installed_extras()
        for name, version in versions().items():
            screen.show(f"{name:<14} {version}")
        screen.show(f"{'devices':<14} {', '.join(devices)}")
        for extra, missing in extras.items():
            state = "installed" if not missing else f"lacks {', '.join(missing)}"
            screen.show(f"{'extra ' + extra:<18} {state}")
        screen.result(versions=versions(), devices=devices, lacking=extras)
        return
    fitted = read_folder(folder)
    pruner, settings, described = fitted.pruner, fitted.settings, fitted.description
    read = [str(name) for name in pruner.selected_features_]
    gap = pruner.unseen_gap_ if pruner.unseen_gap_ is not None else pruner.train_gap_
    lines = {
        "table": f"{settings['data']['path']}, {settings['data']['rows']:,} rows, "
        f"{len(fitted.test_rows):,} of them for tests",
        "target": f"{described.target}: {', '.join(map(str, pruner.classes_))}"
        + ("" if pruner.pos_label_ is None else f", positive {pruner.pos_label_}"),
        "groups": f"{', '.join(described.sensitive)}: {', '.join(map(str, pruner.groups_))}",
        "constraint": f"{pruner.constraint} within {pruner.tolerance}; expected gap {gap:.3f}",
        "sparsity": f"{pruner.sparsity_:.1%} by {pruner.granularity}",
        "reads": f"{len(read)} of {len(fitted.cleaner.cleaning_)} columns: {', '.join(read)}",
        "left out": ", ".join(fitted.cleaner.dropped_) or "no column",
        "made with": f"fairprune_sk {settings['versions']['fairprune_sk']}, torch "
        f"{settings['versions']['torch']}, in {settings['seconds']} seconds",
        "files": ", ".join(sorted(entry.name for entry in fitted.path.iterdir())),
    }
    for name, line in lines.items():
        screen.show(in_lines(f"{name:<11} {line}"))
    for warned in settings["warnings"]:
        screen.say(f"Warning of the fit: {warned}", fg="yellow")
    screen.result(settings=settings, sparsity=pruner.sparsity_, reads=read, expected_gap=gap)


def installed_extras() -> dict[str, list[str]]:
    """Say which packages each extra lacks; nothing where the package is not installed itself."""
    try:
        lines = metadata.requires("fairprune_sk") or []
    except metadata.PackageNotFoundError:
        return {}
    lacking: dict[str, list[str]] = {}
    for line in lines:
        name, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"](\w+)['\"]", line)
        if name is None or extra is None or extra[1] == "test":
            continue
        missing = lacking.setdefault(extra[1], [])
        try:
            metadata.version(name[0])
        except metadata.PackageNotFoundError:
            missing.append(name[0])
    return lacking
