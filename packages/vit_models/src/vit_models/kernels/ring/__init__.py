"""What the kernel set `tuned` is made of: the forward pass on whole ring numbers, every truncation placed by hand.

For SEMI2K over FM64 with exact truncation and 40 fraction bits; a Program says so, and nothing else runs it. See
docs/kernels.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...calibration import Calibration
from ...errors import ModelError
from ...model import Model
from ...program import RuntimeOptions
from ...types import Array, Params
from .. import AdaptedModel, KernelSet
from ..tuned_fxp import checked_calibration, program_only
from ..tuned_fxp.supported import TunedModel
from .arithmetic import FRACTION_BITS, SpuRing
from .ring_pass import RingPass, whole
from .ring_weights import fold
from .search import choose, simulate, traffic
from .structure import Folded

__all__ = ["KERNELS", "choose", "folded", "simulate", "traffic"]

RUNTIME = RuntimeOptions(protocol="semi2k", field="FM64", fxp_fraction_bits=FRACTION_BITS, trunc_allow_msb_error=False)


def folded(model: Model, params: Params, calibration: Calibration) -> Folded:
    """The ring program of `model`. Raises ModelError on a calibration of another model, and where nothing fits."""
    checked_calibration("tuned", model, params, calibration)
    choice = calibration.ring
    if choice is not None and choice.headroom >= 1.0:
        raise ModelError(
            f"The model's values need {choice.headroom:.3g} times the room of the ring.",
            "use kernels='tuned_fxp'.",
            "unsupported",
        )
    if choice is not None and choice.logit_error > choice.error:
        raise ModelError(
            f"The logits were off by {choice.logit_error:.2g} in calibration, and {choice.error:g} is allowed.",
            "calibrate with a larger error=..., or use kernels='tuned_fxp'.",
            "unsupported",
        )
    return fold(TunedModel.of(model, whole_numbers=True), params, calibration)


def _adapt(
    model: Model,
    params: Params,
    calibration: Calibration | None,
    *,
    secret_weights: bool,
    without: str | None,
) -> AdaptedModel:
    if not secret_weights:
        raise ModelError(
            "The kernels 'tuned' take secret weights only.",
            "use weights='server', or kernels='tuned_fxp' for public ones.",
            "unsupported",
        )
    program = folded(model, params, checked_calibration("tuned", model, params, calibration))

    def forward(weights: Mapping[str, Any], images: Array) -> Array:
        logits: Array = RingPass(program.plan, weights, SpuRing())(images)
        return logits

    def reference(images: Array) -> Array:
        return model.apply(params, images)

    weights = {name: whole(value) for name, value in program.arrays.items()}
    return AdaptedModel(weights, forward, reference, RUNTIME)


KERNELS: KernelSet = program_only("tuned", _adapt)
