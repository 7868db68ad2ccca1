"""The forward pass where products are homomorphic encryption: what counts is ciphertexts, and whose weights they are.

Under CHEETAH the weights stay with the server, and a product with them is the client's ciphertexts times the server's
plaintext. What makes a call cheap under SEMI2K makes it dear here: a matrix that carries something secret along is no
longer plaintext, and a product of all heads with all heads encrypts zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...config import ViTConfig
from ...types import Array, NpArray
from .fits import GELU_BOUND, Quartic
from .forward import Pass
from .functions import positive_parts, quartic


class HeadByHead(Pass):
    """A batched product of the heads, each with its own channels alone."""

    def _scores(self, q: Float[Array, "r c"], k: Float[Array, "n c"]) -> Float[Array, "h r n"]:
        return jnp.matmul(self._heads(q), jnp.swapaxes(self._heads(k), -1, -2))

    def _context(self, weights: Float[Array, "h r n"], v: Float[Array, "n c"]) -> Float[Array, "r c"]:
        return jnp.matmul(weights, self._heads(v)).transpose(1, 0, 2).reshape(weights.shape[1], -1)

    def _heads(self, x: Float[Array, "n c"]) -> Float[Array, "h n d"]:
        return x.reshape(-1, self.cfg.heads, self.cfg.width).transpose(1, 0, 2)


class Homomorphic(HeadByHead):
    """Products with weights take nothing along, and come in rows that fill a ciphertext."""

    def _normed(self, d: Float[Array, "n c"], name: str, kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        return self._by_weights(self._divided(d, name), kernel)

    def _divided(self, d: Float[Array, "n c"], name: str) -> Float[Array, "n c"]:
        return self._root(jnp.sum(d * d, axis=1, keepdims=True), name) * d

    def _two_ways(self, d: Float[Array, "n c"], name: str) -> tuple[Float[Array, "n m"], Float[Array, "n c"]]:
        p, width = self.p, self.cfg.mlp_width
        normed, bias = self._divided(d, f"{name}.norm1"), p[f"{name}.linear1.bias"]
        h = self._by_weights(normed, p[f"{name}.linear1.kernel"])
        return h[:, :width] + bias[:width], normed * p[f"{name}.past"] + h[:, width:] + bias[width:]

    def _by_weights(self, x: Float[Array, "n c"], kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        patches = x.shape[0] - 1
        if patches < 2 or patches & (patches - 1):
            return x @ kernel
        # SPU fills a ciphertext of 8192 numbers with rows times a power of two: beside 2^k patches the class token
        # would leave half of it empty, at more than twice the server's work.
        return jnp.concatenate([x[:1] @ kernel, x[1:] @ kernel])

    @staticmethod
    def gelu_with(
        x: Float[Array, "*s"], form: Quartic, checks: list[Array]
    ) -> tuple[Float[Array, "*s"], Float[Array, ""]]:
        # Two comparisons a number, one after the other, in place of three at once: here each costs its computing.
        (positive,), count = positive_parts([x], checks)
        size = positive + positive - x
        (above,), _ = positive_parts([size - GELU_BOUND * form.slope], [])
        return positive + quartic(size - above - form.shift, form), count


def narrowed(cfg: ViTConfig, arrays: Mapping[str, NpArray]) -> dict[str, NpArray]:
    """Folded weights with the way past the MLP as `past` (C,) and one more column of linear1, which centres it.

    Folded, it is a block of C columns, gain_i ([i = j] - 1 / C), so that both ways leave one product. As ciphertexts
    those are a third of the product; a multiplication by gain is next to nothing.
    """
    narrow, width = dict(arrays), cfg.mlp_width
    for i in range(cfg.layers):
        kernel = arrays[f"blocks.{i}.linear1.kernel"]
        past = kernel[:, width:].diagonal() / (1.0 - 1.0 / cfg.dim)
        narrow[f"blocks.{i}.past"] = past
        narrow[f"blocks.{i}.linear1.kernel"] = np.column_stack([kernel[:, :width], past / -cfg.dim])
    return narrow
