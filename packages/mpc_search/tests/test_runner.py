"""The runs of a sweep: gone on with where they stopped, several at once, and their records say all."""

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
from mpc_search.runner import Places, run_sweep
from mpc_search.sweep import Run, load_sweep, with_parents

ROOT = Path(__file__).parents[3]


def test_it_goes_on_where_it_stopped(small: Path, tmp_path: Path) -> None:
    """What is done is not run again; what failed, or whose checkpoint another needs, is."""
    name, runs = load_sweep(small)
    places = Places(tmp_path / "checkpoints", tmp_path / "results" / "here" / name)
    new: list[str] = []

    def told(run: Run, record: TrainingRecord, is_new: bool) -> None:
        if is_new:
            new.append(run.name)

    first = run_sweep(name, runs, places, quiet=True, go_on=lambda: len(new) < 3, tell=told)
    assert len(first) == 3 and new == ["teacher-s3", "teacher-s4", "search-1e-05-s3"]
    rest = run_sweep(name, runs, places, quiet=True, tell=told)
    assert [record.status for record in rest] == ["ok"] * len(runs), [record.failure for record in rest]
    assert new == [run.name for run in runs]

    done = {record.name: record for record in rest}
    plans = {key: load_checkpoint(places.checkpoint(key))[0].plan for key in ("mpcvit-0.0-global-s3", "student-s3")}
    assert plans["mpcvit-0.0-global-s3"] is not None and plans["student-s3"] is not None
    assert not any(sum(choice.on) for choice in plans["mpcvit-0.0-global-s3"].attention or ())
    student = done["student-s3"]
    assert student.plan == plans["student-s3"].to_dict() and student.rule is not None
    assert student.rule["rule"] == "seconds" and student.rule["predicted_seconds"] <= student.rule["limit"]
    assert set(student.parents) == {"teacher", "search"}
    assert done["search-1e-05-s3"].alpha is not None and np.shape(done["search-1e-05-s3"].alpha) == (2, 4)
    assert done["evaluated-s3"].test == student.test

    new.clear()
    places.record("mpcvit-0.5-random-s3").unlink()
    (places.checkpoint("search-1e-05-s3") / "model.json").unlink()
    (places.checkpoint("search-1e-05-s3") / "params.npz").unlink()
    places.checkpoint("search-1e-05-s3").rmdir()
    run_sweep(name, runs, places, quiet=True, tell=told)
    assert new == ["search-1e-05-s3", "mpcvit-0.5-random-s3"] and places.checkpoint("search-1e-05-s3").is_dir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_several_at_once(small: Path, tmp_path: Path) -> None:
    """Parents first, each run on its share of the cores; what is done stays, also for one worker after several."""
    name, runs = load_sweep(small)
    runs = with_parents(runs, lambda run: run.name in ("teacher-s4", "student-s3"))
    places = Places(tmp_path / "checkpoints", tmp_path / "results" / "here" / name)
    told: list[str] = []
    records = run_sweep(name, runs, places, workers=2, tell=lambda run, record, new: told.append(run.name))
    assert [record.status for record in records] == ["ok"] * len(runs), [record.failure for record in records]
    assert sorted(told) == sorted(run.name for run in runs)
    assert all(told.index(parent) < told.index(run.name) for run in runs for parent in run.parents.values())
    cores = len(os.sched_getaffinity(0))
    assert {record.machine["cores"] for record in records} <= {cores // 2, cores - cores // 2}
    assert run_sweep(name, runs, places) == records == [TrainingRecord.load(places.record(run.name)) for run in runs]


def test_more_workers_than_cores(small: Path, tmp_path: Path) -> None:
    """They would only be in each other's way."""
    name, runs = load_sweep(small)
    with pytest.raises(SearchError, match="Fix: give --workers"):
        run_sweep(name, runs, Places(tmp_path, tmp_path), workers=len(os.sched_getaffinity(0)) + 1)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_a_killed_worker_and_a_killed_sweep(small: Path, tmp_path: Path) -> None:
    """The first ends with what to do; the second takes its workers with it, and the next goes on."""
    places = ("--checkpoints", str(tmp_path / "c"), "--results", str(tmp_path), "--machine", "m")
    code = "from mpc_search.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", str(small), *places, "--workers", "2", "--only"]

    def training(sweep: subprocess.Popen[str]) -> list[psutil.Process]:
        """Its workers, once a checkpoint shows that one is at work."""
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
    assert first.returncode == 2 and "a worker was killed" in err and "Traceback" not in err
    second = subprocess.Popen([*command, "student"], text=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    workers = training(second)
    second.kill()
    second.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    done = subprocess.run([*command, "teacher-s3"], text=True, capture_output=True, timeout=300)
    assert done.returncode == 0 and "[1/1] teacher-s3: " in done.stdout, done.stderr


def test_a_failure_leaves_a_record(tmp_path: Path) -> None:
    """And what builds on it fails with it; the others go on."""
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
    assert records["teacher"].failure is not None and "lower train.batch" in records["teacher"].failure
    assert records["student"].failure is not None and "teacher-s0, which it builds on" in records["student"].failure
    assert records["alone"].status == "ok" and records["alone"].test is not None
    assert records["alone"].test.images == 360 and len(records["alone"].test.confusion) == 10


def test_records_say_who_made_them(tmp_path: Path) -> None:
    """Settings, data with checksums, machine, versions and code; no path of this machine anywhere."""
    done = mpc_search(
        *("teacher", "--config", "digits", "--out", str(tmp_path / "model"), "--results", str(tmp_path / "r")),
        *("--set", "train.epochs=1"),
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "r").glob("*/single/model.training.json")
    record = TrainingRecord.load(path)
    assert [data.split for data in record.data] == ["train", "test"] and record.data[0].files
    assert record.versions["jax"] and record.code["source"] and record.machine["cores"]
    assert record.test is not None and record.evaluations[-1]["accuracy"] == record.test.accuracy
    assert str(tmp_path) not in path.read_text()


def test_the_schema_in_the_docs_is_the_records() -> None:
    """python -m mpc_search.record > docs/training-record.schema.json"""
    assert (ROOT / "docs" / "training-record.schema.json").read_text() == record_json_schema()


@pytest.mark.skipif(importlib.util.find_spec("spu_bench") is None, reason="private inference needs spu_bench")
def test_the_whole_pipeline(tmp_path: Path) -> None:
    """Teacher, search, binarize, retrain with and without distillation, evaluate; 16 images privately."""
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
    assert plan is not None and sum(sum(layer["on"]) for layer in plan["attention"]) == 4
    done = mpc_search("evaluate", str(tmp_path / "c" / "smoke" / "mpcvit-both-s0"), "--json", str(tmp_path / "e.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "e.json").read_text())["test"]["accuracy"] == records["private"].test.accuracy  # type: ignore[union-attr]
