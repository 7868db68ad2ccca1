"""Which of its inputs a traced computation reads."""

from __future__ import annotations

from typing import Any


def read_inputs(jaxpr: Any) -> list[bool]:
    """For every input of a jaxpr, whether an operation reads it or it is an output."""
    read = {id(v) for eqn in jaxpr.eqns for v in eqn.invars} | {id(v) for v in jaxpr.outvars}
    return [id(v) in read for v in jaxpr.invars]
