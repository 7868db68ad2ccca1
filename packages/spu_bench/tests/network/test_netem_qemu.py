"""The shaper's commands for `tc netem` on a kernel that has it, in a machine under software emulation.

Tested: the kernel accepts the commands, the queue that it reports, the round-trip time, the rate by the time of a large
packet, and that undoing restores the interface. Not tested: rates of hundreds of Mbit/s, which an emulated
processor cannot reach; for those, run `spu-bench network probe` on a machine with netem.
"""

from __future__ import annotations

import json
import re
import shlex
import statistics
import subprocess
import time
from pathlib import PurePath
from typing import Any

import netem_guest
import pytest
from requirements_of_tests import lacks_commands, require

from spu_bench.network import LAN, LOOPBACK, WAN, Network
from spu_bench.network.shell import netem_commands, save_commands, segment_commands, undo_commands

DSL = Network(name="dsl", rate_mbit=50.0, rate_back_mbit=10.0, rtt_ms=20.0)
FAR = Network(name="far", rate_mbit=100.0, rtt_ms=100.0)
RADIO = Network(name="radio", rate_mbit=400.0, rtt_ms=40.0, jitter_ms=2.0, loss_percent=0.01, mtu=1500)
STRICT_WAN = WAN.model_copy(update={"name": "strict", "burst_bytes": None})
NETWORKS = {network.name: network for network in (WAN, LAN, STRICT_WAN, DSL, FAR, RADIO)}
SMALL, LARGE = 56, 60_000  # bytes of a ping's payload
STATES = ("tc qdisc show dev link0", "ip -d -o link show dev link0")


def script() -> str:
    """For each network two namespaces and a veth pair, shaped by the commands; prints what is measured."""
    lines = []
    for name, network in {"bare": LOOPBACK, **NETWORKS}.items():
        mtu = f"mtu {network.mtu}"
        lines += [f"ip netns add {name}{rank}" for rank in (0, 1)]
        lines.append(f"ip link add link0 {mtu} netns {name}0 type veth peer name link0 {mtu} netns {name}1")
        for rank in (0, 1):
            lines.append(f"ip -n {name}{rank} address add 10.0.0.{rank + 1}/24 dev link0")
            lines.append(f"ip -n {name}{rank} link set dev link0 up")
        for rank in (0, 1):
            inside, saved = f"ip netns exec {name}{rank}", PurePath(f"/tmp/{name}{rank}")
            shaping = [
                *save_commands(network, "link0", saved),
                *segment_commands(network, "link0"),
                *netem_commands(network, rank, "link0"),
            ]
            lines.append(f"mkdir {saved}")
            lines += [f"echo before {name} {rank} $({inside} {state})" for state in STATES]
            lines += [_run_or_report(inside, command) for command in shaping if network.is_shaped]
            lines.append(f"echo qdisc {name} {rank} $({inside} tc -j qdisc show dev link0 | tr -d '\\n')")
        for size in (SMALL, LARGE) if network.mtu > LARGE else (SMALL,):
            ping = f"ip netns exec {name}0 ping -c 12 -i 0.2 -s {size} 10.0.0.2"
            lines.append(f"{ping} | sed -n 's/.* time=\\([0-9.]*\\) ms.*/ping {name} {size} \\1/p'")
        for rank in (0, 1) if network.is_shaped else ():
            inside = f"ip netns exec {name}{rank}"
            undoing = undo_commands(network, rank, "netem", "link0", PurePath(f"/tmp/{name}{rank}"))
            lines += [_run_or_report(inside, command) for command in undoing]
            lines += [f"echo after {name} {rank} $({inside} {state})" for state in STATES]
    return "\n".join(lines) + "\n"


