"""The store: one JSON record per cell, in a folder per machine, so that results of machines merge by copying."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from mpc_search import SearchError
from mpc_search.record import SUFFIX, TrainingRecord
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell
from mpcvit_harness.record_check import contradiction, contradiction_of_training
from spu_bench import RunRecord
from spu_bench.measurement_version import MEASUREMENT_VERSION

OTHER_RECORDS = (SUFFIX, ".speed.json")
"""How the names of mpc_search's records in the same folders end."""

LOCAL = "this-machine"
"""The folder of runs that are not for committing, as the main job's: no table of the docs is made of them."""


class Store:
    """The records below `root`/`machine`."""

    def __init__(self, root: str | Path, machine: str) -> None:
        self.root = Path(root)
        self.machine = machine

    def path(self, cell: Cell) -> Path:
        """The file for the record of `cell`. Its fingerprint keeps two cells of one name apart."""
        return self.root / self.machine / cell.experiment / f"{cell.id}.{short(cell)}.json"

    def reusable(self, cell: Cell) -> CellRecord | None:
        """A record of the identity of `cell` that counts as its result, of any Program; None where there is none.

        It may have been measured under another name or for another experiment. It is whole and of this measurement
        version; wrong logits are a result only for a cell that may be wrong.
        """
        return next(self._reusable(cell), None)

    def find(self, cell: Cell, program_fingerprint: str) -> CellRecord | None:
        """The record that `reusable` gives, of this very Program; None where there is none: the cell has to be run."""
        of_program = (r for r in self._reusable(cell) if r.program and r.program.fingerprint == program_fingerprint)
        return next(of_program, None)

    def _reusable(self, cell: Cell) -> Iterator[CellRecord]:
        own = self.path(cell)
        others = sorted((self.root / self.machine).glob(f"*/*.{short(cell)}.json"))
        for path in (own, *(other for other in others if other != own)):
            record = read_record(path) if path.exists() else ""
            if (
                isinstance(record, CellRecord)
                and (record.status == "ok" or (record.status == "wrong" and cell.may_be_wrong))
                and record.cell_fingerprint == cell.fingerprint()
                and record.measurement_version == MEASUREMENT_VERSION
            ):
                yield record

    def save(self, cell: Cell, record: RunRecord) -> Path:
        """Write `record` as the record of `cell`, whole or not at all, in place of an older one."""
        path = self.path(cell)
        CellRecord.of(cell, record).save(path)
        return path


def short(cell: Cell) -> str:
    """The part of a cell's fingerprint that is in the name of its file."""
    return cell.fingerprint()[:12]


_LARGEST = 64 * 2**20
"""Bytes of a file that can be a record; the largest have some hundred thousand."""

_NO_RECORD = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading a file as a record raises where it is none: a ValidationError is a ValueError, as is wrong UTF-8."""


def read_record(path: Path) -> CellRecord | str:
    """The record in a file; where it is not one, or contradicts itself, why."""
    if why := _no_file(path):
        return why
    try:
        record = CellRecord.load(path)
        return contradiction(record) or record
    except _NO_RECORD as error:
        return f"not a record: {_why(error)}"


def _why(error: Exception) -> str:
    """One line of an error, with the first wrong field."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return (str(error).splitlines() or [type(error).__name__])[0]


def _no_file(path: Path) -> str:
    """Why `path` cannot be read as a file: a pipe, for one, would block."""
    try:
        found = path.stat()
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISREG(found.st_mode):
        return "not a file"
    return "too large for a record" if found.st_size > _LARGEST else ""


def all_records(root: str | Path) -> Iterator[tuple[Path, CellRecord | str]]:
    """Every record of a private inference below `root` in the order of paths; where a file is not one, why."""
    for path in sorted(Path(root).glob("*/*/*.json")):
        if not path.name.endswith(OTHER_RECORDS):
            yield path, read_record(path)


def all_trainings(root: str | Path) -> Iterator[tuple[Path, TrainingRecord | str]]:
    """Every record of a training below `root` in the order of paths; where a file is not one, why."""
    for path in sorted(Path(root).glob(f"*/*/*{SUFFIX}")):
        if why := _no_file(path):
            yield path, why
            continue
        try:
            record = TrainingRecord.load(path)
        except SearchError as error:
            yield path, str(error).splitlines()[0]
            continue
        yield path, contradiction_of_training(record) or record
