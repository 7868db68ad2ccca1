"""Arrays of any type as the two types that a Program has: float32 and int32. What would change a value is refused."""

from __future__ import annotations

from typing import Any

import numpy as np

from spu_bench.errors import SpuBenchError
from spu_bench.program import Array

LARGEST = 2.0**44
"""Fixed point of 64 bits with 18 bits of fraction holds numbers below 2^45; SPU wants half of it for the sign."""

_SMALL_FLOATS = ("bfloat16", "float16")


def refusal(name: str, problem: str, fix: str) -> SpuBenchError:
    """The error for an array that cannot go into a Program."""
    return SpuBenchError(f"The array {name!r} {problem}.", fix, "bad_input")


def to_program_type(name: str, value: Any) -> tuple[Array, str | None]:
    """`value` as float32 or int32, and a note where its type changed (None: it did not).

    bfloat16, float16, bool and small whole numbers convert exactly, float64 by rounding, larger whole numbers where all
    values fit. Raises SpuBenchError that names the array where a value is not finite, too large, or of another type.
    """
    array = np.asarray(value)
    kind = array.dtype.name
    is_float = array.dtype.kind == "f" or kind in _SMALL_FLOATS or kind.startswith("float8")
    if is_float:
        with np.errstate(over="ignore"):
            converted = array.astype(np.float32)
        _require_finite(name, converted)
    elif array.dtype.kind in "iub":
        converted = array.astype(np.int32)
        if array.dtype.itemsize >= 4 and not np.array_equal(converted, array):
            raise refusal(
                name, f"is {kind} and holds values that int32 does not", "make them smaller, then use .astype('int32')."
            )
    else:
        raise refusal(name, f"is {kind}; a Program has float32 and int32", "convert it with .astype('float32').")
    if converted.dtype == array.dtype:
        return converted, None
    exact = " (rounded)" if kind == "float64" and not np.array_equal(converted, array) else ""
    return converted, f"{name}: {kind} is stored as {converted.dtype.name}{exact}."


def _require_finite(name: str, array: Array) -> None:
    bad = array[~np.isfinite(array)]
    if bad.size:
        raise refusal(
            name,
            f"holds {bad.size} values that are NaN or infinite (or larger than float32 holds)",
            "replace them, for example by numpy.nan_to_num(array, posinf=1e4, neginf=-1e4).",
        )
    if array.size and (largest := float(np.abs(array).max())) >= LARGEST:
        raise refusal(
            name,
            f"holds values up to {largest:.3g}, fixed point holds numbers below {LARGEST:.3g}",
            "scale it down.",
        )
