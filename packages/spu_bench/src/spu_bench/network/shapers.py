"""The shapers, which set up a network between parties: netem where the kernel has it, else a netfilter queue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from spu_bench.errors import SpuBenchError, last_line_of_log
from spu_bench.network import shell
from spu_bench.network.presets import Network
from spu_bench.network.shaper_cost import ShaperCost, ShaperName


class Site(Protocol):
    """One party's end of the network, in the party's own network namespace.

    `state` is a directory of this machine for the shaper's files.
    """

    rank: int
    address: str
    interface: str
    state: Path

    def run(self, command: Sequence[str]) -> str:
        """Run a command to its end and return its output; raises SpuBenchError where it fails."""
        ...

    def spawn(self, arguments: Sequence[str], log: str) -> None:
        """Start `python <arguments>` in the directory `state`; it ends with the site and writes its output to `log`."""
        ...


class Shaper(Protocol):
    """A way to shape. What it sets disappears with the namespaces of its sites."""

    name: ShaperName

    def missing(self, site: Site) -> str | None:
        """Why this shaper cannot be used at `site`; None if it can."""
        ...

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        """Shape the network at every site."""
        ...

    def figures(self, sites: Sequence[Site]) -> list[ShaperCost]:
        """What the shaper's own processes cost, one entry a site; empty for a shaper without processes."""
        ...


class Unshaped:
    """For networks that are not shaped."""

    name: ShaperName = "none"

    def missing(self, site: Site) -> str | None:
        return None

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        return None

    def figures(self, sites: Sequence[Site]) -> list[ShaperCost]:
        return []


class Netem(Unshaped):
    """netem on every party's egress, with half of the round-trip time on each side."""

    name: ShaperName = "netem"

    def missing(self, site: Site) -> str | None:
        return _refusal(site, ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0us"]) or _refusal(
            site, ["tc", "qdisc", "del", "dev", "lo", "root"]
        )

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        for site in sites:
            for command in (
                *shell.segment_commands(network, site.interface),
                *shell.netem_commands(network, site.rank, site.interface),
            ):
                site.run(command)


class NfQueue:
    """tbf on every party's egress for the rate, and a `PacketDelay` at every receiver for delay, jitter and loss."""

    name: ShaperName = "nfqueue"

    def missing(self, site: Site) -> str | None:
        refusals = []
        for iptables in _IPTABLES:
            # tried on the loopback device of the site's own namespace
            refusal = _refusal(site, shell.queue_command("lo", iptables))
            if refusal is None:
                return _refusal(site, shell.queue_command("lo", iptables, "-D"))
            refusals.append(refusal)
        return "; ".join(refusals)

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        for site in sites:
            iptables = next(name for name in _IPTABLES if _refusal(site, [name, "-w", "-t", "mangle", "-S"]) is None)
            for command in (
                *shell.segment_commands(network, site.interface),
                *shell.rate_commands(network, site.rank, site.interface),
            ):
                site.run(command)
            senders = {sender.address: sender.rank for sender in sites if sender is not site}
            arguments = shell.packet_delay_arguments(network, senders, _STATE)
            site.spawn([*arguments, "--seed", str(site.rank), "--end-with-parent"], _LOG)
            site.run(shell.queue_command(site.interface, iptables))
        for site in sites:
            _wait_until_ready(site)

    def figures(self, sites: Sequence[Site]) -> list[ShaperCost]:
        return [ShaperCost.model_validate_json((site.state / _STATE).read_text()) for site in sites]


def choose(network: Network, site: Site) -> Shaper:
    """The best shaper that can be used at `site`; raises SpuBenchError where there is none."""
    if not network.is_shaped:
        return Unshaped()
    shapers: tuple[Shaper, ...] = (Netem(), NfQueue())
    reasons = {}
    for shaper in shapers:
        missing = shaper.missing(site)
        if missing is None:
            return shaper
        reasons[shaper.name] = missing
    raise SpuBenchError(
        "No shaper works here: " + "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) + ".",
        "run as root (in a container: with NET_ADMIN) on a kernel with sch_netem, or with sch_tbf and NFQUEUE.",
        "environment",
    )


_IPTABLES = ("iptables", "iptables-legacy", "iptables-nft")
_STATE, _LOG = "packet-delay.json", "packet-delay.log"


def _refusal(site: Site, command: Sequence[str]) -> str | None:
    try:
        site.run(command)
    except SpuBenchError as error:
        return error.problem
    return None


def _wait_until_ready(site: Site, timeout_s: float = 20.0) -> None:
    until = time.monotonic() + timeout_s
    while not (site.state / _STATE).is_file():
        if time.monotonic() > until:
            log = site.state / _LOG
            raise SpuBenchError(
                f"The process that delays packets did not start: {last_line_of_log(log, 'it printed nothing')}.",
                "run as root or with NET_ADMIN, on a kernel with NFQUEUE.",
                "environment",
            )
        time.sleep(0.02)
