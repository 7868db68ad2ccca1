"""The image operations of RandAugment and AutoAugment, on one image (height, width, channels) of values 0 to 255.

Each is Pillow's operation of that name, as timm and torchvision call it, on floats that are rounded afterwards. Warps
are bilinear (timm uses bilinear or bicubic at random) and use the fill value outside the image.
"""

from __future__ import annotations

from collections.abc import Callable

import dm_pix
import jax
import jax.numpy as jnp

Image = jax.Array
Op = Callable[[Image, jax.Array], Image]


def apply_op(image: Image, op: jax.Array, value: jax.Array, fill: jax.Array) -> Image:
    """Apply operation number `op` (its index in NAMES) with the argument `value`. `fill` (channels,) is for warps."""
    matrix, offset = _warps(op, value, image.shape[0], image.shape[1])

    def warp(image: Image, value: jax.Array) -> Image:
        grid = jnp.stack(jnp.meshgrid(jnp.arange(image.shape[0]), jnp.arange(image.shape[1]), indexing="ij"))
        places = jnp.tensordot(matrix, grid, 1) + offset[:, None, None]
        warped: Image = jax.vmap(dm_pix.flat_nd_linear_interpolate_constant, (2, None), 2)(image - fill, places) + fill
        return warped

    branches: list[Op] = [*_POINTWISE.values(), warp]
    result = jax.lax.switch(jnp.minimum(op, len(_POINTWISE)), branches, image, value)
    return jnp.clip(jnp.round(result), 0.0, 255.0)


def _identity(image: Image, value: jax.Array) -> Image:
    return image


def _auto_contrast(image: Image, value: jax.Array) -> Image:
    low, high = image.min((0, 1)), image.max((0, 1))
    return jnp.where(high > low, (image - low) * (255.0 / jnp.maximum(high - low, 1.0)), image)


def _equalize(image: Image, value: jax.Array) -> Image:
    """Each value becomes the number of smaller pixels, in steps of (pixels below the largest value) / 255."""

    def channel(flat: jax.Array) -> jax.Array:
        ordered = jnp.sort(flat)
        smaller = jnp.searchsorted(ordered, flat, side="left", method="sort")
        step = jnp.searchsorted(ordered, ordered[-1], side="left") // 255
        return jnp.where(step > 0, (smaller + step // 2) // jnp.maximum(step, 1), flat)

    flat = image.reshape(-1, image.shape[-1])
    return jax.vmap(channel, in_axes=1, out_axes=1)(flat).reshape(image.shape)


def _invert(image: Image, value: jax.Array) -> Image:
    return 255.0 - image


def _posterize(image: Image, value: jax.Array) -> Image:
    """Keep the `value` highest bits."""
    unit = 2.0 ** (8.0 - jnp.clip(jnp.floor(value), 0.0, 8.0))
    return jnp.floor(image / unit) * unit


def _solarize(image: Image, value: jax.Array) -> Image:
    return jnp.where(image < value, image, 255.0 - image)


def _solarize_add(image: Image, value: jax.Array) -> Image:
    return jnp.where(image < 128.0, image + value, image)


def _grey(image: Image) -> Image:
    if image.shape[-1] == 1:
        return image
    return jnp.sum(image * jnp.asarray([0.299, 0.587, 0.114]), axis=-1, keepdims=True)


def _blend(other: Image, image: Image, value: jax.Array) -> Image:
    return other + value * (image - other)


def _color(image: Image, value: jax.Array) -> Image:
    return _blend(_grey(image), image, value)


def _contrast(image: Image, value: jax.Array) -> Image:
    return _blend(jnp.round(jnp.mean(_grey(image))), image, value)


def _brightness(image: Image, value: jax.Array) -> Image:
    return value * image


def _sharpness(image: Image, value: jax.Array) -> Image:
    """Blend with the image smoothed by a 3 x 3 kernel of ones with 5 in the middle. The border does not change."""
    inner = sum(image[i : image.shape[0] - 2 + i, j : image.shape[1] - 2 + j] for i in range(3) for j in range(3))
    inner = jnp.round((inner + 4.0 * image[1:-1, 1:-1]) / 13.0)
    return _blend(image.at[1:-1, 1:-1].set(inner), image, value)


_POINTWISE: dict[str, Op] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": _invert,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "color": _color,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
}
_WARPS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
NAMES: tuple[str, ...] = (*_POINTWISE, *_WARPS)
"""The operations by number. `value` is in degrees (rotate), a slope (shear), a share of the side (translate), a
threshold (solarize), a number of bits (posterize), an amount (solarize_add), and else a factor: 1 changes nothing."""


def _warps(op: jax.Array, value: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Matrix and offset that map a position (y, x) of the result to its position in the image."""
    kind = op - len(_POINTWISE)
    angle = jnp.deg2rad(jnp.where(kind == 0, value, 0.0))
    slope_x, slope_y = (jnp.where(kind == k, value, 0.0) for k in (1, 2))
    shift_x, shift_y = jnp.where(kind == 3, value * width, 0.0), jnp.where(kind == 4, value * height, 0.0)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    matrix = jnp.stack([jnp.stack([cosine, sine + slope_y]), jnp.stack([slope_x - sine, cosine])])
    middle = jnp.asarray([(height - 1) / 2, (width - 1) / 2])
    rotation = jnp.stack([jnp.stack([cosine, sine]), jnp.stack([-sine, cosine])])
    return matrix, middle - rotation @ middle + jnp.stack([shift_y, shift_x])
