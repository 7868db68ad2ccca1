"""Which operations of a traced JAX function SPU 0.9.5 cannot run, found before anything is written.

Each entry was tried on SPU 0.9.5, with SEMI2K: tests/test_supported_operations.py runs what is refused and what is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spu_bench.errors import SpuBenchError

_MOVE_OUT = "compute it outside of the function, and pass the result as an argument."

_NEVER = {
    "fft": "write the transform as a product with a constant matrix.",
    "eigh": _MOVE_OUT,
    "eig": _MOVE_OUT,
    "svd": _MOVE_OUT,
    "schur": _MOVE_OUT,
    "pure_callback": "write it in JAX.",
    "io_callback": "write it in JAX.",
    "debug_callback": "remove jax.debug.print and jax.debug.callback.",
    "random_bits": _MOVE_OUT,
    "threefry2x32": _MOVE_OUT,
    "tan": "use jax.numpy.sin(x) / jax.numpy.cos(x).",
    "cbrt": "use jax.numpy.power(x, 1 / 3) for positive numbers.",
    "clz": _MOVE_OUT,
    "reduce_precision": "leave it out.",
    "bitcast_convert_type": "fixed point has other bits than floating point; use .astype.",
}
_NEVER_ON_SECRETS = {
    "sort": "use jax.lax.top_k, which runs.",
    "igamma": _MOVE_OUT,
    "igammac": _MOVE_OUT,
    "regularized_incomplete_beta": _MOVE_OUT,
}
_NO_TYPES = ("bfloat16", "float16")
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")


def require_supported(jaxpr: Any, secret: Sequence[bool]) -> None:
    """Raise SpuBenchError for the first operation of `jaxpr` that SPU cannot run, `secret` saying which inputs are."""
    _outputs(jaxpr, list(secret))


def _outputs(jaxpr: Any, secret: Sequence[bool]) -> list[bool]:
    """Which outputs of a jaxpr are secret."""
    known = {id(var): each for var, each in zip(jaxpr.invars, secret)}
    for equation in jaxpr.eqns:
        found = _of_equation(equation, [known.get(id(var), False) for var in equation.invars])
        known.update((id(var), each) for var, each in zip(equation.outvars, found))
    return [known.get(id(var), False) for var in jaxpr.outvars]


def _of_equation(equation: Any, secret: list[bool]) -> list[bool]:
    name, params = equation.primitive.name, equation.params
    if name in _NEVER:
        raise _refused(f"the operation {name!r}", _NEVER[name])
    if name in _NEVER_ON_SECRETS and any(secret):
        raise _refused(f"the operation {name!r} on a secret", _NEVER_ON_SECRETS[name])
    for var in equation.outvars:
        if (kind := str(getattr(var.aval, "dtype", ""))) in _NO_TYPES:
            raise _refused(
                f"the operation {name!r} in {kind}", "compute in float32 (in Flax: dtype=jax.numpy.float32)."
            )
    if name == "while":
        return _of_while(params, secret)
    if name == "scan":
        return _of_scan(params, secret)
    if name == "cond":
        taken = [_outputs(branch.jaxpr, secret[1:]) for branch in params["branches"]]
        return [secret[0] or any(each) for each in zip(*taken)]
    for key in _INNER:
        inner = getattr(params.get(key), "jaxpr", params.get(key))
        if inner is not None and len(inner.invars) == len(secret):
            return _outputs(inner, secret)
    return [any(secret)] * len(equation.outvars)


def _of_while(params: dict[str, Any], secret: list[bool]) -> list[bool]:
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond, body, carry = secret[:of_cond], secret[of_cond : of_cond + of_body], secret[of_cond + of_body :]
    while (grown := _or(carry, _outputs(params["body_jaxpr"].jaxpr, [*body, *carry]))) != carry:
        carry = grown
    if any(_outputs(params["cond_jaxpr"].jaxpr, [*cond, *carry])):
        raise _refused(
            "a loop whose number of steps depends on a secret (jax.lax.while_loop)",
            "use jax.lax.fori_loop or scan with a fixed number of steps, and jax.numpy.where in each step.",
        )
    return carry


def _of_scan(params: dict[str, Any], secret: list[bool]) -> list[bool]:
    consts, carries = params["num_consts"], params["num_carry"]
    fixed, carry, rows = secret[:consts], secret[consts : consts + carries], secret[consts + carries :]
    while True:
        found = _outputs(params["jaxpr"].jaxpr, [*fixed, *carry, *rows])
        if (grown := _or(carry, found[:carries])) == carry:
            return [*carry, *found[carries:]]
        carry = grown


def _or(first: Sequence[bool], second: Sequence[bool]) -> list[bool]:
    return [a or b for a, b in zip(first, second)]


def _refused(what: str, fix: str) -> SpuBenchError:
    return SpuBenchError(f"SPU cannot run {what}.", fix, "bad_input")
