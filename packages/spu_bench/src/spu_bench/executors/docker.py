"""The executor `docker`: the parties run in containers of this machine, on an internal bridge network.

Each party has two containers with one network namespace. The shaping container has NET_ADMIN and exists as long as the
network. The party's container sees the party's directory and has its limits. So a party cannot change its network, and
shaping does not count against a party's limits.
"""

from __future__ import annotations

import importlib
import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError, last_line
from spu_bench.executors import scratch, subnets
from spu_bench.executors.base import Host, PartyProcess, ReportedProcess, no_helpers
from spu_bench.executors.description import ContainerImage, ExecutorDescription
from spu_bench.executors.loopback import cores_of, cores_per_party
from spu_bench.network import Network, shapers, shell
from spu_bench.source_files import SOURCE_LABEL, source_hash

RIGHTS = ("NET_ADMIN", "SYS_NICE")
INTERFACE = "eth0"
_MOST_SHARES = 262_144  # the shaping container goes before the parties', also where it gets no real-time priority
_PARTY, _SHAPING = "/party", "/shaping"
_OWNER, _MACHINE = "spu-bench.owner", "spu-bench.machine"
_IN_LOG = 'log="$1"; shift; exec "$@" >>"$log" 2>&1'


class DockerProcess(ReportedProcess):
    """A container for one process of a party; a process that a signal ended has an exit status above 128."""

    def __init__(self, container: Any) -> None:
        super().__init__(f"the container {container.name}")
        self._container = container
        container.start()
        # The engine reports the end: polling it would take time from the parties.
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        try:
            self._report_end(int(self._container.wait()["StatusCode"]))
        except Exception:  # the container was removed, or the engine has ended: the process has ended too
            self._report_end(137)

    def terminate(self) -> None:
        self._signal("SIGTERM")

    def kill(self) -> None:
        self._signal("SIGKILL")

    def _signal(self, name: str) -> None:
        with suppress(_docker().errors.APIError):  # it has already ended
            self._container.kill(name)


@dataclass
class DockerHost:
    """One party: its shaping container, which is the shaper's site, and a function that makes its own containers."""

    rank: int
    cores: int
    address: str
    state: Path
    shaping: Any
    make: Callable[..., Any]
    interface: str = INTERFACE
    directory: str = _PARTY

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: str) -> PartyProcess:
        command = ["sh", "-c", _IN_LOG, "sh", log, "python3", *arguments]
        with _engine_errors(f"start a process of party {self.rank}"):
            return DockerProcess(self.make(command, {"HOME": "/tmp", **environment}))

    def run(self, command: Sequence[str]) -> str:
        with _engine_errors(f"run `{' '.join(command)}`"):
            status, output = self.shaping.exec_run(list(command))
        said = str(output, errors="replace").strip()
        if status:
            raise SpuBenchError(
                f"`{' '.join(command)}` in a container: {last_line(said, f'exit status {status}')}",
                "allow NET_ADMIN for containers in the Docker engine, and build the image with docker/build.",
                "environment",
            )
        return said

    def spawn(self, arguments: Sequence[str], log: str) -> None:
        with _engine_errors("start the shaper"):
            self.shaping.exec_run(
                ["sh", "-c", _IN_LOG, "sh", log, "python3", *arguments], workdir=_SHAPING, detach=True
            )


