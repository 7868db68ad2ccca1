"""The migration of a store: schema, fingerprints, file names and labels, without losing or measuring anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from experiment_files import EXPERIMENTS, ROOT

from mpcvit_harness.cell_record import CellRecord, record_json_schema
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.cli import app
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.load_experiments import all_cells
from mpcvit_harness.migrate import migrate
from mpcvit_harness.store import all_records
from spu_bench import RunRecord

OF_SCHEMA_1 = ROOT / "packages" / "spu_bench" / "tests" / "data" / "record-schema-1.json"
TODAY = Cell(experiment="e", name="n", model=ModelSpec(config="c"), network="lan", repeats=3, labels={"mu": "0.5"})


def put_old(results: Path, file: str, **of_cell: Any) -> Path:
    """A record of schema 1, with the name that its file had then."""
    raw = json.loads(OF_SCHEMA_1.read_text())
    raw["cell"] = {"experiment": "e", "model": {"config": "c"}, "network": "lan", "repeats": 3, **of_cell}
    path = results / "here" / "e" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(raw))
    return path


def test_a_record_is_brought_up_to_date(tmp_path: Path) -> None:
    """It gets the labels of today's cell and its new name; its seconds stay; a second migration changes nothing."""
    old = put_old(tmp_path, "n-semi2k-lan-auto.0123.json", name="n")
    samples = json.loads(old.read_text())["samples_s"]
    done = migrate(tmp_path, [TODAY])
    ((was, now),) = done.changed
    assert was == old and not old.exists() and not done.notes and not done.refused
    assert now.name == f"n-semi2k-lan-auto.{TODAY.fingerprint()[:12]}.json"
    record = CellRecord.load(now)
    assert json.loads(now.read_text())["schema_version"] == 3
    assert record.cell.labels == {"mu": "0.5"} and record.samples_s == samples
    before = now.read_bytes()
    again = migrate(tmp_path, [TODAY])
    assert (again.changed, again.unchanged) == ([], 1) and now.read_bytes() == before


def test_nothing_is_refused_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files that are no record, two records of one cell, cells that no experiment has or measures in another way."""
    first = put_old(tmp_path, "n-semi2k-lan-auto.0.json", name="n")
    second = put_old(tmp_path, "n-semi2k-lan-auto.1.json", name="n")
    other = put_old(tmp_path, "gone-semi2k-lan-auto.0.json", name="gone")
    put_old(tmp_path, "n-semi2k-lan-netns.0.json", name="n", executor="netns", repeats=1)
    broken = first.parent / "broken.json"
    broken.write_text("{}")
    done = migrate(tmp_path, [TODAY])
    assert {path for path, _ in done.refused} == {second, broken} and second.exists() and broken.exists()
    assert len(done.changed) == 3
    notes = dict(done.notes)
    assert "no experiment has the cell e/gone" in notes[other]
    assert any('{"repeats": [null, 3]}' in why for why in notes.values())
    with pytest.raises(HarnessError, match="2 files are not migrated"):
        app(["migrate", "--results", str(tmp_path), "--experiments", str(EXPERIMENTS)], standalone_mode=False)
    out = capsys.readouterr().out
    assert f"{broken}: " in out and "3 up to date, 2 refused" in out


def test_the_committed_records_are_migrated() -> None:
    """Each has the labels of today's experiments, so that a second migration has nothing to do."""
    labels = {
        (cell.experiment, cell.name, cell.protocol, cell.network_name): cell.labels
        for cell in all_cells(EXPERIMENTS)
        if isinstance(cell, Cell)
    }
    for _, record in all_records(ROOT / "results"):
        assert isinstance(record, CellRecord)
        cell = record.cell
        assert cell.labels == labels[cell.experiment, cell.name, cell.protocol, cell.network_name]


def test_a_record_is_read_without_its_cell_too() -> None:
    """By a program that knows spu_bench alone."""
    path, record = next(all_records(ROOT / "results"))
    assert isinstance(record, CellRecord)
    assert RunRecord.load(path).samples_s == record.samples_s


def test_the_schema_is_committed() -> None:
    """A change of the record shows in the schema beside the docs."""
    committed = (ROOT / "docs" / "record.schema.json").read_text()
    assert committed == record_json_schema(), "Fix: python -m mpcvit_harness.cell_record > docs/record.schema.json"
