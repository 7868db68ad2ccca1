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
_LONGEST = 500
_UNKNOWN = re.compile(r"failed to legalize operation '[^']*'")
_TERMINATED = re.compile(r"^\s*what\(\):(.*)", re.MULTILINE | re.DOTALL)


def reason_of(error: BaseException) -> str:
    """The first line of a runtime's error that says something.

    SPU puts a line "what:" and the place in its source before it, and a stack trace after it. Where it quotes bytes
    that are no text, Python has a UnicodeDecodeError in place of its error.
    """
    text = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else str(error)
    return _bare(text) or type(error).__name__


def unknown_operation(log: str) -> Optional[str]:
    """What SPU's compiler says of an operation that it does not know: it is in its log alone."""
    found = _UNKNOWN.search(log)
    return found[0] if found else None


def last_words(log: str) -> str:
    """Why a process ended that left no report: the C++ error that ended it, else the last line of its log."""
    terminated = _TERMINATED.search(log)
    return _bare(terminated[1] if terminated else "") or _printable(last_line(log, "its log is empty"))


def _bare(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    telling = [_SOURCE.sub("", line) for line in lines if line not in ("", "what:")]
    return _printable(telling[0]) if telling else ""


def _printable(line: str) -> str:
    """`line` without characters that a terminal obeys, and not longer than a message should be."""
    text = "".join(each if each.isprintable() else "?" for each in line.strip())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
