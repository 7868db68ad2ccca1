"""Tables of docs/open-division.md and of the option presets, from the records of the `open_*` experiments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mpcvit_harness.cells import ModelSpec
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import (
    COST,
    ERROR,
    MESSAGES,
    MODEL,
    NETWORK,
    RECORD,
    SECONDS,
    SENT,
    busier_cpu_s,
    floor_s,
    label,
    median,
    plain_accuracy,
    sent_mb,
)
from mpcvit_harness.tables.correctness import correctness_columns
from mpcvit_harness.tables.registry import Context, table
from mpcvit_harness.tables.table import Column, Entry, Table
from spu_bench import PRESETS

GIB = 2**30


def _runs(context: Context, name: str, *, may_be_wrong: bool = False) -> list[StoredRun]:
    """The records of `open_NAME`, by attention and network."""
    found = context.experiment(f"open_{name}", may_be_wrong=may_be_wrong)
    return sorted(found, key=lambda run: (run.cell.labels["attention"], run.cell.network_name, run.cell.name))


@table("open_batches")
def batches(context: Context) -> Table:
    """Batches and streams: seconds an image, images a minute, and seconds beside those of one image."""
    runs = _runs(context, "batches")
    alone = {
        (run.cell.labels["attention"], run.machine): median(run)
        for run in runs
        if run.cell.labels["images"] == "batch_1"
    }

    def each_s(run: StoredRun) -> float:
        assert isinstance(run.cell.model, ModelSpec)
        return median(run) / run.cell.model.batch

    def times_one(run: StoredRun) -> float | None:
        one = alone.get((run.cell.labels["attention"], run.machine))
        return median(run) / one if one else None

    columns: list[Column[StoredRun]] = [
        MODEL,
        Column("images", lambda run: run.cell.labels["images"].replace("_", " of ")),
        *COST,
        Column("floor", lambda run: floor_s(run.record), "number", ".1f", "s"),
        Column("s an image", each_s, "number", ".2f"),
        Column("images a minute", lambda run: 60 / each_s(run), "number", ".1f"),
        Column("times one image's seconds", times_one, "number", ".2f"),
        RECORD,
    ]
    return Table.of(columns, runs)


@table("open_streams")
def streams(context: Context) -> Table:
    """What only the first image of a stream pays: compiling, and the weights' shares."""

    def sent(run: StoredRun) -> list[float]:
        return [each.link.sent_bytes / 1e6 if each.link else 0.0 for each in run.record.parties[0].inferences]

    columns: list[Column[StoredRun]] = [
        MODEL,
        Column("images", lambda run: len(sent(run)), "number"),
        Column("compiling s, once", lambda run: run.record.parties[0].compile_s, "number", ".1f"),
        Column("sharing weights s, once", lambda run: run.record.parties[0].share_weights_s, "number", ".1f"),
        Column("first image: s, MB", lambda run: f"{run.record.samples_s[0]:.2f}, {sent(run)[0]:.1f}"),
        Column("later ones: s, MB", lambda run: f"{np.median(run.record.samples_s[1:]):.2f}, {max(sent(run)[1:]):.1f}"),
        RECORD,
    ]
    return Table.of(columns, (run for run in _runs(context, "batches") if run.cell.labels["images"] == "stream"))


@table("open_holders")
def holders(context: Context) -> Table:
    """Who holds what."""
    return Table.of([MODEL, label("held", "held"), NETWORK, *COST, RECORD], _runs(context, "holders"))


@table("open_cheetah")
def cheetah(context: Context) -> Table:
    """CHEETAH: tuned kernels beside the plain port."""
    runs = _runs(context, "cheetah")

    def key(run: StoredRun) -> tuple[str, str, str]:
        return run.cell.labels["attention"], run.cell.network_name, run.machine

    plain = {key(run): median(run) for run in runs if run.cell.labels["kernels"] == "plain"}
    columns: list[Column[StoredRun]] = [
        MODEL,
        NETWORK,
        label("kernels", "kernels", "code"),
        SECONDS,
        MESSAGES,
        SENT,
        ERROR,
        Column(
            "of the plain port's seconds",
            lambda run: median(run) / plain[key(run)] if key(run) in plain else None,
            "number",
            ".2f",
        ),
        RECORD,
    ]
    return Table.of(columns, runs)


