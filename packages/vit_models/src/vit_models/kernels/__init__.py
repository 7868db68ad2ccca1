"""Kernel sets: interchangeable implementations of the non-linear functions, chosen by name at export.

A set is one module or package of this package with a constant `KERNELS`; adding a set adds just that.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..types import Array, Unary


@dataclass(frozen=True, eq=False)
class KernelSet:
    """The non-linear functions of a model as one value.

    softmax: scores (..., N) -> weights (..., N). normalise: (x (..., N), eps) -> x / (sum over N + eps).
    layer_norm: (x (..., C), scale (C,), bias (C,), eps) -> (..., C). relu: elementwise. gelu: name of the default
    activation. batched_heads: evaluate all heads of one kind in one call. activations and variants override the
    ordinary functions by name. tailor: makes weights and forward pass of its own from a model and its calibration,
    for a set that is more than functions; parts: what it can leave out then.
    """

    name: str
    softmax: Unary
    normalise: Callable[[Array, float], Array]
    layer_norm: Callable[[Array, Array, Array, float], Array]
    relu: Unary
    gelu: str
    batched_heads: bool
    activations: Mapping[str, Unary] = field(default_factory=dict)
    variants: Mapping[str, Callable[..., Array]] = field(default_factory=dict)
    tailor: Callable[..., Any] | None = None
    parts: tuple[str, ...] = ()


def kernel_names() -> tuple[str, ...]:
    """Names of all kernel sets."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


def get_kernels(kernels: str | KernelSet) -> KernelSet:
    """The kernel set of that name (a set passes through). Raises ValueError on an unknown name."""
    if isinstance(kernels, KernelSet):
        return kernels
    if kernels not in kernel_names():
        raise ValueError(f"unknown kernels {kernels!r}; known are {', '.join(kernel_names())}")
    module: Any = importlib.import_module(f"{__name__}.{kernels}")
    found = module.KERNELS
    assert isinstance(found, KernelSet)
    return found
