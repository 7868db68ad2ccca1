"""`calibrate`: the ranges of a model's own values, from a plaintext run over images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...calibration import Calibration, LayerTokens, Range, check_settings
from ...errors import ModelError
from ...forward import embed, norm
from ...heads import attention_layer, split_heads
from ...mlp import linear, mlp_layer
from ...model import Model
from ...params import flatten
from ...static_index import take
from ...types import AnyArray, Array, NpArray, Params
from ...variants import scores
from .. import get_kernels
from .supported import TunedModel

CHUNK = 32
GUARD_GROUPS = 8
HIDDEN_MARGIN = 1.15
"""The activation's polynomial reaches this factor beyond what was seen; a guard adds up groups of channels."""


def calibrate(model: Model, params: Params, images: AnyArray, *, margin: float, tolerance: float) -> Calibration:
    """The ranges of `model` on `images` (batch, height, width, channels); see `Model.calibrate`."""
    check_settings(margin, tolerance)
    kinds = TunedModel.of(model, whole_numbers=True).kinds
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 4 or not len(images):
        raise ModelError(
            f"Calibration was given images of shape {images.shape}.",
            "pass images (batch, height, width, channels).",
            "bad_shape",
        )
    tree = jax.tree_util.tree_map(jnp.asarray, dict(params))
    observe = jax.jit(lambda x: list(_observed(model, tree, x)))
    seen: list[list[NpArray]] = []
    for start in range(0, len(images), CHUNK):
        seen.append([np.asarray(v) for v in observe(images[start : start + CHUNK])])
    lows, highs = (fn([[fn(v) for v in chunk] for chunk in seen], axis=0) for fn in (np.min, np.max))
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise ModelError("The model's values are not finite on these images.", "check the parameters and the images.")
    found = iter(Range(float(lo), float(hi)) for lo, hi in zip(lows, highs))
    pre, norm1, rows, tokens = [], [], [], []
    for i, layer in enumerate(kinds):
        # The class token enters the first layer as a constant, which needs no range; after the last attention only the
        # class token is read.
        pre_class, pre_rest = None if i == 0 else next(found), next(found)
        rows.append(tuple(None if kind == "scale" else next(found) for kind in layer))
        norm1_class, norm1_rest = next(found), None if i + 1 == len(kinds) else next(found)
        hidden, fourth = next(found).hi, next(found).hi
        pre.append(_union(pre_class, pre_rest))
        norm1.append(_union(norm1_class, norm1_rest))
        bound = max(hidden, fourth**0.25) * HIDDEN_MARGIN or 1.0
        tokens.append(LayerTokens(pre_class, pre_rest, norm1_class, norm1_rest, hidden, bound))
    return Calibration(
        model=model_fingerprint(model, params),
        images=len(images),
        margin=margin,
        tolerance=tolerance,
        pre=tuple(pre),
        norm1=tuple(norm1),
        final=next(found),
        rows=tuple(rows),
        tokens=tuple(tokens),
    )


def _union(a: Range | None, b: Range | None) -> Range:
    both = [r for r in (a, b) if r is not None]
    return Range(min(r.lo for r in both), max(r.hi for r in both))


def model_fingerprint(model: Model, params: Params) -> str:
    """SHA-256 of configuration, parameters, attention and plan: what a calibration belongs to."""
    tuned = TunedModel.of(model, whole_numbers=True)
    described: list[Any] = [model.config.to_dict(), tuned.kinds]
    if any(kept is not None for kept in tuned.kept):
        described.append(tuned.kept)
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, value in flatten(params).items():
        array = np.ascontiguousarray(np.asarray(value), dtype="<f4")
        digest.update(f"{name}:{array.shape}:".encode() + array.tobytes())
    return digest.hexdigest()


def _observed(model: Model, params: Params, images: Array) -> Iterator[Array]:
    """What is calibrated, in computation order: variances and row sums of every layer, then the last variances."""
    cfg, plain, tuned = model.config, get_kernels("plain"), TunedModel.of(model, whole_numbers=True)
    choices = None if model.plan is None else model.plan.gelu
    activation = plain.activation(model.gelu)
    x = embed(cfg, params, images)
    for i, (mode, kinds) in enumerate(zip(model.modes, tuned.kinds)):
        block = params["blocks"][str(i)]
        if i:
            yield jnp.var(x[:, :1], axis=-1)
        yield jnp.var(x[:, 1:], axis=-1)
        h = norm(plain, block["pre_norm"], x)
        q, k, _ = split_heads(cfg, h @ block["attention"]["qkv"]["kernel"])
        a = scores(q, k)
        for head, kind in enumerate(kinds):
            if kind == "softmax":
                yield jax.nn.logsumexp(a[:, head], axis=-1)
            elif kind == "relu_softmax":
                yield jnp.sum(jnp.maximum(a[:, head], 0.0), axis=-1)
        x = x + attention_layer(cfg, block["attention"], h, mode, plain, lambda w: w)
        yield jnp.var(x[:, :1], axis=-1)
        if i + 1 < cfg.layers:
            yield jnp.var(x[:, 1:], axis=-1)
        x = norm(plain, block["norm1"], x)
        kept = tuned.kept[i]
        read = range(1 if i + 1 == cfg.layers else cfg.tokens)
        rows = [row for row in read if kept is None or row in kept]
        # Without a row that keeps the activation there is nothing to see; zeros stand for it.
        h = linear(block["linear1"], take(x, rows, 1)) if rows else jnp.zeros((x.shape[0], 1, cfg.mlp_width))
        yield jnp.abs(h)
        groups = math.gcd(GUARD_GROUPS, h.shape[-1])
        yield jnp.sum((h**4).reshape(*h.shape[:-1], groups, -1), axis=-1)
        x = x + mlp_layer(block, x, activation, plain, None if choices is None else choices[i], False, lambda w: w)
    yield jnp.var(x[:, :1], axis=-1)
