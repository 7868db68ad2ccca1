"""IDX files are read as they are, and what is none is refused by its name."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from mpc_search import SearchError, fashion_mnist
from mpc_search.data import get_fashion_mnist, read_idx


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write(folder: Path, count: int = 12, zipped: bool = True, labels: int | None = None) -> Path:
    """The four files, with random images."""
    rng = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        files = {
            f"{prefix}-images-idx3-ubyte": rng.integers(0, 256, (count, 28, 28)),
            f"{prefix}-labels-idx1-ubyte": np.arange(count if labels is None else labels) % 10,
        }
        for name, array in files.items():
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_both_forms(tmp_path: Path, zipped: bool) -> None:
    """Gzipped or not, the images come as NHWC floats around zero, the labels as integers."""
    images = fashion_mnist("train", write(tmp_path, zipped=zipped))
    assert images.images.shape == (12, 28, 28, 1) and images.images.dtype == np.float32
    assert images.labels.tolist() == [*range(10), 0, 1] and len(images) == 12
    assert abs(float(images.images.mean()) - (127.5 / 255 - 0.2860) / 0.3530) < 0.05


def test_values_are_normalised(tmp_path: Path) -> None:
    """A black pixel and a white one come out where mean and deviation put them."""
    array = np.zeros((2, 28, 28))
    array[1] = 255
    write(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(2))))
    images = fashion_mnist("test", tmp_path).images
    np.testing.assert_allclose([images[0, 0, 0, 0], images[1, 0, 0, 0]], [-0.2860 / 0.3530, 0.714 / 0.3530], rtol=1e-5)


@pytest.mark.parametrize("cut", [3, 10, 100])
def test_truncated(tmp_path: Path, cut: int) -> None:
    """A file cut short is refused, wherever it is cut."""
    path = tmp_path / "images"
    path.write_bytes(idx(np.zeros((3, 28, 28)))[:cut])
    with pytest.raises(SearchError, match="images"):
        read_idx(path)


def test_truncated_gzip(tmp_path: Path) -> None:
    """So is a download that stopped half-way."""
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(np.arange(28 * 28 * 3).reshape(3, 28, 28)))[:50])
    with pytest.raises(SearchError, match="cannot be read"):
        read_idx(path)


def test_missing_files_name_the_package(tmp_path: Path) -> None:
    """The message has the one line that mends it; a folder of one's own is never filled by apt."""
    with pytest.raises(SearchError, match="apt-get install dataset-fashion-mnist"):
        fashion_mnist("train", tmp_path)
    with pytest.raises(SearchError, match="apt-get install dataset-fashion-mnist"):
        get_fashion_mnist(tmp_path)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    """Other numbers of images and labels are refused, and a split that is none."""
    with pytest.raises(SearchError, match="belong together"):
        fashion_mnist("train", write(tmp_path, labels=5))
    with pytest.raises(SearchError, match="validation"):
        fashion_mnist("validation", tmp_path)
