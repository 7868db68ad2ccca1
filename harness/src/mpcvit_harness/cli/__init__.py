"""The command line `mpcvit-report`: the report, claims, tables of the docs, comparisons, cost tables and migration."""

from __future__ import annotations

import sys

import typer

from mpc_search import SearchError, printable
from mpcvit_harness.cli import reports
from mpcvit_harness.cli.costs import costs_command
from mpcvit_harness.cli.records import migrate_command
from mpcvit_harness.errors import HarnessError
from spu_bench import SpuBenchError
from vit_models import ModelError

app = typer.Typer(
    help="Reports from the records of the reproduction.", no_args_is_help=True, pretty_exceptions_enable=False
)
for command in (
    reports.build_command,
    reports.claims_command,
    reports.tables_command,
    reports.check_command,
    reports.show_command,
    reports.compare_command,
    costs_command,
    migrate_command,
):
    app.command(command.__name__.removesuffix("_command"))(command)


def main() -> None:
    """Run the command line. An error is one line with its fix; exit status 2 for bad input, 1 for anything else."""
    try:
        app()
    except (HarnessError, ModelError, SearchError, SpuBenchError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        bad_input = isinstance(error, ModelError) or error.reason == "bad_input"
        raise SystemExit(2 if bad_input else 1) from None
