"""Two parties on this machine that run single steps together, connected directly or through a relay each way."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from spu import libspu

from spu_bench.cost.delaying_relay import DelayingRelay, Message
from spu_bench.cost.step_worker import Answer, Connect, Put, Request, RunModule, StepFailed, StepRun
from spu_bench.errors import SpuBenchError, last_line_of_log
from spu_bench.executors.loopback import LoopbackExecutor
from spu_bench.network import LOOPBACK
from spu_bench.options import Options
from spu_bench.party_processes import free_ports

_START_S = 180.0
_WORKER = "import sys; from spu_bench.cost.step_worker import main; main(sys.argv[1])"
_LOG = "worker.log"


@dataclass(frozen=True)
class PairRun:
    """One run of a module: seconds of its operations, of the whole and of CPU time, each of the slower party.

    `sent_bytes` and `sent_messages` are those of the server and the client, `storage` how SPU stores the results.
    """

    seconds: float
    wall_s: float
    cpu_s: float
    sent_bytes: tuple[int, int]
    sent_messages: tuple[int, int]
    storage: tuple[str, ...]


class PartyPair:
    """Two parties that wait for requests. `relays` is empty where they are connected directly."""

    def __init__(self, workers: Sequence[Connection], relays: Sequence[DelayingRelay]) -> None:
        self._workers = workers
        self._relays = relays

    def connect(self, protocol: str, options: Options, ports: Sequence[list[int]]) -> None:
        """Connect the parties; `ports` are those that the server uses and those that the client uses."""
        self._ask([Connect(rank, protocol, options, own) for rank, own in enumerate(ports)])

    def put(self, name: str, shares: Sequence[libspu.Share]) -> None:
        """Give each party its share of the value `name`."""
        self._ask([Put(name, share.meta, share.share_chunks) for share in shares])

    def run(self, module: bytes, operands: Sequence[str], results: Sequence[str]) -> PairRun:
        """Run a module once on the values `operands`, into the values `results`."""
        server, client = self._ask([RunModule(module, list(operands), list(results))] * 2)
        return PairRun(
            seconds=max(server.seconds, client.seconds),
            wall_s=max(server.wall_s, client.wall_s),
            cpu_s=max(server.cpu_s, client.cpu_s),
            sent_bytes=(server.sent_bytes, client.sent_bytes),
            sent_messages=(server.sent_messages, client.sent_messages),
            storage=server.storage,
        )

    def shape(self, delay_s: float, rate: float | None) -> None:
        """Set the relays' one-way delay, and their rate each way in bytes/s (None: no limit)."""
        for relay in self._relays:
            relay.delay_s, relay.rate = delay_s, rate

    def take_messages(self) -> tuple[list[Message], list[Message]]:
        """The messages from the server and from the client since the last call, acknowledgements included."""
        if not self._relays:
            return [], []
        to_server, to_client = (relay.take_messages() for relay in self._relays)
        return to_client, to_server

    def _ask(self, requests: Sequence[Request]) -> list[StepRun]:
        """Send each party its request; returns the runs that they answer with."""
        for worker, request in zip(self._workers, requests):
            worker.send(request)
        runs = []
        for rank, worker in enumerate(self._workers):
            try:
                answer: Answer = worker.recv()
            except EOFError:
                problem = f"The process of party {rank} ended during the measurement of steps."
                raise SpuBenchError(problem, "give the machine more memory.", "peer") from None
            if isinstance(answer, StepFailed):
                problem = f"SPU failed on a step: {answer.problem}."
                raise SpuBenchError(problem, "measure the Program with `spu-bench run`.", "failed")
            if answer is not None:
                runs.append(answer)
        return runs


@contextmanager
def party_pair(protocol: str, options: Options, *, relayed: bool) -> Iterator[PartyPair]:
    """Start two parties, each on its own cores; the end of the context ends them."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spu-bench-cost-")))
        directories = [scratch / f"party-{rank}" for rank in range(2)]
        for directory in directories:
            directory.mkdir()
        workers = []
        for host in stack.enter_context(LoopbackExecutor().open(LOOPBACK, directories)):
            address = str(scratch / f"requests-{host.rank}")
            listener = stack.enter_context(Listener(address, family="AF_UNIX"))
            environment = {"OMP_THREAD_LIMIT": str(host.cores)}
            process = host.start(["-c", _WORKER, address], environment=environment, log=_LOG)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            workers.append(stack.enter_context(_accepted(listener, Path(host.directory) / _LOG)))
        ports = free_ports(2)
        relays = [DelayingRelay(port) for port in ports] if relayed else []
        for relay in relays:
            stack.callback(relay.close)
        seen = [[ports[0], relays[1].port], [relays[0].port, ports[1]]] if relays else [ports, ports]
        pair = PartyPair(workers, relays)
        pair.connect(protocol, options, seen)
        yield pair


@contextmanager
def _accepted(listener: Listener, log: Path) -> Iterator[Connection]:
    """The connection of a worker that has just started; raises SpuBenchError where it does not connect."""
    socket_of: socket.socket = listener._listener._socket  # type: ignore[attr-defined] # Listener has no timeout
    socket_of.settimeout(_START_S)
    try:
        connection = listener.accept()
    except TimeoutError:
        last = last_line_of_log(log, "it printed nothing")
        problem = f"A process for the measurement of steps did not start: {last}"
        raise SpuBenchError(problem, "correct the error in this line.", "peer") from None
    with connection:
        yield connection
