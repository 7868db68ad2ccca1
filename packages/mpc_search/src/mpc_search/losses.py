"""The losses of teacher, search and retraining: pure functions of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mpc_search.cost_table import CostTable


def soft_cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over the batch of -sum targets log softmax(logits); both (B, classes)."""
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))


def logits_distillation(student: jax.Array, teacher: jax.Array, temperature: float = 1.0) -> jax.Array:
    """-sum softmax(teacher / T) log softmax(student / T), mean over the batch; no factor T^2.

    Source: the original's KLLossSoft, which is a cross-entropy.
    """
    return soft_cross_entropy(student / temperature, jax.nn.softmax(teacher / temperature))


def token_distillation(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean squared error of the final LayerNorm's tokens (B, N, C), class token included.

    Source: the original's `--use-token-kd`, `--kd-type last`.
    """
    return jnp.mean(jnp.square(student - teacher))


def l1(values: jax.Array) -> jax.Array:
    """Sum of the absolute values: the search's penalty in the released code (`--lambda-lasso`)."""
    return jnp.sum(jnp.abs(values))


def cost(alpha: jax.Array, table: CostTable) -> jax.Array:
    """Seconds of alpha (layers, units): the sum of alpha Cost(ReLU-Softmax) + (1 - alpha) Cost(Scale) over all units.

    The cost of a unit is its share of the cost of its layer with all units of that kind. Source: the paper's
    latency-aware loss, in the author's form (docs/paper-facts.md, section 2.2); it is not in the released code.
    """
    off, on = (jnp.asarray([layer[i] for layer in table.layers]) for i in (0, -1))
    return jnp.sum(off + jnp.mean(alpha, axis=1) * (on - off))


def expected_cost(alpha: jax.Array, table: CostTable) -> jax.Array:
    """Expected seconds when unit i of a layer is ReLU-Softmax with probability alpha_i, independent of the others.

    This is the multilinear extension of the table and is exact for every table. Where costs are a line it equals
    `cost`. Where the first ReLU-Softmax head of a layer costs as much as all of them, it favours layers without any.
    alpha (layers, heads) has as many columns as the table has heads, or one column for whole layers. This loss is ours.
    """
    layers = jnp.asarray(table.layers)
    if alpha.shape[1] == 1:
        return jnp.sum(layers[:, 0] * (1.0 - alpha[:, 0]) + layers[:, -1] * alpha[:, 0])
    # distribution[l, k]: probability of k ReLU-Softmax heads in layer l among the heads so far
    distribution = jnp.zeros_like(layers).at[:, 0].set(1.0)
    for head in range(alpha.shape[1]):
        p = alpha[:, head : head + 1]
        distribution = distribution * (1.0 - p) + jnp.pad(distribution[:, :-1], ((0, 0), (1, 0))) * p
    return jnp.sum(distribution * layers)
