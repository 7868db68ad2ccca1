"""The probe: what the link between two hosts really is, and whether that is what was asked for."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from spu_bench.errors import SpuBenchError
from spu_bench.network.model import Network

if TYPE_CHECKING:
    from spu_bench.executors.base import Host, PartyProcess

_WIRE = (resources.files("spu_bench.network") / "wire.py").read_text()

RTT_TOLERANCE = 0.05
RTT_TOLERANCE_MS = 0.1
RATE_TOLERANCE = 0.10


class LinkProbe(BaseModel):
    """What was seen between two parties.

    `rate_mbit` is the payload rate from rank `server` to rank `client`, `rate_back_mbit` the other way, in Mbit/s;
    `rtt_ms` the median of `pings` TCP round trips of one byte, in ms. `bytes` is the payload that the probe moved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: int = 0
    client: int = 1
    rtt_ms: float
    rtt_min_ms: float
    rtt_p99_ms: float
    pings: int
    rate_mbit: float
    rate_back_mbit: float
    bytes: int
    seconds: float


def probe(
    hosts: Sequence[Host], directories: Sequence[Path], network: Network | None = None, *, timeout_s: float = 60.0
) -> list[LinkProbe]:
    """Measure the link of each pair of hosts, one pair after the other.

    Knowing the `network` that is asked for, a probe that sees its rates at once is over in a third of the time.
    `directories` are the hosts' own directories as this machine sees them; the probe leaves its files there.
    Raises SpuBenchError ("link") where a host does not answer within `timeout_s`.
    """
    return [
        _probe_pair(
            *(hosts[server], hosts[client], directories[server], directories[client]),
            _asked_mbit(network, server, client),
            timeout_s,
        )
        for server, client in itertools.combinations(range(len(hosts)), 2)
    ]


def judge(network: Network, before: Sequence[LinkProbe], after: Sequence[LinkProbe]) -> str | None:
    """Say in one line what is wrong with the link that was seen; None if it is the one asked for.

    The RTT may be off by 5 % or 0.1 ms, whichever is more, a payload rate by 10 %. A network that asks for nothing
    is always right. See docs/networks.md for what jitter and loss change.
    """
    if not network.is_shaped:
        return None
    wrong = [
        f"{when} the run, {complaint}"
        for when, links in (("before", before), ("after", after))
        for link in links
        for complaint in complaints(network, link)
    ]
    return "; ".join(wrong) or None


def complaints(network: Network, link: LinkProbe) -> list[str]:
    """Everything that one probe of `network` shows to be off, in words."""
    pair = f"between ranks {link.server} and {link.client}"
    wrong = []
    # A median of n round trips under jitter has a standard error of its own; three of them are not the link's fault.
    noise = 3 * 1.25 * math.sqrt(2) * network.jitter_ms / math.sqrt(link.pings)
    tolerance = max(RTT_TOLERANCE * network.rtt_ms, RTT_TOLERANCE_MS) + noise
    if abs(link.rtt_ms - network.rtt_ms) > tolerance:
        wrong.append(f"RTT {pair} is {link.rtt_ms:.3g} ms where {network.rtt_ms:g} ms was asked for")
    for seen, sender, receiver in (
        (link.rate_mbit, link.server, link.client),
        (link.rate_back_mbit, link.client, link.server),
    ):
        asked = network.egress_mbit(sender)
        if asked is None:
            continue
        # TCP cannot fill a link that loses packets: there only a rate above the asked one proves anything.
        too_slow = seen < asked * (1 - RATE_TOLERANCE) and not network.loss_percent
        if too_slow or seen > asked * (1 + RATE_TOLERANCE):
            way = f"from rank {sender} to rank {receiver}"
            wrong.append(f"rate {way} is {seen:.4g} Mbit/s where {asked:g} Mbit/s was asked for")
    return wrong


def _asked_mbit(network: Network | None, server: int, client: int) -> tuple[float, float]:
    """The rates from and to the server that tell the probe when it has seen enough; 0 where none is asked for."""
    if network is None:
        return math.inf, math.inf
    return network.egress_mbit(server) or 0.0, network.egress_mbit(client) or 0.0


def _probe_pair(
    server: Host, client: Host, served: Path, connected: Path, asked_mbit: tuple[float, float], timeout_s: float
) -> LinkProbe:
    # as text: a host need not have it where this one has, and importing the package takes as long as half a probe
    wire = ("-I", "-S", "-c", _WIRE)
    name = f"probe-{server.rank}-{client.rank}"
    port_file, seen_file = served / f"{name}.port.json", connected / f"{name}.seen.json"
    for old in (port_file, seen_file):
        old.unlink(missing_ok=True)
    until = time.monotonic() + timeout_s
    arguments = [*wire, "serve", "--bind", server.address, "--out", port_file.name]
    with _Running(server.start(arguments, environment={}, log=f"{name}.log")) as serving:
        port = _wait_for(port_file, serving, until, served / f"{name}.log")["port"]
        arguments = [*wire, "connect", "--host", server.address, "--port", str(port), "--out", seen_file.name]
        arguments += ["--asked", *map(str, asked_mbit)]
        with _Running(client.start(arguments, environment={}, log=f"{name}.log")) as connecting:
            seen = _wait_for(seen_file, connecting, until, connected / f"{name}.log")
    return LinkProbe(server=server.rank, client=client.rank, **seen)


class _Running:
    """A process that is gone when the block is left."""

    def __init__(self, process: PartyProcess) -> None:
        self.process = process

    def __enter__(self) -> Callable[[], int | None]:
        return self.process.poll

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=30)


def _wait_for(path: Path, poll: Callable[[], int | None], until: float, log: Path) -> Mapping[str, Any]:
    """Read the JSON that a process will write, unless it ends without or the time is up."""
    while time.monotonic() < until:
        ended = poll() is not None
        if path.is_file():
            content: Mapping[str, Any] = json.loads(path.read_text())
            return content
        if ended:
            break
        time.sleep(0.02)
    said = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    raise SpuBenchError(
        f"the link could not be probed: {said[-1] if said else 'no answer in time'}.",
        f"look at {log}; check that nothing filters traffic between the parties.",
        "link",
    )
