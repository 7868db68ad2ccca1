"""GeLU without a comparison: x / 2 plus an even polynomial of x, and a guard of its range."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..tuned_fxp.observe import GUARD_GROUPS
from .arithmetic import FRACTION_BITS, Ring, Values, truncate
from .polynomials import EvenForm

RESULT_BITS = 37.0
SQUARE_BITS = 13.0
FACTOR_BITS = 20


@dataclass(frozen=True)
class GeluPlan:
    """The public numbers of one activation: x comes with `scale` units for 1, the result leaves with `result`.

    x times `identity` is x with `result` units for 1.
    """

    square_cut: int
    linear: tuple[int, ...]
    constant: tuple[int, ...]
    cuts: tuple[int, ...]
    half: int
    sign: int
    limit: int
    result: float
    identity: int

    @staticmethod
    def quad(scale: float) -> GeluPlan:
        """The plan of 0.125 x^2 + 0.25 x + 0.5, which has no bound."""
        result = 8.0 * scale**2
        return GeluPlan(
            0, (), (round(0.5 * result),), (), round(0.25 * result / scale), 1, 0, result, round(result / scale)
        )

    @staticmethod
    def of(form: EvenForm, scale: float) -> GeluPlan:
        """The plan for `form`. z = (x / bound)^2 has g units for 1."""
        m, lead = len(form.linear), abs(form.lead)
        square_bits = math.log2((2.0**RESULT_BITS * lead) ** 0.25) if m == 2 else SQUARE_BITS
        while True:
            g = (scale * form.bound) ** 2
            cut = 0 if m == 1 else max(0, round(math.log2(g) - square_bits))
            g *= 2.0**-cut
            cuts, product, groups = [], g * g, m
            while groups > 1:
                product, groups = product * product, groups // 2
                if groups > 1:
                    wanted = math.sqrt(2.0**RESULT_BITS * lead) if groups == 2 else 2.0**FACTOR_BITS
                    cuts.append(max(0, round(math.log2(product / wanted))))
                    product *= 2.0 ** -cuts[-1]
            if max(cuts, default=0) <= FRACTION_BITS:
                break
            square_bits -= 0.5
        result = product / lead
        return GeluPlan(
            square_cut=cut,
            linear=tuple(round(p * g) for p in form.linear),
            constant=tuple(round(c * g * g) for c in form.constant),
            cuts=tuple(cuts),
            half=round(0.5 * result / scale),
            sign=1 if form.lead > 0 else -1,
            limit=round(g * g),
            result=result,
            identity=round(result / scale),
        )


def gelu(ring: Ring, plan: GeluPlan, x: Values) -> tuple[Values, Values]:
    """GeLU of x (rows, channels) with `plan.result` units for 1, and values that are positive where |x| > bound.

    Those are sums of z^2 over groups of channels, less 1: a channel outside makes its group's positive.
    Rounds: 2 at degree 4; 4 at 8 (one a truncation), and 2 more each doubling.
    """
    xp = ring.xp
    w = ring.mul(x, x)
    if not plan.linear:
        return w + plan.half * x + plan.constant[0], w[:, :0]
    if plan.square_cut:
        (w,) = truncate(ring, [(w, plan.square_cut)])
    v = ring.mul(w, w)
    rows, channels = x.shape
    groups = math.gcd(GUARD_GROUPS, channels)
    guard = xp.sum(v.reshape(rows, groups, channels // groups), axis=2) - plan.limit
    q = xp.stack([v + p * w + c for p, c in zip(plan.linear, plan.constant)])
    m, cuts = len(plan.linear), iter(plan.cuts)
    while m > 1:
        m //= 2
        q = ring.mul(q[:m], q[m:])
        if m > 1:
            (q,) = truncate(ring, [(q, next(cuts))])
    return plan.sign * q[0] + plan.half * x, guard
