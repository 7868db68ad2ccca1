"""The process of one party in a measurement of steps: it runs single steps, as `spu_bench.cost.party_pair` asks.

It has no secrets: the values are random. Only their shapes, types and storage matter for what a step costs.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from spu import Runtime, libspu

from spu_bench.options import Options, runtime_config, set_link_fields
from spu_bench.party.spu095 import log_to
from spu_bench.party.spu_backend import describe_link
from spu_bench.party.spu_profile import parse_profiles

_RECEIVE_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Connect:
    """Open SPU's link: `ports[rank]` is the worker's own port, the others are where it finds the other parties."""

    rank: int
    protocol: str
    options: Options
    ports: list[int]


@dataclass(frozen=True)
class Put:
    """Set this party's share of the value `name`."""

    name: str
    meta: bytes
    chunks: list[bytes]


@dataclass(frozen=True)
class RunModule:
    """Run a module once on the values `operands`, into the values `results`."""

    module: bytes
    operands: list[str]
    results: list[str]


Request = Connect | Put | RunModule


@dataclass(frozen=True)
class StepRun:
    """One run at one party: seconds of its operations, of the whole and of CPU time, traffic, storage of results."""

    seconds: float
    wall_s: float
    cpu_s: float
    sent_bytes: int
    sent_messages: int
    storage: tuple[str, ...]


@dataclass(frozen=True)
class StepFailed:
    """The answer to a request that failed, with the first line of the error."""

    problem: str


Answer = StepRun | StepFailed | None


class StepWorker:
    """The runtime of one party."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="spu-bench-") as scratch:
            path = Path(scratch) / "spu.log"
            log_to(str(path))
            self._log = open(path)  # noqa: SIM115 - SPU and this process keep the file open after it is removed
        self._runtime: Any = None

    def answer(self, request: Request) -> StepRun | None:
        """Carry out a request; only `RunModule` has a result."""
        match request:
            case Connect():
                self._connect(request)
            case Put():
                share = libspu.Share()
                share.meta, share.share_chunks = request.meta, request.chunks
                self._runtime.set_var(request.name, share)
            case RunModule():
                return self._run(request)
        return None

    def _connect(self, request: Connect) -> None:
        description = libspu.link.Desc()
        describe_link(description, [("127.0.0.1", port) for port in request.ports], _RECEIVE_TIMEOUT_S)
        set_link_fields(description, request.options)
        link = libspu.link.create_brpc(description, request.rank)
        self._runtime = Runtime(link, runtime_config(request.protocol, request.options))

    def _run(self, request: RunModule) -> StepRun:
        executable = libspu.Executable("steps", request.operands, request.results, request.module)
        started, worked = time.perf_counter(), time.process_time()
        self._runtime.run(executable)
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - worked
        (profile,) = parse_profiles(self._log.readlines())
        return StepRun(
            seconds=sum(operation.seconds for operation in profile.operations),
            wall_s=wall_s,
            cpu_s=cpu_s,
            sent_bytes=profile.link.sent_bytes,
            sent_messages=profile.link.sent_messages,
            storage=tuple(self._runtime.get_var_meta(name).storage_type for name in request.results),
        )


def main(address: str) -> None:
    """Answer the requests that come from `address`, until None comes."""
    worker = StepWorker()
    with Client(address, family="AF_UNIX") as requests:
        while (request := requests.recv()) is not None:
            answer: Answer
            try:
                answer = worker.answer(request)
            except Exception as error:  # the driver reports every failure: only it knows what it asked for
                answer = StepFailed(str(error).splitlines()[0] if str(error) else type(error).__name__)
            requests.send(answer)
