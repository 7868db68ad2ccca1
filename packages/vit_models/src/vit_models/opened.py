"""`opened_once`: mark an array that an MPC runtime opens, masked, once instead of for each product."""

from __future__ import annotations

from typing import Any

from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import batching, mlir

from .types import Array

# What SPU calls it: under SEMI2K the mask of an operand and its opened difference stay until they are dropped.
_CALL = "spu.make_cached_var"
# Any: these parts of JAX have no complete types.
_shaped: Any = ShapedArray
_operation: Any = stablehlo.CustomCallOp
_primitive: Any = Primitive("opened_once")
_primitive.def_impl(lambda x: x)
_primitive.def_abstract_eval(lambda x: _shaped(x.shape, x.dtype))


def opened_once(x: Array) -> Array:
    """x itself; an exported Program asks the runtime to open it, masked, once for all products and inferences.

    For arrays that a session never sets again: the runtime knows them by their place in memory.
    """
    marked: Array = _primitive.bind(x)
    return marked


def _lowered(context: Any, x: Any) -> Any:
    # `lower_to_hlo` lowers for this platform, on which nothing runs; everywhere else it is x itself.
    if "interpreter" not in context.module_context.platforms:
        return [x]
    return _operation([x.type], [x], _CALL, has_side_effect=True).results


mlir.register_lowering(_primitive, _lowered)
batching.primitive_batchers[_primitive] = lambda values, axes: (_primitive.bind(*values), axes[0])
