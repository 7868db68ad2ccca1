"""MNIST and Fashion-MNIST, from their four IDX files."""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from mpc_search.data.images import Bytes, ImageSet, sha256
from mpc_search.errors import SearchError, first_line

_UBYTE = 0x08
_MOST_AXES = 3

MOST_BYTES = 2**30
"""A larger file is refused; the largest of these sets has 47 million bytes."""

FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DIGITS = tuple(map(str, range(10)))

# MD5 of the gzipped files, as the sources publish them. A distribution may compress the same bytes differently.
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
    fix: str,
) -> ImageSet:
    """The split "train" or "test" of an MNIST-like set, from files that may be gzipped or not.

    Raises SearchError, with `fix`, when files are missing, truncated, or do not belong together.
    """
    prefix = "train" if split == "train" else "t10k"
    paths = [find_file(folder, f"{prefix}-{kind}-ubyte", fix) for kind in ("images-idx3", "labels-idx1")]
    images, labels = (read_idx(path, fix) for path in paths)
    if images.ndim != 3 or not images.size or labels.shape != (len(images),) or labels.max(initial=0) >= len(classes):
        raise SearchError(f"The files in {folder} do not belong together.", fix, "data")
    zipped = [path for path in paths if path.suffix == ".gz"]
    return ImageSet(
        name,
        images[..., None],
        labels.astype(np.int32),
        classes,
        (statistics[0],),
        (statistics[1],),
        files={path.name: sha256(path.read_bytes()) for path in paths},
        published_checksum=all(hashlib.md5(path.read_bytes()).hexdigest() == md5[path.name] for path in zipped)
        if zipped
        else None,
    )


def find_file(folder: Path, name: str, fix: str) -> Path:
    """`name` or `name`.gz in `folder`. Raises SearchError, with `fix`, when there is neither."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise SearchError(f"There is no {name}[.gz] in {folder}.", fix, "data")


def read_idx(path: Path, fix: str = "download the file again.") -> Bytes:
    """The array of an IDX file of unsigned bytes, gzipped or not. Raises SearchError when it is damaged.

    No more is read than its header announces, and at most MOST_BYTES.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            zeros, kind, axes = struct.unpack(">HBB", stream.read(4))
            if zeros != 0 or kind != _UBYTE or axes > _MOST_AXES:
                raise ValueError(f"its header is not that of bytes on up to {_MOST_AXES} axes")
            shape: tuple[int, ...] = struct.unpack(f">{axes}I", stream.read(4 * axes))
            size = math.prod(shape)
            if size > MOST_BYTES:
                raise ValueError(f"its header announces {size:,} bytes, more than {MOST_BYTES:,}")
            body = np.frombuffer(stream.read(size + 1), np.uint8)
        if len(body) != size:
            raise ValueError(
                f"its header announces {size:,} bytes, and it has {'more' if len(body) > size else 'fewer'}"
            )
    except (OSError, EOFError, ValueError, struct.error, zlib.error, MemoryError) as error:
        raise SearchError(f"{path} is not a complete IDX file of bytes ({first_line(error)}).", fix, "data") from error
    return body.reshape(shape)
