"""What the pages of one cell, one training and one machine show beside the record itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpc_search.record import Score, TrainingRecord
from mpcvit_harness.formulas import operation_name
from mpcvit_harness.report.tables import Field, Shown, Table, number
from mpcvit_harness.report.trainings import Trained
from spu_bench import RunRecord
from spu_bench.record import OperationStats

MOST_CLASSES = 20
"""With more classes a confusion matrix is no picture: the pairs most often confused are shown."""

SHOWN = (
    *(
        "schema_version",
        "status",
        "failure",
        "samples_s",
        "statistics",
        "parties",
        "trust",
        "link_before",
        "link_after",
    ),
    *("accuracy", "logits", "code", "cell_fingerprint", "started_at", "duration_s", "overhead_s", "watch"),
)
"""What the page of a cell shows in a form of its own; the rest follows as it is."""

SHOWN_OF_TRAINING = (
    *("schema_version", "experiment", "name", "stage", "status", "failure", "seed", "test", "private", "alpha", "beta"),
    *("parameters", "params", "steps", "seconds", "images_per_s", "code", "started_at", "fingerprint"),
)
"""The same of a training's page."""

_MOMENTARY = ("load_1min", "swap_used_bytes")
"""What a record says of its machine that is of that moment alone."""


def operations(record: RunRecord) -> Table:
    """A row an operation of the last inference: calls, seconds of each party, what the server sent.

    Those that take less than five milliseconds and send nothing share a row.
    """
    parties = [party for party in record.parties if party.operations]

    def named(names: list[str]) -> list[list[OperationStats]]:
        return [[o for o in party.operations if operation_name(o) in names] for party in parties]

    names = dict.fromkeys(operation_name(o) for party in parties for o in party.operations)
    slight = [
        name
        for name in names
        if all(sum(o.seconds for o in each) < 5e-3 and not any(o.sent_bytes for o in each) for each in named([name]))
    ]
    shown = {name: [name] for name in names if len(slight) == 1 or name not in slight}
    if len(slight) > 1:
        shown[f"{len(slight)} others, local"] = slight
    rows = []
    for name, members in shown.items():
        of = named(members)
        first = of[0]
        sent = [o.sent_bytes for o in first if o.sent_bytes is not None]
        messages = [o.sent_messages for o in first if o.sent_messages is not None]
        rows.append(
            (
                Field(name),
                number(sum(o.calls for o in first), 0),
                *(number(sum(o.seconds for o in each)) for each in of),
                number(sum(sent) / 1e6 if sent else None, 2),
                number(sum(messages) if messages else None, 0),
            )
        )
    rows.sort(key=lambda row: -(row[2].value or 0.0))
    head = ("operation", "calls", *(f"s, {party.role}" for party in parties), "MB sent", "messages sent")
    return Table("operations", head, rows, words=("operation",))


def inferences(record: RunRecord) -> Table:
    """A row an inference of a party: where its seconds went, what the link and the interface carried."""
    rows = [
        (
            number(i, 0),
            Field(party.role),
            number(one.input_s, 4),
            number(one.run_s, 4),
            number(one.reveal_s, 4),
            number(one.cpu_s, 2),
            number(one.link.sent_bytes if one.link else None, 0),
            number(one.link.sent_messages if one.link else None, 0),
            number(one.interface_sent_bytes, 0),
        )
        for party in record.parties
        for i, one in enumerate(party.inferences, 1)
    ]
    head = ("inference", "party", "sharing the input, s", "protocol, s", "revealing, s", "CPU s", "bytes sent")
    return Table("inferences", (*head, "messages sent", "bytes sent by the interface"), rows, words=("party",))


def most_confused(score: Score, pairs: int = 20) -> list[tuple[str, str, int]]:
    """The classes most often taken for others: which, for which, how many images."""
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
    cells: list[Shown] = field(default_factory=list)
    trainings: list[Trained] = field(default_factory=list)

    @property
    def page(self) -> str:
        """Its page in the report."""
        return f"machines/{self.name}.html"

    @property
    def experiments(self) -> Table:
        """A row an experiment: records, those that are valid, remarks, what the harness took."""
        rows = []
        for name in dict.fromkeys(shown.experiment for shown in self.cells):
            of = [shown.record for shown in self.cells if shown.experiment == name]
            overheads = sorted(record.overhead_s for record in of if record.overhead_s is not None)
            watched = [record.watch for record in of if record.watch is not None]
            rows.append(
                (
                    Field(name),
                    number(len(of), 0),
                    number(sum(record.status == "ok" for record in of), 0),
                    number(len(watched), 0),
                    number(sum(bool(watch.remarks) for watch in watched), 0),
                    number(overheads[len(overheads) // 2] if overheads else None, 2),
                    number(sum(record.duration_s for record in of) / 60, 1),
                    Field(min(record.started_at for record in of)[:10]),
                    Field(max(record.started_at for record in of)[:10]),
                )
            )
        head = ("experiment", "records", "valid", "watched", "with remarks", "harness's own s, median", "minutes")
        return Table("experiments", (*head, "first", "last"), rows, words=("experiment", "first", "last"))

    @property
    def commits(self) -> Table:
        """A row a commit of which there are records."""
        counts = Counter((shown.record.code.commit or "", bool(shown.record.code.dirty)) for shown in self.cells)
        counts.update((each.record.code.commit or "", bool(each.record.code.dirty)) for each in self.trainings)
        rows = [
            (Field(commit), Field("with changes" if dirty else "as committed"), number(count, 0))
            for (commit, dirty), count in counts.most_common()
        ]
        return Table("commits", ("commit", "state", "records"), rows, words=("commit", "state"))


def machines(shown: Iterable[Shown], trainings: Iterable[Trained]) -> list[Machine]:
    """Every machine with its records, and each different thing that they say of it."""
    found: dict[str, Machine] = {}
    for one in shown:
        machine = found.setdefault(one.machine, Machine(one.machine))
        machine.cells.append(one)
        _note(machine, _of_run(one.record))
    for trained in trainings:
        machine = found.setdefault(trained.file.parts[0], Machine(trained.file.parts[0]))
        machine.trainings.append(trained)
        _note(machine, [*_flat(trained.record.machine.model_dump()), *_flat(trained.record.versions, "version of ")])
    return [found[name] for name in sorted(found)]


def _of_run(record: RunRecord) -> Iterator[tuple[str, str]]:
    yield from _flat(record.machine.model_dump())
    for name in ("shaper", "congestion_control"):
        yield from _flat({name: getattr(record.executor, name, None)})
    for party in record.parties:
        yield from _flat(party.versions, "version of ")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name not in _MOMENTARY and value is not None:
            yield prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _note(machine: Machine, facts: Iterable[tuple[str, str]]) -> None:
    for name, value in facts:
        values = machine.facts.setdefault(name, [])
        if value not in values:
            values.append(value)


def rest(record: RunRecord | TrainingRecord, shown: Sequence[str]) -> dict[str, Any]:
    """What of a record its page has not shown in another form, as JSON values."""
    return {name: value for name, value in record.model_dump(mode="json").items() if name not in shown and value}