def _run_or_report(inside: str, command: list[str]) -> str:
    # Debian's busybox runs its own `ip` in a shell, whatever PATH says.
    command = [re.sub(r"\bip (?=-d|link)", "/sbin/ip ", word) for word in command]
    return f"{inside} {shlex.join(command)} || echo guest: refused {shlex.quote(shlex.join(command))}"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines that the guest printed."""
    require(lacks_commands(*netem_guest.NEEDED))
    directory = tmp_path_factory.mktemp("guest")
    try:
        kernel = netem_guest.fetch_kernel(directory)
    except (subprocess.CalledProcessError, StopIteration) as error:
        require(f"Debian's cloud kernel from apt ({error})")
        raise
    initramfs = directory / "initramfs.gz"
    netem_guest.build_initramfs(kernel, script(), initramfs)
    started = time.monotonic()
    lines = netem_guest.boot(kernel, initramfs, timeout_s=170)
    print(f"the guest took {time.monotonic() - started:.1f} s")
    return lines


def round_trip(seen: list[str], name: str, size: int) -> float:
    """Median of the pings of that payload, in ms; the first, which waits for ARP, is left out."""
    times = [float(found[1]) for line in seen if (found := re.fullmatch(rf"ping {name} {size} ([0-9.]+)", line))]
    assert len(times) >= 8, [line for line in seen if line.startswith(f"ping {name}")]
    return statistics.median(times[1:])


def qdiscs(seen: list[str], name: str, rank: int) -> dict[str, dict[str, Any]]:
    """The queues that the guest's kernel reports, by kind; one is the root."""
    line = next(line for line in seen if line.startswith(f"qdisc {name} {rank} "))
    queues = json.loads(line.split(" ", 3)[3])
    assert [queue["kind"] for queue in queues if queue.get("root")] == [queues[0]["kind"]]
    return {queue["kind"]: queue["options"] for queue in queues}


def test_the_kernel_takes_every_command_line(seen: list[str]) -> None:
    assert not [line for line in seen if line.startswith("guest: refused")]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_kernel_reports_the_asked_queue(seen: list[str], network: Network) -> None:
    for rank in (0, 1):
        queues = qdiscs(seen, network.name, rank)
        options = queues["netem"]
        rate = network.egress_mbit(rank)
        assert rate is not None
        if network.burst_bytes is None:
            assert set(queues) == {"netem"}
            assert options["rate"]["rate"] == pytest.approx(rate * 1e6 / 8, rel=1e-3), "bytes a second"
        else:
            assert queues["tbf"]["rate"] == pytest.approx(rate * 1e6 / 8, rel=1e-3), "bytes a second"
            assert queues["tbf"]["burst"] == pytest.approx(network.burst_bytes, rel=0.01)
            assert "rate" not in options
        assert options["delay"]["delay"] == pytest.approx(network.rtt_ms / 2e3, abs=2e-6), "in tc's ticks"
        assert options["delay"]["jitter"] == pytest.approx(network.jitter_ms / 1e3, rel=1e-3, abs=1e-9)
        loss = options.get("loss-random", {"loss": 0})["loss"]
        assert loss == pytest.approx(network.loss_percent / 100, rel=1e-2, abs=1e-9)
        command = netem_commands(network, rank, "link0")[-1]
        assert options["limit"] == int(command[command.index("limit") + 1])


def lines_of(seen: list[str], start: str) -> list[str]:
    """The lines that begin with `start`, without it."""
    return [line.removeprefix(start) for line in seen if line.startswith(start)]


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_undoing_restores_the_interface(seen: list[str], network: Network) -> None:
    for rank in (0, 1):
        before, after = (
            # without the carrier's state, which the kernel changes by itself
            [re.sub(r"<\S+>|state \w+", "", line) for line in lines_of(seen, f"{when} {network.name} {rank} ")]
            for when in ("before", "after")
        )
        assert before == after and len(after) == len(STATES)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_round_trip_is_the_asked_one(seen: list[str], network: Network) -> None:
    tolerance = max(0.05 * network.rtt_ms, 0.1) + 2 * network.jitter_ms
    emulation_ms = round_trip(seen, "bare", SMALL)
    assert emulation_ms < 0.5
    assert abs(round_trip(seen, network.name, SMALL) - emulation_ms - network.rtt_ms) < tolerance


@pytest.mark.parametrize("network", [WAN, LAN, STRICT_WAN, DSL, FAR], ids=lambda network: network.name)
def test_a_large_packet_takes_its_time_on_the_wire_each_way(seen: list[str], network: Network) -> None:
    """Unless it is within the burst that is asked for: then it takes none."""
    on_the_wire_ms = sum((LARGE - SMALL) * 8e-3 / (network.egress_mbit(rank) or 0) for rank in (0, 1))
    if network.burst_bytes is not None:
        on_the_wire_ms = 0.0
    longer_ms = round_trip(seen, network.name, LARGE) - round_trip(seen, network.name, SMALL)
    emulation_ms = round_trip(seen, "bare", LARGE) - round_trip(seen, "bare", SMALL)
    assert longer_ms - emulation_ms == pytest.approx(on_the_wire_ms, rel=0.05, abs=0.05)
