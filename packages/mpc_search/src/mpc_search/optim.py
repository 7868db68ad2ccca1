"""The optimiser: AdamW with timm's schedule and its rule of what decays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mpc_search.config import SearchConfig, TrainConfig

SEARCHED = ("alpha", "beta")
"""Names of the parameters that are searched."""


def rate_schedule(config: TrainConfig, per_epoch: int) -> Callable[[Any], jax.Array]:
    """The learning rate of a step: linear warm-up, half a cosine over all epochs, then a constant for the cool-down.

    Source: timm's CosineLRScheduler with the original's settings, where the cosine does not wait for the warm-up.
    """

    def rate(step: Any) -> jax.Array:
        epoch = step // per_epoch if config.schedule == "epoch" else step / per_epoch
        share = jnp.minimum(epoch / config.epochs, 1.0)
        cosine = config.min_rate + 0.5 * (config.learning_rate - config.min_rate) * (1.0 + jnp.cos(jnp.pi * share))
        if config.warmup == 0.0:
            return cosine
        warm = config.warmup_rate + (config.learning_rate - config.warmup_rate) * epoch / config.warmup
        return jnp.where(epoch < config.warmup, warm, cosine)

    return rate


def make_optimizer(
    config: TrainConfig, search: SearchConfig, rate: Callable[[Any], jax.Array]
) -> optax.GradientTransformation:
    """AdamW (0.9, 0.999, 1e-8) whose decay leaves out what has one axis in the original: biases and norms.

    Alpha of heads and rows has four axes there and decays, unless `search.decay` is off; alpha of a layer has one.
    """

    def decays(path: Any, array: jax.Array) -> bool:
        if name_of(path) in SEARCHED:
            return search.decay and array.size > 1
        return array.ndim > 1

    return optax.adamw(
        rate,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree_util.tree_map_with_path(decays, params),
    )


def name_of(path: Any) -> str:
    """The last key on the way to a parameter."""
    return str(path[-1].key)


def of_searched(change: Callable[[jax.Array], jax.Array], params: Any) -> Any:
    """`params` with every alpha and beta changed."""
    return jax.tree_util.tree_map_with_path(
        lambda path, array: change(array) if name_of(path) in SEARCHED else array, params
    )
