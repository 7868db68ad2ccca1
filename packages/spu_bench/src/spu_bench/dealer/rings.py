"""Arithmetic of the rings FM32, FM64 and FM128 and of two prime fields, on whole arrays.

A ring of 32 or 64 bits is NumPy's own unsigned type. A number of 128 bits is two 64-bit words, low word first, as it
is in memory: shape (..., 2). Matrix products go through BLAS: numbers are cut into pieces of 22 bits, whose products
add up exactly in float64 over 512 terms.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.unsignedinteger[Any]]
Words = npt.NDArray[np.uint64]

_PIECE = 22
_TERMS = 512  # 2 ** (22 + 22) * 512 = 2 ** 53: exact in float64
_MASK32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


class Ring(Protocol):
    """What the answers are computed with. Arrays have the shape of the operand (and a last axis of 2 for 128 bits)."""

    bits: int

    def read(self, data: bytes | memoryview) -> Array: ...
    def shaped(self, a: Array, rows: int, columns: int, turned: bool) -> Array: ...
    def add(self, a: Array, b: Array) -> Array: ...
    def subtract(self, a: Array, b: Array) -> Array: ...
    def multiply(self, a: Array, b: Array) -> Array: ...
    def matmul(self, a: Array, b: Array) -> Array: ...
    def shift_left(self, a: Array, bits: int) -> Array: ...
    def shift_right(self, a: Array, bits: int) -> Array: ...
    def shift_signed(self, a: Array, bits: int) -> Array: ...


class WordRing:
    """FM32 and FM64: one machine word an element."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._type = np.dtype(f"<u{bits // 8}")
        self._signed = np.dtype(f"<i{bits // 8}")

    def read(self, data: bytes | memoryview) -> Array:
        return np.frombuffer(data, self._type)

    def shaped(self, a: Array, rows: int, columns: int, turned: bool) -> Array:
        """`a` as a matrix of `rows` by `columns`; `turned`: it is stored as the transposed matrix."""
        return a.reshape(columns, rows).T if turned else a.reshape(rows, columns)

    def add(self, a: Array, b: Array) -> Array:
        made: Array = a + b
        return made

    def subtract(self, a: Array, b: Array) -> Array:
        made: Array = a - b
        return made

    def multiply(self, a: Array, b: Array) -> Array:
        made: Array = a * b
        return made

    def matmul(self, a: Array, b: Array) -> Array:
        made = np.zeros((a.shape[0], b.shape[1]), np.uint64)
        count = -(-self.bits // _PIECE)
        for at, total in _products(_pieces(a, count), _pieces(b, count)):
            made += total << np.uint64(_PIECE * at)
        return made.astype(self._type)

    def shift_left(self, a: Array, bits: int) -> Array:
        made: Array = a << self._type.type(bits)
        return made

    def shift_right(self, a: Array, bits: int) -> Array:
        made: Array = a >> self._type.type(bits)
        return made

    def shift_signed(self, a: Array, bits: int) -> Array:
        made: Array = (a.view(self._signed) >> self._signed.type(bits)).view(self._type)
        return made


class WideRing:
    """FM128: two words an element."""

    bits = 128

    def read(self, data: bytes | memoryview) -> Array:
        return np.frombuffer(data, "<u8").reshape(-1, 2)

    def shaped(self, a: Array, rows: int, columns: int, turned: bool) -> Array:
        return a.reshape(columns, rows, 2).transpose(1, 0, 2) if turned else a.reshape(rows, columns, 2)

    def add(self, a: Array, b: Array) -> Array:
        made = a + b
        made[..., 1] += made[..., 0] < a[..., 0]
        return made

    def subtract(self, a: Array, b: Array) -> Array:
        made = a - b
        made[..., 1] -= a[..., 0] < b[..., 0]
        return made

    def multiply(self, a: Array, b: Array) -> Array:
        made = np.empty_like(a)
        made[..., 0] = a[..., 0] * b[..., 0]
        made[..., 1] = high_word(a[..., 0], b[..., 0]) + a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
        return made

    def matmul(self, a: Array, b: Array) -> Array:
        made = np.zeros((a.shape[0], b.shape[1], 2), np.uint64)
        for at, total in _products(_wide_pieces(a), _wide_pieces(b)):
            term = np.zeros_like(made)
            term[..., 0] = total
            made = self.add(made, self.shift_left(term, _PIECE * at))
        return made

    def shift_left(self, a: Array, bits: int) -> Array:
        made = np.zeros_like(a)
        if bits >= 64:
            made[..., 1] = a[..., 0] << np.uint64(bits - 64)
            return made
        made[..., 0] = a[..., 0] << np.uint64(bits)
        made[..., 1] = a[..., 1] << np.uint64(bits)
        if bits:
            made[..., 1] |= a[..., 0] >> np.uint64(64 - bits)
        return made

    def shift_right(self, a: Array, bits: int) -> Array:
        return self._right(a, a[..., 1], bits)

    def shift_signed(self, a: Array, bits: int) -> Array:
        return self._right(a, a[..., 1].view(np.int64), bits)

    def _right(self, a: Array, high: npt.NDArray[np.integer[Any]], bits: int) -> Array:
        """Shift right; the type of `high` (signed or not) says what comes in at the top."""
        made = np.empty_like(a)
        kind = high.dtype.type
        if bits >= 64:
            made[..., 0] = (high >> kind(bits - 64)).view(np.uint64)
            made[..., 1] = (high >> kind(63)).view(np.uint64) if kind is np.int64 else 0
            return made
        made[..., 0] = a[..., 0] >> np.uint64(bits)
        if bits:
            made[..., 0] |= a[..., 1] << np.uint64(64 - bits)
        made[..., 1] = (high >> kind(bits)).view(np.uint64)
        return made


class PrimeField:
    """Numbers modulo 2 ** 61 - 1 (in 64 bits) or 2 ** 127 - 1 (in 128 bits): SPU's GFMP, for its exponential.

    Sums and products are few and small, so they are done on Python's integers.
    """

    def __init__(self, field_size: int) -> None:
        self._size = field_size
        self.prime = (1 << (61 if field_size == 8 else 127)) - 1

    def read(self, data: bytes) -> list[int]:
        """Elements of a drawn range: the low bits of each; the prime itself counts as zero."""
        numbers = (int.from_bytes(data[at : at + self._size], "little") for at in range(0, len(data), self._size))
        return [n & self.prime if n & self.prime != self.prime else 0 for n in numbers]

    def write(self, numbers: list[int]) -> bytes:
        """The numbers as memory holds them."""
        return b"".join((n % self.prime).to_bytes(self._size, "little") for n in numbers)


def ring(field_size: int) -> Ring:
    """The ring whose elements have `field_size` bytes (4, 8 or 16)."""
    return WideRing() if field_size == 16 else WordRing(8 * field_size)


def high_word(a: Words, b: Words) -> Words:
    """The high 64 bits of the 128-bit products of two arrays of words."""
    a_low, a_high, b_low, b_high = a & _MASK32, a >> _32, b & _MASK32, b >> _32
    first = a_high * b_low + ((a_low * b_low) >> _32)
    second = a_low * b_high + (first & _MASK32)
    made: Words = a_high * b_high + (first >> _32) + (second >> _32)
    return made


def _pieces(a: Array, count: int) -> list[npt.NDArray[np.float64]]:
    words = a.astype(np.uint64, copy=False)
    mask = np.uint64((1 << _PIECE) - 1)
    return [((words >> np.uint64(_PIECE * i)) & mask).astype(np.float64) for i in range(count)]


def _wide_pieces(a: Array) -> list[npt.NDArray[np.float64]]:
    low, high = a[..., 0], a[..., 1]
    mask = np.uint64((1 << _PIECE) - 1)
    made = [(low >> np.uint64(_PIECE * i)) & mask for i in range(2)]
    made.append(((low >> np.uint64(44)) | (high << np.uint64(20))) & mask)
    made += [(high >> np.uint64(_PIECE * i - 64)) & mask for i in range(3, 6)]
    return [piece.astype(np.float64) for piece in made]


def _products(a: list[npt.NDArray[np.float64]], b: list[npt.NDArray[np.float64]]) -> list[tuple[int, Words]]:
    """The product of two numbers cut into pieces, by place: (place, sum of the products that belong there)."""
    made = []
    for first in range(0, a[0].shape[1], _TERMS):
        part = slice(first, first + _TERMS)
        for place in range(len(a)):
            products = ((a[i][:, part] @ b[place - i][part]).astype(np.uint64) for i in range(place + 1))
            made.append((place, reduce(np.add, products)))
    return made
