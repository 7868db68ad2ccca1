"""A measured run: start the parties on their hosts, watch them, and make one record of what they report."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import tomli_w

from spu_bench import executors, provenance
from spu_bench.errors import SpuBenchError
from spu_bench.executors import owner
from spu_bench.executors.base import Executor, Host, PartyProcess
from spu_bench.network import Network
from spu_bench.network.probe import judge, probe
from spu_bench.options import PROTOCOLS, Options, runtime_config
from spu_bench.party import CLIENT, SERVER
from spu_bench.program import Array, Program, read_npz
from spu_bench.record import (
    CLEAR_MARGIN,
    Accuracy,
    Failure,
    PartyOutcome,
    ProgramIdentity,
    Request,
    RunRecord,
    summarize,
)
from spu_bench.session import PartyAddress, Session

RUNTIMES = ("0.9.5",)
INPUT, OUTPUTS, OUTCOME, LOG = "input.npz", "outputs.npz", "outcome.json", "party.log"
_POLL_S = 0.05
_GRACE_S = 3.0  # what a party gets to end by itself after a peer has failed


class RunFailed(SpuBenchError):
    """A run without a valid result; `record` holds the reason and all that was seen."""

    def __init__(self, failure: Failure, record: RunRecord) -> None:
        super().__init__(failure.problem, failure.fix, failure.reason)
        self.record = record


def run(
    program: Program,
    *,
    protocol: str = "semi2k",
    network: str | Network = "loopback",
    executor: str = "auto",
    runtime: str = "0.9.5",
    repeats: int = 1,
    warmup: int = 0,
    inputs: str | Path | None = None,
    expected: Array | None = None,
    options: Options | None = None,
    timeout_s: float = 3600.0,
    keep_logs: str | Path | None = None,
) -> RunRecord:
    """Run `program` between parties and measure it.

    `network` is a preset's name, a TOML file or a Network; `executor` one of executors.NAMES. After `warmup`
    inferences each input is run `repeats` times; `inputs` is an npz with the client's arrays, whose first axis may
    hold several batches (None: the sample in the Program), and `expected` their logits in plaintext. The parties'
    logs are copied to `keep_logs`.

    Raises RunFailed, with the record of the failure, where the run has no valid result; SpuBenchError where what is
    asked for cannot be run at all.
    """
    asked = Network.load(network) if not isinstance(network, Network) else network
    options = options or Options()
    runtime_config(protocol, options)  # a wrong protocol or field is found before anything starts
    if runtime not in RUNTIMES:
        raise SpuBenchError(f"There is no runtime {runtime!r}.", f"use one of {', '.join(RUNTIMES)}.", "bad_input")
    chosen = executors.get(executor)
    record = RunRecord(
        status="failed",
        request=Request(
            protocol=protocol,
            network=asked,
            executor=chosen.name,
            runtime=runtime,
            options=options,
            repeats=repeats,
            warmup=warmup,
            timeout_s=timeout_s,
        ),
        program=ProgramIdentity(
            name=program.manifest.name,
            fingerprint=program.manifest.fingerprint,
            made_by=program.manifest.made_by,
        ),
        machine=provenance.machine(),
        code=provenance.code(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=0.0,
    )
    started = time.perf_counter()
    if inputs is None and expected is None and (reference := program.reference()) is not None:
        expected = reference[program.manifest.outputs[0].name]
    try:
        outputs = _measure(
            record, chosen, program, Path(inputs) if inputs else None, Path(keep_logs) if keep_logs else None
        )
        _compare(record, program, outputs, expected)
    except SpuBenchError as error:
        record.failure = Failure(reason=error.reason, problem=error.problem, fix=error.fix)
        record.status = "invalid" if error.reason == "link" else "failed"
        record.duration_s = time.perf_counter() - started
        raise RunFailed(record.failure, record) from error
    record.status = "ok"
    record.duration_s = time.perf_counter() - started
    return record


def _measure(
    record: RunRecord, executor: Executor, program: Program, inputs: Path | None, keep_logs: Path | None
) -> dict[str, Array]:
    """Fill `record` step by step, so that a failure leaves what was seen until then; returns the client's outputs."""
    request = record.request
    with owner.scratch(owner.new_name()) as scratch:
        directories = [scratch / f"party-{rank}" for rank in range(PROTOCOLS[request.protocol])]
        for rank, directory in enumerate(directories):
            _lay_out(directory, rank, program, inputs)
        with contextlib.ExitStack() as stack:
            if request.network.is_shaped:
                stack.enter_context(executors.measurement_lock())  # two latencies measured at once are none
            hosts = stack.enter_context(executor.open(request.network, directories))
            record.executor = executor.describe()
            if request.network.is_shaped:
                record.link_before = probe(hosts, directories)
                _require_link(record)
            session = _session(request, hosts)
            for directory in directories:
                (directory / "link.toml").write_text(tomli_w.dumps(session.model_dump(mode="json")))
            try:
                _run_parties(record, hosts, directories, session)
            finally:
                if keep_logs is not None:
                    _copy_logs(directories, keep_logs)
            if request.network.is_shaped:
                record.link_after = probe(hosts, directories)
            record.executor = executor.describe()
        record.samples_s = [
            max(party.inferences[i].run_s for party in record.parties)
            for i in range(len(record.parties[CLIENT].inferences))
        ]
        record.statistics = summarize(record.samples_s)
        _require_link(record)
        return read_npz(directories[CLIENT] / OUTPUTS)


