"""Running one party: check its inputs, start the runtime's process, and read its report.

The process runs `session_loop` with the runtime's backend. A runtime with an environment of its own gets a directory
with the few modules that it imports. A process of its own, because a runtime may end it: SPU aborts where its compiler
does not know an operation, and where its link breaks.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psutil

from spu_bench import runtimes
from spu_bench.destinations import check_file, write_result
from spu_bench.errors import DEBUG, SpuBenchError, killed
from spu_bench.executors.scratch import scratch_directory
from spu_bench.fixed_point import fixed_point
from spu_bench.options import Options, with_needed
from spu_bench.party import OWNERS, ROLES
from spu_bench.party.process import watch_opened_files
from spu_bench.party.reasons import SEE_LOG, last_words, unknown_operation
from spu_bench.party.task import DealerTask, Manifest, Task
from spu_bench.program import Program
from spu_bench.record import PartyOutcome
from spu_bench.session import Session
from spu_bench.stopping import Stopped

_SHARED_MODULES = ("__init__.py", "errors.py", "wire.py", "party/*.py")


@dataclass(frozen=True)
class PartyFiles:
    """The files of one party.

    `source` is the client's input file (None: the sample in the Program), `output` where the client writes its outputs
    (npz), `outcome` where the outcome goes as JSON, and `link_counter` the file in which a CountingRelay counts.
    """

    source: Path | None = None
    output: Path | None = None
    outcome: Path | None = None
    link_counter: Path | None = None


def run_party(
    rank: int,
    program: Program,
    session: Session,
    files: PartyFiles,
    *,
    interface: str | None = None,
    cores: int | None = None,
) -> PartyOutcome:
    """Run one party of `session`, and leave an outcome file also where it fails.

    `interface` is the network interface whose bytes are counted (None: they are not). The party computes on `cores`
    threads (None: as OMP_THREAD_LIMIT says, else one for each core that it may use). Raises SpuBenchError.
    """
    session.check_rank(rank)
    for path in (files.output, files.outcome):
        if path is not None:
            check_file(path)
    runtime = runtimes.get(session.runtime)
    report: dict[str, Any] = {}
    opened = watch_opened_files()
    with scratch_directory() as scratch:
        try:
            _check_cores(runtime)
            _check_inputs(rank, program, session, files.source)
            report = _run(runtime, scratch, _task(rank, program, session, files, interface, scratch), cores)
            if failure := report.get("failure"):
                raise SpuBenchError(**failure)
        except (SpuBenchError, Stopped) as error:
            report["failure"] = error.parts()
            _print_log(scratch / "log")
            raise
        finally:
            outcome = _outcome(rank, runtime, report, opened)
            if files.outcome is not None:
                write_result(files.outcome, outcome.model_dump_json(indent=1))
    return outcome


def _check_cores(runtime: runtimes.Runtime) -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < runtime.least_cores:
        raise SpuBenchError(
            f"A party on {runtime.title} has to see {runtime.least_cores} cores, this one sees {cores}.",
            "let it use more cores (taskset), or take another machine.",
            "environment",
        )


def _options(program: Program, session: Session) -> Options:
    """The session's options with what the Program needs. Raises SpuBenchError where the two differ."""
    needed = program.manifest.runtime_options
    return with_needed(session.options, needed, protocol=session.protocol, runtime=session.runtime)


def _check_inputs(rank: int, program: Program, session: Session, source: Path | None) -> None:
    """Read once what this party holds, so that the party's process need not check it."""
    program.module()
    truncates = program.manifest.runtime_options is None
    numbers = fixed_point(session.runtime, _options(program, session).runtime, truncates=truncates)
    for holder, owner_rank in OWNERS.items():
        if owner_rank in (None, rank):
            for name, array in program.arrays(holder, source if holder == "client" else None).items():
                numbers.check_array(name, array)


