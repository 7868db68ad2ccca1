"""Executes the runs of a sweep, one after another or several at once. A run with a good record is skipped."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context, parent_process
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import jax
import numpy as np

from mpc_search import provenance
from mpc_search.checkpoint import load_checkpoint
from mpc_search.cost_table import CostTable
from mpc_search.data import load
from mpc_search.errors import SearchError
from mpc_search.plan_budget import BudgetRequest, make_plan
from mpc_search.record import SUFFIX, Failure, Parent, PlanBudget, TrainingRecord
from mpc_search.run_config import Stage
from mpc_search.scoring import private_score, score
from mpc_search.stages import StageTask, run_stage
from mpc_search.sweep import Run
from mpc_search.trainer import params_sha256
from vit_models import AttentionPlan


@dataclass(frozen=True)
class SweepPaths:
    """The folders of a sweep's checkpoints and records."""

    checkpoints: Path
    records: Path

    def checkpoint(self, run: str) -> Path:
        """The checkpoint of the run with this name."""
        return self.checkpoints / run

    def record(self, run: str) -> Path:
        """The record of the run with this name."""
        return self.records / f"{run}{SUFFIX}"

    def good_record(self, run: Run) -> TrainingRecord | None:
        """The good record of exactly this run, or None."""
        try:
            record = TrainingRecord.load(self.record(run.name))
        except SearchError:
            return None
        return record if record.status == "ok" and record.key == run.key else None


def run_sweep(
    experiment: str,
    runs: list[Run],
    paths: SweepPaths,
    *,
    force: Callable[[Run], bool] = lambda run: False,
    quiet: bool = False,
    may_start: Callable[[], bool] = lambda: True,
    on_record: Callable[[Run, TrainingRecord, bool], None] = lambda run, record, new: None,
    workers: int = 1,
) -> list[TrainingRecord]:
    """The records of all runs. `on_record` is called with each of them, and with True if it is new.

    A failed run leaves a record with the reason. Runs that build on it fail too; the others are run. `force` says
    which runs are run in spite of a good record. `may_start` is asked before each new run. A run with a good record
    whose checkpoint is missing is run again if another run needs it. With several `workers`, that many processes run
    one run each, on their share of the cores. Raises SearchError when there are fewer cores, or a worker is killed.
    """
    waiting = remaining_runs(runs, paths, force)
    left = {run.name for run in waiting}
    records: dict[str, TrainingRecord] = {}
    for run in runs:
        if run.name not in left and (known := paths.good_record(run)):
            records[run.name] = known
            on_record(run, known, False)
    running: dict[Future[TrainingRecord], Run] = {}
    try:
        with _pool(workers) if workers > 1 else nullcontext() as pool:
            while waiting or running:
                ready = [run for run in waiting if all(parent in records for parent in run.parents.values())]
                while ready and len(running) < workers and may_start():
                    run = ready.pop(0)
                    waiting.remove(run)
                    parents = [records[name] for name in run.parents.values()]
                    task = (experiment, run, paths, parents, force(run), quiet or workers > 1)
                    future: Future[TrainingRecord] = Future()
                    if pool is None:
                        future.set_result(run_one(*task))
                    else:
                        future = pool.submit(run_one, *task)
                    running[future] = run
                if not running:
                    break  # no new run may start
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    run = running.pop(future)
                    records[run.name] = future.result()
                    on_record(run, records[run.name], True)
    except BrokenProcessPool as error:
        raise SearchError(
            "A worker process was killed, most likely because memory ran out.",
            "run the same command again, which resumes, or give fewer --workers.",
            "memory",
        ) from error
    return [records[run.name] for run in runs if run.name in records]


def remaining_runs(runs: list[Run], paths: SweepPaths, force: Callable[[Run], bool]) -> list[Run]:
    """The `runs` that must be run, parents before the runs that build on them.

    These are the runs without a good record, the runs with `force`, and the runs whose missing checkpoint one of these
    needs.
    """
    needed: set[str] = set()
    for run in reversed(runs):
        lost = run.name in needed and not (paths.checkpoint(run.name) / "model.json").exists()
        if force(run) or lost or paths.good_record(run) is None:
            needed.add(run.name)
            needed |= set(run.parents.values())
        else:
            needed.discard(run.name)
    return [run for run in runs if run.name in needed]