def _require_link(record: RunRecord) -> None:
    if wrong := judge(record.request.network, record.link_before, record.link_after):
        raise SpuBenchError(
            f"The link is not {record.request.network.name!r}: {wrong}.",
            "run it again on a quiet machine; if it stays, see docs/networks.md.",
            "link",
        )


def _copy_logs(directories: list[Path], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for directory in directories:
        if (directory / LOG).exists():
            shutil.copyfile(directory / LOG, target / f"{directory.name}.log")


def _lay_out(directory: Path, rank: int, program: Program, inputs: Path | None) -> None:
    """Give one party its own directory: what is public, and its own secret only."""
    copy = directory / "program"
    copy.mkdir(parents=True)
    names = ["program.json", program.manifest.module.file, "public.npz"]
    if rank == SERVER:
        names.append("server.npz")
    if rank == CLIENT and inputs is None:
        names.append("client.npz")
    for name in names:
        if (program.path / name).exists():
            shutil.copyfile(program.path / name, copy / name)
    if rank == CLIENT and inputs is not None:
        read_npz(inputs)  # the client checks it against the Program; a file that is none is found here
        shutil.copyfile(inputs, directory / INPUT)


def _session(request: Request, hosts: list[Host]) -> Session:
    ports = _free_ports(hosts)
    return Session(
        protocol=request.protocol,
        party=tuple(PartyAddress(address=host.address, port=port) for host, port in zip(hosts, ports)),
        repeats=request.repeats,
        warmup=request.warmup,
        options=request.options,
    )


def _free_ports(hosts: list[Host]) -> list[int]:
    """A port per host whose successor is free too. On hosts of their own any port is free."""
    ports: list[int] = []
    while len(ports) < len(hosts):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            if all(abs(port - other) > 1 for other in ports):
                ports.append(port)
    return ports


def _run_parties(record: RunRecord, hosts: list[Host], directories: list[Path], session: Session) -> None:
    """Start every party, wait for all, read their outcomes; raises SpuBenchError for the first cause of a failure."""
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(_started(host, _arguments(host, directory)))
            for host, directory in zip(hosts, directories)
        ]
        statuses = _wait(processes, record.request.timeout_s)
    outcomes = [_outcome(directory) for directory in directories]
    record.parties = [outcome for outcome in outcomes if outcome is not None]
    if any(status != 0 for status in statuses) or len(record.parties) < len(hosts):
        raise _cause(statuses, outcomes, directories, record.request.timeout_s)


