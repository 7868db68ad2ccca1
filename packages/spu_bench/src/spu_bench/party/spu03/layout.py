"""The change that lets SPU 0.3.1b0 read the HLO of a newer JAX.

Every LayoutProto once had a field 4, `format`, and the old XLA refuses a layout without it: "LiteralProto has no
layout". Newer XLA does not write it. Setting it to 1 (DENSE) in every layout is all that is needed.
"""

from __future__ import annotations

from typing import Dict, Union

from spu_bench.wire import VARINT, WireError, bytes_field, fields

# Where layouts are in an HloModuleProto, by field number (xla/service/hlo.proto, xla/xla_data.proto).
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


def add_layout_formats(module: bytes) -> bytes:
    """The serialized HloModuleProto with `format` = DENSE in each layout that lacks it; nothing else changes.

    Raises ValueError where `module` is not in protobuf's wire format.
    """
    try:
        return _rewrite(module, _MODULE)
    except WireError as error:
        raise ValueError(f"the module is not a valid HLO module: {error}") from None


def _rewrite(message: bytes, schema: _Schema | str) -> bytes:
    parts = []
    has_format = False
    for field in fields(message):
        has_format = has_format or field.number == _FORMAT
        below = schema.get(field.number) if isinstance(schema, dict) else None
        if below is None:
            parts.append(message[field.start : field.end])
        else:
            parts.append(bytes_field(field.number, _rewrite(message[field.value : field.end], below)))
    if schema == _LAYOUT and not has_format:
        parts.append(bytes([_FORMAT << 3 | VARINT, _DENSE]))
    return b"".join(parts)
