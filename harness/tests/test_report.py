"""The report's files, and the geometry and the choice of what its figures show."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from experiment_files import ANY_RECORD, ROOT, PutRecord

from mpc_search.provenance import Code, Machine
from mpc_search.record import ClassReport, DataIdentity, Score, TrainingRecord
from mpc_search.run_config import RunConfig
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.claims import CLAIMS, load
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.report import build
from mpcvit_harness.report.charts import ChartPoint, Scale, front
from mpcvit_harness.report.details import operations
from mpcvit_harness.report.figures import prediction, seconds_by_part
from mpcvit_harness.report.pareto import pareto
from mpcvit_harness.report.site import MARKER
from mpcvit_harness.report.training_rows import TrainingRow
from mpcvit_harness.store import OTHER_RECORDS
from mpcvit_harness.stored import counted_runs
from mpcvit_harness.tables import Context
from spu_bench import Prediction
from spu_bench.record import Failure
from vit_models import Model

LIMIT = 5_000_000


def test_the_committed_records_make_a_small_report(tmp_path: Path) -> None:
    """Under 5 MB with a page a cell; the archive holds the records as they are; CSV and Markdown hold the same rows."""
    build(ROOT / "results", tmp_path, ROOT / CLAIMS)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < LIMIT
    records = [path for path in (ROOT / "results").glob("*/*/*.json") if not path.name.endswith(OTHER_RECORDS)]
    assert len(list(tmp_path.glob("cells/*/*/*.html"))) == len(records)
    with tarfile.open(tmp_path / "records.tar.xz") as archive:
        name = records[0].relative_to(ROOT / "results").as_posix()
        stored = archive.extractfile(name)
        assert stored is not None and stored.read() == records[0].read_bytes()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "claims.csv").read_text())))
    targets = list(csv.DictReader(io.StringIO((tmp_path / "targets.csv").read_text())))
    assert len(rows) + len(targets) == len(load(ROOT / CLAIMS).claims) and "target" in targets[0]
    assert (tmp_path / "claims.md").read_text().partition("\n\n")[0].count("\n") + 1 == len(rows) + 2
    answered = next(row for row in rows if row["id"] == "cifar10-softmax_vit-seconds")
    assert float(answered["measured"]) == pytest.approx(float(answered["paper"]), rel=0.05)
    assert (tmp_path / answered["records"]).is_file()


def test_slight_operations_share_a_row() -> None:
    """They are counted and summed there; a single one keeps its row, and so does what sends."""
    record = CellRecord.load(ANY_RECORD)
    party = record.parties[0]
    one = next(o for o in party.operations if o.sent_bytes is not None)

    def rows(**seconds: float) -> dict[str, tuple[float | None, float | None]]:
        made = [
            one.model_copy(update={"name": n, "calls": 2, "seconds": s, "sent_bytes": 0}) for n, s in seconds.items()
        ]
        made.append(one.model_copy(update={"name": "dot", "calls": 1, "seconds": 1e-4, "sent_bytes": 8}))
        shown = record.model_copy(update={"parties": [party.model_copy(update={"operations": made})]})
        return {row[0].text: (row[1].number, row[2].number) for row in operations(shown).rows}

    assert rows(add=0.5, slice=0.001) == {"add": (2, 0.5), "slice": (2, 0.001), "dot": (1, 1e-4)}
    assert rows(add=0.5, slice=0.001, pad=0.002) == {"add": (2, 0.5), "2 others, local": (4, 0.003), "dot": (1, 1e-4)}


def test_every_record_is_shown(tmp_path: Path, put: PutRecord) -> None:
    """A failed cell says why, a file that is no record too; what a later build has no record of loses its page."""
    put("links", "good", 1.0)
    put("links", "bad", 1.0, status="failed", failure=Failure(reason="link", problem="it broke", fix="repair it"))
    broken = tmp_path / "results" / "here" / "links" / "broken.json"
    broken.write_text("{")
    page = build(tmp_path / "results", tmp_path / "report")
    assert "it broke" in page.read_text() and "here/links/broken.json" in page.read_text()
    (bad,) = page.parent.glob("cells/here/links/bad*.html")
    assert "repair it" in bad.read_text()
    next(broken.parent.glob("bad*")).unlink()
    build(tmp_path / "results", tmp_path / "report")
    assert not bad.exists()
    assert len(list(page.parent.glob("cells/here/links/good*.html"))) == 1


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["notes.txt", "cells/mine.html", "machines/m/photo.jpg", "index.html"])
@pytest.mark.parametrize("built", [False, True])
def test_files_of_the_user_stay(tmp_path: Path, put: PutRecord, name: str, built: bool) -> None:
    """A folder with a file that no build wrote is refused before anything is written; the error names the file."""
    put("links", "good", 1.0)
    out = tmp_path / "report"
    if built and name != "index.html":
        build(tmp_path / "results", out)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("mine")
    before = content_of(out)
    with pytest.raises(HarnessError, match=rf"{name}.*Fix: give --out a new or empty folder"):
        build(tmp_path / "results", out)
    assert content_of(out) == before


def test_a_build_leaves_what_a_link_points_to(tmp_path: Path, put: PutRecord) -> None:
    """A linked folder in the report, or a marker that names files outside, leads to nothing outside."""
    put("links", "good", 1.0)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("mine")
    out = tmp_path / "report"
    build(tmp_path / "results", out)
    (out / MARKER).write_text(json.dumps({"files": [*content_of(out), "../outside/canary"]}))
    build(tmp_path / "results", out)
    (out / "trainings").symlink_to(outside)
    with pytest.raises(HarnessError, match="trainings"):
        build(tmp_path / "results", out)
    with pytest.raises(HarnessError, match="not a folder"):
        build(tmp_path / "results", outside / "canary")
    assert content_of(outside) == {"canary": b"mine"}


def test_a_build_that_stopped_is_built_again(tmp_path: Path, put: PutRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle is one line; what was written till then counts as the build's own."""
    put("links", "good", 1.0)
    out, replace, done = tmp_path / "report", os.replace, 0

    def full(source: Path, target: Path) -> None:
        nonlocal done
        done += 1
        if done == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(HarnessError, match=r"No space left on device.*Fix: make space"):
        build(tmp_path / "results", out)
    monkeypatch.undo()
    build(tmp_path / "results", out)
    listed = json.loads((out / MARKER).read_text())["files"]
    assert {*listed, MARKER} == set(content_of(out))


