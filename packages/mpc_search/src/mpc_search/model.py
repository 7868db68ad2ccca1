"""What is trained: an architecture with its attention, plan and activation; and what it says of images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from vit_models import AttentionPlan, ViTConfig, apply

Params = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """What is trained: the architecture, its attention and plan, its activation."""

    config: ViTConfig
    attention: str = "softmax"
    plan: AttentionPlan | None = None
    gelu: str = "exact"

    def logits(self, params: Params, images: Any, **options: Any) -> jax.Array:
        """Logits (batch, classes) of images (batch, height, width, channels)."""
        return apply(self.config, params, images, plan=self.plan, attention=self.attention, gelu=self.gelu, **options)

    def logits_and_tokens(self, params: Params, images: Any, **options: Any) -> tuple[jax.Array, jax.Array]:
        """Logits, and the tokens (batch, N, C) after the final LayerNorm."""
        return apply(
            self.config,
            params,
            images,
            plan=self.plan,
            attention=self.attention,
            gelu=self.gelu,
            return_tokens=True,
            **options,
        )


def predict(
    model: Model, params: Params, images: npt.NDArray[np.float32], batch: int = 500, kernels: str = "plain"
) -> npt.NDArray[np.float32]:
    """Logits (n, classes) of `images`, `batch` at a time, with the non-linear functions of that kernel set."""
    forward = _forward(model, kernels)
    parts = [np.asarray(forward(params, images[i : i + batch])) for i in range(0, len(images), batch)]
    return np.concatenate(parts)


@functools.lru_cache(maxsize=4)
def _forward(model: Model, kernels: str) -> Callable[[Params, Any], jax.Array]:
    # kept, so that a data set in parts is compiled for once
    return jax.jit(lambda params, part: model.logits(params, part, kernels=kernels))


def accuracy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> float:
    """Share of `logits` (n, classes) whose largest is at the label."""
    return float((logits.argmax(-1) == labels).mean())
