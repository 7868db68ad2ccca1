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
    """A NumPy array of any type."""

    NpInteger = np.integer[Any]
    """A NumPy whole number."""

    Pool = Literal["class", "sequence"]
    """How tokens become one vector: the class token, or attention pooling over all."""

    Level = Literal["layer", "head", "row", "token"]
    """What a plan chooses for."""

    Holder = Literal["server", "client", "public"]
    """Who holds an argument of a Program."""
else:
    NpArray = np.ndarray
    NpInteger = np.integer
    Pool = Level = Holder = str

Array = jax.Array
"""A JAX array."""

AnyArray = jax.Array | NpArray
"""An array of JAX or NumPy."""

Seed = int | NpInteger | AnyArray
"""A seed of NumPy's generator, or a JAX key."""

Params = Mapping[str, Any]
"""Parameters: a nested mapping with arrays at the leaves, {"blocks": {"0": {"norm1": {"scale": ...}}}}."""

ParamDict = dict[str, Any]
"""Parameters that may be changed."""

Unary = Callable[[Array], Array]
"""A function of one array."""
