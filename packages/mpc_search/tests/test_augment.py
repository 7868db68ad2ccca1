"""The operations equal Pillow's, the pipeline is a function of its key, and targets are distributions."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from mpc_search.augment import make_augment
from mpc_search.augment.ops import NAMES, apply_op
from mpc_search.run_config import AugmentConfig

RNG = np.random.default_rng(0)
# Smooth, so that a warp's rounding does not decide; with an edge, so that it moves something.
COLOUR = np.clip(
    np.add.outer(np.arange(16) * 9, np.arange(16) * 5)[..., None] + RNG.integers(0, 40, (1, 1, 3)), 0, 255
).astype(np.uint8)
FILL = jnp.asarray([10.0, 20.0, 30.0])

apply = jax.jit(apply_op)


def applied(name: str, value: float, image: np.ndarray = COLOUR) -> np.ndarray:
    return np.asarray(
        apply(jnp.asarray(image, jnp.float32), NAMES.index(name), jnp.float32(value), FILL[: image.shape[2]])
    )


def pillow(name: str, value: float) -> Image.Image:
    """The same operation by Pillow."""
    image = Image.fromarray(COLOUR)
    fill = tuple(int(v) for v in FILL)
    height = COLOUR.shape[0]
    made = {
        "identity": lambda: image,
        "auto_contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "posterize": lambda: ImageOps.posterize(image, int(value)),
        "solarize": lambda: ImageOps.solarize(image, value),
        "solarize_add": lambda: image.point([v + value if v < 128 else v for v in range(256)] * 3),
        "color": lambda: ImageEnhance.Color(image).enhance(value),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(value),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(value),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(value),
        "rotate": lambda: image.rotate(value, Image.Resampling.BILINEAR, fillcolor=fill),
        "shear_x": lambda: image.transform(
            image.size, Image.Transform.AFFINE, (1, value, 0, 0, 1, 0), 2, fillcolor=fill
        ),
        "shear_y": lambda: image.transform(
            image.size, Image.Transform.AFFINE, (1, 0, 0, value, 1, 0), 2, fillcolor=fill
        ),
        "translate_x": lambda: image.transform(
            image.size, Image.Transform.AFFINE, (1, 0, value * height, 0, 1, 0), 2, fillcolor=fill
        ),
        "translate_y": lambda: image.transform(
            image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, value * height), 2, fillcolor=fill
        ),
    }
    return made[name]()


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("identity", 0, 0),
        ("auto_contrast", 0, 1),
        ("equalize", 0, 0),
        ("invert", 0, 0),
        ("posterize", 3, 0),
        ("solarize", 100, 0),
        ("solarize_add", 60, 0),
        ("color", 1.7, 2),
        ("color", 0.2, 2),
        ("contrast", 1.6, 2),
        ("brightness", 0.4, 1),
        ("sharpness", 1.9, 2),
        ("sharpness", 0.1, 2),
        ("rotate", 20, 4),
        ("shear_x", 0.25, 8),
        ("shear_y", -0.25, 8),
        ("translate_x", 0.25, 0),
        ("translate_y", -0.25, 0),
    ],
)
def test_operations_equal_pillows(name: str, value: float, near: float) -> None:
    """Pointwise operations up to rounding; warps on the part that comes from inside the image."""
    ours, theirs = applied(name, value), np.asarray(pillow(name, value)).astype(np.float32)
    if name in ("rotate", "shear_x", "shear_y"):
        inside = np.zeros(ours.shape[:2], bool)
        inside[4:12, 4:12] = True
        ours, theirs = ours[inside], theirs[inside]
    assert np.abs(ours - theirs).max() <= near, name


def test_one_channel() -> None:
    """Every operation takes grey images too, and colour does not change them."""
    grey = COLOUR[..., :1]
    for name in NAMES:
        assert applied(name, 0.5, grey).shape == grey.shape
    np.testing.assert_array_equal(applied("color", 1.9, grey), grey)


PAPER = AugmentConfig(
    flip=0.5, crop_scale=(0.8, 1.0), policy="rand", erase=0.25, mixup=0.8, cutmix=1.0, mix_until=2, smoothing=0.1
)
PIXELS = RNG.integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
LABELS = np.arange(8).astype(np.int32) % 5


@functools.lru_cache
def compiled(config: AugmentConfig) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return jax.jit(make_augment(config, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 5))


def run(config: AugmentConfig, seed: int = 0, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
    images, targets = compiled(config)(jax.random.key(seed), PIXELS, LABELS, epoch)
    return np.asarray(images), np.asarray(targets)


@pytest.mark.parametrize("policy", ["none", "rand", "auto"])
def test_the_whole_pipeline(policy: str) -> None:
    """The same key gives the same batch, another key another batch; values are finite, targets are distributions."""
    config = PAPER.model_copy(update={"policy": policy})
    (one, targets), (same, _), (other, _) = (run(config, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other) and np.isfinite(one).all()
    np.testing.assert_allclose(targets.sum(-1), 1.0, rtol=1e-5)


def test_the_defaults_change_nothing() -> None:
    """The defaults only normalise."""
    images, targets = run(AugmentConfig())
    expected = (PIXELS / 255.0 - [0.5, 0.4, 0.3]) / 0.2
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_array_equal(targets.argmax(-1), LABELS)


def test_mixing_stops_at_its_epoch() -> None:
    """From `mix_until` on only labels are smoothed: 1 - s + s / K at the label, s / K elsewhere."""
    mixed, smooth = (run(PAPER.model_copy(update={"policy": "none"}), epoch=epoch)[1] for epoch in (1, 2))
    np.testing.assert_allclose(smooth, 0.9 * np.eye(5)[LABELS] + 0.02, rtol=1e-5)
    assert not np.allclose(mixed, smooth)


def test_cutmix_targets_are_shares_of_pixels() -> None:
    """With images of one value each, the mean is the share of pixels of the other image, and so is the target."""
    pixels = np.broadcast_to(np.where(np.arange(8) < 4, 0, 255)[:, None, None, None], (8, 12, 12, 1)).astype(np.uint8)
    augment = jax.jit(make_augment(AugmentConfig(cutmix=1.0), (0.0,), (1.0,), 2))
    for seed in range(5):
        images, targets = augment(jax.random.key(seed), pixels, (np.arange(8) >= 4).astype(np.int32), 0)
        np.testing.assert_allclose(np.asarray(images).mean((1, 2, 3)), np.asarray(targets)[:, 1], atol=1e-5)


def test_erasing_keeps_to_its_limits() -> None:
    """With probability 1 an image loses at most about a third, or nothing when no rectangle fits."""
    ones = np.full((64, 16, 16, 1), 255, np.uint8)
    augment = jax.jit(make_augment(AugmentConfig(erase=1.0, erase_with="zero"), (0.0,), (1.0,), 2))
    images, _ = augment(jax.random.key(0), ones, np.zeros(64, np.int32), 0)
    erased = 1.0 - np.asarray(images).mean((1, 2, 3))
    assert erased.max() <= 0.4 and (erased > 0.0).mean() > 0.9
