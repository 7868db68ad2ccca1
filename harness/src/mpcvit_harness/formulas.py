"""How a claim's number follows from cells: a field of a record, and a formula over the fields of several records."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.stats import spearmanr

from mpc_search.record import TrainingRecord
from spu_bench import RunRecord

MEDIAN = "statistics.median"

Number = float | list[float]
"""What a field holds: one number, or one for every head."""

_CELL = re.compile(r"(?P<experiment>\w+)/(?P<cell>[^/#]+)(#(?P<field>[\w.]+))?")
_OPERATION = re.compile(r"operations\.(?P<name>[\w.]+)")


@dataclass(frozen=True)
class Quantity:
    """A field of a cell's record, written experiment/cell or experiment/cell#field.

    Fields: `statistics.median` (seconds, the default), `rounds`, `sent_bytes`, and `operations.NAME`, the seconds that
    the runtime's profile gives an operation, NAME as in `operation_name`. The larger value of the parties counts.
    Trainings are written sweep/run#field: `accuracy` (of the test images, in per cent) and `alpha` (of all heads).
    """

    experiment: str
    cell: str
    field: str = MEDIAN

    @staticmethod
    def parse(text: str) -> Quantity:
        """From its written form; raises ValueError on anything else."""
        match = _CELL.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not experiment/cell or experiment/cell#field")
        field = match["field"] or MEDIAN
        if field not in {**_FIELDS, **_OF_TRAININGS} and not _OPERATION.fullmatch(field):
            known = ", ".join([*_FIELDS, *_OF_TRAININGS])
            raise ValueError(f"{text!r}: a field is one of {known} or operations.NAME")
        return Quantity(match["experiment"], match["cell"], field)

    @property
    def is_training(self) -> bool:
        """Whether it is a field of a training's record."""
        return self.field in _OF_TRAININGS

    def of_training(self, record: TrainingRecord) -> Number:
        """Its value in a training's valid record; raises ValueError where the record does not have it."""
        return _OF_TRAININGS[self.field](record)

    def of(self, record: RunRecord) -> float:
        """Its value in a valid record; raises ValueError where the record does not have it."""
        if operation := _OPERATION.fullmatch(self.field):
            name = operation["name"]
            return max(
                sum(o.seconds for o in party.operations if operation_name(o) == name) for party in record.parties
            )
        return _FIELDS[self.field](record)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def operation_name(operation: _Named) -> str:
    """An operation's name without its dialect, which some versions of SPU print and others do not."""
    return operation.name.removeprefix("pphlo.")


def _median(record: RunRecord) -> float:
    if record.statistics is None:
        raise ValueError("the record has no samples")
    return record.statistics.median


def _rounds(record: RunRecord) -> float:
    return float(_with_counts(record).rounds)


def _sent_bytes(record: RunRecord) -> float:
    return float(max(_with_counts(record).sent_bytes))


def _with_counts(record: RunRecord) -> RunRecord:
    if any(party.inferences[-1].link is None for party in record.parties):
        raise ValueError("the record's traffic was not counted")
    return record


def _accuracy(record: TrainingRecord) -> float:
    if record.test is None:
        raise ValueError("the record has no test accuracy")
    return 100 * record.test.accuracy


def _alpha(record: TrainingRecord) -> list[float]:
    if record.alpha is None or np.ptp(record.alpha) == 0:
        raise ValueError("the record's alphas are all equal, and rank nothing")
    return [value for layer in record.alpha for value in layer]


_FIELDS: dict[str, Callable[[RunRecord], float]] = {MEDIAN: _median, "rounds": _rounds, "sent_bytes": _sent_bytes}
_OF_TRAININGS: dict[str, Callable[[TrainingRecord], Number]] = {"accuracy": _accuracy, "alpha": _alpha}

Values = Sequence[Any]
"""Numbers; for a rank correlation, lists of numbers."""


@dataclass(frozen=True)
class Formula:
    """What a claim computes: from how many values (None: two or more), of how many x, and in what unit."""

    compute: Callable[[Values, Sequence[float]], float]
    takes: int | None
    takes_x: int = 0
    unit: str = ""

    def accepts(self, quantities: Sequence[Quantity], x: Sequence[float]) -> bool:
        """Whether it can be computed of so many quantities and x."""
        enough = len(quantities) >= 2 if self.takes is None else len(quantities) == self.takes
        return enough and len(x) == self.takes_x


def _over_line(v: Values, x: Sequence[float]) -> float:
    return float(v[1] / (v[0] + (v[2] - v[0]) * (x[1] - x[0]) / (x[2] - x[0])))


def _rank_correlation(v: Values, x: Sequence[float]) -> float:
    if len(v[0]) != len(v[1]):
        raise ValueError("the two searches have different shapes")
    return float(spearmanr(v[0], v[1]).statistic)


FORMULAS: dict[str, Formula] = {
    "value": Formula(lambda v, x: v[0], 1, unit="s"),
    "ratio": Formula(lambda v, x: v[0] / v[1], 2),
    "difference": Formula(lambda v, x: v[0] - v[1], 2, unit="s"),
    "share": Formula(lambda v, x: (v[0] - v[1]) / v[0], 2),
    "part": Formula(lambda v, x: v[0] / (v[1] - v[2]), 3),
    "per_unit": Formula(lambda v, x: (v[0] - v[1]) / x[0], 2, 1, "s"),
    "over_line": Formula(_over_line, 3, 3),
    "spread": Formula(lambda v, x: (max(v) - min(v)) / (sum(v) / len(v)), None),
    "rank_correlation": Formula(_rank_correlation, 2),
}
"""a; a / b; a - b; (a - b) / a; a / (b - c); (a - b) / x; b over the line from a to c at x; (max - min) / mean;
Spearman's rank correlation of a and b."""
