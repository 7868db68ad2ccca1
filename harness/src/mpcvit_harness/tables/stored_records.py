"""The report's tables of every record in the store: private inferences and trainings, also those that failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpc_search.record import TrainingRecord
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.report.training_rows import TrainingRow
from mpcvit_harness.tables.columns import plain_accuracy, remarks, sent_mb
from mpcvit_harness.tables.table import Column, Entry, Href, Table

MIB = 2**20


@dataclass(frozen=True)
class RunRow:
    """A record of private inferences: machine, experiment and cell, its page in the report, its file in the store."""

    machine: str
    experiment: str
    cell: str
    page: str
    file: str
    record: CellRecord

    @property
    def has_traffic(self) -> bool:
        """Whether a valid run's traffic was counted."""
        return self.record.status == "ok" and bool(self.record.traffic())


def commit(record: CellRecord | TrainingRecord) -> str:
    """The commit of the code that made a record, with + where there were changes."""
    return (record.code.commit or "")[:10] + ("+" if record.code.dirty else "")


def status(record: CellRecord | TrainingRecord) -> Entry:
    """The status in its colour."""
    return Entry(record.status, style=record.status)


def _seconds(row: RunRow, which: str) -> Entry:
    stats = row.record.statistics
    if row.record.status != "ok" or stats is None:
        return Entry()
    value = {"median": stats.median, "low": stats.low, "high": stats.high}[which]
    return Entry(f"{value:,.3f}", value, notes=remarks(row.record) if which == "median" else ())


def _same_class(equal: int, of: int) -> Entry:
    return Entry(f"{equal} of {of}", equal / of) if of else Entry()


def _why(row: RunRow) -> str:
    if row.record.failure:
        return row.record.failure.problem
    return ", ".join(remark.kind for remark in row.record.remarks)


RUN_COLUMNS: tuple[Column[RunRow], ...] = (
    Column("cell", lambda row: Entry(row.cell, hrefs=(Href(row.page, row.cell),))),
    Column("experiment", lambda row: row.experiment, filtered=True),
    Column("machine", lambda row: row.machine, filtered=True),
    Column("network", lambda row: row.record.request.network.name, filtered=True),
    Column("protocol", lambda row: row.record.request.protocol, filtered=True),
    Column("runtime", lambda row: row.record.request.runtime, filtered=True),
    Column("status", lambda row: status(row.record), filtered=True),
    Column("median s", lambda row: _seconds(row, "median"), "number"),
    Column("lowest s", lambda row: _seconds(row, "low"), "number"),
    Column("highest s", lambda row: _seconds(row, "high"), "number"),
    Column("n", lambda row: len(row.record.samples_s) if row.record.status == "ok" else None, "number"),
    Column("rounds", lambda row: row.record.rounds if row.has_traffic else None, "number", ",d"),
    Column("MB sent by a party", lambda row: sent_mb(row.record) if row.has_traffic else None, "number", ",.2f"),
    Column("compile s", lambda row: max((p.compile_s for p in row.record.parties), default=None), "number", ",.2f"),
    Column(
        "peak MiB",
        lambda row: max((p.peak_memory_bytes / MIB for p in row.record.parties), default=None),
        "number",
        ",.0f",
    ),
    Column(
        "largest logit error",
        lambda row: row.record.accuracy.max_abs_error if row.record.accuracy else None,
        "number",
        ",.5g",
    ),
    Column("correctness", lambda row: row.record.correctness, filtered=True),
    Column("same class", lambda row: _same_class(a.top1_equal, a.inputs) if (a := row.record.accuracy) else None),
    Column(
        "same class, margin > 0.1",
        lambda row: _same_class(a.clear_equal, a.clear) if (a := row.record.accuracy) else None,
    ),
    Column("plaintext accuracy", lambda row: plain_accuracy(row.record)),
    Column("remarks", _why),
    Column("commit", lambda row: commit(row.record)),
)


def run_table(rows: Iterable[RunRow]) -> Table:
    """A row per record of private inferences."""
    return Table.of(RUN_COLUMNS, rows, name="records")


def training_table(rows: Iterable[TrainingRow]) -> Table:
    """A row per record of a training."""
    columns: list[Column[TrainingRow]] = [
        Column("run", lambda row: Entry(row.record.name, hrefs=(Href(row.page.as_posix(), row.record.name),))),
        Column("sweep", lambda row: row.record.experiment, filtered=True),
        Column("machine", lambda row: row.file.parts[0], filtered=True),
        Column("stage", lambda row: row.record.stage, filtered=True),
        Column("data", lambda row: row.record.data[0].name if row.record.data else "", filtered=True),
        Column("status", lambda row: status(row.record), filtered=True),
        Column("test accuracy", lambda row: test.accuracy if (test := row.record.test) else None, "number", ".2%"),
        Column("test images", lambda row: test.images if (test := row.record.test) else None, "number", ",d"),
        Column("parameters", lambda row: row.record.parameters, "number", ",d"),
        Column("seconds", lambda row: row.record.seconds, "number", ",.0f"),
        Column("images a second", lambda row: row.record.images_per_s, "number", ",.0f"),
        Column("commit", lambda row: commit(row.record)),
    ]
    return Table.of(columns, rows, name="trainings")
