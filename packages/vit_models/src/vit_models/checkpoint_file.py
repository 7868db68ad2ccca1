"""Reading a checkpoint file of the original, as npz or as PyTorch saves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError
from .torch_state import as_numpy
from .types import NpArray


def load_torch_state(path: str | os.PathLike[str], prefix: str = "") -> dict[str, NpArray]:
    """{name: array} of a checkpoint file: npz with the original's names, or .pth / .pth.tar as its trainer saved it.

    With `prefix` only names that begin with it are taken, without it. Torch files need the extra `vit_models[torch]`
    and are read with weights-only loading: nothing in them is executed. Raises ModelError without torch, and where
    there is no state dict of arrays.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as data:
            found: dict[str, Any] = {name: data[name] for name in data.files}
    else:
        found = _read_torch(path)
    return {k[len(prefix) :]: as_numpy(v) for k, v in found.items() if k.startswith(prefix)}


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ModelError(
            f"Reading {path.name} requires PyTorch.", "pip install './packages/vit_models[torch]'.", "missing_package"
        ) from None
    import argparse

    # The trainer keeps its command line beside the weights; a Namespace holds values and runs nothing.
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(hasattr(v, "shape") for v in state.values()):
        raise ModelError(f"{path} holds no state dict of arrays.", "pass a checkpoint of the original.", "bad_file")
    return state