class DockerExecutor:
    """The parties in containers.

    `image` replaces the default image of `runtime`, `subnet` is the bridge's IPv4 subnet (None: a free one),
    `memory_bytes` each party's limit (None: equal parts of nine tenths of the machine's memory), `rights` the
    capabilities of the shaping containers.
    """

    name = "docker"

    def __init__(
        self,
        image: str | None = None,
        subnet: str | None = None,
        memory_bytes: int | None = None,
        rights: Sequence[str] = RIGHTS,
        runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST],
    ) -> None:
        self._image = image or os.environ.get("SPU_BENCH_IMAGE", runtime.image)
        self._runtime = runtime
        self._subnet = subnet or os.environ.get("SPU_BENCH_SUBNET") or None
        self._memory, self._rights = memory_bytes, list(rights)
        self._description = ExecutorDescription(name="docker")
        self._shaper: shapers.Shaper = shapers.Unshaped()
        self._hosts: list[DockerHost] = []

    def missing(self, network: Network) -> str | None:
        try:
            with _engine() as engine:
                self._find_image(engine)
        except SpuBenchError as error:
            return f"{error.problem.rstrip('.')}; {error.fix.rstrip('.')}"
        return None

    def describe(self) -> ExecutorDescription:
        """What the hosts are, or were when last open, for the record."""
        if self._hosts:
            self._description.shaper_cost = self._shaper.figures(self._hosts)
        return self._description.model_copy()

    @contextmanager
    def open(self, network: Network, directories: Sequence[Path], helpers: int = 0) -> Iterator[list[Host]]:
        no_helpers(self.name, helpers)
        name = scratch.new_name()
        with ExitStack() as undo:
            engine = undo.enter_context(_engine())
            image = self._find_image(engine)
            sweep(engine)
            state = undo.enter_context(scratch.scratch_directory(name))
            labels = {_OWNER: name, _MACHINE: scratch.machine()}
            undo.callback(_remove, engine, name)
            with _engine_errors("make the parties' network and containers"):
                bridge, subnet = self._bridge(engine, name, labels, network)
                settings = shell.tcp_settings(network)
                self._hosts = [
                    self._host(engine, bridge, subnet, rank, directories, state, labels, settings)
                    for rank in range(len(directories))
                ]
            for host in self._hosts:
                for route in shell.route_commands(str(subnet), INTERFACE, host.address):
                    host.run(route)
            self._shaper = shapers.choose(network, self._hosts[0])
            self._shaper.shape(network, self._hosts)
            self._description = ExecutorDescription(
                name="docker",
                shaper=self._shaper.name,
                addresses=[host.address for host in self._hosts],
                subnet=str(subnet),
                congestion_control=shell.CONGESTION_CONTROL,
                settings=settings,
                kernel=platform.release(),
                image=ContainerImage(
                    engine=engine.version()["Version"],
                    name=str(self._image),
                    id=image.id,
                    digests=image.attrs.get("RepoDigests") or [],
                    labels=image.labels,
                ),
                memory_bytes=self._memory_of(len(directories)),
                cpus=[self._cpus(rank, len(directories)) for rank in range(len(directories))],
            )
            try:
                yield list(self._hosts)
            finally:
                self.describe()
                self._hosts = []

    def _find_image(self, engine: Any) -> Any:
        if self._image is None:
            raise SpuBenchError(
                f"There is no image for {self._runtime.title}.", "use --executor netns or loopback.", "environment"
            )
        try:
            image = engine.images.get(self._image)
        except _docker().errors.ImageNotFound:
            raise SpuBenchError(
                f"The Docker engine has no image {self._image!r}.",
                f"build it with docker/build{_build_option(self._runtime)}.",
                "environment",
            ) from None
        if image.labels.get(SOURCE_LABEL) != source_hash():
            raise SpuBenchError(
                f"The image {self._image!r} has another version of spu_bench than this machine.",
                f"build it again with docker/build{_build_option(self._runtime)}.",
                "environment",
            )
        return image

    def _bridge(self, engine: Any, name: str, labels: dict[str, str], network: Network) -> tuple[Any, IPv4Network]:
        """Make an internal bridge network on a free subnet."""
        types = _docker().types
        taken = [
            IPv4Network(pool["Subnet"], strict=False)
            for other in engine.networks.list()
            for pool in other.attrs["IPAM"]["Config"] or []
            if ":" not in pool["Subnet"]
        ]
        for subnet in subnets.free([*taken, *subnets.routed()], self._subnet):
            pool = types.IPAMConfig(pool_configs=[types.IPAMPool(subnet=str(subnet), gateway=str(subnet[-2]))])
            options = {"com.docker.network.driver.mtu": str(network.mtu)}
            try:
                bridge = engine.networks.create(
                    name, driver="bridge", internal=True, ipam=pool, options=options, labels=labels
                )
            except _docker().errors.APIError as error:
                if "overlap" not in str(error):
                    raise
                continue  # another run has taken it in the meantime
            return bridge, subnet
        raise SpuBenchError("Other runs have taken every free subnet.", "run the command again.", "environment")

    def _host(
        self,
        engine: Any,
        bridge: Any,
        subnet: IPv4Network,
        rank: int,
        directories: Sequence[Path],
        state: Path,
        labels: dict[str, str],
        settings: dict[str, str],
    ) -> DockerHost:
        own = state / str(rank)
        own.mkdir()
        address = str(subnet[rank + 1])
        shaping = engine.containers.create(
            self._image,
            ["sleep", "infinity"],
            name=f"{bridge.name}-shaping{rank}",
            network=bridge.name,
            networking_config={bridge.name: engine.api.create_endpoint_config(ipv4_address=address)},
            cap_drop=["ALL"],
            cap_add=self._rights,
            sysctls=settings,
            cpu_shares=_MOST_SHARES,
            mounts=[_mount(_SHAPING, own)],
            labels=labels,
            init=True,
        )
        shaping.start()
        cpus = self._cpus(rank, len(directories))

        def make(command: list[str], environment: Mapping[str, str]) -> Any:
            return engine.containers.create(
                self._image,
                command,
                network_mode=f"container:{shaping.id}",
                environment=dict(environment),
                working_dir=_PARTY,
                user=f"{os.getuid()}:{os.getgid()}",
                mounts=[_mount(_PARTY, directories[rank])],
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                cpuset_cpus=",".join(map(str, cpus)),
                mem_limit=self._memory_of(len(directories)),
                labels=labels,
                init=True,
            )

        return DockerHost(rank, cores_per_party(len(directories)), address, own, shaping, make)

    def _cpus(self, rank: int, parties: int) -> list[int]:
        return cores_of(rank, parties, self._runtime.least_cores)

    def _memory_of(self, parties: int) -> int:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return self._memory or int(total * 0.9 / parties)


