"""The mend that lets SPU 0.3.1b0 read the HLO of a newer JAX.

Every LayoutProto once had a field 4, `format`, and the old XLA takes a layout without it for none at all: "LiteralProto
has no layout". Newer XLA writes no such field. Setting it to 1 (DENSE) everywhere is all that is missing.
"""

from __future__ import annotations

from typing import Dict, Iterator, Union

# Where layouts lie in an HloModuleProto, by field number (xla/service/hlo.proto, xla/xla_data.proto).
_Schema = Dict[int, Union["_Schema", str]]
_LAYOUT = "layout"
_SHAPE: _Schema = {5: _LAYOUT}
_SHAPE[4] = _SHAPE  # tuple_shapes
_LITERAL: _Schema = {1: _SHAPE}
_LITERAL[10] = _LITERAL  # tuple_literals
_PROGRAM_SHAPE: _Schema = {1: _SHAPE, 2: _SHAPE}
_INSTRUCTION: _Schema = {3: _SHAPE, 8: _LITERAL, 57: _SHAPE}
_COMPUTATION: _Schema = {2: _INSTRUCTION, 4: _PROGRAM_SHAPE}
_MODULE: _Schema = {3: _COMPUTATION, 4: _PROGRAM_SHAPE}

_FORMAT, _DENSE = 4, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def mend_layouts(module: bytes) -> bytes:
    """The serialized HloModuleProto with `format` = DENSE in each layout that lacks it; all else is kept as it is.

    Raises ValueError where `module` is not in protobuf's wire format.
    """
    return _mend(module, _MODULE)


def _mend(message: bytes, schema: _Schema | str) -> bytes:
    parts = []
    has_format = False
    for number, start, value, end in _fields(message):
        has_format = has_format or number == _FORMAT
        below = schema.get(number) if isinstance(schema, dict) else None
        if below is None:
            parts.append(message[start:end])
        else:
            mended = _mend(message[value:end], below)
            parts += [_varint(number << 3 | _BYTES), _varint(len(mended)), mended]
    if schema == _LAYOUT and not has_format:
        parts.append(bytes([_FORMAT << 3 | _VARINT, _DENSE]))
    return b"".join(parts)


def _fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Each field: its number, where it starts, where its value starts, where it ends."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _read_varint(message, position)
        kind, value = tag & 7, position
        if kind == _VARINT:
            _, position = _read_varint(message, position)
        elif kind == _BYTES:
            length, value = _read_varint(message, position)
            position = value + length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"this is no HLO module: wire type {kind} at byte {start}")
        if position > len(message):
            raise ValueError(f"this HLO module is cut off at byte {start}")
        yield tag >> 3, start, value, position


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
    raise ValueError(f"this HLO module is cut off at byte {position}")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
