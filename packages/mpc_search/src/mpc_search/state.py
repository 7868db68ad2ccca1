"""The state of a run on disk: what Orbax keeps, so that a run that was killed goes on as if it had not been."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from mpc_search.errors import SearchError

# Orbax warns of profilers that an older jaxlib does not have, and tells of every file that it writes.
logging.getLogger("absl").setLevel(logging.ERROR)


class RunState:
    """The last state of a run below `directory`, with what it belongs to.

    `fingerprint` says which run it is: the state of another is never taken for it.
    """

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self._directory, self._fingerprint = directory.absolute(), fingerprint
        self._manager = ocp.CheckpointManager(
            self._directory, options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        )

    def save(self, state: dict[str, Any], about: dict[str, Any]) -> None:
        """Keep `state`, and forget the one before it."""
        step = int(state["step"])
        content = {"fingerprint": self._fingerprint, **about}
        self._manager.save(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(content)),
        )

    def restore(self, like: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The kept state in the shape and places of `like`, and what was kept with it; None where there is none.

        Raises SearchError where the directory is of another run, or cannot be read.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        try:
            about = dict(self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"])
            if about.pop("fingerprint") != self._fingerprint:
                raise SearchError(
                    f"{self._directory.parent} is of a run with other settings, data or code versions. "
                    f"Fix: name another --out, or give --force to begin again."
                )
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            kept = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))[
                "state"
            ]
        except (OSError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0]
            raise SearchError(
                f"{self._directory} cannot be read ({first}). Fix: give --force to begin again."
            ) from error
        return kept, about

    @property
    def where(self) -> str:
        """The kept state, for messages."""
        step = self._manager.latest_step()
        return "there is none" if step is None else f"{self._directory / str(step)} (after step {step})"

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()


def on_host(tree: Any) -> Any:
    """Copies of replicated arrays in this process's memory: a view would change with the next, donated, step."""
    return jax.tree.map(np.array, tree)
