"""A trained model on disk: `params.npz` and `model.json`, readable under every version of JAX."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from mpc_search.errors import SearchError
from mpc_search.run_config import RunConfig, Stage
from mpc_search.strict import StrictModel
from vit_models import Model, ModelError, load_params, save_params
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
    """Write the checkpoint `path` (a directory) in one step, replacing an older one. Raises SearchError on others."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        save_params(new / "params.npz", params)
        content = {"schema": 1, **model.to_dict(), "about": origin.model_dump(mode="json", exclude_none=True)}
        (new / "model.json").write_text(json.dumps(content, indent=1) + "\n")
        if target.exists():
            check_replaceable(target)
            shutil.move(target, Path(scratch) / "old")
        os.replace(new, target)


def check_replaceable(target: Path) -> None:
    """Raise SearchError when `target` exists and is not a checkpoint."""
    if target.exists() and not (target / "model.json").exists():
        raise SearchError(f"{target} exists and is not a checkpoint.", "give another directory.")


def load_checkpoint(path: str | Path) -> tuple[Model, Params, CheckpointOrigin]:
    """The model, its parameters and its origin. Raises SearchError when `path` is not a checkpoint."""
    directory = Path(path)
    try:
        content = json.loads((directory / "model.json").read_text())
        model = Model.from_dict({name: content[name] for name in ("config", "attention", "plan", "gelu")})
        return model, load_params(directory / "params.npz"), CheckpointOrigin.model_validate(content["about"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        problem = error.problem if isinstance(error, ModelError) else str(error).splitlines()[0]
        raise SearchError(
            f"{directory} is not a checkpoint of this version ({problem}).", "train it again with `mpc-search retrain`."
        ) from error
