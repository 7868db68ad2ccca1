"""Names for the types that cross module borders.

A string that is one of a few is a `Literal` for mypy and a plain `str` at run time: the run-time checker of the tests
would otherwise refuse a wrong one before this package's own error, which names the fix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    NpArray = NDArray[Any]
    NpInteger = np.integer[Any]
    Pool = Literal["class", "sequence"]
    Level = Literal["layer", "head", "row", "token"]
    Holder = Literal["server", "client", "public"]
else:
    NpArray = np.ndarray
    NpInteger = np.integer
    Pool = Level = Holder = str

Array = jax.Array
AnyArray = jax.Array | NpArray
# A seed of NumPy's generator, or a JAX key.
Seed = int | NpInteger | AnyArray
# Nested mapping with arrays at the leaves: {"blocks": {"0": {"norm1": {"scale": ...}}}}.
Params = Mapping[str, Any]
ParamDict = dict[str, Any]
Unary = Callable[[Array], Array]
