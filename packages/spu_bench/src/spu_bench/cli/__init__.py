"""The command line: spu-bench run | party | network | predict | profile-machine | runtime."""

from __future__ import annotations

import os
import sys

import typer

from spu_bench.cli import network, party, run, runtime
from spu_bench.cli.cost import predict_command, profile_machine_command
from spu_bench.errors import DEBUG, SpuBenchError
from spu_bench.party.reasons import reason_of

app = typer.Typer(
    help="Private inference between two parties on SecretFlow SPU, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run_command)
app.command("party")(party.party_command)
app.add_typer(network.app, name="network")
app.add_typer(runtime.app, name="runtime")
app.command("predict")(predict_command)
app.command("profile-machine")(profile_machine_command)


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
