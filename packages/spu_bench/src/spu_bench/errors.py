"""The one error that users see: what is wrong, and what to do about it. Python 3.8, standard library only."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Optional

Reason = Literal["bad_input", "environment", "peer", "walltime", "memory", "link", "wrong_result", "failed"]

REASONS: dict[Reason, str] = {
    "bad_input": "a Program, option or argument that cannot run",
    "environment": "something this machine lacks: a port, a right, a kernel feature, disk space",
    "peer": "a party did not connect, left, or died",
    "walltime": "the time limit was reached",
    "memory": "a party was killed for its memory",
    "link": "the link that was measured is not the one that was asked for",
    "wrong_result": "the run is complete, but its outputs are wrong",
    "failed": "anything else",
}

DEBUG = "SPU_BENCH_DEBUG"
"""The environment variable that shows logs and tracebacks beside an error's one line."""


class SpuBenchError(Exception):
    """A failure with a fix and a typed reason.

    `problem` says in one line what is wrong, `fix` what to do about it. `reason` is one word of `REASONS`; it is kept
    in the record of a failed cell.
    """

    def __init__(self, problem: str, fix: str, reason: Reason = "failed") -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}: use one of {sorted(REASONS)}")
        super().__init__(f"{problem} Fix: {fix}")
        self.problem = problem
        self.fix = fix
        self.reason = reason

    def parts(self) -> dict[str, str]:
        """`reason`, `problem` and `fix` by name: the fields of record.Failure."""
        return {"reason": self.reason, "problem": self.problem, "fix": self.fix}


def killed(who: str, number: int, last_words: Optional[str] = None) -> SpuBenchError:
    """The failure of `who`, a process that a signal ended; by signal 9 the kernel ends one for its memory."""
    if number == 9:
        return SpuBenchError(
            f"{who} was killed by signal 9.", "give it more memory, or read the kernel's log.", "memory"
        )
    said = f": {last_words}" if last_words else "."
    return SpuBenchError(
        f"{who} was killed by signal {number}{said}",
        "read the party's log (--keep-logs DIRECTORY).",
        "failed",
    )


def last_line(text: str, default: str) -> str:
    """The last line of a program's output, which usually says why it failed; `default` where there is none."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else default


def last_line_of_log(log: Path, default: str) -> str:
    """The last line of the file `log`; `default` where it is missing or empty."""
    return last_line(log.read_text(errors="replace"), default) if log.is_file() else default
