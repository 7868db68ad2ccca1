"""A run that is stopped, killed or whose party hangs leaves no process, no secret and no doubt."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from parties import computing, free_port, one_line, start_party, write_link

from spu_bench.executors import scratch

pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest.fixture(autouse=True)
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own, which is empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield folder
    monkeypatch.setattr("tempfile.tempdir", None)


def start_run(program: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "spu_bench", "run", str(program), "--executor", "loopback", *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_parties(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes of the run's parties, once both have started their runtimes."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert run.poll() is None
        below = psutil.Process(run.pid).children(recursive=True)
        if len(below) >= 4:
            return below
        time.sleep(0.05)
    raise AssertionError("the parties never started")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_run_undoes_everything(long: Path, own_temporary: Path, tmp_path: Path, number: int) -> None:
    """One line, a record, no process, and no file with secrets."""
    record = tmp_path / "record.json"
    run = start_run(long, "--json", str(record))
    below = wait_for_parties(run)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    assert run.returncode not in (0, None)
    assert f"stopped by {signal.Signals(number).name}" in one_line(errors)
    assert psutil.wait_procs(below, timeout=10)[1] == []
    assert list(own_temporary.glob(f"{scratch.PREFIX}-*")) == []
    assert "stopped by" in json.loads(record.read_text())["failure"]["problem"]


def wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Until the process handles SIGTERM: it has begun to import what it needs."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        (caught,) = (line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)
    raise AssertionError("it never handled signals")


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_a_signal_while_it_starts(small: Path, own_temporary: Path, after_s: float) -> None:
    """One line and nothing left, also while it still imports."""
    run = start_run(small, "--repeats", "1000")
    wait_for_handlers(run)
    time.sleep(after_s)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert "stopped by SIGINT" in one_line(errors)
    assert list(own_temporary.glob(f"{scratch.PREFIX}-*")) == []


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5, 1.0, 2.0])
def test_a_parent_that_is_killed_early(small: Path, after_s: float) -> None:
    """`no_orphans` looks for parties that run on."""
    run = start_run(small, "--repeats", "100000")
    deadline = time.monotonic() + 60
    while not (below := psutil.Process(run.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(after_s)
    run.kill()
    run.communicate(timeout=10)
    assert psutil.wait_procs(below, timeout=10)[1] == []


def test_a_party_that_was_stopped(long: Path, tmp_path: Path) -> None:
    """The other ends within a minute, with a reason and an outcome."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    parties = [start_party(rank, long, link, tmp_path / f"home-{rank}") for rank in (0, 1)]
    inner = computing(parties[1])
    inner.suspend()
    try:
        _, errors = parties[0].communicate(timeout=60)
        assert parties[0].returncode == 1 and "Party 1 was lost: it sent nothing for 30 s" in one_line(errors)
        outcome = json.loads((tmp_path / "home-0" / "outcome.json").read_text())
        assert outcome["failure"]["reason"] == "peer"
    finally:
        inner.kill()
        parties[1].communicate(timeout=60)


def test_the_scratch_of_another_pid_namespace_is_kept(own_temporary: Path) -> None:
    """Its process is not seen from here, but the lock on its directory is."""
    theirs = own_temporary / "spub-4194305-5-0-state"
    theirs.mkdir()
    handle = os.open(theirs, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with scratch.scratch_directory() as mine:
        assert theirs.is_dir() and mine.is_dir()
        assert mine.stat().st_mode & 0o777 == 0o700
        assert not scratch.is_orphan("spub-4194305-5-0-bridge"), "and its namespaces are not removed"
    os.close(handle)
    with scratch.scratch_directory():
        assert not theirs.exists(), "its owner has ended"
    assert list(own_temporary.iterdir()) == []
