"""The tables of the pages of one cell, one training and one machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpc_search.record import Score, TrainingRecord
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.formulas import operation_name
from mpcvit_harness.report.training_rows import TrainingRow
from mpcvit_harness.tables.stored_records import RunRow
from mpcvit_harness.tables.table import Column, Table
from spu_bench.record import Inference, PartyOutcome

MOST_CLASSES = 20
"""With more classes than this a confusion matrix is too large to read: the pairs most often confused are shown."""

SHOWN = (
    *("schema_version", "status", "failure", "samples_s", "statistics", "parties", "trust", "link_before"),
    *("link_after", "accuracy", "correctness", "logits", "code", "cell_fingerprint", "started_at", "duration_s"),
    *("overhead_s", "watch"),
)
"""The fields of a run's record that its page shows in a form of their own; the others follow as they are."""

SHOWN_OF_TRAINING = (
    *("schema_version", "experiment", "name", "stage", "status", "failure", "seed", "test", "private", "alpha", "beta"),
    *("parameters", "params", "steps", "seconds", "images_per_s", "code", "started_at", "fingerprint"),
)
"""The same for a training's page."""

SLIGHT_S = 5e-3
"""Operations that take less than this and send nothing share a row."""

_MOMENTARY = ("load_1min", "swap_used_bytes")
"""The fields of a record's machine that hold for that moment alone."""


@dataclass(frozen=True)
class _OperationRow:
    """The operations of one name, or the slight ones together: of each party the sums."""

    name: str
    calls: int
    seconds: list[float]
    sent_bytes: int | None
    sent_messages: int | None


def _operation_row(name: str, names: Sequence[str], parties: Sequence[PartyOutcome]) -> _OperationRow:
    of = [[o for o in party.operations if operation_name(o) in names] for party in parties]
    sent = [o.sent_bytes for o in of[0] if o.sent_bytes is not None]
    messages = [o.sent_messages for o in of[0] if o.sent_messages is not None]
    return _OperationRow(
        name,
        sum(o.calls for o in of[0]),
        [sum(o.seconds for o in each) for each in of],
        sum(sent) if sent else None,
        sum(messages) if messages else None,
    )


def operations(record: CellRecord) -> Table:
    """A row per operation of the last inference: calls, seconds of each party, and what the server sent."""
    parties = [party for party in record.parties if party.operations]
    names = dict.fromkeys(operation_name(o) for party in parties for o in party.operations)
    rows = [_operation_row(name, [name], parties) for name in names]
    slight = [row for row in rows if max(row.seconds) < SLIGHT_S and not row.sent_bytes]
    if len(slight) > 1:
        rows = [row for row in rows if row not in slight]
        rows.append(_operation_row(f"{len(slight)} others, local", [row.name for row in slight], parties))

    def seconds_of(at: int) -> Column[_OperationRow]:
        return Column(f"s, {parties[at].role}", lambda row: row.seconds[at], "number", ",.3f")

    columns: list[Column[_OperationRow]] = [
        Column("operation", lambda row: row.name),
        Column("calls", lambda row: row.calls, "number", ",d"),
        *map(seconds_of, range(len(parties))),
        Column("MB sent", lambda row: None if row.sent_bytes is None else row.sent_bytes / 1e6, "number", ",.2f"),
        Column("messages sent", lambda row: row.sent_messages, "number", ",d"),
    ]
    return Table.of(columns, sorted(rows, key=lambda row: -row.seconds[0]), name="operations")


@dataclass(frozen=True)
class _InferenceRow:
    at: int
    role: str
    of: Inference


def inferences(record: CellRecord) -> Table:
    """A row per inference of a party: its seconds by phase, and the traffic of link and interface."""
    rows = [_InferenceRow(i, party.role, one) for party in record.parties for i, one in enumerate(party.inferences, 1)]
    columns: list[Column[_InferenceRow]] = [
        Column("inference", lambda row: row.at, "number"),
        Column("party", lambda row: row.role),
        Column("sharing the input", lambda row: row.of.input_s, "number", ",.4f", "s"),
        Column("protocol", lambda row: row.of.run_s, "number", ",.4f", "s"),
        Column("revealing", lambda row: row.of.reveal_s, "number", ",.4f", "s"),
        Column("CPU s", lambda row: row.of.cpu_s, "number", ",.2f"),
        Column("bytes sent", lambda row: row.of.link.sent_bytes if row.of.link else None, "number", ",d"),
        Column("messages sent", lambda row: row.of.link.sent_messages if row.of.link else None, "number", ",d"),
        Column("bytes sent by the interface", lambda row: row.of.interface_sent_bytes, "number", ",d"),
    ]
    return Table.of(columns, rows, name="inferences")


