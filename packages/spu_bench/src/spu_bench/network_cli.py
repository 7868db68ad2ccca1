"""The command line of links: spu-bench network list | probe | probe-serve | commands."""

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
from spu_bench.network import PRESETS, Network, commands, wire
from spu_bench.network.probe import LinkProbe, complaints, probe

app = typer.Typer(help="Links: what they are asked to be, and what they are.", no_args_is_help=True)
PORT = 9529


@app.command("list")
def list_networks(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the networks that have a name.

    Example: spu-bench network list
    """
    if json:
        print(json_module.dumps([network.model_dump(mode="json") for network in PRESETS.values()], indent=2))
        return
    table = Table()
    for column in ("network", "Mbit/s each way", "RTT ms", "MTU", "source"):
        table.add_column(column)
    for network in PRESETS.values():
        rate = f"{network.rate_mbit:,.0f}" if network.rate_mbit else "as it is"
        rtt = f"{network.rtt_ms:g}" if network.is_shaped else "as it is"
        table.add_row(network.name, rate, rtt, f"{network.mtu:,}", network.source)
    Console().print(table)


@app.command("probe")
def probe_network(
    network: Annotated[str, typer.Option(help="loopback, lan, wan, or a TOML file.")] = "wan",
    executor: Annotated[str, typer.Option(help=f"{', '.join(executors.NAMES)}.")] = "auto",
    parties: Annotated[int, typer.Option(min=2, max=3, help="How many hosts to join.")] = 2,
    connect: Annotated[
        str | None, typer.Option(help="HOST:PORT of a `probe-serve` on another host: probe that link instead.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a link, measure it both ways, and compare it with what was asked; exit status 1 if it is another.

    Example: spu-bench network probe --network wan --executor netns

    Between two hosts: spu-bench network probe --network wan --connect 192.0.2.10:9529
    """
    asked = Network.load(network)
    if connect is not None:
        links, description = [_probe_other_host(connect)], None
    else:
        links, description = _probe_own_hosts(asked, executor, parties)
    wrong = [complaint for link in links for complaint in complaints(asked, link)] if asked.is_shaped else []
    if json:
        report = {
            "network": asked.model_dump(mode="json"),
            "links": [link.model_dump(mode="json") for link in links],
            "valid": not wrong,
            "wrong": wrong,
            "how": description.model_dump(mode="json") if description else {"server": connect},
        }
        print(json_module.dumps(report, indent=2))
    else:
        _show(asked, links, wrong, description)
    if wrong:
        raise typer.Exit(1)


@app.command("commands")
def print_commands(
    network: Annotated[str, typer.Option(help="lan, wan, or a TOML file.")],
    rank: Annotated[int, typer.Option(min=0, max=2, help="The party on this host.")],
    interface: Annotated[str, typer.Option(help="This host's interface towards the other party.")],
    peer: Annotated[list[str] | None, typer.Option(help="RANK=ADDRESS of another party (for nfqueue).")] = None,
    shaper: Annotated[str, typer.Option(help="netem, or nfqueue where the kernel has no netem.")] = "netem",
    undo: Annotated[bool, typer.Option("--undo", help="Print what takes the shaping away again.")] = False,
) -> None:
    """Print the commands that shape one party's end of a link on a real host; run them there as root.

    Example: spu-bench network commands --network wan --rank 0 --interface eth1

    With --shaper nfqueue --peer 1=192.0.2.11 the last one delays packets until it is interrupted.
    """
    asked = Network.load(network)
    if shaper not in ("netem", "nfqueue"):
        raise SpuBenchError(f"no shaper {shaper!r}.", "use netem or nfqueue.", "bad_input")
    if undo:
        lines = commands.undo_commands(shaper, interface)
    elif shaper == "netem":
        lines = [*commands.packet_commands(asked, interface), *commands.netem_commands(asked, rank, interface)]
    else:
        state = str(Path(tempfile.gettempdir()) / "spu-bench-holder.json")
        senders = dict(_rank_of(each) for each in peer or [])
        lines = [
            *commands.packet_commands(asked, interface),
            *commands.rate_commands(asked, rank, interface),
            *commands.queue_commands(interface),
            [sys.executable, *commands.holder_arguments(asked, senders, state)],
        ]
    for line in lines:
        print(shlex.join(line))


@app.command("probe-serve")
def probe_serve(
    bind: Annotated[str, typer.Option(help="Address to listen at.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port (0: any free one).")] = PORT,
    once: Annotated[bool, typer.Option("--once", help="End after one client.")] = False,
) -> None:
    """Answer probes from another host until interrupted.

    Example: spu-bench network probe-serve --bind 192.0.2.10
    """
    try:
        wire.serve(
            bind,
            port,
            ready=lambda taken: print(f"answering probes at {bind}:{taken}", flush=True),
            once=once,
        )
    except OSError as error:
        raise SpuBenchError(
            f"cannot listen at {bind}:{port}: {error}.", "choose another --bind or --port.", "environment"
        ) from error
    except KeyboardInterrupt:
        raise typer.Exit() from None


def _rank_of(peer: str) -> tuple[str, int]:
    rank, _, address = peer.partition("=")
    if rank not in ("0", "1", "2") or not address:
        raise SpuBenchError(f"--peer {peer!r} is not RANK=ADDRESS.", "write it as 1=192.0.2.11.", "bad_input")
    return address, int(rank)


def _probe_own_hosts(asked: Network, executor: str, parties: int) -> tuple[list[LinkProbe], ExecutorDescription]:
    console = Console(stderr=True)
    chosen = executors.get(executor)
    with (
        executors.measurement_lock(on_wait=console.print),
        tempfile.TemporaryDirectory(prefix="spu-bench-probe-") as scratch,
        console.status(f"probing {asked.name} by the executor {executor}"),
    ):
        directories = [Path(scratch) / str(rank) for rank in range(parties)]
        for directory in directories:
            directory.mkdir()
        with chosen.open(asked, directories) as hosts:
            links = probe(hosts, directories, asked)
        return links, chosen.describe()


def _probe_other_host(server: str) -> LinkProbe:
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal():
        raise SpuBenchError(f"--connect {server!r} is not HOST:PORT.", "write it as 192.0.2.10:9529.", "bad_input")
    try:
        return LinkProbe(**wire.connect(host, int(port)))
    except wire.WireError as error:
        raise SpuBenchError(
            f"{error}.", "start `spu-bench network probe-serve` there, and open the port.", "link"
        ) from error


def _show(asked: Network, links: list[LinkProbe], wrong: list[str], description: ExecutorDescription | None) -> None:
    console = Console()
    how = f"executor {description.name}, shaper {description.shaper}" if description else "to another host"
    table = Table(title=f"{asked.name}, {how}")
    for column in ("link", "", "asked", "seen"):
        table.add_column(column)
    for link in links:
        ends = f"{link.server} - {link.client}"
        spread = f"{link.rtt_ms:.3f} (least {link.rtt_min_ms:.3f}, p99 {link.rtt_p99_ms:.3f})"
        table.add_row(ends, "RTT ms", f"{asked.rtt_ms:g}" if asked.is_shaped else "as it is", spread)
        for sender, receiver, seen in (
            (link.server, link.client, link.rate_mbit),
            (link.client, link.server, link.rate_back_mbit),
        ):
            rate = asked.egress_mbit(sender)
            table.add_row("", f"Mbit/s {sender} to {receiver}", f"{rate:g}" if rate else "as it is", f"{seen:.1f}")
    console.print(table)
    if description and description.why:
        console.print(f"executor: {description.why}", style="dim")
    for cost in description.shaper_cost if description else []:
        late = f"late by {cost.late_us_p50 or 0:.0f} us (p50), {cost.late_us_p99 or 0:.0f} us (p99)"
        busy = f"{100 * cost.cpu_share_peak:.0f} % of a core in its busiest half second"
        console.print(f"shaper: {busy}, {late}", style="dim")
    console.print("valid: the link is what was asked for" if not wrong else f"invalid: {'; '.join(wrong)}")