def _task(
    rank: int, program: Program, session: Session, files: PartyFiles, interface: str | None, scratch: Path
) -> Task:
    """What the party's process has to know."""
    runtime = runtimes.get(session.runtime)
    options = _options(program, session)
    manifest = cast(Manifest, program.manifest.model_dump(mode="json", by_alias=True))
    return Task(
        rank=rank,
        runtime=runtime.title,
        protocol=session.protocol,
        program=str(program.path),
        manifest=manifest,
        source=_text(files.source),
        output=_text(files.output),
        report=str(scratch / "report"),
        log=str(scratch / "log"),
        interface=interface,
        device=_device(session.party[rank].own),
        link=[
            (party.own, party.port) if at == rank else (party.address, party.seen_at)
            for at, party in enumerate(session.party)
        ],
        exchange=[
            (party.own if at == rank else party.address, party.port + 1) for at, party in enumerate(session.party)
        ],
        link_counter=_text(files.link_counter),
        digest=session.digest(),
        repeats=session.repeats,
        warmup=session.warmup,
        connect_timeout_s=session.connect_timeout_s,
        options={
            "runtime": {**runtime.defaults, **options.runtime},
            "compiler": options.compiler,
            "link": options.link,
        },
        dealer=cast(DealerTask, session.dealer.model_dump(mode="json")) if session.dealer else None,
    )


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _device(address: str) -> str | None:
    """The network interface of this host that has `address`, None where there is none."""
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(address)
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return str(name)
    return None


def _run(runtime: runtimes.Runtime, scratch: Path, task: Task, cores: int | None) -> dict[str, Any]:
    """Run the party's process to its end; returns what it reports."""
    python, environment = _environment(runtime, scratch)
    # SPU reads this once, when its library is loaded
    limit = str(cores or os.environ.get("OMP_THREAD_LIMIT") or len(os.sched_getaffinity(0)))
    task.save(str(scratch / "task"))
    with open(task.log, "ab") as log:
        process = subprocess.Popen(
            [python, "-m", "spu_bench.party.start", str(os.getpid()), runtime.backend, str(scratch / "task")],
            env={**environment, "OMP_THREAD_LIMIT": limit},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        status = process.wait()
    finally:
        process.kill()
        process.wait()
    said = Path(task.log).read_text(errors="replace")
    if named := unknown_operation(said):
        problem = f"{runtime.title} cannot compile the Program: {named}"
        raise SpuBenchError(problem, "export the Program without that operation.", "bad_input")
    try:
        report: dict[str, Any] = json.loads(Path(task.report).read_text())
    except (OSError, ValueError):
        if status < 0:
            raise killed(f"Party {task.rank}", -status, last_words(said)) from None
        raise SpuBenchError(
            f"The process of {runtime.title} ended with status {status}: {last_words(said)}", SEE_LOG, "failed"
        ) from None
    return report


def _environment(runtime: runtimes.Runtime, scratch: Path) -> tuple[str | Path, dict[str, str]]:
    """The interpreter that `runtime` needs, and the environment variables with which it finds its modules."""
    if runtime.python is None:
        return sys.executable, dict(os.environ)
    interpreter = runtimes.interpreter(runtime)
    package, copy = Path(__file__).resolve().parents[1], scratch / "code" / "spu_bench"
    own = f"{runtime.folder.relative_to(package)}/*.py"
    for pattern in (*_SHARED_MODULES, own):
        for path in package.glob(pattern):
            target = copy / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return interpreter, {**runtimes.clean_environment(), "PYTHONPATH": str(scratch / "code")}


def _print_log(log: Path) -> None:
    if os.environ.get(DEBUG) and log.exists():
        print(log.read_text(errors="replace"), file=sys.stderr)


def _outcome(rank: int, runtime: runtimes.Runtime, report: dict[str, Any], opened: set[str]) -> PartyOutcome:
    """The outcome of a party, also of one that left no report."""
    inferences = report.get("inferences") or [{}]
    own = os.times()
    return PartyOutcome.model_validate(
        {
            **report,
            "rank": rank,
            "role": ROLES[min(rank, 2)],
            "cpu_s": own.user + own.system + own.children_user + own.children_system,
            "opened_files": sorted({*report.get("opened_files", []), *opened}),
            "versions": {**report.get("versions", {}), "spu_bench": importlib.metadata.version("spu_bench")},
            "traffic_counted_by": runtime.counted_by if inferences[-1].get("link") else None,
        }
    )
