"""The tuned kernels: pure JAX functions, and what each costs on SPU.

On SPU a multiplication costs one round, its truncation one more where that communicates, and a comparison with its
selection eight, whatever the size. So constant factors are avoided (they are in the weights, or in `Quartic`), and
operations that can share a call are stacked. Sums, and selections by public masks, cost no round.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...types import Array
from .fits import EXP_SQUARINGS, GELU_BOUND, Quartic, exp_root, gelu_gap, reciprocal_octave

SOFTMAX_OCTAVES = (-8, 19)
RELU_OCTAVES = (-8, 8)
"""Row sums that `normalise` tells apart, as powers of two of `reciprocal_octave`'s start."""


def quartic(u: Float[Array, "*s"], form: Quartic) -> Float[Array, "*s"]:
    """The quartic of `form` at u = slope x - shift. 2 multiplications, one after the other."""
    w = u * u
    product = (w + u + form.q) * (w - u + form.r)
    return (product if form.sign > 0 else -product) + form.k


def product_form(
    u: Float[Array, "*s 1"], linear: Float[Array, " n"], constant: Float[Array, " n"]
) -> Float[Array, "*s 1"]:
    """Product over i of (u^2 + linear[i] u + constant[i]): 1 + log2(n) multiplications, one after the other."""
    n = linear.shape[0]
    stacked = jnp.broadcast_to(u, (*u.shape[:-1], n + 1))
    by = jnp.concatenate([u, jnp.broadcast_to(linear, (*u.shape[:-1], n))], axis=-1)
    first = stacked * by
    factors = first[..., :1] + first[..., 1:] + constant
    while n > 1:
        n //= 2
        factors = factors[..., :n] * factors[..., n:]
    return factors


def gelu(x: Float[Array, "*s"], name: str = "exact") -> Float[Array, "*s"]:
    """slope x GeLU(x / slope), slope that of `gelu_gap(name)`: relu(x) + quartic(min(|x|, 3.2 slope)).

    Domain: all of fixed point up to 2^26. Three comparisons in one call, then 2 multiplications.
    """
    form, _ = gelu_gap(name)
    return gelu_with(x, form, [])[0]


def gelu_with(x: Float[Array, "*s"], form: Quartic, checks: list[Array]) -> tuple[Float[Array, "*s"], Float[Array, ""]]:
    """`gelu`, and how many entries of `checks` are positive: their comparisons share the call."""
    bound = GELU_BOUND * form.slope
    (positive, above, below), count = positive_parts([x, x - bound, -x - bound], checks)
    # |x| = 2 relu(x) - x, minus what exceeds the bound.
    t = positive + positive - x - above - below
    return positive + quartic(t - form.shift, form), count


def positive_parts(parts: list[Array], checks: list[Array]) -> tuple[list[Array], Float[Array, ""]]:
    """max(part, 0) of each part, and how many entries of `checks` are positive: one call."""
    compared = jnp.concatenate([p.reshape(-1) for p in (*parts, *checks)])
    size = sum(p.size for p in parts)
    kept = jnp.concatenate([compared[:size], jnp.ones_like(compared[size:])])
    cut = jnp.where(compared > 0.0, kept, 0.0)
    borders = np.cumsum([p.size for p in parts])
    split = jnp.split(cut, borders)
    return [c.reshape(p.shape) for c, p in zip(split, parts)], jnp.sum(split[-1])


def exponential(u: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """2^17 exp(x) of u = slope x / 16 - shift (`exp_root`), x in [-21, 1], as a quartic to the 16th power.

    6 multiplications. Relative error at most `exp_root()[1]`. Below -21 it stays under exp(-21)
    down to -42, where the quartic rises again.
    """
    y = quartic(u, exp_root()[0])
    for _ in range(EXP_SQUARINGS):
        y = y * y
    return y


def normalise(x: Float[Array, "*s n"], octaves: tuple[int, int]) -> tuple[Float[Array, "*s n"], Float[Array, "*s 1"]]:
    """x / sum of x over the last axis for x >= 0, and by how much a sum exceeds the octaves (0 or less: not at all).

    Comparisons with all borders at once give the power of two that brings a row's sum into one octave; there the
    reciprocal is a quartic. 8 rounds and 4 multiplications. Sums below the octaves give smaller weights, zero for zero.
    """
    form, start, _ = reciprocal_octave()
    low, high = octaves
    borders = start * 2.0 ** np.arange(low + 1, high)
    factors = 2.0 ** -np.arange(low, high, dtype=np.float64)
    total = jnp.sum(x, axis=-1, keepdims=True)
    above = total > jnp.asarray(borders, x.dtype)
    # From the smallest factor up, so that floats add exactly too.
    steps = jnp.where(above, jnp.zeros((), x.dtype), jnp.asarray(-np.diff(factors), x.dtype))
    scaled = x * (jnp.sum(steps, axis=-1, keepdims=True) + factors[-1])
    octave = jnp.sum(scaled, axis=-1, keepdims=True)
    return scaled * quartic(octave - form.shift, form), octave - 2.0 * start * 1.01
