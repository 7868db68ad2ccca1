"""Parameters as a plain nested dict of arrays: counting, flat names, files.

Models here are pure functions of such a dict and not module objects. A module library would add a second form of the
same weights (its own state) with conversions at every border (optimiser, npz, Program, fused weights), and its rules on
lists of submodules differ between the two Flax versions that this package spans; all of them read a dict.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .errors import ModelError
from .types import Array, ParamDict, Params


def count_params(params: Params) -> int:
    """Number of scalars in all arrays, alpha and beta included."""
    return sum(int(np.prod(np.shape(v))) for v in flatten(params).values())


def flatten(params: Params) -> dict[str, Any]:
    """{dotted name: array}, names in natural order (block 2 before block 10)."""
    flat: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], prefix: str) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = value

    walk(params, "")
    return {name: flat[name] for name in sorted(flat, key=_natural)}


def unflatten(flat: Mapping[str, Any]) -> ParamDict:
    """Inverse of `flatten`."""
    tree: ParamDict = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = value
    return tree


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if re.fullmatch(r"\d+", p) else (1, 0, p) for p in name.split(".")]


def save_params(path: str | os.PathLike[str], params: Params) -> None:
    """Write parameters as npz, one entry a dotted name."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in flatten(params).items()}
    np.savez(path, **arrays)


_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


def load_params(path: str | os.PathLike[str]) -> ParamDict:
    """Read parameters written by `save_params`. Raises OSError without the file, ModelError on another file."""
    try:
        with np.load(path, allow_pickle=False) as data:
            flat: dict[str, Array] = {name: jnp.asarray(data[name]) for name in data.files}
    except (ValueError, AttributeError, LookupError, TypeError, EOFError, MemoryError, *_ZIP_ERRORS) as error:
        raise ModelError(
            f"{path} is not a parameter file: {error}.", "pass a file of save_params.", "bad_file"
        ) from None
    return unflatten(flat)
