"""Trainings as cells: run by the sweep's runner, resumed by its rule, refused for the reason that is at the root."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import listed, measure

from mpc_search.record import TrainingRecord
from mpcvit_harness.trainings import trainings

SWEEP = """
name = "shortest"
config = "digits"
scale = "smoke"
set = { "train.epochs" = 1, "train.evaluate_every" = 1 }

[[run]]
name = "teacher"
stage = "teacher"

[[run]]
name = "student"
stage = "retrain"
attention = "scale"
teacher = "teacher"
set = { "distill.kind" = "logits" }

[[run]]
name = "absent"
stage = "retrain"
seeds = [0]
attention = "scale"
teacher = "teacher"
set = { "data.name" = "cifar10", "model.overrides" = {} }
"""

EXPERIMENT = """
from mpcvit_harness.trainings import trainings

CELLS = [
    *trainings("short", "shortest.toml", "smoke", "student"),
    *trainings("short", "shortest.toml", "reduced", "absent"),
]

def test_it_was_tested(cell, record):
    assert record.test.images == 360 and record.config.distill.kind == "logits"
"""


SERVED = """
from mpcvit_harness.cells import Cell, ModelSpec

STUDENT = ModelSpec(config="vit_4_4_28", weights="sweep:shortest/student-s0")
CELLS = [Cell(experiment="served", name="student", model=STUDENT, repeats=1, warmup=0)]

def test_its_weights_are_the_trained_ones(cell, record):
    assert record.program.training is not None and record.program.training.test_images == 360
    assert record.program.made_by.attention == "scale" and record.accuracy.clear_equal == record.accuracy.clear
"""

STUDENTS = """
from mpcvit_harness.trainings import trainings

CELLS = trainings("short", "shortest.toml", "reduced", "student", "absent")

def test_it_was_tested(cell, record):
    assert record.test.images == 360
"""


@pytest.fixture
def school(pytester: pytest.Pytester) -> pytest.Pytester:
    """A directory with a sweep and an experiment of its runs."""
    pytester.makefile(".toml", shortest=SWEEP)
    pytester.makepyfile(test_short=EXPERIMENT)
    return pytester


def written(school: pytest.Pytester) -> dict[str, TrainingRecord]:
    """The records that are there, by the names of their runs."""
    paths = (school.path / "results").glob("here/shortest/*.training.json")
    return {path.name.split(".")[0]: TrainingRecord.load(path) for path in paths}


def test_trained_once_with_its_parents_and_again_when_forced(school: pytest.Pytester) -> None:
    """The records are those of `mpc-search sweep`; a second session finds them; `--force` is for the cell alone.

    A latency cell takes the trained weights from where the sweep has left them.
    """
    (cell,) = listed(school, "-m", "smoke")
    assert (cell["id"], cell["expected_s"]) == ("student-s0-shortest.toml", None)
    measure(school).assert_outcomes(passed=1)
    first = written(school)
    assert first.keys() == {"teacher-s0", "student-s0"} and first["student-s0"].status == "ok"
    assert (school.path / "build" / "sweeps" / "shortest" / "student-s0" / "model.json").exists()
    predicted = {cell["id"]: (cell["expected_s"], cell["expected_from"]) for cell in listed(school)}
    assert predicted["student-s0-shortest.toml"] == (round(first["student-s0"].seconds, 1), "same cell")
    assert predicted["absent-s0-shortest.toml"][1] == "similar cells"
    measure(school).assert_outcomes(passed=1)
    assert written(school) == first
    school.makepyfile(test_served=SERVED)
    measure(school, "test_served.py").assert_outcomes(passed=1)
    measure(school, "test_short.py", "--force").assert_outcomes(passed=1)
    again = written(school)
    assert again["teacher-s0"] == first["teacher-s0"] and again["student-s0"].seconds != first["student-s0"].seconds


def test_missing_data_is_the_reason(school: pytest.Pytester) -> None:
    """Where to get it and where to put it, in the test's one line and in the record."""
    result = measure(school, "-m", "reduced")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*download cifar-10-*into data/cifar10*"])
    assert "into data/cifar10" in str(written(school)["absent-s0"].failure)


def test_a_pattern_that_matches_no_run(tmp_path: Path) -> None:
    """A misspelt one would otherwise be an experiment with a hole."""
    (tmp_path / "s.toml").write_text(SWEEP)
    assert [cell.run for cell in trainings("e", str(tmp_path / "s.toml"), "smoke", "t*", "st*")] == [
        *("teacher-s0", "student-s0"),
    ]
    with pytest.raises(ValueError, match="no run that matches 'pupil'"):
        trainings("e", str(tmp_path / "s.toml"), "smoke", "pupil")
