"""One stage of training from the command line. Apart from the commands, so that `--help` does not load JAX's tools."""

from __future__ import annotations

from pathlib import Path

import jax

from mpc_search import data as data_sets
from mpc_search.alpha_history import draw_history
from mpc_search.cli.options import StageOptions
from mpc_search.errors import SearchError
from mpc_search.provenance import machine_name
from mpc_search.record import SUFFIX
from mpc_search.run_config import ModelConfig, Stage, load_config
from mpc_search.stages import StageTask, run_stage
from mpc_search.trainer import run_directory
from vit_models import AttentionPlan, ModelError, get_config


def train_stage(
    stage: Stage,
    options: StageOptions,
    attention: str,
    plan: Path | int | None = None,
    *,
    teacher: Path | None = None,
    costs: Path | None = None,
) -> None:
    """Run one stage and print its result. `plan` is a file, or the number of ReLU-Softmax heads in every layer."""
    if options.processes is not None:
        join_processes(options.processes)
    overrides = options.overrides()
    if teacher is not None:
        overrides.setdefault("distill.kind", "both")
    config = load_config(options.config, options.scale, stage, overrides)
    if options.get_data:
        data_sets.install(config.data.name, config.data.folder)
    task = StageTask(stage, config, options.out, attention, _plan(plan, config.model), teacher=teacher, costs=costs)
    record = run_stage(task, force=options.force)
    if jax.process_index() != 0:
        return
    if options.results is not None:
        record.save(options.results / machine_name() / "single" / f"{record.name}{SUFFIX}")
    assert record.test is not None
    print(
        f"{record.test.accuracy:.2%} on {record.test.images} test images, trained in {record.seconds:.0f} s "
        f"({record.images_per_s:,.0f} images/s); the checkpoint is {options.out}"
    )
    if stage == "search":
        folder = run_directory(options.out)
        if record.alpha is not None:
            print(f"history of alpha: {draw_history(folder / 'metrics.jsonl', folder / 'alpha.html', 'alpha')}")
        if record.beta is not None:
            print(f"history of beta: {draw_history(folder / 'metrics.jsonl', folder / 'beta.html', 'beta')}")


def join_processes(processes: str) -> None:
    """Make this process one of several that train together: HOST:PORT/I/N is process I of N at that address."""
    try:
        address, number, count = processes.split("/")
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, int(count), int(number))
    except (ValueError, RuntimeError) as error:
        raise SearchError(
            f"--processes {processes}: {error}.", "give HOST:PORT/I/N, like 10.0.0.1:4321/0/2."
        ) from error


def _plan(plan: Path | int | None, model: ModelConfig) -> AttentionPlan | None:
    if plan is None:
        return None
    try:
        shape = get_config(model.config, num_classes=None, **model.overrides)
        if isinstance(plan, Path):
            return AttentionPlan.from_json(plan.read_text())
        if plan > shape.heads:
            raise SearchError(
                f"{shape.name} has {shape.heads} heads, fewer than --heads {plan}.", "give fewer --heads."
            )
        return AttentionPlan.from_heads([[1] * plan + [0] * (shape.heads - plan)] * shape.layers)
    except OSError as error:
        raise SearchError(f"Cannot read the plan: {error}.", "give a plan that `mpc-search binarize` wrote.") from error
    except ModelError as error:
        raise SearchError(error.problem, error.fix) from error
