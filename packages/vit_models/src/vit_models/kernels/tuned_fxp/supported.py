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
_FIX = "use kernels='plain'."


@dataclass(frozen=True)
class TunedModel:
    """A model that the tuned kernels compute: its shapes, the variant `kinds[layer][head]`, and its activation."""

    cfg: ViTConfig
    kinds: tuple[tuple[Kind, ...], ...]
    gelu: str

    @staticmethod
    def of(model: Model) -> TunedModel:
        """`model` in this form. Raises ModelError where the tuned kernels do not compute it."""
        cfg, plan, gelu = model.config, model.plan, model.gelu or DEFAULT_GELU
        if cfg.conv is not None or cfg.pool != "class":
            raise ModelError("The tuned kernels need patch embedding and a class token.", _FIX, "unsupported")
        if plan is not None and plan.gelu is not None:
            raise ModelError("The tuned kernels do not compute a plan with a gelu part.", _FIX, "unsupported")
        if gelu not in GELUS:
            raise ModelError(f"The tuned kernels compute gelu {', '.join(GELUS)}, not {gelu!r}.", _FIX, "unsupported")
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
        return TunedModel(cfg, tuple(kinds), gelu)


def _kind(name: str) -> Kind:
    for kind in KINDS:
        if kind == name:
            return kind
    raise ModelError(f"The tuned kernels compute attention {', '.join(KINDS)}, not {name}.", _FIX, "unsupported")
