"""`calibrate`: the ranges of a model's own values, from a plaintext run over images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ...calibration import Calibration, Range, check_settings
from ...errors import ModelError
from ...forward import embed, norm
from ...heads import attention_layer, split_heads
from ...mlp import mlp_layer
from ...model import Model
from ...params import flatten
from ...types import AnyArray, Array, NpArray, Params
from ...variants import scores
from .. import get_kernels
from .supported import TunedModel

CHUNK = 32


def calibrate(model: Model, params: Params, images: AnyArray, *, margin: float, tolerance: float) -> Calibration:
    """The ranges of `model` on `images` (batch, height, width, channels); see `Model.calibrate`."""
    check_settings(margin, tolerance)
    kinds = TunedModel.of(model).kinds
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
    pre, norm1, rows = [], [], []
    for layer in kinds:
        pre.append(next(found))
        rows.append(tuple(None if kind == "scale" else next(found) for kind in layer))
        norm1.append(next(found))
    return Calibration(
        model=model_fingerprint(model, params),
        images=len(images),
        margin=margin,
        tolerance=tolerance,
        pre=tuple(pre),
        norm1=tuple(norm1),
        final=next(found),
        rows=tuple(rows),
    )


def model_fingerprint(model: Model, params: Params) -> str:
    """SHA-256 of configuration, parameters, attention and plan: what a calibration belongs to."""
    described = [model.config.to_dict(), TunedModel.of(model).kinds]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, value in flatten(params).items():
        array = np.ascontiguousarray(np.asarray(value), dtype="<f4")
        digest.update(f"{name}:{array.shape}:".encode() + array.tobytes())
    return digest.hexdigest()


def _observed(model: Model, params: Params, images: Array) -> Iterator[Array]:
    """What is calibrated, in computation order: variances and row sums of every layer, then the last variances."""
    cfg, plain = model.config, get_kernels("plain")
    activation = plain.activation(model.gelu)
    x = embed(cfg, params, images)
    for i, (mode, kinds) in enumerate(zip(model.modes, TunedModel.of(model).kinds)):
        block = params["blocks"][str(i)]
        # The class token enters the first layer as a constant, which needs no range.
        yield jnp.var(x[:, 1:] if i == 0 else x, axis=-1)
        h = norm(plain, block["pre_norm"], x)
        q, k, _ = split_heads(cfg, h @ block["attention"]["qkv"]["kernel"])
        a = scores(q, k)
        for head, kind in enumerate(kinds):
            if kind == "softmax":
                yield jax.nn.logsumexp(a[:, head], axis=-1)
            elif kind == "relu_softmax":
                yield jnp.sum(jnp.maximum(a[:, head], 0.0), axis=-1)
        x = x + attention_layer(cfg, block["attention"], h, mode, plain, lambda w: w)
        # After the last attention only the class token is read.
        yield jnp.var(x[:, :1] if i + 1 == cfg.layers else x, axis=-1)
        x = norm(plain, block["norm1"], x)
        x = x + mlp_layer(block, x, activation, plain, None, False, lambda w: w)
    yield jnp.var(x[:, :1], axis=-1)