def test_a_report_of_nothing(tmp_path: Path) -> None:
    """Without a record each part says that there is none."""
    (tmp_path / "results").mkdir()
    page = build(tmp_path / "results", tmp_path / "report", ROOT / CLAIMS)
    assert page.read_text().count("no records") == 5


def test_a_reduction_is_counted_once() -> None:
    """The parts of SPU 0.3.1b0's profile, which has the maximum's comparisons twice, add up to the run."""
    record = CellRecord.load(next((ROOT / "results").glob("*/paper_cifar10/main-softmax-*.json")))
    run = record.parties[0].inferences[-1].run_s
    assert sum(o.seconds for o in record.parties[0].operations) > 1.2 * run
    seconds = seconds_by_part(record)
    assert sum(seconds.values()) == pytest.approx(run) and seconds["rest"] < 0.01 * run


def test_paretos_points_say_whose_they_are() -> None:
    """Published rows over wan, and ours with the paper's accuracy; what is not reproduced is on no line."""
    context = Context.load(ROOT, ROOT / "results", ROOT / CLAIMS)
    charts = {chart.title: chart for chart in pareto(context, [])}
    assert {"CIFAR-10", "CIFAR-100", "Tiny-ImageNet"} <= charts.keys()
    for chart in charts.values():
        assert all("(the paper's)" in point.tip for point in chart.points if point.kind != "trained")
        assert all(chart.left <= m.x <= chart.right and chart.top <= m.y <= chart.bottom for m in chart.marks)
        assert not any("@" in point.tip for point in chart.points)
        on_lines = {pair for _, pairs in chart.lines for pair in pairs}
        for point in chart.points:
            assert (point.kind in ("ours", "apart")) == (" s measured, n = " in point.tip)
            assert (point.kind == "apart") == ("not reproduced" in point.tip)
            assert point.kind != "apart" or (point.x, point.y) not in on_lines
    assert any(point.kind == "ours" for point in charts["CIFAR-10"].points)


