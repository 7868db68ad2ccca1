"""Activations of the MLP, by name. Source of the set: paper sec. on MPCViT+ and MPCFormer (Li et al., ICLR 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from .types import Array, Unary


def exact(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """GeLU, x Phi(x), as JAX's library writes it (with erfc): what the original trains with (F.gelu).

    erfc has no counterpart under MPC and becomes a rational polynomial: about 180 rounds, three times those of `erf`.
    """
    return jax.nn.gelu(x, approximate=False)


def erf(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The same function spelled 0.5 x (1 + erf(x / sqrt 2)), since SPU has erf as an operation of its own."""
    return 0.5 * x * (1.0 + lax.erf(x * math.sqrt(0.5)))


def tanh(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """GeLU in its tanh form, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): Flax's default."""
    return jax.nn.gelu(x, approximate=True)


def quad(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """MPCFormer's Quad, 0.125 x^2 + 0.25 x + 0.5: no comparison under MPC."""
    return 0.125 * x * x + 0.25 * x + 0.5


def relu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """max(x, 0): THE-X's replacement for GeLU."""
    return jnp.maximum(x, 0.0)


def identity(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """x: the wholly linear MLP, which `fuse` folds into one matrix."""
    return x


ACTIVATIONS: Mapping[str, Unary] = {
    "exact": exact,
    "erf": erf,
    "tanh": tanh,
    "quad": quad,
    "relu": relu,
    "identity": identity,
}
