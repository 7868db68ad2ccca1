"""Attention of all heads of a layer: scores, weights by head, context. Scale has no step between its products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...types import NpArray
from ..tuned_fxp.supported import Kind
from .arithmetic import Ring, Values
from .weights import RELU_OCTAVES, SOFTMAX_OCTAVES, exponential, normalise


@dataclass(frozen=True)
class Shape:
    """Of a layer's attention: images, queries and keys of one image, heads, channels of a head."""

    images: int
    queries: int
    keys: int
    heads: int
    width: int


def attend(
    ring: Ring,
    shape: Shape,
    kinds: Sequence[Kind],
    qkv: tuple[Values, Values, Values],
    shifts: Values | None,
) -> tuple[Values, list[Values]]:
    """Context (images x queries, heads x width), not truncated, and values that must not be positive.

    q (images x queries, heads x width), k and v (images x keys, heads x width); `shifts` (Softmax heads) are added to
    their scores. Rounds: 2, and those of the weights, once for all heads of a kind.
    """
    q, k, v = qkv
    s = shape
    blocks = [
        _scores(ring, s, q[i * s.queries : (i + 1) * s.queries], k[i * s.keys : (i + 1) * s.keys])
        for i in range(s.images)
    ]
    # (heads, images, queries, keys)
    a = blocks[0][:, None] if s.images == 1 else ring.xp.stack(blocks, axis=1)
    weights, checks = _weights(ring, kinds, a, shifts)
    context = [_context(ring, s, weights[:, i], v[i * s.keys : (i + 1) * s.keys]) for i in range(s.images)]
    return context[0] if s.images == 1 else ring.xp.concatenate(context), checks


def _weights(ring: Ring, kinds: Sequence[Kind], a: Values, shifts: Values | None) -> tuple[Values, list[Values]]:
    """The weights of each head by its kind, and checks; Scale's are the scores."""
    xp, checks = ring.xp, []
    of: dict[int, Values] = {}
    for kind in dict.fromkeys(kinds):
        heads = [h for h, other in enumerate(kinds) if other == kind]
        if kind == "scale":
            made = xp.stack([a[h] for h in heads])
        else:
            x = xp.stack([a[h] for h in heads])
            if kind == "softmax":
                assert shifts is not None
                x = exponential(ring, x + shifts[:, None, None, None])
                made, beyond = normalise(ring, x, SOFTMAX_OCTAVES)
            else:
                made, beyond = normalise(ring, ring.relu(x), RELU_OCTAVES)
            # One value for each query and head.
            checks.append(xp.moveaxis(beyond[..., 0], 1, 0))
        of.update({h: made[i] for i, h in enumerate(heads)})
    return xp.stack([of[h] for h in range(len(kinds))]), checks


def _head_mask(s: Shape) -> NpArray:
    """(H, 1, H d): the channels of each head. A product for each head would cost its rounds for each."""
    mask: NpArray = np.repeat(np.eye(s.heads, dtype=bool), s.width, axis=1)[:, None, :]
    return mask


def _scores(ring: Ring, s: Shape, q: Values, k: Values) -> Values:
    """q k^T of every head (H, queries, keys), all in one product."""
    if s.heads == 1:
        return ring.dot(q, k.T)[None]
    masked = ring.xp.where(_head_mask(s), q[None], 0).reshape(s.heads * s.queries, s.heads * s.width)
    return ring.dot(masked, k.T).reshape(s.heads, s.queries, s.keys)


def _context(ring: Ring, s: Shape, weights: Values, v: Values) -> Values:
    """Every head's weights times its values, all in one product; what mixes heads is dropped."""
    every = ring.dot(weights.reshape(s.heads * s.queries, s.keys), v).reshape(s.heads, s.queries, s.heads * s.width)
    return ring.xp.sum(ring.xp.where(_head_mask(s), every, 0), axis=0)
