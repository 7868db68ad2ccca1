"""`tuned`: the same logits in few rounds, from folded weights and a calibration. See docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ...config import ViTConfig
from ...plan import AttentionPlan
from ...types import AnyArray, Array, NpArray, Params
from .. import KernelSet
from .ablation import PASSES
from .calibration import GELUS, Calibration, calibrate, head_kinds
from .folding import fold
from .forward import Pass

__all__ = ["KERNELS", "PARTS", "Calibration", "calibrate", "kernel_set"]


def _as_folded(_: ViTConfig, arrays: Mapping[str, NpArray]) -> Mapping[str, NpArray]:
    return arrays


def kernel_set(
    name: str,
    passes: Mapping[str | None, type[Pass]],
    laid_out: Callable[[ViTConfig, Mapping[str, NpArray]], Mapping[str, NpArray]] = _as_folded,
) -> KernelSet:
    """The kernel set `name` of folded weights: its forward pass by the part that it leaves out (None: none).

    `laid_out` makes that pass's weights of the folded ones.
    """

    def tailor(
        cfg: ViTConfig,
        params: Params,
        plan: AttentionPlan | None,
        attention: str | None,
        gelu: str,
        calibration: Calibration | None,
        secret: bool = True,
        without: str | None = None,
    ) -> tuple[Mapping[str, NpArray], Callable[[dict[str, Any], AnyArray], Array]]:
        """Weights by name, and the function of (weights, images) that gives the logits.

        `secret` says whether the weights will be, `without` names a part to leave out. Raises ValueError without a
        calibration, with one that was made for another model, and on what the tuned kernels do not compute.
        """
        if calibration is None:
            raise ValueError(
                f"kernels {name!r} need a calibration; pass calibration=calibrate(cfg, params, images, plan=..., attention=...)"
            )
        if gelu not in GELUS:
            raise ValueError(f"tuned kernels know gelu {', '.join(GELUS)}, not {gelu!r}; use kernels='plain' for it")
        kinds = head_kinds(cfg, plan, attention)
        calibration.check(cfg, params, plan, attention)
        folded = fold(cfg, params, kinds, calibration, gelu)
        return laid_out(cfg, folded.arrays), lambda weights, images: passes[without](
            cfg, weights, kinds, folded.norms, gelu, secret
        )(images)

    def unavailable(*_: Any) -> NoReturn:
        raise ValueError(
            f"kernels {name!r} exist only in an exported Program; use export_program(..., kernels={name!r}, calibration=...)"
        )

    return KernelSet(
        name=name,
        softmax=unavailable,
        normalise=unavailable,
        layer_norm=unavailable,
        relu=unavailable,
        gelu="exact",
        batched_heads=True,
        tailor=tailor,
        parts=tuple(part for part in passes if part is not None),
    )


KERNELS = kernel_set("tuned", PASSES)

PARTS = KERNELS.parts
"""What can be switched off alone (`export_program(without=...)`)."""
