"""The table of `mpcvit-report compare`: two sets of records, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

from mpcvit_harness.compare import Difference
from mpcvit_harness.tables.columns import remarks, sent_mb
from mpcvit_harness.tables.table import Column, Entry, Table
from spu_bench import RunRecord


def comparison(differences: Sequence[Difference]) -> Table:
    """A row per cell that both sides have a valid record of."""

    def side(record: RunRecord) -> Entry:
        assert record.statistics is not None
        seconds = record.statistics.median
        return Entry(f"{seconds:.3f} (n = {len(record.samples_s)})", seconds, notes=remarks(record))

    def change(difference: Difference) -> Entry:
        one, other = difference.medians
        return Entry(f"{other - one:+.3f} ({(other - one) / one:+.1%})", other - one)

    def interval(difference: Difference) -> str:
        limits = difference.interval_95
        return "" if limits is None else f"[{limits[0]:+.3f}, {limits[1]:+.3f}]"

    columns: list[Column[Difference]] = [
        Column("cell", lambda difference: difference.cell),
        Column("A: median s", lambda difference: side(difference.a), "number"),
        Column("B: median s", lambda difference: side(difference.b), "number"),
        Column("B - A, s", change, "number"),
        Column("95 %", interval, "number"),
        Column("p", lambda difference: difference.p, "number", ".3f"),
        Column("", lambda difference: difference.verdict),
        Column("rounds", lambda d: _change(f"{d.a.rounds:,}", f"{d.b.rounds:,}"), "number"),
        Column("MB sent by a party", lambda d: _change(f"{sent_mb(d.a):.1f}", f"{sent_mb(d.b):.1f}"), "number"),
    ]
    return Table.of(columns, differences, name="comparison")


def _change(a: str, b: str) -> str:
    return a if a == b else f"{a} -> {b}"
