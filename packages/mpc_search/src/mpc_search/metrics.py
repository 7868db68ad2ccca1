"""The progress of a run while it trains: JSON lines, TensorBoard, and a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Protocol

from pydantic import Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tensorboardX import SummaryWriter

from mpc_search.errors import SearchError
from mpc_search.record import EpochEvaluation
from mpc_search.strict import StrictModel


class ProgressListener(Protocol):
    """Is called every few steps with the step, the number of all steps, the last loss, and images a second."""

    def __call__(self, step: int, steps: int, loss: float, images_per_s: float, /) -> None: ...


class TrainingLine(StrictModel):
    """Means over the steps since the last line: the loss and its weighted parts, gradient norm, learning rate."""

    step: int
    kind: Literal["train"] = "train"
    loss: float
    labels: float
    logits: float
    tokens: float
    penalty: float
    gradient_norm: float
    learning_rate: float
    images_per_s: float


class EvaluationLine(EpochEvaluation):
    """An evaluation of the held-out images, and the step after which it was made."""

    step: int
    kind: Literal["held_out"] = "held_out"


MetricsLine = Annotated[TrainingLine | EvaluationLine, Field(discriminator="kind")]
_LINE: TypeAdapter[TrainingLine | EvaluationLine] = TypeAdapter(MetricsLine)


class MetricsWriter:
    """Writes `metrics.jsonl`, one `MetricsLine` a line, and a TensorBoard folder into `directory`.

    A run that resumes after `step` writes the lines of later steps again, so they are dropped first.
    """

    def __init__(self, directory: Path, step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        kept = [line for line in read_metrics(path) if line.step <= step] if path.exists() and step else []
        path.write_text("".join(_text(line) for line in kept))
        self._lines = path.open("a")
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lines.close()
        self._board.close()

    def write(self, line: TrainingLine | EvaluationLine) -> None:
        """Write one line. Its numbers go to TensorBoard too, alphas and betas as histograms."""
        self._lines.write(_text(line))
        self._lines.flush()
        for name, value in line.model_dump(exclude={"step", "kind"}, exclude_none=True).items():
            if isinstance(value, list):
                self._board.add_histogram(f"{line.kind}/{name}", [v for row in value for v in row], line.step)
            else:
                self._board.add_scalar(f"{line.kind}/{name}", value, line.step)


def read_metrics(path: Path) -> list[TrainingLine | EvaluationLine]:
    """The lines of a `metrics.jsonl`, without a last line that was cut short. Raises SearchError on other faults."""
    found, texts = [], path.read_text().splitlines()
    for number, text in enumerate(texts, 1):
        try:
            found.append(_LINE.validate_json(text))
        except ValidationError:
            if number != len(texts):
                raise SearchError(f"{path}: line {number} is damaged.", "start again with --force.") from None
    return found


def _text(line: TrainingLine | EvaluationLine) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressListener]:
    """A progress bar on stderr: steps, loss, images a second, time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, speed="")

        def show(step: int, steps: int, loss: float, images_per_s: float) -> None:
            bar.update(
                task,
                completed=step,
                total=steps,
                description=f"{title}: loss {loss:.3f}, step",
                speed=f"{images_per_s:,.0f} images/s",
            )

        yield show
