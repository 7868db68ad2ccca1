"""An experiment end to end, on a tiny model: measured, stored, resumed, failed with a record, reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny import EXPERIMENT, measure, save_tiny, stored

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.cli import main
from mpcvit_harness.docs_pages import stale, write
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.prepare import prepare
from mpcvit_harness.report import build
from mpcvit_harness.store import Store, all_records
from spu_bench import Network, Options
from spu_bench.measurement_version import MEASUREMENT_VERSION


def test_measured_once_stored_resumed_reported(workplace: pytest.Pytester) -> None:
    """Two tests look at one measurement; a second session finds it; `--force` measures again; the report shows it."""
    measure(workplace).assert_outcomes(passed=2)
    (path,) = stored(workplace)
    first = CellRecord.load(path)
    assert path.parent == workplace.path / "results" / "here" / "tiny"
    assert first.cell.fingerprint() == first.cell_fingerprint
    assert first.request.repeats == 2 and (first.status, first.correctness) == ("ok", "right")
    assert first.program is not None and first.program.training is not None
    assert first.watch is not None and first.watch.own_cores > 0
    assert first.overhead_s is not None and 0 < first.overhead_s < first.duration_s
    measure(workplace).assert_outcomes(passed=2)
    assert CellRecord.load(path) == first
    store, fingerprint = Store(path.parents[2], "here"), first.program.fingerprint
    assert store.find(first.cell, fingerprint) == first
    first.model_copy(update={"code": first.code.model_copy(update={"source": "of another version"})}).save(path)
    assert store.find(first.cell, fingerprint) is not None, "the hash of the source is provenance alone"
    first.model_copy(update={"measurement_version": MEASUREMENT_VERSION - 1}).save(path)
    assert store.find(first.cell, fingerprint) is None
    measure(workplace, "--force").assert_outcomes(passed=2)
    assert CellRecord.load(path).samples_s != first.samples_s
    page = build(workplace.path / "results", workplace.path / "report").read_text()
    link = f"cells/here/tiny/{path.stem}.html"
    assert link in page and path.name in (workplace.path / "report" / link).read_text()
    assert "50.00% of 12" in page and f"<td>{first.rounds:,}<" in page and "1 of 1 cells" in page


def test_another_model_is_measured_again(workplace: pytest.Pytester) -> None:
    """A cell whose checkpoint was trained again has another Program."""
    measure(workplace).assert_outcomes(passed=2)
    (path,) = stored(workplace)
    before = CellRecord.load(path)
    save_tiny(workplace.path, seed=1)
    measure(workplace).assert_outcomes(passed=2)
    after = CellRecord.load(path)
    assert before.program is not None and after.program is not None
    assert before.program.fingerprint != after.program.fingerprint


def test_a_failed_cell_leaves_its_record(workplace: pytest.Pytester) -> None:
    """The reason is in the record, in the test's message and in the report; a later session tries again."""
    source = EXPERIMENT.replace("repeats=2", "repeats=2, timeout_s=0.2")
    workplace.makepyfile(test_tiny=source)
    result = measure(workplace)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*did not end within its limit*"])
    (path,) = stored(workplace)
    record = CellRecord.load(path)
    assert record.status == "failed" and record.failure is not None and record.failure.reason == "walltime"
    page = build(workplace.path / "results", workplace.path / "report").read_text()
    assert "did not end within its limit" in page and "0 of 1 cells" in page
    assert Store(workplace.path / "results", "here").find(record.cell, "any") is None


def test_missing_checkpoint(workplace: pytest.Pytester) -> None:
    """It is named, with the command that makes one, in the record too; a stored result is kept."""
    missing = ("--checkpoints", "elsewhere")
    result = measure(workplace, *missing)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*is not a checkpoint*mpc-search retrain*"])
    (path,) = stored(workplace)
    record = CellRecord.load(path)
    assert record.status == "failed" and record.program is None
    assert record.failure is not None and "is not a checkpoint" in record.failure.problem
    measure(workplace).assert_outcomes(passed=2)
    before = path.read_bytes()
    measure(workplace, *missing).assert_outcomes(errors=2)
    assert path.read_bytes() == before


CANNOT_BE_EXPORTED = """
from mpcvit_harness.cells import Cell, ModelSpec, ProgramSpec
MODELS = {
    "kernels": ModelSpec(config="vit_4_4_28", kernels="none"),
    "config": ModelSpec(config="no_such_model"),
    "yours": ProgramSpec(function="yours:program"),
}
CELLS = [Cell(experiment="tiny", name=name, model=model) for name, model in MODELS.items()]
def test_runs(cell, record):
    pass
"""


def test_a_model_that_cannot_be_exported_leaves_a_record(workplace: pytest.Pytester) -> None:
    """With its reason, for a model of vit_models and for a function that raises any exception."""
    workplace.makepyfile(test_tiny=CANNOT_BE_EXPORTED, yours="def program():\n    raise KeyError('weights')")
    measure(workplace).assert_outcomes(errors=3)
    records = {record.cell.name: record for record in map(CellRecord.load, stored(workplace))}
    problems = {name: record.failure.problem for name, record in records.items() if record.failure}
    assert {record.status for record in records.values()} == {"failed"} and len(records) == 3
    assert "none" in problems["kernels"] and "no_such_model" in problems["config"]
    assert problems["yours"] == "The model cannot be exported: KeyError('weights')"


