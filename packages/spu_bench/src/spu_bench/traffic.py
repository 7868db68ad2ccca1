"""Bytes and messages of SPU's link for a runtime that does not count them: one more run, over a relay that does."""

from __future__ import annotations

from pathlib import Path

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.executors.loopback import LoopbackExecutor
from spu_bench.network import Network
from spu_bench.parties import COUNTER, lay_out, make_session, run_parties
from spu_bench.profile import Traffic
from spu_bench.program import Program
from spu_bench.record import Request
from spu_bench.relay import Relay


def counts_itself(runtime: str) -> bool:
    """Whether that version of SPU counts its link's bytes and messages."""
    return runtimes.get(runtime).python is None


def count_traffic(request: Request, program: Program, scratch: Path) -> list[Traffic]:
    """What each party sends and receives in one inference of `program`, in rank order; not timed.

    The run is on loopback, with the Program's own sample: neither bytes nor messages depend on the link or the input.
    Raises SpuBenchError as the run itself would.
    """
    once = request.model_copy(update={"repeats": 1, "warmup": 0})
    directories = lay_out(scratch, request.protocol, program, None)
    executor = LoopbackExecutor(runtimes.get(request.runtime))
    with executor.open(Network.load("loopback"), directories) as hosts:
        session = make_session(once, hosts)
        relay = Relay([party.port for party in session.party], [each / COUNTER for each in directories])
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
            "The relay saw no message of SPU's link.",
            "leave the link's protocol (brpc_channel_protocol) alone.",
            "failed",
        )
    return traffic
