"""A set of labelled images: bytes in memory, or files that are decoded when they are needed."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from mpc_search.errors import SearchError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 64 * 2**20
"""An image file of more pixels is refused before it is decoded: a small file can hold any number of them."""

_WHITE_16 = 2**16 - 1

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class Pixels(Protocol):
    """Images by row numbers: an array of bytes, or a sequence of files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, height, width, channels)."""

    def __getitem__(self, rows: Rows, /) -> Bytes: ...


@dataclass(frozen=True)
class ImageSet:
    """Images (n, height, width, channels) as bytes, labels (n,) int32, and the names of the classes.

    `mean` and `std` (one for each channel, of values in [0, 1]) normalise a model's input. `files` has the SHA-256 of
    every file that was read. `published_checksum` says if the files have the checksum that their source publishes, and
    is None if it publishes none.
    """

    name: str
    pixels: Pixels
    labels: npt.NDArray[np.int32]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    published_checksum: bool | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def streamed(self) -> bool:
        """True if images are decoded from their files each time they are needed."""
        return not isinstance(self.pixels, np.ndarray)

    @property
    def images(self) -> npt.NDArray[np.float32]:
        """All images, float32, normalised: the input of a model."""
        return normalise(self.pixels[np.arange(len(self))], self.mean, self.std)

    def take(self, rows: Rows) -> ImageSet:
        """The images of these rows, in this order."""
        pixels = self.pixels.take(rows) if isinstance(self.pixels, ImageFiles) else self.pixels[rows]
        return replace(self, pixels=pixels, labels=self.labels[rows])


def normalise(pixels: Bytes, mean: tuple[float, ...], std: tuple[float, ...]) -> npt.NDArray[np.float32]:
    """Bytes (..., channels) as float32, scaled to [0, 1], minus `mean`, over `std`."""
    scaled = pixels.astype(np.float32) / np.float32(255.0)
    result: npt.NDArray[np.float32] = (scaled - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return result


class ImageFiles:
    """Image files as `Pixels`: decoded by Pillow, resized to a short side of `size`, and cropped in the middle."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self._paths = paths
        self.shape: tuple[int, ...] = (len(paths), size, size, 3)

    def __getitem__(self, rows: Rows, /) -> Bytes:
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            out[place] = self._decode(self._paths[row])
        return out

    def take(self, rows: Rows) -> ImageFiles:
        """The files of these rows."""
        return ImageFiles([self._paths[row] for row in rows], self.shape[1])

    def _decode(self, path: Path) -> Bytes:
        from PIL import Image, ImageOps

        damaged = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError)
        try:
            with Image.open(path) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise ValueError(f"{opened.width} x {opened.height} pixels are more than {MOST_PIXELS:,}")
                upright = ImageOps.exif_transpose(opened)
                return np.asarray(ImageOps.fit(_as_rgb(upright), self.shape[1:3], Image.Resampling.BICUBIC))
        except (*damaged, struct.error, zlib.error, MemoryError, Image.DecompressionBombError) as error:
            raise SearchError(
                f"{path} is not a complete image of 8 or 16 bits ({first_line(error)}).",
                "unpack the data set again, or convert or delete the file.",
                "data",
            ) from error


def _as_rgb(image: Image) -> Image:
    """The image in red, green and blue of 8 bits each; grey of 16 bits is scaled, where Pillow would cut it off."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are 32-bit floats")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > _WHITE_16:
            raise ValueError("its pixels have 32 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return image.convert("RGB")


def sha256(data: bytes) -> str:
    """SHA-256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
