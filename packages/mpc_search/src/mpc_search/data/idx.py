"""MNIST and Fashion-MNIST from their four IDX files."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mpc_search.data.images import Bytes, ImageSet, sha256
from mpc_search.errors import SearchError

_UBYTE = 0x08

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DIGITS = tuple(map(str, range(10)))

# MD5 of the gzipped files, as the sources publish them. A distribution may have packed the same bytes again.
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def load(
    name: str,
    split: str,
    folder: Path,
    classes: tuple[str, ...],
    statistics: tuple[float, float],
    md5: dict[str, str],
    how_to_get: str,
) -> ImageSet:
    """The split "train" or "test" of an MNIST-like set, from files that may be gzipped or not.

    Raises SearchError where files are missing, truncated, or do not belong together.
    """
    prefix = "train" if split == "train" else "t10k"
    paths = [find(folder, f"{prefix}-{kind}-ubyte", how_to_get) for kind in ("images-idx3", "labels-idx1")]
    images, labels = (read_idx(path, how_to_get) for path in paths)
    if images.ndim != 3 or labels.shape != (len(images),) or labels.max(initial=0) >= len(classes):
        raise SearchError(f"The files in {folder} do not belong together. Fix: {how_to_get}")
    zipped = [path for path in paths if path.suffix == ".gz"]
    return ImageSet(
        name,
        images[..., None],
        labels.astype(np.int32),
        classes,
        (statistics[0],),
        (statistics[1],),
        files={path.name: sha256(path.read_bytes()) for path in paths},
        published=all(hashlib.md5(path.read_bytes()).hexdigest() == md5[path.name] for path in zipped)
        if zipped
        else None,
    )


def find(folder: Path, name: str, how_to_get: str) -> Path:
    """`name` or `name`.gz in `folder`; raises SearchError with the way to get it."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise SearchError(f"There is no {name}[.gz] in {folder}. Fix: {how_to_get}")


def read_idx(path: Path, how_to_get: str = "download it again.") -> Bytes:
    """The array of an IDX file of unsigned bytes, gzipped or not; raises SearchError where it is truncated."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, axes = struct.unpack_from(">HBB", data)
        shape: tuple[Any, ...] = struct.unpack_from(f">{axes}I", data, 4)
    except (OSError, EOFError, struct.error) as error:
        raise SearchError(f"{path} cannot be read as IDX ({error}). Fix: {how_to_get}") from error
    body = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if zeros != 0 or kind != _UBYTE or len(body) != int(np.prod(shape)):
        raise SearchError(f"{path} is not a whole IDX file of bytes. Fix: {how_to_get}")
    return body.reshape(shape)
