"""Predicted beside measured seconds: the points of a scatter, and their table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import markdown
from spu_bench import Prediction


@dataclass(frozen=True)
class Point:
    """One cell: what was predicted of it, and the median of what was measured, in seconds."""

    measured: StoredRun
    prediction: Prediction
    seconds: float

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.prediction.seconds / self.seconds - 1


def points(measured: Iterable[StoredRun]) -> list[Point]:
    """Every record over a link that keeps a prediction: the data of the scatter."""
    found = []
    for m in measured:
        shaped = m.record.request.network.is_shaped
        if shaped and m.record.prediction is not None and m.record.statistics is not None:
            found.append(Point(m, m.record.prediction, m.record.statistics.median))
    return found


def predictions(measured: list[StoredRun], page: Path) -> str:
    """One row per predicted cell, and the errors' median and largest of each protocol."""
    all_points = points(measured)
    rows = [
        (
            point.measured.cell.name,
            point.measured.cell.protocol,
            point.measured.cell.network_name,
            f"{point.prediction.compute_s:.2f} + {point.prediction.floor_s:.2f} + {point.prediction.wake_s:.2f}",
            f"{point.prediction.seconds:.2f}",
            point.measured.seconds,
            f"{point.error:+.1%}",
            point.measured.link(page),
        )
        for point in all_points
    ]
    for protocol in dict.fromkeys(point.measured.cell.protocol for point in all_points):
        errors = [abs(point.error) for point in all_points if point.measured.cell.protocol == protocol]
        summary = f"median {median(errors):.1%}, largest {max(errors):.1%}"
        rows.append((f"all {len(errors)}", protocol, "", "", "", "", summary, ""))
    head = ("model", "protocol", "network", "computation + network's floor + waking up, s", "predicted s")
    return markdown((*head, "measured s: median [range]", "error", ""), rows)
