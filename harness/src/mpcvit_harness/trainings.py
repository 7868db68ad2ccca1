"""Trainings as cells: runs of the sweeps of `mpc_search`, with its records and its rule for what is done."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from mpc_search import CheckpointOrigin, SearchError, load_checkpoint, save_checkpoint
from mpc_search.record import TrainingRecord
from mpc_search.sweep import Run, load_sweep, with_parents
from mpc_search.sweep_runner import SweepPaths, run_one, run_sweep
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.measure_cell import Settings
from spu_bench.executors import measurement_lock
from vit_models import Model
from vit_models.types import Params


def trainings(
    experiment: str, sweep: str, scale: Literal["smoke", "reduced", "paper"], *patterns: str
) -> list[TrainingCell]:
    """A cell for every run of `sweep` whose name, without its seed, matches one of `patterns` (as in a shell).

    Raises ValueError where a pattern matches none.
    """
    names = [run.name for run in _sweep(sweep)[1]]
    kinds = {name: name.rpartition("-s")[0] for name in names}
    for pattern in patterns:
        if not any(fnmatchcase(kind, pattern) for kind in kinds.values()):
            raise ValueError(f"{experiment}: the sweep {sweep} has no run that matches {pattern!r}")
    return [
        TrainingCell(experiment=experiment, sweep=sweep, run=name, scale=scale)
        for name in names
        if any(fnmatchcase(kinds[name], pattern) for pattern in patterns)
    ]


@dataclass(frozen=True)
class Job:
    """The work of a training cell: its run, after the runs that it builds on, and where they are kept."""

    sweep: str
    runs: list[Run]
    places: SweepPaths
    forced: bool

    @staticmethod
    def of(cell: TrainingCell, settings: Settings) -> Job:
        """The job of `cell`. Raises SearchError where there is no such sweep."""
        sweep, runs = _sweep(cell.sweep)
        return Job(sweep, with_parents(runs, lambda run: run.name == cell.run), _places(cell, settings), settings.force)

    def runs_anew(self, run: Run) -> bool:
        """Whether `run` is trained although it has a good record: with `--force` the cell's own run, and no other."""
        return self.forced and run is self.runs[-1]

    def result(self, records: list[TrainingRecord]) -> TrainingRecord | str:
        """The record of the cell, or why there is no result."""
        failed = next((record for record in records if record.status != "ok"), None)
        return records[-1] if failed is None else f"{failed.failure} (record: {self.places.record(failed.name)})"


def train(cell: TrainingCell, settings: Settings, on_wait: Callable[[str], None]) -> TrainingRecord | str:
    """The record of `cell`: the stored one of exactly this run, or a new one; or why there is no result.

    What the run builds on is trained first where it is missing. The machine's measurement lock is shared meanwhile: a
    training would disturb another run's latency. `on_wait` is told when such a run has to be waited for.
    """
    try:
        job = Job.of(cell, settings)
        with measurement_lock(timeout_s=math.inf, on_wait=on_wait, shared=True):
            return job.result(run_sweep(job.sweep, job.runs, job.places, force=job.runs_anew, quiet=True))
    except SearchError as error:
        return str(error)


@dataclass(frozen=True)
class FinishedRun:
    """A training run that has ended, to be sent between hosts: its record and, if it is good, its checkpoint."""

    record: TrainingRecord
    checkpoint: tuple[Model, Params, CheckpointOrigin] | None

    @staticmethod
    def at(places: SweepPaths, record: TrainingRecord) -> FinishedRun:
        """The run of `record`, with its checkpoint at `places`."""
        path = places.checkpoint(record.name)
        return FinishedRun(record, load_checkpoint(path) if path.exists() else None)

    def keep(self, places: SweepPaths) -> None:
        """Store it at `places`."""
        if self.checkpoint is not None:
            save_checkpoint(places.checkpoint(self.record.name), *self.checkpoint)
        self.record.save(places.record(self.record.name))


def train_here(sweep: str, run: Run, directory: str, *parents: FinishedRun) -> FinishedRun:
    """Train one run on this host, in the `directory` with data and cost tables; other trainings may run beside it."""
    with (
        contextlib.chdir(directory),
        tempfile.TemporaryDirectory() as folder,
        measurement_lock(timeout_s=math.inf, shared=True),
    ):
        places = SweepPaths(Path(folder) / "checkpoints", Path(folder) / "records")
        for parent in parents:
            parent.keep(places)
        return FinishedRun.at(places, run_one(sweep, run, places, [parent.record for parent in parents]))


def done(cell: TrainingCell, settings: Settings) -> bool:
    """Whether exactly this run has a good record."""
    job = Job.of(cell, settings)
    return job.places.good_record(job.runs[-1]) is not None


def folder(cell: TrainingCell) -> str:
    """The name under which the sweep keeps records and checkpoints."""
    return _sweep(cell.sweep)[0]


def _places(cell: TrainingCell, settings: Settings) -> SweepPaths:
    sweep = folder(cell)
    return SweepPaths(Path(settings.sweeps) / sweep, Path(settings.results) / settings.machine / sweep)


@cache
def _sweep(name: str) -> tuple[str, list[Run]]:
    return load_sweep(name)
