"""Size of a model in numbers that need no run: parameters and multiply-adds."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from .config import ViTConfig
from .fusion import fuse_params
from .forward import apply
from .params import count_params, init
from .plan import AttentionPlan


class Description(NamedTuple):
    """parameters: scalars the inference reads, alpha and beta not among them. macs: multiply-adds for one image."""

    name: str
    attention: str
    parameters: int
    macs: int


def describe(
    cfg: ViTConfig,
    attention: str | None = None,
    plan: AttentionPlan | None = None,
    *,
    gelu: str | None = None,
    fuse: bool | str = False,
) -> Description:
    """Parameters and multiply-adds (of matrix products and convolutions, one image) of a model.

    Counted on the traced computation and hence right for every variant, plan and fusion. Elementwise work is not
    counted. Without a plan a mix is described with every head on. Raises ValueError as `apply` does.
    """
    name = attention or ("mix" if plan is not None and plan.attention is not None else "softmax")
    if plan is None and (name in ("mix", "softmax_scale") or "+" in name):
        plan = AttentionPlan.uniform(cfg, on=True)
    params = init(cfg, 0, attention=name)
    if fuse:
        params = fuse_params(cfg, params, plan, scope=fuse)
    image = np.zeros((1, cfg.image_size, cfg.image_size, cfg.channels), np.float32)
    closed = jax.make_jaxpr(lambda p, x: apply(cfg, p, x, plan=plan, attention=attention, gelu=gelu))(params, image)
    read = {id(v) for eqn in closed.jaxpr.eqns for v in eqn.invars}
    leaves = jax.tree_util.tree_leaves(params)
    used = [leaf for leaf, v in zip(leaves, closed.jaxpr.invars) if id(v) in read]
    return Description(cfg.name, name, count_params({str(i): v for i, v in enumerate(used)}), _macs(closed.jaxpr))


def _macs(jaxpr: Any) -> int:
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            contracted = eqn.params["dimension_numbers"][0][0]
            shape = eqn.invars[0].aval.shape
            total += math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[d] for d in contracted)
        elif eqn.primitive.name == "conv_general_dilated":
            kernel = eqn.invars[1].aval.shape
            out_feature = eqn.params["dimension_numbers"].rhs_spec[0]
            total += math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) // kernel[out_feature]
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", None)
            if inner is not None:
                total += _macs(inner)
    return total
