"""The table of peers: each system beside accurate CrypTen with the same attention, on the same link and machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import peers
from spu_bench.samples import summarize

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture(scope="module")
def some() -> CellRecord:
    """A committed record, whose seconds the tests replace."""
    return CellRecord.load(min(RESULTS.glob("*/variants/*.json")))


def measured(record: CellRecord, name: str, seconds: float, machine: str = "here") -> StoredRun:
    """A record of the cell `name` that took so long."""
    cell = Cell(experiment="peers", name=name, model=ModelSpec(config="vit_7_4_32"), network="wan", scale="paper")
    timed = record.model_copy(update={"statistics": summarize([seconds]), "trust": "none"})
    return StoredRun(CellRecord.of(cell, timed), Path("results") / machine / "peers" / f"{name}.json")


def test_a_row_is_compared_with_crypten_on_its_own_machine_alone(some: CellRecord) -> None:
    table = peers(
        [
            measured(some, "wan-plain-softmax", 40),
            measured(some, "wan-crypten-softmax", 60),
            measured(some, "wan-crypten-accurate-softmax", 80),
            measured(some, "wan-crypten-accurate-softmax", 10, machine="elsewhere"),
            measured(some, "wan-plain-scale", 40),
        ],
        Path("docs/peers.md"),
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    head, compared = rows[0], rows[0].index("times as fast as accurate CrypTen")
    found = {(row[0], row[head.index("system")], float(row[3])): row[compared] for row in rows[2:]}
    assert found == {
        ("softmax", "plain", 40.0): "2.00",
        ("softmax", "crypten", 60.0): "1.33",
        ("softmax", "crypten-accurate", 80.0): "1.00",
        ("softmax", "crypten-accurate", 10.0): "1.00",
        ("scale", "plain", 40.0): "",
    }
    assert "[record](../results/elsewhere/peers/wan-crypten-accurate-softmax.json)" in table
