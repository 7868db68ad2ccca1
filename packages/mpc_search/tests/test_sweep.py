"""A sweep is one list: expanded once, run in order, gone on with where it stopped, and its records say all."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import in_a_process, mpc_search

from mpc_search import SearchError, load_checkpoint
from mpc_search.costs import CostTable
from mpc_search.record import TrainingRecord, record_json_schema
from mpc_search.sweep import Places, Run, load_sweep, run_sweep, sweep_names, with_parents

ROOT = Path(__file__).parents[3]

SMALL = """
name = "small"
config = "digits"
scale = "smoke"
seeds = [3, 4]

[[run]]
name = "teacher"
stage = "teacher"
set = { "train.epochs" = 1 }

[[run]]
name = "search-{search.weight}"
stage = "search"
set = { "train.epochs" = 1 }
grid = { "search.weight" = [1e-5, 1e-3] }
seeds = [3]

[[run]]
name = "mpcvit-{mu}-{rule}"
stage = "retrain"
search = "search-1e-05"
grid = { mu = [0.0, 0.5], rule = ["global", "random"] }
set = { "train.epochs" = 1 }
seeds = [3]

[[run]]
name = "student"
stage = "retrain"
search = "search-1e-05"
seconds_of_mu = 0.5
costs = "COSTS"
teacher = "teacher"
set = { "train.epochs" = 1, "distill.kind" = "both", "distill.init" = "teacher" }
seeds = [3]

[[run]]
name = "evaluated"
stage = "evaluate"
of = "student"
seeds = [3]
"""
STEPS = CostTable(protocol="semi2k", network="wan", kernels="plain", layers=((0.0, 1.0, 1.1, 1.2, 1.3),) * 2, rest=2.0)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The sweep above, with its cost table."""
    STEPS.save(tmp_path / "costs.json")
    path = tmp_path / "small.toml"
    path.write_text(SMALL.replace("COSTS", str(tmp_path / "costs.json")))
    return path


def test_expansion(small: Path) -> None:
    """Grids, seeds and dotted settings; keys differ where anything differs, and are the same in every process."""
    name, runs = load_sweep(small)
    assert name == "small" and [run.name for run in runs] == [
        *("teacher-s3", "teacher-s4", "search-1e-05-s3", "search-0.001-s3", "mpcvit-0.0-global-s3"),
        *("mpcvit-0.0-random-s3", "mpcvit-0.5-global-s3", "mpcvit-0.5-random-s3", "student-s3", "evaluated-s3"),
    ]
    assert runs[3].config.search.weight == 1e-3 and runs[0].config.train.seed == 3
    assert len({run.key for run in runs}) == len(runs) and [run.key for run in load_sweep(small)[1]] == [
        run.key for run in runs
    ]
    changed = load_sweep(small, {"train.batch": 32})[1]
    assert not {run.key for run in changed} & {run.key for run in runs}


def test_the_same_comparisons_on_other_data(small: Path, tmp_path: Path) -> None:
    """Entries of other sweeps come first, with the seeds and settings of this one; what two ask for is run once."""
    other = tmp_path / "other.toml"
    head = 'name = "other"\nconfig = "mnist"\nscale = "smoke"\nseeds = [7]\nset = { "train.batch" = 16 }\n'
    like = f'like = ["{small}", "{small}"]\n'
    own = '[[run]]\nname = "own"\nstage = "retrain"\nattention = "scale"\n'
    other.write_text(head + like + own)
    name, runs = load_sweep(other)
    assert name == "other" and [run.name.partition("-s7")[0] for run in runs] == [
        *("teacher", "search-1e-05", "search-0.001", "mpcvit-0.0-global", "mpcvit-0.0-random", "mpcvit-0.5-global"),
        *("mpcvit-0.5-random", "student", "evaluated", "own"),
    ]
    assert {(run.seed, run.config.data.name, run.config.train.batch) for run in runs} == {(7, "mnist", 16)}
    needed = with_parents(runs, lambda run: run.name == "student-s7")
    assert [run.name for run in needed] == ["teacher-s7", "search-1e-05-s7", "student-s7"]
    other.write_text(head + like + own.replace("own", "teacher"))
    with pytest.raises(SearchError, match="are called teacher-s7"):
        load_sweep(other)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('search = "search-1e-05"', 'search = "searched"', "no run searched-s3"),
        ('name = "mpcvit-{mu}-{rule}"', 'name = "mpcvit"', "are called mpcvit-s3"),
        ('stage = "search"', 'stage = "seek"', "run.1.stage"),
        ("grid = { mu", "grid = { nu", "nu: Extra inputs"),
    ],
)
def test_wrong_sweeps(small: Path, old: str, new: str, complaint: str) -> None:
    """What is wrong is named."""
    small.write_text(small.read_text().replace(old, new))
    with pytest.raises(SearchError, match=complaint):
        load_sweep(small)
    with pytest.raises(SearchError, match="smoke"):
        load_sweep("absent")


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
    assert new == ["mpcvit-0.5-random-s3"] and places.checkpoint("search-1e-05-s3").is_dir()


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


@pytest.mark.parametrize("name", sweep_names())
def test_every_sweep_is_one(name: str) -> None:
    """Of the package's own: names without a hole, and parents in order."""
    _, runs = load_sweep(name)
    assert runs and not any("{" in run.name for run in runs)


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
