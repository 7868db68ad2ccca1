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
from .kernels.tuned import Calibration
from .forward import apply
from .opened import opened_once
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
    calibration: Calibration | None = None,
    weights: str = "server",
    open_weights_once: bool = False,
    without: str | None = None,
    name: str | None = None,
) -> Program:
    """A Program that computes `apply(cfg, params, images, ...)` for `batch` images.

    `images` (batch, height, width, channels) are the client's sample; left out, a fixed random one is drawn.
    `labels` (batch) are kept in the manifest. `kernels` is a kernel set (paper, plain, ...), `gelu` replaces its
    activation. `fuse` is as for `fuse_params`. `calibration` is what `calibrate` made for just this model, which kernels
    "tuned" and, for CHEETAH, "tuned_he" need. `weights` says who holds the parameters, "server" or "public". With
    `open_weights_once` the runtime is asked to open them, masked, in a session's first inference only: never set them
    twice in one SPU runtime then.
    `without` leaves out one part of kernels "tuned", for ablations (`kernels.tuned.PARTS`).
    Arrays that the computation never reads are left out. Everything is float32. Raises ValueError on what does not fit.
    """
    if weights not in ("server", "public"):
        raise ValueError(f"weights must be 'server' or 'public', got {weights!r}")
    if open_weights_once and weights == "public":
        raise ValueError("public weights are never opened; leave open_weights_once out")
    ks = get_kernels(kernels)
    if without is not None and without not in ks.parts:
        known = f"known are {', '.join(ks.parts)}" if ks.parts else "use kernels='tuned'"
        raise ValueError(f"kernels {ks.name!r} have no part {without!r} to leave out; {known}")
    sample = _sample(cfg, batch) if images is None else np.asarray(images, dtype=np.float32)
    if sample.shape[0] != batch:
        raise ValueError(f"batch is {batch} but {sample.shape[0]} images were given; pass batch={sample.shape[0]}")
    if labels is not None and len(labels) != batch:
        raise ValueError(f"batch is {batch} but {len(labels)} labels were given")
    if fuse:
        params = fuse_params(cfg, params, plan, gelu=gelu, scope=fuse)
    forward: Callable[[dict[str, Any], AnyArray], Array]
    if ks.tailor is not None:
        flat, forward = ks.tailor(
            cfg, params, plan, attention, gelu or ks.gelu, calibration, weights == "server", without
        )
    else:
        if calibration is not None:
            raise ValueError(f"kernels {ks.name!r} take no calibration; leave it out, or use kernels='tuned'")
        flat = {n: np.asarray(v, dtype=np.float32) for n, v in flatten(params).items()}

        def forward(values: dict[str, Any], x: AnyArray) -> Array:
            return apply(cfg, unflatten(values), x, plan=plan, attention=attention, gelu=gelu, kernels=ks)

    used = _used(forward, flat, sample)
    names = [n for n in flat if n in used]

    def program(*arguments: Any) -> Array:
        held = [opened_once(a) if open_weights_once and a.ndim > 1 else a for a in arguments[:-1]]
        return forward(dict(zip(names, held)), arguments[-1])

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
            "calibration": None if calibration is None else calibration.fingerprint,
            "config": cfg.to_dict(),
            "plan": None if plan is None else plan.to_dict(),
            "labels": None if labels is None else [int(v) for v in labels],
            # only where asked for: it counts for the fingerprint
            **({"open_weights_once": True} if open_weights_once else {}),
            **({} if without is None else {"without": without}),
        },
    )


def lower(fn: Callable[..., Array], values: Sequence[NpArray]) -> bytes:
    """Serialized HloModuleProto of `fn(*values)`, one module parameter for each value, in order.

    Lowered for XLA's interpreter platform, which takes no CPU- or GPU-specific form of an operation.
    """
    struct: Any = jax.ShapeDtypeStruct
    shapes = [struct(v.shape, v.dtype) for v in values]
    traced = jax.jit(fn, keep_unused=True).trace(*shapes)
    module: Any = traced.lower(lowering_platforms=("interpreter",)).compiler_ir("hlo")
    return _canonical(bytes(module.as_serialized_hlo_module_proto()))


# Field numbers of HloModuleProto to leave out: the module's id (5), its table of source lines (17), and of every
# instruction (2) of every computation (3) the metadata (7), which names source files too.
_Dropped = dict[int, Any]
_PROVENANCE: _Dropped = {5: None, 17: None, 3: {2: {7: None}}}


def _canonical(message: bytes, dropped: _Dropped = _PROVENANCE) -> bytes:
    """A serialized protobuf message without the fields `dropped`, a nested {field number: None or inner fields}.

    With them a Program's fingerprint would depend on where and when it was made, not only on what it computes.
    """
    kept = bytearray()
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        body = position
        if wire == 0:
            _, position = _varint(message, position)
        elif wire == 2:
            length, body = _varint(message, position)
            position = body + length
        else:
            position += {1: 8, 5: 4}[wire]
        if number not in dropped:
            kept += message[start:position]
        elif dropped[number] is not None:
            inner = _canonical(message[body:position], dropped[number])
            kept += _encoded(key) + _encoded(len(inner)) + inner
    return bytes(kept)


def _encoded(value: int) -> bytes:
    """Base-128 form of `value`."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The base-128 number at `position`, and the position behind it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _used(forward: Callable[..., Array], flat: dict[str, NpArray], sample: NpArray) -> set[str]:
    """Names of the arrays that some operation of the traced computation reads."""
    closed = jax.make_jaxpr(forward)(flat, sample)
    read = {id(v) for eqn in closed.jaxpr.eqns for v in eqn.invars} | {id(v) for v in closed.jaxpr.outvars}
    # A dict flattens in sorted key order.
    return {n for n, v in zip(sorted(flat), closed.jaxpr.invars) if id(v) in read}


def _sample(cfg: ViTConfig, batch: int) -> NpArray:
    shape = (batch, cfg.image_size, cfg.image_size, cfg.channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
