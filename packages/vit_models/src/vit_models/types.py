"""Names for the types that cross module borders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    NpArray = NDArray[Any]
else:
    # Run-time checkers read the bare class.
    NpArray = np.ndarray

Array = jax.Array
AnyArray = jax.Array | NpArray
# Nested mapping with arrays at the leaves: {"blocks": {"0": {"norm1": {"scale": ...}}}}.
Params = Mapping[str, Any]
Unary = Callable[[Array], Array]
