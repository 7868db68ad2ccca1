"""The trainer: one loop for teacher, search and retraining, that a kill at any moment does not change."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mpc_search.budgets import alphas_of
from mpc_search.checkpoint import load_checkpoint, save_checkpoint
from mpc_search.config import Config
from mpc_search.costs import CostTable
from mpc_search.data import Batch, Batches, ImageSet
from mpc_search.errors import SearchError
from mpc_search.metrics import Metrics, Watcher
from mpc_search.model import Model, Params
from mpc_search.optim import of_searched
from mpc_search.state import RunState, on_host
from mpc_search.step import PARTS, Steps, Teacher
from vit_models import flatten, init
from vit_models.heads import parse

_EVALUATE_AT_ONCE = 512


@dataclass(frozen=True)
class Job:
    """What is trained on what: the model, its training images, those that it is looked at with, all settings.

    With `search`, alphas are trained where the attention is a mix without a plan, and betas where the config says so.
    `start` are the parameters to begin with (None: drawn from the seed); `costs` is for a search by cost.
    """

    model: Model
    data: ImageSet
    held_out: ImageSet
    config: Config
    teacher: Teacher | None = None
    costs: CostTable | None = None
    start: Params | None = None
    search: bool = False

    def __post_init__(self) -> None:
        needs_teacher, search = self.config.distill.kind != "none", self.config.search
        if self._mixes and not self.searches_alpha:
            raise SearchError(f"Attention {self.model.attention} needs a plan. Fix: give --plan, or search for one.")
        if self.search and not self.searches_alpha and not self.searches_beta:
            raise SearchError("There is nothing to search. Fix: use a mix without a plan, or set search.gelu_level.")
        if needs_teacher and self.teacher is None:
            raise SearchError("Distillation needs a teacher. Fix: name its checkpoint, or set distill.kind=none.")
        if self.teacher is not None and self.teacher.model.config != self.model.config:
            raise SearchError("Teacher and student differ in shape. Fix: train the teacher with the same config.")
        if self.searches_alpha and search.penalty != "l1" and self.costs is None:
            raise SearchError(f"The penalty {search.penalty} needs a cost table. Fix: give --costs, or use l1.")
        if self.costs is not None:
            self.costs.check(self.model.config)

    @property
    def _mixes(self) -> bool:
        """True where nothing says which of two variants a head is."""
        planned = self.model.plan is not None and self.model.plan.attention is not None
        return not planned and parse(self.model.attention)[1] is not None

    @property
    def searches_alpha(self) -> bool:
        """True where every layer, head or row gets an alpha."""
        return self.search and self._mixes and self.config.search.level != "none"

    @property
    def searches_beta(self) -> bool:
        """True where every layer or token gets a beta."""
        planned = self.model.plan is not None and self.model.plan.gelu is not None
        return self.search and not planned and self.config.search.gelu_level != "none"

    def parameters(self) -> Params:
        """The parameters before the first step."""
        if self.start is not None:
            return self.start
        search = self.config.search
        drawn = init(
            self.model.config,
            self.config.train.seed,
            attention=self.model.attention,
            search=search.level if self.searches_alpha else None,
            search_gelu=search.gelu_level if self.searches_beta else None,
        )
        return of_searched(lambda values: search.start * values, drawn)

    def fingerprint(self) -> str:
        """SHA-256 of all that decides what comes out: settings, images, model, teacher, costs, JAX's version.

        Not the folder that the images lie in, how much is kept in memory, or how often a line is written.
        """
        config = self.config.public().model_dump(mode="json")
        for table, name in (("data", "memory_gib"), ("train", "log_every")):
            del config[table][name]
        content = {
            "config": config,
            "files": [dict(data.files) for data in (self.data, self.held_out)],
            "images": [len(self.data), len(self.held_out)],
            "attention": self.model.attention,
            "plan": None if self.model.plan is None else self.model.plan.fingerprint,
            "teacher": None if self.teacher is None else params_sha256(self.teacher.params),
            "search": self.search,
            "start": None if self.start is None else params_sha256(self.start),
            "costs": None if self.costs is None else self.costs.model_dump(mode="json"),
            "jax": jax.__version__,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def params_sha256(params: Params) -> str:
    """SHA-256 of parameters: names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in flatten(params).items():
        array = np.asarray(value)
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()


