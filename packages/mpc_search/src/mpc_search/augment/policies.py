"""The policies that choose operations for an image: timm's RandAugment and torchvision's AutoAugment."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mpc_search.augment.ops import NAMES, Image, apply_op

_RAND_OPS = tuple(name for name in NAMES if name != "identity")
_ENHANCE = ("color", "contrast", "brightness", "sharpness")


def rand_augment(
    key: jax.Array, image: Image, fill: jax.Array, magnitude: float, deviation: float, layers: int = 2
) -> Image:
    """Apply `layers` operations, drawn with replacement, each with probability 1/2.

    The magnitude of each is drawn from a normal distribution and cut to [0, 10].
    Source: timm's "rand-m9-mstd0.5-inc1", in which every operation grows stronger with the magnitude.
    """
    numbers = jnp.asarray([NAMES.index(name) for name in _RAND_OPS])

    def layer(image: Image, key: jax.Array) -> tuple[Image, None]:
        pick, use, size, sign = jax.random.split(key, 4)
        op = numbers[jax.random.randint(pick, (), 0, len(_RAND_OPS))]
        level = jnp.clip(magnitude + deviation * jax.random.normal(size), 0.0, 10.0) / 10.0
        either = jnp.where(jax.random.bernoulli(sign), level, -level)
        values = {
            "posterize": 4.0 - jnp.floor(4.0 * level),
            "solarize": 256.0 - jnp.floor(256.0 * level),
            "solarize_add": jnp.minimum(128.0, jnp.floor(110.0 * level)),
            **dict.fromkeys(_ENHANCE, jnp.maximum(0.1, 1.0 + 0.9 * either)),
            "rotate": 30.0 * either,
            **dict.fromkeys(("shear_x", "shear_y"), 0.3 * either),
            **dict.fromkeys(("translate_x", "translate_y"), 0.45 * either),
        }
        return _apply(image, op, jax.random.bernoulli(use), values, fill), None

    return jax.lax.scan(layer, image, jax.random.split(key, layers))[0]


# The ImageNet policy of AutoAugment (Cubuk et al., CVPR 2019, table 9): two (operation, probability, magnitude) each.
_AUTO = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 0), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 0)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 0)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 0), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 0)),
    (("equalize", 0.0, 0), ("equalize", 0.8, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 0)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 0)),
    (("color", 0.4, 0), ("equalize", 0.6, 0)),
    (("equalize", 0.4, 0), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 0)),
    (("invert", 0.6, 0), ("equalize", 1.0, 0)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 0), ("equalize", 0.6, 0)),
)
_AUTO_TABLE = np.asarray([[(NAMES.index(op), p, m) for op, p, m in policy] for policy in _AUTO], np.float32)


def auto_augment(key: jax.Array, image: Image, fill: jax.Array) -> Image:
    """Apply one of 25 sub-policies: two operations, each with its own probability and magnitude (of 9).

    Source: torchvision's AutoAugment() with its defaults, which the original uses for Tiny-ImageNet.
    """
    pick, layers = jax.random.split(key)
    policy = jnp.asarray(_AUTO_TABLE)[jax.random.randint(pick, (), 0, len(_AUTO))]

    def layer(image: Image, given: tuple[jax.Array, jax.Array]) -> tuple[Image, None]:
        key, (op, probability, magnitude) = given
        use, sign = jax.random.split(key)
        level = magnitude / 9.0
        either = jnp.where(jax.random.bernoulli(sign), level, -level)
        values = {
            "posterize": 8.0 - jnp.round(level * 4.0),
            "solarize": 255.0 * (1.0 - level),
            **dict.fromkeys(_ENHANCE, 1.0 + 0.9 * either),
            "rotate": 30.0 * either,
            **dict.fromkeys(("shear_x", "shear_y"), 0.3 * either),
        }
        return _apply(image, op.astype(jnp.int32), jax.random.bernoulli(use, probability), values, fill), None

    return jax.lax.scan(layer, image, (jax.random.split(layers, 2), policy))[0]


def _apply(image: Image, op: jax.Array, use: jax.Array, values: dict[str, jax.Array], fill: jax.Array) -> Image:
    """Apply operation `op` with its argument from `values` (0 if it has none); without `use`, change nothing."""
    value = jnp.stack([jnp.asarray(values.get(name, 0.0), jnp.float32) for name in NAMES])[op]
    return apply_op(image, jnp.where(use, op, NAMES.index("identity")), value, fill)
