"""Names for the types that cross module borders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Union

import jax
import numpy as np

Array = jax.Array
AnyArray = Union[jax.Array, np.ndarray[Any, Any]]
# Nested mapping with arrays at the leaves: {"blocks": {"0": {"norm1": {"scale": ...}}}}.
Params = Mapping[str, Any]
Unary = Callable[[Array], Array]
