"""Whole numbers modulo 2^64 in three forms: on SPU, exactly in NumPy, and as real numbers without rounding.

The kernels of this package are written once, over the operations of `Ring`. Everything else that they do is free under
SEMI2K: sums, products with public whole numbers, slices, joins and selections by public masks.

What each party sees: of `dot`, `mul` and `truncate` only the openings of SEMI2K's own protocols, which are masked by
fresh uniform ring elements; of `positive` and `relu` only those of its comparison. No operation here reveals a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax import lax

from ...types import NpArray

Values = Any  # a JAX array (SPU) or a NumPy array (the other two): the kernels use what both have

FRACTION_BITS = 40
"""SPU's `fxp_fraction_bits` for every Program of these kernels: the bits that it truncates by, at 8 bytes a number.

Images come in, and logits go out, with these bits. 32 bits would send 4 bytes a number, but leave 8 bits less for the
products before a truncation: about three rounds a block more, which cost more than the bytes on any network slower than
about 1 Gbit/s.
"""

LIMIT = 2.0**62
"""Exact truncation and comparison are right for numbers below this."""


@runtime_checkable
class Ring(Protocol):
    """The operations that cost rounds: `dot` and `mul` 1, `truncate` 1, `positive` and `relu` 8."""

    xp: Any

    def dot(self, a: Values, b: Values) -> Values:
        """The matrix product."""

    def mul(self, a: Values, b: Values) -> Values:
        """The product of each pair of numbers."""

    def shift(self, x: Values) -> Values:
        """x / 2^FRACTION_BITS, off by less than one; |x| < 2^62."""

    def positive(self, x: Values) -> Values:
        """1 where x > 0, else 0; |x| < 2^62."""

    def relu(self, x: Values) -> Values:
        """max(x, 0); |x| < 2^62."""

    def from_images(self, images: Values) -> Values:
        """Float images as ring numbers with `FRACTION_BITS`."""

    def to_logits(self, x: Values) -> Values:
        """Ring numbers with `FRACTION_BITS` as floats."""


def truncate(ring: Ring, parts: Sequence[tuple[Values, int]]) -> list[Values]:
    """Each x / 2^bits of the (x, bits), bits up to FRACTION_BITS: one call. Fewer bits are a public factor first."""
    assert all(0 <= bits <= FRACTION_BITS for _, bits in parts), [bits for _, bits in parts]
    flat = [x.reshape(-1) * 2 ** (FRACTION_BITS - bits) for x, bits in parts]
    cut = ring.shift(flat[0] if len(flat) == 1 else ring.xp.concatenate(flat))
    found, start = [], 0
    for x, _ in parts:
        found.append(cut[start : start + x.size].reshape(x.shape))
        start += x.size
    return found


class SpuRing:
    """The operations as SPU computes them from the lowered module; trace with 64-bit integers."""

    xp: Any = jnp

    def dot(self, a: Values, b: Values) -> Values:
        return jnp.matmul(a, b)

    def mul(self, a: Values, b: Values) -> Values:
        return a * b

    def shift(self, x: Values) -> Values:
        # A product of matrices and not of numbers, which SPU would compute with other constants: x 2^-T as x 2^(T - 1),
        # truncated by 2 T - 1 bits.
        column = lax.bitcast_convert_type(x, jnp.float64).reshape(-1, 1)
        cut = lax.dot(column, jnp.asarray([[2.0**-FRACTION_BITS]]))
        return lax.bitcast_convert_type(cut, jnp.int64).reshape(x.shape)

    def positive(self, x: Values) -> Values:
        return jnp.where(x > 0, 1, 0)

    def relu(self, x: Values) -> Values:
        return jnp.where(x > 0, x, 0)

    def from_images(self, images: Values) -> Values:
        return lax.bitcast_convert_type(images.astype(jnp.float64), jnp.int64)

    def to_logits(self, x: Values) -> Values:
        return lax.bitcast_convert_type(x, jnp.float64).astype(jnp.float32)


class ExactRing:
    """The same numbers in NumPy, modulo 2^64; with a generator, truncation rounds at random as SPU's does."""

    xp: Any = np

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        self._rng = rng

    def dot(self, a: Values, b: Values) -> Values:
        return _wrapping_dot(a, b)

    def mul(self, a: Values, b: Values) -> Values:
        return a * b

    def shift(self, x: Values) -> Values:
        down = x >> FRACTION_BITS
        if self._rng is None:
            return down + ((x >> (FRACTION_BITS - 1)) & 1)
        rest = (x - (down << FRACTION_BITS)).astype(np.float64) * 2.0**-FRACTION_BITS
        return down + (self._rng.random(x.shape) < rest)

    def positive(self, x: Values) -> Values:
        return (x > 0).astype(np.int64)

    def relu(self, x: Values) -> Values:
        return np.maximum(x, 0)

    def from_images(self, images: Values) -> Values:
        return np.rint(np.asarray(images, dtype=np.float64) * 2.0**FRACTION_BITS).astype(np.int64)

    def to_logits(self, x: Values) -> Values:
        return x * 2.0**-FRACTION_BITS


