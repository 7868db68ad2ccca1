"""Cells as tasks of a Ray cluster: one latency cell at a time on a host, or one training a core."""

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
from mpc_search.sweep_runner import remaining_runs
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import AnyCell, Cell, TrainingCell
from mpcvit_harness.measure_cell import Settings, measure
from mpcvit_harness.store import short
from mpcvit_harness.trainings import FinishedRun, Job, train_here
from spu_bench.provenance import machine_name
from spu_bench.record import write_whole

LATENCY = "latency"
"""The custom resource of a host that measures: `ray start --resources='{"latency": 1}'`."""


@dataclass(frozen=True)
class Outcome:
    """What a task returns: the records it made, by their paths below the store, and the one that is the cell's result.

    `result` is its path; without one `why` says what went wrong.
    """

    made: dict[str, str]
    result: str | None
    why: str


class Cluster:
    """The cells of one session as tasks of a Ray cluster.

    With RAY_ADDRESS set it is that cluster, otherwise one of this machine alone. A cell whose worker is lost runs again
    on any host that can take it.
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
                "no host of the Ray cluster has the resource 'latency', so that no cell can run. Fix: start each host "
                """that is to measure with --resources='{"latency": 1}'"""
            )

    def submit(self, cells: Iterable[AnyCell]) -> None:
        """Give every cell to the cluster, after the trainings that it builds on, unless it has its record."""
        for cell in cells:
            if isinstance(cell, Cell):
                self._tasks[cell.key] = self._latency(cell)
            else:
                self._train(cell)

    def result(self, cell: AnyCell) -> CellRecord | TrainingRecord | str:
        """Wait for the tasks of `cell` and store what they made; its record, or why there is no result."""
        try:
            return self._trained(cell) if isinstance(cell, TrainingCell) else self._measured(cell)
        except self._ray.exceptions.RayError as error:
            return f"the cluster has no result: {str(error).splitlines()[0]}. Fix: check `ray status`, then run again"

    def _latency(self, cell: Cell) -> Any:
        """The task of a cell. It gets the records of the same identity that any machine has."""
        wanted = {"resources": {LATENCY: 1}, "num_cpus": 1, "max_retries": 5}
        task = self._ray.remote(_measure).options(name=cell.key, **wanted)
        known = _known(self._settings.results, cell)
        return task.remote(cell.model_dump_json(), self._settings, self._machine, known)

    def _measured(self, cell: Cell) -> CellRecord | str:
        outcome: Outcome = self._ray.get(self._tasks[cell.key])
        root = Path(self._settings.results)
        for name, text in outcome.made.items():
            write_whole(root / name, text)
        return outcome.why if outcome.result is None else CellRecord.load(root / outcome.result)

    def _train(self, cell: TrainingCell) -> None:
        """A task for each run that the cell still needs; cells that need the same share it."""
        job = Job.of(cell, self._settings)
        # one core each: more threads would disturb the training on the next core
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
        wanted = {"num_cpus": 1, "max_retries": 5, "runtime_env": {"env_vars": {"XLA_FLAGS": flags}}}
        task = self._ray.remote(train_here)
        for run in remaining_runs(job.runs, job.places, job.runs_anew):
            if (key := str(job.places.record(run.name))) in self._tasks:
                continue
            parents = [self._parent(job, name) for name in run.parents.values()]
            options = task.options(name=f"{job.sweep}/{run.name}", **wanted)
            self._tasks[key] = options.remote(job.sweep, run, os.getcwd(), *parents)

    def _parent(self, job: Job, name: str) -> Any:
        """What a run builds on: the task that trains it, or the run that has been trained before."""
        path = job.places.record(name)
        return self._tasks.get(str(path)) or self._ray.put(FinishedRun.at(job.places, TrainingRecord.load(path)))

    def _trained(self, cell: TrainingCell) -> TrainingRecord | str:
        job = Job.of(cell, self._settings)
        for run in job.runs:
            if (key := str(job.places.record(run.name))) in self._tasks:
                self._ray.get(self._tasks[key]).keep(job.places)
                del self._tasks[key]  # it is stored now, for every other cell that builds on it
        return job.result([TrainingRecord.load(job.places.record(run.name)) for run in job.runs])

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()


def _known(results: str, cell: Cell) -> dict[str, str]:
    """The records of the cell's identity that any machine has, by their paths below the store."""
    root = Path(results)
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.glob(f"*/*/*.{short(cell)}.json")}


def _measure(cell_json: str, settings: Settings, machine: str | None, known: dict[str, str]) -> Outcome:
    """Measure a cell on this host, in a store of its own that starts with the `known` records."""
    os.environ.pop("OMP_NUM_THREADS", None)  # Ray sets it to the task's share; the parties have their own limit
    cell = Cell.model_validate_json(cell_json)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        machines = tuple(dict.fromkeys(name.partition("/")[0] for name in known))
        here = replace(settings, results=str(root), machine=machine or machine_name(), also=machines)
        for name, text in known.items():
            write_whole(root / name, text)
        result = measure(cell, here, Path(folder), lambda line: None)
        found = {path.relative_to(root).as_posix(): path.read_text() for path in root.glob("*/*/*.json")}
        made = {name: text for name, text in found.items() if known.get(name) != text}
        if isinstance(result, str):
            return Outcome(made, None, result.replace(str(root), settings.results))
        (path,) = [name for name, text in found.items() if CellRecord.model_validate_json(text) == result][:1]
        return Outcome(made, path, "")


def _ray() -> Any:
    """Ray, which only this module requires."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise pytest.UsageError(
            "--executor ray requires Ray. Fix: pip install -c constraints/reference.txt -e './harness[cluster]'"
        ) from None
