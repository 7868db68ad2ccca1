"""Runs of a sweep in their order, or several at once: what has a good record is not run again."""

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
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mpc_search import provenance
from mpc_search.budgets import alphas_of, by_seconds, by_share, gelu_by_share
from mpc_search.checkpoint import load_checkpoint
from mpc_search.costs import CostTable
from mpc_search.data import load
from mpc_search.errors import SearchError
from mpc_search.evaluate import plain_logits, private_score, score
from mpc_search.pipeline import Task, run_stage
from mpc_search.record import SUFFIX, Parent, TrainingRecord
from mpc_search.sweep import Run
from mpc_search.trainer import params_sha256
from vit_models import AttentionPlan


@dataclass(frozen=True)
class Places:
    """Where a sweep keeps its checkpoints and its records."""

    checkpoints: Path
    records: Path

    def checkpoint(self, run: str) -> Path:
        """The checkpoint of the run of that name."""
        return self.checkpoints / run

    def record(self, run: str) -> Path:
        """The record of the run of that name."""
        return self.records / f"{run}{SUFFIX}"

    def done(self, run: Run) -> TrainingRecord | None:
        """The good record of exactly this run, if there is one."""
        try:
            record = TrainingRecord.load(self.record(run.name))
        except SearchError:
            return None
        return record if record.status == "ok" and record.key == run.key else None


def run_sweep(
    experiment: str,
    runs: list[Run],
    places: Places,
    *,
    again: Callable[[Run], bool] = lambda run: False,
    quiet: bool = False,
    go_on: Callable[[], bool] = lambda: True,
    tell: Callable[[Run, TrainingRecord, bool], None] = lambda run, record, new: None,
    workers: int = 1,
) -> list[TrainingRecord]:
    """Records of all runs; `tell` hears of each with its record, and whether it is new, as soon as it is there.

    A run that fails leaves a record that says why, and those that build on it fail with it; the others go on.
    `again` says which are run although their record is good; `go_on` is asked before each new run. A run whose record
    is good but whose checkpoint is gone is run again where another needs it. With `workers` so many processes run one
    each, on their share of the cores. Raises SearchError where there are fewer cores, or where a worker was killed.
    """
    waiting = outstanding(runs, places, again)
    left = {run.name for run in waiting}
    records: dict[str, TrainingRecord] = {}
    for run in runs:
        if run.name not in left and (known := places.done(run)):
            records[run.name] = known
            tell(run, known, False)
    running: dict[Future[TrainingRecord], Run] = {}
    try:
        with _pool(workers) if workers > 1 else nullcontext() as pool:
            while waiting or running:
                ready = [run for run in waiting if all(parent in records for parent in run.parents.values())]
                while ready and len(running) < workers and go_on():
                    run = ready.pop(0)
                    waiting.remove(run)
                    parents = [records[name] for name in run.parents.values()]
                    task = (experiment, run, places, parents, again(run), quiet or workers > 1)
                    running[_now(*task) if pool is None else pool.submit(attempt, *task)] = run
                if not running:
                    break  # told not to go on
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    run = running.pop(future)
                    records[run.name] = future.result()
                    tell(run, records[run.name], True)
    except BrokenProcessPool as error:
        raise SearchError(
            "a worker was killed, perhaps for want of memory. Fix: run it again, which goes on with what is left, or "
            "with fewer --workers."
        ) from error
    return [records[run.name] for run in runs if run.name in records]


def outstanding(runs: list[Run], places: Places, again: Callable[[Run], bool]) -> list[Run]:
    """Those of `runs` that have to be run, in their order, in which parents come before what builds on them.

    They are those without a good record, those to be run `again`, and those whose checkpoint these need and is gone.
    """
    needed: set[str] = set()
    for run in reversed(runs):
        lost = run.name in needed and not (places.checkpoint(run.name) / "model.json").exists()
        if again(run) or lost or places.done(run) is None:
            needed.add(run.name)
            needed |= set(run.parents.values())
        else:
            needed.discard(run.name)
    return [run for run in runs if run.name in needed]


def _now(*task: Any) -> Future[TrainingRecord]:
    """A run of this process, as a future that is done."""
    future: Future[TrainingRecord] = Future()
    future.set_result(attempt(*task))
    return future


def _pool(workers: int) -> ProcessPoolExecutor:
    """Processes with as many shares of this one's cores."""
    cores = sorted(os.sched_getaffinity(0))
    if workers > len(cores):
        raise SearchError(
            f"{workers} workers would share {len(cores)} cores. Fix: give --workers {len(cores)} or less."
        )
    context = get_context("spawn")  # JAX has threads, which a fork would lose
    shares = context.SimpleQueue()
    for i in range(workers):
        shares.put(cores[i::workers])
    return ProcessPoolExecutor(workers, context, _settle, (shares,))


