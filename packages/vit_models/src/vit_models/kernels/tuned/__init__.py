"""`tuned`: the same logits in few rounds, from folded weights and a calibration. See docs/kernels.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from ...config import ViTConfig
from ...plan import AttentionPlan
from ...types import AnyArray, Array, NpArray, Params
from .. import KernelSet
from .ablation import PASSES
from .calibration import GELUS, Calibration, calibrate, head_kinds
from .folding import Folded, fold

PARTS = tuple(name for name in PASSES if name is not None)
"""What can be switched off alone (`export_program(without=...)`)."""

__all__ = ["KERNELS", "PARTS", "Calibration", "calibrate", "folded", "kernel_set"]


def kernel_set(name: str, tailor: Callable[..., Any]) -> KernelSet:
    """The kernel set `name`, whose weights and forward pass `tailor` makes."""

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
    )


def folded(
    cfg: ViTConfig,
    params: Params,
    plan: AttentionPlan | None,
    attention: str | None,
    gelu: str,
    calibration: Calibration | None,
) -> tuple[Folded, list[list[str]]]:
    """Folded weights, and what each head of each layer computes.

    Raises ValueError without a calibration, with one that was made for another model, and on what the tuned kernels do
    not compute.
    """
    if calibration is None:
        raise ValueError(
            "tuned kernels need a calibration; pass calibration=calibrate(cfg, params, images, plan=..., attention=...)"
        )
    if gelu not in GELUS:
        raise ValueError(
            f"tuned kernels know gelu {', '.join(GELUS)}, not {gelu!r}; use kernels='plain' for it"
        )
    kinds = head_kinds(cfg, plan, attention)
    calibration.check(cfg, params, plan, attention)
    return fold(cfg, params, kinds, calibration, gelu), kinds


def tailor(
    cfg: ViTConfig,
    params: Params,
    plan: AttentionPlan | None,
    attention: str | None,
    gelu: str,
    calibration: Calibration | None,
    secret: bool = True,
    without: str | None = None,
) -> tuple[dict[str, NpArray], Callable[[dict[str, Any], AnyArray], Array]]:
    """Folded weights by name, and the function of (weights, images) that gives the logits.

    `secret` says whether the weights will be, `without` names a part to leave out (one of PARTS). Raises ValueError
    as `folded` does, and on an unknown part.
    """
    if without not in PASSES:
        raise ValueError(f"tuned kernels have no part {without!r} to leave out; known are {', '.join(PARTS)}")
    made, kinds = folded(cfg, params, plan, attention, gelu, calibration)
    return made.arrays, lambda weights, images: PASSES[without](
        cfg, weights, kinds, made.norms, gelu, secret
    )(images)


KERNELS = kernel_set("tuned", tailor)
