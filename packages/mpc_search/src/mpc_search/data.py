"""Image sets as arrays: so far Fashion-MNIST from its IDX files."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpc_search.errors import SearchError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the four files."""

_MEAN, _STD = 0.2860, 0.3530  # of the 60,000 training images, pixels in [0, 1]
_IDX_UBYTE = 0x08


@dataclass(frozen=True)
class ImageSet:
    """Images (n, height, width, channels), float32, normalised; labels (n,), int32; the classes' names."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def fashion_mnist(split: str, folder: str | Path = FASHION_MNIST) -> ImageSet:
    """Fashion-MNIST's `split`, "train" (60,000 images) or "test" (10,000), from the four IDX files in `folder`.

    The files may be gzipped or not. Raises SearchError where they are missing or are not what they should be.
    """
    if split not in ("train", "test"):
        raise SearchError(f"There is no split {split!r}. Fix: use train or test.")
    prefix = "train" if split == "train" else "t10k"
    images = read_idx(_find(Path(folder), f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_find(Path(folder), f"{prefix}-labels-idx1-ubyte"))
    if images.ndim != 3 or labels.shape != (len(images),) or labels.max(initial=0) >= len(CLASSES):
        raise SearchError(f"The files in {folder} do not belong together. Fix: {_HOW_TO_GET}")
    values = (images[..., None].astype(np.float32) / 255.0 - _MEAN) / _STD
    return ImageSet(values.astype(np.float32), labels.astype(np.int32), CLASSES)


_HOW_TO_GET = (
    "install Debian's package with `apt-get install dataset-fashion-mnist`, or name a folder with its four files."
)


def get_fashion_mnist(folder: str | Path = FASHION_MNIST) -> None:
    """See that the files are there: as root on Debian, install their package; else say the line that does.

    Raises SearchError where the files are not there afterwards.
    """
    try:
        _find(Path(folder), "train-images-idx3-ubyte")
        return
    except SearchError:
        if Path(folder) != FASHION_MNIST or os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "dataset-fashion-mnist"]):
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
            raise SearchError(f"`{' '.join(command)}` failed: {last}. Fix: {_HOW_TO_GET}")
    _find(Path(folder), "train-images-idx3-ubyte")


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise SearchError(f"There is no {name}[.gz] in {folder}. Fix: {_HOW_TO_GET}")


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, gzipped or not; raises SearchError where it is truncated."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, axes = struct.unpack_from(">HBB", data)
        shape: tuple[Any, ...] = struct.unpack_from(f">{axes}I", data, 4)
    except (OSError, EOFError, struct.error) as error:
        raise SearchError(f"{path} cannot be read as IDX ({error}). Fix: {_HOW_TO_GET}") from error
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if zeros != 0 or kind != _IDX_UBYTE or len(body) != int(np.prod(shape)):
        raise SearchError(f"{path} is not a whole IDX file of bytes. Fix: {_HOW_TO_GET}")
    return body.reshape(shape)
