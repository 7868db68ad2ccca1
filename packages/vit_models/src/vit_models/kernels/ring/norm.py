"""LayerNorm and the product that follows it: d @ kernel / sqrt(variance of d), d centred."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...calibration import Range
from ...types import NpArray
from ..tuned_fxp.fits import Factors
from .arithmetic import FRACTION_BITS, Ring, Values, truncate
from .polynomials import root_factors

EPS = 1e-5
SQUARE_BITS = 60.0
"""Bits of the largest factor of 1 / sqrt before its truncation."""
FACTOR_BITS = 21.0
"""Bits of the largest factor of 1 / sqrt after a truncation, which takes no more than 22."""
MERGED_BITS = 10.5
"""Least bits of the last two factors with which their product needs no truncation of its own."""


@dataclass(frozen=True)
class NormPlan:
    """The public structure of one LayerNorm.

    `square_cut` is the truncation of the sums of squares (0: none), `cuts` are those of the factors by level. The
    class token's sum of squares is multiplied by 4^class_power (the other tokens' for a negative one).
    """

    factors: int
    square_cut: int
    cuts: tuple[int, ...]
    class_power: int


@dataclass(frozen=True)
class TokenRange:
    """Variances of the class token (None: it is not read, or there is none) and of the other tokens."""

    cls: Range | None
    rest: Range | None


@dataclass(frozen=True)
class NormFit:
    """A LayerNorm before its scales are known: the fit of 1 / sqrt on the joint range."""

    lo: float
    hi: float
    class_power: int
    factors: Factors

    @staticmethod
    def of(ranges: TokenRange, margin: float, tolerance: float) -> NormFit:
        """The fit on both ranges, widened by `margin`, with the class token's moved to the others by a power of 4."""
        cls, rest = (None if r is None else (r.lo / margin, r.hi * margin) for r in (ranges.cls, ranges.rest))
        power = 0
        if cls and rest:
            power = round(0.5 * math.log2(math.sqrt(rest[0] * rest[1]) / math.sqrt(cls[0] * cls[1])))
            up_cls, up_rest = 4.0 ** max(power, 0), 4.0 ** max(-power, 0)
            lo = min(cls[0] * up_cls, rest[0] * up_rest)
            hi = max(cls[1] * up_cls, rest[1] * up_rest)
        else:
            only = cls or rest
            assert only is not None
            lo, hi = only
        return NormFit(lo + EPS, hi + EPS, power, root_factors(lo + EPS, hi + EPS, tolerance))

    def _values(self) -> NpArray:
        """(factors, points): the factors over the range, in units of the half range squared."""
        z = np.linspace(-1.0, 1.0, 129)
        return np.stack([z * z + p * z + c for p, c in zip(self.factors.linear, self.factors.constant)])

    def most_per_variance(self) -> float:
        """Largest number of ring units for a variance of 1 for which factors stay below 2^SQUARE_BITS."""
        return math.sqrt(2.0**SQUARE_BITS / float(np.abs(self._values()).max())) / (0.5 * (self.hi - self.lo))

    def fold(self, unit: float, root_scale: float) -> tuple[NormPlan, dict[str, NpArray], float]:
        """(plan, arrays, scale): `unit` ring units are a variance of 1, and `root_scale` is asked of the root.

        root = scale / sqrt(variance), with a scale near root_scale.
        """
        square_cut = 0
        if unit > 1.001 * self.most_per_variance():
            square_cut = max(0, math.ceil(math.log2(self.hi * unit) - FACTOR_BITS))
            unit *= 2.0**-square_cut
        half, middle = 0.5 * (self.hi - self.lo) * unit, 0.5 * (self.hi + self.lo) * unit
        m = len(self.factors.linear)
        # The product of the factors is `exact` / sqrt(variance), in units of half^2 for each.
        exact = 1.0 / self.factors.gain
        cuts, scale = _cuts(self._values(), half * half, root_scale / exact)
        arrays = {
            "centre": np.array(middle - EPS * unit),
            "limit": np.array(half * half),
            "linear": self.factors.linear * half,
            "constant": self.factors.constant * half * half,
        }
        plan = NormPlan(m, square_cut, tuple(cuts), self.class_power)
        return plan, {k: np.asarray(np.rint(v)) for k, v in arrays.items()}, scale * exact


