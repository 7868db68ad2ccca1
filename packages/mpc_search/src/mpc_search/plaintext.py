"""Logits and accuracy of a model in plaintext."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import numpy as np
import numpy.typing as npt

from mpc_search.errors import SearchError
from vit_models import Model
from vit_models.types import Params


def plaintext_logits(
    model: Model, params: Params, images: npt.NDArray[np.float32], batch: int = 500, kernels: str = "plain"
) -> npt.NDArray[np.float32]:
    """Logits (n, classes) of normalised `images` (n, height, width, channels), `batch` at a time.

    `kernels` is the kernel set of the non-linear functions. Raises SearchError where a logit is not finite.
    """
    forward = _compiled(model, kernels)
    parts = [np.asarray(forward(params, images[i : i + batch])) for i in range(0, len(images), batch)]
    logits: npt.NDArray[np.float32] = np.concatenate(parts)
    check_finite(logits)
    return logits


def check_finite(logits: npt.NDArray[np.float32]) -> None:
    """Raise SearchError where a logit is not finite: it has no class, and an accuracy of it would be made up."""
    bad = ~np.isfinite(logits).all(axis=-1)
    if bad.any():
        raise SearchError(
            f"The logits of {int(bad.sum())} of {len(logits)} images are not finite.",
            "check the images and weights, and that the kernels fit their ranges (use --kernels plain).",
            "diverged",
        )


@functools.lru_cache(maxsize=4)
def _compiled(model: Model, kernels: str) -> Callable[[Params, npt.NDArray[np.float32]], jax.Array]:
    # cached, so that a data set in several parts is compiled once
    return jax.jit(lambda params, images: model.apply(params, images, kernels=kernels))


def accuracy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> float:
    """The share of `logits` (n, classes) whose largest value is at the label (n,).

    Raises SearchError where a logit is not finite.
    """
    check_finite(logits)
    return float((logits.argmax(-1) == labels).mean())