@dataclass
class Result:
    """What a run ended with: parameters of `keep`, what the held-out images said, seconds of training.

    `evaluations` has one {"epoch", "accuracy", "loss", "alpha"} an evaluation; `seconds` counts all parts of a run
    that was resumed, and `images_per_s` is of the last part, without compilation and evaluation.
    """

    params: Params
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    images_per_s: float = 0.0
    steps: int = 0


def fit(job: Job, out: Path | None = None, watch: Watcher | None = None, stop_after: int | None = None) -> Result:
    """Train `job` to its end, from where an earlier run into `out` was stopped.

    `out` becomes the checkpoint; beside it `out`.run has the last state (Orbax), metrics.jsonl and a TensorBoard
    folder. Without `out` nothing is written. `stop_after` ends the run early, after so many steps of all (for tests
    and timings). Raises SearchError where the loss is no longer finite, naming the step and the last good state.
    """
    return _Run(job, out, watch).train(stop_after)


def run_directory(out: Path) -> Path:
    """Where the state and the metrics of the run into `out` are."""
    return out.with_name(f"{out.name}.run")


class _Run:
    def __init__(self, job: Job, out: Path | None, watch: Watcher | None) -> None:
        self._job, self._out, self._watch = job, out, watch
        train = job.config.train
        self._epochs = train.epochs + train.cooldown
        self._batches = Batches(
            job.data, train.batch, self._epochs, train.seed, jax.process_index(), jax.process_count()
        )
        self._steps = Steps(job.model, job.data, job.config, self._batches.per_epoch, job.teacher, job.costs)
        self._kept: Params | None = None
        self._best = -1.0
        self._result = Result({})
        self._pending: list[jax.Array] = []
        self._clock = _Clock(train.batch)

    def train(self, stop_after: int | None) -> Result:
        job, per_epoch, settings = self._job, self._batches.per_epoch, self._job.config.train
        last = len(self._batches) if stop_after is None else min(stop_after, len(self._batches))
        state = self._steps.start(job.parameters())
        with ExitStack() as stack:
            saved, metrics = None, None
            if self._out is not None:
                saved = RunState(run_directory(self._out) / "state", job.fingerprint())
                stack.callback(saved.close)
                if (kept := saved.restore(state)) is not None:
                    state, about = kept
                    self._resume(about)
                if jax.process_index() == 0:
                    metrics = stack.enter_context(Metrics(run_directory(self._out), int(state["step"])))
            step = int(state["step"])
            batches = self._batches.iterate(step)
            self._clock.start()
            while step < last:
                state, report = self._steps.train(state, next(batches))
                self._pending.append(report)
                step += 1
                epoch, within = divmod(step, per_epoch)
                if step % settings.log_every == 0 or within == 0 or step == last:
                    self._log(step, metrics, saved)
                if within == 0 and (epoch % settings.evaluate_every == 0 or epoch == self._epochs):
                    self._evaluate(state["params"], epoch, step, metrics)
                if (
                    saved is not None
                    and within == 0
                    and (epoch % settings.checkpoint_every == 0 or epoch == self._epochs)
                ):
                    self._save(saved, state)
            if self._kept is None or settings.keep == "last":
                self._kept = on_host(state["params"])
            self._result.params = self._kept
            self._result.steps, self._result.seconds = step, self._clock.seconds
            self._result.images_per_s = self._clock.images_per_s
        return self._result

    def _log(self, step: int, metrics: Metrics | None, saved: RunState | None) -> None:
        """Fetch what the last steps reported, look at it, and write its mean."""
        rows = np.asarray(jax.device_get(self._pending))
        self._clock.tick(len(rows))
        self._pending = []
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            first = step - len(rows) + int(np.argmax(bad)) + 1
            what = PARTS[int(np.argmin(np.isfinite(rows[np.argmax(bad)])))].replace("_", " ")
            where = "nothing was kept" if saved is None else f"the last good state is {saved.where}"
            raise SearchError(
                f"The {what} is not finite at step {first} (epoch {(first - 1) // self._batches.per_epoch}); "
                f"{where}. Fix: lower train.learning_rate, or use train.precision=float32."
            )
        if metrics is not None:
            values = dict(zip(PARTS, map(float, rows.mean(axis=0))))
            metrics.write(step, "train", {**values, "images_per_s": self._clock.images_per_s})
        if self._watch is not None:
            self._watch(step, len(self._batches), float(rows[-1, 0]), self._clock.images_per_s)

    def _evaluate(self, params: Any, epoch: int, step: int, metrics: Metrics | None) -> None:
        with self._clock.paused():
            held, right, loss = self._job.held_out, 0.0, 0.0
            for batch in evaluation_batches(held, jax.process_index(), jax.process_count()):
                one, other = self._steps.score(params, batch)
                right, loss = right + one, loss + other
            found: dict[str, Any] = {"epoch": epoch, "accuracy": right / len(held), "loss": loss / len(held)}
            for name in ("alpha", "beta"):
                if (values := alphas_of(params, name)) is not None:
                    found[name] = values.tolist()
            self._result.evaluations.append(found)
            if metrics is not None:
                metrics.write(step, "held_out", found)
            if self._job.config.train.keep == "best" and found["accuracy"] > self._best:
                self._best, self._kept = found["accuracy"], on_host(params)
                if self._out is not None and jax.process_index() == 0:
                    save_checkpoint(_best(self._out), self._job.model, self._kept, {"epoch": epoch})

    def _save(self, saved: RunState, state: Any) -> None:
        with self._clock.paused():
            about = {
                "evaluations": self._result.evaluations,
                "seconds": self._clock.seconds,
                "best": self._best,
            }
            saved.save(state, about)

    def _resume(self, about: dict[str, Any]) -> None:
        self._result.evaluations = about["evaluations"]
        self._best, self._clock.seconds = about["best"], about["seconds"]
        if self._best >= 0.0:
            assert self._out is not None
            self._kept = on_host(load_checkpoint(_best(self._out))[1])