class RealRing:
    """The same kernels over real numbers: no rounding, no wrapping, and what they cost.

    `largest` is the largest number that a truncation or comparison got, `rounds` and `sent` (bytes) are what each of
    two parties sends under SEMI2K with SPU 0.9.5.
    """

    xp: Any = np

    def __init__(self) -> None:
        self.largest, self.rounds, self.sent = 0.0, 0, 0

    def dot(self, a: Values, b: Values) -> Values:
        self._pay(1, 8 * (a.size + b.size))
        return a @ b

    def mul(self, a: Values, b: Values) -> Values:
        self._pay(1, 16 * a.size)
        return a * b

    def shift(self, x: Values) -> Values:
        self._see(x)
        self._pay(1, 8 * x.size)
        return x * 2.0**-FRACTION_BITS

    def positive(self, x: Values) -> Values:
        self._see(x)
        self._pay(8, 57 * x.size)
        return (x > 0).astype(np.float64)

    def relu(self, x: Values) -> Values:
        self._see(x)
        self._pay(8, 72 * x.size)
        return np.maximum(x, 0.0)

    def from_images(self, images: Values) -> Values:
        return np.asarray(images, dtype=np.float64) * 2.0**FRACTION_BITS

    def to_logits(self, x: Values) -> Values:
        return x * 2.0**-FRACTION_BITS

    def _see(self, x: Values) -> None:
        if x.size:
            self.largest = max(self.largest, float(np.abs(x).max()))

    def _pay(self, rounds: int, sent: int) -> None:
        self.rounds += rounds
        self.sent += sent


def _wrapping_dot(a: NpArray, b: NpArray) -> NpArray:
    """a @ b modulo 2^64: by float64 products of 3 pieces of each operand, which stay exact below 2^53."""
    pieces, width = 3, 22
    if a.shape[-1] > 2**8:
        half = a.shape[-1] // 2
        return _wrapping_dot(a[..., :half], b[..., :half, :]) + _wrapping_dot(a[..., half:], b[..., half:, :])
    left, right = (_pieces(x, pieces, width) for x in (a, b))
    total = np.zeros((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1]), dtype=np.int64)
    for i, x in enumerate(left):
        for j, y in enumerate(right):
            if (i + j) * width < 64:
                total += (x @ y).astype(np.int64) << ((i + j) * width)
    return total


def _pieces(x: NpArray, pieces: int, width: int) -> list[NpArray]:
    """x as signed digits to the base 2^width, the last one with the sign."""
    found = []
    for i in range(pieces):
        digit = x if i == pieces - 1 else x & (2**width - 1)
        found.append(digit.astype(np.float64))
        x = (x - digit) >> width
    return found
