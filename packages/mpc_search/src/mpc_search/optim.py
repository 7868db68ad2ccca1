"""The optimiser: AdamW, with timm's learning rate schedule and its rule for weight decay."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mpc_search.run_config import SearchConfig, TrainConfig
from vit_models.types import Params

SEARCHED = ("alpha", "beta")
"""Names of the parameters that are searched."""

_Path = tuple[jax.tree_util.DictKey, ...]


def rate_schedule(config: TrainConfig, per_epoch: int) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """The learning rate of a step: linear warm-up, half a cosine over all epochs, then a constant for the cool-down.

    Source: timm's CosineLRScheduler with the original's settings. The cosine starts at epoch 0, under the warm-up.
    """

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        epoch = step // per_epoch if config.schedule == "epoch" else step / per_epoch
        share = jnp.minimum(epoch / config.epochs, 1.0)
        cosine = config.min_rate + 0.5 * (config.learning_rate - config.min_rate) * (1.0 + jnp.cos(jnp.pi * share))
        if config.warmup == 0.0:
            return cosine
        warm = config.warmup_rate + (config.learning_rate - config.warmup_rate) * epoch / config.warmup
        return jnp.where(epoch < config.warmup, warm, cosine)

    return rate


def make_optimizer(config: TrainConfig, search: SearchConfig, rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW (0.9, 0.999, 1e-8). Weight decay leaves out what has one axis in the original: biases and norms.

    The alphas of heads and rows have four axes there and decay, unless `search.decay` is off. The alpha of a layer has
    one axis and does not decay.
    """

    def decays(path: _Path, array: jax.Array) -> bool:
        if _name(path) in SEARCHED:
            return search.decay and array.size > 1
        return array.ndim > 1

    return optax.adamw(
        rate,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree_util.tree_map_with_path(decays, params),
    )


def map_searched(change: Callable[[jax.Array], jax.Array], params: Params) -> Params:
    """`params` with `change` applied to every alpha and beta."""
    changed: Params = jax.tree_util.tree_map_with_path(
        lambda path, array: change(array) if _name(path) in SEARCHED else array, params
    )
    return changed


def _name(path: _Path) -> str:
    return str(path[-1].key)
