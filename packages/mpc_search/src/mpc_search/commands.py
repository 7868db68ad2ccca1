"""What the training commands do, apart from their options: JAX loads only once it is needed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax

from mpc_search import data as data_sets
from mpc_search.config import Stage, load_config
from mpc_search.draw import draw_history
from mpc_search.errors import SearchError
from mpc_search.pipeline import Task, run_stage
from mpc_search.provenance import machine_name
from mpc_search.record import SUFFIX, TrainingRecord
from mpc_search.runner import Places, run_sweep
from mpc_search.sweep import Run, load_sweep, with_parents
from mpc_search.trainer import run_directory
from vit_models import AttentionPlan, get_config


def train_command(
    stage: Stage,
    config_name: str,
    scale: str,
    options: dict[str, Any],
    out: Path,
    attention: str,
    plan: Path | int | None,
    get_data: bool,
    force: bool,
    results: Path | None,
    processes: str | None,
    teacher: Path | None = None,
    costs: Path | None = None,
) -> None:
    """Train one stage and say what came out; `plan` is a file, or the number of ReLU-Softmax heads of every layer."""
    if processes is not None:
        join(processes)
    config = load_config(config_name, scale, stage, options)
    if get_data:
        data_sets.get(config.data.name, config.data.folder)
    chosen = _plan(plan, config.model.config, config.model.overrides)
    task = Task(stage, config, out, attention, chosen, teacher=teacher, costs=costs)
    record = run_stage(task, force=force)
    if jax.process_index() != 0:
        return
    if results is not None:
        record.save(results / machine_name() / "single" / f"{record.name}{SUFFIX}")
    assert record.test is not None
    print(
        f"{record.test.accuracy:.2%} on {record.test.images} test images, trained in {record.seconds:.0f} s "
        f"({record.images_per_s:,.0f} images/s); the checkpoint is {out}"
    )
    if stage == "search":
        folder = run_directory(out)
        names = [name for name in ("alpha", "beta") if getattr(record, name) is not None]
        pages = [draw_history(folder / "metrics.jsonl", folder / f"{name}.html", name) for name in names]
        print(f"how they moved: {', '.join(map(str, pages))}")


def join(processes: str) -> None:
    """Become one of several processes that train together: HOST:PORT/I/N is process I of N, which meet there."""
    try:
        address, number, count = processes.split("/")
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, int(count), int(number))
    except (ValueError, RuntimeError) as error:
        raise SearchError(
            f"--processes {processes}: {error}. Fix: give HOST:PORT/I/N, as 10.0.0.1:4321/0/2."
        ) from error


def _plan(plan: Path | int | None, name: str, overrides: dict[str, Any]) -> AttentionPlan | None:
    if plan is None:
        return None
    try:
        shape = get_config(name, **overrides)
        if isinstance(plan, Path):
            return AttentionPlan.from_json(plan.read_text())
        if plan > shape.heads:
            raise ValueError(f"--heads {plan}: {name} has {shape.heads} heads")
        return AttentionPlan.from_heads([[1] * plan + [0] * (shape.heads - plan)] * shape.layers)
    except (OSError, ValueError) as error:
        raise SearchError(f"{error}. Fix: see `mpc-search retrain --help`.") from error


def sweep_command(
    name: str,
    options: dict[str, Any],
    checkpoints: Path,
    results: Path,
    machine: str | None,
    only: str,
    minutes: float | None,
    workers: int,
    listed: bool,
    get_data: bool,
    force: bool,
) -> None:
    """Run a sweep, or list it; raises SearchError at its end where a run failed."""
    experiment, runs = load_sweep(name, options)
    runs = with_parents(runs, lambda run: only in run.name)
    if not runs:
        raise SearchError(f"No run has {only!r} in its name. Fix: see --list.")
    places = Places(checkpoints / experiment, results / (machine or machine_name()) / experiment)
    if listed:
        for run in runs:
            print(f"{'done   ' if places.done(run) else 'to run '} {run.name}  {run.key[:12]}")
        return
    if get_data and runs:
        data_sets.get(runs[0].config.data.name, runs[0].config.data.folder)
    started, place = time.monotonic(), {run.name: i for i, run in enumerate(runs, 1)}

    def tell(run: Run, record: TrainingRecord, new: bool) -> None:
        said = record.failure or (f"{record.test.accuracy:.2%}" if record.test else "")
        print(f"[{place[run.name]}/{len(runs)}] {run.name}: {said}{'' if new else ' (already done)'}", flush=True)

    records = run_sweep(
        experiment,
        runs,
        places,
        again=lambda run: force,
        go_on=lambda: minutes is None or time.monotonic() - started < 60 * minutes,
        tell=tell,
        workers=workers,
    )
    failed = [record.name for record in records if record.status != "ok"]
    if len(records) < len(runs):
        print(f"{len(runs) - len(records)} runs are left; the same command goes on with them")
    if failed:
        raise SearchError(f"{len(failed)} runs failed: {', '.join(failed)}. Fix: see their records.")
