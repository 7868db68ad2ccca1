"""The forward pass where products are homomorphic encryption: its cost is the number of ciphertexts.

Under CHEETAH the weights stay with the server, and a product with them is the client's ciphertexts times the server's
plaintext. What makes a product cheap under SEMI2K makes it expensive here: a matrix that has a secret part is no longer
plaintext, and a product of all heads with all heads encrypts zeros.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...config import ViTConfig
from ...types import Array, NpArray
from .fits import GELU_BOUND, Quartic
from .folded_pass import FoldedPass
from .functions import positive_parts, quartic


class HeadByHead(FoldedPass):
    """One batched product over the heads, each with its own channels only."""

    def _scores(self, q: Float[Array, "r c"], k: Float[Array, "n c"]) -> Float[Array, "h r n"]:
        return jnp.matmul(self._heads(q), jnp.swapaxes(self._heads(k), -1, -2))

    def _context(self, weights: Float[Array, "h r n"], v: Float[Array, "n c"]) -> Float[Array, "r c"]:
        return jnp.matmul(weights, self._heads(v)).transpose(1, 0, 2).reshape(weights.shape[1], -1)

    def _heads(self, x: Float[Array, "n c"]) -> Float[Array, "h n d"]:
        return x.reshape(-1, self.cfg.heads, self.cfg.width).transpose(1, 0, 2)


class Homomorphic(HeadByHead):
    """Products with weights have no secret part joined to them, and their rows fill a ciphertext."""

    def _normed(self, d: Float[Array, "n c"], name: str, kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        return self._times_weights(self._normalised(d, name), kernel)

    def _normalised(self, d: Float[Array, "n c"], name: str) -> Float[Array, "n c"]:
        return self._root(jnp.sum(d * d, axis=1, keepdims=True), name) * d

    def _mlp_and_residual(self, d: Float[Array, "n c"], name: str) -> tuple[Float[Array, "n m"], Float[Array, "n c"]]:
        p, width = self.weights, self.cfg.mlp_width
        normed, bias = self._normalised(d, f"{name}.norm1"), p[f"{name}.linear1.bias"]
        h = self._times_weights(normed, p[f"{name}.linear1.kernel"])
        return h[:, :width] + bias[:width], normed * p[f"{name}.past"] + h[:, width:] + bias[width:]

    def _times_weights(self, x: Float[Array, "n c"], kernel: Float[Array, "c k"]) -> Float[Array, "n k"]:
        patches = x.shape[0] - 1
        if patches < 2 or patches & (patches - 1):
            return x @ kernel
        # SPU fills a ciphertext of 8192 numbers with rows times a power of two: beside 2^k patches the class token
        # would leave half of it empty, and more than double the server's work.
        return jnp.concatenate([x[:1] @ kernel, x[1:] @ kernel])

    @staticmethod
    def gelu_with(
        x: Float[Array, "*s"], form: Quartic, checks: list[Array]
    ) -> tuple[Float[Array, "*s"], Float[Array, ""]]:
        # Two comparisons of each number, one after the other, instead of three at once: here each costs computing.
        (positive,), count = positive_parts([x], checks)
        size = positive + positive - x
        (above,), _ = positive_parts([size - GELU_BOUND * form.slope], [])
        return positive + quartic(size - above - form.shift, form), count


def narrow_residual(cfg: ViTConfig, arrays: Mapping[str, NpArray]) -> dict[str, NpArray]:
    """Folded weights with the residual beside the MLP as `past` (C,), and one more column of linear1, which centres it.

    Folded, the residual is a block of C columns of linear1, gain_i ([i = j] - 1 / C). As ciphertexts those columns are
    a third of the product; a multiplication by gain costs almost nothing.
    """
    narrow, width = dict(arrays), cfg.mlp_width
    for i in range(cfg.layers):
        kernel = arrays[f"blocks.{i}.linear1.kernel"]
        past = kernel[:, width:].diagonal() / (1.0 - 1.0 / cfg.dim)
        narrow[f"blocks.{i}.past"] = past
        narrow[f"blocks.{i}.linear1.kernel"] = np.column_stack([kernel[:, :width], past / -cfg.dim])
    return narrow
