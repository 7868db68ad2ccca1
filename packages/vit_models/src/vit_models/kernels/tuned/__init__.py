"""`tuned`: the same logits in few rounds, from folded weights and a calibration. See docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ...calibration import Calibration
from ...config import ViTConfig
from ...errors import ModelError
from ...model import Model
from ...types import Array, NpArray, Params
from .. import AdaptedModel, KernelSet
from .ablation import PASSES
from .folded_pass import FoldedPass
from .folding import fold
from .observe import calibrate, model_fingerprint
from .supported import DEFAULT_GELU, TunedModel

__all__ = ["KERNELS", "PARTS", "calibrate", "kernel_set"]

Arrange = Callable[[ViTConfig, Mapping[str, NpArray]], Mapping[str, NpArray]]


def _as_folded(_: ViTConfig, arrays: Mapping[str, NpArray]) -> Mapping[str, NpArray]:
    return arrays


@dataclass(frozen=True)
class FoldedKernels:
    """The adapter of a kernel set: its forward pass by the part that is left out (None: no part).

    `arrange` makes the weights of that pass from the folded ones.
    """

    name: str
    passes: Mapping[str | None, type[FoldedPass]]
    arrange: Arrange

    def __call__(
        self,
        model: Model,
        params: Params,
        calibration: Calibration | None,
        *,
        secret_weights: bool,
        without: str | None,
    ) -> AdaptedModel:
        """Weights and forward pass of `model`; see `kernels.Adapter`."""
        if calibration is None:
            raise ModelError(
                f"The kernels {self.name!r} need a calibration.",
                "pass calibration=Model(...).calibrate(params, images).",
                "mismatch",
            )
        tuned = TunedModel.of(model)
        if calibration.model != model_fingerprint(model, params):
            raise ModelError(
                "The calibration belongs to another model (configuration, weights, attention or plan).",
                "run Model(...).calibrate(params, images) for this one.",
                "mismatch",
            )
        folded = fold(tuned, params, calibration)
        kind = self.passes[without]

        def forward(weights: Mapping[str, Any], images: Array) -> Array:
            return kind(tuned, weights, folded.norms, secret_weights)(images)

        return AdaptedModel(self.arrange(model.config, folded.arrays), forward)


def kernel_set(name: str, passes: Mapping[str | None, type[FoldedPass]], arrange: Arrange = _as_folded) -> KernelSet:
    """The kernel set `name` of folded weights, with the passes and `arrange` of `FoldedKernels`."""

    def unavailable(*_: Any) -> NoReturn:
        raise ModelError(
            f"The kernels {name!r} exist only in an exported Program.",
            f"use Model(...).export(params, kernels={name!r}, calibration=...).",
            "unsupported",
        )

    return KernelSet(
        name=name,
        softmax=unavailable,
        normalise=unavailable,
        layer_norm=unavailable,
        relu=unavailable,
        gelu=DEFAULT_GELU,
        batched_heads=True,
        adapt=FoldedKernels(name, passes, arrange),
        parts=tuple(part for part in passes if part is not None),
    )


KERNELS = kernel_set("tuned", PASSES)
"""The set `tuned`."""

PARTS = KERNELS.parts
"""What can be left out alone (`Model.export(without=...)`)."""
