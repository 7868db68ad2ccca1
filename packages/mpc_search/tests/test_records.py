"""Training records of every schema load with their content."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from mpc_search import SearchError
from mpc_search.migrations import migrate
from mpc_search.provenance import code, machine, machine_name
from mpc_search.record import SUFFIX, TrainingRecord
from mpc_search.sweep import load_sweep, sweep_names

RESULTS = Path(__file__).parents[3] / "results"

FIRST_SCHEMA = {
    "schema_version": 1,
    "experiment": "e",
    "name": "student-s0",
    "stage": "retrain",
    "status": "failed",
    "failure": "There is no data. Fix: download it.",
    "config": {"data": {"name": "digits"}, "model": {"config": "vit_4_4_28"}, "train": {"epochs": 1}},
    "seed": 0,
    "data": [],
    "model": {"name": "tiny", "layers": 1, "heads": 2, "dim": 8, "attention": "mix", "gelu": "tanh"},
    "plan": {"schema": 1, "attention": [{"level": "head", "on": [1, 0]}], "gelu": None, "post_relu": False},
    "rule": {"level": "head", "rule": "seconds", "limit": 2.0, "predicted_seconds": 1.5},
    "machine": {
        **{"cpu": "c", "cores": 2, "memory_bytes": 1, "kernel": "k", "system": "Linux"},
        **{"load_1min": 0.5, "devices": ["cpu"]},
    },
    "versions": {"jax": "0.10.2"},
    "code": {"source": "s"},
    "started_at": "2026-01-01T00:00:00",
}


def test_the_first_schema_is_migrated(tmp_path: Path) -> None:
    """Model and plan become one value, `rule` becomes `budget`, and the failure is split."""
    before = json.dumps(FIRST_SCHEMA)
    record = TrainingRecord.model_validate(FIRST_SCHEMA)
    assert json.dumps(FIRST_SCHEMA) == before
    assert record.model is not None and record.model.config.heads == 2 and record.model.gelu == "tanh"
    assert record.plan is not None and record.plan.attention is not None and record.plan.attention[0].on == (1, 0)
    assert record.budget is not None and (record.budget.rule, record.budget.limit) == ("seconds", 2.0)
    assert record.failure is not None
    assert (record.failure.problem, record.failure.fix) == ("There is no data.", "download it.")
    record.save(tmp_path / "record.json")
    assert TrainingRecord.load(tmp_path / "record.json") == record
    content = json.loads((tmp_path / "record.json").read_text())
    assert content["schema_version"] == 2 and migrate(content) is content


def test_a_run_without_a_model_is_migrated() -> None:
    """The first schema had an empty model for runs that failed."""
    assert TrainingRecord.model_validate({**FIRST_SCHEMA, "model": {}, "plan": None, "rule": None}).model is None


def test_every_stored_record_loads_and_is_found() -> None:
    """And its sweep finds it by its key."""
    keys = {(name, run.name): run.key for name, runs in map(load_sweep, sweep_names()) for run in runs}
    paths = sorted(RESULTS.glob(f"*/*/*{SUFFIX}"))
    assert paths
    for path in paths:
        record = TrainingRecord.load(path)
        assert record.key == keys[record.experiment, record.name], path
        assert record.test is not None and record.model is not None


def test_other_files_are_refused(tmp_path: Path) -> None:
    """The message names the wrong field."""
    path = tmp_path / "record.json"
    path.write_text(json.dumps({**FIRST_SCHEMA, "seed": "none"}))
    with pytest.raises(SearchError, match="seed"):
        TrainingRecord.load(path)
    path.write_text("{")
    with pytest.raises(SearchError, match="is not a training record"):
        TrainingRecord.load(path)
    with pytest.raises(SearchError, match="No such file"):
        TrainingRecord.load(tmp_path / "absent.json")


def test_provenance() -> None:
    """The machine's name has its cores and memory; code has a source hash, and a commit only with its state."""
    assert machine().cores >= 1 and machine().devices
    assert machine_name().endswith(f"-{machine().cores}c-{round(machine().memory_bytes / 2**30)}g")
    assert len(code().source) == 64 and (code().commit is None) == (code().dirty is None)


def test_an_error_crosses_processes() -> None:
    """With problem, fix and reason. Only known reasons are allowed."""
    error = pickle.loads(pickle.dumps(SearchError("It broke.", "repair it.", "data")))
    assert (error.problem, error.fix, error.reason) == ("It broke.", "repair it.", "data")
    assert str(error) == "It broke. Fix: repair it."
    with pytest.raises(ValueError, match="unknown reason"):
        SearchError("It broke.", "repair it.", "because")  # type: ignore[arg-type]


def test_importing_changes_nothing() -> None:
    """Neither the loggers nor the environment."""
    check = (
        "import logging, os; import absl.logging, jax, orbax.checkpoint; level = logging.getLogger('absl').level; "
        "before = dict(os.environ); import mpc_search.cli, mpc_search.sweep_runner; "
        "assert (logging.getLogger('absl').level, dict(os.environ)) == (level, before)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_saving_a_state_restores_the_logger(tmp_path: Path) -> None:
    """Orbax is quiet only while it is called."""
    from conftest import job

    from mpc_search.trainer import fit

    level = logging.getLogger("absl").level
    fit(job(), tmp_path / "run", stop_after=4)
    assert logging.getLogger("absl").level == level
