"""Executors, the ways to run the parties: `loopback`, `netns`, `docker`, `hosts`, and `auto`, which chooses."""

from collections.abc import Callable

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.executors.auto import AutoExecutor
from spu_bench.executors.base import Executor
from spu_bench.executors.docker import DockerExecutor
from spu_bench.executors.hosts import HostsExecutor
from spu_bench.executors.lock import measurement_lock
from spu_bench.executors.loopback import LoopbackExecutor
from spu_bench.executors.netns import NetnsExecutor

_EXECUTORS: dict[str, Callable[[runtimes.Runtime], Executor]] = {
    "auto": AutoExecutor,
    "docker": lambda runtime: DockerExecutor(runtime=runtime),
    "netns": NetnsExecutor,
    "loopback": LoopbackExecutor,
}
NAMES = tuple(_EXECUTORS)
"""The executors of this machine; the other form of an executor is hosts:FILE."""


def get(name: str, runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST]) -> Executor:
    """Make the executor of that name, for parties on `runtime`. "hosts:FILE" has parties on the hosts in that file.

    Raises SpuBenchError ("bad_input") for another name.
    """
    kind, _, path = name.partition(":")
    if kind == HostsExecutor.name:
        return HostsExecutor(path, runtime)
    if name not in _EXECUTORS:
        raise SpuBenchError(
            f"There is no executor {name!r}.", f"use one of {', '.join(NAMES)}, or hosts:FILE.", "bad_input"
        )
    return _EXECUTORS[name](runtime)


__all__ = ["NAMES", "Executor", "get", "measurement_lock"]
