"""One cell, measured: found in the store, or run and stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mpc_search import SearchError
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import SCALES, Cell
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.prepare import Prepared, prepare
from mpcvit_harness.store import Store
from spu_bench import RunFailed, RunRecord, SpuBenchError, provenance, run
from spu_bench.executors import measurement_lock
from spu_bench.record import Failure, Request
from vit_models import ModelError


@dataclass(frozen=True)
class Settings:
    """Where records and trained models are, and whether a cell with a valid record is measured again (`force`).

    `sweeps` is where `mpc-search sweep` keeps its checkpoints. Records of the machines `also` count as this one's do.
    """

    results: str
    machine: str
    checkpoints: str
    force: bool = False
    sweeps: str = "build/sweeps"
    also: tuple[str, ...] = ()


class MissingRequirement(str):
    """Why a `smoke` cell was not run: this machine does not have something that the cell requires."""


def measure(cell: Cell, settings: Settings, directory: Path, on_wait: Callable[[str], None]) -> CellRecord | str:
    """The record of `cell`: a stored one of its identity and Program, or a new one; or why there is no result.

    Every attempt leaves a record: also one whose model cannot be exported, and one whose logits are wrong, which is a
    result only where the cell may be wrong. Only a MissingRequirement leaves none. The machine's measurement lock is
    held from the export of the model to the stored record, over every link: the export too would disturb another run's
    latency. A process that waited for the lock then finds what the other has stored. `directory` is for the Program;
    `on_wait` is told when another run has to be waited for.
    """
    store = Store(settings.results, settings.machine)
    try:
        with measurement_lock(timeout_s=math.inf, on_wait=on_wait):
            return _measure(cell, settings, store, directory)
    except SpuBenchError as error:
        return MissingRequirement(error) if _is_missing(cell, error) else str(error)


def _measure(cell: Cell, settings: Settings, store: Store, directory: Path) -> CellRecord | str:
    try:
        prepared = prepare(cell, directory, Path(settings.checkpoints), Path(settings.sweeps))
    except Exception as error:  # a ProgramSpec's function is anyone's code, and can raise anything
        if isinstance(error, SpuBenchError) and _is_missing(cell, error):
            raise
        record = _not_exported(cell, error)
        # a result that is there stays: it may be that only a checkpoint is missing on this machine
        return _stored(cell, record, store) if store.reusable(cell) is None else _why(record)
    for machine in () if settings.force else (settings.machine, *settings.also):
        of_machine = Store(settings.results, machine)
        known = of_machine.find(cell, prepared.program.manifest.fingerprint)
        if known is not None:
            if known.cell != cell:  # the same measurement under another name, or with other labels
                of_machine.save(cell, known)
            return CellRecord.of(cell, known)
    try:
        record = _run(cell, prepared)
    except RunFailed as error:
        if _is_missing(cell, error):
            raise
        record = error.record
    if record.program is not None:
        record.program.training = prepared.training
    return _stored(cell, record, store)


def _stored(cell: Cell, record: RunRecord, store: Store) -> CellRecord | str:
    """Store `record`; give it back as the result, or say why it is none."""
    path = store.save(cell, record)
    if record.status == "wrong" and not cell.may_be_wrong:
        return f"{record.wrong_outputs()} (record: {path})"
    return f"{_why(record)} (record: {path})" if record.failure else CellRecord.of(cell, record)


def _why(record: RunRecord) -> str:
    """Why a run failed, in one line."""
    assert record.failure is not None
    return f"{record.failure.problem} Fix: {record.failure.fix}"


def _is_missing(cell: Cell, error: SpuBenchError) -> bool:
    """Whether a cell that only shows that it runs cannot run on this machine: that is no failure."""
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
        dealer=cell.dealer,
    )


def _not_exported(cell: Cell, error: Exception) -> RunRecord:
    """The record of a cell whose model could not be made or exported."""
    problem, fix, missing = repr(error), "correct the model of the cell.", False
    if isinstance(error, (HarnessError, ModelError, SearchError, SpuBenchError)):
        problem, fix, missing = error.problem, error.fix, error.reason == "environment"
    return RunRecord(
        status="failed",
        failure=Failure(
            reason="environment" if missing else "bad_input",
            problem=f"The model cannot be exported: {problem}",
            fix=fix,
        ),
        request=Request(
            protocol=cell.protocol,
            network=cell.network_value,
            executor=cell.executor,
            runtime=cell.runtime,
            options=cell.options,
            repeats=cell.repeats,
            warmup=cell.warmup,
            timeout_s=cell.timeout_s,
            dealer=cell.dealer,
        ),
        machine=provenance.machine(),
        code=provenance.code(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=0.0,
    )
