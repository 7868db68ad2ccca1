"""The state of a run on disk, kept by Orbax, so that a run that was killed resumes where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mpc_search.errors import SearchError, first_line
from mpc_search.record import EpochEvaluation
from mpc_search.step import TrainState
from mpc_search.strict import StrictModel
from vit_models.types import Params

_LOG = logging.getLogger(__name__)


class RunProgress(StrictModel):
    """What a resumed run needs besides its state: evaluations, seconds, and the best accuracy so far (-1: none)."""

    evaluations: list[EpochEvaluation]
    seconds: float
    best: float


class SavedState:
    """The last two states of a run, below `directory`: the older one is for when the last cannot be read.

    `fingerprint` says which run they are of; others are refused. Raises SearchError where `directory` cannot be used.
    """

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self._directory, self._fingerprint = directory.absolute(), fingerprint
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        with self._writes(), _quiet_absl():
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    @contextmanager
    def _writes(self) -> Iterator[None]:
        """Errors of the file system as a SearchError: Orbax passes them on, or raises a bare ValueError of its own."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise SearchError(
                f"The state of the run cannot be written to {self._directory} ({first_line(error)}).",
                "make space, or give another --out; the same command then resumes the run.",
                "environment",
            ) from error

    def save(self, state: TrainState, progress: RunProgress) -> None:
        """Save `state`, and delete all but the one before it. Raises SearchError where it cannot be written."""
        content = {"fingerprint": self._fingerprint, **progress.model_dump(mode="json")}
        both = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(content))
        with self._writes(), _quiet_absl():
            self._manager.save(int(state["step"]), args=both)

    def restore(self, like: TrainState) -> tuple[TrainState, RunProgress] | None:
        """The last state that can be read, in the shapes and on the devices of `like`, and its progress, or None.

        States after it are deleted, with a warning. Raises SearchError when the directory belongs to another run, or
        when no state in it can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        why = ""
        for at, step in enumerate(steps):
            try:
                restored = self._read(step, like)
            except SearchError:
                raise
            except Exception as error:  # Orbax raises many kinds for a damaged file, among them Exception itself
                why = why or first_line(error)[:200]
                continue
            for damaged in steps[:at]:
                _LOG.warning(
                    "%s cannot be read (%s): resuming from step %d.", self._directory / str(damaged), why, step
                )
                self._manager.delete(damaged)
            return restored
        if not steps:
            return None
        raise SearchError(f"No state in {self._directory} can be read ({why}).", "start again with --force.")

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, RunProgress]:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with _quiet_absl():
            about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
            if about["fingerprint"] != self._fingerprint:
                raise SearchError(
                    f"{self._directory.parent} belongs to a run with other settings, data or code versions.",
                    "give another --out, or start again with --force.",
                )
            both = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            state: TrainState = self._manager.restore(step, args=both)["state"]
        return state, RunProgress.model_validate({k: v for k, v in about.items() if k != "fingerprint"})

    @property
    def description(self) -> str:
        """Where the kept state is, for messages."""
        step = self._manager.latest_step()
        return "there is no saved state" if step is None else f"the last saved state is {self._directory / str(step)}"

    def close(self) -> None:
        """Wait until everything is written."""
        with _quiet_absl():
            self._manager.close()


def copy_to_host(params: Params) -> Params:
    """Copies of replicated arrays in this process's memory. A view would change with the next, donated, step."""
    copied: Params = jax.tree.map(np.array, params)
    return copied


@contextmanager
def _quiet_absl() -> Iterator[None]:
    """Without Orbax's messages: warnings of profilers that an older jaxlib lacks, and a line for each written file."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
