"""The probe: it measures the network between two hosts and compares it with the requested one."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from spu_bench.errors import SpuBenchError, last_line_of_log
from spu_bench.network.presets import Network

if TYPE_CHECKING:
    from spu_bench.executors.base import Host, PartyProcess

_PROGRAM = (resources.files("spu_bench.network") / "probe_protocol.py").read_text()

RTT_TOLERANCE = 0.05
RTT_TOLERANCE_MS = 0.1
RATE_TOLERANCE = 0.10


class NetworkProbe(BaseModel):
    """What one probe measured between two parties.

    `rate_mbit` is the payload rate from rank `server` to rank `client`, `rate_back_mbit` the other way, in Mbit/s;
    `rtt_ms` the median of `pings` TCP round trips of one byte, in ms. `bytes` is the payload that the
    probe sent and received.
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
) -> list[NetworkProbe]:
    """Measure the network between each pair of hosts, one pair after the other.

    With the requested `network`, a probe that reaches its rates at once takes a third of the time. `directories` are
    the hosts' directories on this machine; the probe writes its files there. Raises SpuBenchError ("link") where a host
    does not answer within `timeout_s`.
    """
    return [
        _probe_pair(
            *(hosts[server], hosts[client], directories[server], directories[client]),
            _requested_mbit(network, server, client),
            timeout_s,
        )
        for server, client in itertools.combinations(range(len(hosts)), 2)
    ]


def judge(network: Network, before: Sequence[NetworkProbe], after: Sequence[NetworkProbe]) -> str | None:
    """Describe in one line how the probed network differs from the requested one; None if it does not.

    The RTT may differ by 5 % or 0.1 ms, whichever is more, a payload rate by 10 %. A network that is not shaped is
    always valid. docs/networks.md says what jitter and loss change.
    """
    if not network.is_shaped:
        return None
    wrong = [
        f"{when} the run, {complaint}"
        for when, probes in (("before", before), ("after", after))
        for seen in probes
        for complaint in complaints(network, seen)
    ]
    return "; ".join(wrong) or None


def complaints(network: Network, probed: NetworkProbe) -> list[str]:
    """How one probe differs from the requested `network`, a line for each difference beyond its tolerance."""
    pair = f"between ranks {probed.server} and {probed.client}"
    wrong = []
    # The median of n round trips under jitter has a standard error; three of them are tolerated.
    noise = 3 * 1.25 * math.sqrt(2) * network.jitter_ms / math.sqrt(probed.pings)
    tolerance = max(RTT_TOLERANCE * network.rtt_ms, RTT_TOLERANCE_MS) + noise
    if abs(probed.rtt_ms - network.rtt_ms) > tolerance:
        wrong.append(f"RTT {pair} is {probed.rtt_ms:.3g} ms instead of {network.rtt_ms:g} ms")
    for seen, sender, receiver in (
        (probed.rate_mbit, probed.server, probed.client),
        (probed.rate_back_mbit, probed.client, probed.server),
    ):
        requested = network.egress_mbit(sender)
        if requested is None:
            continue
        # TCP cannot fill a network that loses packets: there only a rate above the requested one is wrong.
        too_slow = seen < requested * (1 - RATE_TOLERANCE) and not network.loss_percent
        if too_slow or seen > requested * (1 + RATE_TOLERANCE):
            way = f"from rank {sender} to rank {receiver}"
            wrong.append(f"rate {way} is {seen:.4g} Mbit/s instead of {requested:g} Mbit/s")
    return wrong


def _requested_mbit(network: Network | None, server: int, client: int) -> tuple[float, float]:
    """The rates from and to the server at which a short probe is enough; 0 for a rate without limit."""
    if network is None:
        return math.inf, math.inf
    return network.egress_mbit(server) or 0.0, network.egress_mbit(client) or 0.0


def _probe_pair(
    server: Host, client: Host, served: Path, connected: Path, requested_mbit: tuple[float, float], timeout_s: float
) -> NetworkProbe:
    # As text: the module may have another path on the host, and importing the package takes half as long as a probe.
    program = ("-I", "-S", "-c", _PROGRAM)
    name = f"probe-{server.rank}-{client.rank}"
    port_file, seen_file = served / f"{name}.port.json", connected / f"{name}.seen.json"
    for old in (port_file, seen_file):
        old.unlink(missing_ok=True)
    until = time.monotonic() + timeout_s
    arguments = [*program, "serve", "--bind", server.address, "--out", port_file.name]
    with _Running(server.start(arguments, environment={}, log=f"{name}.log")) as serving:
        port = json.loads(_wait_for(port_file, serving, until, served / f"{name}.log"))["port"]
        arguments = [*program, "connect", "--host", server.address, "--port", str(port), "--out", seen_file.name]
        arguments += ["--requested", *map(str, requested_mbit)]
        with _Running(client.start(arguments, environment={}, log=f"{name}.log")) as connecting:
            seen = json.loads(_wait_for(seen_file, connecting, until, connected / f"{name}.log"))
    return NetworkProbe(server=server.rank, client=client.rank, **seen)


class _Running:
    """A process that is killed at the end of the block, if it still runs."""

    def __init__(self, process: PartyProcess) -> None:
        self.process = process

    def __enter__(self) -> Callable[[], int | None]:
        return self.process.poll

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=30)


def _wait_for(path: Path, poll: Callable[[], int | None], until: float, log: Path) -> str:
    """The text of a file that a process writes; SpuBenchError where it ends without it or the time is over."""
    while time.monotonic() < until:
        ended = poll() is not None
        if path.is_file():
            return path.read_text()
        if ended:
            break
        time.sleep(0.02)
    raise SpuBenchError(
        f"The network could not be probed: {last_line_of_log(log, 'no answer in time')}.",
        f"read {log}, and check that no firewall filters traffic between the parties.",
        "link",
    )
