"""The pytest plugin: an experiment is a file with CELLS and a test that takes `record`."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Generator, Iterable
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from mpc_search.record import TrainingRecord
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import SCALES, AnyCell, Cell, Size, TrainingCell, select
from mpcvit_harness.cluster import Cluster
from mpcvit_harness.expected_time import Past
from mpcvit_harness.measure_cell import MissingRequirement, Settings, measure
from mpcvit_harness.progress import Progress
from mpcvit_harness.store import Store
from mpcvit_harness.trainings import done, train
from spu_bench.provenance import machine_name

PREFIX = "--mpcvit-"
"""What all options of the plugin begin with. Each has a short form too, unless another plugin has that."""

_OPTIONS: dict[str, dict[str, Any]] = {
    "executor": {"default": "auto", "help": "auto, docker, netns, loopback, hosts:FILE, ray:NAME"},
    "scale": {"choices": SCALES, "help": "cells up to this scale (default: the largest that -m names, else smoke)"},
    "results": {"default": "results", "help": "root of the store of records"},
    "machine": {"default": None, "help": "folder of this machine's records (default: from its processor)"},
    "checkpoints": {"default": "build/checkpoints", "help": "where mpc-search wrote trained models"},
    "sweeps": {"default": "build/sweeps", "help": "where the trained models of sweeps are"},
    "force": {"action": "store_true", "help": "measure again, also where there is a valid record"},
    "shard": {"default": "0/1", "help": "i/n: every n-th cell from the i-th, to divide the cells between machines"},
    "list-cells": {
        "action": "store_true",
        "help": "print the cells as JSON and stop (default scale: all)",
    },
}


@pytest.hookimpl(trylast=True)
def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mpcvit", "experiments of the MPCViT reproduction")
    groups = (*parser._groups, parser._anonymous)  # pytest has no public way to ask which options there are
    taken = {name for other in groups for option in other.options for name in option.names()}
    for name, settings in _OPTIONS.items():
        short = {f"--{name}"} - taken
        group.addoption(PREFIX + name, *short, dest=f"mpcvit_{name.replace('-', '_')}", **settings)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    for scale in SCALES:
        config.addinivalue_line("markers", f"{scale}: a cell of this scale")
    _shard(config)
    config.stash[_MEASURED] = {}
    if config.getoption("--mpcvit-list-cells"):
        config.option.verbose = -2  # only the JSON goes to standard output


Result = CellRecord | TrainingRecord | str
"""A record, or why there is none."""

_MEASURED = pytest.StashKey[dict[str, Result]]()
"""What this session has measured, by the key of the cell."""

_PROGRESS = pytest.StashKey[Progress]()
_CLUSTER = pytest.StashKey[Cluster]()


def _settings(config: pytest.Config) -> Settings:
    return Settings(
        results=config.getoption("--mpcvit-results"),
        machine=config.getoption("--mpcvit-machine") or machine_name(),
        checkpoints=config.getoption("--mpcvit-checkpoints"),
        force=config.getoption("--mpcvit-force"),
        sweeps=config.getoption("--mpcvit-sweeps"),
    )


def _executor(config: pytest.Config) -> tuple[str, bool]:
    """The executor of each cell, and whether its host is one of a Ray cluster."""
    first, _, name = config.getoption("--mpcvit-executor").partition(":")
    return (name or "auto", True) if first == "ray" else (first, False)


def _scale(config: pytest.Config) -> Size:
    named = set(re.findall(r"\w+", config.getoption("markexpr") or ""))
    default = SCALES[-1] if config.getoption("--mpcvit-list-cells") else SCALES[0]
    largest = next((scale for scale in reversed(SCALES) if scale in named), default)
    asked: Size | None = config.getoption("--mpcvit-scale")
    return asked or largest


def _shard(config: pytest.Config) -> tuple[int, int]:
    text = config.getoption("--mpcvit-shard")
    try:
        i, n = map(int, text.split("/"))
        if not 0 <= i < n:
            raise ValueError
    except ValueError:
        raise pytest.UsageError(f"--shard {text!r}: give i/n with 0 <= i < n, for instance 0/4") from None
    return i, n


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" not in metafunc.fixturenames:
        return
    config = metafunc.config
    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            "cells are measured one at a time on a host: run without -n (use --shard on several machines)"
        )
    cells = select(metafunc.module.CELLS, scale=_scale(config), executor=_executor(config)[0])
    parameters = [pytest.param(cell, id=cell.id, marks=getattr(pytest.mark, cell.scale)) for cell in cells]
    metafunc.parametrize("cell", parameters)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # an experiment without a cell at this scale was not asked for: its tests are dropped, not skipped
    items[:] = [
        item for item in items if "cell" not in _parameters(item) or isinstance(_parameters(item)["cell"], AnyCell)
    ]
    i, n = _shard(config)
    mine = {cell.key for cell in _cells(items)[i::n]}
    items[:] = [item for item in items if "cell" not in _parameters(item) or _cell(item).key in mine]


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """List the cells instead of running them, where that is asked for; else prepare the progress of the run."""
    config = session.config
    cells = _cells(session.items)
    if not cells and not config.getoption("--mpcvit-list-cells"):
        return None
    settings = _settings(config)
    past = Past.of(settings.results, settings.machine)
    if config.getoption("--mpcvit-list-cells"):
        print(listing(cells, past))
        return True

    store = Store(settings.results, settings.machine)

    def expect(cell: AnyCell) -> float | None:
        known = store.reusable(cell) if isinstance(cell, Cell) else done(cell, settings)
        if known and not settings.force:
            return 0.0  # unless its Program has changed, which only its export shows
        expected = past.expect(cell)
        return None if expected is None else expected.seconds

    config.stash[_PROGRESS] = Progress(cells, expect, lambda line: _say(config, line))
    if _executor(config)[1] and not config.option.collectonly:
        config.stash[_CLUSTER] = Cluster(settings, config.getoption("--mpcvit-machine"))
        config.stash[_CLUSTER].submit(cells)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Ctrl-C ends the run after this test at the latest, even if something swallowed it, as JAX's callback of the
    garbage collector sometimes does."""
    pressed = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored in a shell's background, or set by someone else
        return (yield)
    signal.signal(signal.SIGINT, interrupt)
    try:
        result = yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
    return result


