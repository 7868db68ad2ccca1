"""The one error that users of this package see: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Reason = Literal[
    "unknown_name",  # a model, variant, activation, kernel set, level or part that does not exist
    "bad_value",  # a value outside what the argument takes
    "bad_shape",  # an array of another shape than the model's
    "mismatch",  # values that do not belong together: a plan, checkpoint or calibration of another model
    "unsupported",  # a model that the chosen kernels do not compute
    "missing_parameters",  # arrays that the model reads and the parameters lack
    "bad_file",  # a file or directory that is not what it should be
    "missing_package",  # an optional dependency that is not installed
]


class ModelError(ValueError):
    """A refusal with its fix and a reason.

    `problem` says in one line what is wrong, `fix` what to do about it. `reason` is for programs.
    """

    def __init__(self, problem: str, fix: str, reason: Reason = "bad_value") -> None:
        super().__init__(" ".join(f"{problem} Fix: {fix}".split()))
        self.problem, self.fix, self.reason = problem, fix, reason

    def __reduce__(self) -> tuple[type[ModelError], tuple[str, str, Reason]]:
        return ModelError, (self.problem, self.fix, self.reason)


def unknown_name(what: str, name: object, known: Iterable[str]) -> ModelError:
    """The error for a `name` that is not among the `known` ones."""
    return ModelError(f"Unknown {what} {name!r}.", f"use one of {', '.join(known)}.", "unknown_name")
