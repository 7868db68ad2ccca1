"""From a model and its weights to a Program for an MPC runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import __version__
from .calibration import Calibration
from .config import ViTConfig
from .errors import ModelError
from .fusion import fuse_params
from .hlo import lower_to_hlo, wide_integers
from .kernels import AdaptedModel, KernelSet, get_kernels
from .model import Model
from .params import flatten, unflatten
from .program import Argument, Program
from .tracing import read_inputs
from .types import AnyArray, Array, Holder, NpArray, Params


def export(
    model: Model,
    params: Params,
    *,
    kernels: str | KernelSet = "plain",
    batch: int = 1,
    images: AnyArray | None = None,
    labels: Sequence[int] | None = None,
    fuse: bool | str = False,
    calibration: Calibration | None = None,
    weights: str = "server",
    without: str | None = None,
    name: str | None = None,
) -> Program:
    """A Program that computes `model.apply(params, images)`; see `Model.export`."""
    holder = _holder(weights)
    kernel_set = get_kernels(kernels)
    sample = _sample(model.config, batch) if images is None else np.asarray(images, dtype=np.float32)
    _check_batch(batch, sample, labels)
    if fuse:
        params = fuse_params(model.config, params, model.plan, scope=fuse)
    adapted = _adapted(model, params, kernel_set, calibration, holder == "server", without)
    flat, forward = adapted.weights, adapted.forward
    on_ring = adapted.reference is not None

    with wide_integers(on_ring):
        closed = jax.make_jaxpr(forward)(flat, sample)
    # A dict flattens in sorted key order.
    used = {name for name, read in zip(sorted(flat), read_inputs(closed.jaxpr)) if read}
    names = [name for name in flat if name in used]

    def program(*arguments: Any) -> Array:
        return forward(dict(zip(names, arguments[:-1])), arguments[-1])

    values = [flat[name] for name in names] + [sample]
    if adapted.reference is None:
        logits = np.asarray(jax.jit(program)(*values), dtype=np.float32)
    else:
        logits = np.asarray(adapted.reference(jnp.asarray(sample)), dtype=np.float32)
    with wide_integers(on_ring):
        module = lower_to_hlo(program, values)
    return Program(
        name=name or model.config.name,
        module=module,
        arguments=(
            *(Argument(f"params.{name}", holder, flat[name]) for name in names),
            Argument("images", "client", sample),
        ),
        outputs=(("logits", logits),),
        made_by={
            "vit_models": __version__,
            "jax": jax.__version__,
            "kernels": kernel_set.name,
            "fuse": fuse,
            "calibration": None if calibration is None else calibration.fingerprint,
            "labels": None if labels is None else [int(label) for label in labels],
            **model.to_dict(),
            "gelu": model.gelu or kernel_set.gelu,
            **({} if without is None else {"without": without}),
        },
        runtime_options=adapted.runtime,
    )


def _holder(weights: str) -> Holder:
    if weights not in ("server", "public"):
        raise ModelError(f"The weights are held by {weights!r}.", "use weights='server' or weights='public'.")
    return "server" if weights == "server" else "public"


def _check_batch(batch: int, sample: NpArray, labels: Sequence[int] | None) -> None:
    if sample.shape[0] != batch:
        raise ModelError(
            f"batch is {batch} but {sample.shape[0]} images were given.", f"pass batch={sample.shape[0]}.", "mismatch"
        )
    if labels is not None and len(labels) != batch:
        raise ModelError(
            f"batch is {batch} but {len(labels)} labels were given.", "give one label for each image.", "mismatch"
        )


def _adapted(
    model: Model,
    params: Params,
    kernels: KernelSet,
    calibration: Calibration | None,
    secret_weights: bool,
    without: str | None,
) -> AdaptedModel:
    """Weights by name and forward pass under `kernels`: what they adapt, or the model's own."""
    if without is not None and without not in kernels.parts:
        fix = f"leave out one of {', '.join(kernels.parts)}." if kernels.parts else "use kernels='tuned_fxp'."
        raise ModelError(f"The kernels {kernels.name!r} have no part {without!r} to leave out.", fix, "unknown_name")
    if kernels.adapt is not None:
        return kernels.adapt(model, params, calibration, secret_weights=secret_weights, without=without)
    if calibration is not None:
        raise ModelError(
            f"The kernels {kernels.name!r} take no calibration.", "leave it out, or use kernels='tuned'.", "mismatch"
        )

    def forward(weights: Mapping[str, Any], images: Array) -> Array:
        return model.apply(unflatten(weights), images, kernels=kernels)

    return AdaptedModel({name: np.asarray(v, dtype=np.float32) for name, v in flatten(params).items()}, forward)


def _sample(cfg: ViTConfig, batch: int) -> NpArray:
    shape = (batch, cfg.image_size, cfg.image_size, cfg.channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)
