"""The training loop of teacher, search and retraining. It resumes with the same result after a kill at any moment."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np

from mpc_search.budgets import searched_values
from mpc_search.checkpoint import CheckpointOrigin, load_checkpoint, save_checkpoint
from mpc_search.cost_table import CostTable
from mpc_search.data import Batch, Batches, ImageSet
from mpc_search.errors import SearchError
from mpc_search.metrics import EvaluationLine, MetricsWriter, ProgressListener, TrainingLine
from mpc_search.optim import map_searched
from mpc_search.record import EpochEvaluation
from mpc_search.run_config import RunConfig
from mpc_search.saved_state import RunProgress, SavedState, copy_to_host
from mpc_search.step import STEP_METRICS, StepFunctions, Teacher, TrainState
from vit_models import Model, flatten
from vit_models.types import Params

_EVALUATION_BATCH = 512


@dataclass(frozen=True)
class TrainingJob:
    """A model, its training images, the held-out images, and all settings.

    With `search`, alphas are trained when the attention is a mix without a plan, and betas when the config asks for
    them. `start` are the first parameters (None: drawn from the seed). `costs` is for a search with a cost penalty.
    Raises SearchError when these do not fit together.
    """

    model: Model
    data: ImageSet
    held_out: ImageSet
    config: RunConfig
    teacher: Teacher | None = None
    costs: CostTable | None = None
    start: Params | None = None
    search: bool = False

    def __post_init__(self) -> None:
        distill, search = self.config.distill, self.config.search
        if self.model.is_search_form and not self.searches_alpha:
            raise SearchError(f"Attention {self.model.attention} needs a plan.", "give --plan, or search for a plan.")
        if self.search and not self.searches_alpha and not self.searches_beta:
            raise SearchError("There is nothing to search.", "use a mix without a plan, or set search.gelu_level.")
        if distill.kind != "none" and self.teacher is None:
            raise SearchError("Distillation needs a teacher.", "give --teacher, or set distill.kind=none.")
        if self.teacher is not None and self.teacher.model.config != self.model.config:
            raise SearchError("Teacher and student differ in shape.", "train the teacher with the same model config.")
        if self.searches_alpha and search.penalty != "l1" and self.costs is None:
            raise SearchError(
                f"The penalty {search.penalty} needs a cost table.", "give --costs, or set search.penalty=l1."
            )
        if self.costs is not None:
            self.costs.check(self.model.config)

    @property
    def searches_alpha(self) -> bool:
        """True if every layer, head or row gets an alpha."""
        return self.search and self.model.is_search_form and self.config.search.level != "none"

    @property
    def searches_beta(self) -> bool:
        """True if every layer or token gets a beta."""
        planned = self.model.plan is not None and self.model.plan.gelu is not None
        return self.search and not planned and self.config.search.gelu_level != "none"

    def parameters(self) -> Params:
        """The parameters before the first step."""
        if self.start is not None:
            return self.start
        search = self.config.search
        drawn = self.model.init(
            self.config.train.seed,
            search=search.level if self.searches_alpha else None,
            search_gelu=search.gelu_level if self.searches_beta else None,
        )
        return map_searched(lambda values: search.start * values, drawn)

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the result: settings, images, model, teacher, costs, JAX's version.

        The data's folder, the limit on memory and the number of metrics lines are left out.
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
class TrainingResult:
    """What a run ended with: the parameters that `train.keep` asks for, and every evaluation of the held-out images.

    `seconds` are of training and evaluating, over all parts of a resumed run. `images_per_s` is the speed of the last
    part, without compilation and evaluation.
    """

    params: Params
    evaluations: list[EpochEvaluation] = field(default_factory=list)
    seconds: float = 0.0
    images_per_s: float = 0.0
    steps: int = 0


def fit(
    job: TrainingJob,
    out: Path | None = None,
    on_progress: ProgressListener | None = None,
    stop_after: int | None = None,
) -> TrainingResult:
    """Train `job` to its end, from where an earlier run into `out` stopped.

    Beside the checkpoint `out`, the folder `out`.run has the last state (Orbax), metrics.jsonl and a TensorBoard
    folder. Without `out` nothing is written. `stop_after` ends the run after that many steps, counted from its start
    (for tests and timings). Raises SearchError when the loss is not finite; the message has the step and the last
    saved state.
    """
    return _TrainingLoop(job, out, on_progress).run(stop_after)


def run_directory(out: Path) -> Path:
    """The folder with the state and the metrics of the run into `out`."""
    return out.with_name(f"{out.name}.run")


class _TrainingLoop:
    def __init__(self, job: TrainingJob, out: Path | None, on_progress: ProgressListener | None) -> None:
        self._job, self._out, self._on_progress = job, out, on_progress
        train = job.config.train
        self._epochs = train.epochs + train.cooldown
        self._batches = Batches(
            job.data, train.batch, self._epochs, train.seed, jax.process_index(), jax.process_count()
        )
        self._steps = StepFunctions(job.model, job.data, job.config, self._batches.per_epoch, job.teacher, job.costs)
        self._kept: Params | None = None
        self._best = -1.0
        self._result = TrainingResult({})
        self._pending: list[jax.Array] = []
        self._clock = _Stopwatch(train.batch)

    def run(self, stop_after: int | None) -> TrainingResult:
        job, per_epoch, settings = self._job, self._batches.per_epoch, self._job.config.train
        last = len(self._batches) if stop_after is None else min(stop_after, len(self._batches))
        state = self._steps.start(job.parameters())
        with ExitStack() as stack:
            saved, metrics = None, None
            if self._out is not None:
                saved = SavedState(run_directory(self._out) / "state", job.fingerprint())
                stack.callback(saved.close)
                if (restored := saved.restore(state)) is not None:
                    state = restored[0]
                    self._resume(self._out, restored[1])
                if jax.process_index() == 0:
                    metrics = stack.enter_context(MetricsWriter(run_directory(self._out), int(state["step"])))
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
                save_now = epoch % settings.checkpoint_every == 0 or epoch == self._epochs
                if saved is not None and within == 0 and save_now:
                    self._save(saved, state)
            if self._kept is None or settings.keep == "last":
                self._kept = copy_to_host(state["params"])
            self._result.params = self._kept
            self._result.steps, self._result.seconds = step, self._clock.seconds
            self._result.images_per_s = self._clock.images_per_s
        return self._result

    def _log(self, step: int, metrics: MetricsWriter | None, saved: SavedState | None) -> None:
        """Fetch the reports of the last steps, check that they are finite, and write their means."""
        rows = np.asarray(jax.device_get(self._pending))
        self._clock.count(len(rows))
        self._pending = []
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            first = step - len(rows) + int(np.argmax(bad)) + 1
            what = STEP_METRICS[int(np.argmin(np.isfinite(rows[np.argmax(bad)])))].replace("_", " ")
            where = "no state was saved" if saved is None else saved.description
            raise SearchError(
                f"The {what} is not finite at step {first} (epoch {(first - 1) // self._batches.per_epoch}); {where}.",
                "lower train.learning_rate, or use train.precision=float32.",
                "diverged",
            )
        if metrics is not None:
            means = dict(zip(STEP_METRICS, map(float, rows.mean(axis=0))))
            metrics.write(TrainingLine(step=step, kind="train", images_per_s=self._clock.images_per_s, **means))
        if self._on_progress is not None:
            self._on_progress(step, len(self._batches), float(rows[-1, 0]), self._clock.images_per_s)

    def _evaluate(self, params: Params, epoch: int, step: int, metrics: MetricsWriter | None) -> None:
        with self._clock.paused():
            held, correct, loss = self._job.held_out, 0.0, 0.0
            for batch in evaluation_batches(held, jax.process_index(), jax.process_count()):
                more_correct, more_loss = self._steps.score(params, batch)
                correct, loss = correct + more_correct, loss + more_loss
            if not math.isfinite(loss):
                raise SearchError(
                    f"The loss of the held-out images is not finite after step {step}.",
                    "lower train.learning_rate, or use train.precision=float32.",
                    "diverged",
                )
            alpha, beta = searched_values(params, "alpha"), searched_values(params, "beta")
            found = EpochEvaluation(
                epoch=epoch,
                accuracy=correct / len(held),
                loss=loss / len(held),
                alpha=None if alpha is None else alpha.tolist(),
                beta=None if beta is None else beta.tolist(),
            )
            self._result.evaluations.append(found)
            if metrics is not None:
                metrics.write(EvaluationLine(step=step, **dict(found)))
            if self._job.config.train.keep == "best" and found.accuracy > self._best:
                self._best, self._kept = found.accuracy, copy_to_host(params)
                if self._out is not None and jax.process_index() == 0:
                    save_checkpoint(_best(self._out), self._job.model, self._kept, CheckpointOrigin(epoch=epoch))

    def _save(self, saved: SavedState, state: TrainState) -> None:
        with self._clock.paused():
            evaluations, seconds = self._result.evaluations, self._clock.seconds
            saved.save(state, RunProgress(evaluations=evaluations, seconds=seconds, best=self._best))

    def _resume(self, out: Path, progress: RunProgress) -> None:
        self._result.evaluations = list(progress.evaluations)
        self._best, self._clock.seconds = progress.best, progress.seconds
        if self._best >= 0.0:
            self._kept = copy_to_host(load_checkpoint(_best(out))[1])


def _best(out: Path) -> Path:
    return run_directory(out) / "best"


def evaluation_batches(data: ImageSet, process: int = 0, processes: int = 1) -> Iterator[Batch]:
    """All images in batches of one size. Rows that fill up the last batch have `valid` 0 and do not count."""
    parts = jax.device_count()
    size = min(_EVALUATION_BATCH, -(-len(data) // parts) * parts)
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


class _Stopwatch:
    """Seconds of a run, and images a second since compilation, without the time while it is paused."""

    def __init__(self, batch: int) -> None:
        self.seconds = 0.0
        self._batch, self._steps, self._since_start, self._training, self._last = batch, 0, 0.0, 0.0, 0.0

    def start(self) -> None:
        self._last = time.perf_counter()

    def count(self, steps: int) -> None:
        """Count `steps` more. The first ones include compilation, so they do not count as speed."""
        passed = self._lap()
        if self._since_start > 0.0:
            self._steps += steps
            self._training += passed
        self._since_start += passed

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        self.seconds += passed
        return passed

    def paused(self) -> ExitStack:
        """A context whose time counts as seconds of the run, but not as training."""
        stack = ExitStack()
        stack.callback(self._lap)
        return stack

    @property
    def images_per_s(self) -> float:
        return self._steps * self._batch / self._training if self._training else 0.0
