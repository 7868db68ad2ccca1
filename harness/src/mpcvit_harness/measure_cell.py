"""One cell, measured: found in the store, or run and stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpc_search import SearchError
from mpcvit_harness.cells import SCALES, Cell
from mpcvit_harness.prepare import Prepared, prepare
from mpcvit_harness.store import Store
from spu_bench import RunFailed, RunRecord, SpuBenchError, run
from spu_bench.executors import measurement_lock


@dataclass(frozen=True)
class Settings:
    """Where records and trained models are; whether a valid record is measured again.

    `sweeps` is where `mpc-search sweep` keeps its checkpoints. Records of the machines `also` count as this one's do.
    """

    results: str
    machine: str
    checkpoints: str
    force: bool = False
    sweeps: str = "build/sweeps"
    also: tuple[str, ...] = ()


class MissingRequirement(str):
    """Why a `smoke` cell was not run: this machine lacks something that it needs."""


def measure(cell: Cell, settings: Settings, directory: Path, on_wait: Callable[[str], None]) -> RunRecord | str:
    """The record of `cell`: the stored one of this very cell and Program, or a new one; or why there is none.

    The machine's measurement lock is held from the export of the model to the stored record, over every link: the
    export too would disturb another run's latency. Whoever had to wait for it then finds what the other has stored.
    `directory` is for the Program; `on_wait` is told when another run has to be waited for.
    """
    store = Store(settings.results, settings.machine)
    try:
        with measurement_lock(timeout_s=math.inf, on_wait=on_wait):
            prepared = prepare(cell, directory, Path(settings.checkpoints), Path(settings.sweeps))
            for machine in () if settings.force else (settings.machine, *settings.also):
                known = Store(settings.results, machine).find(cell, prepared.program.manifest.fingerprint)
                if known is not None:
                    return known
            try:
                measured = _run(cell, prepared)
            except RunFailed as error:
                if _lacking(cell, error):
                    raise
                path = store.save(cell, _with_training(error.record, prepared))
                return f"{error} (record: {path})"
            store.save(cell, _with_training(measured, prepared))
            return measured
    except SpuBenchError as error:
        return MissingRequirement(error) if _lacking(cell, error) else str(error)
    except SearchError as error:
        return str(error)


def _lacking(cell: Cell, error: SpuBenchError) -> bool:
    """Whether the cell only shows that it runs, and this machine has not what it takes: that is no failure."""
    return cell.scale == SCALES[0] and error.reason == "environment"


def _run(cell: Cell, prepared: Prepared) -> RunRecord:
    return run(
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


def _with_training(record: RunRecord, prepared: Prepared) -> RunRecord:
    """Say in the record what made the weights, and what they reach in plaintext."""
    if record.program is not None and prepared.training is not None:
        record.program.made_by["training"] = prepared.training
    return record
