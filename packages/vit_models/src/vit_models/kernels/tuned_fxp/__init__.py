"""`tuned_fxp`: the same logits in few rounds in any runtime's own fixed point, from folded weights and a calibration.

See docs/kernels.md. For what `tuned` does not serve: protocols other than SEMI2K, public weights, ablations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ...calibration import Calibration
from ...config import ViTConfig
from ...errors import ModelError
from ...model import Model
from ...types import Array, NpArray, Params
from .. import AdaptedModel, Adapter, KernelSet
from .ablation import PASSES
from .folded_pass import FoldedPass
from .folding import fold
from .observe import calibrate, model_fingerprint
from .supported import DEFAULT_GELU, TunedModel

__all__ = ["KERNELS", "PARTS", "calibrate", "checked_calibration", "kernel_set", "program_only"]

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
        tuned = TunedModel.of(model)
        calibration = checked_calibration(self.name, model, params, calibration)
        folded = fold(tuned, params, calibration)
        kind = self.passes[without]

        def forward(weights: Mapping[str, Any], images: Array) -> Array:
            return kind(tuned, weights, folded.norms, secret_weights)(images)

        return AdaptedModel(self.arrange(model.config, folded.arrays), forward)


def checked_calibration(name: str, model: Model, params: Params, calibration: Calibration | None) -> Calibration:
    """`calibration` itself. Raises ModelError where it is missing, or belongs to another model."""
    if calibration is None:
        raise ModelError(
            f"The kernels {name!r} need a calibration.",
            "pass calibration=Model(...).calibrate(params, images).",
            "mismatch",
        )
    if calibration.model != model_fingerprint(model, params):
        raise ModelError(
            "The calibration belongs to another model (configuration, weights, attention or plan).",
            "run Model(...).calibrate(params, images) for this one.",
            "mismatch",
        )
    return calibration


def kernel_set(name: str, passes: Mapping[str | None, type[FoldedPass]], arrange: Arrange = _as_folded) -> KernelSet:
    """The kernel set `name` of folded weights, with the passes and `arrange` of `FoldedKernels`."""
    return program_only(name, FoldedKernels(name, passes, arrange), tuple(part for part in passes if part is not None))


def program_only(name: str, adapt: Adapter, parts: tuple[str, ...] = ()) -> KernelSet:
    """A kernel set that exists only in exported Programs, which `adapt` makes."""

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
        adapt=adapt,
        parts=parts,
    )


KERNELS = kernel_set("tuned_fxp", PASSES)
"""The set `tuned_fxp`."""

PARTS = KERNELS.parts
"""What can be left out alone (`Model.export(without=...)`)."""
