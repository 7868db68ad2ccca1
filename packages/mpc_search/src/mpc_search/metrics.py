"""What a run says of itself while it runs: JSON lines, TensorBoard, and a progress bar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

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


class Watcher(Protocol):
    """Called after every few steps: step, steps in all, the last loss, images a second."""

    def __call__(self, step: int, steps: int, loss: float, images_per_s: float, /) -> None: ...


class Metrics:
    """`metrics.jsonl` and a TensorBoard folder in `directory`; one object a line, each with its step.

    Opened for a run that goes on after `step`, what was written for later steps is dropped: it will come again.
    """

    def __init__(self, directory: Path, step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        kept = [line for line in read(path) if line["step"] <= step] if path.exists() and step else []
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._lines = path.open("a")
        self._board = SummaryWriter(str(directory / "tensorboard"), purge_step=step + 1 if step else None)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lines.close()
        self._board.close()

    def write(self, step: int, kind: str, values: dict[str, Any]) -> None:
        """One line; numbers go to TensorBoard too, and lists of numbers as histograms."""
        self._lines.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(f"{kind}/{name}", value, step)
            elif isinstance(value, list):
                self._board.add_histogram(f"{kind}/{name}", [v for row in value for v in row], step)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last one that was cut short is left out."""
    lines = []
    for number, text in enumerate(path.read_text().splitlines()):
        try:
            lines.append(json.loads(text))
        except ValueError:
            if number != len(path.read_text().splitlines()) - 1:
                raise SearchError(f"{path}: line {number + 1} is not JSON. Fix: give --force to begin again.") from None
    return lines


@contextmanager
def progress(title: str) -> Iterator[Watcher]:
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

        def watch(step: int, steps: int, loss: float, images_per_s: float) -> None:
            bar.update(
                task,
                completed=step,
                total=steps,
                description=f"{title}: loss {loss:.3f}, step",
                speed=f"{images_per_s:,.0f} images/s",
            )

        yield watch
