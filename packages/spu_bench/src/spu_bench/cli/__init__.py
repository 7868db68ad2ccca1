"""The command line: spu-bench run | party | network | predict | profile-machine | runtime."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.table import Table

from spu_bench import runtimes
from spu_bench.cli import network as network_commands
from spu_bench.cli import runtime as runtime_cli
from spu_bench.cli.cost import predict_command, profile_machine_command
from spu_bench.errors import SpuBenchError
from spu_bench.executors.loopback import cores_per_party
from spu_bench.measured_run import RunFailed, run
from spu_bench.options import PRESETS, Options
from spu_bench.party import launch
from spu_bench.party.spu095 import run_party
from spu_bench.program import load_program
from spu_bench.record import RunRecord
from spu_bench.session import load_session

app = typer.Typer(
    help="Private inference between two parties on SecretFlow SPU, measured.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(network_commands.app, name="network")
app.add_typer(runtime_cli.app, name="runtime")
app.command("predict")(predict_command)
app.command("profile-machine")(profile_machine_command)
Existing = Optional[Path]


@app.command("run")
def run_command(
    program: Annotated[Path, typer.Argument(help="The Program's directory.")],
    protocol: Annotated[
        Optional[str], typer.Option(help="semi2k (default), cheetah, aby3 (three parties) or ref2k; on CrypTen beaver.")
    ] = None,
    network: Annotated[str, typer.Option(help="loopback, lan, wan, or a TOML file.")] = "loopback",
    executor: Annotated[str, typer.Option(help="auto, docker, netns or loopback.")] = "auto",
    runtime: Annotated[str, typer.Option(help="SPU 0.9.5, the paper's 0.3.1b0, or crypten-0.4.1.")] = runtimes.NEWEST,
    repeats: Annotated[int, typer.Option(min=1, help="Measured inferences of each input.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, help="Inferences before, not measured.")] = 1,
    inputs: Annotated[
        Existing, typer.Option("--input", help="npz of the client's arrays (default: the sample).")
    ] = None,
    options: Annotated[
        Optional[str],
        typer.Option(help=f"{', '.join(PRESETS)}, or a TOML file with [runtime], [compiler] and [link]."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Limit of the whole run in seconds.")] = 3600.0,
    json: Annotated[Existing, typer.Option(help="Where the record goes, also that of a failed run.")] = None,
    keep_logs: Annotated[Existing, typer.Option(help="Directory for the parties' logs.")] = None,
) -> None:
    """Run a Program between parties on this machine and measure it.

    Example: spu-bench run prog/ --protocol semi2k --network loopback --repeats 5 --json record.json
    """
    with _status(f"{runtime} over {network}: {program}"):
        try:
            record = run(
                load_program(program),
                protocol=protocol,
                network=network,
                executor=executor,
                runtime=runtime,
                repeats=repeats,
                warmup=warmup,
                inputs=inputs,
                options=Options.load(options) if options else None,
                timeout_s=timeout,
                keep_logs=keep_logs,
            )
        except RunFailed as error:
            if json is not None:
                error.record.save(json)
            raise
    if json is not None:
        record.save(json)
    Console().print(_table(record))
    if record.status == "wrong":
        raise record.wrong_logits()


@app.command()
def party(
    rank: Annotated[int, typer.Option(help="0: server (weights), 1: client (image), 2: helper of three.")],
    program: Annotated[Path, typer.Option(help="The Program's directory, with this party's own arrays only.")],
    link: Annotated[Path, typer.Option(help="The link file that all parties have.")],
    inputs: Annotated[
        Existing, typer.Option("--input", help="npz of the client's arrays (default: the sample).")
    ] = None,
    output: Annotated[Existing, typer.Option(help="npz for the outputs, which only the client gets.")] = None,
    outcome: Annotated[Existing, typer.Option(help="JSON for this party's statistics.")] = None,
    interface: Annotated[Optional[str], typer.Option(help="Interface whose kernel counters are recorded.")] = None,
    link_counter: Annotated[Existing, typer.Option("--link-counter", hidden=True)] = None,
    cores: Annotated[Optional[int], typer.Option(min=1, help="Cores this party may use (default: all).")] = None,
    die_with_parent: Annotated[bool, typer.Option("--die-with-parent", hidden=True)] = False,
) -> None:
    """Be one party, on this host. Start the others within the link file's connect_timeout_s.

    Example: spu-bench party --rank 1 --program prog/ --link link.toml --input image.npz --output logits.npz
    """
    if die_with_parent:
        _die_with_parent()
    if "OMP_THREAD_LIMIT" not in os.environ:
        # read once, when SPU's library is loaded: it has to stand in the environment before this process starts
        os.environ["OMP_THREAD_LIMIT"] = str(cores or cores_per_party(1))
        os.execv(sys.executable, [sys.executable, "-m", "spu_bench", *sys.argv[1:]])
    session = load_session(link)
    files = {"source": inputs, "output": output, "outcome_path": outcome}
    if session.runtime == runtimes.NEWEST:
        done = run_party(rank, load_program(program), session, **files, interface=interface)
    else:
        done = launch.run_party(
            rank, load_program(program), session, **files, interface=interface, link_counter=link_counter
        )
    for number, inference in enumerate(done.inferences):
        traffic = inference.link
        counted = f", {traffic.sent_messages} rounds, {traffic.sent_bytes / 1e6:.1f} MB sent" if traffic else ""
        print(f"inference {number}: {inference.run_s:.3f} s{counted}")


def main() -> None:
    """Run the command line; a SpuBenchError becomes one line on stderr and a non-zero exit status."""
    try:
        app()
    except SpuBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if error.reason == "bad_input" else 1)


def _die_with_parent() -> None:
    """Have the kernel end this process when the run that started it ends, also by a kill -9."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _status(text: str):  # type: ignore[no-untyped-def]
    return Console(stderr=True).status(text)


def _table(record: RunRecord) -> Table:
    table = Table(title=f"{record.program.name if record.program else ''}, {record.request.protocol}")
    for column in ("", *(f"party {party.rank} ({party.role})" for party in record.parties)):
        table.add_column(column, justify="right")
    traffic = record.traffic()
    table.add_row("rounds", *(str(each.sent_messages) for each in traffic))
    table.add_row("sent MB", *(f"{each.sent_bytes / 1e6:.2f}" for each in traffic))
    table.add_row("compile s", *(f"{party.compile_s:.2f}" for party in record.parties))
    table.add_row("weights' shares s", *(f"{party.share_weights_s:.2f}" for party in record.parties))
    table.add_row("peak memory MiB", *(f"{party.peak_memory_bytes / 2**20:.0f}" for party in record.parties))
    if record.statistics is not None:
        stats = record.statistics
        table.caption = f"median {stats.median:.3f} s of {stats.n} (from {stats.low:.3f} to {stats.high:.3f} s)"
    if record.accuracy is not None:
        table.caption = (
            f"{table.caption}; largest logit error {record.accuracy.max_abs_error:.4f}, "
            f"same class as in plaintext {record.accuracy.top1_equal} of {record.accuracy.inputs}"
        )
    return table
