"""Every format is read, and files that are truncated, damaged or missing are refused by name."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import idx, stripes, write_idx
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mpc_search import SearchError, fashion_mnist
from mpc_search.data import Batches, cifar, load
from mpc_search.data.idx import read_idx
from mpc_search.run_config import DataConfig
from mpc_search.stages import load_splits

COUNT = 20


# -- IDX ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_both_forms_of_idx(tmp_path: Path, zipped: bool) -> None:
    """Gzipped or not: images are NHWC bytes, and floats around zero; labels are integers."""
    images = fashion_mnist("train", write_idx(tmp_path, zipped=zipped))
    assert images.images.shape == (12, 28, 28, 1) and images.images.dtype == np.float32
    assert images.labels.tolist() == [*range(10), 0, 1] and len(images) == 12
    assert images.published_checksum is (False if zipped else None) and len(images.files) == 2


def test_values_are_normalised(tmp_path: Path) -> None:
    """A black and a white pixel get the values that mean and deviation give."""
    array = np.zeros((2, 28, 28))
    array[1] = 255
    write_idx(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(2))))
    images = fashion_mnist("test", tmp_path).images
    np.testing.assert_allclose([images[0, 0, 0, 0], images[1, 0, 0, 0]], [-0.2860 / 0.3530, 0.714 / 0.3530], rtol=1e-5)


@pytest.mark.parametrize("cut", [3, 10, 100])
def test_truncated_idx(tmp_path: Path, cut: int) -> None:
    """A file that is cut anywhere is refused, gzipped or not."""
    whole = idx(np.arange(3 * 28 * 28).reshape(3, 28, 28))
    (tmp_path / "images").write_bytes(whole[:cut])
    (tmp_path / "images.gz").write_bytes(gzip.compress(whole)[: cut // 2])
    for name in ("images", "images.gz"):
        with pytest.raises(SearchError, match="images"):
            read_idx(tmp_path / name)


def test_missing_data_has_a_fix(tmp_path: Path) -> None:
    """The error of every data set says how to get it."""
    for name, hint in (
        ("fashion_mnist", "apt-get install dataset-fashion-mnist"),
        ("mnist", "data/mnist"),
        ("cifar10", "cifar-10-python.tar.gz from https"),
        ("cifar100", "cifar-100-python.tar.gz from https"),
        ("tiny_imagenet", "tiny-imagenet-200.zip"),
        ("folder:8", "FOLDER/train/CLASS"),
    ):
        with pytest.raises(SearchError, match=hint):
            load(name, "train", tmp_path)
    with pytest.raises(SearchError, match="folder:SIZE"):
        load("imagenet", "train", tmp_path)
    with pytest.raises(SearchError, match="validation"):
        fashion_mnist("validation", tmp_path)


def test_files_that_do_not_fit_together(tmp_path: Path) -> None:
    """Different numbers of images and labels are refused."""
    with pytest.raises(SearchError, match="belong together"):
        fashion_mnist("train", write_idx(tmp_path, labels=5))


# -- CIFAR --------------------------------------------------------------------------------------------------------


def planes(seed: int) -> np.ndarray:
    """Images as CIFAR stores them: rows of red, green and blue planes."""
    return np.random.default_rng(seed).integers(0, 256, (COUNT, 3072)).astype(np.uint8)


def write_cifar(folder: Path, name: str, binary: bool) -> Path:
    """All files of a form, in the folder of its archive; labels count up."""
    form = cifar.FORMS[name][binary]
    classes = 10 if name == "cifar10" else 100
    at = folder / form.folder
    at.mkdir(parents=True)
    names = [f"class {i}" for i in range(classes)]
    for seed, file in enumerate((*form.train, *form.test)):
        labels = np.arange(COUNT) % classes
        if binary:
            table = np.concatenate(
                [*([labels[:, None] // 5] * (form.label_bytes - 1)), labels[:, None], planes(seed)], 1
            )
            (at / file).write_bytes(table.astype(np.uint8).tobytes())
        else:
            batch = {b"data": planes(seed), form.label.encode(): labels.tolist()}
            (at / file).write_bytes(pickle.dumps(batch, protocol=2))
    if binary:
        (at / form.names).write_text("\n".join(names) + "\n\n")
    else:
        key = b"label_names" if name == "cifar10" else b"fine_label_names"
        (at / form.names).write_bytes(pickle.dumps({key: [n.encode() for n in names]}, protocol=2))
    return folder


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path: Path, name: str, binary: bool) -> None:
    """Both forms give the same images, channels last, with fine labels, and all training batches in order."""
    data = load(name, "train", write_cifar(tmp_path, name, binary))
    parts = 5 if name == "cifar10" else 1
    assert data.pixels.shape == (parts * COUNT, 32, 32, 3) and len(data.classes) == (10 if parts == 5 else 100)
    expected = np.concatenate([planes(i) for i in range(parts)]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(data.pixels[np.arange(len(data))], expected.transpose(0, 2, 3, 1))
    assert data.labels[:COUNT].tolist() == [i % len(data.classes) for i in range(COUNT)]
    assert len(load(name, "test", tmp_path)) == COUNT


@pytest.mark.parametrize("binary", [False, True])
def test_truncated_cifar(tmp_path: Path, binary: bool) -> None:
    """A batch that is cut or missing is refused."""
    write_cifar(tmp_path, "cifar10", binary)
    form = cifar.FORMS["cifar10"][binary]
    path = tmp_path / form.folder / form.train[2]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SearchError, match="cannot be read"):
        load("cifar10", "train", tmp_path)
    path.unlink()
    with pytest.raises(SearchError, match="data_batch_3"):
        load("cifar10", "train", tmp_path)


class Harmful:
    """An object whose pickle calls a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def test_a_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that calls a function is refused, and the function is not called."""
    monkeypatch.chdir(tmp_path)
    write_cifar(tmp_path, "cifar10", False)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps({b"data": Harmful()}, protocol=2))
    with pytest.raises(SearchError, match="must not use"):
        load("cifar10", "test", tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with the published checksum is read without unpacking; another one is refused."""
    write_cifar(tmp_path / "unpacked", "cifar100", False)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(tmp_path / "unpacked" / "cifar-100-python", "cifar-100-python")
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(content.getvalue())
    with pytest.raises(SearchError, match="eb9058c3a382ffc7106e4002c42a8d85"):
        load("cifar100", "train", tmp_path)
    import dataclasses
    import hashlib

    python, binary = cifar.FORMS["cifar100"]
    known = dataclasses.replace(python, md5=hashlib.md5(content.getvalue()).hexdigest())
    monkeypatch.setitem(cifar.FORMS, "cifar100", (known, binary))
    data = load("cifar100", "train", tmp_path)
    assert len(data) == COUNT and data.published_checksum is True


