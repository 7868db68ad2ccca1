"""What makes a link be what a network asks for: netem where the kernel has it, a netfilter queue where not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from spu_bench.errors import SpuBenchError
from spu_bench.network import commands
from spu_bench.network.model import Network
from spu_bench.network.shaper_cost import ShaperCost, ShaperName


class Site(Protocol):
    """One party's end of the link, inside the party's own network namespace.

    `state` is a directory for a shaper's figures, as this machine sees it.
    """

    rank: int
    address: str
    interface: str
    state: Path

    def run(self, command: Sequence[str]) -> str:
        """Run a command to its end and give what it printed; SpuBenchError where it fails."""
        ...

    def spawn(self, arguments: Sequence[str], log: str) -> None:
        """Start `python <arguments>` in the directory `state`, to live as long as the site, its output in `log`."""
        ...


class Shaper(Protocol):
    """One way to shape; it lives and dies with the namespaces of its sites."""

    name: ShaperName

    def missing(self, site: Site) -> str | None:
        """Say what the kernel or the right lacks at this site; None if nothing."""
        ...

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        """Shape every site's link."""
        ...

    def figures(self, sites: Sequence[Site]) -> list[ShaperCost]:
        """The shaper's own cost at each site, as far as it has one of its own."""
        ...


class Unshaped:
    """Nothing is asked for, nothing is done."""

    name: ShaperName = "none"

    def missing(self, site: Site) -> str | None:
        return None

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        return None

    def figures(self, sites: Sequence[Site]) -> list[ShaperCost]:
        return []


class Netem(Unshaped):
    """Linux's own link emulator on every party's egress, half of the round trip on each side."""

    name: ShaperName = "netem"

    def missing(self, site: Site) -> str | None:
        return _refusal(site, ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "0us"]) or _refusal(
            site, ["tc", "qdisc", "del", "dev", "lo", "root"]
        )

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        for site in sites:
            for command in (
                *commands.packet_commands(network, site.interface),
                *commands.netem_commands(network, site.rank, site.interface),
            ):
                site.run(command)


class NfQueue:
    """tbf on every party's egress for the rate; a holder at every receiver for delay, jitter and loss."""

    name: ShaperName = "nfqueue"

    def missing(self, site: Site) -> str | None:
        refusals = []
        for iptables in _IPTABLES:
            refusal = _refusal(site, _on_loopback(iptables, "-A"))
            if refusal is None:
                return _refusal(site, _on_loopback(iptables, "-D"))
            refusals.append(refusal)
        return "; ".join(refusals)

    def shape(self, network: Network, sites: Sequence[Site]) -> None:
        for site in sites:
            iptables = next(name for name in _IPTABLES if _refusal(site, [name, "-w", "-t", "mangle", "-S"]) is None)
            for command in (
                *commands.packet_commands(network, site.interface),
                *commands.rate_commands(network, site.rank, site.interface),
            ):
                site.run(command)
            senders = {sender.address: sender.rank for sender in sites if sender is not site}
            arguments = commands.holder_arguments(network, senders, _STATE)
            site.spawn([*arguments, "--seed", str(site.rank), "--end-with-parent"], _LOG)
            for command in commands.queue_commands(site.interface, iptables):
                site.run(command)
        for site in sites:
            _wait_until_ready(site)

    def figures(self, sites: Sequence[Site]) -> list[ShaperCost]:
        return [ShaperCost.model_validate_json((site.state / _STATE).read_text()) for site in sites]


def choose(network: Network, site: Site) -> Shaper:
    """The best shaper that the kernel has at `site`; SpuBenchError where it has none."""
    if not network.is_shaped:
        return Unshaped()
    shapers: tuple[Shaper, ...] = (Netem(), NfQueue())
    lacks = {}
    for shaper in shapers:
        missing = shaper.missing(site)
        if missing is None:
            return shaper
        lacks[shaper.name] = missing
    raise SpuBenchError(
        "this kernel can shape no link here: " + "; ".join(f"{name}: {lack}" for name, lack in lacks.items()) + ".",
        "run as root (in a container: with NET_ADMIN) on a kernel with sch_netem, or sch_tbf, NFQUEUE and iptables.",
        "environment",
    )


_IPTABLES = ("iptables", "iptables-legacy", "iptables-nft")
_STATE, _LOG = "holder.json", "holder.log"


def _on_loopback(iptables: str, verb: str) -> list[str]:
    """The queue's rule on the loopback device of the site's own namespace, to see whether the kernel takes it."""
    (command,) = commands.queue_commands("lo", iptables)
    return [verb if word == "-A" else word for word in command]


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
            said = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
            raise SpuBenchError(
                f"the process that delays packets did not start: {said[-1] if said else 'no word from it'}.",
                "check that the kernel has NFQUEUE and that NET_ADMIN is granted.",
                "environment",
            )
        time.sleep(0.02)
