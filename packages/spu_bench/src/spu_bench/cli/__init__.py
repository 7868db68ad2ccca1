"""The command line: spu-bench run | party | network | runtime | predict | calibrate."""

from __future__ import annotations

import os
import sys

import typer

from spu_bench import network_cli
from spu_bench.cli import party, run, runtime
from spu_bench.cost.cli import calibrate_command, predict_command
from spu_bench.errors import DEBUG, SpuBenchError
from spu_bench.party.reasons import reason_of

app = typer.Typer(
    help="Private inference between two parties on SecretFlow SPU, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run_command)
app.command("party")(party.party_command)
app.add_typer(network_cli.app, name="network")
app.add_typer(runtime.app, name="runtime")
app.command("predict")(predict_command)
app.command("calibrate")(calibrate_command)


def main() -> None:
    """Run the command line; any failure becomes one line on stderr and a non-zero exit status.

    Input that cannot run gives the status 2, everything else 1.
    """
    try:
        app()
    except SpuBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if error.reason == "bad_input" else 1)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        print(
            f"error: spu-bench failed: {type(error).__name__}: {reason_of(error)} "
            f"Fix: set {DEBUG}=1, repeat the command, and report what it prints.",
            file=sys.stderr,
        )
        sys.exit(1)