# -- folders ------------------------------------------------------------------------------------------------------


def write_images(folder: Path, count: int, size: int, seed: int) -> None:
    """JPEG images, each of one colour."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.new("RGB", (size, size), tuple(rng.integers(0, 256, 3).tolist())).save(folder / f"{folder.name}_{i}.JPEG")


def write_tiny_imagenet(root: Path, ids: tuple[str, ...] = ("n002", "n001", "n003")) -> Path:
    """Tiny-ImageNet's own layout, with three classes."""
    for i, wnid in enumerate(ids):
        write_images(root / "train" / wnid / "images", 4, 64, i)
    write_images(root / "val" / "images", 6, 64, 9)
    lines = [f"images_{i}.JPEG\t{ids[i % 3]}\t0\t0\t62\t62" for i in range(6)]
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (root / "wnids.txt").write_text("\n".join(ids) + "\n")
    return root


def test_tiny_imagenet(tmp_path: Path) -> None:
    """Classes are sorted by name in both splits; streamed and in memory, the bytes are the same."""
    write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    train = load("tiny_imagenet", "train", tmp_path)
    test = load("tiny_imagenet", "test", tmp_path)
    assert train.classes == test.classes == ("n001", "n002", "n003")
    assert test.labels.tolist() == [1, 0, 2, 1, 0, 2] and train.pixels.shape == (12, 64, 64, 3)
    streamed = load("tiny_imagenet", "train", tmp_path, memory_bytes=1000)
    assert streamed.streamed and not train.streamed
    rows = np.asarray([11, 0, 5])
    np.testing.assert_array_equal(streamed.pixels[rows], train.pixels[rows])
    np.testing.assert_array_equal(streamed.take(rows).pixels[np.arange(3)], train.pixels[rows])


