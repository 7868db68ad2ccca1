"""`export_program`: a model, its weights and a plan as one Program for an MPC runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from . import __version__
from .config import ViTConfig
from .fusion import fuse_params
from .kernels import KernelSet, get_kernels
from .model import apply
from .params import flatten, unflatten
from .plan import AttentionPlan
from .program import Argument, Program
from .types import AnyArray, Array, NpArray, Params


def export_program(
    cfg: ViTConfig,
    params: Params,
    *,
    plan: AttentionPlan | None = None,
    attention: str | None = None,
    kernels: str | KernelSet = "plain",
    gelu: str | None = None,
    batch: int = 1,
    images: AnyArray | None = None,
    labels: Sequence[int] | None = None,
    fuse: bool | str = False,
    weights: str = "server",
    name: str | None = None,
) -> Program:
    """A Program that computes `apply(cfg, params, images, ...)` for `batch` images.

    `images` (batch, height, width, channels) are the client's sample; left out, a fixed random one is drawn.
    `labels` (batch) are kept in the manifest. `kernels` is a kernel set (paper, plain, ...), `gelu` replaces its
    activation. `fuse` is as for `fuse_params`. `weights` says who holds the parameters, "server" or "public".
    Arrays that the computation never reads are left out. Everything is float32. Raises ValueError on what does not fit.
    """
    if weights not in ("server", "public"):
        raise ValueError(f"weights must be 'server' or 'public', got {weights!r}")
    ks = get_kernels(kernels)
    sample = _sample(cfg, batch) if images is None else np.asarray(images, dtype=np.float32)
    if sample.shape[0] != batch:
        raise ValueError(f"batch is {batch} but {sample.shape[0]} images were given; pass batch={sample.shape[0]}")
    if labels is not None and len(labels) != batch:
        raise ValueError(f"batch is {batch} but {len(labels)} labels were given")
    if fuse:
        params = fuse_params(cfg, params, plan, gelu=gelu, scope=fuse)
    flat = {n: np.asarray(v, dtype=np.float32) for n, v in flatten(params).items()}

    def forward(values: dict[str, Any], x: AnyArray) -> Array:
        return apply(
            cfg, unflatten(values), x, plan=plan, attention=attention, gelu=gelu, kernels=ks
        )

    used = _used(forward, flat, sample)
    names = [n for n in flat if n in used]

    def program(*arguments: AnyArray) -> Array:
        return forward(dict(zip(names, arguments[:-1])), arguments[-1])

    values = [flat[n] for n in names] + [sample]
    logits = np.asarray(jax.jit(program)(*values), dtype=np.float32)
    return Program(
        name=name or cfg.name,
        module=lower(program, values),
        arguments=(
            *(Argument(f"params.{n}", weights, flat[n]) for n in names),
            Argument("images", "client", sample),
        ),
        outputs=(("logits", logits),),
        made_by={
            "vit_models": __version__,
            "jax": jax.__version__,
            "kernels": ks.name,
            "attention": attention or ("mix" if plan is not None and plan.attention is not None else "softmax"),
            "gelu": gelu or ks.gelu,
            "fuse": fuse,
            "config": cfg.to_dict(),
            "plan": None if plan is None else plan.to_dict(),
            "labels": None if labels is None else [int(v) for v in labels],
        },
    )


def lower(fn: Callable[..., Array], values: Sequence[NpArray]) -> bytes:
    """Serialized HloModuleProto of `fn(*values)`, one module parameter for each value, in order.

    Lowered for XLA's interpreter platform, which takes no CPU- or GPU-specific form of an operation.
    """
    struct: Any = jax.ShapeDtypeStruct
    shapes = [struct(v.shape, v.dtype) for v in values]
    traced = jax.jit(fn, keep_unused=True).trace(*shapes)
    module: Any = traced.lower(lowering_platforms=_platforms()).compiler_ir("hlo")
    return bytes(module.as_serialized_hlo_module_proto())


def _platforms() -> tuple[str, ...]:
    return ("interpreter",)


def _used(forward: Callable[..., Array], flat: dict[str, NpArray], sample: NpArray) -> set[str]:
    """Names of the arrays that some operation of the traced computation reads."""
    closed = jax.make_jaxpr(forward)(flat, sample)
    read = {id(v) for eqn in closed.jaxpr.eqns for v in eqn.invars} | {id(v) for v in closed.jaxpr.outvars}
    # A dict flattens in sorted key order.
    return {n for n, v in zip(sorted(flat), closed.jaxpr.invars) if id(v) in read}


def _sample(cfg: ViTConfig, batch: int) -> NpArray:
    shape = (batch, cfg.image_size, cfg.image_size, cfg.channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
