"""How a claim's number follows from cells: a field of a record, and a formula over the fields of several."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spu_bench import RunRecord
from spu_bench.profile import OperationStats

MEDIAN = "statistics.median"

_CELL = re.compile(r"(?P<experiment>\w+)/(?P<cell>[^/#]+)(#(?P<field>[\w.]+))?")
_OPERATION = re.compile(r"operations\.(?P<name>[\w.]+)")


@dataclass(frozen=True)
class Quantity:
    """A field of a cell's record, written experiment/cell or experiment/cell#field.

    Fields: `statistics.median` (seconds, the default), `rounds`, `sent_bytes`, and `operations.NAME`, the seconds that
    the runtime's profile gives an operation, NAME as in `operation_name`. Of the parties' values the larger is taken.
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
        if field not in _FIELDS and not _OPERATION.fullmatch(field):
            raise ValueError(f"{text!r}: a field is one of {', '.join(_FIELDS)} or operations.NAME")
        return Quantity(match["experiment"], match["cell"], field)

    def of(self, record: RunRecord) -> float:
        """Its value in a valid record; raises ValueError where the record does not have it."""
        if operation := _OPERATION.fullmatch(self.field):
            name = operation["name"]
            return max(
                sum(o.seconds for o in party.operations if operation_name(o) == name) for party in record.parties
            )
        return _FIELDS[self.field](record)


def operation_name(operation: OperationStats) -> str:
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


_FIELDS: dict[str, Callable[[RunRecord], float]] = {MEDIAN: _median, "rounds": _rounds, "sent_bytes": _sent_bytes}

Values = Sequence[float]


@dataclass(frozen=True)
class Formula:
    """What a claim computes: from how many values (None: two or more), whether it takes x, and in what unit."""

    compute: Callable[[Values, Values], float]
    takes: int | None
    takes_x: int = 0
    unit: str = ""

    def takes_these(self, quantities: Sequence[Quantity], x: Values) -> bool:
        """Whether it can be computed of as many."""
        enough = len(quantities) >= 2 if self.takes is None else len(quantities) == self.takes
        return enough and len(x) == self.takes_x


def _over_line(v: Values, x: Values) -> float:
    return v[1] / (v[0] + (v[2] - v[0]) * (x[1] - x[0]) / (x[2] - x[0]))


FORMULAS: dict[str, Formula] = {
    "value": Formula(lambda v, x: v[0], 1, unit="s"),
    "ratio": Formula(lambda v, x: v[0] / v[1], 2),
    "difference": Formula(lambda v, x: v[0] - v[1], 2, unit="s"),
    "share": Formula(lambda v, x: (v[0] - v[1]) / v[0], 2),
    "part": Formula(lambda v, x: v[0] / (v[1] - v[2]), 3),
    "per_unit": Formula(lambda v, x: (v[0] - v[1]) / x[0], 2, 1, "s"),
    "over_line": Formula(_over_line, 3, 3),
    "spread": Formula(lambda v, x: (max(v) - min(v)) / (sum(v) / len(v)), None),
}
"""a; a / b; a - b; (a - b) / a; a / (b - c); (a - b) / x; b over the line from a to c at x; (max - min) / mean."""
