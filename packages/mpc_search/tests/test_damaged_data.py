"""Data sets that are damaged, hostile or do not fit together are refused in one line, before they take memory."""

from __future__ import annotations

import gzip
import os
import pickle
import pickletools
import resource
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import idx, mpc_search, write_idx
from PIL import Image
from test_data import write_cifar, write_images, write_tiny_imagenet

from mpc_search import SearchError
from mpc_search.data import cifar, images, load
from mpc_search.data.cifar_pickle import unpickle
from mpc_search.data.idx import read_idx
from mpc_search.run_config import DataConfig
from mpc_search.stages import load_splits


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- IDX ----------------------------------------------------------------------------------------------------------


def test_a_damaged_gzip_is_one_line(tmp_path: Path) -> None:
    """Bytes changed in the middle of a .gz: the command ends with one line and status 2."""
    path = write_idx(tmp_path) / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, len(content) // 2 + 64):
        content[at] ^= 0xFF
    path.write_bytes(content)
    done = mpc_search("retrain", "--config", "mnist", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "train-images-idx3-ubyte.gz is not a complete IDX file" in done.stderr and "Fix: " in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        struct.pack(">HBB2I", 0, 8, 2, 2**31, 2**31),  # the product is 2^62
        struct.pack(">HBB2I", 0, 8, 2, 2**32 - 1, 2**31),
        struct.pack(">HBB3I", 0, 8, 3, 2**24, 2**20, 2**20),  # the product is 2^64, which wraps to 0
        struct.pack(">HBB", 0, 8, 255) + bytes(4 * 255),
        struct.pack(">HBB", 0, 9, 1) + bytes(4),
        b"",
    ],
)
def test_headers_of_idx_that_lie(tmp_path: Path, header: bytes) -> None:
    """Shapes whose product wraps, 255 axes, other types."""
    for name, content in (("a", header), ("a.gz", gzip.compress(header))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SearchError, match="complete IDX file"):
            read_idx(tmp_path / name)


def test_a_gzip_bomb_takes_no_memory(tmp_path: Path) -> None:
    """Only what the header announces is unpacked."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    content = stream.compress(idx(np.zeros((2, 28, 28)))) + b"".join(stream.compress(bytes(2**20)) for _ in range(800))
    (tmp_path / "a.gz").write_bytes(content + stream.flush())
    before = peak_mib()
    with pytest.raises(SearchError, match="it has more"):
        read_idx(tmp_path / "a.gz")
    assert peak_mib() - before < 100


# -- CIFAR --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [[-5] * 20, [float("nan")] * 20, [10] * 20, ["1"] * 20, [[1]] * 20, [1] * 19, 3, [2**70]]
)
def test_labels_of_cifar_that_are_none(tmp_path: Path, labels: object) -> None:
    """Below zero, not a number, beyond the classes, too few."""
    write_cifar(tmp_path, "cifar10", False)
    batch = {b"data": np.zeros((20, 3072), np.uint8), b"labels": labels}
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(SearchError, match=r"cifar-10-batches-py of cifar10 cannot be read"):
        load("cifar10", "test", tmp_path)


def huge_array(shape: bytes) -> bytes:
    """A pickle of an array of 16 bytes whose shape says otherwise."""
    whole = pickle.dumps({b"data": np.zeros((1, 16), np.uint8)}, protocol=2)
    return whole.replace(b"K\x01K\x10\x86", shape + b"\x86")


BOMBS = {
    "a shape beyond the bytes": huge_array(b"\x8a\x06" + bytes([0, 0, 0, 0, 0, 1]) + b"K\x10"),
    "a number of objects": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a byte array": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",
    "ndarray called": b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.",
    "a list, no dict": pickle.dumps([1, 2]),
    "nothing": b"",
    "numbers": b"\x80\x02}q\x00U\x04dataq\x01K\x01s.",
}


@pytest.mark.parametrize("what", BOMBS)
def test_pickles_that_ask_for_memory(tmp_path: Path, what: str) -> None:
    """They are refused in one line, and take none."""
    write_cifar(tmp_path, "cifar10", False)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(BOMBS[what])
    before = peak_mib()
    with pytest.raises(SearchError, match="cannot be read") as caught:
        load("cifar10", "test", tmp_path)
    assert "\n" not in str(caught.value) and peak_mib() - before < 200


def test_nested_lists_are_not_expanded(tmp_path: Path) -> None:
    """Forty lists that each hold the one before twice would be 2^40 labels."""
    nested: list[object] = [0]
    for _ in range(40):
        nested = [nested, nested]
    write_cifar(tmp_path, "cifar10", False)
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": nested}
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(SearchError, match="whole numbers"):
        load("cifar10", "test", tmp_path)


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_they_are(dtype: str, order: str) -> None:
    """Of any type and order, from any protocol."""
    array = np.asarray(np.arange(12).reshape(3, 4), dtype, order=order)  # type: ignore[call-overload]
    for protocol in (2, 3, 4):
        found = unpickle(pickletools.optimize(pickle.dumps({b"a": array}, protocol=protocol)))
        np.testing.assert_array_equal(found[b"a"], array)


def test_files_of_cifar_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe would block, and a huge file would fill the memory."""
    write_cifar(tmp_path, "cifar10", False)
    batch = tmp_path / "cifar-10-batches-py" / "test_batch"
    batch.unlink()
    os.mkfifo(batch)
    with pytest.raises(SearchError, match="is not a file"):
        load("cifar10", "test", tmp_path)
    batch.unlink()
    batch.touch()
    os.truncate(batch, cifar.MOST_BYTES + 1)
    with pytest.raises(SearchError, match="at most"):
        load("cifar10", "test", tmp_path)


