"""The report's tables as values: one set of rows for the page, for CSV and for Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpcvit_harness import claims_tables
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.claims import Claims
from mpcvit_harness.report.trainings import Trained
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import compared, markdown, plain_accuracy
from mpcvit_harness.verdicts import Evaluation


@dataclass(frozen=True)
class Field:
    """What stands in a row's column. `value` is the number behind the text, which sorts and goes into CSV.

    `links` are (address, text) and stand in place of the text, `kind` colours it, `anchor` names it within the page.
    """

    text: str = ""
    value: float | None = None
    links: tuple[tuple[str, str], ...] = ()
    kind: str = ""
    anchor: str = ""

    @property
    def sort(self) -> str:
        """What to sort by where the text alone is no number."""
        if self.value is None:
            return ""
        try:
            float(self.text.replace(",", ""))
        except ValueError:
            return f"{self.value:.6g}"
        return ""


@dataclass(frozen=True)
class Table:
    """Rows under their headings. `filters` are the columns to choose by, `words` those that hold text."""

    name: str
    head: tuple[str, ...]
    rows: Sequence[tuple[Field, ...]]
    filters: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def choices(self, column: str) -> list[str]:
        """The different texts of a column, in their order."""
        at = self.head.index(column)
        return list(dict.fromkeys(row[at].text for row in self.rows if row[at].text))

    def csv(self) -> str:
        """As CSV with a heading: numbers as they are, links as their addresses."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.head)
        for row in self.rows:
            writer.writerow(
                (field.text or " ".join(href for href, _ in field.links)) if field.value is None else field.value
                for field in row
            )
        return stream.getvalue()

    def markdown(self) -> str:
        """As a Markdown table."""
        rows = (
            tuple(" ".join(f"[{text}]({href})" for href, text in field.links) or field.text for field in row)
            for row in self.rows
        )
        return markdown(self.head, (tuple(text.replace("|", "\\|") for text in row) for row in rows))


@dataclass(frozen=True)
class Shown:
    """A record in the report: its machine, its experiment, its cell's id, its page there, its file in the store."""

    machine: str
    experiment: str
    cell: str
    page: str
    file: str
    record: CellRecord


def number(value: float | None, digits: int = 3) -> Field:
    """A number with so many decimals; empty for None."""
    return Field() if value is None else Field(f"{value:,.{digits}f}", value)


def of_claims(claims: Claims, evaluations: Iterable[Evaluation]) -> Table:
    """A row a claim, its records linked."""
    rows = []
    for e in evaluations:
        claim = e.claim
        rows.append(
            (
                Field(claim.text, anchor=claim.id),
                Field(e.verdict, kind=e.verdict.replace(" ", "-")),
                Field(claims_tables.number(claim.paper, claim.unit), claim.paper),
                Field(claims_tables.number(e.value, claim.unit), e.value),
                number(e.n or None, 0),
                Field(claims_tables.off(e), e.difference),
                Field(claims_tables.limits(claim.tolerance)),
                Field(links=tuple((m.file.as_posix(), str(i)) for i, m in enumerate(e.records, 1))),
                Field(claims.groups[claim.group]),
                Field(e.why),
                Field(claim.source),
                Field(claim.id),
            )
        )
    head = ("claim", "verdict", "paper", "measured", "n", "off by", "reproduced, within shape", "records")
    more = ("group", "why not run", "source", "id")
    return Table("claims", (*head, *more), rows, ("verdict", "group"), ("claim", "verdict", "records", *more))


def of_records(shown: Iterable[Shown]) -> Table:
    """A row a record, also of what failed."""
    head = ("cell", "experiment", "machine", "network", "protocol", "runtime", "status", "median s", "lowest s")
    more = ("highest s", "n", "rounds", "MB sent by a party", "compile s", "peak MiB", "largest logit error")
    last = ("same class", "same class, margin > 0.1", "plaintext accuracy", "remarks", "commit")
    words = (*head[:7], *last[2:])
    return Table("records", (*head, *more, *last), [_record(row) for row in shown], head[1:7], words)


def _record(row: Shown) -> tuple[Field, ...]:
    record, request = row.record, row.record.request
    stats = record.statistics if record.status == "ok" else None
    counted = record.status == "ok" and bool(record.traffic())
    parties, accuracy = record.parties, record.accuracy
    remarks = [remark.kind for remark in record.remarks]
    return (
        Field(row.cell, links=((row.page, row.cell),)),
        Field(row.experiment),
        Field(row.machine),
        Field(request.network.name),
        Field(request.protocol),
        Field(request.runtime),
        Field(record.status, kind=record.status),
        number(stats.median if stats else None),
        number(stats.low if stats else None),
        number(stats.high if stats else None),
        number(stats.n if stats else None, 0),
        number(record.rounds if counted else None, 0),
        number(max(record.sent_bytes) / 1e6 if counted else None, 2),
        number(max(party.compile_s for party in parties) if parties else None, 2),
        number(max(party.peak_memory_bytes for party in parties) / 2**20 if parties else None, 0),
        number(accuracy.max_abs_error if accuracy else None, 5),
        Field(f"{accuracy.top1_equal} of {accuracy.inputs}", accuracy.top1_equal / accuracy.inputs)
        if accuracy
        else Field(),
        Field(f"{accuracy.clear_equal} of {accuracy.clear}", accuracy.clear_equal / accuracy.clear)
        if accuracy and accuracy.clear
        else Field(),
        Field(plain_accuracy(record)),
        Field(record.failure.problem if record.failure else ", ".join(remarks)),
        Field((record.code.commit or "")[:10] + ("+" if record.code.dirty else "")),
    )


def of_peers(measured: Iterable[StoredRun]) -> Table:
    """The same model on CrypTen and on SPU."""
    rows = [
        (
            Field(peer.system, links=((peer.measured.file.as_posix(), peer.system),)),
            Field(peer.model),
            Field(peer.measured.cell.network_name),
            Field(peer.measured.seconds, peer.seconds),
            number(peer.measured.record.rounds, 0),
            number(max(peer.measured.record.sent_bytes) / 1e6, 1),
            number(peer.measured.record.accuracy.max_abs_error if peer.measured.record.accuracy else None, 4),
            number(peer.times_as_fast, 2),
            Field(peer.measured.record.trust or ""),
        )
        for peer in compared(measured)
    ]
    head = ("system", "model", "network", "seconds: median [range]", "rounds", "MB sent by a party")
    more = ("largest logit error", "times as fast as accurate CrypTen", "trust")
    return Table("peers", (*head, *more), rows, ("model", "network"), ("system", "model", "network", "trust"))


def of_trainings(trainings: Iterable[Trained]) -> Table:
    """A row a training."""
    rows = []
    for trained in trainings:
        record, test = trained.record, trained.record.test
        rows.append(
            (
                Field(record.name, links=((trained.page.as_posix(), record.name),)),
                Field(record.experiment),
                Field(trained.file.parts[0]),
                Field(record.stage),
                Field(record.data[0].name if record.data else ""),
                Field(record.status, kind=record.status),
                Field(f"{test.accuracy:.2%}", test.accuracy) if test else Field(),
                number(test.images if test else None, 0),
                number(record.parameters, 0),
                number(record.seconds, 0),
                number(record.images_per_s, 0),
                Field((record.code.commit or "")[:10] + ("+" if record.code.dirty else "")),
            )
        )
    head = ("run", "sweep", "machine", "stage", "data", "status", "test accuracy", "test images", "parameters")
    return Table("trainings", (*head, "seconds", "images a second", "commit"), rows, head[1:6], (*head[:6], "commit"))
