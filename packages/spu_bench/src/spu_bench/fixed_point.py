"""Which values a runtime can represent: the range of fixed point in its ring.

A value x is an integer x 2^f in a ring of k bits, f of them fraction bits. Two limits follow:

1. SPU encodes saturated: beyond 2^(k-2-f) it silently takes the largest value, and NaN becomes a number
   (measured with SPU 0.9.5 for k = 32, 64 and 128).
2. A product of two values has 2f fraction bits until it is truncated, and truncation leaves the two top bits of the
   ring: one is the sign, the other keeps the masked value from wrapping. So x times 1 comes out right for
   |x| < 2^(k-2-2f) alone, which is the smaller limit. For k = 64 and f = 18 it is 2^26 = 67,108,864.

The limit is necessary and not sufficient: a value inside it may still overflow where it meets a large factor, which the
comparison with plaintext finds. An integer has no fraction bits: |x| < 2^(k-2). A Program of whole ring numbers places
its truncations itself, so that only the first limit holds for its floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.npz import Array

_RINGS = {"FM32": (32, 8), "FM64": (64, 18), "FM128": (128, 26)}
"""Bits of each ring of SPU, and the fraction bits that SPU takes where it is given 0."""

_CRYPTEN = (64, 16)
_LEAST_RANGE_BITS = 4
"""A ring that cannot represent values up to 2^4 is of no use for a model: its logits are of this size."""


@dataclass(frozen=True)
class FixedPoint:
    """A ring of `ring_bits` bits with `fraction_bits` of them behind the point.

    `truncates` says that every product of floats is truncated by the runtime, as it is except for whole ring numbers.
    """

    ring_bits: int
    fraction_bits: int
    truncates: bool = True

    def limit(self, array: Array) -> float:
        """The value below which those of `array` have to be in size."""
        behind_the_point = self.fraction_bits * (2 if self.truncates else 1)
        fraction = behind_the_point if array.dtype.kind == "f" else 0
        return float(2.0 ** (self.ring_bits - 2 - fraction))

    def check_array(self, name: str, array: Array) -> None:
        """Raise SpuBenchError where a value of `array` is not finite, or cannot be represented."""
        if not np.isfinite(array).all():
            raise SpuBenchError(
                f"The array {name!r} has values that are not finite (NaN or infinity).",
                "give finite values: fixed point has no others.",
                "bad_input",
            )
        # the negative of the smallest integer is no integer of its type
        largest = max(abs(float(array.max())), abs(float(array.min()))) if array.size else 0.0
        if largest >= self.limit(array):
            raise SpuBenchError(
                f"The array {name!r} has values up to {largest:.3g}. A ring of {self.ring_bits} bits with "
                f"{self.fraction_bits} fraction bits takes values below {self.limit(array):.3g}.",
                "scale the values, or use fewer fraction bits or a larger ring (options fxp_fraction_bits and field).",
                "bad_input",
            )


def fixed_point(runtime: str, settings: Mapping[str, Any], *, truncates: bool = True) -> FixedPoint:
    """The ring that `runtime` computes in under `settings`, the table [runtime] of the options.

    `truncates` is as in `FixedPoint`.
    Raises SpuBenchError for fraction bits that leave no room for values.
    """
    known = runtimes.get(runtime)
    if known.counted_by == "crypten":
        (ring_bits, default), name = _CRYPTEN, "encoder.precision_bits"
        encoder = settings.get("encoder")
        given = encoder.get("precision_bits", default) if isinstance(encoder, Mapping) else default
    else:
        values = {**known.defaults, **settings}
        (ring_bits, default), name = _RINGS.get(str(values["field"]), _RINGS["FM64"]), "fxp_fraction_bits"
        given = values[name] or default
    most = (ring_bits - 2 - _LEAST_RANGE_BITS) // (2 if truncates else 1)
    if isinstance(given, bool) or not isinstance(given, int) or not 0 < given <= most:
        raise SpuBenchError(
            f"{name} cannot be {given!r}: products in a ring of {ring_bits} bits overflow beyond {most} fraction bits.",
            f"give a whole number from 1 to {most}, or a larger ring.",
            "bad_input",
        )
    return FixedPoint(ring_bits, given, truncates)
