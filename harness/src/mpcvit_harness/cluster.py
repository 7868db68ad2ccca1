"""Cells as tasks of a Ray cluster: on a host one latency cell at a time, or a training a core; records come home."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mpc_search.record import TrainingRecord
from mpc_search.runner import outstanding
from mpcvit_harness.cells import AnyCell, Cell, TrainingCell
from mpcvit_harness.measure_cell import Settings, measure
from mpcvit_harness.store import Store
from mpcvit_harness.trainings import FinishedRun, Job, train_here
from spu_bench import RunRecord
from spu_bench.provenance import machine_name
from spu_bench.record import write_whole

LATENCY = "latency"
"""The custom resource that a host has one of: `ray start --resources='{"latency": 1}'`."""


@dataclass(frozen=True)
class Outcome:
    """What a task brings home: the records it made, by their paths below the store, and the one asked for.

    `wanted` is the path of the cell's valid record; without one `why` says what went wrong.
    """

    made: dict[str, str]
    wanted: str | None
    why: str


class Cluster:
    """The cells of one session as tasks of a Ray cluster.

    With RAY_ADDRESS set it is that cluster, otherwise one of this machine alone. A cell whose worker is lost is run
    again, wherever there is a host for it.
    """

    def __init__(self, settings: Settings, machine: str | None) -> None:
        self._ray = _ray()
        self._settings = replace(
            settings, checkpoints=str(Path(settings.checkpoints).resolve()), sweeps=str(Path(settings.sweeps).resolve())
        )
        self._machine = machine
        self._tasks: dict[str, Any] = {}
        alone = {} if "RAY_ADDRESS" in os.environ else {"resources": {LATENCY: 1}, "include_dashboard": False}
        self._ray.init(log_to_driver=False, **alone)
        if not self._ray.cluster_resources().get(LATENCY):
            self.close()
            raise pytest.UsageError(
                "no host of the Ray cluster has the resource 'latency', so that no cell could ever run. Fix: start "
                """each host that is to measure with --resources='{"latency": 1}'"""
            )

    def submit(self, cells: Iterable[AnyCell]) -> None:
        """Hand every cell to the cluster, what it builds on before it, unless it has its record."""
        for cell in cells:
            if isinstance(cell, Cell):
                self._tasks[cell.fingerprint()] = self._latency(cell)
            else:
                self._train(cell)

    def result(self, cell: AnyCell) -> RunRecord | TrainingRecord | str:
        """Wait for the cell's tasks and store what they made; its record, or why there is none."""
        try:
            return self._trained(cell) if isinstance(cell, TrainingCell) else self._measured(cell)
        except self._ray.exceptions.RayError as error:
            return f"the cluster has no result: {str(error).splitlines()[0]}. Fix: see ray status, and run it again"

    def _latency(self, cell: Cell) -> Any:
        """The task of a cell, which gets the records that other machines have left of it."""
        wanted = {"resources": {LATENCY: 1}, "num_cpus": 1, "max_retries": 5}
        task = self._ray.remote(_measure).options(name=f"{cell.experiment}/{cell.id}", **wanted)
        known = _known(self._settings.results, cell)
        return task.remote(cell.model_dump_json(), self._settings, self._machine, known)

    def _measured(self, cell: Cell) -> RunRecord | str:
        outcome: Outcome = self._ray.get(self._tasks[cell.fingerprint()])
        root = Path(self._settings.results)
        for name, text in outcome.made.items():
            write_whole(root / name, text)
        return outcome.why if outcome.wanted is None else RunRecord.load(root / outcome.wanted)

    def _train(self, cell: TrainingCell) -> None:
        """A task for each run that the cell still needs; cells that need the same share it."""
        job = Job.of(cell, self._settings)
        # a core each: more threads would be in the way of the training on the next one
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
        wanted = {"num_cpus": 1, "max_retries": 5, "runtime_env": {"env_vars": {"XLA_FLAGS": flags}}}
        task = self._ray.remote(train_here)
        for run in outstanding(job.runs, job.places, job.again):
            if (key := str(job.places.record(run.name))) in self._tasks:
                continue
            parents = [self._parent(job, name) for name in run.parents.values()]
            options = task.options(name=f"{job.sweep}/{run.name}", **wanted)
            self._tasks[key] = options.remote(job.sweep, run, os.getcwd(), *parents)

    def _parent(self, job: Job, name: str) -> Any:
        """What a run builds on: the task that trains it, or what has been trained before."""
        path = job.places.record(name)
        return self._tasks.get(str(path)) or self._ray.put(FinishedRun.at(job.places, TrainingRecord.load(path)))

    def _trained(self, cell: TrainingCell) -> TrainingRecord | str:
        job = Job.of(cell, self._settings)
        for run in job.runs:
            if (key := str(job.places.record(run.name))) in self._tasks:
                self._ray.get(self._tasks[key]).keep(job.places)
                del self._tasks[key]  # stored for every other cell that builds on it
        return job.result([TrainingRecord.load(job.places.record(run.name)) for run in job.runs])

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _known(results: str, cell: Cell) -> dict[str, str]:
    """What any machine has left of `cell`, by machine."""
    root = Path(results)
    paths = [(path.name, Store(root, path.name).path(cell)) for path in root.glob("*")]
    return {machine: path.read_text() for machine, path in paths if path.exists()}


def _measure(cell_json: str, settings: Settings, machine: str | None, known: dict[str, str]) -> Outcome:
    """Measure a cell on this host, in a store of its own that starts with what is `known`."""
    os.environ.pop("OMP_NUM_THREADS", None)  # Ray sets it to its task's share; the parties have their own limit
    cell = Cell.model_validate_json(cell_json)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        here = replace(settings, results=str(root), machine=machine or machine_name(), also=tuple(known))
        for name, text in known.items():
            write_whole(Store(root, name).path(cell), text)
        result = measure(cell, here, Path(folder), lambda line: None)
        found = {path.relative_to(root): path.read_text() for path in root.glob("*/*/*.json")}
        made = {path.as_posix(): text for path, text in found.items() if known.get(path.parts[0]) != text}
        if isinstance(result, str):
            return Outcome(made, None, result.replace(str(root), settings.results))
        (wanted,) = [path for path, text in found.items() if RunRecord.model_validate_json(text) == result][:1]
        return Outcome(made, wanted.as_posix(), "")


def _ray() -> Any:
    """Ray, which only this needs."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise pytest.UsageError(
            "--executor ray needs Ray. Fix: pip install -c constraints/reference.txt -e './harness[cluster]'"
        ) from None
