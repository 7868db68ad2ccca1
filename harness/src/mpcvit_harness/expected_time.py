"""The expected time of a cell, from the records of earlier runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mpc_search.record import TrainingRecord
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import AnyCell, Cell, TrainingCell
from mpcvit_harness.store import all_records, all_trainings
from mpcvit_harness.trainings import folder
from spu_bench import Network, RunRecord


@dataclass(frozen=True)
class Expected:
    """The expected seconds of a whole cell, and the kind of record that they come from."""

    seconds: float
    basis: Literal["same cell", "same model", "other network", "similar cells"]


@dataclass(frozen=True)
class _Seen:
    record: CellRecord

    @property
    def cell(self) -> Cell:
        return self.record.cell

    @property
    def each_s(self) -> float:
        assert self.record.statistics is not None
        return self.record.statistics.median

    @property
    def around_s(self) -> float:
        """Seconds of the run beside its inferences."""
        return max(0.0, self.record.duration_s - inferences(self.cell) * self.each_s)


class Past:
    """The whole records of a store; those of `machine` come first."""

    def __init__(
        self, records: Iterable[tuple[str, CellRecord]], machine: str, trained: Iterable[TrainingRecord] = ()
    ) -> None:
        ordered = sorted(records, key=lambda of: (of[0] == machine, of[1].started_at), reverse=True)
        self._seen = [_Seen(record) for _, record in ordered if record.statistics is not None and record.traffic()]
        self._trained = list(trained)

    @classmethod
    def of(cls, root: str | Path, machine: str) -> Past:
        """Every whole record below `root`."""
        found = [
            (path.relative_to(root).parts[0], record)
            for path, record in all_records(root)
            if isinstance(record, CellRecord) and record.status in ("ok", "wrong")  # wrong logits take no other time
        ]
        trained = [
            record for _, record in all_trainings(root) if isinstance(record, TrainingRecord) and record.status == "ok"
        ]
        return cls(found, machine, trained)

    def expect(self, cell: AnyCell) -> Expected | None:
        """Seconds of `cell`: from its own record, from its model with another count or network, or from similar cells.

        Over another network a latency differs by what the two networks themselves take: rounds x delay + bytes / rate.
        For a training: from that run, or from those of its sweep. None where no record is near enough.
        """
        if isinstance(cell, TrainingCell):
            return self._expect_training(cell)
        fingerprint = cell.fingerprint()
        for seen in self._seen:
            if seen.record.cell_fingerprint == fingerprint:
                return Expected(seen.record.duration_s, "same cell")
        same = [seen for seen in self._seen if _alike(seen.cell, cell) and seen.cell.model == cell.model]
        for seen in same:
            if seen.cell.network == cell.network:
                return Expected(seen.around_s + inferences(cell) * seen.each_s, "same model")
        for seen in same:
            each = (
                seen.each_s
                + network_s(cell.network_value, seen.record)
                - network_s(seen.cell.network_value, seen.record)
            )
            return Expected(seen.around_s + inferences(cell) * max(0.0, each), "other network")
        similar = [
            seen.around_s + inferences(cell) * seen.each_s
            for seen in self._seen
            if _alike(seen.cell, cell) and seen.cell.network == cell.network and seen.cell.model.kind == cell.model.kind
        ]
        return Expected(statistics.median(similar), "similar cells") if similar else None

    def _expect_training(self, cell: TrainingCell) -> Expected | None:
        alike = [record for record in self._trained if record.experiment == folder(cell)]
        for record in alike:
            if record.name == cell.run:
                return Expected(record.seconds, "same cell")
        return Expected(statistics.median(r.seconds for r in alike), "similar cells") if alike else None


def inferences(cell: Cell) -> int:
    """How many inferences a cell runs, warm-ups included."""
    return cell.repeats * cell.batches + cell.warmup


def network_s(network: Network, record: RunRecord) -> float:
    """Seconds that `network` by itself takes for what `record` sent in one inference."""
    rates = [rate for rate in (network.rate_mbit, network.rate_back_mbit) if rate is not None]
    transfer = max(record.sent_bytes) * 8 / (min(rates) * 1e6) if rates else 0.0
    return record.rounds * network.one_way_ms / 1e3 + transfer


def _alike(first: Cell, second: Cell) -> bool:
    return (first.protocol, first.runtime, first.options) == (second.protocol, second.runtime, second.options)
