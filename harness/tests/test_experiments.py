"""An experiment end to end, on a tiny model: measured, stored, resumed, failed with a trace, reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import EXPERIMENT, measure, save_tiny, stored

from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.cli import app
from mpcvit_harness.pages import stale, write
from mpcvit_harness.report import build
from mpcvit_harness.store import Store, all_records
from spu_bench import RunRecord


def test_measured_once_stored_resumed_reported(workplace: pytest.Pytester) -> None:
    """Two tests look at one measurement; a second session finds it; `--force` measures again; the report shows it."""
    measure(workplace).assert_outcomes(passed=2)
    (path,) = stored(workplace)
    first = RunRecord.load(path)
    assert path.parent == workplace.path / "results" / "here" / "tiny"
    assert first.cell is not None and Cell.model_validate(first.cell).fingerprint() == first.cell_fingerprint
    assert first.request.repeats == 2 and first.status == "ok"
    assert first.watch is not None and first.watch.own_cores > 0
    assert first.overhead_s is not None and 0 < first.overhead_s < first.duration_s
    measure(workplace).assert_outcomes(passed=2)
    assert RunRecord.load(path) == first
    cell = Cell.model_validate(first.cell)
    assert first.program is not None
    assert Store(path.parents[2], "here").find(cell, first.program.fingerprint) == first
    first.model_copy(update={"code": {**first.code, "source": "of another version"}}).save(path)
    assert Store(path.parents[2], "here").find(cell, first.program.fingerprint) is None
    measure(workplace, "--force").assert_outcomes(passed=2)
    assert RunRecord.load(path).samples_s != first.samples_s
    page = build(workplace.path / "results", workplace.path / "report").read_text()
    link = f"cells/here/tiny/{path.stem}.html"
    assert link in page and path.name in (workplace.path / "report" / link).read_text()
    assert "50.00% of 12" in page and f"<td>{first.rounds:,}<" in page and "1 of 1 cells" in page


def test_another_model_is_measured_anew(workplace: pytest.Pytester) -> None:
    """The same cell with a checkpoint trained again is no longer the same thing."""
    measure(workplace).assert_outcomes(passed=2)
    (path,) = stored(workplace)
    before = RunRecord.load(path)
    save_tiny(workplace.path, seed=1)
    measure(workplace).assert_outcomes(passed=2)
    after = RunRecord.load(path)
    assert before.program is not None and after.program is not None
    assert before.program.fingerprint != after.program.fingerprint


def test_a_failed_cell_leaves_its_record(workplace: pytest.Pytester) -> None:
    """The reason stands in the record, in the test's one line and in the report; a later session tries again."""
    source = EXPERIMENT.replace("repeats=2", "repeats=2, timeout_s=0.2")
    workplace.makepyfile(test_tiny=source)
    result = measure(workplace)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*did not end within its limit*"])
    (path,) = stored(workplace)
    record = RunRecord.load(path)
    assert record.status == "failed" and record.failure is not None and record.failure.reason == "walltime"
    page = build(workplace.path / "results", workplace.path / "report").read_text()
    assert "did not end within its limit" in page and "0 of 1 cells" in page
    assert Store(workplace.path / "results", "here").find(Cell.model_validate(record.cell), "any") is None


def test_missing_checkpoint(workplace: pytest.Pytester) -> None:
    """It is named, with the command that makes one."""
    result = measure(workplace, "--checkpoints", "elsewhere")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*is not a checkpoint*mpc-search retrain*"])


def test_parallel_measurement_is_refused(workplace: pytest.Pytester) -> None:
    """xdist would let cells share the cores: it is refused with the reason."""
    workplace.makeconftest(
        """
        def pytest_addoption(parser):
            parser.addoption("--numprocesses", dest="numprocesses", default=None, type=int)
        """
    )
    result = measure(workplace, "--numprocesses", "2")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*one at a time*"])


def test_what_is_no_record_is_shown(tmp_path: Path) -> None:
    """A file of another schema is neither trusted nor hidden."""
    folder = tmp_path / "results" / "here" / "tiny"
    folder.mkdir(parents=True)
    (folder / "old.json").write_text(json.dumps({"schema_version": 0}))
    ((_, why),) = all_records(tmp_path / "results")
    assert isinstance(why, str)
    assert "here/tiny/old.json" in build(tmp_path / "results", tmp_path / "report").read_text()


def test_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to report is an error with a fix."""
    with pytest.raises(SystemExit) as caught:
        app(["build", "--results", str(tmp_path / "absent"), "--out", str(tmp_path / "report")])
    assert caught.value.code == 2
    assert "run the experiments first" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_a_models_kind_is_checked() -> None:
    """Weights are random or a checkpoint's."""
    from mpcvit_harness.prepare import prepare

    cell = Cell(experiment="e", name="n", model=ModelSpec(config="vit_4_4_28", weights="stolen:x"))
    with pytest.raises(ValueError, match="random:SEED"):
        prepare(cell, Path("unused"), Path("unused"))


def test_the_docs_tables_are_those_of_the_records() -> None:
    """The tables in README and docs follow from the committed records: `mpcvit-report tables` writes them."""
    root = Path(__file__).parents[2]
    assert stale(root, root / "results") == []


def test_a_table_changed_by_hand_is_found(tmp_path: Path) -> None:
    """`check` fails where a page says another number than its records, and `tables` mends it."""
    root = Path(__file__).parents[2]
    shutil.copytree(root / "results", tmp_path / "results")
    (tmp_path / "harness").mkdir()
    for name in ("claims.toml", "paper_results.csv"):
        shutil.copy(root / "harness" / name, tmp_path / "harness")
    text = (root / "README.md").read_text()
    assert "| 1987 |" in text
    (tmp_path / "README.md").write_text(text.replace("| 1987 |", "| 987 |"))
    assert stale(tmp_path, tmp_path / "results") == [tmp_path / "README.md"]
    assert write(tmp_path, tmp_path / "results") == [tmp_path / "README.md"]
    assert (tmp_path / "README.md").read_text() == text
