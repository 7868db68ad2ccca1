"""Polynomials for the tuned kernels, in NumPy at export: minimax fits, and the two forms that take few rounds."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial, chebyshev

from ...errors import ModelError
from ...types import NpArray

Function = Callable[[NpArray], NpArray]
# NumPy's polynomials have no complete types.
Series = Any
_vander: Any = chebyshev.chebvander


def minimax(f: Function, lo: float, hi: float, degree: int, weight: Function = np.ones_like) -> tuple[Series, float]:
    """The polynomial p of `degree` with small max |p - f| weight on [lo, hi], and that maximum on a fine grid.

    Lawson's iteration: least squares, reweighted by its own error until that is even over the interval.
    """
    nodes = max(400, 16 * degree)
    t = np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    x = 0.5 * (hi + lo) + 0.5 * (hi - lo) * t
    basis, y, scale = _vander(t, degree), f(x), weight(x)
    share, best, least = np.full(nodes, 1.0 / nodes), np.zeros(degree + 1), math.inf
    for _ in range(40):
        root = np.sqrt(share) * scale
        coefficients = np.linalg.lstsq(basis * root[:, None], y * root, rcond=None)[0]
        error = np.abs(basis @ coefficients - y) * scale
        if error.max() < least:
            best, least = coefficients, float(error.max())
        share = share * (error + 1e-30)
        share /= share.sum()
    return Chebyshev(best, domain=[lo, hi]), least


@dataclass(frozen=True)
class Quartic:
    """A quartic as sign (w + u + q) (w - u + r) + k, w = u^2, u = slope x - shift: two multiplications.

    Every quartic has this form: `slope` follows from its leading coefficient, `shift` from the next one, and q, r, k
    from the others. A constant factor would cost a truncation; sums cost nothing, and `slope` is folded into the
    weights.
    """

    slope: float
    shift: float
    q: float
    r: float
    k: float
    sign: int

    @staticmethod
    def of(polynomial: Series, power: int) -> Quartic:
        """The form of slope^power x `polynomial`: power 1 where the result is scaled as x is, 0 where it is not."""
        # In Horner's variable around the point where the cubic term vanishes.
        a = polynomial.convert(kind=Polynomial).coef
        centre = -a[3] / (4.0 * a[4])
        d = polynomial.convert(kind=Polynomial)(Polynomial([centre, 1.0])).coef
        slope = abs(d[4]) ** (1.0 / (4 - power))
        b = d / d[4] * slope ** (4.0 - np.arange(5))
        q, r = (1.0 + b[2] - b[1]) / 2.0, (1.0 + b[2] + b[1]) / 2.0
        sign = 1 if d[4] > 0 else -1
        return Quartic(slope, slope * centre, q, r, sign * (b[0] - q * r), sign)


@dataclass(frozen=True)
class Factors:
    """A polynomial of degree 2^levels in u as gain x product over i of (u^2 + linear[i] u + constant[i])."""

    linear: NpArray
    constant: NpArray
    gain: float
    error: float


def inverse_sqrt(lo: float, hi: float, width: float, levels: int) -> Factors:
    """1 / sqrt(v) on [lo, hi] in u = width (2 v - hi - lo) / (hi - lo); `error` is the largest relative one.

    Raises ModelError unless 0 < lo < hi.
    """
    if not 0.0 < lo < hi:
        raise ModelError(f"1 / sqrt was given the range [{lo}, {hi}].", "give a range above zero.")
    fitted, error = minimax(lambda v: v**-0.5, lo, hi, 2**levels, np.sqrt)
    scaled: Series = Chebyshev(fitted.coef, domain=[-width, width])
    roots = scaled.roots()
    real = sorted(roots[np.abs(roots.imag) <= 1e-9].real)
    pairs = [(-2.0 * z.real, abs(z) ** 2) for z in roots[roots.imag > 1e-9]]
    pairs += [(-(a + b), a * b) for a, b in zip(real[::2], real[1::2])]
    pairs.sort(reverse=True)
    linear, constant = np.array(_tree([[pair] for pair in pairs])).T
    u = np.linspace(-width, width, 101)
    product = np.prod([u * u + p * u + c for p, c in zip(linear, constant)], axis=0)
    target = (0.5 * (hi + lo) + 0.5 * (hi - lo) * u / width) ** -0.5
    return Factors(linear, constant, float(np.mean(target / product)), error)


def _tree(groups: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Factors, sorted by where they vanish, in an order in which halves multiplied with halves keep products moderate.

    The first with the last, the second with the last but one, and so on with the products.
    """
    while len(groups) > 1:
        half = len(groups) // 2
        groups = [low + high for low, high in zip(groups[:half], reversed(groups[half:]))]
    tree = groups[0]
    # Position p of the tree has to meet its partners by halving: first p and p + n / 2, then p and p + n / 4, ...
    bits = len(tree).bit_length() - 1
    return [tree[int(f"{p:0{bits}b}"[::-1] or "0", 2)] for p in range(len(tree))]


