"""One measured run at a time on this machine."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from spu_bench.errors import SpuBenchError

_POLL_S = 0.2
_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())
"""The locks that this thread's caller holds."""


@contextmanager
def measurement_lock(
    timeout_s: float = 3600.0,
    on_wait: Callable[[str], None] | None = None,
    path: Path | None = None,
    *,
    shared: bool = False,
) -> Iterator[None]:
    """Hold this machine's lock for latency, so that two measured runs never share it.

    With `shared` others may share it too, but none that does not: for work beside which no latency is measured.
    Another holder is waited for, `on_wait` being told once; a holder that dies lets go. Raises SpuBenchError
    ("walltime") after `timeout_s`, and ("environment") under xdist, whose workers would measure each other.
    Who holds it already goes on holding it: a run of one cell lies within what prepares that cell. The lock is the
    file `path`, else the one that SPU_BENCH_LOCK names, else one in /run/lock.
    """
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        raise SpuBenchError(
            f"a latency is not measured under pytest-xdist (this is its worker {worker}): other workers would share "
            "the cores and the result would be theirs too.",
            "run these cells without -n.",
            "environment",
        )
    path = path or _default_path()
    if path in _held.get():
        yield
        return
    lock = _open(path)
    try:
        _take(lock, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, path, timeout_s, on_wait)
        before = _held.set(_held.get() | {path})
        try:
            yield
        finally:
            _held.reset(before)
    finally:
        os.close(lock)


def _take(lock: int, kind: int, path: Path, timeout_s: float, on_wait: Callable[[str], None] | None) -> None:
    until = time.monotonic() + timeout_s
    told = False
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise SpuBenchError(
                    f"another measured run has held {path} for {timeout_s:.0f} s.",
                    "wait for it to end, or end it.",
                    "walltime",
                ) from None
            if not told and on_wait is not None:
                on_wait(f"waiting for another measured run on this machine to end ({path})")
            told = True
            time.sleep(_POLL_S)


def _default_path() -> Path:
    if named := os.environ.get("SPU_BENCH_LOCK"):
        return Path(named)
    shared = Path("/run/lock")
    directory = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return directory / "spu-bench-measurement.lock"


def _open(path: Path) -> int:
    """Open for reading, which is all that flock needs: a sticky directory refuses O_CREAT on another user's file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
