"""What an executor gives to a run: one host per party, on a link of the asked kind, gone when the run is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from spu_bench.executors.description import ExecutorDescription
from spu_bench.network import Network


class PartyProcess(Protocol):
    """A started process of one party, with the part of `subprocess.Popen` that a run needs."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Host(Protocol):
    """Where one party runs.

    `address` is the IPv4 address at which the other parties reach it, `interface` the network interface that carries
    the link's traffic there, `cores` the number of cores that this party may use. `directory` is the party's own
    directory as seen by its processes: the executor shows a host nothing of the other parties' directories.
    """

    @property
    def rank(self) -> int: ...

    @property
    def address(self) -> str: ...

    @property
    def interface(self) -> str: ...

    @property
    def cores(self) -> int: ...

    @property
    def directory(self) -> str: ...

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: str) -> PartyProcess:
        """Start `python <arguments>` on the host.

        The process works in `directory`; its standard output and error are appended to the file `log` there.
        `environment` is added to the host's own.
        """
        ...


class Executor(Protocol):
    """A way to run the parties: their isolation and their link."""

    @property
    def name(self) -> str: ...

    def missing(self, network: Network) -> str | None:
        """Say in one line why this machine cannot give `network` by this executor, with the fix; None if it can."""
        ...

    def open(self, network: Network, directories: Sequence[Path]) -> AbstractContextManager[list[Host]]:
        """Give one host per directory (rank = position), joined by `network`; undo everything on the way out.

        Raises SpuBenchError where the machine cannot do it.
        """
        ...

    def describe(self) -> ExecutorDescription:
        """What the hosts and their network are, or were when last open, for the record."""
        ...
