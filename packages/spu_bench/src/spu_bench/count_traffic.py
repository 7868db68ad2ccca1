"""Bytes and messages of the link of a runtime that does not count them: one more run, over a relay that does."""

from __future__ import annotations

import shutil
from pathlib import Path

import tomli_w

from spu_bench import runtimes
from spu_bench.counting_relay import CountingRelay
from spu_bench.errors import SpuBenchError
from spu_bench.executors.docker import DockerExecutor
from spu_bench.executors.loopback import LoopbackExecutor
from spu_bench.network import LOOPBACK
from spu_bench.party_processes import COUNTER, LOG, make_directories, make_session, run_parties
from spu_bench.program import Program
from spu_bench.record import Request, RunRecord, Traffic


def counts_itself(runtime: str) -> bool:
    """Whether that runtime counts the bytes and messages of its link."""
    return runtimes.get(runtime).counted_by != "relay"


def count_traffic(request: Request, program: Program, scratch: Path) -> list[Traffic]:
    """What each party sends and receives in one inference of `program`, in rank order; not timed.

    The run is on loopback, with the Program's own sample: neither bytes nor messages depend on the link or the input.
    Where this host does not have the runtime, the run is in one container of the image that has it. Raises
    SpuBenchError as the run itself would.
    """
    runtime = runtimes.get(request.runtime)
    if runtimes.missing(runtime):
        return _count_in_container(request, program, scratch, runtime)
    once = request.model_copy(update={"repeats": 1, "warmup": 0})
    directories = make_directories(scratch, request.protocol, program, None)
    executor = LoopbackExecutor(runtime)
    with executor.open(LOOPBACK, directories) as hosts:
        session = make_session(once, hosts)
        relay = CountingRelay([party.port for party in session.party], [each / COUNTER for each in directories])
        try:
            parties = tuple(
                party.model_copy(update={"relay_port": port}) for party, port in zip(session.party, relay.seen_at)
            )
            outcomes = run_parties(hosts, directories, session.model_copy(update={"party": parties}), request.timeout_s)
        finally:
            relay.close()
    counted = [outcome.inferences[-1].link for outcome in outcomes]
    traffic = [each for each in counted if each is not None and each.sent_messages]
    if len(traffic) < len(outcomes):
        raise SpuBenchError(
            "The relay saw no message on the link.",
            "leave the link option brpc_channel_protocol at its default.",
            "failed",
        )
    return traffic


def _count_in_container(
    request: Request, program: Program, directory: Path, runtime: runtimes.Runtime
) -> list[Traffic]:
    directory.mkdir()
    shutil.copytree(program.path, directory / "program")
    (directory / "options.toml").write_text(tomli_w.dumps(request.options.model_dump()))
    command = ["-m", "spu_bench", "run", "program", "--executor", "loopback", "--runtime", request.runtime]
    command += ["--protocol", request.protocol, "--repeats", "1", "--warmup", "0", "--options", "options.toml"]
    command += ["--timeout", str(request.timeout_s), "--json", "record.json"]
    with DockerExecutor(runtime=runtime).open(LOOPBACK, [directory]) as hosts:
        hosts[0].start(command, environment={}, log=LOG).wait()
    if not (directory / "record.json").exists():
        said = (directory / LOG).read_text(errors="replace").strip().splitlines() or ["its log is empty"]
        raise SpuBenchError(
            f"Counting in a container failed: {said[-1]}",
            f"install the runtime on this host: {runtime.install_command}",
            "failed",
        )
    record = RunRecord.load(directory / "record.json")
    if record.failure is not None:
        raise SpuBenchError(record.failure.problem, record.failure.fix, record.failure.reason)
    return record.traffic()
