"""Tables of claims and of this project's targets, with their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpcvit_harness.claims import Claims
from mpcvit_harness.claims_file import Section, Tolerance
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import remarks
from mpcvit_harness.tables.registry import Context, group_table, table
from mpcvit_harness.tables.table import Column, Entry, Href, Table
from mpcvit_harness.verdicts import VERDICTS, Evaluation, Verdict

TARGET_VERDICTS: dict[Verdict, str] = {
    "reproduced": "met",
    "within shape": "nearly met",
    "not reproduced": "missed",
    "not run": "not run",
}
"""The verdicts in the words for a target."""

KINDS = {"at_most": "upper bound", "at_least": "lower bound", "above": "order"}
"""Kinds of tolerances in words; the others are their own."""


def number(value: float | None, unit: str) -> str:
    """A value with its unit; counts are whole numbers."""
    if value is None:
        return ""
    if unit == "rounds":
        return f"{value:,.0f} {unit}"
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"


def measured_value(evaluation: Evaluation) -> Entry:
    """The measured value with the deviation over seeds, and the remarks on the records behind it."""
    text = number(evaluation.value, evaluation.claim.unit)
    if evaluation.deviation is not None:
        text += f" (s.d. {evaluation.deviation:.2f})"
    records = [stored.record for stored in evaluation.records if isinstance(stored, StoredRun)]
    return Entry(text, evaluation.value, notes=remarks(*records) if evaluation.value is not None else ())


def off_by(evaluation: Evaluation) -> Entry:
    """How far the measured value is from the stated one."""
    difference = evaluation.difference
    if difference is None:
        return Entry()
    if evaluation.claim.tolerance.kind in ("absolute", "above"):
        return Entry(f"{difference:+.2f} {evaluation.claim.unit}".rstrip(), difference)
    return Entry(f"{difference * 100:+.1f} %", difference)


def limits(tolerance: Tolerance) -> str:
    """The limits of a tolerance: for reproduced, and for within shape."""
    if tolerance.kind == "absolute":
        return f"± {tolerance.reproduced:g}, ± {tolerance.within_shape:g}"
    if tolerance.kind == "above":
        return "interval above, mean above"
    sign = {"at_most": "+ ", "at_least": "- "}.get(tolerance.kind, "± ")
    return f"{sign}{tolerance.reproduced * 100:g} %, {sign}{tolerance.within_shape * 100:g} %"


def _columns(stated: str, words: dict[Verdict, str] | None = None) -> list[Column[Evaluation]]:
    """The columns of claims; `stated` heads the stated number, `words` are the verdicts where they have other words."""

    def verdict(e: Evaluation) -> Entry:
        return Entry((words or {}).get(e.verdict, e.verdict), style=e.verdict.replace(" ", "-"))

    limits_title = "reproduced, within shape" if words is None else "met, nearly met"
    return [
        Column("claim", lambda e: Entry(e.claim.text, anchor=e.claim.id)),
        Column("verdict", verdict, filtered=True),
        Column(stated, lambda e: Entry(number(e.claim.stated, e.claim.unit), e.claim.stated), "number"),
        Column("measured", measured_value, "number"),
        Column("n", lambda e: e.n or None, "number"),
        Column("off by", off_by, "number"),
        Column(limits_title, lambda e: limits(e.claim.tolerance)),
        Column("records", _records, "records"),
    ]


def _records(evaluation: Evaluation) -> Entry:
    files = (stored.file.as_posix() for stored in evaluation.records)
    return Entry(hrefs=tuple(Href(file, str(i)) for i, file in enumerate(files, 1)))


def claims_of(evaluations: Iterable[Evaluation]) -> Table:
    """A row per claim of a publication."""
    return _of_page(_columns("paper"), evaluations)


def targets_of(evaluations: Iterable[Evaluation]) -> Table:
    """A row per target of this project."""
    return _of_page(_columns("target", TARGET_VERDICTS), evaluations)


def _of_page(columns: list[Column[Evaluation]], evaluations: Iterable[Evaluation]) -> Table:
    """The columns in the order of a page, where a claim that is not run says why in place of its verdict."""

    def verdict(e: Evaluation) -> Entry:
        return columns[1].entry(e) if e.value is not None else Entry(f"not run: {e.why}", style="not-run")

    claim, _, *others, records = columns
    return Table.of([claim, *others, Column("verdict", verdict), records], evaluations)


def every_claim(claims: Claims, evaluations: Iterable[Evaluation], *, targets: bool = False) -> Table:
    """Every claim of a publication, or every target, with group, source and id: the report's table."""
    columns: list[Column[Evaluation]] = [
        *(_columns("target", TARGET_VERDICTS) if targets else _columns("paper")),
        Column("group", lambda e: claims.groups[e.claim.group].title, filtered=True),
        Column("why not run", lambda e: e.why),
        Column("source", lambda e: e.claim.source),
        Column("id", lambda e: e.claim.id),
    ]
    rows = (e for e in evaluations if claims.is_target(e.claim) is targets)
    return Table.of(columns, rows, name="targets" if targets else "claims")


@dataclass(frozen=True)
class _Count:
    """How many claims of a section have which verdict."""

    section: Section
    verdicts: Counter[Verdict]

    @property
    def published(self) -> int:
        return self.verdicts.total()

    @property
    def measured(self) -> int:
        return self.published - self.verdicts["not run"]


def summary(claims: Claims, evaluations: Sequence[Evaluation]) -> Table:
    """How many claims of each section are published, measured and within tolerance. No claim is counted twice."""
    counts = []
    for name, section in claims.sections.items():
        if section.kind == "published":
            found = Counter(e.verdict for e in evaluations if claims.groups[e.claim.group].section == name)
            counts.append(_Count(section, found))
    columns: list[Column[_Count]] = [
        Column("claims", lambda count: count.section.title),
        Column("within tolerance", lambda count: count.verdicts["reproduced"], "number"),
        Column("measured", lambda count: count.measured, "number"),
        Column("published", lambda count: count.published, "number"),
        *(_verdict_count(verdict) for verdict in VERDICTS if verdict != "reproduced"),
    ]
    note = (
        "A number that several rows repeat for the same cell is counted once. Other readings of a published row, and "
        "this project's own targets, are not counted."
    )
    return Table.of(columns, counts, note, name="verdicts")


def _verdict_count(verdict: Verdict) -> Column[_Count]:
    return Column(verdict, lambda count: count.verdicts[verdict] or None, "number")


@table("claims")
def claims_summary(context: Context) -> Table:
    """The summary of all claims."""
    assert context.claims is not None
    return summary(context.claims, context.evaluations)


@group_table("claims")
def claims_of_group(context: Context, group: str) -> Table:
    """A row per claim of one group; of targets where the group holds targets."""
    assert context.claims is not None
    found = [e for e in context.evaluations if e.claim.group == group]
    is_target = context.claims.sections[context.claims.groups[group].section].kind == "target"
    return targets_of(found) if is_target else claims_of(found)


@table("targets")
def targets(context: Context) -> Table:
    """This project's own targets."""
    return claims_of_group(context, "targets")


@table("tolerances")
def tolerances(context: Context) -> Table:
    """A row per tolerance."""
    assert context.claims is not None
    columns: list[Column[tuple[str, Tolerance]]] = [
        Column("tolerance", lambda row: row[0], "code"),
        Column("kind", lambda row: KINDS.get(row[1].kind, row[1].kind)),
        Column("reproduced, within shape", lambda row: limits(row[1])),
        Column("for", lambda row: row[1].about),
    ]
    return Table.of(columns, context.claims.tolerances.items())
