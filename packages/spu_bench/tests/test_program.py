"""A Program that is not whole is refused in one line that names what is wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spu_bench import SpuBenchError, load_program
from spu_bench.program import CACHED_OPERAND, manifest_fingerprint, read_npz


def rewrite(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest and give it its new fingerprint."""
    manifest = json.loads((directory / "program.json").read_text())
    change(manifest)
    manifest["fingerprint"] = manifest_fingerprint(manifest)
    (directory / "program.json").write_text(json.dumps(manifest))


def test_arrays_come_back_as_written(small: Path) -> None:
    """Every party gets just the arrays that it holds."""
    program = load_program(small)
    assert set(program.arrays("server")) == {"first", "second", "bias"}
    assert set(program.arrays("client")) == {"images"}
    assert program.arrays("public") == {}
    assert program.module()
    reference = program.reference()
    assert reference is not None and reference["logits"].shape == (1, 4)


def test_no_program(tmp_path: Path) -> None:
    """A directory without a manifest is named."""
    with pytest.raises(SpuBenchError, match=r"no program\.json") as caught:
        load_program(tmp_path)
    assert caught.value.reason == "bad_input"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.pop("arguments"), "arguments"),
        (lambda m: m.update(schema=2), "schema"),
        (lambda m: m.update(surplus=1), "surplus"),
        (lambda m: m["arguments"][0].update(holder="stranger"), "holder"),
        (lambda m: m["arguments"][0].update(dtype="float16"), "dtype"),
    ],
)
def test_malformed_manifest(copy: Callable[[], Path], change: Any, complaint: str) -> None:
    """A manifest that is not of schema 1 is refused, and the key is named."""
    directory = copy()
    rewrite(directory, change)
    with pytest.raises(SpuBenchError, match=complaint):
        load_program(directory)


def test_altered_manifest(copy: Callable[[], Path]) -> None:
    """A manifest changed by hand no longer matches its fingerprint."""
    directory = copy()
    text = (directory / "program.json").read_text()
    (directory / "program.json").write_text(text.replace('"two_layer"', '"other"'))
    with pytest.raises(SpuBenchError, match="fingerprint"):
        load_program(directory)


def test_truncated_manifest(copy: Callable[[], Path]) -> None:
    """Half a manifest is no JSON."""
    directory = copy()
    text = (directory / "program.json").read_text()
    (directory / "program.json").write_text(text[: len(text) // 2])
    with pytest.raises(SpuBenchError, match="JSON"):
        load_program(directory)


def test_missing_array(copy: Callable[[], Path]) -> None:
    """A weight that is not there is named."""
    directory = copy()
    arrays = read_npz(directory / "server.npz")
    del arrays["second"]
    np.savez(directory / "server.npz", **arrays)
    with pytest.raises(SpuBenchError, match="no array 'second'"):
        load_program(directory).arrays("server")


def test_surplus_array(copy: Callable[[], Path]) -> None:
    """So is one that the manifest does not know."""
    directory = copy()
    np.savez(directory / "server.npz", **read_npz(directory / "server.npz"), third=np.zeros(3, np.float32))
    with pytest.raises(SpuBenchError, match="third"):
        load_program(directory).arrays("server")


def test_altered_array(copy: Callable[[], Path]) -> None:
    """One changed weight is found by its checksum."""
    directory = copy()
    arrays = read_npz(directory / "server.npz")
    arrays["first"][0, 0] += 1e-3
    np.savez(directory / "server.npz", **arrays)
    with pytest.raises(SpuBenchError, match="'first' that does not match its checksum"):
        load_program(directory).arrays("server")


@pytest.mark.parametrize("name", ["server.npz", "module.hlo"])
def test_truncated_file(copy: Callable[[], Path], name: str) -> None:
    """A file cut in half is refused, whichever it is."""
    directory = copy()
    data = (directory / name).read_bytes()
    (directory / name).write_bytes(data[: len(data) // 2])
    program = load_program(directory)
    with pytest.raises(SpuBenchError, match=name) as caught:
        program.module() if name == "module.hlo" else program.arrays("server")
    assert caught.value.reason == "bad_input"


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros((1, 17), np.float32), r"shape \(1, 17\)"),
        (np.zeros((16,), np.float32), r"shape \(16,\)"),
        (np.zeros((0, 16), np.float32), r"shape \(0, 16\)"),
        (np.zeros((1, 16), np.float64), "float64"),
    ],
)
def test_wrong_input(small: Path, tmp_path: Path, array: Any, complaint: str) -> None:
    """A client's input of another shape or type is refused with both named."""
    np.savez(tmp_path / "input.npz", images=array)
    with pytest.raises(SpuBenchError, match=complaint):
        load_program(small).arrays("client", tmp_path / "input.npz")


def test_stream_of_inputs(small: Path, tmp_path: Path) -> None:
    """Several batches of the client's are taken."""
    np.savez(tmp_path / "input.npz", images=np.zeros((5, 16), np.float32))
    assert load_program(small).arrays("client", tmp_path / "input.npz")["images"].shape == (5, 16)


def test_pickles_are_refused(tmp_path: Path) -> None:
    """An npz with a pickled object is not opened: a Program may come from a stranger."""
    np.savez(tmp_path / "evil.npz", images=np.array([object()], dtype=object))
    with pytest.raises(SpuBenchError, match="elements of type object"):
        read_npz(tmp_path / "evil.npz")


def test_a_program_with_cached_operands_is_refused(copy: Callable[[], Path]) -> None:
    """SPU draws the mask of a cached operand twice: such a Program would give secrets away."""
    directory = copy()
    module = (directory / "module.hlo").read_bytes() + CACHED_OPERAND
    (directory / "module.hlo").write_bytes(module)
    rewrite(directory, lambda m: m["module"].update(sha256=hashlib.sha256(module).hexdigest()))
    with pytest.raises(SpuBenchError, match="gives one party's secrets to the other"):
        load_program(directory).module()
