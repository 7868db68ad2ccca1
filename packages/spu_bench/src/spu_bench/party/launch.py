"""Being a party on a runtime with an environment of its own: check the inputs, start its interpreter, read its report.

The party there (`guest`) gets a directory with the few modules that it imports, and all that it has to know as JSON.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError, killed
from spu_bench.executors.scratch import scratch_directory
from spu_bench.party.spu03.profile import parse_profiles
from spu_bench.party.spu095 import HOLDERS, watch_opened_files
from spu_bench.party.spu_profile import Traffic
from spu_bench.program import Program
from spu_bench.record import Failure, Inference, PartyOutcome, write_whole
from spu_bench.session import Session

_COMMON = ("__init__.py", "errors.py", "party/__init__.py", "party/exchange.py", "party/session_loop.py")
_REFUSED = re.compile("failed to legalize operation '[^']*'")


def run_party(
    rank: int,
    program: Program,
    session: Session,
    *,
    source: Path | None = None,
    output: Path | None = None,
    outcome_path: Path | None = None,
    interface: str | None = None,
    link_counter: Path | None = None,
) -> PartyOutcome:
    """Be one party on the session's runtime, as `spu_bench.party.run_party` on this environment's SPU.

    `link_counter` is a file in which a `relay` counts what this party sends and receives. Raises SpuBenchError.
    """
    session.check_rank(rank)
    runtime = runtimes.get(session.runtime)
    outcome = PartyOutcome(rank=rank, role="client" if rank else "server", traffic_counted_by=None)
    opened = watch_opened_files()
    with scratch_directory() as scratch:
        try:
            _check_cores(runtime)
            _check_inputs(rank, program, source)
            task = _task(rank, program, session, source, output, interface, link_counter, scratch)
            report = _run(runtime, scratch, task)
            log = (scratch / "log").read_text(errors="replace")
            outcome = _read(runtime, outcome, report, log, interface)
            if outcome.failure is not None:
                named = _REFUSED.search(log)  # SPU's compiler names the operation in its log alone
                problem = f"{outcome.failure.problem} ({named[0]})" if named else outcome.failure.problem
                raise SpuBenchError(problem, outcome.failure.fix, outcome.failure.reason)
        except SpuBenchError as error:
            outcome.failure = Failure(reason=error.reason, problem=error.problem, fix=error.fix)
            raise
        finally:
            outcome.opened_files = sorted({*outcome.opened_files, *opened})
            if outcome_path is not None:
                write_whole(outcome_path, outcome.model_dump_json(indent=1))
    return outcome


def _check_cores(runtime: runtimes.Runtime) -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < runtime.least_cores:
        raise SpuBenchError(
            f"A party on {runtime.title} has to see {runtime.least_cores} cores, this one sees {cores}.",
            "let it see more: taskset, or another machine.",
            "environment",
        )


def _check_inputs(rank: int, program: Program, source: Path | None) -> None:
    """Read once what this party holds, so that the party in the other environment need not check it."""
    program.module()
    for holder, owner_rank in HOLDERS.items():
        if owner_rank in (None, rank):
            program.arrays(holder, source if holder == "client" else None)


def _task(
    rank: int,
    program: Program,
    session: Session,
    source: Path | None,
    output: Path | None,
    interface: str | None,
    link_counter: Path | None,
    scratch: Path,
) -> dict[str, Any]:
    """All that the party in the other environment has to know."""
    runtime = runtimes.get(session.runtime)
    links = [[party.address, party.port if at == rank else party.seen_at] for at, party in enumerate(session.party)]
    options = session.options.model_dump()
    return {
        "rank": rank,
        "parent": os.getpid(),
        "runtime": runtime.title,
        "program": str(program.path),
        "manifest": program.manifest.model_dump(mode="json", by_alias=True),
        "source": str(source) if source else None,
        "output": str(output) if output else None,
        "report": str(scratch / "report"),
        "interface": interface,
        "device": _device(session.party[rank].address),
        "link_counter": str(link_counter) if link_counter else None,
        "link": links,
        "exchange": [[party.address, party.port + 1] for party in session.party],
        "digest": session.digest(),
        "repeats": session.repeats,
        "warmup": session.warmup,
        "connect_timeout_s": session.connect_timeout_s,
        "protocol": session.protocol,
        "options": {**options, "runtime": {**runtime.defaults, **options["runtime"]}},
    }


def _device(address: str) -> str:
    """The network interface of this host that has `address`; SpuBenchError where there is none."""
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(address)
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    raise SpuBenchError(
        f"No network interface of this host has the address {address}.",
        "give this party's own address in the link file.",
        "environment",
    )


def _run(runtime: runtimes.Runtime, scratch: Path, task: dict[str, Any]) -> dict[str, Any]:
    """Start the party in its own environment, wait for its end, and return what it reports."""
    interpreter = runtimes.interpreter(runtime)
    package = Path(__file__).resolve().parents[1]
    own = (package / "party" / str(runtime.package)).glob("*.py")
    for path in (*(package / name for name in _COMMON), *own):
        target = scratch / "code" / "spu_bench" / path.relative_to(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (scratch / "task").write_text(json.dumps(task))
    with open(scratch / "log", "wb") as log:
        status = subprocess.Popen(
            [interpreter, "-m", f"spu_bench.party.{runtime.package}.backend", str(scratch / "task")],
            env={**runtimes.clean_environment(), "PYTHONPATH": str(scratch / "code")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ).wait()
    try:
        report: dict[str, Any] = json.loads((scratch / "report").read_text())
    except (OSError, ValueError):
        if status < 0:
            raise killed(f"Party {task['rank']}", -status) from None
        lines = (scratch / "log").read_text(errors="replace").strip().splitlines()
        print("\n".join(lines[-20:]), file=sys.stderr)
        raise SpuBenchError(
            f"The party on {runtime.title} ended with status {status}: {lines[-1] if lines else 'no word of it'}",
            "see the lines before this one.",
            "failed",
        ) from None
    return report


def _read(
    runtime: runtimes.Runtime, outcome: PartyOutcome, report: dict[str, Any], log: str, interface: str | None
) -> PartyOutcome:
    inferences = [
        Inference(
            **dict(zip(("input_s", "run_s", "reveal_s"), each["times"])),
            cpu_s=each["cpu_s"],
            link=Traffic(**dict(zip(Traffic.model_fields, each["link"]))) if each["link"] else None,
            interface_sent_bytes=each["interface"][0] if interface else None,
            interface_received_bytes=each["interface"][1] if interface else None,
        )
        for each in report.pop("inferences", [])
    ]
    profiles = parse_profiles(log.splitlines())  # SPU alone leaves any
    counted = bool(inferences) and inferences[-1].link is not None
    return PartyOutcome.model_validate(
        {
            **outcome.model_dump(),
            **report,
            "versions": {**report.get("versions", {}), "spu_bench": importlib.metadata.version("spu_bench")},
            "inferences": inferences,
            "operations": profiles[-1] if profiles else [],
            "traffic_counted_by": runtime.counted_by if counted else None,
        }
    )
