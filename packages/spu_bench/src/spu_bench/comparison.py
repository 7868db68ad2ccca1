"""What a run's outputs are beside those in plaintext: each output by its own kind, and logits as classes too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from spu_bench.program import Array, Program
from spu_bench.strict import Strict

CLEAR_MARGIN = 0.1
"""An image is clear when its two largest plaintext logits are further apart than this."""


class Accuracy(Strict):
    """Logits under MPC against those in plaintext.

    Of `inputs` in all, `top1_equal` got the same class; `clear` are those whose two largest plaintext logits are more
    than CLEAR_MARGIN apart, `clear_equal` those of them with the same class. `max_abs_error` is over all logits,
    `errors` the largest of each inference (None in records that did not keep it).
    """

    inputs: int
    max_abs_error: float
    top1_equal: int
    clear: int
    clear_equal: int
    errors: list[float] | None = None


class OutputComparison(Strict):
    """One output of all inferences against plaintext; `shape` is that of one inference.

    A number ("float") has its largest error; NaN where a value is not finite. Whole numbers and bools ("integer") are
    equal or not: `equal` of `values` are.
    """

    kind: Literal["float", "integer"]
    shape: list[int] = Field(default_factory=list)
    values: int
    max_abs_error: float | None = None
    equal: int | None = None

    def is_right(self, error_bound: float) -> bool:
        """Whether no number is further off than `error_bound`, and all whole numbers are equal."""
        if self.max_abs_error is None:
            return self.equal == self.values
        return self.max_abs_error <= error_bound  # False for a number that is none

    def __str__(self) -> str:
        if self.max_abs_error is None:
            return f"{self.equal} of {self.values} equal"
        return f"largest error {self.max_abs_error:.4f}"


def logits_name(program: Program) -> str | None:
    """The output that holds logits: the first of floats with the shape (batch, classes), two classes or more.

    The batch is the first axis of the client's arguments. None where no output is like that.
    """
    batches = {each.shape[0] for each in program.held_by("client") if each.batched and each.shape}
    for spec in program.manifest.outputs:
        if spec.dtype == "float32" and len(spec.shape) == 2 and spec.shape[0] in batches and spec.shape[1] >= 2:
            return spec.name
    return None


def compare_outputs(
    program: Program, outputs: Mapping[str, Array], expected: Mapping[str, Array]
) -> dict[str, OutputComparison]:
    """Compare `outputs` of all inferences with `expected`, which has each input's once; by name, of those in both."""
    found = {}
    for spec in program.manifest.outputs:
        if spec.name in expected:
            found[spec.name] = _compare(list(spec.shape), outputs[spec.name], expected[spec.name])
    return found


def _compare(shape: list[int], output: Array, expected: Array) -> OutputComparison:
    expected = repeated(expected, output)
    if output.dtype.kind == "f":
        error = float(np.abs(output.astype(np.float64) - expected).max(initial=0.0))
        return OutputComparison(kind="float", shape=shape, values=output.size, max_abs_error=error)
    return OutputComparison(kind="integer", shape=shape, values=output.size, equal=int((output == expected).sum()))


def repeated(expected: Array, output: Array) -> Array:
    """`expected` as often as the inputs were run again; a scalar is one value for each inference."""
    expected = np.atleast_1d(expected)
    return np.concatenate([expected] * (len(output) // len(expected)))


def accuracy(logits: Array, expected: Array) -> Accuracy:
    """Compare logits (inputs, classes) under MPC with those in plaintext."""
    expected = repeated(expected, logits)
    equal = logits.argmax(-1) == expected.argmax(-1)
    largest = np.sort(expected, axis=-1)
    clear = largest[..., -1] - largest[..., -2] > CLEAR_MARGIN
    errors = np.abs(logits.astype(np.float64) - expected).reshape(len(logits), -1).max(axis=-1)
    return Accuracy(
        inputs=len(logits),
        max_abs_error=float(errors.max()),
        top1_equal=int(equal.sum()),
        clear=int(clear.sum()),
        clear_equal=int((equal & clear).sum()),
        errors=errors.tolist(),
    )
