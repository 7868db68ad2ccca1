"""The state of a run on disk, kept by Orbax, so that a run that was killed resumes where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from mpc_search.errors import SearchError
from mpc_search.record import EpochEvaluation
from mpc_search.step import TrainState
from mpc_search.strict import StrictModel
from vit_models.types import Params


class RunProgress(StrictModel):
    """What a resumed run needs besides its state: evaluations, seconds, and the best accuracy so far (-1: none)."""

    evaluations: list[EpochEvaluation]
    seconds: float
    best: float


class SavedState:
    """The last state of a run, below `directory`. `fingerprint` says which run it is of; others are refused."""

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self._directory, self._fingerprint = directory.absolute(), fingerprint
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        with _quiet_absl():
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, state: TrainState, progress: RunProgress) -> None:
        """Save `state`, and delete the one before it."""
        content = {"fingerprint": self._fingerprint, **progress.model_dump(mode="json")}
        both = ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(content))
        with _quiet_absl():
            self._manager.save(int(state["step"]), args=both)

    def restore(self, like: TrainState) -> tuple[TrainState, RunProgress] | None:
        """The kept state, in the shapes and on the devices of `like`, and its progress; None if there is none.

        Raises SearchError when the directory belongs to another run, or cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
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
        except (OSError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0]
            raise SearchError(f"{self._directory} cannot be read ({first}).", "start again with --force.") from error

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
