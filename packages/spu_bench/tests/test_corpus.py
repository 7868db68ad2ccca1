"""Files of a stranger, in many mutations: one line with a fix, no traceback, nothing outside, and soon.

Every reader is called as the command line calls it. The whole command runs for one case of each kind.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parties import cli, one_line
from programs import replace_module

from spu_bench import Network, Options, SpuBenchError, load_program
from spu_bench.party_processes import make_directories
from spu_bench.program import manifest_fingerprint
from spu_bench.session import load_session

Manifest = dict[str, Any]


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file of the user beside the Program and the scratch directory, which stays as it is."""
    path = tmp_path / "canary"
    path.write_text("the user's own")
    yield path
    assert path.read_text() == "the user's own"


def write_manifest(directory: Path, manifest: Manifest) -> None:
    manifest["fingerprint"] = manifest_fingerprint(manifest)
    (directory / "program.json").write_text(json.dumps(manifest))


def read_all(directory: Path, scratch: Path) -> None:
    """What `spu-bench run` does with a Program before a runtime sees it."""
    program = load_program(directory)
    make_directories(scratch, "semi2k", program, None)
    program.module()
    for holder in ("public", "server", "client"):
        program.arrays(holder)  # type: ignore[arg-type]
    program.reference()


def refuse(action: Callable[[], object]) -> SpuBenchError:
    """The error of `action`, which has to be one readable line."""
    with pytest.raises(SpuBenchError) as caught:
        action()
    text = str(caught.value)
    assert caught.value.reason in ("bad_input", "memory") and " Fix: " in text and text.isprintable(), text
    assert len(text) < 1500
    return caught.value


MANIFESTS: dict[str, Callable[[Manifest], object]] = {
    "module is elsewhere": lambda m: m["module"].update(file="../canary"),
    "module is absolute": lambda m: m["module"].update(file="/etc/passwd"),
    "module is a folder": lambda m: m["module"].update(file="."),
    "module is a folder above": lambda m: m["module"].update(file=".."),
    "module is empty": lambda m: m["module"].update(file=""),
    "module has a NUL": lambda m: m["module"].update(file="module\0.hlo"),
    "module has a line end": lambda m: m["module"].update(file="module.hlo\n"),
    "module is long": lambda m: m["module"].update(file="m" * 5000),
    "module is the weights": lambda m: m["module"].update(file="server.npz"),
    "module is the manifest": lambda m: m["module"].update(file="program.json"),
    "module is missing": lambda m: m["module"].update(file="absent.hlo"),
    "no outputs": lambda m: m.update(outputs=[]),
    "two outputs of one name": lambda m: m["outputs"].append(m["outputs"][0]),
    "two arguments of one name": lambda m: m["arguments"].append(m["arguments"][0]),
    "an output named as an argument": lambda m: m["outputs"][0].update(name="images"),
    "a name with an escape": lambda m: m.update(name="\x1b[2J"),
    "a name that is no text": lambda m: m.update(name="\ud800"),
    "an argument named as nothing": lambda m: m["arguments"][0].update(name=""),
    "a negative shape": lambda m: m["arguments"][0].update(shape=[-4]),
    "an empty shape": lambda m: m["outputs"][0].update(shape=[0, 4]),
    "a huge shape": lambda m: m["arguments"][0].update(shape=[1 << 62, 1 << 62]),
    "a shape of many axes": lambda m: m["arguments"][0].update(shape=[1] * 255),
    "a shape of text": lambda m: m["arguments"][0].update(shape="four"),
    "deep": lambda m: m.update(made_by=deep(200)),
    "a table as name": lambda m: m.update(name={}),
    "an unknown key with escapes": lambda m: m.update({"\x1b[31m" * 200: 1}),
}


