"""The parties' processes of one run: the files that each gets, their start, their end, and why one failed."""

from __future__ import annotations

import contextlib
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import tomli_w

from spu_bench import protocols
from spu_bench.errors import DEBUG, SpuBenchError, killed
from spu_bench.executors.base import Host, PartyProcess
from spu_bench.party import CLIENT, SERVER
from spu_bench.party.process import DIE_WITH_PARENT
from spu_bench.party.reasons import SEE_LOG
from spu_bench.program import EXPORT_ANEW, Program
from spu_bench.record import PartyOutcome, Request
from spu_bench.session import DealerAddress, PartyAddress, Session
from spu_bench.untrusted import require_inside

INPUT, OUTPUTS, OUTCOME, LOG = "input.npz", "outputs.npz", "outcome.json", "party.log"
LINK, COUNTER = "link.toml", "counter"
DEALER_KEY, DEALER_SUMMARY = "dealer.key", "dealer.json"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_POLL_S = 0.05
_GRACE_S = 10.0  # in which a party ends by itself after a peer has failed, or when it is asked to
_DEALER_GRACE_S = 5.0  # in which a dealer writes its summary
_ENDING_S = 60.0  # in which a party ends after a peer has ended well


def make_directories(
    scratch: Path, protocol: str, program: Program, inputs: Path | None, *, dealer: bool = False
) -> list[Path]:
    """Give each party of `protocol` a directory below `scratch`, with what is public and its own secret only.

    With `dealer`, one more comes last: the dealer's, with the key that it shares with the server.
    """
    directories = [scratch / f"party-{rank}" for rank in range(protocols.get(protocol).parties)]
    for rank, directory in enumerate(directories):
        _fill(directory, rank, program, inputs)
    if not dealer:
        return directories
    directories.append(scratch / "dealer")
    directories[-1].mkdir()
    key = secrets.token_bytes(32)
    for directory in (directories[SERVER], directories[-1]):
        (directory / DEALER_KEY).touch(mode=0o600)
        (directory / DEALER_KEY).write_bytes(key)
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
        require_inside(program.path, name, EXPORT_ANEW)
        if (program.path / name).is_file():
            shutil.copyfile(program.path / name, copy / name)
    if rank == CLIENT and inputs is not None:
        program.arrays("client", inputs)
        shutil.copyfile(inputs, directory / INPUT)


def make_session(request: Request, hosts: list[Host]) -> Session:
    """The session of `request` on `hosts`, with ports that are free there. A host for no party is the dealer's."""
    parties = protocols.get(request.protocol).parties
    ports = free_ports(len(hosts))
    dealer = None
    if len(hosts) > parties:  # the executor made the network between them: nobody else is in it
        dealer = DealerAddress(address=hosts[parties].address, port=ports[parties], key_file=DEALER_KEY, insecure=True)
    return Session(
        protocol=request.protocol,
        runtime=request.runtime,
        party=tuple(PartyAddress(address=host.address, port=port) for host, port in zip(hosts[:parties], ports)),
        repeats=request.repeats,
        warmup=request.warmup,
        options=request.options,
        dealer=dealer,
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
    """Start every party, and before them the dealer where the session has one; wait for all, and read their outcomes.

    Raises PartiesFailed with the first cause of a failure, and the outcomes that were written.
    """
    link = tomli_w.dumps(session.model_dump(mode="json", exclude_none=True))
    parties = len(session.party)
    for directory in directories[:parties]:
        (directory / LINK).write_text(link)
    ended: int | None = None
    with contextlib.ExitStack() as stack:
        dealer: PartyProcess | None = None
        if session.dealer is not None:
            dealer = stack.enter_context(_started(hosts[parties], _dealer_arguments(session, session.dealer)))
        processes = [
            stack.enter_context(_started(host, _arguments(host, directory)))
            for host, directory in zip(hosts[:parties], directories)
        ]
        statuses = _wait(processes, timeout_s)
        if dealer is not None:
            ended = dealer.poll()
            _stop(dealer)
    outcomes = [_outcome(directory) for directory in directories[:parties]]
    present = [outcome for outcome in outcomes if outcome is not None]
    if any(status != 0 for status in statuses) or len(present) < parties:
        if ended is not None:
            raise PartiesFailed(_died("The dealer", ended, directories[parties]), present)
        raise PartiesFailed(_cause(statuses, outcomes, directories, timeout_s), present)
    return present


def _dealer_arguments(session: Session, dealer: DealerAddress) -> list[str]:
    arguments = ["-m", "spu_bench", "dealer", "--host", dealer.address, "--port", str(dealer.port)]
    arguments += ["--parties", str(len(session.party)), "--key-file", DEALER_KEY, "--summary", DEALER_SUMMARY]
    return [*arguments, "--insecure", DIE_WITH_PARENT]


def _stop(dealer: PartyProcess) -> None:
    """Let the dealer write its summary and end."""
    if dealer.poll() is None:
        dealer.terminate()
        try:
            dealer.wait(timeout=_DEALER_GRACE_S)
        except (TimeoutError, subprocess.TimeoutExpired):
            dealer.kill()
            dealer.wait(timeout=_GRACE_S)


class PartiesFailed(SpuBenchError):
    """Why the parties have no result, and the `outcomes` of those that left one."""

    def __init__(self, cause: SpuBenchError, outcomes: list[PartyOutcome]) -> None:
        super().__init__(cause.problem, cause.fix, cause.reason)
        self.outcomes = outcomes


def _arguments(host: Host, directory: Path) -> list[str]:
    arguments = ["-m", "spu_bench", "party", "--rank", str(host.rank), "--program", "program", "--link", LINK]
    arguments += ["--outcome", OUTCOME, "--interface", host.interface, DIE_WITH_PARENT]
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
            process.terminate()  # it ends its runtime, and removes its scratch directory
            until = time.monotonic() + _GRACE_S
            while process.poll() is None and time.monotonic() < until:
                time.sleep(_POLL_S)
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
        elif 0 in statuses:
            deadline = min(deadline, time.monotonic() + _ENDING_S)
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
    if not failed and 0 in statuses:
        late = statuses.index(None)
        return SpuBenchError(
            f"Party {late} did not end within {_ENDING_S:.0f} s of the others.",
            "run it again; if it stays, read the party's log (--keep-logs DIRECTORY).",
            "peer",
        )
    if not failed:  # none failed before the rest was stopped
        return SpuBenchError(
            f"The run did not end within its limit of {timeout_s:.0f} s.",
            "raise --timeout, or lower --repeats.",
            "walltime",
        )
    for rank, status in failed.items():
        if outcomes[rank] is None:
            return _died(f"Party {rank}", status, directories[rank])
    ended = [outcomes[rank] for rank in failed]  # the others report that they were stopped
    failures = [outcome.failure for outcome in ended if outcome is not None and outcome.failure is not None]
    # who only saw another party go knows less than who saw why
    for failure in sorted(failures, key=lambda each: (each.reason == "peer", each.problem.startswith("Party "))):
        return SpuBenchError(failure.problem, failure.fix, failure.reason)
    rank, status = next(iter(failed.items()))
    return _died(f"Party {rank}", status, directories[rank])


def _died(who: str, status: int, directory: Path) -> SpuBenchError:
    if status < 0 or status > 128:
        return killed(who, -status if status < 0 else status - 128)
    last = next((line for line in reversed((directory / LOG).read_text(errors="replace").splitlines()) if line), "")
    return SpuBenchError(f"{who} ended with status {status}: {last.strip()}", SEE_LOG, "failed")