def test_a_record_is_found_by_what_was_measured(workplace: pytest.Pytester) -> None:
    """Under another limit, scale, label or name; not with another option, network or number of repeats."""
    measure(workplace).assert_outcomes(passed=2)
    (path,) = stored(workplace)
    first = CellRecord.load(path)
    reached = {
        "limit": "repeats=2, timeout_s=4000",
        "scale": "repeats=2, scale='reduced'",
        "label": "repeats=2, labels={'mu': '0.5'}",
    }
    for change in reached.values():
        workplace.makepyfile(test_tiny=EXPERIMENT.replace("repeats=2", change))
        measure(workplace, "--scale", "reduced", "-k", "semi2k").assert_outcomes(passed=2)
        assert stored(workplace) == [path] and CellRecord.load(path).samples_s == first.samples_s
    assert CellRecord.load(path).cell.labels == {"mu": "0.5"}
    workplace.makepyfile(
        test_tiny=EXPERIMENT.replace('"mix"', '"mixed"').replace('experiment="tiny"', 'experiment="other"')
    )
    measure(workplace).assert_outcomes(passed=2)
    (copy,) = set(stored(workplace)) - {path}
    assert CellRecord.load(copy).samples_s == first.samples_s
    assert CellRecord.load(copy).cell.key == "other/mixed-semi2k-loopback-loopback"
    store, fingerprint = Store(path.parents[2], "here"), first.program.fingerprint if first.program else ""
    wan = Network.load("wan")
    for field, value in (
        ("options", Options(runtime={"fxp_fraction_bits": 16})),
        ("network", wan),
        ("repeats", 3),
        ("runtime", "0.3.1b0"),
    ):
        assert store.find(first.cell.model_copy(update={field: value}), fingerprint) is None


OFF_BY_NINE = """
from dataclasses import replace
from vit_models import ViTConfig, export_program, init
def program():
    config = ViTConfig(name="tiny", image_size=8, channels=1, patch=4, layers=1, heads=2, dim=8, num_classes=3)
    made = export_program(config, init(config, 0))
    return replace(made, outputs=tuple((name, value + 9) for name, value in made.outputs))
"""

WRONG = """
from mpcvit_harness.cells import Cell, ProgramSpec
CELLS = [
    Cell(
        experiment="tiny",
        name=f"off-{may}",
        model=ProgramSpec(function="yours:program"),
        repeats=2,
        warmup=0,
        may_be_wrong=may,
    )
    for may in (False, True)
]
def test_runs(cell, record):
    assert record.status == "wrong" and record.wrong_inferences == 2
"""


def test_wrong_logits_are_no_result(workplace: pytest.Pytester) -> None:
    """They are stored as wrong and fail the cell; one that may be wrong has them as its result, and is found again."""
    workplace.makepyfile(test_tiny=WRONG, yours=OFF_BY_NINE)
    result = measure(workplace)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*The result is wrong in 2 of 2 inferences*Likely cause*"])
    assert len(stored(workplace)) == 2
    for path in stored(workplace):
        record = CellRecord.load(path)
        assert (record.status, record.correctness) == ("wrong", "wrong") and record.accuracy is not None
        found = Store(workplace.path / "results", "here").reusable(record.cell)
        assert (found is not None) is record.cell.may_be_wrong


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


def test_a_file_that_is_no_record_is_shown(tmp_path: Path) -> None:
    """A file of an unknown schema is not used, and the report names it."""
    folder = tmp_path / "results" / "here" / "tiny"
    folder.mkdir(parents=True)
    (folder / "old.json").write_text(json.dumps({"schema_version": 0}))
    ((_, why),) = all_records(tmp_path / "results")
    assert isinstance(why, str)
    assert "here/tiny/old.json" in build(tmp_path / "results", tmp_path / "report").read_text()


def test_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without results is an error with a fix."""
    arguments = ("build", "--results", str(tmp_path / "absent"), "--out", str(tmp_path / "report"))
    monkeypatch.setattr("sys.argv", ["mpcvit-report", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "run an experiment first" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_a_models_kind_is_checked() -> None:
    """Weights are random or a checkpoint's."""
    cell = Cell(experiment="e", name="n", model=ModelSpec(config="vit_4_4_28", weights="stolen:x"))
    with pytest.raises(HarnessError, match="random:SEED"):
        prepare(cell, Path("unused"), Path("unused"))


def test_the_docs_tables_are_those_of_the_records() -> None:
    """The tables in README and docs follow from the committed records: `mpcvit-report tables` writes them."""
    root = Path(__file__).parents[2]
    assert stale(root, root / "results") == []


def test_a_table_changed_by_hand_is_found(tmp_path: Path) -> None:
    """`check` fails where a page has another number than its records, and `tables` corrects it."""
    root = Path(__file__).parents[2]
    shutil.copytree(root / "results", tmp_path / "results")
    (tmp_path / "harness").mkdir()
    for name in ("claims.toml", "paper_results.csv"):
        shutil.copy(root / "harness" / name, tmp_path / "harness")
    text = (root / "README.md").read_text()
    assert "| 1,987 |" in text
    (tmp_path / "README.md").write_text(text.replace("| 1,987 |", "| 987 |"))
    assert stale(tmp_path, tmp_path / "results") == [tmp_path / "README.md"]
    assert write(tmp_path, tmp_path / "results") == [tmp_path / "README.md"]
    assert (tmp_path / "README.md").read_text() == text
