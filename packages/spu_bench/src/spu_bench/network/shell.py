"""The shell commands that shape one party's end of a network, as pure functions of the network.

The executors run them in a party's network namespace. `spu-bench network commands` prints the same for a real host.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Literal

from spu_bench.network.presets import LARGEST_PACKET, Network
from spu_bench.network.shaper_cost import ShaperName

Command = list[str]

UNLIMITED_MBIT = 10_000.0
"""Rate for the size of queues on a network without a rate limit."""

TBF = "1:"
"""Handle of the token bucket filter. Where both are used, netem is its child."""

QUEUE_NUMBER = 0
"""Number of the netfilter queue for packets that a party receives."""

CONGESTION_CONTROL = "cubic"
"""Linux's default. It is set explicitly: on some machines the default is BBR, which limits its own rate."""


def bandwidth_delay_bytes(network: Network, rate_mbit: float | None) -> int:
    """Bytes in flight on a full network: rate times round-trip time."""
    return math.ceil((rate_mbit or UNLIMITED_MBIT) * 1e6 / 8 * network.rtt_ms / 1e3)


def netem_commands(network: Network, rank: int, interface: str) -> list[Command]:
    """Shape with netem what party `rank` sends: half of the round-trip time, the party's rate, jitter and loss.

    The queue is counted in packets, which can be as small as an Ethernet frame. It holds two bandwidth-delay products.
    With `burst_bytes`, a tbf above netem sets the rate, because netem's own rate allows no burst.
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
    """Limit with tbf what party `rank` sends: first part of the nfqueue shaper. Empty without a rate limit.

    The bucket has `burst_bytes`. Without a burst it must still hold the largest packet, and what arrives in 1 ms
    while the kernel's timer is late; `PacketDelay` at the receiver then adds the time that this lets packets skip.
    The queue holds two bandwidth-delay products, a tenth of a second, or 16 packets, whichever is most.
    """
    rate = network.egress_mbit(rank)
    if not rate:
        return []
    burst = network.burst_bytes or max(2 * LARGEST_PACKET, math.ceil(rate * 1e6 / 8 * 1e-3))
    tenth_of_a_second = math.ceil(rate * 1e5 / 8)
    limit = max(2 * bandwidth_delay_bytes(network, rate), tenth_of_a_second, 16 * LARGEST_PACKET) + burst
    tbf = ["rate", _bits(rate), "burst", str(burst), "limit", str(limit)]
    return [["tc", "qdisc", "add", "dev", interface, "root", "handle", TBF, "tbf", *tbf]]


def queue_command(interface: str, iptables: str = "iptables", action: Literal["-A", "-D"] = "-A") -> Command:
    """Put the packets that a party receives into the netfilter queue: last part of the nfqueue shaper.

    At the receiver, because a packet that is held in its sender counts against the sender's socket and stalls it.
    With the action "-D" the command deletes the rule.
    """
    rule = ["-i", interface, "-j", "NFQUEUE", "--queue-num", str(QUEUE_NUMBER), "--queue-bypass"]
    return [iptables, "-w", "-t", "mangle", action, "PREROUTING", *rule]


def packet_delay_arguments(network: Network, senders: Mapping[str, int], state: str) -> list[str]:
    """Arguments of Python that start `PacketDelay`; `senders` maps the other parties' addresses to their ranks.

    Third part of the nfqueue shaper: delay, jitter, loss, and the transmission time of each sender's packets.
    """
    arguments = ["-m", "spu_bench.network.packet_delay", "--state", state, "--delay-ms", f"{network.one_way_ms:g}"]
    if network.jitter_ms:
        arguments += ["--jitter-ms", f"{network.jitter_ms:g}"]
    if network.loss_percent:
        arguments += ["--loss-percent", f"{network.loss_percent:g}"]
    for address, rank in senders.items() if network.burst_bytes is None else ():
        if (rate := network.egress_mbit(rank)) is not None:
            arguments += ["--rate", f"{address}={rate:g}"]
    return arguments


def segment_commands(network: Network, interface: str) -> list[Command]:
    """Send packets one by one where packets are lost: otherwise the kernel loses up to 64 KiB of segments at once."""
    return [["ip", "link", "set", "dev", interface, "gso_max_segs", "1"]] if network.loss_percent else []


def save_commands(network: Network, interface: str, directory: PurePath) -> list[Command]:
    """Save in `directory` the setting that `segment_commands` changes, for `undo_commands`.

    A value that is already saved stays: it is the one from before the first shaping.
    """
    return [_script(_SAVE, interface, directory)] if network.loss_percent else []


def undo_commands(
    network: Network, rank: int, shaper: ShaperName, interface: str, directory: PurePath
) -> list[Command]:
    """Restore a real host's interface to its state before `save_commands` and the commands of the shaper."""
    has_qdisc = shaper == "netem" or network.egress_mbit(rank) is not None
    commands = [["tc", "qdisc", "del", "dev", interface, "root"]] if has_qdisc else []
    if shaper == "nfqueue":
        commands.append(queue_command(interface, action="-D"))
    if network.loss_percent:
        commands.append(_script(_RESTORE, interface, directory))
    return commands


def route_commands(subnet: str, interface: str, address: str) -> list[Command]:
    """Set TCP's congestion control for the route to the other parties.

    A namespace cannot set the sysctl to an algorithm that its machine restricts, but it can set the route's.
    """
    route = [subnet, "dev", interface, "proto", "kernel", "scope", "link", "src", address]
    return [["ip", "route", "replace", *route, "congctl", CONGESTION_CONTROL]]


def tcp_settings(network: Network) -> dict[str, str]:
    """Kernel settings of a party's namespace, by sysctl name, so that a network does not depend on the machine.

    Socket buffers grow to four bandwidth-delay products, at least 4 MiB. A connection does not inherit what an earlier
    one learned, such as the slow-start threshold of a probe.
    """
    rates = [network.egress_mbit(rank) for rank in (0, 1)]
    most = max(4 * 2**20, 4 * max(bandwidth_delay_bytes(network, rate) for rate in rates))
    return {
        "net.ipv4.tcp_wmem": f"4096 16384 {most}",
        "net.ipv4.tcp_rmem": f"4096 131072 {2 * most}",
        "net.ipv4.tcp_no_metrics_save": "1",
    }


_SAVE = (
    '[ -e "$2" ] || { segments=$(ip -d -o link show dev "$1" | sed -n "s/.* gso_max_segs \\([0-9]*\\).*/\\1/p")'
    ' && [ "$segments" ] && echo "$segments" > "$2"; }'
)
_RESTORE = 'ip link set dev "$1" gso_max_segs "$(cat "$2")" && rm "$2"'


def _script(script: str, interface: str, directory: PurePath) -> Command:
    """A shell script with the interface as $1 and the file for its saved setting as $2."""
    return ["sh", "-c", script, "sh", interface, str(directory / f"spu-bench-{interface}-gso_max_segs")]


def _bits(rate_mbit: float) -> str:
    return f"{rate_mbit * 1e6:.0f}bit"
