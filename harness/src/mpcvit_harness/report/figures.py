"""The report's figures of seconds: by operation, by network, and predicted against measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from mpcvit_harness.formulas import operation_name
from mpcvit_harness.report.charts import Bar, ChartPoint, Dot, DotRow, Part, Rows, Scale, Scatter, Tick
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import cell_name, executor_name, median, remark_lines
from mpcvit_harness.tables.predicted_latency import PredictedCell, predicted_cells
from spu_bench import RunRecord

NETWORKS = ("loopback", "lan", "wan")
"""Networks with a colour of their own; the others share one."""

PARTS = {
    "compare": (
        "maximum, comparisons",
        ("reduce", "less", "greater", "maximum", "minimum", "select", "prefer_a", "abs"),
    ),
    "exponential": ("exponential", ("exponential",)),
    "divide": ("division", ("divide",)),
    "rsqrt": ("1/sqrt (LayerNorm)", ("rsqrt",)),
    "tanh": ("tanh (GeLU)", ("tanh", "logistic")),
    "multiply": ("products", ("multiply",)),
    "matrix": ("matrix products", ("dot", "dot_general", "convolution")),
    "rest": ("all else", ()),
}
"""The parts of an inference: their names, and the runtime's operations that belong to each."""


def breakdown(runs: Iterable[StoredRun]) -> list[Rows]:
    """Seconds by operation over `wan`, a panel per experiment, the slowest cell first."""
    panels: dict[str, list[StoredRun]] = {}
    for run in runs:
        if run.cell.network_name == "wan" and any(party.operations for party in run.record.parties):
            panels.setdefault(run.cell.experiment, []).append(run)
    found = []
    for title, of in panels.items():
        of.sort(key=median, reverse=True)
        names = [cell_name(run) for run in of]
        bars = [_bar(run, median(of[0]), names.count(cell_name(run)) > 1) for run in of]
        shown = {part.kind for bar in bars for part in bar.parts}
        found.append(Rows(title, {kind: PARTS[kind][0] for kind in PARTS if kind in shown}, bars, []))
    return found


def _bar(run: StoredRun, longest_s: float, name_executor: bool) -> Bar:
    seconds = seconds_by_part(run.record)
    parts = [
        Part(kind, 100 * s / longest_s, f"{PARTS[kind][0]}: {s:.2f} s, {s / sum(seconds.values()):.0%}")
        for kind, s in seconds.items()
        if s / longest_s > 0.001
    ]
    name = cell_name(run) + (f", {executor_name(run)}" if name_executor else "")
    return Bar(name, run.file.as_posix(), parts, f"{median(run):.2f} s")


def seconds_by_part(record: RunRecord) -> dict[str, float]:
    """Seconds of the last inference at the server, by PARTS.

    SPU 0.3.1b0 counts the comparisons of a reduction in the reduction and once more by themselves: only these count.
    """
    party = record.parties[0]
    twice = ("reduce",) if record.request.runtime.startswith("0.3.") else ()
    seconds = {
        kind: sum(o.seconds for o in party.operations if operation_name(o) in set(names) - set(twice))
        for kind, (_, names) in PARTS.items()
    }
    seconds["rest"] = max(0.0, party.inferences[-1].run_s - sum(seconds.values()))
    return seconds


def networks(runs: Iterable[StoredRun]) -> list[Rows]:
    """Seconds by network of every cell that ran over more than one, a panel per experiment, on a logarithmic scale."""
    cells: dict[tuple[str, str], list[StoredRun]] = {}
    for run in runs:
        cells.setdefault((run.cell.experiment, cell_name(run)), []).append(run)
    several = {key: of for key, of in cells.items() if len({run.cell.network_name for run in of}) > 1}
    panels = []
    for experiment, keys in itertools.groupby(several, key=lambda key: key[0]):
        rows = {name: several[experiment, name] for _, name in keys}
        scale = Scale.around([median(run) for of in rows.values() for run in of], log=True)
        ordered = sorted(rows.items(), key=lambda row: -max(map(median, row[1])))
        dots = [DotRow(name, [_dot(run, scale) for run in of]) for name, of in ordered]
        kinds = {dot.kind for row in dots for dot in row.dots}
        legend = {kind: kind for kind in (*NETWORKS, "another") if kind in kinds}
        ticks = [Tick(100 * scale.share(value), f"{value:g} s") for value in scale.ticks()]
        panels.append(Rows(experiment, legend, dots, ticks))
    return panels


def _dot(run: StoredRun, scale: Scale) -> Dot:
    network = run.cell.network_name
    tip = f"{cell_name(run)}\n{network} ({executor_name(run)}): {run.seconds} s{remark_lines(run.record)}"
    kind = network if network in NETWORKS else "another"
    return Dot(kind, 100 * scale.share(median(run)), tip, run.file.as_posix())


def prediction(runs: Iterable[StoredRun]) -> Scatter | None:
    """Predicted against measured seconds; None where no record keeps a prediction."""
    cells = predicted_cells(runs)
    if not cells:
        return None
    scale = Scale.around([value for cell in cells for value in (cell.seconds, cell.prediction.seconds)], log=True)
    points = [_predicted_point(cell) for cell in cells]
    return Scatter(
        title="Predicted and measured",
        x_label="seconds measured",
        y_label="seconds predicted",
        x=scale,
        y=scale,
        points=points,
        legend={point.kind: point.kind for point in points},
        lines=[("equal", [(scale.low, scale.low), (scale.high, scale.high)])],
    )


def _predicted_point(cell: PredictedCell) -> ChartPoint:
    run = cell.run
    tip = (
        f"{cell_name(run)} over {run.cell.network_name}\n{cell.seconds:.2f} s measured\n"
        f"{cell.prediction.seconds:.2f} s predicted, {cell.error:+.1%}{remark_lines(run.record)}"
    )
    return ChartPoint(cell.seconds, cell.prediction.seconds, run.cell.protocol, "", tip, run.file.as_posix())
