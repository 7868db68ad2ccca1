"""The change to the HLO: `format` in each layout, wherever one is, and nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.lib import xla_client

from spu_bench.party.spu03.layout import add_layout_formats


def field(number: int, content: bytes | int) -> bytes:
    """One protobuf field, of bytes or of a small number."""
    if isinstance(content, int):
        return bytes([number << 3, content]) if number < 16 else bytes([number << 3 & 127 | 128, number >> 4, content])
    head = number << 3 | 2
    tag = bytes([head]) if head < 128 else bytes([head & 127 | 128, head >> 7])
    size = len(content)
    return tag + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + content


def module(layout_end: bytes) -> bytes:
    """A module with a layout in each place that has one; `layout_end` closes every one of them.

    Field numbers are those of xla/service/hlo.proto and xla/xla_data.proto.
    """
    row_major = field(5, field(1, b"\1\0") + field(6, b"tile") + layout_end)
    shape = field(2, 11) + field(3, b"\2\2") + row_major
    scalar = field(2, 11) + field(5, layout_end)
    pair = field(2, 13) + field(4, shape) + field(4, field(2, 13) + field(4, scalar))
    literal = field(1, shape) + field(8, b"*\0*\0")  # float values that look like empty layouts
    literals = field(1, pair) + field(10, literal) + field(10, field(1, scalar))
    program_shape = field(1, shape) + field(1, pair) + field(2, scalar) + field(3, b"x")
    constant = field(1, b"c*\0") + field(2, b"constant") + field(3, pair) + field(8, literals) + field(35, 7)
    call = field(1, b"call") + field(3, scalar) + field(57, shape) + field(57, scalar)
    computation = field(1, b"main") + field(2, constant) + field(2, call) + field(4, program_shape) + field(5, 9)
    return field(1, b"m") + field(3, computation) + field(3, computation) + field(4, program_shape) + field(5, 1)


def test_every_layout_gets_its_format_and_nothing_else_changes() -> None:
    """The golden module differs in the two bytes of the field alone, with the lengths of what holds it."""
    dense = field(4, 1)
    assert module(dense).count(dense) > module(b"").count(dense) + 15
    assert add_layout_formats(module(b"")) == module(dense)
    assert add_layout_formats(module(dense)) == module(dense)


def test_a_module_of_todays_jax_stays_the_same_to_todays_xla(small: Path) -> None:
    """XLA itself reads the same computation from it, and a second call changes nothing."""
    original = (small / "module.hlo").read_bytes()
    changed = add_layout_formats(original)
    assert len(changed) > len(original) and add_layout_formats(changed) == changed
    text, changed_text = (xla_client.XlaComputation(each).as_hlo_text(True) for each in (original, changed))
    assert changed_text == text and "f32[16,32]{1,0}" in text


def test_a_module_that_is_cut_off_is_refused(small: Path) -> None:
    """Protobuf has no end mark, so a cut between two fields is no error of its form; the checksum finds that."""
    original = (small / "module.hlo").read_bytes()
    with pytest.raises(ValueError, match="not a valid HLO module: cut off"):
        add_layout_formats(original[:-1])
    with pytest.raises(ValueError, match="not a valid HLO module: unknown wire type 7"):
        add_layout_formats(b"\x0f" + original)


@given(st.binary(max_size=200))
def test_garbage_is_refused_by_value_error_alone(data: bytes) -> None:
    """Or kept, where it happens to be protobuf."""
    with contextlib.suppress(ValueError):
        assert len(add_layout_formats(data)) >= len(data)