def _best(out: Path) -> Path:
    return run_directory(out) / "best"


def evaluation_batches(data: ImageSet, process: int = 0, processes: int = 1) -> Iterator[Batch]:
    """All images in batches of one size, the last filled up with rows that `valid` (0 or 1) says not to count."""
    parts = jax.device_count()
    size = min(_EVALUATE_AT_ONCE, -(-len(data) // parts) * parts)
    size = -(-size // parts) * parts
    share = size // processes
    for start in range(0, len(data), size):
        places = np.arange(start + process * share, start + (process + 1) * share)
        rows = np.minimum(places, len(data) - 1)
        yield {
            "images": data.pixels[rows],
            "labels": data.labels[rows],
            "valid": (places < len(data)).astype(np.float32),
        }


class _Clock:
    """Seconds of a run, and images a second since compilation, without what is done while it is paused."""

    def __init__(self, batch: int) -> None:
        self.seconds = 0.0
        self._batch, self._steps, self._since, self._busy, self._last = batch, 0, 0.0, 0.0, 0.0

    def start(self) -> None:
        self._last = time.perf_counter()

    def tick(self, steps: int) -> None:
        """So many more steps are done; the first ones are the compiler's, and not counted as speed."""
        passed = self._pass()
        if self._since > 0.0:
            self._steps += steps
            self._busy += passed
        self._since += passed

    def _pass(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        self.seconds += passed
        return passed

    def paused(self) -> ExitStack:
        """Within, time counts as the run's but not as training."""
        stack = ExitStack()
        stack.callback(self._pass)
        return stack

    @property
    def images_per_s(self) -> float:
        return self._steps * self._batch / self._busy if self._busy else 0.0