def _settle(shares: Any) -> None:
    """Keep this worker to its share of the cores, before JAX counts them, and let it end with its parent."""
    os.sched_setaffinity(0, shares.get())
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def attempt(
    experiment: str,
    run: Run,
    places: Places,
    parents: list[TrainingRecord],
    again: bool = False,
    quiet: bool = True,
) -> TrainingRecord:
    """One run, whose `parents` have been run: the record of what came out, stored at `places`, also of a failure.

    Goes on with what a run that was killed has left there, unless `again`.
    """
    try:
        for parent in parents:
            if parent.status != "ok":
                raise SearchError(f"{parent.name}, which it builds on, failed. Fix: mend that run first.")
        if run.spec.stage == "evaluate":
            record = _evaluation(experiment, run, places)
        else:
            record = run_stage(_task(experiment, run, places), force=again, quiet=quiet)
    except SearchError as error:
        record = _failed(experiment, run, str(error))
    record.save(places.record(run.name))
    jax.clear_caches()
    return record


def _task(experiment: str, run: Run, places: Places) -> Task:
    spec, stage = run.spec, run.spec.stage
    assert stage != "evaluate"
    attention = spec.attention or ("softmax" if stage == "teacher" else "mix")
    plan, rule, parents = _plan(run, places) if spec.search is not None else (None, None, {})
    return Task(
        stage,
        run.config,
        places.checkpoint(run.name),
        attention,
        plan,
        teacher=None if spec.teacher is None else places.checkpoint(run.parents["teacher"]),
        costs=spec.costs if stage == "search" else None,
        rule=rule,
        experiment=experiment,
        name=run.name,
        parents=parents,
        key=run.key,
    )


def _plan(run: Run, places: Places) -> tuple[AttentionPlan, dict[str, Any], dict[str, Parent]]:
    spec, name = run.spec, run.parents["search"]
    _, params, about = load_checkpoint(places.checkpoint(name))
    alpha, level = alphas_of(params), about["config"]["search"]["level"]
    if alpha is None:
        raise SearchError(f"{name} has no alphas. Fix: search there.")
    table = None if spec.costs is None else CostTable.load(spec.costs)
    rule: dict[str, Any] = {"level": level}
    if spec.seconds is None and spec.seconds_of_mu is None:
        if spec.mu is None:
            raise SearchError(f"{run.name} has no budget. Fix: give mu, seconds or seconds_of_mu.")
        plan = by_share(alpha, spec.mu, level, spec.rule, seed=run.seed)
        rule |= {"rule": spec.rule, "mu": spec.mu}
    else:
        if table is None:
            raise SearchError(f"{run.name} has no cost table. Fix: give costs.")
        limit = spec.seconds
        if limit is None:
            assert spec.seconds_of_mu is not None
            limit = table.seconds(by_share(alpha, spec.seconds_of_mu, level))
        plan = by_seconds(alpha, table, limit, level)
        rule |= {"rule": "seconds", "limit": limit}
    if table is not None:
        rule["predicted_seconds"] = table.seconds(plan)
    if spec.gelu_share is not None:
        beta = alphas_of(params, "beta")
        if beta is None:
            raise SearchError(f"{name} has no betas. Fix: search there with search.gelu_level.")
        plan = gelu_by_share(plan, beta, spec.gelu_share)
        rule["gelu_share"] = spec.gelu_share
    return plan, rule, {"search": Parent(name=name, params=params_sha256(params))}


def _evaluation(experiment: str, run: Run, places: Places) -> TrainingRecord:
    name = run.parents["of"]
    model, params, _ = load_checkpoint(places.checkpoint(name))
    test = load(run.config.data.name, "test", run.config.data.folder)
    sample = test.take(np.arange(min(run.spec.images, len(test))))
    done = _blank(experiment, run)
    done.parents = {"of": Parent(name=name, params=params_sha256(params))}
    done.test = score(plain_logits(model, params, test, run.spec.kernels), test)
    done.private = [
        private_score(model, params, sample, protocol=protocol, kernels=run.spec.kernels)
        for protocol in run.spec.protocols
    ]
    return done


def _failed(experiment: str, run: Run, why: str) -> TrainingRecord:
    return _blank(experiment, run).model_copy(update={"status": "failed", "failure": why})


def _blank(experiment: str, run: Run) -> TrainingRecord:
    return TrainingRecord(
        experiment=experiment,
        name=run.name,
        stage=run.spec.stage,
        key=run.key,
        status="ok",
        config=run.config.public(),
        seed=run.seed,
        data=[],
        model={},
        machine=provenance.machine(),
        versions=provenance.versions(),
        code=provenance.code(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
