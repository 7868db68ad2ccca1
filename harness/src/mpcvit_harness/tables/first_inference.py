"""Tables of single experiments: first inferences, attention variants, and what the harness itself takes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from mpcvit_harness.cells import ModelSpec
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import RECORD, SENT, executor_name, href, hrefs, logit_error, median, sent_mb, spread
from mpcvit_harness.tables.open_division import SAME_CLASS
from mpcvit_harness.tables.registry import Context, table
from mpcvit_harness.tables.table import Column, Table
from vit_models import describe, get_config

OVERHEAD_S = {"netns": 3.0, "docker": 8.0}
"""What the harness may take around the parties of a cell, by executor."""


@table("first_inferences")
def first_inferences(context: Context) -> Table:
    """Private inferences over the loopback device: classes, errors, rounds and bytes."""
    accuracy, _, error, clear, same = SAME_CLASS
    columns: list[Column[StoredRun]] = [
        Column("model", lambda run: run.cell.name),
        accuracy,
        Column("protocol", lambda run: run.cell.protocol),
        Column("rounds (messages of a party)", lambda run: run.record.rounds, "number", ",d"),
        SENT,
        error,
        clear,
        same,
        RECORD,
    ]
    return Table.of(columns, (run for run in context.runs if run.cell.experiment == "first_inference"))


@dataclass(frozen=True)
class _Variant:
    name: str
    lan: StoredRun
    wan: StoredRun
    parameters: int
    macs: int


@table("variants")
def variants(context: Context) -> Table:
    """One row per attention variant: its size, rounds, bytes, seconds and error; the fastest first."""
    by_name: dict[str, dict[str, StoredRun]] = {}
    for run in context.experiment("variants"):
        by_name.setdefault(run.cell.labels["form"], {})[run.cell.network_name] = run
    rows = []
    for name, of in by_name.items():
        if not {"wan", "lan"} <= of.keys():
            continue
        spec = of["wan"].cell.model
        assert isinstance(spec, ModelSpec)
        size = describe(
            get_config(spec.config, num_classes=spec.num_classes, **spec.overrides), attention=spec.attention
        )
        rows.append(_Variant(name, of["lan"], of["wan"], size.parameters, size.macs))
    columns: list[Column[_Variant]] = [
        Column("variant", lambda row: row.name, "code"),
        Column("parameters", lambda row: row.parameters, "number", ",d"),
        Column("million multiply-adds", lambda row: row.macs / 1e6, "number", ".1f"),
        Column("rounds", lambda row: row.wan.record.rounds, "number", ",d"),
        Column("MB sent by a party", lambda row: sent_mb(row.wan.record), "number", ",.1f"),
        Column("s over lan", lambda row: spread(row.lan), "number"),
        Column("s over wan", lambda row: spread(row.wan), "number"),
        Column("largest logit error", lambda row: logit_error(row.wan).number, "number", ".5f"),
        Column("", lambda row: hrefs((row.lan, row.wan)), "records"),
    ]
    return Table.of(columns, sorted(rows, key=lambda row: round(median(row.wan), 2)))


@dataclass(frozen=True)
class _Overhead:
    """The cells of one executor and network, of the newest code there."""

    executor: str
    network: str
    runs: list[StoredRun]

    @property
    def seconds(self) -> list[float]:
        return [run.record.overhead_s or 0.0 for run in self.runs]

    @property
    def probing_s(self) -> list[float]:
        return [sum(probe.seconds for probe in run.record.link_before + run.record.link_after) for run in self.runs]

    @property
    def longest(self) -> StoredRun:
        return max(self.runs, key=lambda run: run.record.overhead_s or 0.0)


@table("overhead")
def overhead(context: Context) -> Table:
    """Seconds that the harness took around the parties of a cell, by executor and network, of the newest code there."""
    kinds: dict[tuple[str, str], list[StoredRun]] = {}
    for run in sorted(context.runs, key=lambda run: run.record.started_at, reverse=True):
        if run.record.overhead_s is not None:
            key = executor_name(run), run.record.request.network.name
            of = kinds.setdefault(key, [])
            if not of or of[0].record.code.source == run.record.code.source:
                of.append(run)
    columns: list[Column[_Overhead]] = [
        Column("executor", lambda row: row.executor),
        Column("network", lambda row: row.network),
        Column("cells", lambda row: len(row.runs), "number"),
        Column("overhead s: median", lambda row: statistics.median(row.seconds), "number", ".1f"),
        Column("largest", lambda row: max(row.seconds), "number", ".1f"),
        Column("of it two probes", lambda row: statistics.median(row.probing_s), "number", ".1f"),
        Column("at most", lambda row: OVERHEAD_S.get(row.executor), "number", "g"),
        Column("", lambda row: href(row.longest, "longest"), "records"),
    ]
    return Table.of(columns, (_Overhead(*key, of) for key, of in sorted(kinds.items())))