def _build_option(runtime: runtimes.Runtime) -> str:
    return "" if runtime.python is None else f" --runtime {runtime.version}"


def sweep(engine: Any) -> None:
    """Remove the containers and networks of this machine's runs that were killed."""
    mine = {"label": f"{_MACHINE}={scratch.machine()}"}
    made = [*engine.containers.list(all=True, filters=mine), *engine.networks.list(filters=mine)]
    labels = [(each.attrs.get("Config") or each.attrs)["Labels"] for each in made]
    for name in sorted({each[_OWNER] for each in labels}):
        if scratch.is_orphan(name):
            _remove(engine, name)


def _remove(engine: Any, name: str) -> None:
    """Remove every container and network with this owner's label; those already removed are ignored."""
    mine = {"label": f"{_OWNER}={name}"}
    errors = _docker().errors
    for container in engine.containers.list(all=True, filters=mine, ignore_removed=True):
        with suppress(errors.NotFound, errors.APIError):
            container.remove(force=True, v=True)
    for network in engine.networks.list(filters=mine):
        with suppress(errors.NotFound):
            network.remove()


def _mount(target: str, path: Path) -> Any:
    return _docker().types.Mount(target, str(path.resolve()), type="bind")


def _docker() -> Any:
    """Docker's SDK for Python, which only this executor requires."""
    try:
        return importlib.import_module("docker")
    except ImportError:
        raise SpuBenchError(
            "The executor docker requires Docker's SDK for Python.", "pip install 'spu_bench[docker]'.", "environment"
        ) from None


@contextmanager
def _engine() -> Iterator[Any]:
    docker = _docker()
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        at = os.environ.get("DOCKER_HOST", "the default socket")
        raise SpuBenchError(
            f"No Docker engine answers at {at} ({error}).",
            "run docker/start-engine as root, or use --executor netns.",
            "environment",
        ) from None
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _engine_errors(doing: str) -> Iterator[None]:
    """Turn an error of the engine into a SpuBenchError with one line."""
    try:
        yield
    except _docker().errors.DockerException as error:
        said = getattr(error, "explanation", None) or str(error)
        full = "no space left" in said
        raise SpuBenchError(
            f"The Docker engine could not {doing}: {said}.",
            "free disk space." if full else "read the engine's log.",
            "environment",
        ) from error
