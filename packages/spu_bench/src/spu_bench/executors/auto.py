"""The best executor that this machine offers for a network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.executors.base import Executor, Host
from spu_bench.executors.description import ExecutorDescription
from spu_bench.executors.docker import DockerExecutor
from spu_bench.executors.loopback import LoopbackExecutor
from spu_bench.executors.netns import NetnsExecutor
from spu_bench.network import Network


class AutoExecutor:
    """Loopback for a network that asks for nothing; else containers, else namespaces.

    After `open`, `name` is the name of the executor that was taken and `why` says why it was.
    """

    def __init__(self, runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST]) -> None:
        self.name = "auto"
        self._runtime = runtime
        self.why = "nothing was opened yet"
        self._taken: Executor | None = None

    def missing(self, network: Network) -> str | None:
        return None if self._choose(network) else self.why

    def open(self, network: Network, directories: Sequence[Path]) -> AbstractContextManager[list[Host]]:
        taken = self._choose(network)
        if taken is None:
            raise SpuBenchError(
                f"no executor of this machine can give the network {network.name!r}: {self.why}.",
                "give one of them what it lacks, or use --network loopback.",
                "environment",
            )
        self._taken, self.name = taken, taken.name
        return taken.open(network, directories)

    def describe(self) -> ExecutorDescription:
        taken = self._taken.describe() if self._taken else ExecutorDescription(name="auto")
        return taken.model_copy(update={"why": self.why})

    def _choose(self, network: Network) -> Executor | None:
        if not network.is_shaped:
            self.why = "the network asks for nothing, which the loopback device gives"
            return LoopbackExecutor(self._runtime)
        candidates: tuple[Executor, ...] = (DockerExecutor(runtime=self._runtime), NetnsExecutor(self._runtime))
        lacks: list[str] = []
        for candidate in candidates:
            lack = candidate.missing(network)
            if lack is None:
                self.why = "; ".join([*lacks, f"{candidate.name} is there"])
                return candidate
            lacks.append(f"not {candidate.name}: {lack}")
        self.why = "; ".join(lacks)
        return None
