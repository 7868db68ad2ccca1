"""A trained model on disk: `params.npz` and `model.json`, readable under every version of JAX."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path

import jax
import numpy as np

from mpc_search.errors import SearchError, first_line
from mpc_search.files import scratch_beside
from mpc_search.run_config import RunConfig, Stage
from mpc_search.strict import StrictModel
from vit_models import Model, ModelError, flatten, load_params, save_params
from vit_models.types import Params


class CheckpointOrigin(StrictModel):
    """How a checkpoint was trained, and the accuracy it reached; None where it is not known.

    `data` is the name of the data set, `train_s` seconds of training and evaluating, `fingerprint` that of the
    training record, `jax` its version, `parameters` how many numbers the model has, and `epoch` the epoch of the best
    evaluation so far.
    """

    stage: Stage | None = None
    data: str | None = None
    test_accuracy: float | None = None
    test_images: int | None = None
    train_s: float | None = None
    fingerprint: str | None = None
    config: RunConfig | None = None
    jax: str | None = None
    parameters: int | None = None
    epoch: int | None = None


def save_checkpoint(path: str | Path, model: Model, params: Params, origin: CheckpointOrigin) -> None:
    """Write the checkpoint `path` (a directory) in one step, replacing an older one.

    Raises SearchError, and leaves what is there, where `path` is something else or cannot be written.
    """
    target = Path(path)
    with scratch_beside(target) as scratch:
        new = scratch / "new"
        new.mkdir()
        save_params(new / "params.npz", params)
        content = {"schema": 1, **model.to_dict(), "about": origin.model_dump(mode="json", exclude_none=True)}
        (new / "model.json").write_text(json.dumps(content, indent=1) + "\n")
        if target.exists():
            _check_is_checkpoint(target)
            shutil.move(target, scratch / "old")
        os.replace(new, target)


def check_replaceable(target: Path) -> None:
    """Raise SearchError when no checkpoint can be written to `target`, or when it exists and is not a checkpoint."""
    with scratch_beside(target):
        _check_is_checkpoint(target)


def _check_is_checkpoint(target: Path) -> None:
    if target.exists() and not (target / "model.json").exists():
        raise SearchError(f"{target} exists and is not a checkpoint.", "give another directory.")


def load_checkpoint(path: str | Path) -> tuple[Model, Params, CheckpointOrigin]:
    """The model, its parameters and its origin.

    Raises SearchError when `path` is not a checkpoint, when a parameter of the model is missing or has another shape,
    or when a value is not finite.
    """
    directory = Path(path)
    try:
        content = json.loads((directory / "model.json").read_text())
        model = Model.from_dict({name: content[name] for name in ("config", "attention", "plan", "gelu")})
        params = load_params(directory / "params.npz")
        origin = CheckpointOrigin.model_validate(content["about"])
        problem = _problem(model, params)
    except _DAMAGED as error:
        # JAX's own words, which some versions break into lines
        problem = " ".join(error.problem.split()) if isinstance(error, ModelError) else first_line(error)
    if problem:
        raise SearchError(
            f"{directory} is not a checkpoint of this version ({problem}).", "train it again with `mpc-search retrain`."
        )
    return model, params, origin


_DAMAGED: tuple[type[Exception], ...] = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, EOFError),
)


def _problem(model: Model, params: Params) -> str:
    """What is wrong with parameters of `model`; empty where nothing is."""
    expected = flatten(jax.eval_shape(model.init))
    found = {name: np.asarray(value) for name, value in flatten(params).items()}
    missing = [name for name in expected if name not in found]
    if missing:
        return f"{len(missing)} parameters are missing, among them {missing[0]}"
    for name, value in found.items():
        if name in expected and value.shape != expected[name].shape:
            return f"{name} has the shape {value.shape} instead of {expected[name].shape}"
        if not np.issubdtype(value.dtype, np.number) or not np.isfinite(value).all():
            return f"{name} has values that are not finite numbers"
    return ""
