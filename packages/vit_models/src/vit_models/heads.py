"""Multi-head attention of one layer: variants laid over heads and rows as a static plan, or a search, says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from .config import ViTConfig
from .kernels import KernelSet
from .plan import AttentionPlan, Choice
from .static_index import inverse, take
from .types import Array, Params
from .variants import Env, Variant, attend, scores, variant

MIXES = {"mix": ("relu_softmax", "scale"), "softmax_scale": ("softmax", "scale")}


@dataclass(frozen=True)
class LayerMode:
    """What one layer computes: `on` alone (off None), a static split (choice given), or the search form (choice None)."""

    on: Variant
    off: Variant | None = None
    choice: Choice | None = None


def parse(attention: str) -> tuple[Variant, Variant | None]:
    """The one or two variants that an attention name means: a variant, "mix", "softmax_scale", or "on+off".

    Raises ValueError on unknown names.
    """
    names = MIXES.get(attention) or tuple(attention.split("+"))
    if len(names) > 2:
        raise ValueError(f"attention {attention!r} mixes more than two variants; use 'on+off'")
    return variant(names[0]), variant(names[1]) if len(names) == 2 else None


def resolve(cfg: ViTConfig, attention: str | None, plan: AttentionPlan | None) -> tuple[LayerMode, ...]:
    """One mode a layer. `attention` None means "mix" where the plan has an attention part, else "softmax".

    Raises ValueError where name and plan do not go together.
    """
    choices = plan.attention if plan is not None else None
    if plan is not None:
        plan.check(cfg)
    if attention is None:
        attention = "mix" if choices is not None else "softmax"
    on, off = parse(attention)
    if off is None:
        if choices is not None:
            raise ValueError(
                f"attention {attention!r} has nothing to choose from; use '{attention}+scale', or a plan with no attention part"
            )
        return (LayerMode(on),) * cfg.layers
    if choices is None:
        return (LayerMode(on, off),) * cfg.layers
    return tuple(LayerMode(on, off, c) for c in choices)


def attention_layer(
    cfg: ViTConfig,
    params: Params,
    x: Float[Array, "b n c"],
    mode: LayerMode,
    kernels: KernelSet,
    drop: Callable[[Array], Array],
) -> Float[Array, "b n c"]:
    """Attention of one layer: qkv without bias, variants by `mode`, then proj.

    Raises ValueError where the search form or a variant lacks its parameters.
    """
    q, k, v = split_heads(cfg, x @ params["qkv"]["kernel"])
    out = merge_heads(_contexts(params, q, k, v, mode, kernels, drop))
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


def _contexts(
    params: Params,
    q: Array,
    k: Array,
    v: Array,
    mode: LayerMode,
    kernels: KernelSet,
    drop: Callable[[Array], Array],
) -> Array:
    heads, rows = q.shape[1], q.shape[2]

    def laid(kinds: Sequence[Variant], queries: Array) -> Array:
        return _over_heads(params, queries, k, v, kinds, kernels, drop)

    if mode.off is None:
        return laid([mode.on] * heads, q)
    if mode.choice is None:
        return _search(params, q, k, v, mode.on, mode.off, kernels, drop)
    on = mode.choice.on
    if mode.choice.level != "row":
        bits = on * heads if mode.choice.level == "layer" else on
        return laid([mode.on if bit else mode.off for bit in bits], q)
    kept = [i for i in range(rows) if on[i]]
    rest = [i for i in range(rows) if not on[i]]
    parts = [laid([kind] * heads, take(q, idx, 2)) for kind, idx in ((mode.on, kept), (mode.off, rest)) if idx]
    joined = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=2)
    return take(joined, inverse(kept + rest), 2)


def _over_heads(
    params: Params,
    q: Array,
    k: Array,
    v: Array,
    kinds: Sequence[Variant],
    kernels: KernelSet,
    drop: Callable[[Array], Array],
) -> Array:
    """Context with variant kinds[h] on head h: one call a kind, or one a head where the kernel set is not batched."""
    if kernels.batched_heads:
        names = dict.fromkeys(kind.name for kind in kinds)
        groups = [[h for h, kind in enumerate(kinds) if kind.name == name] for name in names]
    else:
        groups = [[h] for h in range(len(kinds))]
    parts = []
    for group in groups:
        kind = kinds[group[0]]
        env = Env(_extra(params, kind, group), kernels, drop)
        parts.append(attend(kind, take(q, group, 1), take(k, group, 1), take(v, group, 1), env))
    joined = parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=1)
    return take(joined, inverse([h for group in groups for h in group]), 1)


def _search(
    params: Params,
    q: Array,
    k: Array,
    v: Array,
    on: Variant,
    off: Variant,
    kernels: KernelSet,
    drop: Callable[[Array], Array],
) -> Array:
    """alpha * on + (1 - alpha) * off, alpha broadcast over (H, N, .). Source: paper, the search form of attention."""
    if "alpha" not in params:
        raise ValueError(
            f"'{on.name}+{off.name}' without a plan is the search form and needs alpha; "
            f"pass plan=..., or make the parameters with init(cfg, seed, search='head')"
        )
    alpha = params["alpha"]
    every = list(range(q.shape[1]))
    env_on = Env(_extra(params, on, every), kernels, drop)
    env_off = Env(_extra(params, off, every), kernels, drop)
    if on.weights is not None and off.weights is not None:
        # Mixed as weights, as in the original: one dropout mask and one product with v.
        a = scores(q, k)
        return jnp.matmul(drop(alpha * on.weights(a, env_on) + (1.0 - alpha) * off.weights(a, env_off)), v)
    mixed: Array = alpha * attend(on, q, k, v, env_on) + (1.0 - alpha) * attend(off, q, k, v, env_off)
    return mixed


def _extra(params: Params, kind: Variant, heads: Sequence[int]) -> dict[str, Array]:
    if kind.init is None:
        return {}
    if kind.name not in params:
        raise ValueError(
            f"attention {kind.name!r} has parameters of its own; make them with init(cfg, seed, attention={kind.name!r})"
        )
    return {
        name: take(value, heads, 0) if name in kind.per_head else value for name, value in params[kind.name].items()
    }
