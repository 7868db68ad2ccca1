"""Reading npz files of which only the arrays that are expected may take memory."""

from __future__ import annotations

import math
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spu_bench.errors import SpuBenchError
from spu_bench.party.exchange import MAX_BATCHES
from spu_bench.untrusted import one_line, require_memory

Array = npt.NDArray[Any]

_MAX_HEADER = 10_000
_FORMAT: Any = np.lib.format  # its types say less than its documentation
_HEADERS = {(1, 0): _FORMAT.read_array_header_1_0, (2, 0): _FORMAT.read_array_header_2_0}


@dataclass(frozen=True)
class Expected:
    """What an array has to be. Where `is_stream`, its first axis may be any multiple of `shape[0]`."""

    shape: tuple[int, ...]
    dtype: str
    is_stream: bool = False

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of `shape` is as expected."""
        if shape == self.shape:
            return True
        if not self.is_stream or not self.shape or len(shape) != len(self.shape):
            return False
        batches, rest = divmod(shape[0], self.shape[0])
        return shape[1:] == self.shape[1:] and not rest and 0 < batches <= MAX_BATCHES


def read_npz(path: Path, fix: str, expected: Mapping[str, Expected] | None = None) -> dict[str, Array]:
    """The arrays of an npz file by name. Objects are refused, and so is what is not `expected` (None: anything).

    Shapes, dtypes and sizes are checked in the members' headers, before anything is decompressed. Raises SpuBenchError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SpuBenchError(f"{path} is not a regular file.", fix, "bad_input")
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path, fix, expected)
    except FileNotFoundError:
        raise SpuBenchError(f"{path} is missing.", fix, "bad_input") from None
    except SpuBenchError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise a dozen kinds for a damaged archive
        raise SpuBenchError(f"{path} cannot be read ({one_line(str(error))}).", fix, "bad_input") from error


def _read(archive: zipfile.ZipFile, path: Path, fix: str, expected: Mapping[str, Expected] | None) -> dict[str, Array]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise SpuBenchError(f"{path} has two arrays of one name.", fix, "bad_input")
    if expected is not None:
        for name in expected:
            if name not in members:
                raise SpuBenchError(f"{path} has no array {name!r}.", fix, "bad_input")
        if surplus := sorted(set(members) - set(expected)):
            named = one_line(", ".join(map(repr, surplus)))
            raise SpuBenchError(f"{path} holds arrays that the Program does not name: {named}.", fix, "bad_input")
    for name, info in members.items():
        _check_header(archive, info, path, one_line(name), fix, expected[name] if expected is not None else None)
    require_memory(f"The content of {path}", sum(info.file_size for info in members.values()))
    arrays = {}
    for name, info in members.items():
        with archive.open(info) as stream:
            arrays[name] = _FORMAT.read_array(stream, allow_pickle=False, max_header_size=_MAX_HEADER)
    return arrays


def _check_header(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, name: str, fix: str, expected: Expected | None
) -> None:
    with archive.open(info) as stream:
        version = _FORMAT.read_magic(stream)
        if version not in _HEADERS:
            raise SpuBenchError(f"The array {name!r} in {path} is of npy version {version}.", fix, "bad_input")
        shape, _, dtype = _HEADERS[version](stream, max_header_size=_MAX_HEADER)
        head = stream.tell()
    if dtype.hasobject or dtype.names is not None or dtype.kind not in "biufU":
        raise SpuBenchError(f"The array {name!r} in {path} has elements of type {dtype}.", fix, "bad_input")
    if any(size < 0 for size in shape) or head + math.prod(shape) * dtype.itemsize != info.file_size:
        raise SpuBenchError(f"The array {name!r} in {path} is not as long as its shape says.", fix, "bad_input")
    if expected is None:
        return
    if dtype != np.dtype(expected.dtype):
        said = dtype.name if dtype.isnative else f"{dtype.name} in big-endian byte order"
        raise SpuBenchError(
            f"The array {name!r} in {path} is {said}, the Program takes {expected.dtype}.",
            f"convert it with .astype('{expected.dtype}').",
            "bad_input",
        )
    if not expected.fits(shape):
        raise SpuBenchError(
            f"The array {name!r} in {path} has shape {shape}, the Program takes {expected.shape}.",
            "give it that shape; of a client's input the first axis may be a multiple." if expected.is_stream else fix,
            "bad_input",
        )
