"""A measured run: start the parties on their hosts, watch the machine, and make one record of what they report."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from spu_bench import executors, protocols, provenance, runtimes
from spu_bench.comparison import accuracy, compare_outputs, logits_name
from spu_bench.count_traffic import count_traffic, counts_itself
from spu_bench.errors import SpuBenchError
from spu_bench.executors.base import Executor
from spu_bench.executors.hosts import HostsExecutor
from spu_bench.executors.scratch import scratch_directory
from spu_bench.likely_cause import likely_cause
from spu_bench.network import Network
from spu_bench.network.probe import judge, probe
from spu_bench.options import Options, with_needed
from spu_bench.party import CLIENT
from spu_bench.party_processes import (
    DEALER_SUMMARY,
    LOG,
    OUTPUTS,
    PartiesFailed,
    make_directories,
    make_session,
    run_parties,
)
from spu_bench.program import Array, Program, read_npz
from spu_bench.provenance import SourceVersion
from spu_bench.record import (
    ERROR_BOUND,
    DealerName,
    DealerUse,
    Failure,
    LikelyCause,
    MadeBy,
    ProgramIdentity,
    Request,
    RunRecord,
    Traffic,
)
from spu_bench.samples import summarize
from spu_bench.session import DealerAddress
from spu_bench.stopping import Stopped
from spu_bench.watch import Watch

LONGEST_TIMEOUT_S = 30 * 86_400.0
THIRD_PARTY: Literal["third-party"] = "third-party"


class RunFailed(SpuBenchError):
    """A run without a valid result; `record` has the reason and everything that was seen before."""

    def __init__(self, failure: Failure, record: RunRecord) -> None:
        super().__init__(failure.problem, failure.fix, failure.reason)
        self.record = record


def run(
    program: Program,
    *,
    protocol: str | None = None,
    network: str | Network = "loopback",
    executor: str = "auto",
    runtime: str = runtimes.NEWEST,
    repeats: int = 1,
    warmup: int = 0,
    inputs: str | Path | None = None,
    expected: Array | Mapping[str, Array] | None = None,
    options: Options | None = None,
    error_bound: float = ERROR_BOUND,
    timeout_s: float = 3600.0,
    keep_logs: str | Path | None = None,
    dealer: DealerName | None = None,
) -> RunRecord:
    """Run `program` between parties and measure it.

    `protocol` is one that the runtime has (None: its first). `network` is a preset's name, a TOML file or a Network;
    `executor` one of executors.NAMES; `runtime` one of runtimes.RUNTIMES. After `warmup` inferences each input is run
    `repeats` times; `inputs` is an npz with the client's arrays, whose first axis may hold several batches (None: the
    sample in the Program), and `expected` their outputs in plaintext by name, or their logits alone (None: the
    Program's own reference, for its sample). Numbers further than `error_bound` from those are wrong, and so are whole
    numbers that differ. The parties' logs are copied to `keep_logs`.
    `dealer` says who deals the triples (None: as the options say, by default the server): "third-party" starts a
    dealer on one more host of the executor.

    A run that is whole returns its record, with the status "ok", or "wrong" where an output is: check it before
    using the seconds. Raises RunFailed, with the record of the failure, where the run has no valid result;
    SpuBenchError where the run cannot start at all.
    """
    if not 0 < timeout_s <= LONGEST_TIMEOUT_S:
        raise SpuBenchError(
            f"The limit of the run cannot be {timeout_s} s.",
            f"give a number of seconds from 1 to {LONGEST_TIMEOUT_S:.0f}.",
            "bad_input",
        )
    asked = Network.load(network) if not isinstance(network, Network) else network
    options = options or Options()
    protocol = protocol or runtimes.get(runtime).protocols[0]
    with_needed(options, program.manifest.runtime_options, protocol=protocol, runtime=runtime)
    options.check(runtime, protocol)  # a wrong protocol or field is found before anything starts
    if dealer is not None:
        dealt_by = protocols.get(protocol).dealer(dealer, runtime)
        protocols.check_dealer(dealt_by, options.runtime)
    chosen = executors.get(executor, runtimes.get(runtime))
    record = RunRecord(
        status="failed",
        error_bound=error_bound,
        request=Request(
            protocol=protocol,
            network=asked,
            executor=chosen.name,
            runtime=runtime,
            options=options,
            repeats=repeats,
            warmup=warmup,
            timeout_s=timeout_s,
            dealer=dealer,
        ),
        program=ProgramIdentity(
            name=program.manifest.name,
            fingerprint=program.manifest.fingerprint,
            made_by=MadeBy.of(program.manifest.made_by),
        ),
        machine=provenance.machine(),
        code=provenance.code(),
        trust=dealt_by.trust if dealer else protocols.get(protocol).trust_model(options.runtime),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=0.0,
    )
    started = time.perf_counter()
    plaintext = _expected(program, expected, is_sample=inputs is None)
    try:
        outputs = _measure(
            record, chosen, program, Path(inputs) if inputs else None, Path(keep_logs) if keep_logs else None
        )
    except (SpuBenchError, Stopped) as error:
        record.failure = Failure(reason=error.reason, problem=error.problem, fix=error.fix)
        record.status = "invalid" if error.reason == "link" else "failed"
        record.duration_s = time.perf_counter() - started
        raise RunFailed(record.failure, record) from error
    record.status = "ok"
    _compare(record, program, outputs, plaintext)
    record.duration_s = time.perf_counter() - started
    return record


def recount(record: RunRecord, program: Program) -> None:
    """Count the bytes and messages of `record` again, and keep the code that did it; its seconds stay.

    For a runtime whose traffic a relay counts, after that counting was corrected: neither bytes nor messages depend on
    when a run took place. `program` is the one that ran. Raises SpuBenchError for another Program or runtime, and as
    `run` does.
    """
    same = record.program is not None and record.program.fingerprint == program.manifest.fingerprint
    if not same or counts_itself(record.request.runtime):
        raise SpuBenchError(
            "This record's traffic cannot be counted again.",
            "give the Program that ran, and a record of a runtime whose traffic a relay counts.",
            "bad_input",
        )
    with scratch_directory() as scratch:
        _set_traffic(record, count_traffic(record.request, program, scratch / "counting"))
    record.code.recounted_by = SourceVersion.model_validate(provenance.code().model_dump(exclude={"recounted_by"}))


def _set_traffic(record: RunRecord, traffic: list[Traffic]) -> None:
    for party, counted in zip(record.parties, traffic):
        party.traffic_counted_by = "relay"
        for inference in party.inferences:
            inference.link = counted


def _measure(
    record: RunRecord, executor: Executor, program: Program, inputs: Path | None, keep_logs: Path | None
) -> dict[str, Array]:
    """Fill `record` step by step, so that a failure leaves what was seen until then; returns the client's outputs."""
    request = record.request
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_directory())
        third_party = request.dealer == THIRD_PARTY
        directories = make_directories(scratch, request.protocol, program, inputs, dealer=third_party)
        if request.network.is_shaped:
            stack.enter_context(executors.measurement_lock())  # two latencies measured at once are none
        _set_traffic(record, _run_on_hosts(record, executor, program, scratch, directories, keep_logs))
        record.samples_s = [
            max(party.inferences[i].run_s for party in record.parties)
            for i in range(len(record.parties[CLIENT].inferences))
        ]
        record.statistics = summarize(record.samples_s)
        _require_link(record)
        return read_npz(directories[CLIENT] / OUTPUTS)