def test_a_damaged_tiny_imagenet(tmp_path: Path) -> None:
    """A truncated image, a missing one, and a list that names no class are refused."""
    root = write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    damaged = root / "train" / "n001" / "images" / "images_2.JPEG"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(SearchError, match=r"images_2\.JPEG is not a complete image"):
        load("tiny_imagenet", "train", tmp_path)
    (root / "val" / "images" / "images_1.JPEG").unlink()
    with pytest.raises(SearchError, match="1 of 6 validation images"):
        load("tiny_imagenet", "test", tmp_path)
    (root / "wnids.txt").write_text("n009\n")
    with pytest.raises(SearchError, match=r"wnids\.txt"):
        load("tiny_imagenet", "test", tmp_path)


def test_class_folders(tmp_path: Path) -> None:
    """Any folder of class folders, resized."""
    for split in ("train", "test"):
        write_images(tmp_path / split / "cats", 3, 40, 0)
        write_images(tmp_path / split / "dogs", 2, 20, 1)
    data = load("folder:16", "train", tmp_path)
    assert data.classes == ("cats", "dogs") and data.pixels.shape == (5, 16, 16, 3)
    assert data.labels.tolist() == [0, 0, 0, 1, 1]


def test_digits() -> None:
    """All 1,797 digits, with a fixed split, over the whole range of bytes."""
    train, test = load("digits", "train"), load("digits", "test")
    assert (len(train), len(test)) == (1437, 360) and train.pixels[np.arange(1437)].max() == 255
    np.testing.assert_allclose(train.images.mean(), 0.0, atol=1e-3)
    np.testing.assert_allclose(train.images.std(), 1.0, atol=1e-3)


# -- order --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), start=st.integers(0, 11), processes=st.sampled_from([1, 2, 4]))
def test_the_order_depends_only_on_the_seed(seed: int, start: int, processes: int) -> None:
    """From any step on, the parts of all processes together are the batches of one process."""
    data = stripes(50, 0)
    alone = list(Batches(data, 8, 2, seed).iterate(0))
    shares = [list(Batches(data, 8, 2, seed, p, processes).iterate(start)) for p in range(processes)]
    for whole, *parts in zip(alone[start:], *shares):
        np.testing.assert_array_equal(whole["images"], np.concatenate([part["images"] for part in parts]))
        np.testing.assert_array_equal(whole["labels"], np.concatenate([part["labels"] for part in parts]))


def test_an_epoch_has_every_image_at_most_once() -> None:
    """Another epoch or another seed has another order."""
    batches, other = Batches(stripes(50, 0), 8, 2, 0), Batches(stripes(50, 0), 8, 2, 1)
    first, second = (np.concatenate([batches.rows(e * 6 + i) for i in range(6)]) for e in (0, 1))
    assert len(set(first)) == len(set(second)) == 48 and not np.array_equal(first, second)
    assert not np.array_equal(first, np.concatenate([other.rows(i) for i in range(6)]))


def test_streamed_batches_equal_those_from_memory(tmp_path: Path) -> None:
    """Grain only reads ahead."""
    write_images(tmp_path / "train" / "a", 9, 8, 0)
    write_images(tmp_path / "train" / "b", 9, 8, 1)
    memory, files = (load("folder:8", "train", tmp_path, memory_bytes=m) for m in (10**9, 0))
    for one, other in zip(Batches(memory, 4, 2, 3).iterate(2), Batches(files, 4, 2, 3).iterate(2), strict=True):
        np.testing.assert_array_equal(one["images"], other["images"])
        np.testing.assert_array_equal(one["labels"], other["labels"])


def test_batches_that_do_not_fit() -> None:
    """A batch that is larger than the data, or does not divide by the processes."""
    with pytest.raises(SearchError, match=r"lower train\.batch"):
        Batches(stripes(10, 0), 16, 1, 0)
    with pytest.raises(SearchError, match="3 processes"):
        Batches(stripes(50, 0), 8, 1, 0, 0, 3)


def test_held_out_images_are_not_trained_on() -> None:
    """Held-out images and training images are different, and their numbers are right."""
    images = load_splits(DataConfig(name="digits", validation_images=100, train_images=500))
    assert (len(images.training), len(images.held_out), len(images.test)) == (500, 100, 360)
    held = {row.tobytes() for row in images.held_out.pixels[np.arange(100)]}
    assert not held & {row.tobytes() for row in images.training.pixels[np.arange(500)]}
    with pytest.raises(SearchError, match="1437 training images"):
        load_splits(DataConfig(name="digits", validation_images=1000, train_images=500))
