"""The record of a cell: a run's record, with the cell that it answers."""

from __future__ import annotations

import json

from mpcvit_harness.cells import Cell
from spu_bench import RunRecord


class CellRecord(RunRecord):
    """A RunRecord in the store, with its `cell`; `cell_fingerprint` is that of the cell's identity."""

    cell: Cell
    cell_fingerprint: str

    @classmethod
    def of(cls, cell: Cell, record: RunRecord) -> CellRecord:
        """`record` as the record of `cell`."""
        values = {name: getattr(record, name) for name in RunRecord.model_fields}
        return cls.model_construct(**values, cell=cell, cell_fingerprint=cell.fingerprint())


def record_json_schema() -> str:
    """The JSON Schema of CellRecord, as committed in docs. `spu-bench run --json` writes the same without the cell."""
    return json.dumps(CellRecord.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(record_json_schema(), end="")