def _run_on_hosts(
    record: RunRecord,
    executor: Executor,
    program: Program,
    scratch: Path,
    directories: list[Path],
    keep_logs: Path | None,
) -> list[Traffic]:
    """Run the parties on hosts of `executor`, the link probed before and after, the machine watched.

    Returns what a relay counted of the link, per party; nothing for a runtime that counts itself.
    """
    request = record.request
    started = time.perf_counter()
    far = executor.name == HostsExecutor.name  # its link is as it is, and this machine only looks on
    asked = None if far else request.network
    helpers = int(request.dealer == THIRD_PARTY)
    with executor.open(request.network, directories, helpers) as hosts:
        record.executor = executor.describe()
        counting = time.perf_counter()
        traffic = [] if counts_itself(request.runtime) else count_traffic(request, program, scratch / "counting")
        counting = time.perf_counter() - counting
        if request.network.is_shaped or far:
            record.link_before = probe(hosts, directories, asked)
            _require_link(record)
        shaped_s = _shapers_s(executor)
        session = make_session(request, hosts)
        try:
            with Watch() as watch:
                record.parties = run_parties(hosts, directories, session, request.timeout_s)
        except PartiesFailed as error:
            record.parties = error.outcomes
            raise
        finally:
            if session.dealer is not None:
                record.dealer = _dealer_use(session.dealer, directories[-1])
            if keep_logs is not None:
                _copy_logs(directories, keep_logs)
        elsewhere_s = 0.0
        if record.executor.name == "docker":  # an engine's containers are no children of this process
            elsewhere_s = sum(party.cpu_s for party in record.parties) + _shapers_s(executor) - shaped_s
        seen = watch.report(elsewhere_s)
        record.watch = None if far else seen
        if request.network.is_shaped or far:
            record.link_after = probe(hosts, directories, asked)
        record.executor = executor.describe()
    record.overhead_s = time.perf_counter() - started - counting - seen.seconds
    return traffic


