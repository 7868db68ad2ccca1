"""Reading a checkpoint file of the original, as npz or as PyTorch saves it."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError
from .torch_state import as_numpy
from .types import NpArray


def load_torch_state(path: str | os.PathLike[str], prefix: str = "") -> dict[str, NpArray]:
    """{name: array} of a checkpoint file: npz with the original's names, or .pth / .pth.tar as its trainer saved it.

    With `prefix` only names that begin with it are taken, without it. Torch files need the extra `vit_models[torch]`
    and are read with weights-only loading: nothing in them is executed. Raises ModelError without torch, where the file
    is damaged or has no state dict of arrays, and where no name begins with `prefix`.
    """
    path = Path(path)
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as data:
                found: dict[str, Any] = {name: data[name] for name in data.files}
        except _DAMAGED as error:
            raise _unreadable(path, error) from error
    else:
        found = _read_torch(path)
    state = {k[len(prefix) :]: as_numpy(v) for k, v in found.items() if k.startswith(prefix)}
    if not state:
        raise ModelError(
            f"No array of {path} has a name that begins with {prefix!r}; the first is {next(iter(found), '(none)')!r}.",
            "pass another prefix, or none.",
            "mismatch",
        )
    return state


_DAMAGED: tuple[type[Exception], ...] = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, NotImplementedError),
)


def _unreadable(path: Path, error: Exception) -> ModelError:
    why = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return ModelError(f"{path} cannot be read as a checkpoint ({why}).", "download or save it again.", "bad_file")


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ModelError(
            f"Reading {path.name} requires PyTorch.", "pip install './packages/vit_models[torch]'.", "missing_package"
        ) from None
    import argparse

    # The trainer keeps its command line beside the weights; a Namespace holds values and runs nothing.
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise _unreadable(path, error) from error
    # "model" is what the trainers of DeiT and of torchvision call it.
    state = loaded.get("state_dict", loaded.get("model", loaded)) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(k, str) and hasattr(v, "shape") for k, v in state.items()):
        raise ModelError(f"{path} holds no state dict of arrays.", "pass a checkpoint of the original.", "bad_file")
    return state
