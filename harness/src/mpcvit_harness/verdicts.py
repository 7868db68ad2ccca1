"""Verdicts: each claim beside what the records say, decided by the claim's tolerance alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from mpcvit_harness.claims import Claim, Claims, Tolerance
from mpcvit_harness.formulas import FORMULAS
from mpcvit_harness.measured import Measured

Verdict = Literal["reproduced", "within shape", "not reproduced", "not run"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Evaluation:
    """A claim's verdict: the measured value, how far it is off (relative, or in the unit of an absolute tolerance),
    the fewest samples behind it, its records; where nothing was measured, why."""

    claim: Claim
    verdict: Verdict
    value: float | None = None
    difference: float | None = None
    n: int = 0
    records: tuple[Measured, ...] = ()
    why: str = ""


def evaluate(claims: Claims, measured: Iterable[Measured]) -> list[Evaluation]:
    """The verdict on every claim, in their order.

    All cells of a claim are taken from one machine: of those that have them all, the one that measured last. Of several
    records of one cell on one machine the newest counts.
    """
    machines: dict[str, dict[tuple[str, str], Measured]] = {}
    for one in sorted(measured, key=lambda m: m.record.started_at):
        machines.setdefault(one.machine, {})[one.cell.experiment, one.cell.name] = one
    return [_evaluate(claim, machines) for claim in claims.claims]


def _evaluate(claim: Claim, machines: dict[str, dict[tuple[str, str], Measured]]) -> Evaluation:
    if claim.not_run is not None:
        return Evaluation(claim, "not run", why=claim.not_run)
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
        return Evaluation(claim, "not run", records=tuple(dict.fromkeys(records)), why=str(error))
    value = FORMULAS[claim.formula].compute(values, claim.x)
    verdict, difference = judge(claim.tolerance, claim.paper, value)
    unique = {m.file: m for m in records}
    fewest = min(len(m.record.samples_s) for m in records)
    return Evaluation(claim, verdict, value, difference, fewest, tuple(unique.values()))


def judge(tolerance: Tolerance, paper: float, value: float) -> tuple[Verdict, float]:
    """The verdict on `value` where the paper says `paper`, and how far off it is."""
    difference = value - paper if tolerance.kind == "absolute" else (value - paper) / abs(paper)
    beyond = {"at_most": max(difference, 0.0), "at_least": max(-difference, 0.0)}.get(tolerance.kind, abs(difference))
    if beyond <= tolerance.reproduced:
        return "reproduced", difference
    return ("within shape" if beyond <= tolerance.within_shape else "not reproduced"), difference
