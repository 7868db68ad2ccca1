"""Every data set by its name: its usual folder, how to get it, and how it is read."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpc_search.data import cifar, folders, idx
from mpc_search.data.images import ImageSet, sha256
from mpc_search.errors import SearchError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""The folder of Debian's package dataset-fashion-mnist."""

MEMORY_BYTES = 4 * 2**30
"""Image files that decode to at most this many bytes are kept in memory."""

MOST_SIDE = 1024
"""The largest SIZE of "folder:SIZE": a batch of an evaluation then takes 1.6 GB."""

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Source:
    """A data set: its usual folder, and its reader, which takes the split, the folder and the memory in bytes."""

    folder: Path
    read: Callable[[str, Path, int], ImageSet]


def load(name: str, split: str, folder: str | Path | None = None, memory_bytes: int = MEMORY_BYTES) -> ImageSet:
    """The split "train" or "test" of the data set `name`, from `folder` or from its usual folder.

    `name` is one of SOURCES, or "folder:SIZE" for class folders below `folder`/train and `folder`/test, resized to
    SIZE x SIZE pixels. Raises SearchError when the data set is missing or damaged; the fix says how to get it.
    """
    if split not in SPLITS:
        raise SearchError(f"There is no split {split!r}.", "use train or test.")
    if name.startswith("folder:"):
        return _class_folders(name, split, folder, memory_bytes)
    if name not in SOURCES:
        raise SearchError(f"There is no data set {name!r}.", f"use {', '.join(SOURCES)}, or folder:SIZE.")
    source = SOURCES[name]
    return source.read(split, Path(folder) if folder is not None else source.folder, memory_bytes)


def fashion_mnist(split: str, folder: str | Path = FASHION_MNIST) -> ImageSet:
    """Fashion-MNIST's `split`, "train" (60,000 images) or "test" (10,000), from the four IDX files in `folder`.

    The files may be gzipped or not. Raises SearchError when they are missing or damaged.
    """
    return load("fashion_mnist", split, folder)


def install(name: str, folder: str | Path | None = None) -> None:
    """Install the data set from Debian's package, if there is one and it is missing; this needs root.

    Raises SearchError when the package cannot be installed; the fix says how to get the data.
    """
    if name != "fashion_mnist" or folder is not None:
        return  # only Fashion-MNIST has a package
    try:
        idx.find_file(FASHION_MNIST, "train-images-idx3-ubyte", _FASHION)
        return
    except SearchError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "dataset-fashion-mnist"]):
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise SearchError(f"`{' '.join(command)}` failed: {last}.", _FASHION, "environment")
    idx.find_file(FASHION_MNIST, "train-images-idx3-ubyte", _FASHION)


def _class_folders(name: str, split: str, folder: str | Path | None, memory_bytes: int) -> ImageSet:
    size = name.partition(":")[2]
    is_number = size.isascii() and size.isdecimal() and len(size) <= len(str(MOST_SIDE))
    if not is_number or not 1 <= int(size) <= MOST_SIDE or folder is None:
        raise SearchError(
            f"{name[:40]!r} needs a size from 1 to {MOST_SIDE} pixels and a folder.",
            "use folder:32 with --data FOLDER.",
        )
    half = (0.5, 0.5, 0.5)
    fix = "put the images into FOLDER/train/CLASS/ and FOLDER/test/CLASS/."
    part, other = (Path(folder) / side for side in (split, *(side for side in SPLITS if side != split)))
    return folders.class_folders(name, part, int(size), (half, half), memory_bytes, fix, other=other)


def _digits(split: str, folder: Path, memory_bytes: int) -> ImageSet:
    """scikit-learn's 1,797 digits of 8 x 8 pixels. The set has no split, so every fifth image is a test image."""
    if importlib.util.find_spec("sklearn") is None:
        raise SearchError("The digits need scikit-learn.", "run `pip install 'mpc_search[digits]'`.", "environment")
    from sklearn.datasets import load_digits  # takes seconds to import

    data = load_digits()
    test = np.arange(len(data.target)) % 5 == 0
    chosen = test if split == "test" else ~test
    pixels = np.round(data.images[chosen] * (255 / 16)).astype(np.uint8)[..., None]
    labels = data.target[chosen].astype(np.int32)
    content = sha256(pixels.tobytes() + labels.tobytes())
    return ImageSet("digits", pixels, labels, idx.DIGITS, (0.3053,), (0.3762,), files={f"{split} images": content})


_FASHION = "run `apt-get install dataset-fashion-mnist` on Debian, or give the folder of its four files with --data."
_MNIST = "download the four *-ubyte.gz files of MNIST (for example from ossci-datasets on Amazon S3) into data/mnist."


def _cifar_fix(name: str) -> str:
    archive = cifar.FORMS[name][0].archive
    return (
        f"download {archive} from {cifar.PAGE} into data/{name} (or give its folder with --data). It may be unpacked."
    )


_TINY = (
    "download http://cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it in data (or give its folder with --data)."
)


def _cifar(name: str) -> Source:
    fix = _cifar_fix(name)
    return Source(Path(f"data/{name}"), lambda split, folder, _: cifar.load(name, split, folder, fix))


SOURCES: dict[str, Source] = {
    "cifar10": _cifar("cifar10"),
    "cifar100": _cifar("cifar100"),
    "tiny_imagenet": Source(
        Path("data/tiny-imagenet-200"),
        lambda split, folder, memory: folders.tiny_imagenet(split, folder, memory, _TINY),
    ),
    "fashion_mnist": Source(
        FASHION_MNIST,
        lambda split, folder, _: idx.load(
            "fashion_mnist", split, folder, idx.FASHION_CLASSES, (0.2860, 0.3530), idx.FASHION_MD5, _FASHION
        ),
    ),
    "mnist": Source(
        Path("data/mnist"),
        lambda split, folder, _: idx.load("mnist", split, folder, idx.DIGITS, (0.1307, 0.3081), idx.MNIST_MD5, _MNIST),
    ),
    "digits": Source(Path(), _digits),
}
"""The known data sets by name."""
