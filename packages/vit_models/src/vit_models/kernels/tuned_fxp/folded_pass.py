"""The forward pass of the tuned kernels over folded weights: operations that can share one message do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

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
from .supported import Kind, TunedModel

MARK = 2**12


def whole_multiple(x: Array, times: int) -> Array:
    """x times a positive whole number, by additions: a product would be truncated."""
    total, power = None, x
    while times:
        if times & 1:
            total = power if total is None else total + power
        power, times = power + power, times >> 1
    assert total is not None
    return total


class FoldedPass:
    """The forward pass of one image, or of several images side by side.

    `secret_weights` says whether the weights are secret: a product with public ones needs no message, so nothing is
    joined to it. `checks` collects values that must not be positive; the next comparison counts those that are.
    `ablation` replaces single methods.
    """

    joint_squares = True
    exponential = staticmethod(exponential)
    normalise = staticmethod(normalise)
    gelu_with = staticmethod(gelu_with)

    def __init__(
        self, model: TunedModel, weights: Mapping[str, Any], norms: Mapping[str, Norm], secret_weights: bool
    ) -> None:
        self.cfg, self.kinds, self.gelu = model.cfg, model.kinds, model.gelu
        self.weights, self.norms, self.secret_weights = weights, norms, secret_weights
        self.alone = True
        self.checks: list[Array] = []

    def __call__(self, images: Float[Array, "b height width channels"]) -> Float[Array, "b classes"]:
        """Logits. Each value outside the range that its kernel was built for lowers all logits of its image by 4096."""
        self.alone = images.shape[0] == 1
        if self.alone:
            return self._logits(images[0])[None]
        return jax.vmap(self._logits)(images)

    def _logits(self, image: Float[Array, "height width channels"]) -> Float[Array, " classes"]:
        cfg, p = self.cfg, self.weights
        out_of_range = jnp.zeros((), image.dtype)
        d = self._embed(image)
        for i in range(cfg.layers):
            name = f"blocks.{i}"
            qkv = self._normed(d, f"{name}.pre_norm", p[f"{name}.qkv.kernel"]) + p[f"{name}.qkv.bias"]
            if i == 0:
                qkv = jnp.concatenate([p[f"{name}.class_qkv"][None], qkv[1:]])
            if i + 1 == cfg.layers:
                d = d[:1]
            attended = self._attended(qkv, d.shape[0], i)
            d = d + self._times_weights(attended, p[f"{name}.proj.kernel"]) + p[f"{name}.proj.bias"]
            h, past = self._mlp_and_residual(d, name)
            y, count = self._activated(h)
            d = past + self._times_weights(y, p[f"{name}.linear2.kernel"])
            out_of_range = out_of_range + count
        logits: Array = self._normed(d, "norm", p["head.kernel"])[0] + p["head.bias"]
        return logits - whole_multiple(out_of_range, MARK)

    def _embed(self, image: Array) -> Float[Array, "n c"]:
        cfg, g, s = self.cfg, self.cfg.grid, self.cfg.patch
        patches = image.reshape(g, s, g, s, cfg.channels).transpose(0, 2, 1, 3, 4).reshape(g * g, -1)
        tokens = self.weights["embed.tokens"]
        return jnp.concatenate([tokens[:1], patches @ self.weights["embed.kernel"] + tokens[1:]])

    def _times_weights(self, x: Float[Array, "n c"], kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        return x @ kernel

    def _mlp_and_residual(self, d: Float[Array, "n c"], name: str) -> tuple[Float[Array, "n m"], Float[Array, "n c"]]:
        """The normed tokens as the MLP's hidden values, and as the residual beside it: one product for both."""
        h = (
            self._normed(d, f"{name}.norm1", self.weights[f"{name}.linear1.kernel"])
            + self.weights[f"{name}.linear1.bias"]
        )
        return h[:, : self.cfg.mlp_width], h[:, self.cfg.mlp_width :]

    def _normed(self, d: Float[Array, "n c"], name: str, kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        """LayerNorm of d (already centred) times kernel: the factor 1 / sqrt multiplies their product once."""
        k = kernel.shape[1]
        eye = jnp.eye(d.shape[0], dtype=bool)
        if self.alone and self.secret_weights and self.joint_squares:
            # The squares share the product with the kernel, as the diagonal of d d^T.
            product = d @ jnp.concatenate([kernel, d.T], axis=1)
            squares = jnp.sum(jnp.where(eye, product[:, k:], 0.0), axis=1, keepdims=True)
            product = product[:, :k]
        else:
            product, squares = d @ kernel, jnp.sum(d * d, axis=1, keepdims=True)
        root = self._root(squares, name)
        # A diagonal matrix opens less than a broadcast column.
        return jnp.where(eye, root, 0.0) @ product if self.alone else root * product

    def _root(self, squares: Float[Array, "n 1"], name: str) -> Float[Array, "n 1"]:
        """1 / sqrt(variance) of the LayerNorm `name` from sums of squares, without the factor in the weights."""
        static = self.norms[name]
        u = whole_multiple(squares, static.times) - self.weights[f"{name}.centre"]
        if name == "blocks.0.pre_norm":
            # The class token's own variance is outside, and its row is not used.
            self.checks += [u[1:] - static.width, -u[1:] - static.width]
        else:
            self.checks += [u - static.width, -u - static.width]
        return product_form(u, self.weights[f"{name}.linear"], self.weights[f"{name}.constant"])

    def _attended(self, qkv: Float[Array, "n qkv"], rows: int, layer: int) -> Float[Array, "r c"]:
        """Context of the first `rows` tokens."""
        kinds, inner = self.kinds[layer], self.cfg.heads * self.cfg.width
        q, k, v = qkv[:rows, :inner], qkv[:, inner : 2 * inner], qkv[:, 2 * inner :]
        a = self._scores(q, k)
        groups = {kind: [h for h, other in enumerate(kinds) if other == kind] for kind in dict.fromkeys(kinds)}
        parts = [self._attention_weights(kind, take(a, group, 0), layer) for kind, group in groups.items()]
        joined = parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        return self._context(take(joined, inverse([h for group in groups.values() for h in group]), 0), v)

    def _head_mask(self) -> Array:
        """Boolean (H, 1, H d): the channels of each head. A product for each head would cost its rounds for each."""
        return jnp.repeat(jnp.eye(self.cfg.heads, dtype=bool), self.cfg.width, axis=1)[:, None, :]

    def _scores(self, q: Float[Array, "r c"], k: Float[Array, "n c"]) -> Float[Array, "h r n"]:
        """q k^T of every head, all in one product."""
        heads, (rows, inner) = self.cfg.heads, q.shape
        return (jnp.where(self._head_mask(), q[None], 0.0).reshape(heads * rows, inner) @ k.T).reshape(heads, rows, -1)

    def _context(self, weights: Float[Array, "h r n"], v: Float[Array, "n c"]) -> Float[Array, "r c"]:
        """Every head's weights times its values, all in one product."""
        heads, rows, n = weights.shape
        every = (weights.reshape(heads * rows, n) @ v).reshape(heads, rows, -1)
        return jnp.sum(jnp.where(self._head_mask(), every, 0.0), axis=0)

    def _attention_weights(self, kind: Kind, a: Float[Array, "h r n"], layer: int) -> Float[Array, "h r n"]:
        if kind == "scale":
            return a
        if kind == "softmax":
            shift = self.weights[f"blocks.{layer}.score_shift"][:, None, None]
            weights, beyond = self.normalise(self.exponential(a + shift), SOFTMAX_OCTAVES)
        else:
            weights, beyond = self.normalise(jnp.maximum(a, 0.0), RELU_OCTAVES)
        self.checks.append(beyond)
        return weights

    def _activated(self, h: Float[Array, "n m"]) -> tuple[Array, Array]:
        """The activation, and how many values checked since the last call are out of range."""
        checks, self.checks = self.checks, []
        if self.gelu == "relu":
            (positive,), count = positive_parts([h], checks)
            return positive, count
        form, _ = gelu_gap("tanh" if self.gelu == "tanh" else "exact")
        return self.gelu_with(h, form, checks)
