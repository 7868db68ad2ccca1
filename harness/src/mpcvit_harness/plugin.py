"""The pytest plugin: an experiment is a file with CELLS and a test that takes `record`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpc_search import SearchError
from mpcvit_harness.cells import SCALES, Cell, select
from mpcvit_harness.models import Prepared, prepare
from mpcvit_harness.store import Store
from spu_bench import RunFailed, RunRecord, run
from spu_bench.provenance import machine_name


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mpcvit", "experiments of the MPCViT reproduction")
    group.addoption("--executor", default="auto", help="auto, docker, netns or loopback")
    group.addoption("--scale", default="smoke", choices=SCALES, help="which cells: up to this scale")
    group.addoption("--results", default="results", help="root of the store of records")
    group.addoption("--machine", default=None, help="folder of this machine's records (default: from its processor)")
    group.addoption("--checkpoints", default="build/checkpoints", help="where mpc-search wrote trained models")
    group.addoption("--force", action="store_true", help="measure again what has a valid record")
    group.addoption("--shard", default="0/1", help="i/n: every n-th cell from the i-th, for several machines")
    group.addoption("--list-cells", action="store_true", help="print the cells that would run, and end")


def pytest_configure(config: pytest.Config) -> None:
    _shard(config)
    config.stash[_MEASURED] = {}


_MEASURED = pytest.StashKey[dict[str, "RunRecord | str"]]()
"""What this session has measured, by cell fingerprint: a record, or why there is none."""


def _shard(config: pytest.Config) -> tuple[int, int]:
    text = config.getoption("--shard")
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
    cells = select(
        metafunc.module.CELLS,
        scale=config.getoption("--scale"),
        executor=config.getoption("--executor"),
        shard=_shard(config),
    )
    metafunc.parametrize("cell", cells, ids=[cell.id for cell in cells])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # an experiment without a cell at this scale is no skipped test: it was not asked for
    items[:] = [
        item for item in items if "cell" not in _parameters(item) or isinstance(_parameters(item)["cell"], Cell)
    ]
    if not config.getoption("--list-cells"):
        return
    for line in dict.fromkeys(f"{c.experiment}/{c.id}  {c.fingerprint()[:12]}  {c.scale}" for c in _cells(items)):
        print(line)
    items.clear()


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return getattr(getattr(item, "callspec", None), "params", {})


def _cells(items: list[pytest.Item]) -> Iterator[Cell]:
    return (_parameters(item)["cell"] for item in items if "cell" in _parameters(item))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    # listing is a success, not "no tests collected"
    if session.config.getoption("--list-cells") and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture
def record(cell: Cell, pytestconfig: pytest.Config, tmp_path: Path) -> RunRecord:
    """The record of `cell`: the stored one of this very cell and Program, or a new measurement, stored.

    A cell is measured once in a session, however many tests look at it. A measurement that fails leaves its record
    too, and fails the test with its one-line reason.
    """
    measured = pytestconfig.stash[_MEASURED]
    key = cell.fingerprint()
    if key not in measured:
        measured[key] = _measure(cell, pytestconfig, tmp_path)
    result = measured[key]
    if isinstance(result, str):
        pytest.fail(result, pytrace=False)
    return result


def _measure(cell: Cell, config: pytest.Config, directory: Path) -> RunRecord | str:
    store = Store(config.getoption("--results"), config.getoption("--machine") or machine_name())
    try:
        prepared = prepare(cell, directory, Path(config.getoption("--checkpoints")))
    except SearchError as error:
        return str(error)
    if not config.getoption("--force"):
        known = store.find(cell, prepared.program.manifest.fingerprint)
        if known is not None:
            return known
    try:
        measured = run(
            prepared.program,
            protocol=cell.protocol,
            network=cell.network,
            executor=cell.executor,
            runtime=cell.runtime,
            repeats=cell.repeats,
            warmup=cell.warmup,
            inputs=prepared.inputs,
            expected=prepared.expected,
            options=cell.options,
            timeout_s=cell.timeout_s,
        )
    except RunFailed as error:
        path = store.save(cell, _with_training(error.record, prepared))
        return f"{error} (record: {path})"
    store.save(cell, _with_training(measured, prepared))
    return measured


def _with_training(record: RunRecord, prepared: Prepared) -> RunRecord:
    """Say in the record what made the weights, and what they reach in plaintext."""
    if record.program is not None and prepared.training is not None:
        record.program.made_by["training"] = prepared.training
    return record
