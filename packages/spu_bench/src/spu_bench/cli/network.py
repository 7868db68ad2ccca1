"""The command line of networks: spu-bench network list | probe | probe-serve | commands."""

from __future__ import annotations

import json as json_module
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spu_bench import executors
from spu_bench.errors import SpuBenchError
from spu_bench.executors.description import ExecutorDescription
from spu_bench.network import NETWORKS, Network, probe_protocol, shell
from spu_bench.network.probe import NetworkProbe, complaints, probe
from spu_bench.network.shaper_cost import ShaperName

app = typer.Typer(help="Networks between parties: list, set up and measure them.", no_args_is_help=True)
PORT = 9529
_SHAPERS: dict[str, ShaperName] = {"netem": "netem", "nfqueue": "nfqueue"}


@app.command("list")
def list_networks(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the networks that have a name.

    Example: spu-bench network list
    """
    if json:
        print(json_module.dumps([network.model_dump(mode="json") for network in NETWORKS.values()], indent=2))
        return
    table = Table()
    for column in ("network", "Mbit/s each way", "RTT ms", "MTU", "source"):
        table.add_column(column)
    for network in NETWORKS.values():
        rate = f"{network.rate_mbit:,.0f}" if network.rate_mbit else "not limited"
        rtt = f"{network.rtt_ms:g}" if network.is_shaped else "not shaped"
        table.add_row(network.name, rate, rtt, f"{network.mtu:,}", network.source)
    Console().print(table)


@app.command("probe")
def probe_network(
    network: Annotated[str, typer.Option(help="loopback, lan, wan, or a TOML file.")] = "wan",
    executor: Annotated[str, typer.Option(help=f"{', '.join(executors.NAMES)}.")] = "auto",
    parties: Annotated[int, typer.Option(min=2, max=3, help="Number of hosts.")] = 2,
    connect: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of `probe-serve` on another host: probe the network to that host instead."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Set up a network, measure it in both directions, and compare it with the requested one.

    The exit status is 1 if they differ.

    Example: spu-bench network probe --network wan --executor netns

    Between two hosts: spu-bench network probe --network wan --connect 192.0.2.10:9529
    """
    requested = Network.load(network)
    description: ExecutorDescription | None = None
    if connect is not None:
        probes = [_probe_other_host(connect)]
    else:
        probes, description = _probe_own_hosts(requested, executor, parties)
    wrong = [each for one in probes for each in complaints(requested, one)] if requested.is_shaped else []
    if json:
        report = {
            "network": requested.model_dump(mode="json"),
            "links": [each.model_dump(mode="json") for each in probes],
            "valid": not wrong,
            "wrong": wrong,
            "how": description.model_dump(mode="json") if description else {"server": connect},
        }
        print(json_module.dumps(report, indent=2))
    else:
        _show(requested, probes, wrong, description)
    if wrong:
        raise typer.Exit(1)


@app.command("commands")
def print_commands(
    network: Annotated[str, typer.Option(help="lan, wan, or a TOML file.")],
    rank: Annotated[int, typer.Option(min=0, max=2, help="Rank of the party on this host.")],
    interface: Annotated[str, typer.Option(help="This host's network interface to the other parties.")],
    peer: Annotated[list[str] | None, typer.Option(help="RANK=ADDRESS of another party (nfqueue only).")] = None,
    shaper: Annotated[str, typer.Option(help="netem, or nfqueue for a kernel without netem.")] = "netem",
    undo: Annotated[bool, typer.Option("--undo", help="Print the commands that undo the shaping.")] = False,
) -> None:
    """Print the commands that shape one party's end of a network on a real host. Run them there as root.

    Example: spu-bench network commands --network wan --rank 0 --interface eth1

    With --shaper nfqueue --peer 1=192.0.2.11 the last command delays packets until you interrupt it. With --undo and
    the same options, the commands restore the interface to its state before.
    """
    requested = Network.load(network)
    kind = _SHAPERS.get(shaper)
    if kind is None:
        raise SpuBenchError(f"There is no shaper {shaper!r}.", "use --shaper netem or nfqueue.", "bad_input")
    saved = Path(tempfile.gettempdir())
    lines = [
        *shell.save_commands(requested, interface, saved),
        *shell.segment_commands(requested, interface),
    ]
    if undo:
        lines = shell.undo_commands(requested, rank, kind, interface, saved)
    elif kind == "netem":
        lines += shell.netem_commands(requested, rank, interface)
    else:
        senders = dict(_rank_of(each) for each in peer or [])
        arguments = shell.packet_delay_arguments(requested, senders, str(saved / "spu-bench-packet-delay.json"))
        lines += [
            *shell.rate_commands(requested, rank, interface),
            shell.queue_command(interface),
            [sys.executable, *arguments],
        ]
    for line in lines:
        print(shlex.join(line))


@app.command("probe-serve")
def probe_serve(
    bind: Annotated[str, typer.Option(help="Address to listen at.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 for any free one.")] = PORT,
    once: Annotated[bool, typer.Option("--once", help="End after one client.")] = False,
) -> None:
    """Answer probes from another host until interrupted.

    Example: spu-bench network probe-serve --bind 192.0.2.10
    """
    try:
        probe_protocol.serve(
            bind,
            port,
            ready=lambda taken: print(f"answering probes at {bind}:{taken}", flush=True),
            once=once,
        )
    except OSError as error:
        raise SpuBenchError(
            f"Cannot listen at {bind}:{port}: {error}.", "choose another --bind or --port.", "environment"
        ) from error
    except KeyboardInterrupt:
        raise typer.Exit() from None


def _rank_of(peer: str) -> tuple[str, int]:
    rank, _, address = peer.partition("=")
    if rank not in ("0", "1", "2") or not address:
        raise SpuBenchError(f"--peer {peer!r} is not RANK=ADDRESS.", "write it as 1=192.0.2.11.", "bad_input")
    return address, int(rank)


def _probe_own_hosts(requested: Network, executor: str, parties: int) -> tuple[list[NetworkProbe], ExecutorDescription]:
    console = Console(stderr=True)
    chosen = executors.get(executor)
    with (
        executors.measurement_lock(on_wait=console.print),
        tempfile.TemporaryDirectory(prefix="spu-bench-probe-") as scratch,
        console.status(f"probing {requested.name} with the executor {executor}"),
    ):
        directories = [Path(scratch) / str(rank) for rank in range(parties)]
        for directory in directories:
            directory.mkdir()
        with chosen.open(requested, directories) as hosts:
            probes = probe(hosts, directories, requested)
        return probes, chosen.describe()


def _probe_other_host(server: str) -> NetworkProbe:
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal():
        raise SpuBenchError(f"--connect {server!r} is not HOST:PORT.", "write it as 192.0.2.10:9529.", "bad_input")
    try:
        return NetworkProbe.model_validate(probe_protocol.connect(host, int(port)))
    except probe_protocol.ProbeError as error:
        raise SpuBenchError(
            f"The probe failed: {error}.",
            "run `spu-bench network probe-serve` on that host, and open the port.",
            "link",
        ) from error


def _show(
    requested: Network, probes: list[NetworkProbe], wrong: list[str], description: ExecutorDescription | None
) -> None:
    console = Console()
    how = f"executor {description.name}, shaper {description.shaper}" if description else "to another host"
    table = Table(title=f"{requested.name}, {how}")
    for column in ("ranks", "", "requested", "measured"):
        table.add_column(column)
    for seen in probes:
        pair = f"{seen.server} - {seen.client}"
        spread = f"{seen.rtt_ms:.3f} (smallest {seen.rtt_min_ms:.3f}, p99 {seen.rtt_p99_ms:.3f})"
        table.add_row(pair, "RTT ms", f"{requested.rtt_ms:g}" if requested.is_shaped else "not shaped", spread)
        for sender, receiver, measured in (
            (seen.server, seen.client, seen.rate_mbit),
            (seen.client, seen.server, seen.rate_back_mbit),
        ):
            rate = requested.egress_mbit(sender)
            limit = f"{rate:g}" if rate else "not limited"
            table.add_row("", f"Mbit/s {sender} to {receiver}", limit, f"{measured:.1f}")
    console.print(table)
    if description and description.why:
        console.print(f"executor: {description.why}", style="dim")
    for cost in description.shaper_cost if description else []:
        late = f"late by {cost.late_us_p50 or 0:.0f} us (p50), {cost.late_us_p99 or 0:.0f} us (p99)"
        busy = f"{100 * cost.cpu_share_peak:.0f} % of a core in its busiest half second"
        console.print(f"shaper: {busy}, {late}", style="dim")
    console.print("valid: the network is the requested one" if not wrong else f"invalid: {'; '.join(wrong)}")
