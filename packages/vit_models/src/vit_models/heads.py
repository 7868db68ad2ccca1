"""Multi-head attention of one layer: its variants over heads and rows, as its mode says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from .config import ViTConfig
from .errors import ModelError
from .kernels import KernelSet
from .modes import LayerMode
from .static_index import inverse, take
from .types import Array, Params, Unary
from .variants import Env, Variant, attend, scores


def attention_layer(
    cfg: ViTConfig, params: Params, x: Float[Array, "b n c"], mode: LayerMode, kernels: KernelSet, drop: Unary
) -> Float[Array, "b n c"]:
    """Attention of one layer: qkv without bias, variants by `mode`, then proj.

    Raises ModelError where the search form or a variant lacks its parameters.
    """
    q, k, v = split_heads(cfg, x @ params["qkv"]["kernel"])
    out = merge_heads(_Attention(params, k, v, kernels, drop).contexts(q, mode))
    projected: Array = out @ params["proj"]["kernel"] + params["proj"]["bias"]
    return projected


def split_heads(cfg: ViTConfig, qkv: Float[Array, "b n qkv"]) -> tuple[Array, Array, Array]:
    """q, k, v, each (B, H, N, d), from the joint projection, whose columns are ordered (q k v, head, channel)."""
    b, n, _ = qkv.shape
    inner = cfg.heads * cfg.width
    q, k, v = (
        jnp.transpose(
            lax.slice_in_dim(qkv, i * inner, (i + 1) * inner, axis=2).reshape(b, n, cfg.heads, cfg.width),
            (0, 2, 1, 3),
        )
        for i in range(3)
    )
    return q, k, v


def merge_heads(context: Float[Array, "b h n d"]) -> Array:
    """(B, N, H d) from (B, H, N, d)."""
    b, h, n, d = context.shape
    return jnp.transpose(context, (0, 2, 1, 3)).reshape(b, n, h * d)


@dataclass(frozen=True)
class _Attention:
    """The keys and values (B, H, N, d) of one layer, and what its variants need; queries are (B, H, R, d)."""

    params: Params
    k: Array
    v: Array
    kernels: KernelSet
    drop: Unary

    def contexts(self, q: Array, mode: LayerMode) -> Array:
        """Context (B, H, N, d) of the queries of all tokens."""
        heads, rows = q.shape[1], q.shape[2]
        if mode.off is None:
            return self._over_heads(q, [mode.on] * heads)
        if mode.choice is None:
            return self._search(q, mode.on, mode.off)
        on = mode.choice.on
        if mode.choice.level != "row":
            bits = on * heads if mode.choice.level == "layer" else on
            return self._over_heads(q, [mode.on if bit else mode.off for bit in bits])
        kept = [i for i in range(rows) if on[i]]
        rest = [i for i in range(rows) if not on[i]]
        groups = [(mode.on, kept), (mode.off, rest)]
        parts = [self._over_heads(take(q, group, 2), [kind] * heads) for kind, group in groups if group]
        joined = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=2)
        return take(joined, inverse(kept + rest), 2)

    def _over_heads(self, q: Array, kinds: Sequence[Variant]) -> Array:
        """Context with variant kinds[h] on head h: one call for each kind, or for each head without batched heads."""
        if self.kernels.batched_heads:
            names = dict.fromkeys(kind.name for kind in kinds)
            groups = [[h for h, kind in enumerate(kinds) if kind.name == name] for name in names]
        else:
            groups = [[h] for h in range(len(kinds))]
        parts = []
        for group in groups:
            kind = kinds[group[0]]
            env = self._env(kind, group)
            parts.append(attend(kind, take(q, group, 1), take(self.k, group, 1), take(self.v, group, 1), env))
        joined = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)
        return take(joined, inverse([h for group in groups for h in group]), 1)

    def _search(self, q: Array, on: Variant, off: Variant) -> Array:
        """alpha * on + (1 - alpha) * off, alpha broadcast over (H, N, .). Source: paper, the searched attention."""
        if "alpha" not in self.params:
            raise ModelError(
                f"The attention '{on.name}+{off.name}' without a plan is the search form, and alpha is missing.",
                "pass plan=..., or make the parameters with init(cfg, seed, search='head').",
                "missing_parameters",
            )
        alpha = self.params["alpha"]
        every = list(range(q.shape[1]))
        env_on, env_off = self._env(on, every), self._env(off, every)
        if on.weights is not None and off.weights is not None:
            # Mixed as weights, as in the original: one dropout mask and one product with v.
            a = scores(q, self.k)
            mixed = self.drop(alpha * on.weights(a, env_on) + (1.0 - alpha) * off.weights(a, env_off))
            return jnp.matmul(mixed, self.v)
        k, v = self.k, self.v
        contexts: Array = alpha * attend(on, q, k, v, env_on) + (1.0 - alpha) * attend(off, q, k, v, env_off)
        return contexts

    def _env(self, kind: Variant, heads: Sequence[int]) -> Env:
        """What `kind` sees on these heads, with its own parameters."""
        if kind.init is None:
            return Env({}, self.kernels, self.drop)
        if kind.name not in self.params:
            raise ModelError(
                f"The attention {kind.name!r} has parameters of its own, which are missing.",
                f"make the parameters with init(cfg, seed, attention={kind.name!r}).",
                "missing_parameters",
            )
        own = self.params[kind.name]
        extra = {name: take(value, heads, 0) if name in kind.per_head else value for name, value in own.items()}
        return Env(extra, self.kernels, self.drop)
