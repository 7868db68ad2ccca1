"""`Model`: an architecture with its attention, plan and activation, as one value."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import jax.numpy as jnp
import numpy as np

from .activations import ACTIVATIONS
from .calibration import Calibration
from .config import ViTConfig
from .errors import ModelError, unknown_name
from .export_options import ExportOptions, ForwardOptions
from .modes import LayerMode, default_attention, resolve
from .plan import AttentionPlan
from .program import Program
from .types import AnyArray, Array, ParamDict, Params, Seed


class Outputs(NamedTuple):
    """logits (B, classes), tokens after the final LayerNorm (B, N, C), output of every block (B, N, C)."""

    logits: Array
    tokens: Array
    blocks: tuple[Array, ...]


@dataclass(frozen=True, init=False)
class Model:
    """What a network computes; hashable, so it can be a static argument of `jax.jit`.

    `config` fixes the shapes. `attention` is a variant, "mix" (relu_softmax and scale), "softmax_scale" or any
    "on+off"; left out, it is "mix" for a plan with an attention part and "softmax" otherwise. A mix takes a static
    `plan`; without one it is the search form, which reads alpha from the parameters. `gelu` is exact, erf, tanh, quad,
    relu or identity; None means the kernel set's own. Raises ModelError on unknown names and on a plan that does not
    fit.
    """

    config: ViTConfig
    attention: str
    plan: AttentionPlan | None
    gelu: str | None

    def __init__(
        self,
        config: ViTConfig,
        attention: str | None = None,
        plan: AttentionPlan | None = None,
        gelu: str | None = None,
    ) -> None:
        if gelu is not None and gelu not in ACTIVATIONS:
            raise unknown_name("gelu", gelu, ACTIVATIONS)
        resolve(config, attention, plan)
        object.__setattr__(self, "config", config)
        object.__setattr__(self, "attention", default_attention(plan) if attention is None else attention)
        object.__setattr__(self, "plan", plan)
        object.__setattr__(self, "gelu", gelu)

    @functools.cached_property
    def modes(self) -> tuple[LayerMode, ...]:
        """What the attention of every layer computes."""
        return resolve(self.config, self.attention, self.plan)

    @property
    def is_search_form(self) -> bool:
        """Whether attention is a mix without a plan, which reads alpha from the parameters."""
        return any(mode.off is not None and mode.choice is None for mode in self.modes)

    def init(
        self,
        seed: Seed = 0,
        *,
        search: str | None = None,
        search_gelu: str | None = None,
        dtype: Any = jnp.float32,
    ) -> ParamDict:
        """Initial parameters, the same for a seed (or a JAX key) on every version of JAX: a nested dict of arrays.

        `search` ("layer", "head" or "row") adds alpha, shapes (1, 1, 1), (H, 1, 1) or (1, N, 1), and `search_gelu`
        ("layer" or "token") adds beta, shapes (1, 1) or (N, 1), all ones. Raises ModelError on unknown levels.
        """
        from .initial import initial_params

        return initial_params(self, seed, search=search, search_gelu=search_gelu, dtype=dtype)

    def outputs(self, params: Params, images: AnyArray, **options: Unpack[ForwardOptions]) -> Outputs:
        """Logits, final tokens and every block's output for images (batch, height, width, channels).

        Images have values as normalised for training. `kernels` is the kernel set (default "plain"). With `train=True`
        and a key `rng`, dropout, attention dropout and stochastic depth act. Raises ModelError on images of another
        shape, an unknown kernel set, or parameters that are missing.
        Source: the original's src/utils/transformers.py (TransformerClassifier).
        """
        # Here and below: those modules take a Model, so they import this one.
        from .forward import outputs

        return outputs(self, params, images, **options)

    def apply(self, params: Params, images: AnyArray, **options: Unpack[ForwardOptions]) -> Array:
        """Logits (batch, classes): those of `outputs`, with the same arguments and errors."""
        return self.outputs(params, images, **options).logits

    def calibrate(
        self,
        params: Params,
        images: AnyArray,
        *,
        margin: float = 1.25,
        tolerance: float = 1e-3,
        error: float = 0.01,
    ) -> Calibration:
        """The ranges that the tuned kernels need, from a plaintext run over `images` (batch, height, width, channels).

        Some 256 images of the training set are enough. `margin` is the factor by which variances may leave their range,
        `tolerance` the relative error of 1 / sqrt(variance) in "tuned_fxp" and "tuned_he". `error` is the largest error
        of a logit that "tuned" may have: its polynomials are chosen for that. Raises ModelError on a model that the
        tuned kernels do not compute, and on values that are not finite.
        """
        from .kernels.ring import choose
        from .kernels.tuned_fxp import calibrate

        ranges = calibrate(self, params, images, margin=margin, tolerance=tolerance)
        return choose(self, params, np.asarray(images), ranges, error)

    def export(self, params: Params, **options: Unpack[ExportOptions]) -> Program:
        """A Program that computes `apply(params, images)` in float32. Raises ModelError on what does not fit.

        Arrays that the computation does not read are left out. Options, with their defaults:

        - `kernels="plain"`: the kernel set (paper, plain, tuned, tuned_he).
        - `batch=1`: how many images.
        - `images=None`: the client's sample (batch, height, width, channels); without it a fixed random one is drawn.
        - `labels=None`: of the images (batch); kept in the manifest.
        - `fuse=False`: the scope of `fuse_params` (True, "all", "layers").
        - `calibration=None`: what `calibrate` made for this model; the kernels "tuned" and "tuned_he" need it.
        - `weights="server"`: who holds the parameters, "server" or "public".
        - `without=None`: a part of the kernels "tuned" to leave out, for ablations (`kernels.tuned_fxp.PARTS`).
        - `name=None`: of the Program; without it, that of the config.
        """
        from .export import export

        return export(self, params, **options)

    def to_dict(self) -> dict[str, Any]:
        """The model as JSON-ready values: config, attention, plan and gelu."""
        return {
            "config": self.config.to_dict(),
            "attention": self.attention,
            "plan": None if self.plan is None else self.plan.to_dict(),
            "gelu": self.gelu,
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Model:
        """Inverse of `to_dict`. Raises ModelError on anything else."""
        if not isinstance(values, dict) or set(values) != {"config", "attention", "plan", "gelu"}:
            raise ModelError(
                "The model is not an object with exactly config, attention, plan and gelu.",
                "write models with Model.to_dict.",
                "bad_file",
            )
        plan = values["plan"]
        return Model(
            ViTConfig.from_dict(values["config"]),
            values["attention"],
            None if plan is None else AttentionPlan.from_dict(plan),
            values["gelu"],
        )
