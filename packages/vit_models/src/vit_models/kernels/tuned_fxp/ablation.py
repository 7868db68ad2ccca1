"""The tuned forward pass with one of its parts left out: the difference is what the part saves."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ...types import Array
from .fits import EXP_TOP, Quartic, exp_root
from .folded_pass import FoldedPass
from .functions import positive_parts
from .homomorphic import HeadByHead


class _WithoutGelu(FoldedPass):
    """The runtime's own erf instead of the quartic."""

    @staticmethod
    def gelu_with(
        x: Float[Array, "*s"], form: Quartic, checks: list[Array]
    ) -> tuple[Float[Array, "*s"], Float[Array, ""]]:
        _, count = positive_parts([], checks)
        h = x * (1.0 / form.slope)
        return 0.5 * form.slope * h * (1.0 + jax.lax.erf(h * 0.5**0.5)), count


class _WithoutExponential(FoldedPass):
    """The runtime's own exponential instead of a quartic squared four times."""

    @staticmethod
    def exponential(u: Float[Array, "*s"]) -> Float[Array, "*s"]:
        form, _ = exp_root()
        return jnp.exp((u + form.shift) * (16.0 / form.slope)) * EXP_TOP


class _WithoutOctaves(FoldedPass):
    """One division a row instead of octaves and a quartic."""

    @staticmethod
    def normalise(
        x: Float[Array, "*s n"], octaves: tuple[int, int]
    ) -> tuple[Float[Array, "*s n"], Float[Array, "*s 1"]]:
        total = jnp.sum(x, axis=-1, keepdims=True)
        return x * (1.0 / total), total - 2.0**25


class _WithoutJointSquares(FoldedPass):
    """LayerNorm's squares and the product that follows it in two calls instead of one."""

    joint_squares = False


PASSES: dict[str | None, type[FoldedPass]] = {
    None: FoldedPass,
    "gelu": _WithoutGelu,
    "exponential": _WithoutExponential,
    "octaves": _WithoutOctaves,
    "joint heads": HeadByHead,
    "joint squares": _WithoutJointSquares,
}
"""The forward pass without the part of that name."""
