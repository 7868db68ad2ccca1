"""Selection along an axis by indices known at trace time, spelled so that MPC sees slices and no gather."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from .types import Array


def take(x: Array, indices: Sequence[int], axis: int) -> Array:
    """x (any shape) at `indices` along `axis`, in that order, as slices of consecutive runs joined once.

    A gather would be traced with bounds checks and looked up element by element under MPC; slices are local copies.
    """
    runs: list[tuple[int, int]] = []
    for i in indices:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    if runs == [(0, x.shape[axis])]:
        return x
    parts = [lax.slice_in_dim(x, start, stop, axis=axis) for start, stop in runs]
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=axis)


def inverse(order: Sequence[int]) -> list[int]:
    """The permutation that undoes `order`."""
    back = [0] * len(order)
    for position, i in enumerate(order):
        back[i] = position
    return back
