"""`predict`: the latency of a Program on a network, from its compiled steps and what they cost on this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from spu_bench.cost.machine_costs import MachineCosts, StepCost, StepTable, default_path
from spu_bench.cost.prediction import check, estimate
from spu_bench.cost.step_timing import Progress, Shares, random_shares, storage_of, time_steps
from spu_bench.cost.steps import Compiled, compile_program
from spu_bench.errors import SpuBenchError
from spu_bench.network import Network
from spu_bench.options import Options, runtime_config
from spu_bench.predicted_latency import Prediction
from spu_bench.program import Program
from spu_bench.protocols import PROTOCOLS


def predict(
    program: Program,
    protocol: str = "semi2k",
    network: str | Network = "loopback",
    *,
    options: Options | None = None,
    machine_costs: str | Path | None = None,
    measure_new: bool = True,
    progress: Progress | None = None,
) -> Prediction:
    """Predict the seconds of one inference of `program` under `protocol` on `network`, with its parts.

    The costs of the compiled steps are those of the file `machine_costs` (None: the user's own, below XDG_CACHE_HOME).
    Kinds of steps that are not in the file are measured on the loopback device, with random values, and saved there.
    Raises SpuBenchError for such a step where `measure_new` is off, for a protocol or network that the cost model does
    not support, and for a shaped network where the file has no wake-up time.
    """
    requested = network if isinstance(network, Network) else Network.load(network)
    check(requested)
    path = Path(machine_costs) if machine_costs is not None else default_path()
    known = MachineCosts.load(path)
    if requested.is_shaped and known.wake_s is None:
        raise SpuBenchError(
            f"{path} has no wake-up time of this machine.",
            "run `spu-bench profile-machine PROGRAM`; add --wake-ms where no network can be shaped.",
            "environment",
        )
    options = options or Options()
    steps = known.table(protocol, options)
    kinds = len(steps.steps)
    costs = step_costs(program, steps, options, measure_new=measure_new, progress=progress)
    if len(steps.steps) > kinds:
        known.save(path)
    return Prediction(
        program=program.manifest.name,
        fingerprint=program.manifest.fingerprint,
        protocol=protocol,
        network=requested,
        waited=steps.waited,
        **dict(estimate(costs, requested, known.wake_s or 0.0)),
    )


def step_costs(
    program: Program,
    steps: StepTable,
    options: Options,
    *,
    measure_new: bool = True,
    progress: Progress | None = None,
) -> list[tuple[StepCost, float]]:
    """The costs of the steps of `program` with their numbers of occurrences; new kinds are measured and put in `steps`.

    Raises SpuBenchError for a protocol of three parties, and for a new kind where `measure_new` is off.
    """
    runtime_config(steps.protocol, options)
    if PROTOCOLS[steps.protocol].parties != 2:
        raise SpuBenchError(
            f"The cost model is for two parties, and {steps.protocol} has {PROTOCOLS[steps.protocol].parties}.",
            "measure the latency with `spu-bench run`.",
            "bad_input",
        )
    compiled = compile_program(program, options)
    shares = random_shares(program, steps.protocol, options)
    try:
        keys = _keys(compiled, shares, steps)
    except _NotMeasured as new:
        if not measure_new:
            raise SpuBenchError(
                f"The machine costs have no cost of {new}.",
                "predict the Program once without --no-measure, on this machine.",
                "bad_input",
            ) from None
        time_steps(compiled, shares, steps, progress or (lambda what, done, of: None))
        keys = _keys(compiled, shares, steps)
    costs = [(steps.steps[key], float(count)) for key, count in Counter(keys).items()]
    if steps.top_up is not None:
        costs.append((steps.top_up, sum(cost.top_ups * count for cost, count in costs)))
    return costs


class _NotMeasured(Exception):
    """A step whose kind is not in the table; its message is the operation and its operands' types."""


def _keys(compiled: Compiled, shares: Shares, steps: StepTable) -> list[str]:
    """The key of each step. SPU is not run: the table has the storage of each kind's results."""
    storage = {name: storage_of(own[0]) for name, own in zip(compiled.arguments, shares.values())}
    keys = []
    for step in compiled.steps:
        key = step.key([storage[value] for value in step.operands])
        if key not in steps.steps:
            raise _NotMeasured(f"{step.operation} {', '.join(step.types)}")
        storage.update(zip(step.results, steps.steps[key].storage))
        keys.append(key)
    return keys
