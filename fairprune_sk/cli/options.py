"""Options that several commands share, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import pandas as pd

from fairprune_sk.cli.screen import Screen
from fairprune_sk.datasets.description import TableDescription
from fairprune_sk.fairness.constraints import CONSTRAINTS
from fairprune_sk.masks.granularity import GRANULARITIES

PATH = click.Path(path_type=Path)
FRACTION = click.FloatRange(0, 1)
FRACTION.name = "fraction"


class Names(click.ParamType):
    """Names of columns with commas between."""

    name = "columns"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Split at the commas."""
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())


class Numbers(click.ParamType):
    """Numbers with commas between."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """Split at the commas."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} are no numbers with commas between, such as 0.8,0.9.")


class Bins(Numbers):
    """A column and the edges between its groups."""

    name = "column=numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Split at the equals sign."""
        if isinstance(value, tuple):
            return value
        column, _, edges = value.partition("=")
        return column.strip(), super().convert(edges, param, ctx)


def several(*decorators: Callable) -> Callable:
    """Put several options on a command, in the order in which its help lists them."""

    def decorate(command: Callable) -> Callable:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _screened(command: Callable) -> Callable:
    """Give a command its screen, in place of how it is to be shown."""

    def run(as_json: bool, quiet: bool, traceback: bool, **options: Any) -> Any:
        return command(Screen(as_json, quiet), **options)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    return run


def shown(command: Callable) -> Callable:
    """Options of how a command is shown; the command gets a Screen."""
    return several(
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        click.option("--quiet", is_flag=True, help="Print results and errors only."),
        click.option("--traceback", is_flag=True, help="Print where in the code an error is from."),
    )(_screened(command))


columns = several(
    click.option("--target", help="The column to predict: two classes or more."),
    click.option(
        "--sensitive", type=Names(), help="Columns between whose groups it should be fair."
    ),
    click.option(
        "--bins",
        type=Bins(),
        multiple=True,
        help="Edges between the groups of a sensitive column of numbers: age=25,60.",
    ),
    click.option("--control", type=Names(), help="Compare groups within each value of these only."),
    click.option("--positive", help="Of two classes the positive one; else the last in order."),
    click.option("--drop", type=Names(), help="Columns that are no features."),
    click.option("--keep", type=Names(), default="", help="Columns to keep that look useless."),
    click.option("--category", type=Names(), help="Columns whose numbers are codes."),
    click.option(
        "--keep-sensitive", is_flag=True, help="Let the network read the sensitive columns."
    ),
    click.option(
        "--missing-sensitive",
        type=click.Choice(["leave_out", "group"]),
        help="Rows without a sensitive value: left out (the default), or a group.",
    ),
    click.option(
        "--na", "na_values", type=Names(), metavar="WORDS", help="More words that mean 'missing'."
    ),
    click.option(
        "--description", type=PATH, help="A JSON or TOML file that says all this of the columns."
    ),
)

split = several(
    click.option(
        "--test-size", type=FRACTION, default=0.3, show_default=True, help="Share of test rows."
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of split and fit."),
)

written = several(
    click.option("--out", type=PATH, required=True, help="The folder to write."),
    click.option("--force", is_flag=True, help="Replace a folder of an earlier fit."),
)

constraint = click.option(
    "--constraint",
    type=click.Choice(sorted(CONSTRAINTS)),
    default="equalized_odds",
    show_default=True,
    help="What must be equal between groups.",
)

network = several(
    constraint,
    click.option(
        "--granularity",
        type=click.Choice(sorted(GRANULARITIES)),
        default="unstructured",
        show_default=True,
        help="What goes together.",
    ),
    click.option(
        "--tolerance-on",
        type=click.Choice(["unseen", "training"]),
        default="unseen",
        show_default=True,
        help="The rows that the tolerance is for.",
    ),
    click.option("--max-epochs", type=click.IntRange(1), help="Of the pruning phase."),
)

sparsity = click.option(
    "--sparsity",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.9,
    show_default=True,
    help="Share of the weights to remove.",
)

tolerance = click.option(
    "--tolerance",
    type=FRACTION,
    default=0.05,
    show_default=True,
    help="The largest gap between groups that is allowed.",
)


def description_of(options: dict[str, Any]) -> TableDescription:
    """Take the options of :data:`columns` out of a command's, and say what they describe.

    Parameters
    ----------
    options : dict
        What is given here comes before what a file says.

    Returns
    -------
    TableDescription

    Raises
    ------
    click.UsageError
        If neither says what the target or a sensitive column is.
    """
    file = options.pop("description")
    keep_sensitive, missing = options.pop("keep_sensitive"), options.pop("missing_sensitive")
    bins = dict(options.pop("bins"))
    given = {
        "bins": bins or None,
        "target": options.pop("target"),
        "sensitive": options.pop("sensitive"),
        "control": options.pop("control"),
        "positive": options.pop("positive"),
        "drop": options.pop("drop"),
        "categories": options.pop("category"),
        "na_values": options.pop("na_values"),
        "missing_sensitive": missing,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if file is not None:
        described = TableDescription.from_file(file)
        kept = described.sensitive_is_feature or keep_sensitive
        return replace(described, **given, sensitive_is_feature=kept)
    absent = [f"--{name}" for name in ("target", "sensitive") if not given.get(name)]
    if absent:
        raise click.UsageError(
            f"Got no {' and no '.join(absent)}: which column is to be predicted, and between which "
            "groups should it be fair?"
        )
    defaults = {"missing_sensitive": "leave_out", "sensitive_is_feature": keep_sensitive}
    return TableDescription(**{**defaults, **given})


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a table as the name of its file says.

    Raises
    ------
    ValueError
        If the name ends in something else.
    """
    writers = {".csv": frame.to_csv, ".tsv": partial(frame.to_csv, sep="\t")}
    writers |= {".parquet": frame.to_parquet, ".feather": frame.to_feather}
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in writers:
        raise ValueError(f"Got --out {str(path)!r}, but expected a name with one of {[*writers]}.")
    writers[kind](path, **({} if kind == ".feather" else {"index": False}))
