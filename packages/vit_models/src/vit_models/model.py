"""`Model`: an architecture with its attention, plan and activation, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .activations import ACTIVATIONS
from .config import ViTConfig
from .heads import resolve
from .plan import AttentionPlan
from .types import AnyArray, Array, Params

if TYPE_CHECKING:
    from .forward import Outputs
    from .kernels import KernelSet
    from .kernels.tuned import Calibration
    from .program import Program


@dataclass(frozen=True, init=False)
class Model:
    """What a network computes; hashable, so it can be a static argument of `jax.jit`.

    `config` fixes the shapes. `attention` is a variant, "mix" (relu_softmax and scale), "softmax_scale" or any "on+off";
    left out, it is "mix" for a plan with an attention part and "softmax" otherwise. A mix takes a static `plan`; without
    one it is the search form, which needs alpha among the parameters. `gelu` is exact, erf, tanh, quad, relu or identity;
    None means the kernel set's own. Raises ValueError on names that are unknown and on a plan that does not fit.
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
            raise ValueError(f"unknown gelu {gelu!r}; known are {', '.join(ACTIVATIONS)}")
        resolve(config, attention, plan)
        if attention is None:
            attention = "mix" if plan is not None and plan.attention is not None else "softmax"
        object.__setattr__(self, "config", config)
        object.__setattr__(self, "attention", attention)
        object.__setattr__(self, "plan", plan)
        object.__setattr__(self, "gelu", gelu)

    def init(
        self, seed: int | AnyArray = 0, *, search: str | None = None, search_gelu: str | None = None, dtype: Any = None
    ) -> dict[str, Any]:
        """Initial parameters from a seed or a JAX key; see `vit_models.init`."""
        from .params import init

        options = {} if dtype is None else {"dtype": dtype}
        return init(self.config, seed, attention=self.attention, search=search, search_gelu=search_gelu, **options)

    def outputs(
        self,
        params: Params,
        images: AnyArray,
        *,
        kernels: str | KernelSet = "plain",
        train: bool = False,
        rng: AnyArray | None = None,
    ) -> Outputs:
        """Logits (batch, classes), the tokens (batch, N, C) after the final LayerNorm, and every block's output."""
        from .forward import apply

        return apply(
            self.config,
            params,
            images,
            plan=self.plan,
            attention=self.attention,
            gelu=self.gelu,
            kernels=kernels,
            train=train,
            rng=rng,
            return_blocks=True,
        )

    def apply(
        self,
        params: Params,
        images: AnyArray,
        *,
        kernels: str | KernelSet = "plain",
        train: bool = False,
        rng: AnyArray | None = None,
    ) -> Array:
        """Logits (batch, classes) of images (batch, height, width, channels); see `vit_models.apply`."""
        return self.outputs(params, images, kernels=kernels, train=train, rng=rng).logits

    def calibrate(
        self, params: Params, images: AnyArray, *, margin: float = 1.25, tolerance: float = 1e-3
    ) -> Calibration:
        """The ranges that the tuned kernels need, from a plaintext run over `images`; see `vit_models.calibrate`."""
        from .kernels.tuned import calibrate

        return calibrate(
            self.config,
            params,
            images,
            plan=self.plan,
            attention=self.attention,
            gelu=self.gelu or "exact",
            margin=margin,
            tolerance=tolerance,
        )

    def export(
        self,
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
        open_weights_once: bool = False,
    ) -> Program:
        """The model and its weights as one Program for an MPC runtime; see `vit_models.export_program`."""
        from .export import export_program

        return export_program(
            self.config,
            params,
            plan=self.plan,
            attention=self.attention,
            gelu=self.gelu,
            kernels=kernels,
            batch=batch,
            images=images,
            labels=labels,
            fuse=fuse,
            calibration=calibration,
            weights=weights,
            without=without,
            name=name,
            open_weights_once=open_weights_once,
        )

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
        """Inverse of `to_dict`. Raises ValueError on anything else."""
        if not isinstance(values, dict) or set(values) != {"config", "attention", "plan", "gelu"}:
            raise ValueError("a model is an object with exactly config, attention, plan and gelu")
        plan = values["plan"]
        return Model(
            ViTConfig.from_dict(values["config"]),
            values["attention"],
            None if plan is None else AttentionPlan.from_dict(plan),
            values["gelu"],
        )
