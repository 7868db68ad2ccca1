"""The keyword arguments that `Model` and the functions of a config take alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from .calibration import Calibration
from .kernels import KernelSet
from .types import AnyArray


class ForwardOptions(TypedDict, total=False):
    """Of `Model.apply` and `Model.outputs`."""

    kernels: str | KernelSet
    train: bool
    rng: AnyArray | None


class ExportOptions(TypedDict, total=False):
    """Of `Model.export`."""

    kernels: str | KernelSet
    batch: int
    images: AnyArray | None
    labels: Sequence[int] | None
    fuse: bool | str
    calibration: Calibration | None
    weights: str
    without: str | None
    name: str | None