def test_front() -> None:
    """Only what nothing else beats, from left to right."""
    points = [ChartPoint(x, y, "", "", "") for x, y in ((3, 3), (1, 1), (2, 1), (2, 2), (4, 3))]
    assert front(points) == [(1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(("low", "high", "log"), [(44.0, 120.0, False), (1.0, 1.0, False), (0.7, 110.0, True)])
def test_scales(low: float, high: float, log: bool) -> None:
    """Values lie within, and so do a few round ticks."""
    scale = Scale.around([low, high], log=log)
    assert 0 < scale.share(low) <= scale.share(high) < 1
    ticks = scale.ticks()
    assert 3 <= len(ticks) <= 9 and all(0 <= scale.share(tick) <= 1 for tick in ticks)


def test_a_prediction_is_a_point(tmp_path: Path, put: PutRecord) -> None:
    """What a record keeps of its prediction, against its median; no records, no chart."""
    put("prediction", "plain", 2.0)
    assert prediction(counted_runs(tmp_path, tmp_path / "results")) is None
    put("prediction", "softmax", 2.0, prediction=Prediction.model_validate(PREDICTION))
    chart = prediction(counted_runs(tmp_path, tmp_path / "results"))
    assert chart is not None
    (point,) = chart.points
    assert (point.x, point.y) == (2.0, 2.2) and "+10.0%" in point.tip


PREDICTION: dict[str, Any] = {
    **{"program": "p", "fingerprint": "f", "protocol": "semi2k", "network": {"name": "lan"}},
    **{"seconds": 2.2, "compute_s": 2.0, "floor_s": 0.1, "wake_s": 0.1, "turns": 3.0, "waited": 1.0},
    **{"sent_bytes": (1.0, 1.0), "sent_messages": (1.0, 1.0), "operations": []},
}


def test_a_training_meets_its_seconds(tmp_path: Path, put: PutRecord) -> None:
    """Trained weights of an architecture and plan that ran over wan are a point; its page has the confusion matrix.

    The cell's page leads there.
    """
    put("variants", "softmax", 25.0)
    (file,) = (tmp_path / "results").glob("here/variants/*.json")
    content = json.loads(file.read_text())
    content["cell"]["network"] = "wan"
    made_by = content["program"]["made_by"]
    content["program"]["training"] = {"fingerprint": "of-the-training", "test_accuracy": 0.9, "test_images": 10}
    file.write_text(json.dumps(content))
    training = trained(Model.from_dict({name: made_by[name] for name in ("config", "attention", "plan", "gelu")}))
    training.save(tmp_path / "results" / "here" / "small" / "teacher-s0.training.json")
    context = Context.load(tmp_path, tmp_path / "results", ROOT / CLAIMS)
    charts = pareto(context, [TrainingRow(training, Path("here/small/teacher-s0.training.json"))])
    (point,) = [point for chart in charts for point in chart.points if point.kind == "trained"]
    assert (point.x, point.y) == (25.0, 90.0) and "10 test images" in point.tip
    page = build(tmp_path / "results", tmp_path / "report")
    shown = (page.parent / point.href).read_text()
    assert "Confusion matrix" in shown and "dog" in shown
    (cell,) = page.parent.glob("cells/here/variants/*.html")
    assert f'{point.href}">teacher-s0</a>: 90.00 % of 10 test images are classified correctly' in cell.read_text()


def trained(model: Model) -> TrainingRecord:
    """The record of a training of `model` on two classes."""
    classes = [ClassReport(name=name, images=5, precision=0.9, recall=0.9, f1=0.9) for name in ("cat", "dog")]
    train = {"epochs": 1, "batch": 5, "learning_rate": 1e-3}
    return TrainingRecord(
        experiment="small",
        name="teacher-s0",
        stage="teacher",
        status="ok",
        fingerprint="of-the-training",
        config=RunConfig.model_validate({"data": {"name": "pets"}, "model": {"config": "vit_7_4_32"}, "train": train}),
        seed=0,
        data=[DataIdentity(name="pets", split="train", images=20, files={}, published_checksum=None)],
        model=model,
        test=Score(images=10, accuracy=0.9, loss=0.1, classes=classes, confusion=[[5, 0], [1, 4]]),
        machine=Machine(cpu="", cores=1, memory_bytes=1, kernel="", system="", load_1min=0.0, devices=[]),
        versions={},
        code=Code(source="", dirty=False),
        started_at="2026-01-01T00:00:00",
    )
