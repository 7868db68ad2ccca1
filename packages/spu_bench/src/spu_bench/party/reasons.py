"""Why a runtime failed, in its own words: from the error that it raised, or from its log."""

from __future__ import annotations

import re
from typing import Optional

from spu_bench.errors import last_line

SEE_LOG = (
    "read the party's log: `spu-bench run --keep-logs DIRECTORY` keeps it, and `spu-bench party` prints it when "
    "SPU_BENCH_DEBUG=1 is set."
)

_SOURCE = re.compile(r"^\[[^\]]*\.(?:cc|h|cpp):\d+\]\s*")  # SPU's errors begin with the line of its source
_UNKNOWN = re.compile(r"failed to legalize operation '[^']*'")
_TERMINATED = re.compile(r"^\s*what\(\):\s*(.*)$", re.MULTILINE)


def reason_of(error: BaseException) -> str:
    """The first line of a runtime's error that says something.

    SPU puts a line "what:" and the place in its source before it, and a stack trace after it.
    """
    return _bare(str(error)) or type(error).__name__


def unknown_operation(log: str) -> Optional[str]:
    """What SPU's compiler says of an operation that it does not know: it is in its log alone."""
    found = _UNKNOWN.search(log)
    return found[0] if found else None


def last_words(log: str) -> str:
    """Why a process ended that left no report: the C++ error that ended it, else the last line of its log."""
    terminated = _TERMINATED.findall(log)
    return _bare(terminated[-1] if terminated else "") or last_line(log, "its log is empty")


def _bare(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    telling = [_SOURCE.sub("", line) for line in lines if line not in ("", "what:")]
    return telling[0] if telling else ""
