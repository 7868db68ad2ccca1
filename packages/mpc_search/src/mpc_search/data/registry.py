"""Every data set by its name: where it is looked for, how it is got, and how it is read."""

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
"""Where Debian's package dataset-fashion-mnist puts the four files."""

MEMORY_BYTES = 4 * 2**30
"""Image files that decode to no more than this are kept in memory."""

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Source:
    """A data set: its folder unless one is named, what to do where it is missing, and its reader."""

    folder: Path
    how_to_get: str
    read: Callable[[str, Path, int], ImageSet]


def load(name: str, split: str, folder: str | Path | None = None, memory_bytes: int = MEMORY_BYTES) -> ImageSet:
    """The split "train" or "test" of the data set `name`, from `folder` or where that data set usually is.

    `name` is one of SOURCES, or "folder:SIZE" for class folders below `folder`/train and `folder`/test, at SIZE x SIZE
    pixels. Raises SearchError with the way to get it where it is missing, truncated or not what it should be.
    """
    if split not in SPLITS:
        raise SearchError(f"There is no split {split!r}. Fix: use train or test.")
    if name.startswith("folder:"):
        return _own(name, split, folder, memory_bytes)
    if name not in SOURCES:
        raise SearchError(f"There is no data set {name!r}. Fix: use {', '.join(SOURCES)}, or folder:SIZE.")
    source = SOURCES[name]
    return source.read(split, Path(folder) if folder is not None else source.folder, memory_bytes)


def fashion_mnist(split: str, folder: str | Path = FASHION_MNIST) -> ImageSet:
    """Fashion-MNIST's `split`, "train" (60,000 images) or "test" (10,000), from the four IDX files in `folder`.

    The files may be gzipped or not. Raises SearchError where they are missing or are not what they should be.
    """
    return load("fashion_mnist", split, folder)


def get(name: str, folder: str | Path | None = None) -> None:
    """See that the data is there: as root on Debian, install the package that has it; else say how to get it.

    Raises SearchError where it is not there afterwards.
    """
    if name != "fashion_mnist" or folder is not None:
        return  # only Fashion-MNIST is packaged; the loader says what is missing of the others
    try:
        idx.find(FASHION_MNIST, "train-images-idx3-ubyte", _FASHION)
        return
    except SearchError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "dataset-fashion-mnist"]):
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no word why"])[-1]
            raise SearchError(f"`{' '.join(command)}` failed: {last}. Fix: {_FASHION}")
    idx.find(FASHION_MNIST, "train-images-idx3-ubyte", _FASHION)


def _own(name: str, split: str, folder: str | Path | None, memory_bytes: int) -> ImageSet:
    size = name.partition(":")[2]
    if not size.isdecimal() or int(size) == 0 or folder is None:
        raise SearchError(f"{name!r} needs a size in pixels and a folder. Fix: folder:32 with --data FOLDER.")
    half = (0.5, 0.5, 0.5)
    how = "put the images into FOLDER/train/CLASS/ and FOLDER/test/CLASS/."
    return folders.class_folders(name, Path(folder) / split, int(size), (half, half), memory_bytes, how)


def _digits(split: str, folder: Path, memory_bytes: int) -> ImageSet:
    """scikit-learn's 1,797 digits of 8 x 8 pixels; every fifth is a test image, as the set has no split of its own."""
    if importlib.util.find_spec("sklearn") is None:
        raise SearchError("The digits come with scikit-learn. Fix: pip install 'mpc_search[digits]'.")
    from sklearn.datasets import load_digits  # takes seconds to import

    data = load_digits()
    test = np.arange(len(data.target)) % 5 == 0
    chosen = test if split == "test" else ~test
    pixels = np.round(data.images[chosen] * (255 / 16)).astype(np.uint8)[..., None]
    labels = data.target[chosen].astype(np.int32)
    content = sha256(pixels.tobytes() + labels.tobytes())
    return ImageSet("digits", pixels, labels, idx.DIGITS, (0.3053,), (0.3762,), files={f"{split} images": content})


_FASHION = (
    "install Debian's package with `apt-get install dataset-fashion-mnist`, or name a folder with its four files."
)
_MNIST = "download the four *-ubyte.gz files of MNIST (for instance from ossci-datasets on Amazon S3) into data/mnist."


def _cifar_how(name: str) -> str:
    archive = cifar.FORMS[name][0].archive
    return f"download {archive} from {cifar.PAGE} into data/{name} (or name its folder), unpacked or not."


_TINY = "download http://cs231n.stanford.edu/tiny-imagenet-200.zip and unpack it in data (or name its folder)."

SOURCES: dict[str, Source] = {
    "cifar10": Source(
        Path("data/cifar10"),
        _cifar_how("cifar10"),
        lambda split, folder, _: cifar.load("cifar10", split, folder, _cifar_how("cifar10")),
    ),
    "cifar100": Source(
        Path("data/cifar100"),
        _cifar_how("cifar100"),
        lambda split, folder, _: cifar.load("cifar100", split, folder, _cifar_how("cifar100")),
    ),
    "tiny_imagenet": Source(
        Path("data/tiny-imagenet-200"),
        _TINY,
        lambda split, folder, memory: folders.tiny_imagenet(split, folder, memory, _TINY),
    ),
    "fashion_mnist": Source(
        FASHION_MNIST,
        _FASHION,
        lambda split, folder, _: idx.load(
            "fashion_mnist", split, folder, idx.FASHION_CLASSES, (0.2860, 0.3530), idx.FASHION_MD5, _FASHION
        ),
    ),
    "mnist": Source(
        Path("data/mnist"),
        _MNIST,
        lambda split, folder, _: idx.load("mnist", split, folder, idx.DIGITS, (0.1307, 0.3081), idx.MNIST_MD5, _MNIST),
    ),
    "digits": Source(Path(), "install scikit-learn.", _digits),
}
