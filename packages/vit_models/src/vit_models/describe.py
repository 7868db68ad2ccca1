"""Size of a model in numbers that need no run: parameters and multiply-adds."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from .config import ViTConfig
from .fusion import fuse_params
from .model import Model
from .params import count_params
from .plan import AttentionPlan
from .tracing import read_inputs


class Description(NamedTuple):
    """parameters: scalars that the inference reads, without alpha and beta. macs: multiply-adds for one image."""

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
    """Parameters and multiply-adds of `Model(cfg, attention, plan, gelu)` for one image.

    Counted on the traced computation and hence right for every variant, plan and fusion; elementwise work does not
    count. A mix without a plan is described with every head on. `fuse` is as for `Model.export`. Raises ModelError as
    `Model` does.
    """
    model = Model(cfg, attention, plan, gelu)
    params = model.init(0)
    if model.is_search_form:
        model = dataclasses.replace(model, plan=AttentionPlan.uniform(cfg, on=True))
    if fuse:
        params = fuse_params(cfg, params, model.plan, scope=fuse)
    image = np.zeros((1, cfg.image_size, cfg.image_size, cfg.channels), np.float32)
    jaxpr = jax.make_jaxpr(model.apply)(params, image).jaxpr
    leaves = jax.tree_util.tree_leaves(params)
    used = {str(i): leaf for i, (leaf, read) in enumerate(zip(leaves, read_inputs(jaxpr))) if read}
    return Description(cfg.name, model.attention, count_params(used), _macs(jaxpr))


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
