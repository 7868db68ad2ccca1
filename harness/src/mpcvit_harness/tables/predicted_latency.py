"""Predicted beside measured seconds: the cells of a scatter, and their table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import href, spread
from mpcvit_harness.tables.registry import Context, table
from mpcvit_harness.tables.table import Column, Table
from spu_bench import Prediction


@dataclass(frozen=True)
class PredictedCell:
    """One cell: what was predicted of it, and the median of what was measured, in seconds."""

    run: StoredRun
    prediction: Prediction
    seconds: float

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.prediction.seconds / self.seconds - 1


def predicted_cells(runs: Iterable[StoredRun]) -> list[PredictedCell]:
    """Every record over a shaped network that keeps a prediction."""
    found = []
    for run in runs:
        record = run.record
        if record.request.network.is_shaped and record.prediction is not None and record.statistics is not None:
            found.append(PredictedCell(run, record.prediction, record.statistics.median))
    return found


@table("predictions")
def predictions(context: Context) -> Table:
    """One row per predicted cell; below, the errors' median and largest of each protocol."""
    cells = predicted_cells(context.runs)
    columns: list[Column[PredictedCell]] = [
        Column("model", lambda cell: cell.run.cell.name),
        Column("protocol", lambda cell: cell.run.cell.protocol),
        Column("network", lambda cell: cell.run.cell.network_name),
        Column(
            "computation + network's floor + waking up, s",
            lambda cell: " + ".join(
                f"{part:.2f}" for part in (cell.prediction.compute_s, cell.prediction.floor_s, cell.prediction.wake_s)
            ),
        ),
        Column("predicted s", lambda cell: cell.prediction.seconds, "number", ".2f"),
        Column("measured s: median [range]", lambda cell: spread(cell.run), "number"),
        Column("error", lambda cell: cell.error, "number", "+.1%"),
        Column("", lambda cell: href(cell.run), "records"),
    ]
    sums = []
    for protocol in dict.fromkeys(cell.run.cell.protocol for cell in cells):
        errors = [abs(cell.error) for cell in cells if cell.run.cell.protocol == protocol]
        sums.append(f"{protocol}, {len(errors)} cells: median {median(errors):.1%}, largest {max(errors):.1%}")
    return Table.of(columns, cells, f"Errors without their sign. {'; '.join(sums)}." if sums else "")
