"""The executor `netns`: the parties run in network namespaces, joined by a bridge in a third. Requires root.

It changes nothing in the machine's own namespace: no interface, no route, no rule.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError, last_line
from spu_bench.executors.base import Host, PartyProcess, require
from spu_bench.executors.description import ExecutorDescription
from spu_bench.executors.loopback import cores_of, cores_per_party, keep_to
from spu_bench.executors.scratch import is_orphan, new_name, scratch_directory
from spu_bench.network import Network, shapers, shell
from spu_bench.party.process import PARENT

INTERFACE = "link0"
_RUN = "/run/netns"


@dataclass
class NetnsHost:
    """One party in its own network namespace, which is also the shaper's site."""

    rank: int
    cores: int
    directory: str
    address: str
    namespace: str
    state: Path
    cpus: Sequence[int]
    interface: str = INTERFACE
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: str) -> PartyProcess:
        process = self._python(arguments, Path(self.directory), log, environment)
        keep_to(process.pid, self.cpus)
        return process

    def run(self, command: Sequence[str]) -> str:
        return _run(["ip", "netns", "exec", self.namespace, *command])

    def spawn(self, arguments: Sequence[str], log: str) -> None:
        self._python(arguments, self.state, log, {})

    def _python(
        self, arguments: Sequence[str], directory: Path, log: str, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        with open(directory / log, "ab") as stream:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, sys.executable, *arguments],
                cwd=directory,
                env={**os.environ, **environment, PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        self.processes.append(process)
        return process


class NetnsExecutor:
    """The parties in network namespaces. Their memory and files are not isolated."""

    name = "netns"

    def __init__(self, runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST]) -> None:
        self._runtime = runtime
        self._description = ExecutorDescription(name="netns")
        self._shaper: shapers.Shaper = shapers.Unshaped()
        self._hosts: list[NetnsHost] = []

    def missing(self, network: Network) -> str | None:
        if absent := [tool for tool in ("ip", "tc") if shutil.which(tool) is None]:
            return f"the executor netns requires the command {absent[0]!r}; install iproute2"
        trial = new_name()
        try:
            _run(["ip", "netns", "add", trial])
            _run(["ip", "netns", "del", trial])
        except SpuBenchError as error:
            return f"the executor netns cannot make network namespaces ({error.problem.rstrip('.')}); run as root"
        return runtimes.missing(self._runtime)

    def describe(self) -> ExecutorDescription:
        """What the hosts are, or were when last open, for the record."""
        if self._hosts:
            self._description.shaper_cost = self._shaper.figures(self._hosts)
        return self._description.model_copy()

    @contextmanager
    def open(self, network: Network, directories: Sequence[Path], helpers: int = 0) -> Iterator[list[Host]]:
        runtimes.require(self._runtime)
        require(self, network)
        sweep()
        name = new_name()
        settings = shell.tcp_settings(network)
        with ExitStack() as undo:
            state = undo.enter_context(scratch_directory(name))
            cores = (len(directories) - helpers, self._runtime.least_cores)
            self._hosts = _join(name, network, directories, state, settings, undo, cores)
            self._shaper = shapers.choose(network, self._hosts[0])
            self._shaper.shape(network, self._hosts)
            self._description = ExecutorDescription(
                name="netns",
                shaper=self._shaper.name,
                addresses=[host.address for host in self._hosts],
                subnet=_SUBNET,
                congestion_control=shell.CONGESTION_CONTROL,
                settings=settings,
                kernel=platform.release(),
                cpus=[list(host.cpus) for host in self._hosts],
            )
            try:
                yield list(self._hosts)
            finally:
                self.describe()
                self._hosts = []


def sweep() -> None:
    """Remove the namespaces of runs that were killed, and the processes in them."""
    for namespace in sorted(os.listdir(_RUN)) if os.path.isdir(_RUN) else []:
        if is_orphan(namespace):
            _remove(namespace)


_SUBNET = "10.77.0.0/24"
"""Used inside the namespaces only. This machine has no route to them, so it cannot collide with other networks."""


def _join(
    name: str,
    network: Network,
    directories: Sequence[Path],
    state: Path,
    settings: Mapping[str, str],
    undo: ExitStack,
    cores_for: tuple[int, int],
) -> list[NetnsHost]:
    """Make the namespaces, a bridge, and a veth pair for each host. `cores_for`: parties, least cores of one."""
    middle = f"{name}-bridge"
    _add(middle, undo)
    mtu = str(network.mtu)
    _run(["ip", "-n", middle, "link", "add", "bridge", "type", "bridge"])
    hosts = []
    cores = cores_per_party(cores_for[0])
    for rank, directory in enumerate(directories):
        own = state / str(rank)
        own.mkdir()
        host = NetnsHost(
            rank,
            cores,
            str(directory),
            f"10.77.0.{rank + 1}",
            f"{name}-{rank}",
            own,
            cores_of(rank, *cores_for),
        )
        _add(host.namespace, undo)
        undo.callback(_end, host)
        port = f"port{rank}"
        for command in (
            f"-n {middle} link add {port} mtu {mtu} type veth peer name {INTERFACE} mtu {mtu} netns {host.namespace}",
            f"-n {middle} link set dev {port} master bridge up",
            f"-n {host.namespace} link set lo up",
            f"-n {host.namespace} address add {host.address}/24 dev {INTERFACE}",
            f"-n {host.namespace} link set dev {INTERFACE} up",
        ):
            _run(["ip", *command.split()])
        for route in shell.route_commands(_SUBNET, INTERFACE, host.address):
            host.run(route)
        for key, value in settings.items():
            path = "/proc/sys/" + key.replace(".", "/")
            host.run(["sh", "-c", 'printf %s "$1" > "$2"', "sh", value, path])
        hosts.append(host)
    _run(["ip", "-n", middle, "link", "set", "dev", "bridge", "mtu", mtu, "up"])
    return hosts


def _add(namespace: str, undo: ExitStack) -> None:
    _run(["ip", "netns", "add", namespace])
    undo.callback(_remove, namespace)


def _end(host: NetnsHost) -> None:
    """End the host's processes: SIGTERM, up to 2 s to finish, then SIGKILL."""
    running = [process for process in host.processes if process.poll() is None]
    for process in running:
        process.terminate()
    until = time.monotonic() + 2
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.05, until - time.monotonic()))
        if process.poll() is None:
            process.kill()
            process.wait()


def _remove(namespace: str) -> None:
    """Kill the processes of the namespace and delete it with its interfaces and rules."""
    with suppress(SpuBenchError):
        for pid in _run(["ip", "netns", "pids", namespace]).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    with suppress(SpuBenchError):
        _run(["ip", "netns", "del", namespace])


def _run(command: Sequence[str]) -> str:
    """Run a command on this machine; raises SpuBenchError ("environment") with its last line of output."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpuBenchError(f"`{' '.join(command)}` did not run: {error}.", _FIX, "environment") from error
    if done.returncode:
        said = last_line(done.stderr or done.stdout, f"exit status {done.returncode}")
        raise SpuBenchError(f"`{' '.join(command)}`: {said}", _FIX, "environment")
    return done.stdout


_FIX = "run as root, with iproute2 and iptables installed."