@table("open_tiny")
def tiny(context: Context) -> Table:
    """Tiny-ImageNet's model: seconds and memory."""
    memory: Column[StoredRun] = Column(
        "peak memory of a party",
        lambda run: max(party.peak_memory_bytes for party in run.record.parties) / GIB,
        "number",
        ".2f",
        "GiB",
    )
    return Table.of([MODEL, NETWORK, *COST, memory, RECORD], _runs(context, "tiny"))


@table("open_ablation")
def ablation(context: Context) -> Table:
    """All parts of the tuned kernels, and all but one."""
    runs = _runs(context, "ablation")
    whole = {(run.cell.labels["attention"], run.machine): run for run in runs if run.cell.labels["part"] == "nothing"}

    def more(run: StoredRun, value: Callable[[StoredRun], float]) -> float | None:
        base = whole.get((run.cell.labels["attention"], run.machine))
        return value(run) - value(base) if base else None

    columns: list[Column[StoredRun]] = [
        MODEL,
        label("part", "without"),
        *COST,
        Column("s more", lambda run: more(run, median), "number", "+.2f"),
        Column("rounds more", lambda run: more(run, lambda of: of.record.rounds), "number", "+,d"),
        Column("MB more", lambda run: more(run, lambda of: sent_mb(of.record)), "number", "+.1f"),
        RECORD,
    ]
    return Table.of(columns, sorted(runs, key=lambda run: (run.cell.labels["attention"], median(run))))


@table("open_truncation")
def truncation(context: Context) -> Table:
    """Errors of many inferences under each truncation; failures counted."""
    columns = [label("kernels", "kernels"), label("options", "options", "code"), *correctness_columns(), RECORD]
    return Table.of(columns, _runs(context, "truncation", may_be_wrong=True))


@table("open_accuracy")
def accuracy(context: Context) -> Table:
    """Trained weights on real images."""
    return Table.of([Column("model", lambda run: run.cell.name), *SAME_CLASS, RECORD], _runs(context, "accuracy"))


def _same_class(run: StoredRun, clear: bool) -> str:
    found = run.record.accuracy
    if found is None:
        return ""
    return f"{found.clear_equal} of {found.clear}" if clear else f"{found.top1_equal} of {found.inputs}"


SAME_CLASS: tuple[Column[StoredRun], ...] = (
    Column("plaintext accuracy, test images", lambda run: plain_accuracy(run.record)),
    Column("images", lambda run: run.record.accuracy.inputs if run.record.accuracy else None, "number"),
    ERROR,
    Column("same class, margin > 0.1", lambda run: _same_class(run, clear=True)),
    Column("same class, all", lambda run: _same_class(run, clear=False)),
)


@table("presets")
def presets(context: Context) -> Table:
    """The named options: what each does, and what it costs where it has been measured."""
    runs = _runs(context, "presets")
    rows: list[tuple[str, StoredRun | None]] = []
    for name in PRESETS:
        of = [run for run in runs if run.cell.labels["options"] == name]
        rows += [(name, run) for run in of] or [(name, None)]

    def of_run(column: Column[StoredRun]) -> Column[tuple[str, StoredRun | None]]:
        return Column(
            column.title,
            lambda row: column.entry(row[1]) if row[1] else Entry(),
            column.kind,
            column.format,
            column.unit,
        )

    columns: list[Column[tuple[str, StoredRun | None]]] = [
        Column("preset", lambda row: row[0], "code"),
        Column("what it does", lambda row: PRESETS[row[0]].does),
        Column("protocol", lambda row: row[1].cell.protocol if row[1] else ", ".join(PRESETS[row[0]].protocols)),
        *map(of_run, (NETWORK, *COST, RECORD)),
    ]
    return Table.of(columns, rows)


@table("open_latency")
def latency(context: Context) -> Table:
    """Seconds of one image beside the network's floor."""
    columns: list[Column[StoredRun]] = [
        MODEL,
        label("kernels", "kernels", "code"),
        label("options", "options", "code"),
        *COST,
        Column("floor", lambda run: floor_s(run.record), "number", ".2f", "s"),
        Column("measured / floor", lambda run: median(run) / floor_s(run.record), "number", ".3f"),
        Column("CPU time of the busier party", busier_cpu_s, "number", ".2f", "s"),
        RECORD,
    ]
    return Table.of(columns, _runs(context, "latency"))
