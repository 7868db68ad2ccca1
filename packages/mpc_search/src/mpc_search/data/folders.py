"""Data sets of image files: a folder for each class, and Tiny-ImageNet's own layout."""

from __future__ import annotations

import importlib.util
import stat
from collections.abc import Iterator
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
    *,
    other: Path | None = None,
) -> ImageSet:
    """Images below `folder`/CLASS/, resized to `size` x `size` pixels; classes are sorted by name.

    Folders without images, and hidden files and folders, are left out. `other` is the folder of the other split, which
    must have the same classes. Images are decoded at once if they fit into `memory_bytes`, or else each time they are
    needed. Raises SearchError, with `fix`, when there are none, when the splits' classes differ, or when one cannot be
    decoded.
    """
    classes = class_names(folder)
    labelled = [(path, label) for label, cls in enumerate(classes) for path in sorted(_image_files(folder / cls))]
    if not labelled:
        raise SearchError(f"There are no folders with images in {folder}.", fix, "data")
    if other is not None and (others := class_names(other)):
        check_same_classes(str(folder), classes, str(other), others)
    return _images(name, labelled, classes, size, statistics, memory_bytes)


def class_names(folder: Path) -> tuple[str, ...]:
    """The folders in `folder` that have an image in them or deeper, sorted by name."""
    if not folder.is_dir():
        return ()
    inner = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return tuple(sorted(path.name for path in inner if any(_image_files(path))))


def check_same_classes(first: str, classes: tuple[str, ...], second: str, others: tuple[str, ...]) -> None:
    """Raise SearchError when two splits do not have the same classes: their labels would mean different things."""
    if classes == others:
        return
    only = (sorted(set(classes) - set(others)), sorted(set(others) - set(classes)))
    sides = (
        f"{len(names)} only in {side} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for side, names in zip((first, second), only)
        if names
    )
    raise SearchError(
        f"{first} has {len(classes)} classes and {second} has {len(others)}: "
        f"{' and '.join(sides) or 'they are in another order'}.",
        "give both the same classes: a folder of each name, with images.",
        "data",
    )


def _image_files(folder: Path) -> Iterator[Path]:
    """Image files below `folder`, by their suffix; hidden ones, such as ._NAME.jpg of a Mac, are left out."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and not path.is_dir():
            yield path


def tiny_imagenet(split: str, folder: Path, memory_bytes: int, fix: str) -> ImageSet:
    """Tiny-ImageNet's split "train", or "test": its validation images, as its test labels were never published.

    `folder` is the unpacked archive, or the folder above it. The validation images may be sorted into class folders, as
    many scripts do; val_annotations.txt and an empty val/images do not matter then. Raises SearchError, with `fix`,
    when files are missing.
    """
    root = folder / "tiny-imagenet-200" if (folder / "tiny-imagenet-200").is_dir() else folder
    train, val = root / "train", root / "val"
    notes = val / "val_annotations.txt"
    is_sorted = any(name != "images" for name in class_names(val)) or not notes.exists()
    if split == "train" or is_sorted:
        part, other = (train, val if is_sorted else None) if split == "train" else (val, train)
        return class_folders("tiny_imagenet", part, 64, TINY_STATISTICS, memory_bytes, fix, other=other)
    try:
        classes = tuple(sorted((root / "wnids.txt").read_text().split()))
        rows = [line.split("\t") for line in notes.read_text().splitlines() if line]
        labelled = [(val / "images" / Path(row[0]).name, classes.index(row[1])) for row in rows]
    except (OSError, ValueError, IndexError) as error:
        raise SearchError(f"{notes} or wnids.txt cannot be read ({error}).", fix, "data") from error
    absent = [path for path, _ in labelled if not path.exists()]
    if absent or not labelled:
        raise SearchError(f"{len(absent)} of {len(labelled)} validation images are not in {val}/images.", fix, "data")
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
    listing = "\n".join(f"{path.parent.name}/{path.name} {_bytes_of(path)} {label}" for path, label in labelled)
    return ImageSet(
        name,
        files[np.arange(len(labelled))] if fits else files,
        np.asarray([label for _, label in labelled], np.int32),
        classes,
        *statistics,
        files={"listing": sha256(listing.encode(errors="surrogateescape"))},
    )


def _bytes_of(path: Path) -> int:
    """The size of an image file. Raises SearchError for a link to nothing, and for what is no file (a pipe blocks)."""
    try:
        found = path.stat()
    except OSError as error:
        raise SearchError(f"{path} cannot be read ({error.strerror}).", "delete or replace it.", "data") from error
    if not stat.S_ISREG(found.st_mode):
        raise SearchError(f"{path} is not a file.", "delete it.", "data")
    return found.st_size
