"""The polynomials of the ring kernels: fits in float64 at export, as products of quadratics that start with z^2."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial

from ...errors import ModelError
from ...types import NpArray
from ..tuned_fxp.fits import Factors, inverse_sqrt, minimax

DEGREES = (4, 8, 16, 32)
"""Degrees in x of the GeLU polynomials."""

ROOT_LEVELS = (0, 6)
"""1 / sqrt is a product of 2^level quadratics."""


@dataclass(frozen=True)
class EvenForm:
    """x / 2 + lead x product over i of (z^2 + linear[i] z + constant[i]), z = (x / bound)^2, for |x| <= bound."""

    bound: float
    linear: tuple[float, ...]
    constant: tuple[float, ...]
    lead: float
    error: float

    def __call__(self, x: NpArray) -> NpArray:
        """The polynomial at x, in float64."""
        z = (x / self.bound) ** 2
        product = np.prod([z * z + p * z + c for p, c in zip(self.linear, self.constant)], axis=0)
        value: NpArray = 0.5 * x + self.lead * product
        return value


@functools.cache
def even_form(name: str, degree: int, bound: float) -> EvenForm:
    """GeLU ("exact", "erf" or "tanh") on [-bound, bound] as x / 2 and an even polynomial of `degree` in x."""

    def even(z: NpArray) -> NpArray:
        x = bound * np.sqrt(np.maximum(z, 0.0))
        half: NpArray = 0.5 * x * gate(name, x)
        return half

    fitted: Any
    fitted, error = minimax(even, 0.0, 1.0, degree // 2)
    lead = float(fitted.convert(kind=Polynomial).coef[-1])
    pairs = balanced(quadratics(fitted.roots()))
    return EvenForm(bound, tuple(p for p, _ in pairs), tuple(c for _, c in pairs), lead, error)


def gate(name: str, x: NpArray) -> NpArray:
    """2 GeLU(x) / x - 1: erf(x / sqrt 2), or its tanh form."""
    if name == "tanh":
        value: NpArray = np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))
        return value
    exact: NpArray = np.vectorize(math.erf)(np.asarray(x, dtype=np.float64) * math.sqrt(0.5))
    return exact


def quadratics(roots: NpArray) -> list[tuple[float, float]]:
    """(linear, constant) of the real quadratics whose zeros are `roots`."""
    real = sorted(roots[np.abs(roots.imag) <= 1e-9].real)
    pairs = [(-2.0 * float(z.real), float(abs(z)) ** 2) for z in roots[roots.imag > 1e-9]]
    return pairs + [(-float(a + b), float(a * b)) for a, b in zip(real[::2], real[1::2])]


def balanced(pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The quadratics in an order in which products of the halves, again and again, stay moderate on [0, 1].

    Largest values meet smallest: positions p and p + n / 2 are multiplied first.
    """
    z = np.linspace(0.0, 1.0, 101)
    groups = [[pair] for pair in sorted(pairs, key=lambda pair: float(np.abs(z * z + pair[0] * z + pair[1]).max()))]
    while len(groups) > 1:
        half = len(groups) // 2
        groups = [low + high for low, high in zip(groups[:half], reversed(groups[half:]))]
    tree, bits = groups[0], len(pairs).bit_length() - 1
    return [tree[int(f"{p:0{bits}b}"[::-1], 2) if bits else 0] for p in range(len(tree))]


@functools.cache
def _inverse_sqrt(lo: float, hi: float, levels: int) -> Factors:
    return inverse_sqrt(lo, hi, 1.0, levels)


def root_factors(lo: float, hi: float, tolerance: float) -> Factors:
    """1 / sqrt(v) on [lo, hi] in z = (2 v - hi - lo) / (hi - lo), with the fewest factors that err by `tolerance`.

    Raises ModelError where the largest number of factors errs by more.
    """
    for level in range(ROOT_LEVELS[0], ROOT_LEVELS[1] + 1):
        factors = _inverse_sqrt(lo, hi, level + 1)
        if factors.error <= tolerance:
            return factors
    raise ModelError(
        f"No polynomial of degree {2 ** (ROOT_LEVELS[1] + 1)} or less gives 1 / sqrt(variance) on "
        f"[{lo:.3g}, {hi:.3g}] within {tolerance:g}.",
        "calibrate with a smaller margin, or raise tolerance.",
        "unsupported",
    )
