"""The matrix as a whole: listed, selected, sharded, its expected time; killed, resumed, run twice at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from experiment_files import EXPERIMENTS, cells_of
from tiny import MISSING, SWALLOWING, THREE, content, listed, measure, session, stored

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import SCALES, Cell
from mpcvit_harness.expected_time import Past, network_s
from mpcvit_harness.progress import Progress
from mpcvit_harness.store import all_records
from spu_bench import Network
from spu_bench.executors import measurement_lock

RESULTS = Path(__file__).parents[2] / "results"


def test_listing_selecting_sharding(workplace: pytest.Pytester) -> None:
    """`--list-cells` gives the flat list and runs nothing; `--scale`, `-m`, `-k` and `--shard` cut it."""
    whole = listed(workplace, "--scale", "paper")
    assert [(cell["experiment"], cell["id"], cell["scale"]) for cell in whole] == [
        ("tiny", "mix-cheetah-loopback-loopback", "reduced"),
        ("tiny", "mix-semi2k-loopback-loopback", "smoke"),
    ]
    assert all(len(cell["fingerprint"]) == 64 and cell["expected_s"] is None for cell in whole)
    assert listed(workplace) == whole
    assert listed(workplace, "--scale", "smoke") == listed(workplace, "-m", "smoke") == whole[1:]
    assert listed(workplace, "-m", "reduced") == listed(workplace, "--scale", "paper", "-k", "cheetah") == whole[:1]
    assert listed(workplace, "--scale", "paper", "--shard", "1/2") == whole[1:]
    assert not (workplace.path / "results").exists()
    refused = measure(workplace, "--shard", "2/2")
    assert refused.ret != 0 and "give i/n" in refused.stderr.str()


@pytest.mark.parametrize("experiment", sorted(path.stem for path in EXPERIMENTS.glob("*.py")))
def test_labels_tell_an_experiments_cells_apart(experiment: str) -> None:
    """Together with protocol, network and images: so that a table needs no cell's name."""
    cells = [cell for cell in cells_of(experiment) if isinstance(cell, Cell) and cell.scale != "smoke"]
    keys = [(cell.protocol, cell.network_name, *sorted(cell.labels.items())) for cell in cells]
    assert all(cell.labels for cell in cells) and len(set(keys)) == len(keys)


