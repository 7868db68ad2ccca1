"""One stage from its config to a checkpoint and a record: teacher, search or retrain."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mpc_search import provenance
from mpc_search.budgets import alphas_of
from mpc_search.checkpoint import check_replaceable, load_checkpoint, save_checkpoint
from mpc_search.config import Config, DataConfig, Stage
from mpc_search.costs import CostTable
from mpc_search.data import ImageSet, load
from mpc_search.errors import SearchError
from mpc_search.evaluate import plain_logits, score
from mpc_search.metrics import progress
from mpc_search.model import Model
from mpc_search.record import DataIdentity, Parent, TrainingRecord
from mpc_search.step import Teacher
from mpc_search.trainer import Job, Result, fit, params_sha256, run_directory
from vit_models import AttentionPlan, count_params, flatten, get_config, init, unflatten
from vit_models.heads import resolve


@dataclass(frozen=True)
class Task:
    """What a stage is asked for: its config, the attention and plan of the model, what it builds on, where it goes.

    `teacher` and `costs` are a checkpoint and a cost table by their paths; `rule` says how the plan was made. `key` is
    a sweep's name for exactly this run, kept in the record.
    """

    stage: Stage
    config: Config
    out: Path
    attention: str = "mix"
    plan: AttentionPlan | None = None
    teacher: Path | None = None
    costs: Path | None = None
    rule: dict[str, Any] | None = None
    experiment: str = "single"
    name: str = ""
    parents: dict[str, Parent] = field(default_factory=dict)
    key: str | None = None


@dataclass(frozen=True)
class Images:
    """The images of a run: to train on, to look at meanwhile (the test images where none are held out), to test on."""

    training: ImageSet
    held_out: ImageSet
    test: ImageSet


def load_images(config: DataConfig) -> Images:
    """The data set of a config, cut as it says. Which images are held out, or used, does not depend on a seed."""
    memory = int(config.memory_gib * 2**30)
    training, test = (load(config.name, split, config.folder, memory) for split in ("train", "test"))
    if config.validation_images + (config.train_images or 1) > len(training):
        raise SearchError(
            f"{config.name} has {len(training)} training images, {config.validation_images} to hold out and "
            f"{config.train_images or 1} to use are more. Fix: lower data.validation_images or data.train_images."
        )
    order = np.random.default_rng(0).permutation(len(training))
    held, rest = order[: config.validation_images], order[config.validation_images :]
    used = rest[: config.train_images]
    whole = len(used) == len(training)
    return Images(
        training if whole else training.take(np.sort(used)), training.take(np.sort(held)) if len(held) else test, test
    )


def make_model(config: Config, classes: int, attention: str, plan: AttentionPlan | None) -> Model:
    """The model of a config; raises SearchError where name, overrides, attention and plan do not fit together."""
    try:
        shape = get_config(config.model.config, num_classes=classes, **config.model.overrides)
        resolve(shape, attention, plan)
    except ValueError as error:
        raise SearchError(f"{error}. Fix: change the model's config, attention or plan.") from error
    return Model(shape, attention, plan, config.model.gelu)


def run_stage(task: Task, *, force: bool = False, quiet: bool = False) -> TrainingRecord:
    """Train, or go on with, the run of `task`; `task.out` becomes the checkpoint. Returns the record of the run.

    A run that has ended is not trained again (`force` begins anew). Raises SearchError, and leaves no checkpoint, where
    anything that the run needs is missing or the loss is no longer finite.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    check_replaceable(task.out)
    images = load_images(task.config.data)
    job, parents = make_job(task, images)
    if force and jax.process_index() == 0:
        shutil.rmtree(run_directory(task.out), ignore_errors=True)
    title = task.name or f"{task.stage} {task.out.name}"
    with contextlib.ExitStack() as stack:
        watch = None if quiet or jax.process_index() else stack.enter_context(progress(title))
        result = fit(job, task.out, watch)
    record = _record(task, job, images, result, parents, started)
    if jax.process_index() == 0:
        save_checkpoint(task.out, job.model, result.params, _about(record))
    return record


def make_job(task: Task, images: Images) -> tuple[Job, dict[str, Parent]]:
    """The training job of a task on its images, and what it builds on."""
    model = make_model(task.config, len(images.training.classes), task.attention, task.plan)
    parents, teacher, start = dict(task.parents), None, None
    if task.teacher is not None:
        teacher = Teacher(*load_checkpoint(task.teacher)[:2])
        parents["teacher"] = Parent(name=task.teacher.name, params=params_sha256(teacher.params))
    if task.config.distill.init == "teacher":
        if teacher is None:
            raise SearchError("distill.init=teacher needs a teacher. Fix: give --teacher.")
        start = _from_teacher(model, teacher, task.config.train.seed)
    job = Job(
        model,
        images.training,
        images.held_out,
        task.config,
        teacher=teacher if task.config.distill.kind != "none" else None,
        costs=None if task.costs is None else CostTable.load(task.costs),
        start=start,
        search=task.stage == "search",
    )
    return job, parents


def _from_teacher(model: Model, teacher: Teacher, seed: int) -> Any:
    """The student's parameters: the teacher's where it has them, else (a variant's own) drawn from the seed."""
    own = flatten(init(model.config, seed, attention=model.attention))
    known = flatten(teacher.params)
    return unflatten({name: known.get(name, value) for name, value in own.items()})


def _record(
    task: Task, job: Job, images: Images, result: Result, parents: dict[str, Parent], started: str
) -> TrainingRecord:
    shown = Model(job.model.config, job.model.attention, job.model.plan, job.model.gelu)
    alpha, beta = (alphas_of(result.params, name) for name in ("alpha", "beta"))
    splits = {"train": images.training, "test": images.test}
    if images.held_out is not images.test:
        splits["validation"] = images.held_out
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
                published_checksum=data.published,
            )
            for split, data in splits.items()
        ],
        model={**shown.config.to_dict(), "attention": shown.attention, "gelu": shown.gelu},
        plan=None if shown.plan is None else shown.plan.to_dict(),
        rule=task.rule,
        parents=parents,
        costs=None if job.costs is None else job.costs.model_dump(mode="json", by_alias=True),
        parameters=count_params(result.params),
        params=params_sha256(result.params),
        evaluations=result.evaluations,
        test=score(plain_logits(shown, result.params, images.test), images.test),
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


def _about(record: TrainingRecord) -> dict[str, Any]:
    """What a checkpoint says of itself; `test_accuracy` and `test_images` are read by the harness."""
    assert record.test is not None
    return {
        "data": record.data[0].name,
        "test_accuracy": record.test.accuracy,
        "test_images": record.test.images,
        "train_s": record.seconds,
        "stage": record.stage,
        "fingerprint": record.fingerprint,
        "config": record.config.model_dump(mode="json"),
        "jax": jax.__version__,
        "parameters": record.parameters,
    }
