"""A trained model on disk: `params.npz` and `model.json`, readable under every version of JAX."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from mpc_search.errors import SearchError
from mpc_search.model import Model, Params
from vit_models import AttentionPlan, ViTConfig, load_params, save_params


def save_checkpoint(path: str | Path, model: Model, params: Params, about: dict[str, Any]) -> None:
    """Write `path` (a directory) whole or not at all, replacing what was there; `about` is kept as JSON."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        save_params(new / "params.npz", params)
        content = {
            "schema": 1,
            "config": dataclasses.asdict(model.config),
            "attention": model.attention,
            "plan": None if model.plan is None else model.plan.to_dict(),
            "gelu": model.gelu,
            "about": about,
        }
        (new / "model.json").write_text(json.dumps(content, indent=1) + "\n")
        if target.exists():
            check_replaceable(target)
            shutil.move(target, Path(scratch) / "old")
        os.replace(new, target)


def check_replaceable(target: Path) -> None:
    """Raise SearchError where `target` is there and is something else than a checkpoint."""
    if target.exists() and not (target / "model.json").exists():
        raise SearchError(f"{target} is there and is no checkpoint. Fix: name another directory.")


def load_checkpoint(path: str | Path) -> tuple[Model, Params, dict[str, Any]]:
    """The model, its parameters and what is known about it; raises SearchError where `path` is no checkpoint."""
    directory = Path(path)
    try:
        content = json.loads((directory / "model.json").read_text())
        plan = content["plan"]
        model = Model(
            config=ViTConfig.from_dict(content["config"]),
            attention=content["attention"],
            plan=None if plan is None else AttentionPlan.from_dict(plan),
            gelu=content["gelu"],
        )
        return model, load_params(directory / "params.npz"), content["about"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise SearchError(
            f"{directory} is not a checkpoint of this version ({error}). Fix: train it again with `mpc-search retrain`."
        ) from error
