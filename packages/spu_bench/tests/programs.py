"""Small Programs for the tests, written by hand from the format page, without vit_models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spu_bench.program import array_checksum, manifest_fingerprint


def two_layer(weights: dict[str, jax.Array], images: jax.Array, depth: int = 1) -> jax.Array:
    """A perceptron with one comparison, so that a run has products, a comparison and truncations."""
    hidden = images.reshape(len(images), -1) @ weights["first"]
    for step in range(depth):
        hidden = jnp.maximum(hidden, 0.01 * step)
    return hidden @ weights["second"] + weights["bias"]


def write_program(
    path: Path, *, batch: int = 1, pixels: int = 16, hidden: int = 32, depth: int = 1, seed: int = 0
) -> Path:
    """Write a two-layer perceptron with four classes as a Program; returns its directory.

    `depth` repeats the hidden comparison, for a run that takes long enough to be disturbed.
    """
    rng = np.random.default_rng(seed)
    weights = {
        "bias": rng.normal(size=4).astype(np.float32),
        "first": (rng.normal(size=(pixels, hidden)) / np.sqrt(pixels)).astype(np.float32),
        "second": (rng.normal(size=(hidden, 4)) / np.sqrt(hidden)).astype(np.float32),
    }
    images = rng.normal(size=(batch, pixels)).astype(np.float32)
    return save_program(path, "two_layer", partial(two_layer, depth=depth), weights, images)


def save_program(
    path: Path,
    name: str,
    model: Callable[[Any, Any], jax.Array],
    weights: dict[str, np.ndarray[Any, Any]],
    images: np.ndarray[Any, Any],
) -> Path:
    """Write `model` of the server's `weights` and the client's `images` as a Program; returns its directory."""
    lowered = jax.jit(model, keep_unused=True).trace(weights, images).lower(lowering_platforms=("interpreter",))
    module = lowered.compiler_ir("hlo").as_serialized_hlo_module_proto()
    logits = np.asarray(model(weights, images))
    path.mkdir(parents=True)
    np.savez(path / "server.npz", **weights)
    np.savez(path / "client.npz", images=images)
    np.savez(path / "reference.npz", logits=logits)
    manifest: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "module": {"file": "module.hlo"},
        "arguments": [
            *({**_spec(name, array), "holder": "server"} for name, array in sorted(weights.items())),
            {**_spec("images", images), "holder": "client"},
        ],
        "outputs": [_spec("logits", logits)],
        "made_by": {"test": True},
    }
    (path / "program.json").write_text(json.dumps(manifest))
    return replace_module(path, module)


def replace_module(path: Path, module: bytes) -> Path:
    """Give the Program at `path` another module, with its checksum and the manifest's new fingerprint."""
    manifest = json.loads((path / "program.json").read_text())
    (path / "module.hlo").write_bytes(module)
    manifest["module"]["sha256"] = hashlib.sha256(module).hexdigest()
    manifest["fingerprint"] = manifest_fingerprint(manifest)
    (path / "program.json").write_text(json.dumps(manifest))
    return path


def _spec(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "dtype": array.dtype.name, "sha256": array_checksum(array)}


def _attention(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    queries, keys = (images @ weights[name] for name in ("queries", "keys"))
    return jax.nn.softmax(queries @ keys.T / 4.0) @ (images @ weights["values"])


def _normalized(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    hidden = images @ weights["queries"]
    centred = hidden - hidden.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 0.01) @ weights["keys"].T


def _activated(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    hidden = jax.nn.gelu(images @ weights["queries"])
    return jax.nn.sigmoid(hidden) / (1.0 + hidden**2) + jnp.log1p(jnp.exp(hidden))


def _compared(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    hidden = images @ weights["queries"]
    return jnp.where(hidden > 0, hidden, 0.1 * hidden) - hidden.max(-1, keepdims=True)


def _convolved(weights: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    kernel = weights["queries"].reshape(16, 1, 8)[:5]
    found = jax.lax.conv_general_dilated(
        images[..., None], kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    return found.max(axis=1)


KINDS: dict[str, Callable[[Any, Any], jax.Array]] = {
    "attention": _attention,
    "normalized": _normalized,
    "activated": _activated,
    "compared": _compared,
    "convolved": _convolved,
}
"""Models of the operations that a Program of a vision transformer can have."""


def write_kind(path: Path, kind: str, *, batch: int = 4) -> Path:
    """Write the model KINDS[kind] as a Program; returns its directory."""
    rng = np.random.default_rng(1)
    weights = {name: (rng.normal(size=(16, 8)) / 4).astype(np.float32) for name in ("keys", "queries", "values")}
    return save_program(path, kind, KINDS[kind], weights, rng.normal(size=(batch, 16)).astype(np.float32))
