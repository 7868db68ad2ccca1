"""One stage of training (teacher, search or retrain), from its settings to a checkpoint and a record."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np

from mpc_search import provenance
from mpc_search.budgets import searched_values
from mpc_search.checkpoint import CheckpointOrigin, check_replaceable, load_checkpoint, save_checkpoint
from mpc_search.cost_table import CostTable
from mpc_search.data import ImageSet, load
from mpc_search.data.folders import check_same_classes
from mpc_search.errors import SearchError
from mpc_search.metrics import progress_bar
from mpc_search.record import DataIdentity, Parent, PlanBudget, TrainingRecord
from mpc_search.run_config import DataConfig, RunConfig, Stage
from mpc_search.scoring import score
from mpc_search.step import Teacher
from mpc_search.trainer import TrainingJob, TrainingResult, fit, params_sha256, run_directory
from vit_models import AttentionPlan, Model, ModelError, count_params, flatten, get_config, unflatten
from vit_models.types import Params


@dataclass(frozen=True)
class StageTask:
    """One stage to run: its settings, the attention and plan of its model, what it builds on, and its checkpoint `out`.

    `teacher` and `costs` are the paths of a checkpoint and a cost table. `budget` says how the plan was made. `key` is
    a sweep's identity of this run, for the record.
    """

    stage: Stage
    config: RunConfig
    out: Path
    attention: str = "mix"
    plan: AttentionPlan | None = None
    teacher: Path | None = None
    costs: Path | None = None
    budget: PlanBudget | None = None
    experiment: str = "single"
    name: str = ""
    parents: dict[str, Parent] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True)
class DataSplits:
    """The images of a run: for training, for evaluation while it trains, and for the test at its end.

    If no images are held out, the test images are evaluated while it trains.
    """

    training: ImageSet
    held_out: ImageSet
    test: ImageSet


def load_splits(config: DataConfig) -> DataSplits:
    """The data set of a config, split as it says.

    Raises SearchError when it asks for more images than there are, or when the splits have different classes.
    """
    memory = int(config.memory_gib * 2**30)
    training, test = (load(config.name, split, config.folder, memory) for split in ("train", "test"))
    check_same_classes("train", training.classes, "test", test.classes)
    if config.validation_images + (config.train_images or 1) > len(training):
        raise SearchError(
            f"{config.name} has {len(training)} training images, fewer than data.validation_images "
            f"({config.validation_images}) plus data.train_images ({config.train_images or 1}).",
            "lower one of them.",
        )
    order = np.random.default_rng(0).permutation(len(training))
    held, rest = order[: config.validation_images], order[config.validation_images :]
    used = rest[: config.train_images]
    whole = len(used) == len(training)
    return DataSplits(
        training if whole else training.take(np.sort(used)), training.take(np.sort(held)) if len(held) else test, test
    )


def make_model(config: RunConfig, classes: int, attention: str, plan: AttentionPlan | None) -> Model:
    """The model of a config. Raises SearchError when its name, overrides, attention and plan do not fit together."""
    try:
        shape = get_config(config.model.config, num_classes=classes, **config.model.overrides)
        return Model(shape, attention, plan, config.model.gelu)
    except ModelError as error:
        raise SearchError(error.problem, error.fix) from error


def run_stage(task: StageTask, *, force: bool = False, quiet: bool = False) -> TrainingRecord:
    """Run `task`, or resume it; `task.out` becomes its checkpoint. Returns the record of the run.

    A run that has ended is not trained again, unless `force` starts it from the beginning. Raises SearchError, and
    writes no checkpoint, when something that the run needs is missing or its loss is not finite.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    check_replaceable(task.out)
    splits = load_splits(task.config.data)
    job, parents = make_job(task, splits)
    if force and jax.process_index() == 0:
        shutil.rmtree(run_directory(task.out), ignore_errors=True)
    title = task.name or f"{task.stage} {task.out.name}"
    with contextlib.ExitStack() as stack:
        on_progress = None if quiet or jax.process_index() else stack.enter_context(progress_bar(title))
        result = fit(job, task.out, on_progress)
    record = _record(task, job, splits, result, parents, started)
    if jax.process_index() == 0:
        save_checkpoint(task.out, job.model, result.params, _origin(record))
    return record


def make_job(task: StageTask, splits: DataSplits) -> tuple[TrainingJob, dict[str, Parent]]:
    """The training job of a task on its images, and the runs that it builds on."""
    model = make_model(task.config, len(splits.training.classes), task.attention, task.plan)
    parents, teacher, start = dict(task.parents), None, None
    if task.teacher is not None:
        teacher = Teacher(*load_checkpoint(task.teacher)[:2])
        parents["teacher"] = Parent(name=task.teacher.name, params=params_sha256(teacher.params))
    if task.config.distill.init == "teacher":
        if teacher is None:
            raise SearchError("distill.init=teacher needs a teacher.", "give --teacher.")
        start = _from_teacher(model, teacher, task.config.train.seed)
    job = TrainingJob(
        model,
        splits.training,
        splits.held_out,
        task.config,
        teacher=teacher if task.config.distill.kind != "none" else None,
        costs=None if task.costs is None else CostTable.load(task.costs),
        start=start,
        search=task.stage == "search",
    )
    return job, parents


def _from_teacher(model: Model, teacher: Teacher, seed: int) -> Params:
    """The student's first parameters: the teacher's; those that only a variant of attention has, from the seed."""
    own = flatten(model.init(seed))
    known = flatten(teacher.params)
    return unflatten({name: known.get(name, value) for name, value in own.items()})


def _record(
    task: StageTask,
    job: TrainingJob,
    splits: DataSplits,
    result: TrainingResult,
    parents: dict[str, Parent],
    started: str,
) -> TrainingRecord:
    alpha, beta = searched_values(result.params, "alpha"), searched_values(result.params, "beta")
    used = {"train": splits.training, "test": splits.test}
    if splits.held_out is not splits.test:
        used["validation"] = splits.held_out
    return TrainingRecord(
        experiment=task.experiment,
        name=task.name or task.out.name,
        stage=task.stage,
        key=task.key,
        fingerprint=job.fingerprint(),
        status="ok",
        config=task.config.public(),
        seed=task.config.train.seed,
        data=[
            DataIdentity(
                name=data.name,
                split=split,
                images=len(data),
                files=dict(data.files),
                published_checksum=data.published_checksum,
            )
            for split, data in used.items()
        ],
        model=job.model,
        budget=task.budget,
        parents=parents,
        costs=job.costs,
        parameters=count_params(result.params),
        params=params_sha256(result.params),
        evaluations=result.evaluations,
        test=score(job.model, result.params, splits.test),
        alpha=None if alpha is None else alpha.tolist(),
        beta=None if beta is None else beta.tolist(),
        steps=result.steps,
        seconds=result.seconds,
        images_per_s=result.images_per_s,
        machine=provenance.machine(),
        versions=provenance.versions(),
        code=provenance.code(),
        started_at=started,
    )


def _origin(record: TrainingRecord) -> CheckpointOrigin:
    assert record.test is not None and record.stage != "evaluate"
    return CheckpointOrigin(
        data=record.data[0].name,
        test_accuracy=record.test.accuracy,
        test_images=record.test.images,
        train_s=record.seconds,
        stage=record.stage,
        fingerprint=record.fingerprint,
        config=record.config,
        jax=jax.__version__,
        parameters=record.parameters,
    )
