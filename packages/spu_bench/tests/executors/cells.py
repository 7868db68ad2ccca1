"""Shared by the tests of executors: set up and probe a network, and kill a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from spu_bench.executors import Executor, measurement_lock
from spu_bench.network import LAN, WAN, Network
from spu_bench.network.probe import NetworkProbe, judge, probe

FAR = Network(name="far", rate_mbit=100.0, rtt_ms=100.0)
DSL = Network(name="dsl", rate_mbit=50.0, rate_back_mbit=10.0, rtt_ms=20.0)
NETWORKS = [WAN, LAN, FAR, DSL]
ATTEMPTS = 3


def make_directories(parent: Path, parties: int = 2) -> list[Path]:
    """An empty directory for each party."""
    directories = [parent / f"party-{rank}" for rank in range(parties)]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    return directories


def probe_until_valid(
    executor: Executor, network: Network, directories: list[Path]
) -> tuple[list[NetworkProbe], str | None]:
    """Open the executor and probe; try again where the load of the machine made the network invalid."""
    for _ in range(ATTEMPTS):
        with measurement_lock(), executor.open(network, directories) as hosts:
            probes = probe(hosts, directories)
        verdict = judge(network, probes, [])
        if verdict is None:
            break
    return probes, verdict


def kill_while_open(executor: str, directories: list[Path], opened: Callable[[int], bool]) -> int:
    """Start another process that opens hosts and runs a process on each, kill it, and return its process number."""
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from spu_bench import executors\n"
        "from spu_bench.network import WAN\n"
        f"with executors.get({executor!r}).open(WAN, [Path(each) for each in sys.argv[1:]]) as hosts:\n"
        "    for host in hosts:\n"
        "        host.start(['-c', 'import time; time.sleep(600)'], environment={}, log='party.log')\n"
        "    print('open', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, *map(str, directories)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "open\n"
        assert opened(run.pid)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    return run.pid


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether `condition` becomes true before the time is over."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
