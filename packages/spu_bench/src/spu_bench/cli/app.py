"""The commands: spu-bench run | party | dealer | network | predict | profile-machine | runtime."""

from __future__ import annotations

import typer

from spu_bench.cli import dealer, network, party, run, runtime
from spu_bench.cli.cost import predict_command, profile_machine_command

app = typer.Typer(
    help="Private inference between two parties on SecretFlow SPU, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run_command)
app.command("dealer")(dealer.dealer_command)
app.command("party")(party.party_command)
app.add_typer(network.app, name="network")
app.add_typer(runtime.app, name="runtime")
app.command("predict")(predict_command)
app.command("profile-machine")(profile_machine_command)
