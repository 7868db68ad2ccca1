"""Attention weights that need a comparison: the exponential, ReLU, and division by a row's sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...types import NpArray
from ..tuned_fxp.fits import EXP_TOP, Quartic, exp_root
from .arithmetic import Ring, Values, truncate

SCORE_BITS = 13
ROOT_BITS = 13
FOURTH_BITS = 12
EIGHTH_BITS = 12
SUM_BITS = 2 * EIGHTH_BITS
"""Fraction bits of the quartic's argument, of its value y, of y^4, of y^8, and of exp = y^16."""

SCORE_CUT = 16
SHARE_BITS = 14
RESULT_CUT = 40
BORDER_BITS = 6
RESULT_CENTRE = 0.5 * (math.sqrt(2.0) + (0.5 * (1.0 + math.sqrt(2.0))) ** 2)
"""The middle of what `normalise` makes of a sum in its half octave, before its last step."""
RESULT = RESULT_CENTRE**2 * 2.0 ** (4 * SHARE_BITS - RESULT_CUT)
"""Units for 1 in the weights that `normalise` gives."""


@dataclass(frozen=True)
class Octaves:
    """Row sums that `normalise` tells apart: from 2^low to 2^high, with `bits` fraction bits, in half octaves."""

    low: int
    high: int
    bits: int

    def borders(self) -> NpArray:
        """Between the half octaves, in ring units."""
        exponents = np.arange(2 * self.low + 1, 2 * self.high) / 2.0
        return _whole(2.0 ** (exponents + self.bits))

    def multipliers(self) -> NpArray:
        """Of each half octave, the factor that takes its lower border to 2^(high + bits + BORDER_BITS)."""
        exponents = np.arange(2 * self.low, 2 * self.high) / 2.0
        return _whole(2.0 ** (self.high - exponents + BORDER_BITS))


def _whole(x: NpArray) -> NpArray:
    rounded: NpArray = np.rint(x).astype(np.int64)
    return rounded


SOFTMAX_OCTAVES = Octaves(-8, 19, SUM_BITS)
RELU_OCTAVES = Octaves(-8, 8, 20)


def exponential(ring: Ring, a: Values) -> Values:
    """EXP_TOP exp(x) with SUM_BITS, of a = u with SCORE_BITS + SCORE_CUT, u = slope x / 16 - shift; x in [-21, 1].

    The quartic's 16th power. Rounds: 6 products, 4 truncations.
    """
    form: Quartic = exp_root()[0]
    one = 2.0**SCORE_BITS
    (u,) = truncate(ring, [(a, SCORE_CUT)])
    w, v = ring.mul(u, u), u * 2**SCORE_BITS
    product = ring.mul(w + v + round(form.q * one**2), w - v + round(form.r * one**2))
    y = form.sign * product + round(form.k * one**4)
    (y,) = truncate(ring, [(y, 4 * SCORE_BITS - ROOT_BITS)])
    y = ring.mul(y, y)
    y = ring.mul(y, y)
    (y,) = truncate(ring, [(y, 4 * ROOT_BITS - FOURTH_BITS)])
    (y,) = truncate(ring, [(ring.mul(y, y), 2 * FOURTH_BITS - EIGHTH_BITS)])
    return ring.mul(y, y)


def normalise(ring: Ring, x: Values, octaves: Octaves) -> tuple[Values, Values]:
    """`RESULT` x / sum of x over the last axis, x >= 0 (..., n), and values that must not be positive (..., 1).

    A sum is compared with the borders of all half octaves at once, which gives the whole number that takes it to
    o in [1, sqrt 2]. There y = x (1 + sqrt 2 - o) has a sum near c = 1.44, and y (2 c - sum of y) one of c^2, within
    2.3e-4. Sums below all octaves give smaller weights. Rounds: 8 for the comparison, 3 products, 2 truncations.
    """
    xp = ring.xp
    total = xp.sum(x, axis=-1, keepdims=True)
    multipliers = octaves.multipliers()
    above = ring.positive(total - octaves.borders())
    factor = xp.sum(above * np.diff(multipliers), axis=-1, keepdims=True) + int(multipliers[0])
    grown = ring.mul(x, xp.broadcast_to(factor, x.shape))
    (share,) = truncate(ring, [(grown, octaves.high + octaves.bits + BORDER_BITS - SHARE_BITS)])
    one = 2.0**SHARE_BITS
    o = xp.sum(share, axis=-1, keepdims=True)
    y = ring.mul(share, xp.broadcast_to(round((1.0 + math.sqrt(2.0)) * one) - o, share.shape))
    rest = round(2.0 * RESULT_CENTRE * one**2) - xp.sum(y, axis=-1, keepdims=True)
    (weights,) = truncate(ring, [(ring.mul(y, xp.broadcast_to(rest, y.shape)), RESULT_CUT)])
    return weights, o - round(1.5 * one)


def softmax_shift(lowest: float, highest: float, margin: float) -> tuple[float, float]:
    """(factor of the scores, shift to add) to give `exponential` its u from a score, by the calibrated log sums."""
    form = exp_root()[0]
    # The largest row sum at the top of the octaves; where all fit lower, the smallest two octaves up.
    high = 2.0**SOFTMAX_OCTAVES.high / margin
    top = max(highest + math.log(EXP_TOP / high), lowest + math.log(EXP_TOP / 4.0))
    return form.slope / 16.0, -form.slope / 16.0 * top - form.shift


def relu_factor(lowest: float, highest: float, margin: float) -> float:
    """The factor of the scores that brings the calibrated row sums into `RELU_OCTAVES`."""
    return min(2.0**RELU_OCTAVES.high / margin / highest, 4.0 / max(lowest, 1e-3))
