"""`predict`: the seconds of a Program over a network, from its compiled steps and what they cost on this machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from spu_bench.cost import table
from spu_bench.cost.measure import Progress, Shares, measure, random_shares, storage_of
from spu_bench.cost.model import check, of_costs
from spu_bench.cost.steps import Compiled, compile_program
from spu_bench.cost.table import StepCost, StepTable
from spu_bench.errors import SpuBenchError
from spu_bench.network import Network
from spu_bench.options import PROTOCOLS, Options, runtime_config
from spu_bench.predicted_latency import Prediction
from spu_bench.program import Program


def predict(
    program: Program,
    protocol: str = "semi2k",
    network: str | Network = "loopback",
    *,
    options: Options | None = None,
    calibration: str | Path | None = None,
    measure_new: bool = True,
    progress: Progress | None = None,
) -> Prediction:
    """Seconds of one inference of `program` under `protocol` over `network`, with its parts.

    The Program's compiled steps are looked up in the file `calibration` (None: the user's own, below XDG_CACHE_HOME).
    Kinds of steps that are not there are measured on the loopback device, with random values, and kept there; with
    `measure_new` off they raise SpuBenchError, which names the first of them. So do a network that the model does not
    know, and a network with a delay where the calibration does not say what waking up costs.
    """
    asked = network if isinstance(network, Network) else Network.load(network)
    check(asked)
    path = Path(calibration) if calibration is not None else table.default_path()
    known = table.load(path)
    if asked.is_shaped and known.wake_s is None:
        raise SpuBenchError(
            f"{path} does not say what waking up after a wait costs on this machine.",
            "run `spu-bench calibrate PROG` once, where no link can be shaped with --wake-ms.",
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
        network=asked,
        waited=steps.waited,
        **of_costs(costs, asked, known.wake_s or 0.0),
    )


def step_costs(
    program: Program,
    steps: StepTable,
    options: Options,
    *,
    measure_new: bool = True,
    progress: Progress | None = None,
) -> list[tuple[StepCost, float]]:
    """What the steps of `program` cost, each with how often it comes; new kinds are measured and put into `steps`.

    Raises SpuBenchError for a protocol of three parties, and for a kind that is new where `measure_new` is off.
    """
    runtime_config(steps.protocol, options)
    if PROTOCOLS[steps.protocol] != 2:
        raise SpuBenchError(
            f"The cost model knows protocols of two parties, and {steps.protocol} takes {PROTOCOLS[steps.protocol]}.",
            "measure it with `spu-bench run`.",
            "bad_input",
        )
    compiled = compile_program(program, options)
    shares = random_shares(program, steps.protocol, options)
    try:
        keys = _keys(compiled, shares, steps)
    except _NotMeasured as new:
        if not measure_new:
            raise SpuBenchError(
                f"The calibration has no cost of {new}, and a prediction without it would lack that part.",
                "predict the Program once with measuring, on this machine.",
                "bad_input",
            ) from None
        measure(compiled, shares, steps, progress or (lambda what, done, of: None))
        keys = _keys(compiled, shares, steps)
    costs = [(steps.steps[key], float(count)) for key, count in Counter(keys).items()]
    if steps.top_up is not None:
        costs.append((steps.top_up, sum(cost.top_ups * count for cost, count in costs)))
    return costs


class _NotMeasured(Exception):
    """A step whose kind is not in the table."""


def _keys(compiled: Compiled, shares: Shares, steps: StepTable) -> list[str]:
    """The key of each step of a Program: SPU is not run, how it keeps results is known of each kind."""
    storage = {name: storage_of(own[0]) for name, own in zip(compiled.arguments, shares.values())}
    keys = []
    for step in compiled.steps:
        key = step.key([storage[value] for value in step.operands])
        if key not in steps.steps:
            raise _NotMeasured(f"{step.operation} {', '.join(step.types)}")
        storage.update(zip(step.results, steps.steps[key].storage))
        keys.append(key)
    return keys
