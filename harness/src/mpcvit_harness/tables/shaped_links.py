"""Tables of networks: one model over each of them, and what the shaper in user space takes."""

from __future__ import annotations

from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import RECORD, SECONDS, busier_cpu_s, executor_name, floor_s, median
from mpcvit_harness.tables.registry import Context, table
from mpcvit_harness.tables.table import Column, Table

EXECUTOR: Column[StoredRun] = Column("executor", executor_name)


@table("links")
def links(context: Context) -> Table:
    """The same model over each network and executor, beside the least seconds that the network allows."""

    def probed(run: StoredRun) -> str:
        return " / ".join(
            f"{p.rtt_ms:.2f} ms, {p.rate_mbit:.0f}, {p.rate_back_mbit:.0f}" for p in run.record.link_before
        )

    def over_floor(run: StoredRun) -> float | None:
        floor = floor_s(run.record)
        return median(run) / floor if floor else None

    def n(run: StoredRun) -> int:
        assert run.record.statistics is not None
        return run.record.statistics.n

    columns: list[Column[StoredRun]] = [
        Column("network", lambda run: run.cell.network_name),
        EXECUTOR,
        Column("shaper", lambda run: run.record.executor.shaper if run.record.executor else ""),
        Column("probed RTT, Mbit/s there, back", probed),
        SECONDS,
        Column("n", n, "number"),
        Column("floor", lambda run: floor_s(run.record) or None, "number", ".2f", "s"),
        Column("measured / floor", over_floor, "number", ".3f"),
        Column("CPU time of the busier party", busier_cpu_s, "number", ".2f", "s"),
        RECORD,
    ]
    return Table.of(columns, context.experiment("links"))


@table("shaper_cost")
def shaper_cost(context: Context) -> Table:
    """How much of a core the shaper in user space took, and how late it sent packets."""

    busier = {
        run.file: max(run.record.executor.shaper_cost, key=lambda cost: cost.cpu_share_peak)
        for run in context.runs
        if run.cell.experiment == "links" and run.record.executor and run.record.executor.shaper_cost
    }

    def late_us(run: StoredRun) -> str:
        return f"{busier[run.file].late_us_p50 or 0:.0f}, {busier[run.file].late_us_p99 or 0:.0f}"

    def rtt(run: StoredRun) -> str:
        probes = [*run.record.link_before, *run.record.link_after]
        return f"{max(p.rtt_ms for p in probes):.3f} ({max(p.rtt_p99_ms for p in probes):.3f})"

    columns: list[Column[StoredRun]] = [
        Column("network", lambda run: run.cell.network_name, "code"),
        EXECUTOR,
        Column("RTT ms: median (p99)", rtt),
        Column("share, busiest half second", lambda run: busier[run.file].cpu_share_peak, "number", ".0%"),
        Column(
            "share, whole run", lambda run: busier[run.file].cpu_seconds / busier[run.file].seconds, "number", ".1%"
        ),
        Column("late us: p50, p99", late_us),
        RECORD,
    ]
    return Table.of(columns, (run for run in context.runs if run.file in busier))
