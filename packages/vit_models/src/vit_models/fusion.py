"""Linear fusion: where no GeLU stands between the two linears of an MLP, they are one matrix."""

from __future__ import annotations

import jax.numpy as jnp

from .config import ViTConfig
from .errors import ModelError
from .plan import AttentionPlan
from .types import ParamDict, Params

SCOPES = ("all", "layers")


def fuse_params(cfg: ViTConfig, params: Params, plan: AttentionPlan | None, *, scope: bool | str = True) -> ParamDict:
    """`params` with `fused` in every block whose plan drops GeLU somewhere: kernel W1 W2 (C, C), bias b1 W2 + b2 (C,).

    Kernels are (in, out). `scope` "all" (or True) fuses every block with a token that has no GeLU, "layers" only
    blocks with no GeLU at all: with secret weights a block that keeps some tokens has to open W1 W2 beside W1 and W2,
    which costs more bytes than it saves until about C / 2 tokens of a batch are linear. Raises ModelError on another
    scope, and without a plan with a gelu part. Source: MPCViT+, the original's `fuse_fc`.
    """
    if scope is True:
        scope = "all"
    if scope not in SCOPES:
        raise ModelError(f"The scope of fusion is {scope!r}.", "use False, True, 'all' or 'layers'.")
    if plan is None or plan.gelu is None:
        raise ModelError("Fusion needs a plan with a gelu part.", "make one with plan.with_gelu(beta).")
    plan.check(cfg)
    blocks = dict(params["blocks"])
    for i, choice in enumerate(plan.gelu):
        if all(choice.on) or (scope == "layers" and any(choice.on)):
            continue
        one, two = blocks[str(i)]["linear1"], blocks[str(i)]["linear2"]
        # Folded before anything is shared, so at full precision and at no cost to the parties.
        fused = {
            "kernel": jnp.matmul(one["kernel"], two["kernel"], precision="highest"),
            "bias": jnp.matmul(one["bias"], two["kernel"], precision="highest") + two["bias"],
        }
        blocks[str(i)] = {**blocks[str(i)], "fused": fused}
    return {**params, "blocks": blocks}
