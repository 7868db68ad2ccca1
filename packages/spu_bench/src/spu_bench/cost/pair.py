"""Two parties on this machine that run steps together, joined directly or through a relay each way."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from spu import libspu

from spu_bench.cost.delaying_relay import DelayingRelay, Message
from spu_bench.errors import SpuBenchError
from spu_bench.executors.loopback import LoopbackExecutor
from spu_bench.network import LOOPBACK
from spu_bench.options import Options
from spu_bench.party_processes import free_ports

_START_S = 180.0


@dataclass(frozen=True)
class Run:
    """Something run once: seconds of its operations, of the whole, and of CPU time, each of the party with more.

    `sent_bytes` and `sent_messages` are those of the server and the client, `storage` how SPU keeps the results.
    """

    seconds: float
    wall_s: float
    cpu_s: float
    sent_bytes: tuple[int, int]
    sent_messages: tuple[int, int]
    storage: tuple[str, ...]


class Pair:
    """The two parties, at rest between orders. `relays` is empty where they are joined directly."""

    def __init__(self, stations: Sequence[Connection], relays: Sequence[DelayingRelay]) -> None:
        self._stations = stations
        self._relays = relays

    def order(self, name: str, *arguments: Sequence[Any]) -> list[Any]:
        """Give both parties the same order, each with its own arguments; returns both answers."""
        for station, own in zip(self._stations, zip(*arguments)):
            station.send((name, own))
        answers = []
        for rank, station in enumerate(self._stations):
            try:
                fine, answer = station.recv()
            except EOFError:
                raise SpuBenchError(f"Party {rank} of the measurement ended.", "see its memory.", "peer") from None
            if not fine:
                raise SpuBenchError(f"SPU failed on a step: {answer}.", "measure with `spu-bench run`.", "failed")
            answers.append(answer)
        return answers

    def put(self, name: str, shares: Sequence[libspu.Share]) -> None:
        """Give each party its share of the value `name`."""
        self.order("put", [name] * 2, [share.meta for share in shares], [share.share_chunks for share in shares])

    def run(self, module: bytes, operands: Sequence[str], results: Sequence[str]) -> Run:
        """Run a module once on the values `operands`, into the values `results`."""
        server, client = self.order("run", [module] * 2, [list(operands)] * 2, [list(results)] * 2)
        return Run(
            seconds=max(server["seconds"], client["seconds"]),
            wall_s=max(server["wall_s"], client["wall_s"]),
            cpu_s=max(server["cpu_s"], client["cpu_s"]),
            sent_bytes=(server["sent_bytes"], client["sent_bytes"]),
            sent_messages=(server["sent_messages"], client["sent_messages"]),
            storage=tuple(server["storage"]),
        )

    def shape(self, delay_s: float, rate: float | None) -> None:
        """Set the one-way delay of the relays, and their rate each way in bytes/s (None: as fast as it goes)."""
        for relay in self._relays:
            relay.delay_s, relay.rate = delay_s, rate

    def take_messages(self) -> tuple[list[Message], list[Message]]:
        """What has passed from the server and from the client since the last call, acknowledgements too."""
        if not self._relays:
            return [], []
        to_server, to_client = (relay.take_messages() for relay in self._relays)
        return to_client, to_server


@contextmanager
def pair(protocol: str, options: Options, *, relayed: bool) -> Iterator[Pair]:
    """Start two parties, each kept to its own cores; they end with the context."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spu-bench-cost-")))
        directories = [scratch / f"party-{rank}" for rank in range(2)]
        for directory in directories:
            directory.mkdir()
        stations = []
        for host in stack.enter_context(LoopbackExecutor().open(LOOPBACK, directories)):
            address = str(scratch / f"orders-{host.rank}")
            listener = stack.enter_context(Listener(address, family="AF_UNIX"))
            environment = {"OMP_THREAD_LIMIT": str(host.cores)}
            process = host.start(["-m", "spu_bench.cost.station", address], environment=environment, log="station.log")
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            stations.append(stack.enter_context(_accepted(listener, Path(host.directory) / "station.log")))
        ports = free_ports(2)
        relays = [DelayingRelay(port) for port in ports] if relayed else []
        for relay in relays:
            stack.callback(relay.close)
        seen = [[ports[0], relays[1].port], [relays[0].port, ports[1]]] if relays else [ports, ports]
        joined = Pair(stations, relays)
        joined.order("connect", [0, 1], [protocol] * 2, [options] * 2, seen)
        yield joined


@contextmanager
def _accepted(listener: Listener, log: Path) -> Iterator[Connection]:
    """The connection of a station that has just been started; SpuBenchError where it does not come."""
    socket_of: socket.socket = listener._listener._socket  # type: ignore[attr-defined] # it has no timeout of its own
    socket_of.settimeout(_START_S)
    try:
        connection = listener.accept()
    except TimeoutError:
        last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        raise SpuBenchError(f"A party of the measurement did not start: {last}", "mend that.", "peer") from None
    with connection:
        yield connection
