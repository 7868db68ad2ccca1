"""MLP of one block: plain, with MPCViT+'s choice of tokens that keep GeLU, searched, or with fused linears."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Float

from .kernels import KernelSet
from .plan import Choice
from .static_index import inverse, take
from .types import Array, Params, Unary


def mlp_layer(
    params: Params,
    x: Float[Array, "b n c"],
    activation: Unary,
    kernels: KernelSet,
    choice: Choice | None,
    post_relu: bool,
    drop: Unary,
) -> Float[Array, "b n c"]:
    """linear2(activation(linear1 x)) on the tokens that `choice` keeps, linear2(linear1 x) on the others.

    With `post_relu` the others pass a ReLU after linear2. `params["fused"]`, if present, replaces both their linears.
    Without a choice, `beta` among the parameters means the search form, h = beta act(h) + (1 - beta) h and, with the
    added ReLU that MPCViT+ trains, y = beta y + (1 - beta) relu(y).
    Source: MPCViT+, the original's src/utils/transformers.py (`--linear-gelu`), where beta is one number for each
    token, shared over the hidden channels.
    """
    if choice is None and "beta" in params:
        beta = params["beta"]
        h = linear(params["linear1"], x)
        y = linear(params["linear2"], drop(beta * activation(h) + (1.0 - beta) * h))
        return beta * y + (1.0 - beta) * kernels.relu(y) if post_relu else y
    n = x.shape[1]
    bits = (1,) * n if choice is None else choice.on * n if choice.level == "layer" else choice.on
    kept = [i for i in range(n) if bits[i]]
    rest = [i for i in range(n) if not bits[i]]
    if not rest:
        return linear(params["linear2"], drop(activation(linear(params["linear1"], x))))

    order = inverse(kept + rest)
    if "fused" in params:
        y_rest = linear(params["fused"], take(x, rest, 1))
        y_kept = (
            linear(params["linear2"], drop(activation(linear(params["linear1"], take(x, kept, 1))))) if kept else None
        )
    else:
        # Both linears run once over all tokens; only the activation sees a part.
        h = linear(params["linear1"], x)
        if kept:
            h = jnp.concatenate([activation(take(h, kept, 1)), take(h, rest, 1)], axis=1)
        y = linear(params["linear2"], drop(h))
        if not post_relu:
            return take(y, order, 1) if kept else y
        if not kept:
            return kernels.relu(y)
        y_kept, y_rest = take(y, range(len(kept)), 1), take(y, range(len(kept), n), 1)
    if post_relu:
        y_rest = kernels.relu(y_rest)
    return y_rest if y_kept is None else take(jnp.concatenate([y_kept, y_rest], axis=1), order, 1)


def linear(params: Params, x: Array) -> Array:
    """x kernel + bias."""
    y: Array = x @ params["kernel"] + params["bias"]
    return y
