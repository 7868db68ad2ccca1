"""The one error that a user of this package meets."""

from __future__ import annotations

import re
from typing import Literal, get_args

Reason = Literal["bad_input", "data", "environment", "memory", "diverged", "failed"]
"""`bad_input`: a setting, argument or file that cannot be used; `data`: a data set that is missing or damaged;
`environment`: a package or resource that this machine lacks; `memory`: a process that was killed, most likely for its
memory; `diverged`: a loss that is not finite; `failed`: anything else."""


class SearchError(Exception):
    """A failure with a fix: `problem` says in one line what is wrong, `fix` what to do, `reason` is one of `Reason`."""

    def __init__(self, problem: str, fix: str, reason: Reason = "bad_input") -> None:
        if reason not in get_args(Reason):
            raise ValueError(f"unknown reason {reason!r}: use one of {get_args(Reason)}")
        super().__init__(problem, fix, reason)  # all three, so that the error can be pickled
        self.problem, self.fix = problem, fix
        self.reason: Reason = reason

    def __str__(self) -> str:
        return f"{self.problem} Fix: {self.fix}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text without characters that control a terminal or turn the direction of writing: a name may hold any."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
