"""What a command shows: text or JSON on stdout, warnings on stderr, errors without a traceback."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import numpy as np
import pandas as pd

from fairprune_sk.exceptions import SuspectColumnWarning

WRONG, ABOVE, CANNOT_TELL, STOPPED = 2, 3, 4, 130
"""Exit codes: what was given cannot be used; two verdicts of a certificate; Ctrl-C."""


LINE_WIDTH = 100
"""Of reports, and the most that a line of the command takes."""


class Screen:
    """What one command shows.

    Parameters
    ----------
    as_json : bool
        Whether stdout is one JSON object, and nothing else.
    quiet : bool
        Whether only results and errors are shown.
    """

    def __init__(self, as_json: bool, quiet: bool):
        self.as_json = as_json
        self.quiet = quiet
        self.warned: list[str] = []

    @property
    def bars(self) -> bool:
        """Whether somebody watches."""
        return sys.stderr.isatty() and not self.as_json and not self.quiet

    def say(self, text: str = "", **style: Any) -> None:
        """Show what is being done."""
        if not self.as_json and not self.quiet:
            click.secho(in_lines(text), **style)

    def show(self, text: str, **style: Any) -> None:
        """Show a part of the result, as it is."""
        if not self.as_json:
            click.secho(text, **style)

    def result(self, **values: Any) -> None:
        """Write the result, where it is wanted as JSON."""
        if self.as_json:
            click.echo(json.dumps(plain({**values, "warnings": self.warned}), indent=2))

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """Collect warnings, and show them at the end."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        # What a command does about a column, it says itself.
        for warning in caught:
            if not issubclass(warning.category, (DeprecationWarning, PendingDeprecationWarning)):
                self.warn(str(warning.message), warning.category)

    def warn(self, text: str, category: type[Warning] = UserWarning) -> None:
        """Show a warning."""
        kind = "Column " if issubclass(category, SuspectColumnWarning) else ""
        self.warned.append(kind + text)
        if not self.quiet:
            click.secho(in_lines(f"Warning: {kind}{text}"), fg="yellow", err=True)


def in_lines(text: str) -> str:
    """Break long lines to the width of the terminal."""
    width = min(shutil.get_terminal_size((LINE_WIDTH, 24)).columns, LINE_WIDTH)
    return "\n".join(
        textwrap.fill(line, width, subsequent_indent="  ", break_long_words=False)
        for line in text.split("\n")
    )


def narrowed(text: str) -> str:
    """Break sentences anew where the terminal is narrower than a report; tables stay whole."""
    if shutil.get_terminal_size((LINE_WIDTH, 24)).columns >= LINE_WIDTH:
        return text
    lines: list[str] = []
    for line in text.split("\n"):
        sentence = not re.search(r"\S {2,}\S", line)
        if sentence and line.startswith("  ") and lines and len(lines[-1]) > LINE_WIDTH / 2:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    return "\n".join(line if re.search(r"\S {2,}\S", line) else in_lines(line) for line in lines)


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: NaN and infinity become null.

    Parameters
    ----------
    value : object

    Returns
    -------
    dict, list, str, int, float, bool or None
    """
    if isinstance(value, pd.DataFrame):
        if not isinstance(value.index, pd.RangeIndex):
            value = value.reset_index(names=value.index.names if any(value.index.names) else "name")
        return [plain(row) for row in value.to_dict("records")]
    if isinstance(value, pd.Series):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Iterable):
        return [plain(v) for v in value]
    return str(value)


class Commands(click.Group):
    """A group of commands whose errors are one message, and an exit code."""

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; what a user gave that cannot be used ends in a message.

        Parameters
        ----------
        args : list of str, optional
            By default those of the process.
        prog_name, complete_var, **extra
            As for :class:`click.Group`.
        standalone_mode : bool
            Without effect: the process ends.
        """
        args = sys.argv[1:] if args is None else list(args)
        try:
            sys.exit(super().main(args, prog_name, complete_var, standalone_mode=False, **extra))
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "fairprune"
            _fail(f"{error.format_message()}\nSee {command} --help.", args)
        except (click.Abort, KeyboardInterrupt):
            click.secho("Stopped: nothing was written.", fg="red", err=True)
            sys.exit(STOPPED)
        except BrokenPipeError:  # whoever reads has read enough
            sys.exit(0)
        except (OSError, ValueError, ImportError) as error:
            if "--traceback" in args:
                traceback.print_exc()
            text = str(error)
            if isinstance(error, OSError) and error.strerror is not None:
                text = f"{error.filename}: {error.strerror}."
            _fail(text, args)


def _fail(text: str, args: list[str]) -> None:
    if "--json" in args:
        click.echo(json.dumps({"error": text}, indent=2))
    click.secho(in_lines(f"Error: {text}"), fg="red", err=True)
    sys.exit(WRONG)
