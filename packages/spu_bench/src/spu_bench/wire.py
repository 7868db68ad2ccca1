"""Protobuf's wire format, and the head of the frames in which brpc sends it. Python 3.8, standard library only.

Sources: protobuf.dev/programming-guides/encoding, and docs/en/baidu_std.md of apache/brpc.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Iterator, Union

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Buffer = Union[bytes, memoryview]

FRAME_HEAD = struct.Struct(">4sII")  # magic, bytes of the body, bytes of the meta data at the body's front
_MAGIC = b"PRPC"


class WireError(ValueError):
    """Bytes that are not in the format that they should have."""


@dataclass(frozen=True)
class Field:
    """A field of a message: its number and wire type, and where it, its value and the next field begin."""

    number: int
    kind: int
    start: int
    value: int
    end: int


def fields(message: Buffer) -> Iterator[Field]:
    """The fields of a message in their order; raises WireError where it is cut off or of an unknown wire type."""
    position = 0
    while position < len(message):
        start = position
        tag, position = read_varint(message, position)
        kind, value = tag & 7, position
        if kind == VARINT:
            _, position = read_varint(message, position)
        elif kind == BYTES:
            length, value = read_varint(message, position)
            position = value + length
        elif kind in (FIXED64, FIXED32):
            position += 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"unknown wire type {kind} at byte {start}")
        if position > len(message):
            raise WireError(f"cut off at byte {start}")
        yield Field(tag >> 3, kind, start, value, position)


def read_varint(data: Buffer, position: int) -> tuple[int, int]:
    """The number that is encoded at `position`, and where the next byte is; raises WireError where it has no end."""
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
    raise WireError(f"cut off at byte {position}")


def write_varint(value: int) -> bytes:
    """The encoding of a number of at least 0."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of wire type BYTES: a string, bytes, or a message in a message."""
    return write_varint(number << 3 | BYTES) + write_varint(len(value)) + value


def read_frame_head(head: bytes) -> tuple[int, int]:
    """Bytes of the body of a frame, and of the meta data in it; raises WireError for the head of another protocol."""
    magic, body_size, meta_size = FRAME_HEAD.unpack(head)
    if magic != _MAGIC:
        raise WireError("not a frame of brpc's standard protocol (baidu_std)")
    return body_size, meta_size
