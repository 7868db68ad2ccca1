"""The one error of the harness that a user meets: what is wrong, and what to do about it."""

from __future__ import annotations

from typing import Literal

Reason = Literal["bad_input", "environment", "no_records", "stale"]
"""Why: wrong input, something that this machine lacks, or no record to work on."""


class HarnessError(ValueError):
    """A failure with a fix. `problem` is one line, `fix` a command or an action, `reason` a word for programs."""

    def __init__(self, problem: str, fix: str, reason: Reason = "bad_input") -> None:
        super().__init__(f"{problem.rstrip('.')}. Fix: {fix}")
        self.problem = problem
        self.fix = fix
        self.reason = reason