def _arguments(host: Host, directory: Path) -> list[str]:
    arguments = ["-m", "spu_bench", "party", "--rank", str(host.rank), "--program", "program", "--link", "link.toml"]
    arguments += ["--outcome", OUTCOME, "--interface", host.interface, "--die-with-parent"]
    if host.rank == CLIENT:
        arguments += ["--output", OUTPUTS]
        if (directory / INPUT).exists():
            arguments += ["--input", INPUT]
    return arguments


@contextlib.contextmanager
def _started(host: Host, arguments: list[str]) -> Iterator[PartyProcess]:
    # SPU's matrix product spins up to four threads whatever the machine has: two parties on two cores would starve
    # each other, so each is capped to the cores that are its own.
    process = host.start(arguments, environment={"OMP_THREAD_LIMIT": str(host.cores)}, log=LOG)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=10)


def _wait(processes: list[PartyProcess], timeout_s: float) -> list[int | None]:
    """Exit statuses; None for a party that is to be stopped: the time is up, or another failed a moment ago."""
    deadline = time.monotonic() + timeout_s
    while True:
        statuses = [process.poll() for process in processes]
        if None not in statuses or time.monotonic() > deadline:
            return statuses
        if any(statuses):
            deadline = min(deadline, time.monotonic() + _GRACE_S)
        time.sleep(_POLL_S)


def _outcome(directory: Path) -> PartyOutcome | None:
    path = directory / OUTCOME
    return PartyOutcome.model_validate_json(path.read_text()) if path.exists() else None


def _cause(
    statuses: list[int | None],
    outcomes: list[PartyOutcome | None],
    directories: list[Path],
    timeout_s: float,
) -> SpuBenchError:
    """What made a run fail: a party that died without a word, else what one said of itself, else of a peer."""
    failed = {rank: status for rank, status in enumerate(statuses) if status}
    if not failed:  # none failed before the rest was stopped
        return SpuBenchError(
            f"The run did not end within its limit of {timeout_s:.0f} s.",
            "raise --timeout, or ask for less.",
            "walltime",
        )
    for rank, status in failed.items():
        if outcomes[rank] is None:
            return _died(rank, status, directories[rank])
    failures = [outcome.failure for outcome in outcomes if outcome is not None and outcome.failure is not None]
    for failure in sorted(failures, key=lambda failure: failure.reason == "peer"):
        return SpuBenchError(failure.problem, failure.fix, failure.reason)
    rank, status = next(iter(failed.items()))
    return _died(rank, status, directories[rank])


def _died(rank: int, status: int, directory: Path) -> SpuBenchError:
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        return SpuBenchError(
            f"Party {rank} was killed by signal {number}.",
            "give it more memory, or see the kernel's log." if number == 9 else "see the party's log (--keep-logs).",
            "memory" if number == 9 else "failed",
        )
    last = next((line for line in reversed((directory / LOG).read_text(errors="replace").splitlines()) if line), "")
    return SpuBenchError(
        f"Party {rank} ended with status {status}: {last.strip()}", "see the party's log (--keep-logs).", "failed"
    )


def _compare(record: RunRecord, program: Program, outputs: dict[str, Array], expected: Array | None) -> None:
    """Put the first output, of shape (inputs, classes), into the record, beside its distance from plaintext."""
    logits = outputs[program.manifest.outputs[0].name]
    record.logits = logits.reshape(len(logits), -1).tolist()
    if expected is not None:
        repeats = len(logits) // len(expected)
        record.accuracy = accuracy(logits, np.concatenate([expected] * repeats))


def accuracy(logits: Array, expected: Array) -> Accuracy:
    """Compare logits (inputs, classes) under MPC with those in plaintext."""
    equal = logits.argmax(-1) == expected.argmax(-1)
    largest = np.sort(expected, axis=-1)
    clear = largest[..., -1] - largest[..., -2] > CLEAR_MARGIN
    return Accuracy(
        inputs=len(logits),
        max_abs_error=float(np.abs(logits.astype(np.float64) - expected).max()),
        top1_equal=int(equal.sum()),
        clear=int(clear.sum()),
        clear_equal=int((equal & clear).sum()),
    )