def most_confused(score: Score, pairs: int = 20) -> list[tuple[str, str, int]]:
    """The classes most often taken for others: the true class, the predicted class, and how many images."""
    counts = [
        (score.classes[i].name, score.classes[j].name, images)
        for i, row in enumerate(score.confusion)
        for j, images in enumerate(row)
        if i != j and images
    ]
    return sorted(counts, key=lambda found: -found[2])[:pairs]


@dataclass
class Machine:
    """A machine of the store, as its records describe it."""

    name: str
    facts: dict[str, list[str]] = field(default_factory=dict)
    cells: list[RunRow] = field(default_factory=list)
    trainings: list[TrainingRow] = field(default_factory=list)

    @property
    def page(self) -> str:
        """Its page in the report."""
        return f"machines/{self.name}.html"

    @property
    def experiments(self) -> Table:
        """A row per experiment: records, valid ones, remarks, and the harness's own seconds."""
        rows: dict[str, list[CellRecord]] = {}
        for row in self.cells:
            rows.setdefault(row.experiment, []).append(row.record)

        def overhead_s(records: list[CellRecord]) -> float | None:
            found = sorted(record.overhead_s for record in records if record.overhead_s is not None)
            return found[len(found) // 2] if found else None

        def remarked(records: list[CellRecord]) -> int:
            return sum(bool(record.remarks) for record in records)

        columns: list[Column[tuple[str, list[CellRecord]]]] = [
            Column("experiment", lambda row: row[0]),
            Column("records", lambda row: len(row[1]), "number"),
            Column("valid", lambda row: sum(record.status == "ok" for record in row[1]), "number"),
            Column("watched", lambda row: sum(record.watch is not None for record in row[1]), "number"),
            Column("with remarks", lambda row: remarked(row[1]), "number"),
            Column("harness's own s, median", lambda row: overhead_s(row[1]), "number", ",.2f"),
            Column("minutes", lambda row: sum(record.duration_s for record in row[1]) / 60, "number", ",.1f"),
            Column("first", lambda row: min(record.started_at for record in row[1])[:10]),
            Column("last", lambda row: max(record.started_at for record in row[1])[:10]),
        ]
        return Table.of(columns, rows.items(), name="experiments")

    @property
    def commits(self) -> Table:
        """A row per commit of which there are records."""
        counts = Counter((row.record.code.commit or "", bool(row.record.code.dirty)) for row in self.cells)
        counts.update((row.record.code.commit or "", bool(row.record.code.dirty)) for row in self.trainings)
        columns: list[Column[tuple[tuple[str, bool], int]]] = [
            Column("commit", lambda row: row[0][0]),
            Column("state", lambda row: "with changes" if row[0][1] else "as committed"),
            Column("records", lambda row: row[1], "number"),
        ]
        return Table.of(columns, counts.most_common(), name="commits")


def machines(runs: Iterable[RunRow], trainings: Iterable[TrainingRow]) -> list[Machine]:
    """Every machine with its records, and each different thing that they say of it."""
    found: dict[str, Machine] = {}
    for row in runs:
        machine = found.setdefault(row.machine, Machine(row.machine))
        machine.cells.append(row)
        _add_facts(machine, _facts_of_run(row.record))
    for training in trainings:
        machine = found.setdefault(training.file.parts[0], Machine(training.file.parts[0]))
        machine.trainings.append(training)
        facts = (*_flat(training.record.machine.model_dump()), *_flat(training.record.versions, "version of "))
        _add_facts(machine, facts)
    return [found[name] for name in sorted(found)]


def _facts_of_run(record: CellRecord) -> Iterator[tuple[str, str]]:
    yield from _flat(record.machine.model_dump())
    for name in ("shaper", "congestion_control"):
        yield from _flat({name: getattr(record.executor, name, None)})
    for party in record.parties:
        yield from _flat(party.versions, "version of ")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name not in _MOMENTARY and value is not None:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _add_facts(machine: Machine, facts: Iterable[tuple[str, str]]) -> None:
    for name, value in facts:
        values = machine.facts.setdefault(name, [])
        if value not in values:
            values.append(value)


def other_fields(record: CellRecord | TrainingRecord, shown: Sequence[str]) -> dict[str, Any]:
    """The fields of a record that its page has not shown in another form, as JSON values."""
    return {name: value for name, value in record.model_dump(mode="json").items() if name not in shown and value}
