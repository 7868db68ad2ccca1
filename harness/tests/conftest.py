"""Fixtures of the harness's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiment_files import ANY_RECORD, ROOT, PutRecord, PutTraining
from tiny import EXPERIMENT, save_tiny

from mpc_search.provenance import Code, Machine
from mpc_search.record import Score, TrainingRecord
from mpc_search.run_config import load_config
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.store import Store
from spu_bench.samples import summarize

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of tests are no measurements: they do not wait for one on this machine, and none waits for them."""
    monkeypatch.setenv("SPU_BENCH_LOCK", str(tmp_path / "measurement.lock"))


@pytest.fixture
def workplace(pytester: pytest.Pytester) -> pytest.Pytester:
    """A directory with one experiment and the checkpoint of its model."""
    pytester.makepyfile(test_tiny=EXPERIMENT)
    save_tiny(pytester.path, seed=0)
    return pytester


@pytest.fixture
def put(tmp_path: Path) -> PutRecord:
    """Stores a record of a cell that took so many seconds, below `tmp_path`/results."""

    def put_record(
        experiment: str,
        name: str,
        *seconds: float,
        machine: str = "here",
        labels: dict[str, str] | None = None,
        **changes: Any,
    ) -> None:
        record = CellRecord.load(ANY_RECORD)
        record.samples_s = list(seconds)
        record.statistics = summarize(list(seconds))
        cell = Cell(experiment=experiment, name=name, model=ModelSpec(config=name), labels=labels or {}, scale="paper")
        Store(tmp_path / "results", machine).save(cell, record.model_copy(update=changes))

    return put_record


@pytest.fixture
def put_training(tmp_path: Path) -> PutTraining:
    """Stores a record of a training that reached so many per cent, below `tmp_path`/results."""

    def put_record(sweep: str, run: str, seed: int, percent: float, machine: str = "here", **changes: Any) -> None:
        record = TrainingRecord(
            experiment=sweep,
            name=f"{run}-s{seed}",
            stage="search" if run.startswith("search") else "retrain",
            status="ok",
            config=load_config("digits"),
            seed=seed,
            data=[],
            test=Score(images=100, accuracy=percent / 100, loss=1.0, classes=[], confusion=[]),
            machine=Machine(cpu="", cores=1, memory_bytes=1, kernel="", system="", load_1min=0.0, devices=[]),
            versions={},
            code=Code(source="", dirty=False),
            started_at="2026-01-01T00:00:00",
        )
        path = tmp_path / "results" / machine / sweep / f"{record.name}.training.json"
        record.model_copy(update=changes).save(path)

    return put_record


@pytest.fixture
def repository(tmp_path: Path, put: PutRecord) -> Path:
    """A repository with one measured row and a page that shows it."""
    (tmp_path / "harness").mkdir()
    for name in ("claims.toml", "paper_results.csv"):
        (tmp_path / "harness" / name).write_text((ROOT / "harness" / name).read_text())
    put("paper_cifar10", "main-softmax", 111.0)
    (tmp_path / "README.md").write_text("<!-- table claims_cifar10 -->\n<!-- end of table -->\n")
    return tmp_path
