"""Initial values of parameters, drawn with NumPy: JAX's generator differs between the versions that are supported."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .config import ViTConfig
from .errors import ModelError, unknown_name
from .model import Model
from .modes import parse
from .params import flatten, unflatten
from .plan import ATTENTION_LEVELS, GELU_LEVELS
from .types import ParamDict, Seed


def initial_params(
    model: Model,
    seed: Seed,
    *,
    search: str | None = None,
    search_gelu: str | None = None,
    dtype: Any = jnp.float32,
) -> ParamDict:
    """Initial parameters of `model`: the same values for a seed, or for a JAX key, on every version of JAX.

    The attention's own parameters (the_x, linformer, xnorm) are among them. `search` ("layer", "head" or "row") adds
    alpha, shapes (1, 1, 1), (H, 1, 1) or (1, N, 1), and `search_gelu` ("layer" or "token") adds beta, shapes (1, 1) or
    (N, 1), all ones. Kernels are (in, out), convolutions (height, width, in, out). Raises ModelError on unknown levels.
    Source: the original's init: linear normal .02 with zero bias, convolution Kaiming normal, positions normal .2,
    class token zero.
    """
    if search is not None and search not in ATTENTION_LEVELS:
        raise unknown_name("search level", search, ATTENTION_LEVELS)
    if search_gelu is not None and search_gelu not in GELU_LEVELS:
        raise unknown_name("search_gelu level", search_gelu, GELU_LEVELS)
    cfg, entropy = model.config, _entropy(seed)
    rng = np.random.default_rng(entropy)

    def linear(inputs: int, outputs: int, bias: bool = True) -> ParamDict:
        # The original truncates its normals at 10 or more standard deviations, which never happens.
        out: ParamDict = {"kernel": rng.normal(0.0, 0.02, (inputs, outputs))}
        return {**out, "bias": np.zeros(outputs)} if bias else out

    def norm() -> ParamDict:
        return {"scale": np.ones(cfg.dim), "bias": np.zeros(cfg.dim)}

    inner = cfg.heads * cfg.width
    tree: ParamDict = {"tokenizer": _tokenizer(cfg, rng)}
    if cfg.pool == "class":
        tree["class_token"] = np.zeros((1, 1, cfg.dim))
    else:
        tree["pool"] = linear(cfg.dim, 1)
    tree["positions"] = rng.normal(0.0, 0.2, (1, cfg.tokens, cfg.dim))
    blocks: ParamDict = {}
    alpha = {"layer": (1, 1, 1), "head": (cfg.heads, 1, 1), "row": (1, cfg.tokens, 1)}
    for i in range(cfg.layers):
        attn: ParamDict = {"qkv": linear(cfg.dim, 3 * inner, bias=False), "proj": linear(inner, cfg.dim)}
        for kind in parse(model.attention):
            if kind is not None and kind.init is not None:
                # A stream of its own, so that the common weights of a seed do not depend on the variant.
                attn[kind.name] = kind.init(cfg, np.random.default_rng([*entropy, 1 + i]))
        if search is not None:
            attn["alpha"] = np.ones(alpha[search])
        blocks[str(i)] = {
            "pre_norm": norm(),
            "attention": attn,
            "norm1": norm(),
            "linear1": linear(cfg.dim, cfg.mlp_width),
            "linear2": linear(cfg.mlp_width, cfg.dim),
        }
        if search_gelu is not None:
            blocks[str(i)]["beta"] = np.ones((1, 1) if search_gelu == "layer" else (cfg.tokens, 1))
    tree["blocks"] = blocks
    tree["norm"] = norm()
    tree["head"] = linear(cfg.dim, cfg.num_classes)
    return unflatten({name: jnp.asarray(value, dtype=dtype) for name, value in flatten(tree).items()})


def _entropy(seed: Seed) -> list[int]:
    """What NumPy's generator starts from: the seed itself, or the words of a JAX key."""
    if isinstance(seed, (int, np.integer)):
        return [int(seed)]
    if isinstance(seed, jax.core.Tracer):
        raise ModelError(
            "Initial values are drawn with NumPy, which jax.jit cannot trace.",
            "call init outside of jax.jit, and pass the parameters in.",
        )
    key = jnp.asarray(seed)
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    if words.ndim > 1 or not jnp.issubdtype(words.dtype, jnp.integer):
        raise ModelError("The seed is neither an integer nor one JAX key.", "pass 0, or jax.random.key(0).")
    return [int(word) for word in np.asarray(words).reshape(-1)]


def _tokenizer(cfg: ViTConfig, rng: np.random.Generator) -> ParamDict:
    if cfg.conv is None:
        shapes = [(cfg.patch, cfg.patch, cfg.channels, cfg.dim)]
    else:
        c = cfg.conv
        widths = [cfg.channels, *[c.hidden] * (c.layers - 1), cfg.dim]
        shapes = [(c.kernel, c.kernel, widths[i], widths[i + 1]) for i in range(c.layers)]
    out: ParamDict = {}
    for i, shape in enumerate(shapes):
        fan_in = math.prod(shape[:3])
        out[str(i)] = {"kernel": rng.normal(0.0, math.sqrt(2.0 / fan_in), shape)}
        if cfg.conv is None:
            out[str(i)]["bias"] = rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape[3])
    return out
