"""Calibrating a machine: what steps cost between two parties on it, and what a turn costs beyond the link's delay."""

from __future__ import annotations

from pathlib import Path

from spu_bench.cost import table
from spu_bench.cost.measure import LOCKSTEP, Progress
from spu_bench.cost.model import check, of_costs
from spu_bench.cost.predictor import step_costs
from spu_bench.cost.table import Calibration
from spu_bench.measured_run import run
from spu_bench.network import Network
from spu_bench.options import Options
from spu_bench.program import Program
from spu_bench.record import RunRecord

LINK = Network(
    name="calibration",
    rate_mbit=1000.0,
    rtt_ms=4.0,
    source="between lan and wan: long enough for parties to sleep in every turn",
)
_REPEATS = 3


def calibrate(
    program: Program,
    protocol: str,
    path: Path,
    *,
    executor: str = "auto",
    wake_s: float | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measure the steps of `program` anew, then the Program over LINK, and keep both in the file `path`.

    A `wake_s` that is given is kept, and nothing is run over a link; nor is it under a protocol that is not in
    lockstep, where the time of a turn would drown in that of computation. Raises SpuBenchError, or RunFailed where
    the link could not be had; the steps are kept all the same.
    """
    options = options or Options()
    known = table.load(path)
    steps = known.table(protocol, options)
    steps.steps.clear()
    steps.waited = 1.0
    costs = step_costs(program, steps, options, progress=progress)
    if wake_s is not None:
        known.wake_s, known.wake_from = wake_s, "as given"
    known.save(path)
    if wake_s is None and protocol in LOCKSTEP:
        record = run(
            program,
            protocol=protocol,
            network=LINK,
            executor=executor,
            repeats=_REPEATS,
            warmup=1,
            options=options,
        )
        without = of_costs(costs, LINK, 0.0)
        known.wake_s = waking(record, without["seconds"], without["turns"])
        known.wake_from = f"{record.request.network.rtt_ms:g} ms of RTT, executor {record.request.executor}"
        known.save(path)
    return known


def waking(record: RunRecord, predicted_s: float, turns: float) -> float:
    """Seconds a turn took in a measured run beyond what was predicted for it without waking up; at least 0."""
    check(record.request.network)
    assert record.statistics is not None
    return max(0.0, (record.statistics.median - predicted_s) / turns)
