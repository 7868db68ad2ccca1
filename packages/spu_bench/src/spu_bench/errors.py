"""The one error that users see: what is wrong, and what to do about it."""

from __future__ import annotations

from pathlib import Path


class SpuBenchError(Exception):
    """A failure with a fix and a typed reason.

    `problem` says in one line what is wrong, `fix` what to do about it. `reason` is one word of `REASONS`; it ends up
    in the record of a failed cell.
    """

    def __init__(self, problem: str, fix: str, reason: str = "failed") -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}: use one of {sorted(REASONS)}")
        super().__init__(f"{problem} Fix: {fix}")
        self.problem = problem
        self.fix = fix
        self.reason = reason


REASONS = {
    "bad_input": "a Program, option or argument that cannot run",
    "environment": "something this machine lacks: a port, a right, a kernel feature, disk space",
    "peer": "a party never came, left, or died",
    "walltime": "the time limit was reached",
    "memory": "a party was killed for its memory",
    "link": "the probed link is not the link that was asked for",
    "wrong_result": "the run is whole, but its logits are wrong",
    "failed": "anything else",
}


def killed(who: str, number: int) -> SpuBenchError:
    """The failure of `who`, a process that a signal ended; by 9 the kernel ends one for its memory."""
    if number == 9:
        return SpuBenchError(
            f"{who} was killed by signal 9.", "give it more memory, or see the kernel's log.", "memory"
        )
    return SpuBenchError(f"{who} was killed by signal {number}.", "see the party's log (--keep-logs).", "failed")


def last_line(text: str, default: str) -> str:
    """The last line of a program's output, which usually says why it failed; `default` where there is none."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else default


def last_line_of_log(log: Path, default: str) -> str:
    """The last line of the file `log`; `default` where it is missing or empty."""
    return last_line(log.read_text(errors="replace"), default) if log.is_file() else default
