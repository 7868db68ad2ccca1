"""Records that count: what tables, figures and verdicts are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mpc_search.record import TrainingRecord
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell
from mpcvit_harness.store import LOCAL, all_records, all_trainings
from spu_bench.watch import Remark

CLASSIFIERS = ("teacher", "retrain")
"""Stages of trainings that end in a model to be used."""


class StoredRecord:
    """A record and its file, relative to the root of the repository."""

    file: Path

    @property
    def machine(self) -> str:
        """The machine, by its folder in the store."""
        return self.file.parts[-3]


@dataclass(frozen=True)
class StoredRun(StoredRecord):
    """A record of private inferences that is whole, and its file."""

    record: CellRecord
    file: Path

    @property
    def cell(self) -> Cell:
        """The cell that the record answers."""
        return self.record.cell

    @property
    def is_latency(self) -> bool:
        """Whether its seconds can be shown, compared and claimed: its logits are not wrong."""
        return self.record.status == "ok"

    @property
    def remarks(self) -> list[Remark]:
        """What the watch of the machine says against the seconds."""
        return self.record.remarks

    @property
    def seconds(self) -> str:
        """Median and range in seconds."""
        stats = self.record.statistics
        assert stats is not None
        spread = "" if stats.n == 1 else f" [{stats.low:.2f}, {stats.high:.2f}]"
        return f"{stats.median:.2f}{spread}"


@dataclass(frozen=True)
class StoredTraining(StoredRecord):
    """A valid record of a training and its file."""

    record: TrainingRecord
    file: Path


AnyTraining = TypeVar("AnyTraining", bound=StoredTraining)


def training_of(record: CellRecord, trainings: Iterable[AnyTraining]) -> AnyTraining | None:
    """The training of the weights that ran in `record`, where the store has it.

    Two budgets can lead to the same plan, and so to the same weights: the run that the cell's label names comes first.
    """
    origin = record.program.training if record.program else None
    if origin is None or origin.fingerprint is None:
        return None
    same = [training for training in trainings if training.record.fingerprint == origin.fingerprint]
    named = (training for training in same if training.record.name == record.cell.labels.get("run"))
    return next(named, same[0] if same else None)


def counted_runs(root: Path, results: Path) -> Iterator[StoredRun]:
    """Records below `results` that count: whole, of committed code, and not from the folder of local runs.

    Those with wrong logits are among them: they are no latency (`StoredRun.is_latency`).
    """
    for path, record in all_records(results):
        if isinstance(record, str) or record.status not in ("ok", "wrong"):
            continue
        if record.code.dirty is False and not _is_local(path, results):
            yield StoredRun(record, path.relative_to(root))


def counted_trainings(root: Path, results: Path) -> Iterator[StoredTraining]:
    """Records of trainings below `results` that count, by the same rule."""
    for path, record in all_trainings(results):
        if isinstance(record, str) or record.status != "ok":
            continue
        if record.code.dirty is False and not _is_local(path, results):
            yield StoredTraining(record, path.relative_to(root))


def _is_local(path: Path, results: Path) -> bool:
    return path.relative_to(results).parts[0] == LOCAL
