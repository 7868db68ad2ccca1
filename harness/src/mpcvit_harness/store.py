"""The store: one JSON record per cell, in a folder per machine, so that results of machines merge by copying."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from mpc_search import SearchError
from mpc_search.record import SUFFIX, TrainingRecord
from mpcvit_harness.cells import Cell
from spu_bench import RunRecord
from spu_bench.source_files import source_hash

OF_TRAINING = (SUFFIX, ".speed.json")
"""How the names of mpc_search's records in the same folders end: they are of another kind."""

LOCAL = "this-machine"
"""The folder of runs that are not for committing, as the main job's: no table of the docs is made of them."""


class Store:
    """Records below `root`/`machine`."""

    def __init__(self, root: str | Path, machine: str) -> None:
        self.root = Path(root)
        self.machine = machine

    def path(self, cell: Cell) -> Path:
        """Where the record of `cell` lies: its fingerprint keeps two cells of one name apart."""
        return self.root / self.machine / cell.experiment / f"{cell.id}.{cell.fingerprint()[:12]}.json"

    def valid(self, cell: Cell) -> RunRecord | None:
        """The valid record of this very cell by this very code, of whatever Program; or None."""
        path = self.path(cell)
        if not path.exists():
            return None
        try:
            record = RunRecord.load(path)
        except ValidationError:
            return None  # no record of any schema: measured again, and written over
        same = (
            record.status == "ok"
            and record.cell_fingerprint == cell.fingerprint()
            and record.code.get("source") == source_hash()
        )
        return record if same else None

    def find(self, cell: Cell, program_fingerprint: str) -> RunRecord | None:
        """The valid record of this very cell and Program by this very code, or None: then it has to be run."""
        record = self.valid(cell)
        same = record is not None and record.program is not None and record.program.fingerprint == program_fingerprint
        return record if same else None

    def save(self, cell: Cell, record: RunRecord) -> Path:
        """Write the record of `cell`, whole or not at all, in place of an older one."""
        record.cell = cell.model_dump(mode="json")
        record.cell_fingerprint = cell.fingerprint()
        path = self.path(cell)
        record.save(path)
        return path


def all_records(root: str | Path) -> Iterator[tuple[Path, RunRecord | str]]:
    """Every record of a private inference below `root` in the order of paths; where a file is not one, why."""
    for path in sorted(Path(root).glob("*/*/*.json")):
        if path.name.endswith(OF_TRAINING):
            continue
        try:
            yield path, RunRecord.load(path)
        except (ValidationError, OSError) as error:
            yield path, str(error).splitlines()[0]


def all_trainings(root: str | Path) -> Iterator[tuple[Path, TrainingRecord | str]]:
    """Every record of a training below `root` in the order of paths; where a file is not one, why."""
    for path in sorted(Path(root).glob(f"*/*/*{SUFFIX}")):
        try:
            yield path, TrainingRecord.load(path)
        except SearchError as error:
            yield path, str(error).splitlines()[0]
