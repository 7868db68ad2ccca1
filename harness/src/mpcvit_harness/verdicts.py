"""Verdicts: each claim beside what the records say. The claim's tolerance alone decides."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from scipy.stats import t

from mpcvit_harness.claims import Claim, Claims
from mpcvit_harness.claims_file import Tolerance
from mpcvit_harness.formulas import FORMULAS, Quantity
from mpcvit_harness.stored import StoredRun, StoredTraining

Verdict = Literal["reproduced", "within shape", "not reproduced", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Evaluation:
    """A claim's verdict and what it follows from.

    `difference` is how far the value is off: relative, or in the unit of an absolute tolerance. `n` is the smallest
    number of samples behind it. Where nothing was measured, `why` says so. The value of trainings is a mean over `n`
    seeds, `deviation` their standard deviation (None: one seed).
    """

    claim: Claim
    verdict: Verdict
    value: float | None = None
    difference: float | None = None
    n: int = 0
    records: tuple[StoredRun | StoredTraining, ...] = ()
    why: str = ""
    deviation: float | None = None


def evaluate(claims: Claims, runs: Iterable[StoredRun], trainings: Iterable[StoredTraining] = ()) -> list[Evaluation]:
    """The verdict on every claim, in the order of claims.

    All cells of a claim are taken from one machine: the one that measured last, of those that have all of them. Of
    several records of one cell on one machine the newest counts. An accuracy does not depend on the machine: trainings
    are taken from all machines, seed by seed.
    """
    machines: dict[str, dict[tuple[str, str], StoredRun]] = {}
    for one in sorted(runs, key=lambda m: m.record.started_at):
        machines.setdefault(one.machine, {})[one.cell.experiment, one.cell.name] = one
    newest_last = sorted(trainings, key=lambda one: one.record.started_at)
    of_runs = {(one.record.experiment, one.record.name): one for one in newest_last}
    return [_evaluate(claim, machines, of_runs, claims.commands) for claim in claims.claims]


TrainingRuns = Mapping[tuple[str, str], StoredTraining]


def _evaluate(
    claim: Claim,
    machines: dict[str, dict[tuple[str, str], StoredRun]],
    runs: TrainingRuns,
    commands: dict[str, str],
) -> Evaluation:
    if claim.not_run is not None:
        return Evaluation(claim, "not run", why=claim.not_run)
    if claim.quantities[0].is_training:
        return _evaluate_trainings(claim, runs, commands)
    keys = [(quantity.experiment, quantity.cell) for quantity in claim.quantities]
    complete = [[of[key] for key in keys] for of in machines.values() if all(key in of for key in keys)]
    if not complete:
        most = max(machines.values(), key=lambda of: sum(key in of for key in keys), default={})
        missing = next("/".join(key) for key in keys if key not in most)
        return Evaluation(claim, "not run", why=f"no valid record of {missing}")
    records = max(complete, key=lambda found: max(m.record.started_at for m in found))
    try:
        values = [quantity.of(m.record) for quantity, m in zip(claim.quantities, records)]
    except ValueError as error:
        return Evaluation(claim, "not run", records=_once(records), why=str(error))
    value = FORMULAS[claim.formula].compute(values, claim.x)
    verdict, difference = judge(claim.tolerance, claim.stated, value)
    fewest = min(len(m.record.samples_s) for m in records)
    return Evaluation(claim, verdict, value, difference, fewest, _once(records))


def _evaluate_trainings(claim: Claim, runs: TrainingRuns, commands: dict[str, str]) -> Evaluation:
    """The mean over those seeds that all of the claim's runs have, of the formula computed for each seed."""
    found = [_by_seed(quantity, runs) for quantity in claim.quantities]
    for quantity, of in zip(claim.quantities, found):
        if not of:
            how = commands.get(quantity.experiment)
            missing = f"no valid record of {quantity.experiment}/{quantity.cell}"
            return Evaluation(claim, "not run", why=f"{missing}; {how}" if how else missing)
    seeds = sorted(set.intersection(*(set(of) for of in found)))
    if not seeds:
        return Evaluation(claim, "not run", why="its runs have no seed in common")
    records = _once(of[seed] for seed in seeds for of in found)
    try:
        values = [
            FORMULAS[claim.formula].compute(
                [quantity.of_training(of[seed].record) for quantity, of in zip(claim.quantities, found)], claim.x
            )
            for seed in seeds
        ]
    except ValueError as error:
        return Evaluation(claim, "not run", records=records, why=str(error))
    mean, n = statistics.fmean(values), len(values)
    deviation = statistics.stdev(values) if n > 1 else None
    low = None if deviation is None else mean - t.ppf(0.975, n - 1) * deviation / n**0.5
    verdict, difference = judge(claim.tolerance, claim.stated, mean, low)
    return Evaluation(claim, verdict, mean, difference, n, records, deviation=deviation)


def _by_seed(quantity: Quantity, runs: TrainingRuns) -> dict[int, StoredTraining]:
    """The runs of a quantity by their seed; a run that is named with its seed stands alone, as seed -1."""
    if alone := runs.get((quantity.experiment, quantity.cell)):
        return {-1: alone}
    return {
        one.record.seed: one
        for (experiment, name), one in runs.items()
        if experiment == quantity.experiment and re.fullmatch(re.escape(quantity.cell) + r"-s\d+", name)
    }


def _once(records: Iterable[StoredRun | StoredTraining]) -> tuple[StoredRun | StoredTraining, ...]:
    return tuple({m.file: m for m in records}.values())


def judge(tolerance: Tolerance, stated: float, value: float, low: float | None = None) -> tuple[Verdict, float]:
    """The verdict on `value` where `stated` is the claim's number, and how far off it is.

    `low` is the lower end of the value's interval. Without one, no value is reproduced as `above`, only within shape.
    """
    if tolerance.kind == "above":
        difference = value - stated
        if low is not None and stated - low <= tolerance.reproduced:
            return "reproduced", difference
        return ("within shape" if -difference <= tolerance.within_shape else "not reproduced"), difference
    difference = value - stated if tolerance.kind == "absolute" else (value - stated) / abs(stated)
    beyond = {"at_most": max(difference, 0.0), "at_least": max(-difference, 0.0)}.get(tolerance.kind, abs(difference))
    if beyond <= tolerance.reproduced:
        return "reproduced", difference
    return ("within shape" if beyond <= tolerance.within_shape else "not reproduced"), difference