def _cuts(values: NpArray, scale: float, wanted: float) -> tuple[list[int], float]:
    """(truncations of the factors' products level by level, scale of the last product), that near `wanted`.

    `values` (factors, points) come with `scale` units for 1.
    """
    cuts: list[int] = []
    while True:
        room = max(0, math.ceil(math.log2(float(np.abs(values).max()) * scale) - FACTOR_BITS))
        if len(values) == 2:
            # The last two factors need no truncation of their product where both keep enough bits.
            cut = round(math.log2(scale / math.sqrt(wanted)))
            least = float(np.abs(values).min()) * scale * 2.0**-cut
            if room <= cut <= FRACTION_BITS and least >= 2.0**MERGED_BITS:
                return [*cuts, cut], (scale * 2.0**-cut) ** 2
        if len(values) == 1:
            cut = max(room, round(math.log2(scale / wanted)))
            rest = [cut - FRACTION_BITS] if cut > FRACTION_BITS else []
            return [*cuts, min(cut, FRACTION_BITS), *rest], scale * 2.0**-cut
        cuts.append(room)
        scale = (scale * 2.0**-room) ** 2
        values = values[: len(values) // 2] * values[len(values) // 2 :]


def norm_product(
    ring: Ring,
    plan: NormPlan,
    arrays: Mapping[str, Values],
    d: Values,
    kernel: Values,
    class_rows: NpArray,
    *,
    skip_class: bool,
    joint: bool,
) -> tuple[Values, list[Values]]:
    """(d @ kernel) times 1 / sqrt of each row's variance, not truncated, and values that must not be positive.

    d (rows, C), kernel (C, k). `class_rows` (rows,) says which rows are class tokens; with `skip_class` their variance
    is not read. `joint`: rows are few, and squares share the product with the kernel. Rounds: product, (truncation with
    `square_cut`,) squares, truncation, log2(factors) products with truncations between them, product.
    """
    xp, (rows, _), k = ring.xp, d.shape, kernel.shape[1]
    eye = np.eye(rows, dtype=bool)
    if joint:
        product = ring.dot(d, xp.concatenate([kernel, d.T], axis=1))
        squares = xp.sum(xp.where(eye, product[:, k:], 0), axis=1)
        product = product[:, :k]
    else:
        product, squares = ring.dot(d, kernel), xp.sum(ring.mul(d, d), axis=1)
    squares = squares * _powers(class_rows, plan.class_power, 4)
    if plan.square_cut:
        (squares,) = truncate(ring, [(squares, plan.square_cut)])
    u = (squares - arrays["centre"])[:, None]
    if skip_class:
        u = xp.where(class_rows[:, None], 0, u)
    m = plan.factors
    stacked = xp.broadcast_to(u, (rows, m + 1))
    first = ring.mul(stacked, xp.concatenate([u, xp.broadcast_to(arrays["linear"], (rows, m))], axis=1))
    checks = [first[:, :1] - arrays["limit"]]
    q = first[:, :1] + first[:, 1:] + arrays["constant"]
    for cut in plan.cuts:
        (q,) = truncate(ring, [(q, cut)])
        if m > 1:
            m //= 2
            q = ring.mul(q[:, :m], q[:, m:])
    assert m == 1
    root = q * _powers(class_rows, plan.class_power, 2)[:, None]
    if joint:
        # A diagonal matrix opens less than a broadcast column.
        return ring.dot(xp.where(eye, root, 0), product), checks
    return ring.mul(xp.broadcast_to(root, product.shape), product), checks


def _powers(class_rows: NpArray, power: int, base: int) -> NpArray:
    return np.where(class_rows, base ** max(power, 0), base ** max(-power, 0)).astype(np.int64)
