"""The session of one party, the same on every runtime: inputs, agreement, sharing, timed inferences, report.

A party holds only its own secrets. The server (rank 0) reads the weights, the client (rank 1) the image, a third party
(rank 2) nothing. Each makes shares of what it holds; the outputs' shares go to the client alone.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Optional

import numpy as np

from spu_bench.errors import Reason, SpuBenchError
from spu_bench.party import CLIENT, OWNERS, Holder
from spu_bench.party.backend import Arrays, Backend, Dealt
from spu_bench.party.exchange import SILENCE_S, Exchange, agree, agree_on_batches
from spu_bench.party.handshake import listen
from spu_bench.party.party_report import InferenceReport, PartyReport
from spu_bench.party.process import (
    delay_abort,
    interface_bytes,
    peak_memory_bytes,
    watch_opened_files,
)
from spu_bench.party.reasons import SEE_LOG, reason_of
from spu_bench.party.task import ArraySpec, Task, load_task

_CHECK_PORTS = "check that the ports of the link file are free and reachable from every party."
_SHARE_BYTES = 64  # no protocol's share of an element is larger
_SHARE_HEADS = 1 << 22
_SLOWER_PEER = 10.0  # a peer may take so many times longer to compile than this party
_LOSS_IS_KNOWN_S = 2.0  # within this time the exchange has seen that a peer is gone


class SessionLoop:
    """One party from its inputs to its outputs; `report` grows while it runs."""

    def __init__(self, task: Task, backend: Backend, report: PartyReport, end: Callable[[SpuBenchError], None]) -> None:
        self.task = task
        self.report = report
        self._backend = backend
        self._end = end

    def run(self) -> Optional[Arrays]:
        """Run the session; the client gets the outputs by name, inputs stacked, any other party None."""
        task, report = self.task, self.report
        self._interface()  # a name that does not exist is found before a peer waits
        inputs = {holder: self._own(holder) for holder, owner in OWNERS.items() if owner in (None, task.rank)}
        started = time.perf_counter()
        listen(task.link[task.rank]).close()
        exchange = Exchange(task.rank, task.exchange, timeout_s=task.connect_timeout_s, on_loss=self._on_loss)
        batches = self._agree(exchange, inputs)
        report.connect_s = time.perf_counter() - started
        # The compiler keeps all other threads of its process waiting, so that no heartbeat comes
        exchange.be_patient(math.inf)
        self._compile()
        exchange.be_patient(SILENCE_S + _SLOWER_PEER * report.compile_s)
        exchange.barrier()  # a link waits only seconds for a peer that still compiles
        exchange.be_patient(SILENCE_S)
        delay_abort()
        with self._failures("could not make its link", _CHECK_PORTS, "environment"):
            self._backend.connect(exchange, self._end)
        started = time.perf_counter()
        with self._failures("failed while it shared the weights"):
            self._backend.share(exchange, "public", inputs["public"])
            self._backend.share(exchange, "server", inputs.get("server"))
        exchange.barrier()
        report.share_weights_s = time.perf_counter() - started
        collected = self._infer_all(exchange, inputs.get("client"), batches)
        exchange.barrier()
        exchange.close()
        if task.rank != CLIENT:
            return None
        return {name: np.concatenate([np.atleast_1d(array) for array in arrays]) for name, arrays in collected.items()}

    def _on_loss(self, peer: int, what: str) -> None:
        # The runtime is deep in C++ and waits for a peer that will not come: only ending the process gets it out.
        fix = f"read the log of party {peer}, then start all parties again."
        self._end(SpuBenchError(f"Party {peer} was lost: it {what}.", fix, "peer"))

    def describe_process(self) -> None:
        """Put what the process is and used into the report."""
        self.report.threads = int(os.environ.get("OMP_THREAD_LIMIT", "0"))
        self.report.peak_memory_bytes = peak_memory_bytes()
        self.report.versions = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            **self._backend.software,
        }

    def _own(self, holder: Holder) -> Arrays:
        """The arrays of `holder`, which `launch` has checked."""
        if not self.task.arguments(holder):
            return {}
        source = self.task.source if holder == "client" else None
        with np.load(source or os.path.join(self.task.program, holder + ".npz"), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def _agree(self, exchange: Exchange, inputs: dict[Holder, Arrays]) -> int:
        """Check that all parties run the same thing; returns the number of batches that the client brings."""
        terms = {"Program": self.task.manifest["fingerprint"], "link file": self.task.digest}
        agree(exchange, {**terms, **{f"version of {name}": each for name, each in self._backend.software.items()}})
        batches = 1
        for spec in self.task.arguments("client") if self.task.rank == CLIENT else []:
            if _is_batched(spec):
                batches = len(inputs["client"][spec["name"]]) // spec["shape"][0]
        batches = agree_on_batches(exchange, batches)
        arrays = [*self.task.manifest["arguments"], *self.task.manifest["outputs"]]
        elements = sum(math.prod(spec["shape"]) for spec in arrays)
        exchange.allow(_SHARE_BYTES * elements + _SHARE_HEADS)
        return batches

    def _compile(self) -> None:
        started = time.perf_counter()
        try:
            self._backend.compile()
        except (RuntimeError, ValueError) as error:
            raise SpuBenchError(
                f"{self.task.runtime} cannot compile the Program: {reason_of(error)}",
                "export the Program with operations that this runtime has, by the JAX of constraints/reference.txt.",
                "bad_input",
            ) from error
        self.report.compile_s = time.perf_counter() - started

    def _infer_all(self, exchange: Exchange, client: Optional[Arrays], batches: int) -> dict[str, list[Any]]:
        """All inferences, in order; returns the outputs of those after the warm-up."""
        collected: dict[str, list[Any]] = {}
        order = [0] * self.task.warmup + list(range(batches)) * self.task.repeats
        for position, batch in enumerate(order):
            dealt = self._dealt()
            if self._backend.dealer is not None:
                self._backend.dealer.prepare()
            exchange.barrier()
            interface, before = self._interface(), self._backend.statistics()
            times, worked, outputs = self._infer(exchange, self._batch(client, batch))
            exchange.barrier()
            interface = [after - start for start, after in zip(interface, self._interface())]
            after, dealt = self._backend.statistics(), self._dealt(dealt)
            if position < self.task.warmup:
                continue
            input_s, run_s, reveal_s = np.diff(times).tolist()
            self.report.inferences.append(
                InferenceReport(
                    input_s=input_s,
                    run_s=run_s,
                    reveal_s=reveal_s,
                    cpu_s=worked,
                    link=after.link - before.link if after.link and before.link else None,
                    interface_sent_bytes=interface[0] if interface else None,
                    interface_received_bytes=interface[1] if interface else None,
                    dealt=dealt,
                )
            )
            self.report.operations = after.operations
            self.report.shared_bytes = exchange.sent_bytes
            for name, array in outputs.items():
                collected.setdefault(name, []).append(array)
        return collected

    def _infer(self, exchange: Exchange, client: Optional[Arrays]) -> tuple[list[float], float, Arrays]:
        """One inference: when its phases began and ended, the CPU seconds of its run, the outputs at the client."""
        with self._failures("failed while it ran the Program"):
            times = [time.perf_counter()]
            self._backend.share(exchange, "client", client)
            exchange.barrier()
            times.append(time.perf_counter())
            worked = time.process_time()
            self._backend.compute()
            worked = time.process_time() - worked
            times.append(time.perf_counter())
            outputs = self._backend.reveal(exchange)
            times.append(time.perf_counter())
        return times, worked, outputs

    def _batch(self, client: Optional[Arrays], batch: int) -> Optional[Arrays]:
        """The client's arrays of one inference; None at any other party."""
        if client is None:
            return None
        cut: Arrays = {}
        for spec in self.task.arguments("client"):
            array = client[spec["name"]]
            if _is_batched(spec):
                size = spec["shape"][0]
                array = array[batch * size : (batch + 1) * size]
            cut[spec["name"]] = array
        return cut

    def _dealt(self, before: Optional[Dealt] = None) -> Optional[Dealt]:
        """What a third party has dealt to this party so far, or since `before`; None where it asks none."""
        now = self._backend.dealer.dealt() if self._backend.dealer is not None else None
        return now - before if now is not None and before is not None else now

    def _interface(self) -> list[int]:
        """Bytes sent and received on the interface so far; [] where none was named."""
        return list(interface_bytes(self.task.interface)) if self.task.interface else []

    @contextmanager
    def _failures(self, what: str, fix: str = SEE_LOG, reason: Reason = "failed") -> Iterator[None]:
        """Turn what the runtime raises into one line."""
        try:
            yield
        except RuntimeError as error:
            time.sleep(_LOSS_IS_KNOWN_S)  # where a peer is gone, the exchange ends this process with that reason
            raise SpuBenchError(f"{self.task.runtime} {what}: {reason_of(error)}", fix, reason) from error