def _pool(workers: int) -> ProcessPoolExecutor:
    """Worker processes, each with its share of this process's cores."""
    cores = sorted(os.sched_getaffinity(0))
    if workers > len(cores):
        raise SearchError(
            f"{workers} workers need {workers} cores; {len(cores)} are available.", "give fewer --workers."
        )
    context = get_context("spawn")  # a fork would lose the threads of JAX
    shares: SimpleQueue[list[int]] = context.SimpleQueue()
    for i in range(workers):
        shares.put(cores[i::workers])
    return ProcessPoolExecutor(workers, context, _start_worker, (shares,))


def _start_worker(shares: SimpleQueue[list[int]]) -> None:
    """Keep this worker to its share of the cores, before JAX counts them, and end it when its parent ends."""
    os.sched_setaffinity(0, shares.get())
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run_one(
    experiment: str,
    run: Run,
    paths: SweepPaths,
    parents: list[TrainingRecord],
    force: bool = False,
    quiet: bool = True,
) -> TrainingRecord:
    """Run one run, whose `parents` have been run, and store its record at `paths`, also when it fails.

    A run that was killed is resumed, unless `force` starts it from the beginning.
    """
    try:
        for parent in parents:
            if parent.status != "ok":
                raise SearchError(
                    f"{parent.name}, which this run builds on, failed.", "see its record, and run it again.", "failed"
                )
        if run.spec.stage == "evaluate":
            record = _evaluation(experiment, run, paths)
        else:
            record = run_stage(_task(experiment, run, paths, run.spec.stage), force=force, quiet=quiet)
    except SearchError as error:
        record = _untrained(experiment, run).model_copy(update={"status": "failed", "failure": Failure.of(error)})
    record.save(paths.record(run.name))
    jax.clear_caches()
    return record


def _task(experiment: str, run: Run, paths: SweepPaths, stage: Stage) -> StageTask:
    spec = run.spec
    plan, budget, parents = _plan(run, paths) if spec.search is not None else (None, None, {})
    return StageTask(
        stage,
        run.config,
        paths.checkpoint(run.name),
        spec.attention or ("softmax" if stage == "teacher" else "mix"),
        plan,
        teacher=None if spec.teacher is None else paths.checkpoint(run.parents["teacher"]),
        costs=spec.costs if stage == "search" else None,
        budget=budget,
        experiment=experiment,
        name=run.name,
        parents=parents,
        key=run.key,
    )


def _plan(run: Run, paths: SweepPaths) -> tuple[AttentionPlan, PlanBudget, dict[str, Parent]]:
    """The plan of a run from the alphas of its search, how it was made, and that search."""
    spec, name = run.spec, run.parents["search"]
    _, params, origin = load_checkpoint(paths.checkpoint(name))
    table = None if spec.costs is None else CostTable.load(spec.costs)
    request = BudgetRequest(spec.mu, spec.rule, spec.seconds, spec.seconds_of_mu, spec.gelu_share, run.seed)
    plan, budget = make_plan(name, params, origin, request, table)
    return plan, budget, {"search": Parent(name=name, params=params_sha256(params))}


def _evaluation(experiment: str, run: Run, paths: SweepPaths) -> TrainingRecord:
    name = run.parents["of"]
    model, params, _ = load_checkpoint(paths.checkpoint(name))
    test = load(run.config.data.name, "test", run.config.data.folder)
    sample = test.take(np.arange(min(run.spec.images, len(test))))
    private = [
        private_score(model, params, sample, protocol=protocol, kernels=run.spec.kernels)
        for protocol in run.spec.protocols
    ]
    found = {
        "parents": {"of": Parent(name=name, params=params_sha256(params))},
        "test": score(model, params, test, run.spec.kernels),
        "private": private,
    }
    return _untrained(experiment, run).model_copy(update=found)


def _untrained(experiment: str, run: Run) -> TrainingRecord:
    """The record of a run without any result."""
    return TrainingRecord(
        experiment=experiment,
        name=run.name,
        stage=run.spec.stage,
        key=run.key,
        status="ok",
        config=run.config.public(),
        seed=run.seed,
        data=[],
        machine=provenance.machine(),
        versions=provenance.versions(),
        code=provenance.code(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
