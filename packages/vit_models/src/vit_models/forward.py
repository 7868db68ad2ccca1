"""The model as a pure function of parameters and images: tokenizer, blocks, head.

The block is not the usual pre-norm one: the second residual starts from the normed x (see `_block`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from .activations import ACTIVATIONS
from .config import ViTConfig
from .heads import LayerMode, attention_layer, resolve
from .kernels import KernelSet, get_kernels
from .mlp import mlp_layer
from .plan import AttentionPlan
from .types import AnyArray, Array, Params, Unary

EPS = 1e-5


class Outputs(NamedTuple):
    """logits (B, classes), tokens after the final LayerNorm (B, N, C), output of every block (B, N, C)."""

    logits: Array
    tokens: Array
    blocks: tuple[Array, ...]


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


@overload
def apply(
    cfg: ViTConfig,
    params: Params,
    images: AnyArray,
    *,
    plan: AttentionPlan | None = ...,
    attention: str | None = ...,
    gelu: str | None = ...,
    kernels: str | KernelSet = ...,
    train: bool = ...,
    rng: AnyArray | None = ...,
    return_tokens: Literal[False] = ...,
    return_blocks: Literal[False] = ...,
) -> Array: ...
@overload
def apply(
    cfg: ViTConfig,
    params: Params,
    images: AnyArray,
    *,
    plan: AttentionPlan | None = ...,
    attention: str | None = ...,
    gelu: str | None = ...,
    kernels: str | KernelSet = ...,
    train: bool = ...,
    rng: AnyArray | None = ...,
    return_tokens: Literal[True],
    return_blocks: Literal[False] = ...,
) -> tuple[Array, Array]: ...
@overload
def apply(
    cfg: ViTConfig,
    params: Params,
    images: AnyArray,
    *,
    plan: AttentionPlan | None = ...,
    attention: str | None = ...,
    gelu: str | None = ...,
    kernels: str | KernelSet = ...,
    train: bool = ...,
    rng: AnyArray | None = ...,
    return_tokens: bool = ...,
    return_blocks: Literal[True],
) -> Outputs: ...
def apply(
    cfg: ViTConfig,
    params: Params,
    images: Float[AnyArray, "batch height width channels"],
    *,
    plan: AttentionPlan | None = None,
    attention: str | None = None,
    gelu: str | None = None,
    kernels: str | KernelSet = "plain",
    train: bool = False,
    rng: AnyArray | None = None,
    return_tokens: bool = False,
    return_blocks: bool = False,
) -> Array | tuple[Array, Array] | Outputs:
    """Logits (batch, classes) of images (batch, height, width, channels), values as normalised for training.

    `attention` is a variant, "mix" (relu_softmax and scale), "softmax_scale" or any "on+off"; a mix takes a static
    `plan`, and without one it is the search form, which needs alpha among the parameters. Left out, it is "mix" for a
    plan with an attention part and "softmax" otherwise. `gelu` is exact, erf, tanh, quad, relu or identity; left out, the
    kernel set's own. With `train=True` and a key `rng`, dropout, attention dropout and stochastic depth act.
    `return_tokens` gives (logits, final-LayerNorm tokens); `return_blocks` gives `Outputs`. All arguments but params,
    images and rng are static. Raises ValueError on shapes, names or plans that do not fit.
    Source: the original's src/utils/transformers.py (TransformerClassifier).
    """
    _check_images(cfg, images)
    if train and rng is None:
        raise ValueError("train=True needs rng=jax.random.key(...); pass one, or train=False")
    modes = resolve(cfg, attention, plan)
    ks = get_kernels(kernels)
    activation = activation_of(ks, gelu)
    noise = _Noise(jnp.asarray(rng) if train else None)
    # Parameters may come straight from a file, as NumPy arrays.
    params = jax.tree_util.tree_map(jnp.asarray, dict(params))

    x = embed(cfg, params, jnp.asarray(images))
    x = noise.drop(cfg.dropout, 0)(x)
    blocks = []
    for i in range(cfg.layers):
        x = _block(cfg, params["blocks"][str(i)], x, i, modes[i], plan, ks, activation, noise.fold(i + 1))
        blocks.append(x)
    tokens = norm(ks, params["norm"], x)
    logits = _pooled(cfg, params, tokens, ks) @ params["head"]["kernel"] + params["head"]["bias"]
    if return_blocks:
        return Outputs(logits, tokens, tuple(blocks))
    return (logits, tokens) if return_tokens else logits


def _check_images(cfg: ViTConfig, images: AnyArray) -> None:
    expected = (cfg.image_size, cfg.image_size, cfg.channels)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected:
        raise ValueError(
            f"{cfg.name} takes images of shape (batch, {', '.join(map(str, expected))}), got {tuple(images.shape)}; "
            f"images are NHWC"
        )


def activation_of(ks: KernelSet, gelu: str | None) -> Unary:
    name = ks.gelu if gelu is None else gelu
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown gelu {name!r}; known are {', '.join(ACTIVATIONS)}")
    return ks.activations.get(name, ACTIVATIONS[name])


def norm(ks: KernelSet, params: Params, x: Array) -> Array:
    return ks.layer_norm(x, params["scale"], params["bias"], EPS)


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
    cfg: ViTConfig,
    params: Params,
    x: Array,
    index: int,
    mode: LayerMode,
    plan: AttentionPlan | None,
    ks: KernelSet,
    activation: Callable[[Array], Array],
    noise: _Noise,
) -> Array:
    """x = x + attn(pre_norm x); x = norm1(x); x = x + mlp(x)."""
    depth_rate = cfg.stochastic_depth * index / max(cfg.layers - 1, 1)
    attended = attention_layer(
        cfg,
        params["attention"],
        norm(ks, params["pre_norm"], x),
        mode,
        ks,
        noise.drop(cfg.attention_dropout, 0),
    )
    x = x + noise.drop(depth_rate, 1, per_sample=True)(noise.drop(cfg.dropout, 2)(attended))
    x = norm(ks, params["norm1"], x)
    choice = None if plan is None or plan.gelu is None else plan.gelu[index]
    # The original's search always has the added ReLU; only a plan can say otherwise.
    post_relu = plan is None or plan.post_relu
    y = mlp_layer(params, x, activation, ks, choice, post_relu, noise.drop(cfg.dropout, 3))
    return x + noise.drop(depth_rate, 4, per_sample=True)(noise.drop(cfg.dropout, 5)(y))


def _pooled(cfg: ViTConfig, params: Params, tokens: Array, ks: KernelSet) -> Float[Array, "b c"]:
    if cfg.pool == "class":
        return lax.slice_in_dim(tokens, 0, 1, axis=1).reshape(tokens.shape[0], cfg.dim)
    # Attention pooling of the CCT: softmax over tokens of one linear score, then the weighted mean.
    weights = ks.softmax(jnp.swapaxes(tokens @ params["pool"]["kernel"] + params["pool"]["bias"], 1, 2))
    return jnp.matmul(weights, tokens).reshape(tokens.shape[0], cfg.dim)
