"""What every layer's attention computes: an attention name and a plan, resolved to one `LayerMode` a layer."""

from __future__ import annotations

from dataclasses import dataclass

from .config import ViTConfig
from .errors import ModelError
from .plan import AttentionPlan, Choice
from .variants import Variant, variant

MIXES = {"mix": ("relu_softmax", "scale"), "softmax_scale": ("softmax", "scale")}


@dataclass(frozen=True)
class LayerMode:
    """One layer: `on` alone (off None), a static split of both (choice given), or the search form (choice None)."""

    on: Variant
    off: Variant | None = None
    choice: Choice | None = None


def default_attention(plan: AttentionPlan | None) -> str:
    """The attention of a model that names none: "mix" for a plan with an attention part, else "softmax"."""
    return "mix" if plan is not None and plan.attention is not None else "softmax"


def parse(attention: str) -> tuple[Variant, Variant | None]:
    """The one or two variants that an attention name means: a variant, "mix", "softmax_scale", or "on+off".

    Raises ModelError on unknown names.
    """
    names = MIXES.get(attention) or tuple(attention.split("+"))
    if len(names) > 2:
        raise ModelError(f"The attention {attention!r} mixes more than two variants.", "use 'on+off'.")
    return variant(names[0]), variant(names[1]) if len(names) == 2 else None


def resolve(cfg: ViTConfig, attention: str | None, plan: AttentionPlan | None) -> tuple[LayerMode, ...]:
    """One mode for each layer. Raises ModelError where name, plan and config do not fit each other."""
    choices = None if plan is None else plan.attention
    if plan is not None:
        plan.check(cfg)
    if attention is None:
        attention = default_attention(plan)
    on, off = parse(attention)
    if off is None:
        if choices is not None:
            raise ModelError(
                f"The attention {attention!r} leaves nothing for the plan to choose.",
                f"use '{attention}+scale', or a plan without an attention part.",
                "mismatch",
            )
        return (LayerMode(on),) * cfg.layers
    if choices is None:
        return (LayerMode(on, off),) * cfg.layers
    return tuple(LayerMode(on, off, choice) for choice in choices)