def pytest_unconfigure(config: pytest.Config) -> None:
    if _CLUSTER in config.stash:
        config.stash[_CLUSTER].close()


def listing(cells: Iterable[AnyCell], past: Past) -> str:
    """The cells as a JSON array, a line a cell: what each is, and its expected seconds (null: not known)."""
    lines = []
    for cell in cells:
        expected = past.expect(cell)
        entry = {
            "experiment": cell.experiment,
            "id": cell.id,
            "scale": cell.scale,
            "fingerprint": cell.fingerprint(),
            "expected_s": None if expected is None else round(expected.seconds, 1),
            "expected_from": None if expected is None else expected.basis,
        }
        lines.append(json.dumps(entry))
    return "[\n" + ",\n".join(lines) + "\n]"


def _say(config: pytest.Config, line: str) -> None:
    """Write a line while a test runs, past pytest's capture; a log shows it at once."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    if reporter is None or config.get_verbosity() < 0:
        return
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        reporter.ensure_newline()
        reporter.write_line(line)
        reporter.flush()


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return getattr(getattr(item, "callspec", None), "params", {})


def _cell(item: pytest.Item) -> AnyCell:
    cell: AnyCell = _parameters(item)["cell"]
    return cell


def _cells(items: Iterable[pytest.Item]) -> list[AnyCell]:
    """The flat list of cells that `items` look at, each once."""
    return list({_cell(item).key: _cell(item) for item in items if "cell" in _parameters(item)}.values())


@pytest.fixture
def record(
    cell: AnyCell, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> CellRecord | TrainingRecord:
    """The record of `cell`: the stored one of its identity and Program, or a new measurement, stored.

    Of a TrainingCell it is a TrainingRecord. A cell is measured once in a session, however many tests look at it. A
    measurement that fails leaves its record too, and fails the test with its one-line reason. A `smoke` cell that
    requires what this machine does not have leaves none, and is skipped with the reason, except under CI.
    """
    measured = pytestconfig.stash[_MEASURED]
    key = cell.key
    if key not in measured:
        progress = pytestconfig.stash[_PROGRESS]
        progress.begin(cell)
        started = time.perf_counter()
        # not tmp_path: its own teardown fails when Ctrl-C comes before the test itself
        measured[key] = _measured(cell, pytestconfig, tmp_path_factory.mktemp("cell"))
        progress.end(cell, time.perf_counter() - started)
        for remark in _remarks(measured[key]):
            _say(pytestconfig, f"  {remark}")
    result = measured[key]
    if isinstance(result, MissingRequirement) and os.environ.get("CI") != "true":
        pytest.skip(result)
    if isinstance(result, str):
        pytest.fail(result, pytrace=False)
    return result


def _measured(cell: AnyCell, config: pytest.Config, directory: Path) -> Result:
    if _CLUSTER in config.stash:
        return config.stash[_CLUSTER].result(cell)
    if isinstance(cell, TrainingCell):
        return train(cell, _settings(config), lambda line: _say(config, line))
    return measure(cell, _settings(config), directory, lambda line: _say(config, line))


def _remarks(result: Result) -> list[str]:
    """What the watch of the machine says against a measurement."""
    return [remark.text for remark in result.remarks] if isinstance(result, CellRecord) else []
