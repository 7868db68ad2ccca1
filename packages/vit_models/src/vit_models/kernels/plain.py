"""`plain`: a straightforward port. Stable softmax, exact GeLU, all heads of one kind in one batched call."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from ..types import Array
from . import KernelSet


def softmax(x: Float[Array, "*s n"]) -> Float[Array, "*s n"]:
    """exp(x - max x) / sum exp(x - max x) over the last axis."""
    e = jnp.exp(x - lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True)))
    return e / jnp.sum(e, axis=-1, keepdims=True)


def normalise(x: Float[Array, "*s n"], eps: float) -> Float[Array, "*s n"]:
    """x / (sum of x over the last axis + eps)."""
    return x / (jnp.sum(x, axis=-1, keepdims=True) + eps)


def layer_norm(
    x: Float[Array, "*s c"], scale: Float[Array, " c"], bias: Float[Array, " c"], eps: float
) -> Float[Array, "*s c"]:
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last axis, with the biased variance."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    return centred * lax.rsqrt(variance + eps) * scale + bias


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
