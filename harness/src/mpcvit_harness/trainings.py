"""Trainings as cells: runs of the sweeps of `mpc_search`, with its records and its rule of what is done."""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from mpc_search import SearchError
from mpc_search.record import TrainingRecord
from mpc_search.sweep import Places, Run, load_sweep, run_sweep, with_parents
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.measure import Settings
from spu_bench.executors import measurement_lock


def trainings(
    experiment: str, sweep: str, scale: Literal["smoke", "reduced", "paper"], *patterns: str
) -> list[TrainingCell]:
    """A cell for every run of `sweep` whose name, without its seed, is like one of `patterns` (as of a shell).

    Raises ValueError where a pattern is like none.
    """
    names = [run.name for run in _sweep(sweep)[1]]
    kinds = {name: name.rpartition("-s")[0] for name in names}
    for pattern in patterns:
        if not any(fnmatchcase(kind, pattern) for kind in kinds.values()):
            raise ValueError(f"{experiment}: the sweep {sweep} has no run like {pattern!r}")
    return [
        TrainingCell(experiment=experiment, sweep=sweep, run=name, scale=scale)
        for name in names
        if any(fnmatchcase(kinds[name], pattern) for pattern in patterns)
    ]


def train(cell: TrainingCell, settings: Settings, on_wait: Callable[[str], None]) -> TrainingRecord | str:
    """The record of `cell`: the stored one of exactly this run, or a new one; or why there is none.

    What the run builds on is trained first where it is missing. The machine's measurement lock is held meanwhile: a
    training would spoil another run's latency. `on_wait` is told when such a run has to be waited for.
    """
    try:
        sweep, runs = _sweep(cell.sweep)
        places = _places(cell, settings)
        wanted = with_parents(runs, lambda run: run.name == cell.run)
        with measurement_lock(timeout_s=math.inf, on_wait=on_wait):
            records = run_sweep(
                sweep, wanted, places, again=lambda run: settings.force and run.name == cell.run, quiet=True
            )
    except SearchError as error:
        return str(error)
    failed = next((record for record in records if record.status != "ok"), None)
    return records[-1] if failed is None else f"{failed.failure} (record: {places.record(failed.name)})"


def done(cell: TrainingCell, settings: Settings) -> bool:
    """Whether there is a good record of exactly this run."""
    (run,) = [run for run in _sweep(cell.sweep)[1] if run.name == cell.run]
    return _places(cell, settings).done(run) is not None


def folder(cell: TrainingCell) -> str:
    """The name under which the sweep keeps records and checkpoints."""
    return _sweep(cell.sweep)[0]


def _places(cell: TrainingCell, settings: Settings) -> Places:
    sweep = folder(cell)
    return Places(Path(settings.sweeps) / sweep, Path(settings.results) / settings.machine / sweep)


@cache
def _sweep(name: str) -> tuple[str, list[Run]]:
    return load_sweep(name)
