"""`tuned`: the same logits in few rounds, computed on whole ring numbers. See `kernels.ring` and docs/kernels.md."""

from __future__ import annotations

from .ring import KERNELS

__all__ = ["KERNELS"]
