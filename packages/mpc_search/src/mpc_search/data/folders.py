"""Data sets of image files: a folder for each class, and Tiny-ImageNet's own layout."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from mpc_search.data.images import ImageFiles, ImageSet, sha256
from mpc_search.errors import SearchError

_SUFFIXES = {".jpeg", ".jpg", ".png", ".bmp", ".webp", ".ppm", ".pgm"}
TINY_STATISTICS = ((0.480, 0.448, 0.397), (0.272, 0.265, 0.274))


def class_folders(
    name: str,
    folder: Path,
    size: int,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    memory_bytes: int,
    fix: str,
) -> ImageSet:
    """Images below `folder`/CLASS/, resized to `size` x `size` pixels; classes are sorted by name.

    They are decoded at once if they fit into `memory_bytes`, or else each time they are needed. Raises SearchError,
    with `fix`, when there are none, or when one of them cannot be decoded.
    """
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    labelled = [
        (path, label)
        for label, cls in enumerate(classes)
        for path in sorted((folder / cls).rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]
    if not labelled:
        raise SearchError(f"There are no folders with images in {folder}.", fix, "data")
    return _images(name, labelled, tuple(classes), size, statistics, memory_bytes)


def tiny_imagenet(split: str, folder: Path, memory_bytes: int, fix: str) -> ImageSet:
    """Tiny-ImageNet's split "train", or "test": its validation images, as its test labels were never published.

    `folder` is the unpacked archive, or the folder above it. The validation images may be sorted into class folders, as
    many scripts do. Raises SearchError, with `fix`, when files are missing.
    """
    root = folder / "tiny-imagenet-200" if (folder / "tiny-imagenet-200").is_dir() else folder
    part = root / ("train" if split == "train" else "val")
    notes = part / "val_annotations.txt"
    if split == "train" or not notes.exists():
        return class_folders("tiny_imagenet", part, 64, TINY_STATISTICS, memory_bytes, fix)
    try:
        classes = tuple(sorted((root / "wnids.txt").read_text().split()))
        rows = [line.split("\t") for line in notes.read_text().splitlines() if line]
        labelled = [(part / "images" / row[0], classes.index(row[1])) for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise SearchError(f"{notes} or wnids.txt cannot be read ({error}).", fix, "data") from error
    absent = [path for path, _ in labelled if not path.exists()]
    if absent or not labelled:
        raise SearchError(f"{len(absent)} of {len(labelled)} validation images are not in {part}/images.", fix, "data")
    return _images("tiny_imagenet", labelled, classes, 64, TINY_STATISTICS, memory_bytes)


def _images(
    name: str,
    labelled: list[tuple[Path, int]],
    classes: tuple[str, ...],
    size: int,
    statistics: tuple[tuple[float, ...], tuple[float, ...]],
    memory_bytes: int,
) -> ImageSet:
    if importlib.util.find_spec("PIL") is None:
        raise SearchError("Image files need Pillow.", "run `pip install 'mpc_search[folders]'`.", "environment")
    files = ImageFiles([path for path, _ in labelled], size)
    fits = int(np.prod(files.shape)) <= memory_bytes
    # names and sizes only: hashing the contents of 100,000 files at every start takes too long
    listing = "\n".join(f"{path.parent.name}/{path.name} {path.stat().st_size} {label}" for path, label in labelled)
    return ImageSet(
        name,
        files[np.arange(len(labelled))] if fits else files,
        np.asarray([label for _, label in labelled], np.int32),
        classes,
        *statistics,
        files={"listing": sha256(listing.encode())},
    )