def main(make_backend: Callable[[Task], Backend]) -> int:
    """Run the party of the task file that this process was started with; the exit status is 0 or 1."""
    task = load_task(sys.argv[1])
    opened = watch_opened_files()
    report = PartyReport()
    ending = threading.Lock()

    def finish(error: Optional[SpuBenchError]) -> None:
        report.opened_files = sorted(opened)
        if error is not None:
            report.failure = error.parts()
        report.save(task.report)

    def end(error: SpuBenchError) -> None:
        if ending.acquire(blocking=False):
            finish(error)
            if task.dealer is not None:
                time.sleep(_LOSS_IS_KNOWN_S)  # so that the others see what is wrong themselves, and not a lost party
            os._exit(1)

    try:
        loop = SessionLoop(task, make_backend(task), report, end)
        outputs = loop.run()
        if outputs is not None and task.output:
            _save_outputs(task.output, outputs)
        loop.describe_process()
        failure = None
    except SpuBenchError as error:
        failure = error
    except Exception as error:  # a defect: the user gets one line too, and the log has the rest
        traceback.print_exc()
        failure = SpuBenchError(f"{task.runtime} failed: {type(error).__name__}: {reason_of(error)}", SEE_LOG, "failed")
    if failure is not None and not ending.acquire(blocking=False):
        time.sleep(60)  # `end` is ending this process, and knows the cause better
    finish(failure)
    return 1 if failure else 0


def _is_batched(spec: ArraySpec) -> bool:
    """Whether the first axis of an argument is the batch; `launch` has checked that all arrays have as many."""
    return spec["batched"] and bool(spec["shape"])


def _save_outputs(path: str, arrays: Arrays) -> None:
    """Write the outputs, for their owner alone. Where that fails, SpuBenchError says in which file they are instead."""
    try:
        _save_npz(path, arrays)
    except OSError as error:
        handle, other = tempfile.mkstemp(prefix="spu-bench-outputs-", suffix=".npz")
        os.close(handle)
        _save_npz(other, arrays)
        raise SpuBenchError(
            f"{path} cannot be written ({error.strerror}). The outputs are in {other}.",
            "free disk space, or correct the rights of the directory.",
            "environment",
        ) from None


def _save_npz(path: str, arrays: Arrays) -> None:
    part = path + ".part"
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as stream:
            np.savez(stream, **arrays)
        os.replace(part, path)
    except OSError:
        if os.path.lexists(part):
            os.unlink(part)
        raise
