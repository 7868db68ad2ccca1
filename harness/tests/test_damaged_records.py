"""Files beside records that are none, or contradict themselves: listed with the reason, never counted, never fatal."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiment_files import ANY_RECORD, ROOT, PutRecord, PutTraining

from mpc_search import printable
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.cli import main
from mpcvit_harness.compare import compare
from mpcvit_harness.report import build
from mpcvit_harness.store import Store, all_records, all_trainings, read_record
from mpcvit_harness.tables.table import Column, Entry, Href, Table
from mpcvit_harness.tables.terminal import show

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02\xff\xff"

Change = Callable[[dict[str, Any]], object]
"""Changes the JSON value of a record."""

RAW: dict[str, bytes] = {
    "not UTF-8": APPLE_DOUBLE,
    "nothing": b"",
    "half": b'{"schema_version": 3, "status": ',
    "a list": b"[]",
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep in a field": b'{"schema_version": 2, "executor": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a number": b"1e999",
}
CHANGES: dict[str, tuple[Change, str]] = {
    "schema is a list": (lambda raw: raw.update(schema_version=[]), "schema"),
    "schema is a dict": (lambda raw: raw.update(schema_version={}), "schema"),
    "schema is true": (lambda raw: raw.update(schema_version=True), "schema"),
    "schema 1, samples are texts": (lambda raw: raw.update(schema_version=1, samples_s=["a", 1.0]), "schema 1"),
    "schema 2, accuracy is a list": (lambda raw: raw.update(schema_version=2, accuracy=[1]), "schema 2"),
    "schema 2 without a status": (lambda raw: (raw.update(schema_version=2), raw.pop("status")), "schema 2"),
    "schema 2, code is a text": (lambda raw: raw.update(schema_version=2, code="abc"), "schema 2"),
    "cell is a text": (lambda raw: raw.update(cell="abc"), "cell"),
    "cell is empty": (lambda raw: raw.update(cell={}), "cell"),
    "code is a list": (lambda raw: raw.update(code=[]), "code"),
    "samples are texts": (lambda raw: raw.update(samples_s=["a", "b"]), "samples_s"),
    "samples are NaN": (lambda raw: raw.update(samples_s=["NaN"] * len(raw["samples_s"])), "not all seconds"),
    "samples are infinite": (lambda raw: raw.update(samples_s=["Infinity"]), "not all seconds"),
    "samples are below zero": (lambda raw: raw.update(samples_s=[-1.0]), "not all seconds"),
    "no samples": (lambda raw: raw.update(samples_s=[], statistics=None), "no samples"),
    "no statistics": (lambda raw: raw.update(statistics=None), "no statistics"),
    "no parties": (lambda raw: raw.update(parties=[]), "no parties"),
    "another median": (lambda raw: raw["statistics"].update(median=0.001), "median is 0.001 s"),
    "a NaN median": (lambda raw: raw["statistics"].update(median="NaN"), "median"),
    "a lowest that is none": (lambda raw: raw["statistics"].update(low=0.0), "low is 0.0 s"),
    "more samples said": (lambda raw: raw["statistics"].update(n=99), "99 samples"),
}


@pytest.mark.parametrize("what", RAW)
def test_files_that_are_no_records(tmp_path: Path, put: PutRecord, what: str) -> None:
    """The report has the good record, and one line for the file."""
    check_listed(tmp_path, put, RAW[what], "")


@pytest.mark.parametrize("what", CHANGES)
def test_records_that_cannot_be(tmp_path: Path, put: PutRecord, what: str) -> None:
    """A record with one thing changed, as JSON."""
    raw = json.loads(ANY_RECORD.read_text())
    CHANGES[what][0](raw)
    check_listed(tmp_path, put, json.dumps(raw).encode(), CHANGES[what][1])


def check_listed(tmp_path: Path, put: PutRecord, content: bytes, words: str) -> None:
    """Report, store and comparison leave out the file; the report says why."""
    put("links", "good", 1.0, 2.0)
    folder = tmp_path / "results" / "here" / "links"
    (folder / "._bad.json").write_bytes(content)
    why = read_record(folder / "._bad.json")
    assert isinstance(why, str) and words in why and "\n" not in why and len(why) < 300
    page = build(tmp_path / "results", tmp_path / "report")
    assert "here/links/._bad.json: " in page.read_text()
    assert len(list(csv.DictReader(io.StringIO((page.parent / "records.csv").read_text())))) == 1
    assert [each.cell for each in compare(str(folder), str(folder))]


def test_every_committed_record_is_consistent() -> None:
    """None contradicts itself."""
    found = [*all_records(ROOT / "results"), *all_trainings(ROOT / "results")]
    assert len(found) > 400 and [(path, why) for path, why in found if isinstance(why, str)] == []


def test_the_store_measures_again_what_is_no_result(tmp_path: Path) -> None:
    """A damaged record of a cell is no result of it."""
    store, cell = Store(tmp_path, "here"), Cell(experiment="e", name="n", model=ModelSpec(config="n"))
    store.save(cell, CellRecord.load(ANY_RECORD))
    assert store.reusable(cell) is not None
    store.path(cell).write_bytes(APPLE_DOUBLE)
    assert store.reusable(cell) is None


def test_pipes_and_links_among_records(tmp_path: Path, put: PutRecord) -> None:
    """A pipe does not block, a link to nothing and a folder are listed."""
    put("links", "good", 1.0)
    folder = tmp_path / "results" / "here" / "links"
    os.mkfifo(folder / "pipe.json")
    os.mkfifo(folder / "pipe.training.json")
    (folder / "gone.json").symlink_to(folder / "nowhere")
    (folder / "folder.json").mkdir()
    text = build(tmp_path / "results", tmp_path / "report").read_text()
    for name in ("pipe.json", "pipe.training.json", "gone.json", "folder.json"):
        assert f"here/links/{name}: " in text


@pytest.mark.parametrize(
    "content",
    [
        APPLE_DOUBLE,
        b"[",
        b"{}",
        b'{"schema_version": 1}',
        b'{"schema_version": []}',
        b"[" * 100_000,
        b'{"schema_version": 1, "model": 5}',
    ],
)
def test_files_that_are_no_trainings(tmp_path: Path, put_training: PutTraining, content: bytes) -> None:
    """As for records of runs."""
    put_training("sweep", "retrain", 0, 50)
    (tmp_path / "results" / "here" / "sweep" / "bad.training.json").write_bytes(content)
    text = build(tmp_path / "results", tmp_path / "report").read_text()
    assert "here/sweep/bad.training.json: " in text and "50.00%" in text


@pytest.mark.parametrize("percent", [float("nan"), 101.0, -1.0])
def test_accuracies_that_are_none_do_not_count(tmp_path: Path, put_training: PutTraining, percent: float) -> None:
    """An accuracy of NaN logits, for one."""
    put_training("sweep", "retrain", 0, percent)
    ((_, why),) = all_trainings(tmp_path / "results")
    assert isinstance(why, str) and "its accuracy is" in why


HOSTILE = "<script>alert(1)</script>\x1b]0;owned\x07\x1b[31m\u202e|`x`\r\nrow"


def test_names_are_neutral(tmp_path: Path, put: PutRecord, capsys: pytest.CaptureFixture[str]) -> None:
    """Names from records are text in pages and Markdown, and control no terminal."""
    put("links", "good", 1.0, labels={"run": HOSTILE})
    (path,) = (tmp_path / "results").glob("*/*/*.json")
    raw = json.loads(path.read_text())
    raw["request"]["protocol"] = raw["started_at"] = raw["program"]["name"] = HOSTILE
    raw["code"]["commit"] = raw["machine"]["cpu"] = HOSTILE
    path.write_text(json.dumps(raw))
    (path.parent / f"<script>{chr(27)}[2J.json").write_text("{")
    out = build(tmp_path / "results", tmp_path / "report").parent
    for page in [*out.rglob("*.html"), *out.glob("*.md")]:
        text = page.read_text()
        assert "<script>alert" not in text and "<script>\x1b" not in text
    table = Table.of([Column[str]("a", lambda row: row), Column[str]("b", lambda row: row, "code")], [HOSTILE])
    show(table)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", capsys.readouterr().out)
    assert len(table.markdown().splitlines()) == 3 and "<script" not in table.markdown().split("`")[0]
    linked = Table.of([Column[str]("a", lambda row: Entry(hrefs=(Href("p", row),)))], [HOSTILE])
    assert "<script" not in linked.markdown() and "\x1b" not in linked.markdown()


def test_errors_are_neutral(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's name in an error line."""
    monkeypatch.setattr("sys.argv", ["mpcvit-report", "build", "--results", "\x1b[31mx\udcff"])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert "\x1b" not in error and len(error.splitlines()) == 1
    assert printable("é ü → µ 日本\u00a0") == "é ü → µ 日本\u00a0"
