"""One party in an environment of its own, whatever its runtime: its secrets, agreement, timing, report.

`launch` starts the process; spu03.party and crypten04.party say what their runtime does. Python 3.8, the standard
library and numpy only. What a party reports goes to a JSON file.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from typing import Any, Callable, ClassVar, Dict, Optional

import numpy as np

from spu_bench.errors import SpuBenchError
from spu_bench.party.exchange import Exchange, agree, listen

SERVER, CLIENT = 0, 1
HOLDERS = {"public": None, "server": SERVER, "client": CLIENT}
_DATA_FILES = {".npz", ".npy", ".json", ".toml", ".hlo"}

Arrays = Dict[str, Any]


class Guest(ABC):
    """One party from its inputs to its outcome; `task` is what `launch` wrote.

    A runtime's own party gives `software`, the versions that both parties must share, and the five methods below.
    """

    software: ClassVar[dict[str, str]] = {}

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.rank = task["rank"]
        self.manifest = task["manifest"]
        self.outcome = empty_outcome()

    @abstractmethod
    def prepare(self, exchange: Exchange) -> None:
        """Compile what has to be, and connect to the peers."""

    @abstractmethod
    def share(self, exchange: Exchange, holder: str, arrays: Optional[Arrays]) -> None:
        """Make the arrays of `holder` known to the runtime, as shares; who does not hold them gets None."""

    @abstractmethod
    def compute(self) -> None:
        """Run the Program on what was shared. Raises RuntimeError."""

    @abstractmethod
    def reveal(self, exchange: Exchange) -> Arrays:
        """The outputs by name at the client, nothing at any other party."""

    @abstractmethod
    def traffic(self) -> list[int]:
        """Bytes sent and received, messages sent and received by all computations so far; [] if nobody counts."""

    def run(self) -> Optional[Arrays]:
        """Run the whole session; the client gets the outputs by name, inputs stacked, the server None."""
        inputs = {holder: self._own(holder) for holder, owner in HOLDERS.items() if owner in (None, self.rank)}
        listen(tuple(self.task["link"][self.rank])).close()
        started = time.perf_counter()
        exchange = Exchange(
            self.rank,
            [tuple(endpoint) for endpoint in self.task["exchange"]],
            timeout_s=self.task["connect_timeout_s"],
            on_loss=self._on_loss,
        )
        batches = self._agree(exchange, inputs)
        self.outcome["connect_s"] = time.perf_counter() - started
        self.prepare(exchange)
        started = time.perf_counter()
        self.share(exchange, "public", inputs["public"])
        self.share(exchange, "server", inputs.get("server"))
        exchange.barrier()
        self.outcome["share_weights_s"] = time.perf_counter() - started
        outputs = self._infer_all(exchange, inputs.get("client"), batches)
        exchange.barrier()
        exchange.close()
        self.outcome["shared_bytes"] = exchange.sent_bytes
        return outputs

    def specs(self, holder: str) -> list[dict[str, Any]]:
        """The Program's arguments of `holder`."""
        return [each for each in self.manifest["arguments"] if each["holder"] == holder]

    def describe_process(self) -> None:
        """What the process used, for the outcome."""
        times = os.times()
        peak = 0
        with open("/proc/self/status") as stream:
            for line in stream:
                if line.startswith("VmHWM:"):
                    peak = int(line.split()[1]) * 1024
        self.outcome.update(
            cpu_s=times.user + times.system,
            threads=int(os.environ.get("OMP_THREAD_LIMIT", "0")),
            peak_memory_bytes=peak,
            versions={"python": platform.python_version(), "numpy": np.__version__, **self.software},
        )

    def _own(self, holder: str) -> Arrays:
        """The arrays of `holder`, which the process that started this one has checked."""
        if not self.specs(holder):
            return {}
        own_input = self.task["source"] if holder == "client" else None
        with np.load(own_input or os.path.join(self.task["program"], holder + ".npz"), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def _agree(self, exchange: Exchange, inputs: dict[str, Arrays]) -> int:
        terms = {"Program": self.manifest["fingerprint"], "link file": self.task["digest"]}
        agree(exchange, {**terms, **{f"version of {name}": version for name, version in self.software.items()}})
        batches = 1
        for spec in self.specs("client") if self.rank == CLIENT else []:
            batches = max(batches, len(inputs["client"][spec["name"]]) // spec["shape"][0] if spec["shape"] else 1)
        return int(exchange.all_to_all(str(batches).encode()).get(CLIENT, str(batches).encode()))

    def _infer_all(self, exchange: Exchange, client: Optional[Arrays], batches: int) -> Optional[Arrays]:
        collected: dict[str, list[Any]] = {}
        order = [0] * self.task["warmup"] + list(range(batches)) * self.task["repeats"]
        for position, batch in enumerate(order):
            exchange.barrier()
            before = self._interface_bytes(), self.traffic()
            times = [time.perf_counter()]
            self.share(exchange, "client", self._batch(client, batch))
            exchange.barrier()
            times.append(time.perf_counter())
            worked = time.process_time()
            self._compute()
            worked = time.process_time() - worked
            times.append(time.perf_counter())
            outputs = self.reveal(exchange)
            times.append(time.perf_counter())
            exchange.barrier()
            if position < self.task["warmup"]:
                continue
            after = self._interface_bytes(), self.traffic()
            interface, link = ([b - a for a, b in zip(*pair)] for pair in zip(before, after))
            self.outcome["inferences"].append(
                {"times": np.diff(times).tolist(), "cpu_s": worked, "interface": interface, "link": link}
            )
            for name, array in outputs.items():
                collected.setdefault(name, []).append(array)
        if self.rank != CLIENT:
            return None
        return {name: np.concatenate(arrays) for name, arrays in collected.items()}

    def _compute(self) -> None:
        try:
            self.compute()
        except RuntimeError as error:
            raise SpuBenchError(
                f"{self.task['runtime']} failed while running the Program: {first_line(error)}",
                "see the party's log for the operation at fault.",
                "failed",
            ) from error

    def _batch(self, client: Optional[Arrays], batch: int) -> Optional[Arrays]:
        if client is None:
            return None
        cut = {}
        for spec in self.specs("client"):
            size = spec["shape"][0] if spec["shape"] else 1
            array = client[spec["name"]]
            cut[spec["name"]] = array[batch * size : (batch + 1) * size] if spec["shape"] else array
        return cut

    def _interface_bytes(self) -> tuple[int, int]:
        """Bytes sent and received on the interface; zeros where none was named."""
        if self.task["interface"]:
            with open("/proc/self/net/dev") as stream:
                for line in stream:
                    name, _, counters = line.partition(":")
                    if name.strip() == self.task["interface"]:
                        values = counters.split()
                        return int(values[8]), int(values[0])
        return 0, 0

    def _on_loss(self, peer: int, what: str) -> None:
        # The runtime is deep in C++ and waits for a peer that will not come: only ending the process gets it out.
        if not _ending.acquire(blocking=False):
            return
        fix = f"see the log of party {peer}, then start all parties again."
        report(self.task, self.outcome, SpuBenchError(f"Party {peer} was lost: it {what}.", fix, "peer"))
        os._exit(1)


_ending = threading.Lock()


def empty_outcome() -> dict[str, Any]:
    """What a party reports of itself before it has done anything."""
    return {"inferences": [], "opened_files": []}


def report(task: dict[str, Any], outcome: dict[str, Any], error: Optional[SpuBenchError] = None) -> None:
    """Write a party's outcome where `task` says, whole or not at all."""
    if error is not None:
        outcome["failure"] = {"reason": error.reason, "problem": error.problem, "fix": error.fix}
    path = task["report"]
    with open(path + ".part", "w") as stream:
        json.dump(outcome, stream)
    os.replace(path + ".part", path)


def first_line(error: Exception) -> str:
    """What a runtime complains of: SPU puts a line "what:" before it and a stack trace after."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() not in ("", "what:")]
    return (lines or [type(error).__name__])[0]


def main(task_path: str, party_of: Callable[[dict[str, Any]], Guest]) -> int:
    """Be the party that the task file describes; the exit status is 0 or 1."""
    with open(task_path) as stream:
        task = json.load(stream)
    libc = ctypes.CDLL(None)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the process that started this one
    # A runtime may abort when its link breaks, which is known here in the same moment and can be said better: the
    # aborting thread sleeps, for as many seconds as the signal's number, before it goes on.
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
    if os.getppid() != task["parent"]:  # it ended before that
        return 1
    opened = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and os.path.splitext(arguments[0])[1] in _DATA_FILES:
            opened.add(os.path.relpath(arguments[0]))

    party = None
    try:
        party = party_of(task)
        sys.addaudithook(note)
        outputs = party.run()
        if outputs is not None and task["output"]:
            with open(task["output"] + ".part", "wb") as target:
                np.savez(target, **outputs)
            os.replace(task["output"] + ".part", task["output"])
        party.describe_process()
        party.outcome["opened_files"] = sorted(opened)
        report(task, party.outcome)
    except SpuBenchError as error:
        if not _ending.acquire(blocking=False):
            time.sleep(60)  # the loss of a peer is already ending this process, and knows the cause better
        print(f"error: {error}", file=sys.stderr, flush=True)
        outcome = empty_outcome() if party is None else party.outcome
        outcome["opened_files"] = sorted(opened)
        report(task, outcome, error)
        return 1
    return 0
