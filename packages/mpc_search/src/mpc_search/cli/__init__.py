"""The command line `mpc-search`."""

from __future__ import annotations

import sys

import typer

from mpc_search.cli.binarize import binarize
from mpc_search.cli.evaluation import evaluate
from mpc_search.cli.sweeps import summary, sweep
from mpc_search.cli.training import history, retrain, search, teacher
from mpc_search.errors import SearchError, printable

__all__ = ["app", "main"]

app = typer.Typer(
    help="Search, budgets and distillation of MPC-friendly Vision Transformers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _command in (teacher, search, binarize, retrain, evaluate, sweep, history, summary):
    app.command()(_command)


def main() -> None:
    """Run the command line. A SearchError becomes one line on stderr, and exit status 2."""
    try:
        app()
    except SearchError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
