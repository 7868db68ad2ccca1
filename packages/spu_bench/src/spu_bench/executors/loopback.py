"""The executor `loopback`: the parties are processes on the loopback device, without shaping and isolation."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spu_bench import runtimes
from spu_bench.executors.base import Host, PartyProcess, require
from spu_bench.executors.description import ExecutorDescription
from spu_bench.network import Network
from spu_bench.party.process import PARENT


def cores_per_party(parties: int) -> int:
    """How many cores each of `parties` on this machine can use: at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // parties)


def cores_of(rank: int, parties: int, least: int = 1) -> list[int]:
    """The cores of party `rank`: an equal part of this machine's, or all where that part has fewer than `least`.

    A helper, whose rank is that of no party, has all.
    """
    cores = sorted(os.sched_getaffinity(0))
    if rank >= parties or len(cores) < parties * least:
        return cores
    share = len(cores) // parties
    return cores[rank * share : (rank + 1) * share]


def keep_to(pid: int, cpus: Sequence[int]) -> None:
    """Restrict a process that has just started, and its children, to its party's cores.

    This is before it loads SPU, which makes as many threads as it sees cores; two parties' threads would share them.
    """
    with suppress(ProcessLookupError):  # it has already ended
        os.sched_setaffinity(pid, cpus)


@dataclass(frozen=True)
class LoopbackHost:
    """One party at 127.0.0.1."""

    rank: int
    cores: int
    directory: str
    cpus: Sequence[int]
    address: str = "127.0.0.1"
    interface: str = "lo"

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: str) -> PartyProcess:
        with open(Path(self.directory) / log, "ab") as stream:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.directory,
                env={**os.environ, **environment, PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        keep_to(process.pid, self.cpus)
        return process


class LoopbackExecutor:
    """Parties on the loopback device, which it never shapes."""

    name = "loopback"

    def __init__(self, runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST]) -> None:
        self._runtime = runtime

    def missing(self, network: Network) -> str | None:
        if network.is_shaped:
            return (
                f"the executor loopback cannot provide the network {network.name!r}, because it never shapes this "
                "machine's loopback device; use --executor netns or docker, or --network loopback"
            )
        return runtimes.missing(self._runtime)

    def describe(self) -> ExecutorDescription:
        return ExecutorDescription(name="loopback", kernel=platform.release())

    @contextmanager
    def open(self, network: Network, directories: Sequence[Path], helpers: int = 0) -> Iterator[list[Host]]:
        runtimes.require(self._runtime)
        require(self, network)
        parties = len(directories) - helpers
        cores = cores_per_party(parties)
        yield [
            LoopbackHost(rank, cores, str(directory), cores_of(rank, parties, self._runtime.least_cores))
            for rank, directory in enumerate(directories)
        ]
