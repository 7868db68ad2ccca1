"""A sweep is one list, expanded once: grids, seeds, settings, included sweeps. Errors name the entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpc_search import SearchError
from mpc_search.sweep import load_sweep, sweep_names, with_parents


def test_expansion(small: Path) -> None:
    """Grids, seeds and dotted settings. Keys of different runs differ, and are the same each time."""
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
    """Included entries come first, with this sweep's seeds and settings. The same run is listed once."""
    other = tmp_path / "other.toml"
    head = 'name = "other"\nconfig = "mnist"\nscale = "smoke"\nseeds = [7]\nset = { "train.batch" = 16 }\n'
    include = f'include = ["{small}", "{small}"]\n'
    own = '[[run]]\nname = "own"\nstage = "retrain"\nattention = "scale"\n'
    other.write_text(head + include + own)
    name, runs = load_sweep(other)
    assert name == "other" and [run.name.partition("-s7")[0] for run in runs] == [
        *("teacher", "search-1e-05", "search-0.001", "mpcvit-0.0-global", "mpcvit-0.0-random", "mpcvit-0.5-global"),
        *("mpcvit-0.5-random", "student", "evaluated", "own"),
    ]
    assert {(run.seed, run.config.data.name, run.config.train.batch) for run in runs} == {(7, "mnist", 16)}
    needed = with_parents(runs, lambda run: run.name == "student-s7")
    assert [run.name for run in needed] == ["teacher-s7", "search-1e-05-s7", "student-s7"]
    other.write_text(head + include + own.replace("own", "teacher"))
    with pytest.raises(SearchError, match="are called teacher-s7"):
        load_sweep(other)


def test_paths_of_costs_are_relative_to_the_sweep(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in an included sweep. The key depends on the content of the table."""
    student = {run.name: run for run in load_sweep(small)[1]}["student-s3"]
    small.write_text(small.read_text().replace(str(tmp_path / "costs.json"), "costs.json"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    beside = {run.name: run for run in load_sweep(small)[1]}["student-s3"]
    assert beside.spec.costs == tmp_path / "costs.json" and beside.key == student.key
    Path("other.toml").write_text(f'name = "other"\nconfig = "digits"\nscale = "smoke"\ninclude = ["{small}"]\n')
    assert {run.spec.costs for run in load_sweep("other.toml")[1]} == {None, tmp_path / "costs.json"}


def test_keys_do_not_change() -> None:
    """Stored records are found by these keys: another key would train the run again."""
    keys = {run.name: run.key for run in load_sweep("reduced")[1]}
    assert keys["teacher-s0"] == "cd92df5d612d150976c3355493c9c6c8fa3905971e90e32630511ac0298c5cd0"
    assert keys["mpcvit-0.5-both-s0"] == "597ed59be79f55db6a95529bf4bc9c72800df3a417a83fc61f82da41f4942fbd"


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
    """The error names what is wrong."""
    small.write_text(small.read_text().replace(old, new))
    with pytest.raises(SearchError, match=complaint):
        load_sweep(small)
    with pytest.raises(SearchError, match="smoke"):
        load_sweep("absent")


@pytest.mark.parametrize("name", sweep_names())
def test_every_sweep_is_valid(name: str) -> None:
    """The sweeps of this package: all fields in names are filled in."""
    _, runs = load_sweep(name)
    assert runs and not any("{" in run.name for run in runs)
