"""Cells on a Ray cluster of two local nodes: one cell at a time; the cell of a lost worker runs again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import psutil
import pytest
from test_trainings import STUDENTS, SWEEP
from tiny import THREE, content, listed, measure, session, stored

from mpc_search.record import TrainingRecord

pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install './harness[cluster]'")


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of two nodes on this machine, each for one latency cell at a time; sessions find it."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "resources": {"latency": 1}, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield
    finally:
        cluster.shutdown()


def measuring() -> set[int]:
    """The workers of this test whose parties run now."""
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if "spu_bench" not in (process.info["cmdline"] or []):
            continue
        try:
            if process.environ().get("SPU_BENCH_LOCK") == os.environ["SPU_BENCH_LOCK"]:
                found.add(process.ppid())
        except psutil.Error:
            continue  # the process has ended
    return found - {1}


def test_two_nodes(workplace: pytest.Pytester, two_nodes: None) -> None:
    """The worker of the first cell is killed while its parties run; in the end every cell has its record."""
    workplace.makepyfile(test_tiny=THREE)
    run = session(workplace, "--executor", "ray:loopback")
    killed: set[int] = set()
    while run.poll() is None:
        at_work = measuring()
        assert len(at_work) <= 1
        if at_work and not killed:
            killed = at_work
            psutil.Process(*killed).kill()
        time.sleep(0.05)
    out, _ = run.communicate()
    assert killed and "3 passed" in out, out
    gathered = {path.name: content(path) for path in stored(workplace)}
    cells = listed(workplace)
    assert {name.split(".")[1] for name in gathered} == {cell["fingerprint"][:12] for cell in cells}
    before = [path.read_bytes() for path in stored(workplace)]
    measure(workplace, "--executor", "ray:loopback").assert_outcomes(passed=3)
    assert [path.read_bytes() for path in stored(workplace)] == before, "a valid record is not measured again"
    measure(workplace, "--results", "plain").assert_outcomes(passed=3)
    assert {path.name: content(path) for path in (workplace.path / "plain").glob("*/*/*.json")} == gathered


def test_trainings(workplace: pytest.Pytester, two_nodes: None) -> None:
    """Each run once, after the runs that it builds on, on any free core; records and checkpoints are stored here."""
    workplace.makefile(".toml", shortest="seeds = [0, 1]" + SWEEP)
    workplace.makepyfile(test_short=STUDENTS)
    (workplace.path / "test_tiny.py").unlink()
    measure(workplace, "--executor", "ray:loopback", "-m", "reduced").assert_outcomes(passed=2, errors=1)
    names = ("absent-s0", "student-s0", "student-s1", "teacher-s0", "teacher-s1")
    files = sorted((workplace.path / "results" / "here" / "shortest").iterdir())
    assert [path.name for path in files] == [f"{name}.training.json" for name in names]
    records = {path.name.split(".")[0]: TrainingRecord.load(path) for path in files}
    assert records["absent-s0"].status == "failed" and "download cifar-10" in str(records["absent-s0"].failure)
    for seed in ("s0", "s1"):
        assert records[f"student-{seed}"].parents["teacher"].params == records[f"teacher-{seed}"].params
        assert (workplace.path / "build" / "sweeps" / "shortest" / f"student-{seed}" / "model.json").exists()
    measure(workplace, "-m", "reduced", "-k", "student").assert_outcomes(passed=2)
    assert {path: TrainingRecord.load(path) for path in files} == dict(zip(files, records.values()))
    again = measure(workplace, "--executor", "ray:loopback", "-m", "reduced", "-k", "student-s1", "--force")
    again.assert_outcomes(passed=1)
    forced = {path.name.split(".")[0]: TrainingRecord.load(path) for path in files}
    assert [name for name in names if forced[name] != records[name]] == ["student-s1"]


def test_a_cluster_without_a_host_that_measures(workplace: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the resource cells would wait forever: the cluster is refused with the fix."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        refused = measure(workplace, "--executor", "ray:loopback")
    finally:
        cluster.shutdown()
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert """--resources='{"latency": 1}'""" in refused.stderr.str()
