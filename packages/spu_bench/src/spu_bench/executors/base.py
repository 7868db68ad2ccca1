"""The protocols `Executor`, `Host` and `PartyProcess`: what an executor gives to a run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from spu_bench.errors import SpuBenchError
from spu_bench.executors.description import ExecutorDescription
from spu_bench.network import Network


class PartyProcess(Protocol):
    """A started process of one party: the part of `subprocess.Popen` that a run uses.

    A process that a signal ended has a negative exit status, or one above 128.
    """

    def poll(self) -> int | None:
        """The exit status; None while the process runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status; raises an exception after `timeout` seconds."""
        ...

    def terminate(self) -> None:
        """Ask the process to end."""
        ...

    def kill(self) -> None:
        """End the process at once."""
        ...


class ReportedProcess:
    """The part of a `PartyProcess` whose end is reported by a thread: `poll` and `wait`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._status = 0
        self._ended = threading.Event()

    def _report_end(self, status: int) -> None:
        self._status = status
        self._ended.set()

    def poll(self) -> int | None:
        """The exit status; None while the process runs."""
        return self._status if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status; raises TimeoutError after `timeout` seconds."""
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self._title} still runs after {timeout} s")
        return self._status


class Host(Protocol):
    """Where one party runs."""

    @property
    def rank(self) -> int:
        """The party's rank."""
        ...

    @property
    def address(self) -> str:
        """The IPv4 address at which the other parties reach this one."""
        ...

    @property
    def interface(self) -> str:
        """The network interface of the host for the traffic between parties."""
        ...

    @property
    def cores(self) -> int:
        """How many cores the party can use."""
        ...

    @property
    def directory(self) -> str:
        """The party's own directory, as its processes see it. They do not see the other parties' directories."""
        ...

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: str) -> PartyProcess:
        """Start `python <arguments>` on the host, with `environment` added to the host's variables.

        The process runs in `directory`. Its standard output and error are appended to the file `log` there.
        """
        ...


class Executor(Protocol):
    """A way to run the parties: how they are isolated, and how their network is set up."""

    @property
    def name(self) -> str:
        """The executor's name in options and records."""
        ...

    def missing(self, network: Network) -> str | None:
        """Why this executor cannot provide `network` on this machine, in one line with the fix; None if it can."""
        ...

    def open(
        self, network: Network, directories: Sequence[Path], helpers: int = 0
    ) -> AbstractContextManager[list[Host]]:
        """One host for each directory, in rank order, joined by `network`. The end of the context undoes everything.

        The last `helpers` hosts are for no party, as a dealer's: the parties' cores are those that they have without.
        Raises SpuBenchError where this machine cannot do it.
        """
        ...

    def describe(self) -> ExecutorDescription:
        """What the hosts and their network are, or were when last open, for the record."""
        ...


def no_helpers(name: str, helpers: int) -> None:
    """Raise SpuBenchError where an executor that has hosts for parties alone is asked for more."""
    if helpers:
        raise SpuBenchError(
            f"The executor {name} cannot start a dealer.",
            "use --executor netns or loopback, or `spu-bench dealer` and `spu-bench party` (docs/security.md).",
            "bad_input",
        )


def require(executor: Executor, network: Network) -> None:
    """Raise SpuBenchError ("environment") where `executor` cannot provide `network` on this machine."""
    if reason := executor.missing(network):
        problem = f"{reason[0].upper()}{reason[1:]}."
        raise SpuBenchError(problem, "install what this executor requires, or choose another one.", "environment")
