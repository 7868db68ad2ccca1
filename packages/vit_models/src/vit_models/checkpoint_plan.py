"""The plan that alpha and beta among the parameters describe."""

from __future__ import annotations

import numpy as np

from .config import ViTConfig
from .errors import ModelError
from .plan import AttentionPlan, Choice, Layers, top_k
from .types import Level, NpArray, Params


def infer_plan(params: Params, cfg: ViTConfig, *, mu: float | None = None, post_relu: bool = True) -> AttentionPlan:
    """The plan that alpha and beta among `params` describe, each at the level its shape says.

    Exact 0 and 1 are taken as they are. Searched alphas need `mu`: they are then ranked over all layers as in
    `AttentionPlan.from_alpha`. beta must be 0 and 1. Raises ModelError where there is no alpha and no beta, where only
    some layers have one, or where values are not binary and no mu is given.
    """
    alphas = _collected(params, cfg, "alpha")
    betas = _collected(params, cfg, "beta")
    if alphas is None and betas is None:
        raise ModelError(
            "The parameters have neither alpha nor beta.",
            "make a plan with AttentionPlan.from_heads.",
            "missing_parameters",
        )
    attention: Layers | None = None
    if alphas is not None:
        levels: list[Level] = ["layer" if a.size == 1 else "head" if a.shape[0] > 1 else "row" for a in alphas]
        flat = [a.reshape(-1) for a in alphas]
        if mu is not None:
            kept = top_k(np.concatenate(flat), mu).reshape(-1)
            flat = np.split(kept, np.cumsum([len(f) for f in flat])[:-1])
        attention = _choices(levels, flat, "alpha", "pass mu=... to binarise searched values.")
    gelu: Layers | None = None
    if betas is not None:
        gelu = _choices(
            ["layer" if b.size == 1 else "token" for b in betas],
            [b.reshape(-1) for b in betas],
            "beta",
            "round beta to 0 and 1 first.",
        )
    plan = AttentionPlan(attention, gelu, post_relu if gelu is not None else False)
    plan.check(cfg)
    return plan


def _collected(params: Params, cfg: ViTConfig, name: str) -> list[NpArray] | None:
    found = []
    for i in range(cfg.layers):
        block = params["blocks"][str(i)]
        holder = block["attention"] if name == "alpha" else block
        if name in holder:
            found.append(np.asarray(holder[name]))
    if found and len(found) != cfg.layers:
        raise ModelError(
            f"{len(found)} of {cfg.layers} layers have {name}.",
            f"give {name} to every layer, or to none.",
            "missing_parameters",
        )
    return found or None


def _choices(levels: list[Level], values: list[NpArray], name: str, fix: str) -> Layers:
    for i, v in enumerate(values):
        if not np.all((v == 0) | (v == 1)):
            raise ModelError(f"{name} of layer {i} is not exactly 0 and 1.", fix)
    return tuple(Choice(level, tuple(int(x) for x in v)) for level, v in zip(levels, values))
