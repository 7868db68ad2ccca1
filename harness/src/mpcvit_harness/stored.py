"""Records that count: what tables, figures and verdicts are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import Cell
from mpcvit_harness.store import LOCAL, all_records, all_trainings
from spu_bench import RunRecord

CLASSIFIERS = ("teacher", "retrain")
"""Stages of trainings that end in a model to be used."""


class StoredRecord:
    """A record and its file, relative to the root of the repository."""

    file: Path

    @property
    def machine(self) -> str:
        """The machine, by its folder in the store."""
        return self.file.parts[-3]

    def link(self, page: Path, text: str = "record") -> str:
        """The Markdown reference from `page` to the record's file."""
        up = "../" * (len(page.parts) - 1)
        return f"[{text}]({up}{self.file.as_posix()})"


@dataclass(frozen=True)
class StoredRun(StoredRecord):
    """A record of private inferences, its cell and its file."""

    cell: Cell
    record: RunRecord
    file: Path

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


def training_of(record: RunRecord, cell: str, trainings: Iterable[AnyTraining]) -> AnyTraining | None:
    made_by = record.program.made_by if record.program else {}
    fingerprint = (made_by.get("training") or {}).get("fingerprint")
    same = [t for t in trainings if fingerprint and t.record.fingerprint == fingerprint]
    return next((t for t in same if cell.endswith(f"-{t.record.name}")), same[0] if same else None)


def counted_runs(root: Path, results: Path) -> Iterator[StoredRun]:
    """Records below `results` that count: valid, of committed code, and not from a folder of local runs."""
    for path, record in all_records(results):
        committed = path.relative_to(results).parts[0] != LOCAL
        if not committed or not isinstance(record, RunRecord) or record.status != "ok" or record.cell is None:
            continue
        if record.code.get("dirty") is False:
            yield StoredRun(Cell.model_validate(record.cell), record, path.relative_to(root))


def counted_trainings(root: Path, results: Path) -> Iterator[StoredTraining]:
    """Records of trainings below `results` that count, by the same rule."""
    for path, record in all_trainings(results):
        committed = path.relative_to(results).parts[0] != LOCAL
        if not committed or not isinstance(record, TrainingRecord) or record.status != "ok":
            continue
        if record.code.get("dirty") is False:
            yield StoredTraining(record, path.relative_to(root))
