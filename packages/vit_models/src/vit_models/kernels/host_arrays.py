"""Arithmetic on weights at export, in NumPy and float64, which kernel sets share."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..types import NpArray


def centred(x: NpArray) -> NpArray:
    """x minus its mean over the last axis."""
    result: NpArray = x - x.mean(axis=-1, keepdims=True)
    return result


def normed(x: NpArray, eps: float) -> NpArray:
    """What LayerNorm makes of one token x, before its scale and bias."""
    c = centred(x)
    result: NpArray = c / np.sqrt((c * c).mean() + eps)
    return result


def float64(tree: Any) -> Any:
    """A nested mapping of arrays in float64."""
    if hasattr(tree, "items"):
        return {k: float64(v) for k, v in tree.items()}
    return np.asarray(tree, dtype=np.float64)
