"""The forward pass of the tuned kernels over folded weights: what can share a call does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ...config import ViTConfig
from ...static_index import inverse, take
from ...types import Array
from .fits import gelu_gap
from .folding import Norm
from .functions import (
    RELU_OCTAVES,
    SOFTMAX_OCTAVES,
    exponential,
    gelu_with,
    normalise,
    positive_parts,
    product_form,
)

MARK = 2**12


def doubled(x: Array, times: int) -> Array:
    """x times a whole number by additions: a product would be truncated."""
    total, power = None, x
    while times:
        if times & 1:
            total = power if total is None else total + power
        power, times = power + power, times >> 1
    assert total is not None
    return total


class Pass:
    """Images through the model, one of them alone or several side by side.

    `secret` says whether the weights are: products with public ones need no partner, and take none along. `checks`
    gathers what must not be positive until the next comparison takes it along. What `ablation` replaces are methods.
    """

    joint_squares = True
    exponential = staticmethod(exponential)
    normalise = staticmethod(normalise)
    gelu_with = staticmethod(gelu_with)

    def __init__(
        self,
        cfg: ViTConfig,
        params: Mapping[str, Any],
        kinds: list[list[str]],
        norms: Mapping[str, Norm],
        gelu: str,
        secret: bool,
    ) -> None:
        self.cfg, self.p, self.kinds = cfg, params, kinds
        self.norms, self.gelu, self.secret = norms, gelu, secret
        self.alone = True
        self.checks: list[Array] = []

    def __call__(self, images: Float[Array, "b height width channels"]) -> Float[Array, "b classes"]:
        """Logits. Each value that leaves the range its kernel was built for lowers all logits of its image by 4096."""
        self.alone = images.shape[0] == 1
        if self.alone:
            return self._logits(images[0])[None]
        return jax.vmap(self._logits)(images)

    def _logits(self, image: Float[Array, "height width channels"]) -> Float[Array, " classes"]:
        cfg, p = self.cfg, self.p
        strays = jnp.zeros((), image.dtype)
        d = self._embedded(image)
        for i in range(cfg.layers):
            name = f"blocks.{i}"
            qkv = self._normed(d, f"{name}.pre_norm", p[f"{name}.qkv.kernel"]) + p[f"{name}.qkv.bias"]
            if i == 0:
                qkv = jnp.concatenate([p[f"{name}.class_qkv"][None], qkv[1:]])
            if i + 1 == cfg.layers:
                d = d[:1]
            attended = self._attended(qkv, d.shape[0], i)
            d = d + self._by_weights(attended, p[f"{name}.proj.kernel"]) + p[f"{name}.proj.bias"]
            h, past = self._two_ways(d, name)
            y, count = self._activated(h)
            d = past + self._by_weights(y, p[f"{name}.linear2.kernel"])
            strays = strays + count
        logits: Array = self._normed(d, "norm", p["head.kernel"])[0] + p["head.bias"]
        return logits - doubled(strays, MARK)

    def _embedded(self, image: Array) -> Float[Array, "n c"]:
        cfg, g, s = self.cfg, self.cfg.grid, self.cfg.patch
        patches = image.reshape(g, s, g, s, cfg.channels).transpose(0, 2, 1, 3, 4).reshape(g * g, -1)
        tokens = self.p["embed.tokens"]
        return jnp.concatenate([tokens[:1], patches @ self.p["embed.kernel"] + tokens[1:]])

    def _by_weights(self, x: Float[Array, "n c"], kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        return x @ kernel

    def _two_ways(self, d: Float[Array, "n c"], name: str) -> tuple[Float[Array, "n m"], Float[Array, "n c"]]:
        """The normed token into the MLP and past it: one product for both."""
        h = self._normed(d, f"{name}.norm1", self.p[f"{name}.linear1.kernel"]) + self.p[f"{name}.linear1.bias"]
        return h[:, : self.cfg.mlp_width], h[:, self.cfg.mlp_width :]

    def _normed(self, d: Float[Array, "n c"], name: str, kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        """LayerNorm of d (already centred) times kernel, both to be multiplied by what 1 / sqrt gives, once."""
        k = kernel.shape[1]
        eye = jnp.eye(d.shape[0], dtype=bool)
        if self.alone and self.secret and self.joint_squares:
            # The squares ride in the product with the kernel, as the diagonal of d d^T.
            product = d @ jnp.concatenate([kernel, d.T], axis=1)
            squares = jnp.sum(jnp.where(eye, product[:, k:], 0.0), axis=1, keepdims=True)
            product = product[:, :k]
        else:
            product, squares = d @ kernel, jnp.sum(d * d, axis=1, keepdims=True)
        root = self._root(squares, name)
        # A diagonal matrix opens less than a broadcast column.
        return jnp.where(eye, root, 0.0) @ product if self.alone else root * product

    def _root(self, squares: Float[Array, "n 1"], name: str) -> Float[Array, "n 1"]:
        """1 / sqrt(variance) but for a factor in the weights, of the sums of squares of the LayerNorm `name`."""
        static = self.norms[name]
        u = doubled(squares, static.times) - self.p[f"{name}.centre"]
        if name == "blocks.0.pre_norm":
            # The class token's own variance is outside, and its row is not used.
            self.checks += [u[1:] - static.width, -u[1:] - static.width]
        else:
            self.checks += [u - static.width, -u - static.width]
        return product_form(u, self.p[f"{name}.linear"], self.p[f"{name}.constant"])

    def _attended(self, qkv: Float[Array, "n qkv"], rows: int, layer: int) -> Float[Array, "r c"]:
        """Context of the first `rows` tokens."""
        kinds, inner = self.kinds[layer], self.cfg.heads * self.cfg.width
        q, k, v = qkv[:rows, :inner], qkv[:, inner : 2 * inner], qkv[:, 2 * inner :]
        a = self._scores(q, k)
        groups = {kind: [h for h, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)}
        parts = [self._weights(kind, take(a, group, 0), layer) for kind, group in groups.items()]
        joined = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        return self._context(take(joined, inverse([h for group in groups.values() for h in group]), 0), v)

    def _own(self) -> Array:
        # Head h's block of rows keeps its own channels: a product for each head would cost its rounds for each.
        return jnp.repeat(jnp.eye(self.cfg.heads, dtype=bool), self.cfg.width, axis=1)[:, None, :]

    def _scores(self, q: Float[Array, "r c"], k: Float[Array, "n c"]) -> Float[Array, "h r n"]:
        """q k^T of every head, all in one product."""
        heads, (rows, inner) = self.cfg.heads, q.shape
        return (jnp.where(self._own(), q[None], 0.0).reshape(heads * rows, inner) @ k.T).reshape(heads, rows, -1)

    def _context(self, weights: Float[Array, "h r n"], v: Float[Array, "n c"]) -> Float[Array, "r c"]:
        """Every head's weights times its values, all in one product."""
        heads, rows, n = weights.shape
        every = (weights.reshape(heads * rows, n) @ v).reshape(heads, rows, -1)
        return jnp.sum(jnp.where(self._own(), every, 0.0), axis=0)

    def _weights(self, kind: str, a: Float[Array, "h r n"], layer: int) -> Float[Array, "h r n"]:
        if kind == "scale":
            return a
        if kind == "softmax":
            shift = self.p[f"blocks.{layer}.score_shift"][:, None, None]
            weights, beyond = self.normalise(self.exponential(a + shift), SOFTMAX_OCTAVES)
        else:
            weights, beyond = self.normalise(jnp.maximum(a, 0.0), RELU_OCTAVES)
        self.checks.append(beyond)
        return weights

    def _activated(self, h: Float[Array, "n m"]) -> tuple[Array, Array]:
        """The activation, and how many of the values noted since the last call leave their ranges."""
        checks, self.checks = self.checks, []
        if self.gelu == "relu":
            (positive,), count = positive_parts([h], checks)
            return positive, count
        form, _ = gelu_gap("tanh" if self.gelu == "tanh" else "exact")
        return self.gelu_with(h, form, checks)
