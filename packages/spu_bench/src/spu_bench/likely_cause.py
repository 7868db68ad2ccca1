"""Why outputs are wrong, as far as the Program and the sizes of its numbers can tell."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np

from spu_bench.comparison import OutputComparison
from spu_bench.errors import SpuBenchError
from spu_bench.options import Options
from spu_bench.party import OWNERS
from spu_bench.program import Array, Program
from spu_bench.runtimes import Runtime
from spu_bench.wire import bytes_field

_RING_BITS = {"FM32": 32, "FM64": 64, "FM128": 128}
_OPCODE = 2
"""The field of an HLO instruction with the operation's name."""
_WIDE = "use options with runtime.field = 'FM128', or smaller numbers."

# What in a module is wrong far from zero or close to it, by the name of HLO's operation.
_SENSITIVE = (
    (
        b"exponential",
        "the exponential: SPU's own is wrong below about -512, as where a mask adds -1e4 to a score",
        "mask with -100, or set runtime.fxp_exp_mode to 'EXP_PADE' in the options.",
    ),
    (
        b"rsqrt",
        "a variance near zero: fixed point holds no number below 2^-18, and 1/sqrt of it no exact value",
        "add a larger epsilon to the variance (1e-3), or scale the input up.",
    ),
    (b"log", "a logarithm of a number near zero", "add a small number before the logarithm."),
    (b"divide", "a divisor near zero: fixed point holds no number below 2^-18", "add a small number to the divisor."),
)


def likely_cause(
    program: Program,
    options: Options,
    runtime: Runtime,
    outputs: Mapping[str, OutputComparison],
    expected: Mapping[str, Array],
) -> tuple[str, str]:
    """The likely cause of wrong `outputs`, and what to do about it: two texts for SpuBenchError.

    A number that the ring does not hold is the cause. Otherwise all that can be are named: operations that are wrong at
    the ends of their range, and a number beyond the ring, first of all where the error is as large as only that makes.
    """
    settings = {**runtime.defaults, **options.runtime}
    bits = _RING_BITS.get(str(settings.get("field")), 64)
    fraction = int(settings.get("fxp_fraction_bits") or 18)
    largest = 2.0 ** (bits - 2 * fraction - 2)
    for name, array in {**_arguments(program), **expected}.items():
        size = float(np.abs(array).max(initial=0.0)) if array.dtype.kind == "f" else 0.0
        if not size < largest:
            return f"the range: {name!r} holds {size:.3g}, and products are exact below {largest:.3g}", _WIDE
    on_the_way = (
        f"the range: a number on the way was beyond the ring, whose products are exact below {largest:.3g}",
        _WIDE,
    )
    is_huge = any(e.max_abs_error is not None and not e.max_abs_error < largest / 2**10 for e in outputs.values())
    if is_huge and settings.get("trunc_allow_msb_error"):
        return "a local truncation that failed, as it does for rare values", "leave out trunc_allow_msb_error."
    causes = _of_operations(program)
    causes.insert(0 if is_huge else len(causes), on_the_way)
    if not is_huge:
        causes.append((f"precision: fixed point has {fraction} bits of fraction", "use more, or state another bound."))
    return ", or ".join(cause for cause, _ in causes), " Or: ".join(fix for _, fix in causes)


def _of_operations(program: Program) -> list[tuple[str, str]]:
    """Causes, with what to do, of operations that the Program has."""
    try:
        module = program.module()
    except SpuBenchError:
        return []
    return [(cause, fix) for operation, cause, fix in _SENSITIVE if bytes_field(_OPCODE, operation) in module]


def _arguments(program: Program) -> dict[str, Array]:
    """All arrays of the Program that are on this host."""
    found: dict[str, Array] = {}
    for holder in OWNERS:
        with contextlib.suppress(SpuBenchError):
            found.update(program.arrays(holder))
    return found
