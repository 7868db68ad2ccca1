"""Which models the tuned kernels compute, and what they have to know of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...config import ViTConfig
from ...errors import ModelError
from ...model import Model

if TYPE_CHECKING:
    Kind = Literal["softmax", "relu_softmax", "scale"]
else:
    Kind = str

KINDS: tuple[Kind, ...] = ("softmax", "relu_softmax", "scale")
GELUS = ("exact", "erf", "tanh", "relu")
DEFAULT_GELU = "exact"
RING_GELUS = (*GELUS, "quad", "identity")
_FIX = "use kernels='plain'."
_FIX_RING = "use kernels='tuned' or 'plain'."


@dataclass(frozen=True)
class TunedModel:
    """A model that the tuned kernels compute: its shapes, the variant `kinds[layer][head]`, and its activation.

    `kept[layer]` are the tokens that keep the activation (None: all).
    """

    cfg: ViTConfig
    kinds: tuple[tuple[Kind, ...], ...]
    gelu: str
    kept: tuple[tuple[int, ...] | None, ...]

    @staticmethod
    def of(model: Model, *, whole_numbers: bool = False) -> TunedModel:
        """`model` in this form, for `tuned` (`whole_numbers`) or the other sets. Raises ModelError on others."""
        cfg, plan, gelu = model.config, model.plan, model.gelu or DEFAULT_GELU
        if cfg.conv is not None or cfg.pool != "class":
            raise ModelError("The tuned kernels need patch embedding and a class token.", _FIX, "unsupported")
        if plan is not None and plan.post_relu:
            raise ModelError(
                "The tuned kernels do not compute a plan with post_relu (it costs more rounds than GeLU).",
                _FIX,
                "unsupported",
            )
        if not whole_numbers and plan is not None and plan.gelu is not None:
            raise ModelError("These kernels do not compute a plan with a gelu part.", _FIX_RING, "unsupported")
        gelus = RING_GELUS if whole_numbers else GELUS
        if gelu not in gelus:
            raise ModelError(
                f"These kernels compute gelu {', '.join(gelus)}, not {gelu!r}.",
                _FIX_RING if gelu in RING_GELUS else _FIX,
                "unsupported",
            )
        kinds = []
        for mode in model.modes:
            if mode.off is None:
                names = [mode.on.name] * cfg.heads
            elif mode.choice is None or mode.choice.level == "row":
                raise ModelError(
                    "The tuned kernels need a plan of heads or layers; rows and the search form are not computed.",
                    _FIX,
                    "unsupported",
                )
            else:
                bits = mode.choice.on * (cfg.heads if mode.choice.level == "layer" else 1)
                names = [mode.on.name if bit else mode.off.name for bit in bits]
            kinds.append(tuple(_kind(name) for name in names))
        return TunedModel(cfg, tuple(kinds), gelu, tuple(_kept(model, gelu, i) for i in range(cfg.layers)))


def _kept(model: Model, gelu: str, layer: int) -> tuple[int, ...] | None:
    if gelu == "identity":
        return ()
    if model.plan is None or model.plan.gelu is None:
        return None
    choice = model.plan.gelu[layer]
    if all(choice.on):
        return None
    return tuple(i for i, on in enumerate(choice.on) if on) if choice.level == "token" else ()


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise ModelError(f"The tuned kernels compute attention {', '.join(KINDS)}, not {name}.", _FIX, "unsupported")
