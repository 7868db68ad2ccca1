"""`tuned_he`: the tuned kernels for products by homomorphic encryption (CHEETAH), the weights private to the server.

Same calibration, same folded weights, same logits as `tuned`; what differs is which products there are. See
docs/kernels.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config import ViTConfig
from ..plan import AttentionPlan
from ..types import AnyArray, Array, NpArray, Params
from .tuned import Calibration, folded, kernel_set
from .tuned.homomorphic import Homomorphic, narrowed

__all__ = ["KERNELS"]


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
    """As `tuned.tailor`, of which no part can be left out."""
    if without is not None:
        raise ValueError(f"kernels 'tuned_he' have no part {without!r} to leave out; use kernels='tuned'")
    made, kinds = folded(cfg, params, plan, attention, gelu, calibration)
    return narrowed(cfg, made.arrays), lambda weights, images: Homomorphic(
        cfg, weights, kinds, made.norms, gelu, secret
    )(images)


KERNELS = kernel_set("tuned_he", tailor)