def deep(levels: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(levels):
        table = {"a": table}
    return table


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_manifests(
    copy: Callable[[], Path], tmp_path: Path, canary: Path, change: Callable[[Manifest], object]
) -> None:
    directory = copy()
    manifest = json.loads((directory / "program.json").read_text())
    change(manifest)
    write_manifest(directory, manifest)
    refuse(lambda: read_all(directory, tmp_path / "scratch"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"5",
        b"null",
        b"{",
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"9" * 10_000,
        b" " * (17 << 20),
    ],
    ids=["empty", "list", "number", "null", "half", "UTF-16", "deep list", "deep table", "long number", "large"],
)
def test_manifests_that_are_no_manifest(copy: Callable[[], Path], tmp_path: Path, data: bytes) -> None:
    directory = copy()
    (directory / "program.json").write_bytes(data)
    refuse(lambda: read_all(directory, tmp_path / "scratch"))


@pytest.mark.parametrize("name", ["program.json", "module.hlo", "server.npz", "client.npz", "reference.npz"])
@pytest.mark.parametrize("kind", ["a link out", "a loop of links", "a FIFO", "a folder", "a device"])
def test_files_that_are_no_files(copy: Callable[[], Path], tmp_path: Path, canary: Path, name: str, kind: str) -> None:
    """Nothing outside is read, and nobody waits for a FIFO."""
    directory = copy()
    path = directory / name
    content = path.read_bytes()
    path.unlink()
    if kind == "a link out":
        (tmp_path / "outside").write_bytes(content)
        path.symlink_to(tmp_path / "outside")
    elif kind == "a loop of links":
        path.symlink_to(path)
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    refuse(lambda: read_all(directory, tmp_path / "scratch"))


def npy(shape: str, dtype: str = "<f4", body: bytes = b"") -> bytes:
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def saved(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


IMAGE = np.zeros((1, 16), np.float32)
ARCHIVES: dict[str, bytes] = {
    "empty": b"",
    "text": b"not an archive",
    "half": saved(images=IMAGE)[:100],
    "without its array": saved(other=IMAGE),
    "with another array": saved(images=IMAGE, other=IMAGE),
    "big-endian": saved(images=IMAGE.astype(">f4")),
    "objects": saved(images=np.array([object()] * 16, dtype=object).reshape(1, 16)),
    "structures": saved(images=np.zeros(16, [("a", "<f4")])),
    "complex": saved(images=IMAGE.astype(np.complex64)),
    "doubles": saved(images=IMAGE.astype(np.float64)),
    "texts": saved(images=np.full((1, 16), "a")),
    "another shape": saved(images=np.zeros((16, 1), np.float32)),
    "no axis": saved(images=np.float32(0)),
    "a bomb": zipped({"images.npy": npy("(1, 16)", body=bytes(64 << 20))}),
    "a bomb that tells its shape": zipped({"images.npy": npy("(1048576, 16)", body=bytes(64 << 20))}),
    "a shape that wraps": zipped({"images.npy": npy("(4611686018427387904, 16)", body=bytes(64))}),
    "a negative shape": zipped({"images.npy": npy("(-1, 16)", body=bytes(64))}),
    "a shape that is no tuple": zipped({"images.npy": npy("__import__('os')", body=bytes(64))}),
    "a deep header": zipped({"images.npy": npy("(" * 5000 + ")" * 5000)}),
    "255 axes": zipped({"images.npy": npy("(" + "1, " * 255 + ")", body=bytes(4))}),
    "version 9": zipped({"images.npy": b"\x93NUMPY\x09\x00"}),
    "a short array": zipped({"images.npy": npy("(1, 16)", body=bytes(8))}),
    "a member that is no array": zipped({"images.npy": b"hello"}),
    "a path out": zipped({"../../canary.npy": npy("(1, 16)", body=bytes(64))}),
    "a name with an escape": zipped({"\x1b[2J.npy": npy("(1, 16)", body=bytes(64))}),
    "many members": zipped({f"a{number}.npy": b"" for number in range(2000)}),
}


@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES)
def test_archives(small: Path, tmp_path: Path, canary: Path, data: bytes) -> None:
    """The Program's own file and the client's input are refused alike, before anything is decompressed."""
    (tmp_path / "input.npz").write_bytes(data)
    refuse(lambda: load_program(small).arrays("client", tmp_path / "input.npz"))


def test_an_archive_with_two_arrays_of_one_name(small: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "input.npz", "w") as archive:
        archive.writestr("images.npy", npy("(1, 16)", body=bytes(64)))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("images.npy", npy("(1, 16)", body=bytes(64)))
    refuse(lambda: load_program(small).arrays("client", tmp_path / "input.npz"))


def test_more_than_the_memory(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of inputs may be long, but not longer than this machine can hold."""

    class Little:
        available = 100

    monkeypatch.setattr("psutil.virtual_memory", Little)
    (tmp_path / "input.npz").write_bytes(saved(images=np.zeros((4, 16), np.float32)))
    error = refuse(lambda: load_program(small).arrays("client", tmp_path / "input.npz"))
    assert error.reason == "memory"


TOML = {
    "empty array": "party = []",
    "deep": "a = " + "[" * 100_000,
    "nested": "a = " + "[" * 200 + "]" * 200,
    "a value": "runtime = 5",
    "a list": "runtime = [1]",
    "not UTF-8": b"\xff\xfe",
    "half": "[runtime",
    "an escape": '"\\u001b[2J" = 1',
    "a NUL": "a = '\0'",
    "large": "# " + "a" * (2 << 20),
}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
@pytest.mark.parametrize("read", [load_session, Options.load, Network.load])
def test_toml(tmp_path: Path, text: str | bytes, read: Callable[[Path], object]) -> None:
    path = tmp_path / "odd.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refuse(lambda: read(path))


PARTIES = '[[party]]\naddress = "127.0.0.1"\nport = 20000\n[[party]]\naddress = {address}\nport = {port}\n'
LINKS = {
    "ports that overlap": PARTIES.format(address='"127.0.0.1"', port=20001),
    "one port": PARTIES.format(address='"127.0.0.1"', port=20000),
    "a NUL": PARTIES.format(address='"127.0.0.1\\u0000"', port=20000),
    "a long name": PARTIES.format(address='"' + "a" * 64 + '.org"', port=20000),
    "a very long name": PARTIES.format(address='"' + "a." * 200 + '"', port=20000),
    "no name": PARTIES.format(address='""', port=20000),
    "a name with blanks": PARTIES.format(address='"a b"', port=20000),
    "a number": PARTIES.format(address="5", port=20000),
    "an infinite wait": "connect_timeout_s = inf\n" + PARTIES.format(address='"127.0.0.2"', port=20000),
    "a wait that is no number": "connect_timeout_s = nan\n" + PARTIES.format(address='"127.0.0.2"', port=20000),
    "a wait of years": "connect_timeout_s = 1e9\n" + PARTIES.format(address='"127.0.0.2"', port=20000),
    "options that write": PARTIES.format(address='"127.0.0.2"', port=20000)
    + '[options.compiler]\nenable_pretty_print = true\npretty_print_dump_dir = "/tmp"\n',
    "options that dump": PARTIES.format(address='"127.0.0.2"', port=20000)
    + '[options.runtime]\nsnapshot_dump_dir = "/tmp"\n',
    "fraction bits": PARTIES.format(address='"127.0.0.2"', port=20000) + "[options.runtime]\nfxp_fraction_bits = 31\n",
}


@pytest.mark.parametrize("text", LINKS.values(), ids=LINKS)
def test_link_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "link.toml").write_text(text)
    refuse(lambda: load_session(tmp_path / "link.toml"))


def test_overlapping_parties_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "link.toml").write_text(LINKS["ports that overlap"])
    error = refuse(lambda: load_session(tmp_path / "link.toml"))
    assert "127.0.0.1:20000" in error.problem and "127.0.0.1:20001" in error.problem


@pytest.mark.parametrize("limit", ["nan", "inf", "0", "-1", "1e300"])
def test_limits_of_a_run(small: Path, limit: str) -> None:
    done = cli("run", str(small), "--executor", "loopback", "--timeout", limit)
    assert done.returncode == 2 and "limit of the run" in one_line(done.stderr)


def broken_modules(module: bytes) -> dict[str, bytes]:
    draw = random.Random(5)
    flipped = bytearray(module)
    for _ in range(8):
        flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    return {
        "empty": b"",
        "random": draw.randbytes(500),
        "half": module[: len(module) // 2],
        "flipped": bytes(flipped),
        "text": b"HloModule f\nENTRY e { ROOT p = f32[] parameter(0) }\n\xff",
    }


@pytest.mark.parametrize("kind", ["empty", "random", "half", "flipped", "text"])
def test_modules(copy: Callable[[], Path], kind: str) -> None:
    """The line says what SPU's parser said, whatever bytes it quotes."""
    directory = copy()
    replace_module(directory, broken_modules((directory / "module.hlo").read_bytes())[kind])
    done = cli("run", str(directory), "--executor", "loopback", "--warmup", "0", "--repeats", "1")
    said = one_line(done.stderr)
    assert done.returncode == 2 and "cannot compile the Program: " in said, said
    assert "UnicodeDecodeError" not in said and "what:" not in said and said.isprintable()


@pytest.mark.parametrize("kind", ["module is elsewhere", "deep", "two outputs of one name"])
def test_the_whole_command(copy: Callable[[], Path], canary: Path, kind: str) -> None:
    directory = copy()
    manifest = json.loads((directory / "program.json").read_text())
    MANIFESTS[kind](manifest)
    write_manifest(directory, manifest)
    done = cli("run", str(directory), "--executor", "loopback")
    assert done.returncode == 2 and one_line(done.stderr)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes(small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any file of a Program with any bytes changed is read as it was or refused."""
    name = data.draw(st.sampled_from(["program.json", "server.npz", "client.npz", "reference.npz", "module.hlo"]))
    directory = tmp_path_factory.mktemp("flipped") / "program"
    directory.mkdir()
    for file in small.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    content = bytearray((directory / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (directory / name).write_bytes(content)
    with contextlib.suppress(SpuBenchError):
        read_all(directory, directory.parent / "scratch")
