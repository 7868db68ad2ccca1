"""The forward pass of the ring kernels.

What the parties see: the structure in `RingPlan`, and of every value only the openings that SEMI2K's products,
truncations and comparisons make, each masked. Only the logits are revealed, to the client. Whether a value was out of
range is part of the logits and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...types import NpArray
from .arithmetic import FRACTION_BITS, Ring, Values, truncate
from .attention import Shape, attend
from .gelu import gelu
from .norm import NormPlan, norm_product
from .structure import LayerPlan, RingPlan

MARK = 2**12
LOGIT_RANGE: int = 1 << (64 - FRACTION_BITS)
JOINT_ROWS = 1100
"""Most rows whose sums of squares are the diagonal of a product: that product grows with their square."""


class RingPass:
    """The logits of `images` over the folded arrays, with the operations of `ring`."""

    def __init__(self, plan: RingPlan, arrays: Mapping[str, Values], ring: Ring) -> None:
        self.plan, self.arrays, self.ring, self.xp = plan, arrays, ring, ring.xp
        self.images = 1
        self.checks: list[Values] = []

    def __call__(self, images: Values) -> Values:
        """Logits (B, classes). Each value outside its range lowers all logits of its image by `mark`."""
        cfg, p = self.plan.cfg, self.arrays
        self.images, self.checks = images.shape[0], []
        d = self._embed(images)
        rows = cfg.tokens
        for i, layer in enumerate(self.plan.layers):
            last = i + 1 == len(self.plan.layers)
            qkv = self._qkv(d, layer, i)
            if last and cfg.pool == "class":
                d, rows = self._class_rows(d), 1
            context = self._attended(qkv, layer, i, rows)
            out = self.ring.dot(context, p[f"blocks.{i}.proj.kernel"]) + p[f"blocks.{i}.proj.bias"]
            d = self._stream(out + d * 2**layer.attended_cut, layer.attended_cut)
            out = self._mlp(d, layer, i, rows)
            d = self._stream(out, layer.written_cut)
        return self._head(d, rows)

    def _embed(self, images: Values) -> Values:
        cfg, b = self.plan.cfg, self.images
        g, s = cfg.grid, cfg.patch
        x = self.ring.from_images(images).reshape(b, g, s, g, s, cfg.channels)
        patches = x.transpose(0, 1, 3, 2, 4, 5).reshape(b * g * g, -1)
        tokens = self.arrays["embed.tokens"]
        out = self.ring.dot(patches, self.arrays["embed.kernel"]).reshape(b, g * g, cfg.dim) + tokens[1:]
        first = self.xp.broadcast_to(tokens[:1], (b, 1, cfg.dim))
        return self._stream(
            self.xp.concatenate([first, out], axis=1).reshape(b * cfg.tokens, cfg.dim), self.plan.embedded_cut
        )

    def _stream(self, out: Values, cut: int) -> Values:
        (d,) = truncate(self.ring, [(out, cut)])
        return d

    def _normed(
        self, d: Values, plan: NormPlan, name: str, kernel: Values, rows: int, skip_class: bool = False
    ) -> Values:
        """The product after the LayerNorm `name`, not truncated, for `rows` tokens of each image."""
        arrays = {k: self.arrays[f"{name}.{k}"] for k in ("centre", "limit", "linear", "constant")}
        joint = d.shape[0] <= JOINT_ROWS
        class_rows = np.tile(np.arange(rows) == 0, self.images)
        out, checks = norm_product(self.ring, plan, arrays, d, kernel, class_rows, skip_class=skip_class, joint=joint)
        self.checks += [c.reshape(self.images, -1) for c in checks]
        return out

    def _qkv(self, d: Values, layer: LayerPlan, i: int) -> tuple[Values, Values, Values]:
        cfg, p, name = self.plan.cfg, self.arrays, f"blocks.{i}"
        kernel = p[f"{name}.qkv.kernel"]
        # The class token enters the first layer as a constant: its row comes from the server.
        first = i == 0
        out = self._normed(d, layer.pre_norm, f"{name}.pre_norm", kernel, cfg.tokens, first) + p[f"{name}.qkv.bias"]
        if first:
            out = out.reshape(self.images, cfg.tokens, -1)
            row = self.xp.broadcast_to(p[f"{name}.class_qkv"], (self.images, 1, out.shape[-1]))
            out = self.xp.concatenate([row, out[:, 1:]], axis=1).reshape(self.images * cfg.tokens, -1)
        cut = self.ring.shift(out)
        inner = cfg.heads * cfg.width
        return cut[:, :inner], cut[:, inner : 2 * inner], cut[:, 2 * inner :]

    def _attended(self, qkv: tuple[Values, Values, Values], layer: LayerPlan, i: int, rows: int) -> Values:
        cfg = self.plan.cfg
        q, k, v = qkv
        if rows == 1:
            q = self._class_rows(q)
        shape = Shape(self.images, rows, cfg.tokens, cfg.heads, cfg.width)
        shifts = self.arrays[f"blocks.{i}.score_shift"] if "softmax" in layer.kinds else None
        context, checks = attend(self.ring, shape, layer.kinds, (q, k, v), shifts)
        self.checks += [c.reshape(self.images, -1) for c in checks]
        return context

    def _mlp(self, d: Values, layer: LayerPlan, i: int, rows: int) -> Values:
        """The next stream's values, not truncated: linear2 of the activation, and the residual from norm1."""
        cfg, p, name = self.plan.cfg, self.arrays, f"blocks.{i}"
        out = self._normed(d, layer.norm1, f"{name}.norm1", p[f"{name}.linear1.kernel"], rows)
        out = out + p[f"{name}.linear1.bias"]
        if layer.kept == ():
            return out
        h = self.ring.shift(out)
        h, past = h[:, : cfg.mlp_width], h[:, cfg.mlp_width :]
        if layer.kept is None:
            y = self._activated(h, layer)
        else:
            kept, h = [row for row in layer.kept if row < rows], h.reshape(self.images, rows, -1)
            # What does not keep the activation only changes its scale.
            parts = [h[:, row] * (1 if layer.gelu is None else layer.gelu.identity) for row in range(rows)]
            if kept:
                active = self.xp.stack([h[:, row] for row in kept], axis=1).reshape(-1, cfg.mlp_width)
                active = self._activated(active, layer).reshape(self.images, len(kept), -1)
                for position, row in enumerate(kept):
                    parts[row] = active[:, position]
            y = self.xp.stack(parts, axis=1).reshape(self.images * rows, -1)
        return self.ring.dot(y, p[f"{name}.linear2.kernel"]) + past * 2**layer.written_cut

    def _activated(self, h: Values, layer: LayerPlan) -> Values:
        if layer.gelu is None:
            return self.ring.relu(h)
        y, guard = gelu(self.ring, layer.gelu, h)
        self.checks.append(guard.reshape(self.images, -1))
        return y

    def _head(self, d: Values, rows: int) -> Values:
        p, name = self.arrays, "norm"
        logits = self._normed(d, self.plan.final, name, p["head.kernel"], rows) + p["head.bias"]
        checks = self.xp.concatenate(self.checks, axis=1)
        count = self.xp.sum(self.ring.positive(checks), axis=1, keepdims=True)
        return self.ring.to_logits(logits - count * (mark(checks.shape[1]) * 2**FRACTION_BITS))

    def _class_rows(self, x: Values) -> Values:
        """The first row of each image."""
        return x.reshape(self.images, -1, x.shape[-1])[:, 0]


def mark(checks: int) -> int:
    """By how much each of so many checks lowers the logits: all of them together do not go round the ring."""
    most = min(MARK, LOGIT_RANGE // (checks + 2))
    return 1 << (most.bit_length() - 1)


def whole(x: NpArray) -> NpArray:
    """x rounded to int64."""
    rounded: NpArray = np.asarray(np.rint(x).astype(np.int64))
    return rounded
