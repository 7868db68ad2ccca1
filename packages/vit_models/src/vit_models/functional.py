"""The methods of `Model` as functions of a config: each builds the `Model`, calls its method, and raises as it does."""

from __future__ import annotations

from typing import Any, Unpack

import jax.numpy as jnp

from .calibration import Calibration
from .config import ViTConfig
from .export_options import ExportOptions, ForwardOptions
from .model import Model
from .plan import AttentionPlan
from .program import Program
from .types import AnyArray, Array, ParamDict, Params, Seed


def init(
    cfg: ViTConfig,
    seed: Seed = 0,
    *,
    attention: str = "softmax",
    search: str | None = None,
    search_gelu: str | None = None,
    dtype: Any = jnp.float32,
) -> ParamDict:
    """Initial parameters, a nested dict of arrays: `Model(cfg, attention).init(seed, ...)`."""
    return Model(cfg, attention).init(seed, search=search, search_gelu=search_gelu, dtype=dtype)


def apply(
    cfg: ViTConfig,
    params: Params,
    images: AnyArray,
    *,
    plan: AttentionPlan | None = None,
    attention: str | None = None,
    gelu: str | None = None,
    **options: Unpack[ForwardOptions],
) -> Array:
    """Logits (batch, classes) of images (batch, height, width, channels): `Model(...).apply(params, images, ...)`."""
    return Model(cfg, attention, plan, gelu).apply(params, images, **options)


def calibrate(
    cfg: ViTConfig,
    params: Params,
    images: AnyArray,
    *,
    plan: AttentionPlan | None = None,
    attention: str | None = None,
    gelu: str | None = None,
    margin: float = 1.25,
    tolerance: float = 1e-3,
    error: float = 0.01,
) -> Calibration:
    """The ranges that the tuned kernels need: `Model(...).calibrate(params, images, ...)`."""
    return Model(cfg, attention, plan, gelu).calibrate(params, images, margin=margin, tolerance=tolerance, error=error)


def export_program(
    cfg: ViTConfig,
    params: Params,
    *,
    plan: AttentionPlan | None = None,
    attention: str | None = None,
    gelu: str | None = None,
    **options: Unpack[ExportOptions],
) -> Program:
    """A Program for an MPC runtime: `Model(...).export(params, ...)`."""
    return Model(cfg, attention, plan, gelu).export(params, **options)