def _dealer_use(dealer: DealerAddress, directory: Path) -> DealerUse | None:
    """What the dealer says of its session; None where it was killed."""
    path = directory / DEALER_SUMMARY
    if not path.exists():
        return None
    summary = json.loads(path.read_text())
    return DealerUse(kind=THIRD_PARTY, transport=dealer.transport, host=dealer.address, **summary)


def _shapers_s(executor: Executor) -> float:
    """CPU seconds that the shaper's own processes have reported so far."""
    return sum(cost.cpu_seconds for cost in executor.describe().shaper_cost)


def _require_link(record: RunRecord) -> None:
    if wrong := judge(record.request.network, record.link_before, record.link_after):
        raise SpuBenchError(
            f"The link is not {record.request.network.name!r}: {wrong}.",
            "run it again on a quiet machine; if it stays, see docs/networks.md.",
            "link",
        )


def _copy_logs(directories: list[Path], target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        for directory in directories:
            if (directory / LOG).exists():
                shutil.copyfile(directory / LOG, target / f"{directory.name}.log")
    except OSError as error:  # the result is worth more than the logs
        logging.getLogger(__name__).warning("The parties' logs cannot be kept in %s: %s", target, error.strerror)


def _compare(
    record: RunRecord, program: Program, outputs: dict[str, Array], expected: Mapping[str, Array] | None
) -> None:
    """Keep the logits, and how far each output is from plaintext where that is known."""
    name = logits_name(program)
    if name is not None:
        record.logits = outputs[name].tolist()
    if expected is None:
        return
    of_logits = accuracy(outputs[name], expected[name]) if name is not None and name in expected else None
    record.compare(of_logits, compare_outputs(program, outputs, expected))
    if record.status == "wrong":
        runtime = runtimes.get(record.request.runtime)
        cause, fix = likely_cause(program, record.request.options, runtime, record.outputs, expected)
        record.likely_cause = LikelyCause(cause=cause, fix=fix)


def _expected(
    program: Program, given: Array | Mapping[str, Array] | None, is_sample: bool
) -> Mapping[str, Array] | None:
    """The outputs in plaintext by name: given ones, or for the Program's own sample its reference."""
    if given is None:
        return program.reference() if is_sample else None
    if not isinstance(given, Mapping):
        return {logits_name(program) or program.manifest.outputs[0].name: given}
    if unknown := sorted(set(given) - {each.name for each in program.manifest.outputs}):
        names = ", ".join(each.name for each in program.manifest.outputs)
        raise SpuBenchError(f"The Program has no output {unknown[0]!r}.", f"use one of {names}.", "bad_input")
    return given