def capacity_width(lo: float, hi: float) -> float:
    """Half-width of u at which products of factors on [lo, hi] are neither large nor small, whatever their number."""
    root = math.sqrt(hi / lo)
    return 2.0 * (root - 1.0) / (root + 1.0)


GELU_BOUND = 3.2
"""Where the quartic of `gelu_gap` ends; beyond it the gap is held."""

EXP_SQUARINGS = 4
EXP_DOMAIN = (-42.0, -21.0, 1.0)
EXP_TOP = 2.0**17
"""exp(0) in `tuned.functions.exponential`: 9 bits of the ring remain above it, for sums and squares."""


@functools.cache
def gelu_gap(name: str) -> tuple[Quartic, float]:
    """gelu(x) - relu(x) = -t Phi(-t), t = |x| in [0, 3.2], for "exact" or "tanh"; and the largest error on t >= 0."""

    def gap(t: NpArray) -> NpArray:
        if name == "tanh":
            tail: NpArray = 1.0 - np.tanh(math.sqrt(2.0 / math.pi) * (t + 0.044715 * t**3))
        else:
            tail = np.vectorize(math.erfc)(t * math.sqrt(0.5))
        out: NpArray = -0.5 * t * tail
        return out

    fitted, _ = minimax(gap, 0.0, GELU_BOUND, 4)
    t = np.linspace(0.0, 8.0, 8001)
    error = np.abs(fitted(np.minimum(t, GELU_BOUND)) - gap(t)).max()
    return Quartic.of(fitted, power=1), float(error)


@functools.cache
def exp_root() -> tuple[Quartic, float]:
    """EXP_TOP^(1/16) exp(x / 16) on x in [-21, 1], and the largest relative error of its 16th power there.

    Down to -42 it is loosely fitted: no score is clamped, and the 16th power has to stay under exp(-21) there.
    """
    n = 2**EXP_SQUARINGS
    low, edge, high = (x / n for x in EXP_DOMAIN)

    def weight(t: NpArray) -> NpArray:
        return np.where(t >= edge, np.exp(-t), 1e-3)

    fitted, _ = minimax(np.exp, low, high, 4, weight)
    t = np.linspace(edge, high, 4001)
    error = np.abs((fitted(t) * np.exp(-t)) ** n - 1.0).max()
    return Quartic.of(fitted * EXP_TOP ** (1.0 / n), power=0), float(error)


@functools.cache
def reciprocal_octave() -> tuple[Quartic, float, float]:
    """1 / s on [start, 2 start] with slope 1; start; and the largest relative error."""
    fitted, error = minimax(lambda s: 1.0 / s, 1.0, 2.0, 4, lambda s: s)
    # With s = start x the leading coefficient a becomes a / start^5, and has to be 1.
    start = float(fitted.convert(kind=Polynomial).coef[4]) ** 0.2
    scaled, _ = minimax(lambda s: 1.0 / s, start, 2.0 * start, 4, lambda s: s)
    return Quartic.of(scaled, power=0), start, error
