"""The command line: mpcvit-report build | tables | check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mpcvit_harness.pages import stale, write
from mpcvit_harness.report import build

app = typer.Typer(help="The report of the reproduction.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Reports from records."""


@app.command("build")
def build_command(
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("report"),
) -> None:
    """Write the report from every record below RESULTS.

    Example: mpcvit-report build --results results --out report
    """
    if not results.is_dir():
        print(
            f"error: there are no results at {results}. Fix: run the experiments first, or name another folder.",
            file=sys.stderr,
        )
        raise typer.Exit(2)
    print(f"The report is {build(results, out)}")


@app.command("tables")
def tables_command(
    root: Annotated[Path, typer.Option(help="Root of the repository.")] = Path(),
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
) -> None:
    """Write the tables of README and docs from the records below RESULTS.

    Example: mpcvit-report tables --results results
    """
    for page in write(root, results):
        print(f"wrote the tables of {page}")


@app.command("check")
def check_command(
    root: Annotated[Path, typer.Option(help="Root of the repository.")] = Path(),
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
) -> None:
    """Fail where a table of README or docs is not what the records say.

    Example: mpcvit-report check --results results
    """
    if pages := stale(root, results):
        names = ", ".join(map(str, pages))
        print(f"error: the tables of {names} are not those of the records. Fix: mpcvit-report tables", file=sys.stderr)
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()
