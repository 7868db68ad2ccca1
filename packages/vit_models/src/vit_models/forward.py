"""The forward pass as a pure function of parameters and images: tokenizer, blocks, head.

The block is not the usual pre-norm one: the second residual starts from the normed x (see `_block`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from .config import ViTConfig
from .errors import ModelError
from .heads import attention_layer
from .kernels import KernelSet, get_kernels
from .mlp import mlp_layer
from .model import Model, Outputs
from .types import AnyArray, Array, Params, Unary

EPS = 1e-5


class _Noise(NamedTuple):
    """Training-time randomness: a key, or None for inference, when nothing is dropped."""

    key: Array | None

    def fold(self, i: int) -> _Noise:
        return self if self.key is None else _Noise(jax.random.fold_in(self.key, i))

    def drop(self, rate: float, i: int, per_sample: bool = False) -> Unary:
        """Inverted dropout at `rate`, of elements or of whole samples."""
        key = self.fold(i).key
        if key is None or rate <= 0.0:
            return lambda x: x

        def apply_mask(x: Array) -> Array:
            shape = (x.shape[0],) + (1,) * (x.ndim - 1) if per_sample else x.shape
            return jnp.where(jax.random.bernoulli(key, 1.0 - rate, shape), x / (1.0 - rate), jnp.zeros_like(x))

        return apply_mask


def outputs(
    model: Model,
    params: Params,
    images: Float[AnyArray, "batch height width channels"],
    *,
    kernels: str | KernelSet = "plain",
    train: bool = False,
    rng: AnyArray | None = None,
) -> Outputs:
    """The outputs of `model` for images (batch, height, width, channels), values as normalised for training.

    With `train=True` and a key `rng`, dropout, attention dropout and stochastic depth act. Raises ModelError on images
    of another shape, on an unknown kernel set, and where parameters are missing.
    Source: the original's src/utils/transformers.py (TransformerClassifier).
    """
    cfg = model.config
    _check_images(cfg, images)
    if train and rng is None:
        raise ModelError("train=True has no rng.", "pass rng=jax.random.key(...), or train=False.")
    kernel_set = get_kernels(kernels)
    activation = kernel_set.activation(model.gelu)
    noise = _Noise(jnp.asarray(rng) if train else None)
    # Parameters may come straight from a file, as NumPy arrays.
    params = jax.tree_util.tree_map(jnp.asarray, dict(params))

    x = embed(cfg, params, jnp.asarray(images))
    x = noise.drop(cfg.dropout, 0)(x)
    blocks = []
    for i in range(cfg.layers):
        x = _block(model, params["blocks"][str(i)], x, i, kernel_set, activation, noise.fold(i + 1))
        blocks.append(x)
    tokens = norm(kernel_set, params["norm"], x)
    logits = _pooled(cfg, params, tokens, kernel_set) @ params["head"]["kernel"] + params["head"]["bias"]
    return Outputs(logits, tokens, tuple(blocks))


def _check_images(cfg: ViTConfig, images: AnyArray) -> None:
    expected = (cfg.image_size, cfg.image_size, cfg.channels)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected:
        raise ModelError(
            f"{cfg.name} takes images of shape (batch, {', '.join(map(str, expected))}), got {tuple(images.shape)}.",
            "pass images as NHWC in that size.",
            "bad_shape",
        )


def norm(kernels: KernelSet, params: Params, x: Array) -> Array:
    """LayerNorm of x (..., C) with the scale and bias (C,) of `params`."""
    return kernels.layer_norm(x, params["scale"], params["bias"], EPS)


def embed(cfg: ViTConfig, params: Params, images: Array) -> Float[Array, "b n c"]:
    """Tokens of the images, class token first, positions added."""
    x = images.astype(params["positions"].dtype)
    for i in range(1 if cfg.conv is None else cfg.conv.layers):
        p = params["tokenizer"][str(i)]
        stride, padding = (cfg.patch, 0) if cfg.conv is None else (cfg.conv.stride, cfg.conv.padding)
        x = lax.conv_general_dilated(
            x,
            p["kernel"],
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if cfg.conv is None:
            x = x + p["bias"]
        else:
            c = cfg.conv
            x = _max_pool(jnp.maximum(x, 0.0), c.pool_kernel, c.pool_stride, c.pool_padding)
    x = x.reshape(x.shape[0], -1, cfg.dim)
    if cfg.pool == "class":
        cls = jnp.broadcast_to(params["class_token"], (x.shape[0], 1, cfg.dim))
        x = jnp.concatenate([cls, x], axis=1)
    embedded: Array = x + params["positions"]
    return embedded


def _max_pool(x: Array, size: int, stride: int, padding: int) -> Array:
    """Maximum over windows of x (B, height, width, C), which must not be negative (padding counts as 0)."""
    # After a ReLU zero padding is exact, and unlike minus infinity it exists in fixed point.
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    side = (x.shape[1] - size) // stride + 1
    stop = (side - 1) * stride + 1

    def window(i: int, axis: int, v: Array) -> Array:
        return lax.slice_in_dim(v, i, i + stop, stride, axis)

    # Rows then columns: 2 (size - 1) maxima in place of size^2 - 1.
    for axis in (1, 2):
        parts = [window(i, axis, x) for i in range(size)]
        x = parts[0]
        for part in parts[1:]:
            x = jnp.maximum(x, part)
    return x


def _block(
    model: Model, params: Params, x: Array, index: int, kernels: KernelSet, activation: Unary, noise: _Noise
) -> Array:
    """x = x + attn(pre_norm x); x = norm1(x); x = x + mlp(x)."""
    cfg = model.config
    depth_rate = cfg.stochastic_depth * index / max(cfg.layers - 1, 1)
    attended = attention_layer(
        cfg,
        params["attention"],
        norm(kernels, params["pre_norm"], x),
        model.modes[index],
        kernels,
        noise.drop(cfg.attention_dropout, 0),
    )
    x = x + noise.drop(depth_rate, 1, per_sample=True)(noise.drop(cfg.dropout, 2)(attended))
    x = norm(kernels, params["norm1"], x)
    plan = model.plan
    choice = None if plan is None or plan.gelu is None else plan.gelu[index]
    # The original's search always has the added ReLU; only a plan can say otherwise.
    post_relu = plan is None or plan.post_relu
    y = mlp_layer(params, x, activation, kernels, choice, post_relu, noise.drop(cfg.dropout, 3))
    return x + noise.drop(depth_rate, 4, per_sample=True)(noise.drop(cfg.dropout, 5)(y))


def _pooled(cfg: ViTConfig, params: Params, tokens: Array, kernels: KernelSet) -> Float[Array, "b c"]:
    if cfg.pool == "class":
        return lax.slice_in_dim(tokens, 0, 1, axis=1).reshape(tokens.shape[0], cfg.dim)
    # Attention pooling of the CCT: softmax over tokens of one linear score, then the weighted mean.
    weights = kernels.softmax(jnp.swapaxes(tokens @ params["pool"]["kernel"] + params["pool"]["bias"], 1, 2))
    return jnp.matmul(weights, tokens).reshape(tokens.shape[0], cfg.dim)