def test_the_experiments_of_the_repository() -> None:
    """Listed without a scale, they are at least 300 cells, and each file has one that runs in seconds."""
    command = [sys.executable, "-m", "pytest", str(EXPERIMENTS), "--list-cells", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # a folder that exists, given as an option, is taken by pytest for an argument when it looks for its settings
    stored = subprocess.run([*command, "--results", str(RESULTS)], capture_output=True, text=True, check=True)
    cells = json.loads(done.stdout)
    assert len(json.loads(stored.stdout)) == len(cells)
    assert len(cells) >= 300 and len({(cell["experiment"], cell["id"]) for cell in cells}) == len(cells)
    assert {cell["scale"] for cell in cells} == set(SCALES)
    files = {path.stem for path in EXPERIMENTS.glob("*.py")}
    assert {cell["experiment"] for cell in cells} == files
    assert {cell["experiment"] for cell in cells if cell["scale"] == "smoke"} == files


def test_a_missing_requirement(workplace: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smoke cell is skipped with the reason; a larger one, which someone asked for, fails with it."""
    monkeypatch.setenv("SPU_BENCH_RUNTIMES", str(workplace.path / "none"))
    monkeypatch.delenv("CI", raising=False)
    workplace.makepyfile(test_tiny=MISSING)
    result = measure(workplace, "--scale", "reduced", "-rs")
    result.assert_outcomes(skipped=1, errors=1)
    result.stdout.fnmatch_lines(["SKIPPED*CrypTen 0.4.1 is not installed*spu-bench runtime install crypten-0.4.1*"])
    assert len(stored(workplace)) == 1
    monkeypatch.setenv("CI", "true")
    measure(workplace, "--scale", "smoke").assert_outcomes(errors=1)


def test_expected_time_from_committed_records() -> None:
    """From the own record of a cell, or inferred from another count, network or model of its kind."""
    past = Past.of(RESULTS, "amd-epyc-2c-24g")
    records = {
        record.cell.network: record
        for path, record in all_records(RESULTS)
        if path.name.startswith("cifar-softmax-semi2k-")
        and path.name.split(".")[0].endswith("-netns")
        and isinstance(record, CellRecord)
    }
    wan, lan = records["wan"], records["lan"]
    cell = wan.cell
    own = past.expect(cell)
    assert own is not None and (own.seconds, own.basis) == (wan.duration_s, "same cell")
    more = past.expect(cell.model_copy(update={"repeats": cell.repeats + 10}))
    assert more is not None and more.basis == "same model" and wan.statistics is not None
    assert more.seconds == pytest.approx(wan.duration_s + 10 * wan.statistics.median, rel=0.01)
    only_lan = Past([("elsewhere", lan)], "here").expect(cell.model_copy(update={"repeats": 100, "warmup": 0}))
    assert only_lan is not None and only_lan.basis == "other network"
    assert only_lan.seconds == pytest.approx(100 * wan.statistics.median, rel=0.1)
    scale = cell.model.model_copy(update={"attention": "scale"})
    similar = past.expect(cell.model_copy(update={"model": scale}))
    assert similar is not None and similar.basis == "similar cells"
    assert past.expect(cell.model_copy(update={"runtime": "none"})) is None
    assert network_s(Network(name="far", rtt_ms=100.0), wan) == pytest.approx(wan.rounds * 0.05)


def test_progress() -> None:
    """Cells done, time left, the current cell; a cell without an expected time counts as the mean of those done."""
    lines: list[str] = []
    cell = next(r.cell for _, r in all_records(RESULTS) if isinstance(r, CellRecord))
    first, second, third = (cell.model_copy(update={"name": name}) for name in ("a", "b", "c"))
    expected = {"a": None, "b": 90.0, "c": None}
    progress = Progress([first, second, third], lambda cell: expected[cell.name], lines.append)
    progress.begin(first)
    progress.end(first, 30.0)
    progress.begin(second)
    assert lines[0].startswith("cell 1 of 3, time left not known: ") and lines[0].endswith(first.id)
    assert lines[1].startswith("cell 2 of 3, 0:02:00 left: ") and lines[1].endswith(f"{second.id} (0:01:30 expected)")


def wait_for(condition: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    """Wait until `condition` is true; the session has to be running until then."""
    until = time.monotonic() + 300
    while not condition():
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_run_resumes(workplace: pytest.Pytester) -> None:
    """Killed and started again, a run ends with the same records as one that was never killed."""
    workplace.makepyfile(test_tiny=THREE)
    killed = session(workplace)
    wait_for(lambda: bool(stored(workplace)), killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = {path: path.read_bytes() for path in stored(workplace)}
    assert 0 < len(kept) < 3
    measure(workplace).assert_outcomes(passed=3)
    assert {path: path.read_bytes() for path in kept} == kept
    resumed = {path.name: content(path) for path in stored(workplace)}
    measure(workplace, "--results", "other").assert_outcomes(passed=3)
    whole = {path.name: content(path) for path in (workplace.path / "other").glob("*/*/*.json")}
    assert resumed == whole and len(whole) == 3


@contextmanager
def listening_to_ctrl_c() -> Iterator[None]:
    """A process started in this context gets Ctrl-C, even where the shell ignores it for its background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c(workplace: pytest.Pytester) -> None:
    """Interrupted during a measurement, a session ends like any session of pytest; stored records stay."""
    workplace.makepyfile(test_tiny=THREE)
    with listening_to_ctrl_c():
        running = session(workplace)
    wait_for(lambda: bool(stored(workplace)), running)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=300)
    assert running.returncode == pytest.ExitCode.INTERRUPTED, out
    assert "KeyboardInterrupt" in out and "\nTraceback" not in out
    assert stored(workplace) and all(content(path) for path in stored(workplace))


def test_ctrl_c_that_something_swallows(workplace: pytest.Pytester) -> None:
    """An interrupt during a callback whose exceptions Python ignores still ends the run."""
    workplace.makepyfile(test_tiny=SWALLOWING)
    with listening_to_ctrl_c():
        result = workplace.runpytest_subprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in result.stdout.str() and not (workplace.path / "second").exists()


def test_two_runs_at_once_measure_once(workplace: pytest.Pytester) -> None:
    """The second waits while the first measures, over loopback too, and uses its stored records."""
    with measurement_lock():
        both = [session(workplace), session(workplace)]
        for run in both:
            assert run.stdout is not None
            assert any("waiting until another measured run" in line for line in run.stdout)
        assert not stored(workplace)
    while all(run.poll() is None for run in both):
        time.sleep(0.02)
    (path,) = stored(workplace)
    of_the_first = path.read_bytes()
    for run in both:
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0 and "2 passed" in out
    assert path.read_bytes() == of_the_first and content(path)
    assert os.listdir(path.parent) == [path.name]


def test_options_have_a_prefix_and_a_short_form(workplace: pytest.Pytester) -> None:
    """Where another plugin has the short form, the long one still works; the other's option is the other's."""
    whole = listed(workplace)
    assert listed(workplace, "--mpcvit-scale", "smoke") == listed(workplace, "--scale", "smoke") == whole[1:]
    workplace.makepyfile(
        other="def pytest_addoption(parser):\n    parser.addoption('--scale', type=int, help='of another plugin')"
    )
    both = ("-p", "other", "--scale", "7", "--mpcvit-scale", "smoke")
    assert listed(workplace, *both) == whole[1:]
