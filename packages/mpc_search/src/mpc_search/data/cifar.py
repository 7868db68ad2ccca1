"""CIFAR-10 and CIFAR-100 in their python and binary forms, from the published archive or its unpacked folder."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import stat
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpc_search.data.cifar_pickle import unpickle
from mpc_search.data.images import Bytes, ImageSet, sha256
from mpc_search.errors import SearchError, first_line

_SIDE, _BYTES = 32, 3 * 32 * 32

MOST_BYTES = 2**30
"""A larger file is refused; the largest of the published ones has 186 million bytes."""

_DAMAGED: tuple[type[Exception], ...] = (
    *(ValueError, LookupError, TypeError, AttributeError, EOFError, ArithmeticError, MemoryError),
    *(RecursionError, pickle.UnpicklingError),
)


@dataclass(frozen=True)
class Form:
    """One published form: the archive and its MD5, the folder in it, the files of each split, and the labels.

    `label` is the key of the labels in a python batch. A binary record begins with `label_bytes` bytes, and byte
    `label_at` of them is the label.
    """

    archive: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label: str
    label_bytes: int = 0
    label_at: int = 0


PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
FORMS: dict[str, tuple[Form, Form]] = {
    "cifar10": (
        Form(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            "cifar-10-batches-py",
            tuple(f"data_batch_{i}" for i in range(1, 6)),
            ("test_batch",),
            "batches.meta",
            "labels",
        ),
        Form(
            "cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
            "cifar-10-batches-bin",
            tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            ("test_batch.bin",),
            "batches.meta.txt",
            "label_names",
            1,
            0,
        ),
    ),
    "cifar100": (
        Form(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python",
            ("train",),
            ("test",),
            "meta",
            "fine_labels",
        ),
        Form(
            "cifar-100-binary.tar.gz",
            "03b5dce01913d631647c71ecec9e9cb8",
            "cifar-100-binary",
            ("train.bin",),
            ("test.bin",),
            "fine_label_names.txt",
            "fine_label_names",
            2,
            1,
        ),
    ),
}

# Mean and standard deviation as in the original's configs (docs/paper-facts.md, section 3).
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def load(name: str, split: str, folder: Path, fix: str) -> ImageSet:
    """The split "train" or "test" of cifar10 or cifar100, in the form that `folder` has.

    An unpacked folder is read as it is; an archive must have the checksum that its page publishes. Raises SearchError,
    with `fix`, when there is neither, or when a file is truncated or damaged.
    """
    for form in FORMS[name]:
        unpacked = folder if (folder / form.test[0]).exists() else folder / form.folder
        if unpacked.is_dir():
            return _load(name, split, form, functools.partial(_read, unpacked, fix), None, fix)
    for form in FORMS[name]:
        if (folder / form.archive).exists():
            members = _members(folder / form.archive, form, fix)
            return _load(name, split, form, members.__getitem__, True, fix)
    wanted = " or ".join(f"{form.folder}/ or {form.archive}" for form in FORMS[name])
    raise SearchError(f"There is no {wanted} in {folder}.", fix, "data")


def _load(
    name: str, split: str, form: Form, read: Callable[[str], bytes], published: bool | None, fix: str
) -> ImageSet:
    files = form.train if split == "train" else form.test
    contents = {file: read(file) for file in files}
    names = read(form.names)
    try:
        decode = _binary if form.label_bytes else _python
        parts = [decode(form, data) for data in contents.values()]
        classes = _names(form, names)
        images, labels = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        if not len(images) or len(images) != len(labels) or labels.max(initial=0) >= len(classes):
            raise ValueError("images, labels and names do not fit together")
    except _DAMAGED as error:
        raise SearchError(f"{form.folder} of {name} cannot be read ({first_line(error)}).", fix, "data") from error
    planes = images.reshape(-1, 3, _SIDE, _SIDE)
    mean, std = STATISTICS[name]
    return ImageSet(
        name,
        np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
        labels.astype(np.int32),
        classes,
        mean,
        std,
        files={file: sha256(data) for file, data in contents.items()},
        published_checksum=published,
    )


def _binary(form: Form, data: bytes) -> tuple[Bytes, Bytes]:
    record = form.label_bytes + _BYTES
    if not data or len(data) % record:
        raise ValueError(f"{len(data)} bytes are not a multiple of {record}, the size of a record")
    table = np.frombuffer(data, np.uint8).reshape(-1, record)
    return table[:, form.label_bytes :], table[:, form.label_at]


def _python(form: Form, data: bytes) -> tuple[Bytes, npt.NDArray[np.int32]]:
    batch = unpickle(data)
    images, labels = batch[b"data"], batch[form.label.encode()]
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (_BYTES,):
        raise ValueError(f"data is not bytes (n, {_BYTES})")
    listed = labels.tolist() if isinstance(labels, np.ndarray) and labels.ndim == 1 else labels
    if not isinstance(listed, list) or not all(type(label) is int and 0 <= label < 2**8 for label in listed):
        raise ValueError("the labels are not whole numbers from 0 to 255")
    return images, np.asarray(listed, np.int32)


def _names(form: Form, data: bytes) -> tuple[str, ...]:
    if form.label_bytes:
        return tuple(line for line in data.decode().split("\n") if line)
    key = b"label_names" if form.label == "labels" else b"fine_label_names"
    return tuple(name.decode() for name in unpickle(data)[key])


def _read(folder: Path, fix: str, file: str) -> bytes:
    path = folder / file
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_BYTES:
            raise SearchError(f"{path} is not a file of at most {MOST_BYTES:,} bytes.", fix, "data")
        return path.read_bytes()
    except OSError as error:
        raise SearchError(f"{path} cannot be read ({error.strerror}).", fix, "data") from error


def _members(archive: Path, form: Form, fix: str) -> dict[str, bytes]:
    data = _read(archive.parent, fix, archive.name)
    if (found := hashlib.md5(data).hexdigest()) != form.md5:
        raise SearchError(f"{archive} has the MD5 {found}, but its page publishes {form.md5}.", fix, "data")
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        content: dict[str, bytes] = {}
        for file in (*form.train, *form.test, form.names):
            member = opened.extractfile(f"{form.folder}/{file}")
            assert member is not None  # the checksum has shown that the file is there
            content[file] = member.read()
        return content
