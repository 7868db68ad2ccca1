"""The command lines that shape one party's end of a link, as pure functions of the network.

The executors run them inside a party's own network namespace; a reader runs the same on a real host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from spu_bench.network.model import LARGEST_PACKET, Network

Command = list[str]

UNLIMITED_MBIT = 10_000.0
"""The rate for which queues are sized where none is asked for."""

TBF = "1:"
"""Handle of the token bucket, below which netem stands where both are there."""

QUEUE = 0
"""Number of the netfilter queue that delays what a party receives."""

CONGESTION_CONTROL = "cubic"
"""Linux's default, named so that a machine whose default is BBR (which paces by itself) gives the same link."""


def bandwidth_delay_bytes(network: Network, rate_mbit: float | None) -> int:
    """Bytes under way on a full link: rate times round trip."""
    return math.ceil((rate_mbit or UNLIMITED_MBIT) * 1e6 / 8 * network.rtt_ms / 1e3)


def netem_commands(network: Network, rank: int, interface: str) -> list[Command]:
    """Shape what party `rank` sends by netem: half of the round trip, its rate, jitter and loss.

    The queue (counted in packets, which may be as small as an Ethernet frame) holds two bandwidth-delay products.
    Where a burst is asked for, tbf above it gives the rate, since netem's own lets nothing through at once.
    """
    rate = network.egress_mbit(rank)
    packets = max(1000, math.ceil(2 * bandwidth_delay_bytes(network, rate) / min(network.mtu, 1500)))
    bucket = rate_commands(network, rank, interface) if network.burst_bytes else []
    place = ["parent", f"{TBF}1"] if bucket else ["root"]
    command = ["tc", "qdisc", "add", "dev", interface, *place, "netem", "limit", str(packets)]
    if network.rtt_ms:
        command += ["delay", f"{network.one_way_ms * 1e3:.0f}us"]
        if network.jitter_ms:
            command += [f"{network.jitter_ms * 1e3:.0f}us", "distribution", "normal"]
    if network.loss_percent:
        command += ["loss", f"{network.loss_percent:g}%"]
    if rate and not bucket:
        command += ["rate", _bits(rate)]
    return [*bucket, command]


def rate_commands(network: Network, rank: int, interface: str) -> list[Command]:
    """Limit by tbf what party `rank` sends: the nfqueue shaper's first half. Nothing where no rate is asked for.

    The bucket is the burst that is asked for. Without one it must take the largest packet whole and what arrives
    while the kernel's timer is late (1 ms), and the holder at the receiver charges for what passes at once. The queue
    takes two bandwidth-delay products, a tenth of a second, or 16 packets, whichever is most.
    """
    rate = network.egress_mbit(rank)
    if not rate:
        return []
    burst = network.burst_bytes or max(2 * LARGEST_PACKET, math.ceil(rate * 1e6 / 8 * 1e-3))
    tenth_of_a_second = math.ceil(rate * 1e5 / 8)
    limit = max(2 * bandwidth_delay_bytes(network, rate), tenth_of_a_second, 16 * LARGEST_PACKET) + burst
    tbf = ["rate", _bits(rate), "burst", str(burst), "limit", str(limit)]
    return [["tc", "qdisc", "add", "dev", interface, "root", "handle", TBF, "tbf", *tbf]]


def queue_commands(interface: str, iptables: str = "iptables") -> list[Command]:
    """Hand what a party receives to the netfilter queue: the nfqueue shaper's second half.

    At the receiver, since a packet held in its sender still counts against the sender's socket, which stalls it.
    """
    rule = ["-i", interface, "-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass"]
    return [[iptables, "-w", "-t", "mangle", "-A", "PREROUTING", *rule]]


def holder_arguments(network: Network, senders: Mapping[str, int], state: str) -> list[str]:
    """What Python runs to hold the queue's packets; `senders` are the other parties' ranks by address.

    The third part of the nfqueue shaper: delay, jitter, loss, and each sender's time on the wire.
    """
    arguments = ["-m", "spu_bench.network.holder", "--state", state, "--delay-ms", f"{network.one_way_ms:g}"]
    if network.jitter_ms:
        arguments += ["--jitter-ms", f"{network.jitter_ms:g}"]
    if network.loss_percent:
        arguments += ["--loss-percent", f"{network.loss_percent:g}"]
    for address, rank in senders.items() if network.burst_bytes is None else ():
        if (rate := network.egress_mbit(rank)) is not None:
            arguments += ["--rate", f"{address}={rate:g}"]
    return arguments


def undo_commands(shaper: str, interface: str) -> list[Command]:
    """Take away what the shaper of that name put on a real host's interface."""
    undo = [["tc", "qdisc", "del", "dev", interface, "root"]]
    if shaper == "nfqueue":
        undo += [["-D" if word == "-A" else word for word in command] for command in queue_commands(interface)]
    return undo


def packet_commands(network: Network, interface: str) -> list[Command]:
    """Where packets are lost, send them one by one: a kernel would lose 64 KiB of segments not yet cut at once."""
    return [["ip", "link", "set", "dev", interface, "gso_max_segs", "1"]] if network.loss_percent else []


def route_commands(subnet: str, interface: str, address: str) -> list[Command]:
    """Choose TCP's congestion control for the route to the other parties.

    By the route, since a namespace may not set the sysctl to an algorithm that its machine restricts.
    """
    route = [subnet, "dev", interface, "proto", "kernel", "scope", "link", "src", address]
    return [["ip", "route", "replace", *route, "congctl", CONGESTION_CONTROL]]


def tcp_settings(network: Network) -> dict[str, str]:
    """Kernel settings of a party's namespace, by their sysctl names, so that a link does not depend on the machine.

    Socket buffers grow to four bandwidth-delay products, at least 4 MiB; nothing that one connection learns about
    the link (a probe's slow-start threshold) is handed to the next.
    """
    rates = [network.egress_mbit(rank) for rank in (0, 1)]
    most = max(4 * 2**20, 4 * max(bandwidth_delay_bytes(network, rate) for rate in rates))
    return {
        "net.ipv4.tcp_wmem": f"4096 16384 {most}",
        "net.ipv4.tcp_rmem": f"4096 131072 {2 * most}",
        "net.ipv4.tcp_no_metrics_save": "1",
    }


def _bits(rate_mbit: float) -> str:
    return f"{rate_mbit * 1e6:.0f}bit"
