"""Kernel sets: interchangeable implementations of the non-linear functions, chosen by name at export.

A set is one module or package of this package with a constant `KERNELS`; adding a set adds just that. `ring` is no set:
`tuned` is made of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from ..activations import ACTIVATIONS
from ..calibration import Calibration
from ..errors import unknown_name
from ..program import RuntimeOptions
from ..types import Array, NpArray, Params, Unary

if TYPE_CHECKING:
    # A model is above its kernels: it is only named here.
    from ..model import Model


class AdaptedModel(NamedTuple):
    """Weights by dotted name, and the function of (weights, images (B, height, width, C)) that gives the logits.

    Weights of whole numbers (int64) mean a forward pass of ring numbers, which only a runtime with the settings
    `runtime` can evaluate; `reference` then gives the logits in plaintext.
    """

    weights: Mapping[str, NpArray]
    forward: Callable[[Mapping[str, Any], Array], Array]
    reference: Callable[[Array], Array] | None = None
    runtime: RuntimeOptions | None = None


@runtime_checkable
class Adapter(Protocol):
    """Makes weights and a forward pass of its own from a model, its parameters and its calibration.

    `secret_weights` says whether the weights will be secret; `without` names a part of the kernel set to leave out.
    Raises ModelError without a calibration, with one of another model, and on a model that the set does not compute.
    """

    def __call__(
        self,
        model: Model,
        params: Params,
        calibration: Calibration | None,
        *,
        secret_weights: bool,
        without: str | None,
    ) -> AdaptedModel: ...


@dataclass(frozen=True, eq=False)
class KernelSet:
    """The non-linear functions of a model as one value.

    softmax: scores (..., N) -> weights (..., N). normalise: (x (..., N), eps) -> x / (sum over N + eps).
    layer_norm: (x (..., C), scale (C,), bias (C,), eps) -> (..., C). relu: elementwise. gelu: name of the default
    activation. batched_heads: evaluate all heads of one variant in one call. adapt: for a set that is more than
    functions, and then needs a calibration; parts: what such a set can leave out.
    """

    name: str
    softmax: Unary
    normalise: Callable[[Array, float], Array]
    layer_norm: Callable[[Array, Array, Array, float], Array]
    relu: Unary
    gelu: str
    batched_heads: bool
    adapt: Adapter | None = None
    parts: tuple[str, ...] = ()

    def activation(self, gelu: str | None) -> Unary:
        """The activation of that name, or with None the set's own. Raises ModelError on an unknown name."""
        name = self.gelu if gelu is None else gelu
        if name not in ACTIVATIONS:
            raise unknown_name("gelu", name, ACTIVATIONS)
        return ACTIVATIONS[name]


def kernel_names() -> tuple[str, ...]:
    """Names of all kernel sets."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "ring"))


def get_kernels(kernels: str | KernelSet) -> KernelSet:
    """The kernel set of that name (a set passes through). Raises ModelError on an unknown name."""
    if isinstance(kernels, KernelSet):
        return kernels
    if kernels not in kernel_names():
        raise unknown_name("kernels", kernels, kernel_names())
    module: Any = importlib.import_module(f"{__name__}.{kernels}")
    found = module.KERNELS
    assert isinstance(found, KernelSet)
    return found