# -- folders ------------------------------------------------------------------------------------------------------


def write_folders(root: Path, train: tuple[str, ...], test: tuple[str, ...]) -> Path:
    """Class folders with two images each."""
    for split, names in (("train", train), ("test", test)):
        for seed, name in enumerate(names):
            write_images(root / split / name, 2, 8, seed)
    return root


@pytest.mark.parametrize("test", [("b", "c"), ("a",), ("a", "b", "c")])
def test_splits_with_other_classes_are_refused(tmp_path: Path, test: tuple[str, ...]) -> None:
    """Before anything is trained, with both sides named, from either split."""
    write_folders(tmp_path, ("a", "b"), test)
    for split in ("train", "test"):
        with pytest.raises(SearchError, match=r"train.*test|test.*train") as caught:
            load("folder:8", split, tmp_path)
        assert "2 classes" in str(caught.value) or "has 2" in str(caught.value)
    done = mpc_search(
        *("retrain", "--config", "digits", "--set", "data.name=folder:8", "--data", str(tmp_path)),
        *("--out", str(tmp_path / "out")),
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_empty_and_hidden_folders_do_not_shift_labels(tmp_path: Path) -> None:
    """An empty folder is no class; hidden files and folders are not read."""
    write_folders(tmp_path, ("cats", "dogs"), ("cats", "dogs"))
    (tmp_path / "test" / "aaa").mkdir()
    (tmp_path / "train" / "dogs" / "._dogs_0.JPEG").write_bytes(b"\x00\x05\x16\x07")
    write_images(tmp_path / "train" / ".thumbnails", 1, 8, 0)
    splits = load_splits(DataConfig(name="folder:8", folder=str(tmp_path), validation_images=0))
    assert splits.training.classes == splits.test.classes == ("cats", "dogs")
    assert splits.training.labels.tolist() == splits.test.labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("notes", [True, False])
def test_sorted_validation_images(tmp_path: Path, notes: bool) -> None:
    """val/CLASS/ is read as it is, with val_annotations.txt and an empty val/images left in place."""
    root = write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    expected = load("tiny_imagenet", "test", tmp_path)
    for i, wnid in enumerate(("n002", "n001", "n003") * 2):
        (root / "val" / wnid).mkdir(exist_ok=True)
        os.replace(root / "val" / "images" / f"images_{i}.JPEG", root / "val" / wnid / f"images_{i}.JPEG")
    if not notes:
        (root / "val" / "val_annotations.txt").unlink()
    test, train = load("tiny_imagenet", "test", tmp_path), load("tiny_imagenet", "train", tmp_path)
    assert test.classes == train.classes == expected.classes
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    order = [1, 4, 0, 3, 2, 5]
    np.testing.assert_array_equal(test.pixels[np.arange(6)], expected.pixels[np.asarray(order)])


def test_unsorted_images_without_their_notes(tmp_path: Path) -> None:
    """`images` is then the only class, which is refused."""
    root = write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(SearchError, match=r"1 only in .*val \(images\)"):
        load("tiny_imagenet", "test", tmp_path)


@pytest.mark.parametrize("size", ["0", "-1", "", "x", "999999", "9" * 5000, "٣٢", "8.5", "1025"])
def test_odd_sizes(tmp_path: Path, size: str) -> None:
    """Sizes from 1 to 1024 pixels."""
    write_folders(tmp_path, ("a",), ("a",))
    with pytest.raises(SearchError, match="needs a size from 1 to 1024") as caught:
        load(f"folder:{size}", "train", tmp_path)
    assert len(str(caught.value)) < 200


def png_bomb(side: int) -> bytes:
    """A small PNG of side x side black pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(2**20)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    """A few kilobytes that announce billions of pixels."""
    write_folders(tmp_path, ("a",), ("a",))
    (tmp_path / "train" / "a" / "z.png").write_bytes(png_bomb(side))
    before = peak_mib()
    with pytest.raises(SearchError, match=r"z\.png is not a complete image"):
        load("folder:8", "train", tmp_path)
    assert peak_mib() - before < 100 and side**2 > images.MOST_PIXELS


def test_links_and_pipes_among_images(tmp_path: Path) -> None:
    """A link to nothing, and a pipe that would block, are named."""
    write_folders(tmp_path, ("a",), ("a",))
    link = tmp_path / "train" / "a" / "gone.png"
    link.symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(SearchError, match=r"gone\.png cannot be read \(No such file"):
        load("folder:8", "train", tmp_path)
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(SearchError, match=r"gone\.png is not a file"):
        load("folder:8", "train", tmp_path, memory_bytes=0)


def test_grey_of_16_bits_is_scaled(tmp_path: Path) -> None:
    """The same picture in 8 and in 16 bits gives the same pixels; deeper pixels are refused."""
    write_folders(tmp_path, ("a",), ("a",))
    folder = tmp_path / "test" / "a"
    for path in folder.iterdir():
        path.unlink()
    grey = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    Image.fromarray(grey).save(folder / "0.png")
    Image.fromarray(((grey.astype(int) + 128) // 257).astype(np.uint8)).save(folder / "1.png")
    pixels = load("folder:64", "test", tmp_path).pixels[np.arange(2)]
    np.testing.assert_array_equal(pixels[0], pixels[1])
    Image.fromarray(np.full((8, 8), 2**20, np.int32)).save(folder / "2.tiff")
    os.replace(folder / "2.tiff", folder / "2.png")
    with pytest.raises(SearchError, match="32 bits"):
        load("folder:64", "test", tmp_path)


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    """As their EXIF orientation says."""
    write_folders(tmp_path, ("a",), ("a",))
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32] = 255
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[0x0112] = 3  # upside down
    photo.save(tmp_path / "test" / "a" / "0.jpg", exif=exif)
    found = load("folder:64", "test", tmp_path).pixels[np.arange(1)][0]
    assert found[2, 2, 0] < 50 and found[61, 2, 0] > 200


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux only")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    """Such a file is read like any other."""
    write_folders(tmp_path, ("a",), ("a",))
    source = tmp_path / "train" / "a" / "a_0.JPEG"
    os.rename(source, os.fsencode(source.parent) + b"/\xff.jpeg")
    assert len(load("folder:8", "train", tmp_path)) == 2
