"""Parameters as a plain nested dict of arrays: layout, initial values, counting, flat names, files.

Models here are pure functions of such a dict and not module objects. A module library would add a second form of the
same weights (its own state) with conversions at every border (optimiser, npz, Program, fused weights), and its rules on
lists of submodules differ between the two Flax versions that this package spans; a dict is read by all of them.
Initial values are drawn with NumPy, since JAX's generator changed its default between those versions.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .config import ViTConfig
from .heads import parse
from .types import AnyArray, Array, Params

Tree = dict[str, Any]
SEARCH_LEVELS = ("layer", "head", "row")
GELU_SEARCH_LEVELS = ("layer", "token")


def init(
    cfg: ViTConfig,
    seed: int | AnyArray = 0,
    *,
    attention: str = "softmax",
    search: str | None = None,
    search_gelu: str | None = None,
    dtype: Any = jnp.float32,
) -> Tree:
    """Initial parameters of `cfg`, the same values for a seed (or a JAX key) on every version of JAX.

    `attention` adds the parameters of the variants it names (the_x, linformer, xnorm); `search` ("layer", "head" or
    "row") adds alpha, shapes (1, 1, 1), (H, 1, 1) or (1, N, 1), and `search_gelu` ("layer" or "token") adds beta,
    shapes (1, 1) or (N, 1), all ones. Kernels are (in, out), convolutions (height, width, in, out).
    Raises ValueError on unknown names. Source: the original's init: linear normal .02 with zero bias, convolution
    Kaiming normal, positions normal .2, class token zero.
    """
    if search is not None and search not in SEARCH_LEVELS:
        raise ValueError(f"unknown search level {search!r}; use one of {', '.join(SEARCH_LEVELS)}")
    if search_gelu is not None and search_gelu not in GELU_SEARCH_LEVELS:
        raise ValueError(f"unknown search_gelu level {search_gelu!r}; use one of {', '.join(GELU_SEARCH_LEVELS)}")
    entropy = _entropy(seed)
    rng = np.random.default_rng(entropy)

    def linear(inputs: int, outputs: int, bias: bool = True) -> Tree:
        # The original truncates its normals at 10 or more standard deviations, which never happens.
        out: Tree = {"kernel": rng.normal(0.0, 0.02, (inputs, outputs))}
        return {**out, "bias": np.zeros(outputs)} if bias else out

    def norm() -> Tree:
        return {"scale": np.ones(cfg.dim), "bias": np.zeros(cfg.dim)}

    inner = cfg.heads * cfg.width
    tree: Tree = {"tokenizer": _tokenizer(cfg, rng)}
    if cfg.pool == "class":
        tree["class_token"] = np.zeros((1, 1, cfg.dim))
    else:
        tree["pool"] = linear(cfg.dim, 1)
    tree["positions"] = rng.normal(0.0, 0.2, (1, cfg.tokens, cfg.dim))
    blocks: Tree = {}
    alpha = {"layer": (1, 1, 1), "head": (cfg.heads, 1, 1), "row": (1, cfg.tokens, 1)}
    for i in range(cfg.layers):
        attn: Tree = {"qkv": linear(cfg.dim, 3 * inner, bias=False), "proj": linear(inner, cfg.dim)}
        for kind in parse(attention):
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


def _entropy(seed: int | AnyArray) -> list[int]:
    """The words that NumPy's generator starts from: of a seed itself, of a JAX key its data."""
    if isinstance(seed, (int, np.integer)):
        return [int(seed)]
    key = jnp.asarray(seed)
    words = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return [int(word) for word in np.asarray(words).reshape(-1)]


def _tokenizer(cfg: ViTConfig, rng: np.random.Generator) -> Tree:
    if cfg.conv is None:
        shapes = [(cfg.patch, cfg.patch, cfg.channels, cfg.dim)]
    else:
        c = cfg.conv
        widths = [cfg.channels, *[c.hidden] * (c.layers - 1), cfg.dim]
        shapes = [(c.kernel, c.kernel, widths[i], widths[i + 1]) for i in range(c.layers)]
    out: Tree = {}
    for i, shape in enumerate(shapes):
        fan_in = math.prod(shape[:3])
        out[str(i)] = {"kernel": rng.normal(0.0, math.sqrt(2.0 / fan_in), shape)}
        if cfg.conv is None:
            out[str(i)]["bias"] = rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape[3])
    return out


def count_params(params: Params) -> int:
    """Number of scalars in all arrays, alpha and beta included."""
    return sum(int(np.prod(np.shape(v))) for v in flatten(params).values())


def flatten(params: Params) -> dict[str, Any]:
    """{dotted name: array}, names in natural order (block 2 before block 10)."""
    flat: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], prefix: str) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{key}.")
            else:
                flat[f"{prefix}{key}"] = value

    walk(params, "")
    return {name: flat[name] for name in sorted(flat, key=_natural)}


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """Inverse of `flatten`."""
    tree: Tree = {}
    for name, value in flat.items():
        *path, leaf = name.split(".")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
        node[leaf] = value
    return tree


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if re.fullmatch(r"\d+", p) else (1, 0, p) for p in name.split(".")]


def save_params(path: str | os.PathLike[str], params: Params) -> None:
    """Write parameters as npz, one entry a dotted name."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in flatten(params).items()}
    np.savez(path, **arrays)


def load_params(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read parameters written by `save_params`. Raises OSError or ValueError on an unreadable file."""
    with np.load(path, allow_pickle=False) as data:
        flat: dict[str, Array] = {name: jnp.asarray(data[name]) for name in data.files}
    return unflatten(flat)
