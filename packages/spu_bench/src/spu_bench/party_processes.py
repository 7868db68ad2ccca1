"""The parties' processes of one run: the files that each gets, their start, their end, and why one failed."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import tomli_w

from spu_bench import protocols
from spu_bench.errors import DEBUG, SpuBenchError, killed
from spu_bench.executors.base import Host, PartyProcess
from spu_bench.party import CLIENT, SERVER
from spu_bench.party.reasons import SEE_LOG
from spu_bench.program import Program, read_npz
from spu_bench.record import PartyOutcome, Request
from spu_bench.session import PartyAddress, Session

INPUT, OUTPUTS, OUTCOME, LOG = "input.npz", "outputs.npz", "outcome.json", "party.log"
LINK, COUNTER = "link.toml", "counter"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_POLL_S = 0.05
_GRACE_S = 10.0  # in which a party ends by itself after a peer has failed


def make_directories(scratch: Path, protocol: str, program: Program, inputs: Path | None) -> list[Path]:
    """Give each party of `protocol` a directory below `scratch`, with what is public and its own secret only."""
    directories = [scratch / f"party-{rank}" for rank in range(protocols.get(protocol).parties)]
    for rank, directory in enumerate(directories):
        _fill(directory, rank, program, inputs)
    return directories


def _fill(directory: Path, rank: int, program: Program, inputs: Path | None) -> None:
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
        read_npz(inputs)  # the client checks it against the Program; a file that is not an npz is found here
        shutil.copyfile(inputs, directory / INPUT)


def make_session(request: Request, hosts: list[Host]) -> Session:
    """The session of `request` on `hosts`, with ports that are free there."""
    ports = free_ports(len(hosts))
    return Session(
        protocol=request.protocol,
        runtime=request.runtime,
        party=tuple(PartyAddress(address=host.address, port=port) for host, port in zip(hosts, ports)),
        repeats=request.repeats,
        warmup=request.warmup,
        options=request.options,
    )


def free_ports(count: int) -> list[int]:
    """Free ports of this machine, `count` of them, each with a successor that is free too.

    They are below the range from which the kernel takes ports for connections, so that no connection of another
    process takes one before the parties listen. On a host of its own every port of a party is free.
    """
    least, most, draw = 10_000, int(_EPHEMERAL.read_text().split()[0]), random.SystemRandom()
    if most < 2 * least:
        most = 60_000
    ports: list[int] = []
    while len(ports) < count:
        port = draw.randrange(least, most - 1)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            if all(abs(port - other) > 1 for other in ports):
                ports.append(port)
    return ports


def run_parties(hosts: list[Host], directories: list[Path], session: Session, timeout_s: float) -> list[PartyOutcome]:
    """Start every party, wait for all, and read their outcomes.

    Raises PartiesFailed with the first cause of a failure, and the outcomes that were written.
    """
    link = tomli_w.dumps(session.model_dump(mode="json", exclude_none=True))
    for directory in directories:
        (directory / LINK).write_text(link)
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(_started(host, _arguments(host, directory)))
            for host, directory in zip(hosts, directories)
        ]
        statuses = _wait(processes, timeout_s)
    outcomes = [_outcome(directory) for directory in directories]
    present = [outcome for outcome in outcomes if outcome is not None]
    if any(status != 0 for status in statuses) or len(present) < len(hosts):
        raise PartiesFailed(_cause(statuses, outcomes, directories, timeout_s), present)
    return present


class PartiesFailed(SpuBenchError):
    """Why the parties have no result, and the `outcomes` of those that left one."""

    def __init__(self, cause: SpuBenchError, outcomes: list[PartyOutcome]) -> None:
        super().__init__(cause.problem, cause.fix, cause.reason)
        self.outcomes = outcomes


def _arguments(host: Host, directory: Path) -> list[str]:
    arguments = ["-m", "spu_bench", "party", "--rank", str(host.rank), "--program", "program", "--link", LINK]
    arguments += ["--outcome", OUTCOME, "--interface", host.interface, "--die-with-parent"]
    if (directory / COUNTER).exists():
        arguments += ["--link-counter", COUNTER]
    if host.rank == CLIENT:
        arguments += ["--output", OUTPUTS]
        if (directory / INPUT).exists():
            arguments += ["--input", INPUT]
    return arguments


@contextlib.contextmanager
def _started(host: Host, arguments: list[str]) -> Iterator[PartyProcess]:
    # SPU's matrix product spins up to four threads on any machine: two parties on two cores would starve each other,
    # so each is limited to the cores that are its own.
    process = host.start(arguments, environment={"OMP_THREAD_LIMIT": str(host.cores), DEBUG: "1"}, log=LOG)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=10)


def _wait(processes: list[PartyProcess], timeout_s: float) -> list[int | None]:
    """Exit statuses; None for a party that has to be stopped: the time is up, or another party has failed."""
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
    """What made a run fail: a party that left no outcome, else what one reports of itself, else of a peer."""
    failed = {rank: status for rank, status in enumerate(statuses) if status}
    if not failed:  # none failed before the rest was stopped
        return SpuBenchError(
            f"The run did not end within its limit of {timeout_s:.0f} s.",
            "raise --timeout, or lower --repeats.",
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
        return killed(f"Party {rank}", -status if status < 0 else status - 128)
    last = next((line for line in reversed((directory / LOG).read_text(errors="replace").splitlines()) if line), "")
    return SpuBenchError(f"Party {rank} ended with status {status}: {last.strip()}", SEE_LOG, "failed")
