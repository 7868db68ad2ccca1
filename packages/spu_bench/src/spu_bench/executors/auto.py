"""The executor `auto`: the best one that this machine has for a network."""

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
    """Loopback for a network that is not shaped, else docker, else netns.

    After `open`, `name` is the name of the chosen executor and `why` is the reason.
    """

    def __init__(self, runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST]) -> None:
        self.name = "auto"
        self._runtime = runtime
        self.why = "not opened yet"
        self._chosen: Executor | None = None

    def missing(self, network: Network) -> str | None:
        return None if self._choose(network) else self.why

    def open(
        self, network: Network, directories: Sequence[Path], helpers: int = 0
    ) -> AbstractContextManager[list[Host]]:
        chosen = self._choose(network, helpers)
        if chosen is None:
            raise SpuBenchError(
                f"No executor of this machine can provide the network {network.name!r}: {self.why}.",
                "install what one of them requires, or use --network loopback.",
                "environment",
            )
        self._chosen, self.name = chosen, chosen.name
        return chosen.open(network, directories, helpers)

    def describe(self) -> ExecutorDescription:
        chosen = self._chosen.describe() if self._chosen else ExecutorDescription(name="auto")
        return chosen.model_copy(update={"why": self.why})

    def _choose(self, network: Network, helpers: int = 0) -> Executor | None:
        if not network.is_shaped:
            self.why = "the network is not shaped, so the loopback device is enough"
            return LoopbackExecutor(self._runtime)
        candidates: tuple[Executor, ...] = (NetnsExecutor(self._runtime),)
        if not helpers:  # no dealer runs in a container
            candidates = (DockerExecutor(runtime=self._runtime), *candidates)
        refused: list[str] = []
        for candidate in candidates:
            reason = candidate.missing(network)
            if reason is None:
                self.why = "; ".join([*refused, f"{candidate.name} is available"])
                return candidate
            refused.append(f"not {candidate.name}: {reason}")
        self.why = "; ".join(refused)
        return None
