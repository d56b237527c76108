"""The command and its subcommands."""

from __future__ import annotations

import click

from fairprune_sk._version import __version__
from fairprune_sk.cli.comparing import bench
from fairprune_sk.cli.learning import demo, fit, search
from fairprune_sk.cli.screen import Commands
from fairprune_sk.cli.using import certify, export, info, predict, report

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group("fairprune", cls=Commands, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="fairprune")
def app() -> None:
    """Small, accurate and fair networks for tables.

    A first fit: fairprune fit loans.csv --target repaid --sensitive sex --out loans

    Exit codes: 0 done; 2 what was given cannot be used; of certify, 3 the gap is above the
    tolerance, 4 the rows cannot tell; 130 stopped by Ctrl-C.
    """


for command in (fit, search, predict, report, certify, export, bench, info, demo):
    app.add_command(command)
