"""Protobuf's fields and brpc's frames: what is written is read, and garbage is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spu_bench import wire


@given(st.integers(0, 2**63))
def test_a_number_comes_back(value: int) -> None:
    encoded = wire.write_varint(value)
    assert wire.read_varint(b"\xff" + encoded + b"\1", 1) == (value, 1 + len(encoded))


@given(st.lists(st.tuples(st.integers(1, 2**20), st.binary(max_size=300)), max_size=5))
def test_fields_come_back(parts: list[tuple[int, bytes]]) -> None:
    """In order, from bytes and from a view of them."""
    message = b"".join(wire.bytes_field(number, value) for number, value in parts)
    for data in (message, memoryview(message)):
        found = [(field.number, bytes(data[field.value : field.end])) for field in wire.fields(data)]
        assert found == parts


def test_every_wire_type_is_passed_over() -> None:
    """A number, eight bytes, a string, four bytes."""
    message = b"\x08\x96\x01" + b"\x11" + bytes(8) + b"\x1a\x01x" + b"\x25" + bytes(4)
    kinds = [(field.number, field.kind, field.end - field.start) for field in wire.fields(message)]
    assert kinds == [(1, wire.VARINT, 3), (2, wire.FIXED64, 9), (3, wire.BYTES, 3), (4, wire.FIXED32, 5)]


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (b"\x0f", "unknown wire type 7 at byte 0"),
        (b"\x0a\x05ab", "cut off at byte 0"),
        (b"\x08\xff", "cut off at byte 2"),
    ],
)
def test_what_is_no_message_is_refused(message: bytes, complaint: str) -> None:
    with pytest.raises(wire.WireError, match=complaint):
        list(wire.fields(message))


@given(st.binary(max_size=60))
def test_garbage_raises_wire_errors_alone(data: bytes) -> None:
    """Or it happens to be a message, whose fields then hold all of it."""
    with contextlib.suppress(wire.WireError):
        assert b"".join(data[field.start : field.end] for field in wire.fields(data)) == data


def test_the_head_of_a_frame() -> None:
    assert wire.read_frame_head(b"PRPC" + bytes([0, 0, 1, 2, 0, 0, 0, 9])) == (258, 9)
    with pytest.raises(wire.WireError, match="not a frame of brpc"):
        wire.read_frame_head(b"HULU" + bytes(8))
