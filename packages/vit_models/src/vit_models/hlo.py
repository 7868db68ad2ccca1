"""From a JAX function to the bytes of its HLO module, without what depends on where and when it was made.

JAX's own bindings differ between the supported versions (0.10 has no HloModule), and no version comes with Python
classes for HLO's messages. So the few fields to drop are cut out of the serialized message here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Union

import jax
from jax import experimental

from .types import Array, NpArray

# {field number: None to drop it, or the same for the message in it}
Dropped = Mapping[int, Union["Dropped", None]]

# Of HloModuleProto the module's id (5), its table of source lines (17), and of every instruction (2) of every
# computation (3) the metadata (7), which names source files too.
_PROVENANCE: Dropped = {5: None, 17: None, 3: {2: {7: None}}}


def wide_integers(on: bool = True) -> AbstractContextManager[Any]:
    """A context in which JAX keeps 64-bit numbers (with `on`; else no change)."""
    # jax 0.10 has moved it out of `experimental`.
    wide: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64
    return wide(True) if on else nullcontext()


def lower_to_hlo(fn: Callable[..., Array], values: Sequence[NpArray]) -> bytes:
    """Serialized HloModuleProto of `fn(*values)`, with one module parameter for each of the values, in their order.

    Lowered for XLA's interpreter platform, which takes no CPU- or GPU-specific form of an operation.
    """
    struct: Any = jax.ShapeDtypeStruct
    shapes = [struct(v.shape, v.dtype) for v in values]
    traced = jax.jit(fn, keep_unused=True).trace(*shapes)
    module: Any = traced.lower(lowering_platforms=("interpreter",)).compiler_ir("hlo")
    return without_fields(bytes(module.as_serialized_hlo_module_proto()), _PROVENANCE)


def without_fields(message: bytes, dropped: Dropped) -> bytes:
    """A serialized protobuf message without the fields `dropped`; every other byte stays as it is."""
    kept = bytearray()
    position = 0
    while position < len(message):
        start = position
        key, position = _read_varint(message, position)
        number, wire_type = key >> 3, key & 7
        body = position
        if wire_type == 0:
            _, position = _read_varint(message, position)
        elif wire_type == 2:
            length, body = _read_varint(message, position)
            position = body + length
        else:
            position += {1: 8, 5: 4}[wire_type]
        inner_dropped = dropped.get(number, {})
        if inner_dropped is None:
            continue
        if inner_dropped:
            inner = without_fields(message[body:position], inner_dropped)
            kept += _varint(key) + _varint(len(inner)) + inner
        else:
            kept += message[start:position]
    return bytes(kept)


def _varint(value: int) -> bytes:
    """Base-128 form of `value`."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The base-128 number at `position`, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
