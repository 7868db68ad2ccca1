"""`plain`: a straightforward port. Stable softmax, exact GeLU, all heads of one kind in one batched call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from ..types import Array
from . import KernelSet


def softmax(x: Float[Array, "*s n"]) -> Float[Array, "*s n"]:
    """exp(x - max x) / sum exp(x - max x) over the last axis, as jax.nn.softmax computes it.

    Its maximum starts at minus infinity, which costs one comparison more than the values need: a plain port pays it.
    """
    return jax.nn.softmax(x, axis=-1)


def normalise(x: Float[Array, "*s n"], eps: float) -> Float[Array, "*s n"]:
    """x / (sum of x over the last axis + eps)."""
    return x / (jnp.sum(x, axis=-1, keepdims=True) + eps)


def layer_norm(
    x: Float[Array, "*s c"], scale: Float[Array, " c"], bias: Float[Array, " c"], eps: float
) -> Float[Array, "*s c"]:
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis, as Flax's LayerNorm computes it.

    The biased variance is E[x^2] - E[x]^2, kept from falling below zero by a maximum: one comparison under MPC.
    """
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.maximum(0.0, jnp.mean(x * x, axis=-1, keepdims=True) - mean * mean)
    return (x - mean) * (lax.rsqrt(variance + eps) * scale) + bias


def relu(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """max(x, 0)."""
    return jnp.maximum(x, 0.0)


KERNELS = KernelSet(
    name="plain",
    softmax=softmax,
    normalise=normalise,
    layer_norm=layer_norm,
    relu=relu,
    gelu="exact",
    batched_heads=True,
)
