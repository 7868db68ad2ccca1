"""The runs of a sweep: resumed, several at once, and with complete records."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import in_a_process, mpc_search

from mpc_search import SearchError, load_checkpoint
from mpc_search.record import TrainingRecord, record_json_schema
from mpc_search.sweep import Run, load_sweep, with_parents
from mpc_search.sweep_runner import SweepPaths, run_sweep

ROOT = Path(__file__).parents[3]


def test_a_sweep_resumes(small: Path, tmp_path: Path) -> None:
    """A run with a good record is not run again, unless another run needs its missing checkpoint."""
    name, runs = load_sweep(small)
    paths = SweepPaths(tmp_path / "checkpoints", tmp_path / "results" / "here" / name)
    new: list[str] = []

    def seen(run: Run, record: TrainingRecord, is_new: bool) -> None:
        if is_new:
            new.append(run.name)

    first = run_sweep(name, runs, paths, quiet=True, may_start=lambda: len(new) < 3, on_record=seen)
    assert len(first) == 3 and new == ["teacher-s3", "teacher-s4", "search-1e-05-s3"]
    rest = run_sweep(name, runs, paths, quiet=True, on_record=seen)
    assert [record.status for record in rest] == ["ok"] * len(runs), [record.failure for record in rest]
    assert new == [run.name for run in runs]

    done = {record.name: record for record in rest}
    plans = {key: load_checkpoint(paths.checkpoint(key))[0].plan for key in ("mpcvit-0.0-global-s3", "student-s3")}
    assert plans["mpcvit-0.0-global-s3"] is not None and plans["student-s3"] is not None
    assert not any(sum(choice.on) for choice in plans["mpcvit-0.0-global-s3"].attention or ())
    student = done["student-s3"]
    assert student.plan == plans["student-s3"] and student.budget is not None
    budget = student.budget
    assert budget.limit is not None and budget.predicted_seconds is not None
    assert budget.rule == "seconds" and budget.predicted_seconds <= budget.limit
    assert set(student.parents) == {"teacher", "search"}
    assert done["search-1e-05-s3"].alpha is not None and np.shape(done["search-1e-05-s3"].alpha) == (2, 4)
    assert done["evaluated-s3"].test == student.test

    new.clear()
    paths.record("mpcvit-0.5-random-s3").unlink()
    (paths.checkpoint("search-1e-05-s3") / "model.json").unlink()
    (paths.checkpoint("search-1e-05-s3") / "params.npz").unlink()
    paths.checkpoint("search-1e-05-s3").rmdir()
    run_sweep(name, runs, paths, quiet=True, on_record=seen)
    assert new == ["search-1e-05-s3", "mpcvit-0.5-random-s3"] and paths.checkpoint("search-1e-05-s3").is_dir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_several_at_once(small: Path, tmp_path: Path) -> None:
    """Parents come first, each run has its share of the cores, and one worker finds the records of several."""
    name, runs = load_sweep(small)
    runs = with_parents(runs, lambda run: run.name in ("teacher-s4", "student-s3"))
    paths = SweepPaths(tmp_path / "checkpoints", tmp_path / "results" / "here" / name)
    seen: list[str] = []
    records = run_sweep(name, runs, paths, workers=2, on_record=lambda run, record, new: seen.append(run.name))
    assert [record.status for record in records] == ["ok"] * len(runs), [record.failure for record in records]
    assert sorted(seen) == sorted(run.name for run in runs)
    assert all(seen.index(parent) < seen.index(run.name) for run in runs for parent in run.parents.values())
    cores = len(os.sched_getaffinity(0))
    assert {record.machine.cores for record in records} <= {cores // 2, cores - cores // 2}
    assert run_sweep(name, runs, paths) == records == [TrainingRecord.load(paths.record(run.name)) for run in runs]


def test_more_workers_than_cores(small: Path, tmp_path: Path) -> None:
    """More workers than cores are refused."""
    name, runs = load_sweep(small)
    with pytest.raises(SearchError, match="Fix: give fewer --workers"):
        run_sweep(name, runs, SweepPaths(tmp_path, tmp_path), workers=len(os.sched_getaffinity(0)) + 1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_a_killed_worker_and_a_killed_sweep(small: Path, tmp_path: Path) -> None:
    """The first ends with a fix; the second ends its workers too, and the next sweep resumes."""
    paths = ("--checkpoints", str(tmp_path / "c"), "--results", str(tmp_path), "--machine", "m")
    code = "from mpc_search.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", str(small), *paths, "--workers", "2", "--only"]

    def training(sweep: subprocess.Popen[str]) -> list[psutil.Process]:
        """Its workers, as soon as one of them trains."""
        until = time.monotonic() + 120
        while time.monotonic() < until and sweep.poll() is None:
            workers = [p for p in psutil.Process(sweep.pid).children() if "spawn_main" in " ".join(p.cmdline())]
            if len(workers) == 2 and any((tmp_path / "c").rglob("metrics.jsonl")):
                return workers
            time.sleep(0.02)
        raise AssertionError(sweep.communicate())

    first = subprocess.Popen([*command, "student"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    training(first)[0].kill()
    _, err = first.communicate(timeout=120)
    assert first.returncode == 2 and "A worker process was killed" in err and "Traceback" not in err
    second = subprocess.Popen([*command, "student"], text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers = training(second)
    second.kill()
    second.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    done = subprocess.run([*command, "teacher-s3"], text=True, capture_output=True, timeout=300)
    assert done.returncode == 0 and "[1/1] teacher-s3: " in done.stdout, done.stderr


def test_a_failure_leaves_a_record(tmp_path: Path) -> None:
    """Runs that build on it fail too; the others are run."""
    path = tmp_path / "failing.toml"
    path.write_text(
        'name = "failing"\nconfig = "digits"\nscale = "smoke"\n[[run]]\nname = "teacher"\nstage = "teacher"\n'
        'set = { "train.batch" = 5000 }\n[[run]]\nname = "student"\nstage = "retrain"\nteacher = "teacher"\n'
        'attention = "scale"\nset = { "distill.kind" = "both" }\n[[run]]\nname = "alone"\nstage = "teacher"\n'
        'set = { "train.epochs" = 1 }\n'
    )
    done = in_a_process(
        tmp_path, "sweep", str(path), "--checkpoints", str(tmp_path / "c"), "--results", str(tmp_path), "--machine", "m"
    )
    assert done.returncode == 2 and "2 runs failed: teacher-s0, student-s0" in done.stderr
    records = {
        name: TrainingRecord.load(tmp_path / "m" / "failing" / f"{name}-s0.training.json")
        for name in ("teacher", "student", "alone")
    }
    assert records["teacher"].failure is not None and "lower train.batch" in records["teacher"].failure.fix
    assert (
        records["student"].failure is not None
        and "teacher-s0, which this run builds on" in records["student"].failure.problem
    )
    assert records["alone"].status == "ok" and records["alone"].test is not None
    assert records["alone"].test.images == 360 and len(records["alone"].test.confusion) == 10


def test_records_have_their_provenance(tmp_path: Path) -> None:
    """Settings, data with checksums, machine, versions and code, but no path of this machine."""
    done = mpc_search(
        *("teacher", "--config", "digits", "--out", str(tmp_path / "model"), "--results", str(tmp_path / "r")),
        *("--set", "train.epochs=1"),
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "r").glob("*/single/model.training.json")
    record = TrainingRecord.load(path)
    assert [data.split for data in record.data] == ["train", "test"] and record.data[0].files
    assert record.versions["jax"] and record.code.source and record.machine.cores
    assert record.test is not None and record.evaluations[-1].accuracy == record.test.accuracy
    assert str(tmp_path) not in path.read_text()


def test_the_schema_in_the_docs_is_up_to_date() -> None:
    """Fix: python -m mpc_search.record > docs/training-record.schema.json"""
    assert (ROOT / "docs" / "training-record.schema.json").read_text() == record_json_schema()


@pytest.mark.skipif(importlib.util.find_spec("spu_bench") is None, reason="private inference needs spu_bench")
def test_the_whole_pipeline(tmp_path: Path) -> None:
    """Teacher, search, binarize, retrain with and without distillation, evaluate; 16 images under MPC."""
    done = in_a_process(
        tmp_path,
        *("sweep", "smoke", "--checkpoints", str(tmp_path / "c"), "--results", str(tmp_path), "--machine", "here"),
    )
    assert done.returncode == 0, done.stderr
    records = {
        name: TrainingRecord.load(tmp_path / "here" / "smoke" / f"{name}-s0.training.json")
        for name in ("teacher", "search", "mpcvit-none", "mpcvit-both", "private")
    }
    for name, record in records.items():
        assert record.test is not None and record.test.accuracy > 0.75, name
    private = records["private"].private[0]
    assert (private.images, private.clear_equal) == (16, private.clear) and private.same_class >= 15
    plan = records["mpcvit-both"].plan
    assert plan is not None and sum(sum(choice.on) for choice in plan.attention or ()) == 4
    done = mpc_search("evaluate", str(tmp_path / "c" / "smoke" / "mpcvit-both-s0"), "--json", str(tmp_path / "e.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "e.json").read_text())["test"]["accuracy"] == records["private"].test.accuracy  # type: ignore[union-attr]
