"""`profile_machine`: measure what steps cost on this machine, and what a turn costs beyond the network's delay."""

from __future__ import annotations

from pathlib import Path

from spu_bench.cost.machine_costs import MachineCosts
from spu_bench.cost.predict import step_costs
from spu_bench.cost.prediction import check, estimate
from spu_bench.cost.step_timing import Progress
from spu_bench.measured_run import run
from spu_bench.network import Network
from spu_bench.options import Options
from spu_bench.program import Program
from spu_bench.protocols import PROTOCOLS
from spu_bench.record import RunRecord

PROFILE_NETWORK = Network(
    name="profile-machine",
    rate_mbit=1000.0,
    rtt_ms=4.0,
    source="between lan and wan: long enough for parties to sleep in every turn",
)
"""The link that the profile is taken over."""
"""The network on which the wake-up time is measured. Its delay is long enough for parties to sleep in every turn."""

_REPEATS = 3


def profile_machine(
    program: Program,
    protocol: str,
    path: Path,
    *,
    executor: str = "auto",
    wake_s: float | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> MachineCosts:
    """Measure the steps of `program` and the wake-up time, and save both in the file `path`.

    The steps are measured again if the file has them. The wake-up time (seconds that a turn takes beyond the network's
    delay) comes from a run over PROFILE_NETWORK, or is the given `wake_s`. It is not measured under a protocol that is
    not in lockstep, whose computation is too long for it. Raises SpuBenchError, or RunFailed where the network cannot
    be set up; the steps are saved before.
    """
    options = options or Options()
    costs = MachineCosts.load(path)
    table = costs.table(protocol, options)
    table.steps.clear()
    table.waited = 1.0
    steps = step_costs(program, table, options, progress=progress)
    if wake_s is not None:
        costs.wake_s, costs.wake_from = wake_s, "as given"
    costs.save(path)
    if wake_s is None and PROTOCOLS[protocol].lock_step:
        record = run(
            program,
            protocol=protocol,
            network=PROFILE_NETWORK,
            executor=executor,
            repeats=_REPEATS,
            warmup=1,
            options=options,
        )
        without = estimate(steps, PROFILE_NETWORK, 0.0)
        costs.wake_s = wake_time(record, without.seconds, without.turns)
        costs.wake_from = f"{record.request.network.rtt_ms:g} ms of RTT, executor {record.request.executor}"
        costs.save(path)
    return costs


def wake_time(record: RunRecord, predicted_s: float, turns: float) -> float:
    """Seconds that a turn of a measured run took beyond the prediction without wake-up time; at least 0."""
    check(record.request.network)
    assert record.statistics is not None
    return max(0.0, (record.statistics.median - predicted_s) / turns)
