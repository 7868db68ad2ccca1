"""From a batch of bytes and labels to augmented images and soft targets, as one function that JAX can compile."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mpc_search.augment.policies import auto_augment, rand_augment
from mpc_search.run_config import AugmentConfig

Augment = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def make_augment(config: AugmentConfig, mean: tuple[float, ...], std: tuple[float, ...], classes: int) -> Augment:
    """A function (key, bytes (B, H, W, C), labels (B,), epoch) -> (images float32, targets (B, classes)).

    The order is that of the original's timm pipeline: random resized crop, flip, RandAugment or AutoAugment,
    normalisation, random erasing; then label smoothing, and mixup or cutmix over the batch.
    """
    fill = jnp.round(jnp.asarray(mean) * 255.0)

    def one(key: jax.Array, pixels: jax.Array) -> jax.Array:
        crop, flip, policy, erase = jax.random.split(key, 4)
        image = pixels.astype(jnp.float32)
        if config.crop_scale != (1.0, 1.0):
            image = _resized_crop(crop, image, config.crop_scale, config.crop_ratio)
        if config.flip > 0.0:
            image = jnp.where(jax.random.bernoulli(flip, config.flip), image[:, ::-1], image)
        if config.policy == "rand":
            image = rand_augment(policy, image, fill, config.magnitude, config.magnitude_std)
        elif config.policy == "auto":
            image = auto_augment(policy, image, fill)
        image = (image / 255.0 - jnp.asarray(mean)) / jnp.asarray(std)
        return _erase(erase, image, config.erase, config.erase_with == "noise") if config.erase > 0.0 else image

    def augment(key: jax.Array, pixels: jax.Array, labels: jax.Array, epoch: jax.Array) -> tuple[jax.Array, jax.Array]:
        each, mix = jax.random.split(key)
        images = jax.vmap(one)(jax.random.split(each, len(pixels)), pixels)
        low = config.smoothing / classes
        targets = jax.nn.one_hot(labels, classes) * (1.0 - config.smoothing) + low
        if config.mixup == 0.0 and config.cutmix == 0.0:
            return images, targets
        active = jnp.asarray(True) if config.mix_until is None else epoch < config.mix_until
        return _mix(mix, images, targets, config, active)

    return augment


def _resized_crop(
    key: jax.Array, image: jax.Array, scale: tuple[float, float], ratio: tuple[float, float]
) -> jax.Array:
    """A random part of the image, resized to the whole: a share of the area in `scale`, an aspect ratio in `ratio`.

    Ten parts are drawn and the first that fits is used, or the whole image if none fits. The interpolation is bilinear
    or bicubic at random. Source: torchvision's RandomResizedCrop with timm's "random" interpolation.
    """
    height, width, channels = image.shape
    area_key, shape_key, place_key, method_key = jax.random.split(key, 4)
    area = height * width * jax.random.uniform(area_key, (10,), minval=scale[0], maxval=scale[1])
    shape = jnp.exp(jax.random.uniform(shape_key, (10,), minval=jnp.log(ratio[0]), maxval=jnp.log(ratio[1])))
    wide, high = jnp.round(jnp.sqrt(area * shape)), jnp.round(jnp.sqrt(area / shape))
    fits = (wide <= width) & (high <= height)
    first = jnp.argmax(fits)
    size = jnp.where(fits.any(), jnp.stack([high[first], wide[first]]), jnp.asarray([height, width], jnp.float32))
    room = jnp.asarray([height, width], jnp.float32) - size
    corner = jnp.floor(jax.random.uniform(place_key, (2,)) * (room + 1.0))
    zoom = jnp.asarray([height, width], jnp.float32) / size

    def resized(method: str) -> jax.Array:
        part: jax.Array = jax.image.scale_and_translate(
            image, (height, width, channels), (0, 1), zoom, -corner * zoom, method, antialias=False
        )
        return part

    drawn = jnp.where(jax.random.bernoulli(method_key), resized("linear"), resized("cubic"))
    return jnp.clip(jnp.round(drawn), 0.0, 255.0)


def _erase(key: jax.Array, image: jax.Array, probability: float, noise: bool) -> jax.Array:
    """With `probability`, set a rectangle to noise or zero: 2 % to 1/3 of the area, aspect ratio 0.3 to 3.3.

    Source: timm's RandomErasing (mode "pixel", noise of the normalised values) and torchvision's (zero).
    """
    height, width, _ = image.shape
    use, area_key, shape_key, place, values = jax.random.split(key, 5)
    area = height * width * jax.random.uniform(area_key, (10,), minval=0.02, maxval=1.0 / 3.0)
    shape = jnp.exp(jax.random.uniform(shape_key, (10,), minval=jnp.log(0.3), maxval=jnp.log(3.3)))
    high, wide = jnp.round(jnp.sqrt(area * shape)), jnp.round(jnp.sqrt(area / shape))
    fits = (wide < width) & (high < height)
    first = jnp.argmax(fits)
    size = jnp.stack([high[first], wide[first]])
    corner = jnp.floor(jax.random.uniform(place, (2,)) * (jnp.asarray([height, width]) - size + 1.0))
    inside = _rectangle(height, width, corner, corner + size) & fits.any() & jax.random.bernoulli(use, probability)
    patch = jax.random.normal(values, image.shape) if noise else jnp.zeros_like(image)
    return jnp.where(inside[..., None], patch, image)


def _rectangle(height: int, width: int, low: jax.Array, high: jax.Array) -> jax.Array:
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    return (rows >= low[0]) & (rows < high[0]) & (columns >= low[1]) & (columns < high[1])


def _mix(
    key: jax.Array, images: jax.Array, targets: jax.Array, config: AugmentConfig, active: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mixup or cutmix of the batch with its reverse, with one ratio for the batch, and targets in the same ratio.

    Source: timm's Mixup in its "batch" mode. Cutmix corrects the ratio when its box reaches out of the image.
    """
    use, which, mixup_key, cutmix_key, place = jax.random.split(key, 5)
    height, width = images.shape[1:3]
    cut = (
        jax.random.bernoulli(which, config.mix_switch)
        if config.mixup > 0.0 and config.cutmix > 0.0
        else (jnp.asarray(config.cutmix > 0.0))
    )
    blend = jax.random.beta(mixup_key, *(max(config.mixup, 1e-3),) * 2)
    keep = jax.random.beta(cutmix_key, *(max(config.cutmix, 1e-3),) * 2)
    half = jnp.floor(jnp.sqrt(1.0 - keep) * jnp.asarray([height, width])) // 2
    middle = jnp.floor(jax.random.uniform(place, (2,)) * jnp.asarray([height, width]))
    low = jnp.clip(middle - half, 0.0, jnp.asarray([height, width], jnp.float32))
    high = jnp.clip(middle + half, 0.0, jnp.asarray([height, width], jnp.float32))
    box = _rectangle(height, width, low, high)[None, :, :, None]
    kept = 1.0 - jnp.prod(high - low) / (height * width)

    on = active & jax.random.bernoulli(use, config.mix_probability)
    ratio = jnp.where(on, jnp.where(cut, kept, blend), 1.0)
    other = images[::-1]
    mixed = jnp.where(cut, jnp.where(box, other, images), blend * images + (1.0 - blend) * other)
    return jnp.where(on, mixed, images), ratio * targets + (1.0 - ratio) * targets[::-1]
