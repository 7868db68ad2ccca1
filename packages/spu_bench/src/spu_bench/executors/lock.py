"""The lock that allows one measured run at a time on this machine."""

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
"""The locks that the current context holds."""


@contextmanager
def measurement_lock(
    timeout_s: float = 3600.0,
    on_wait: Callable[[str], None] | None = None,
    path: Path | None = None,
    *,
    shared: bool = False,
) -> Iterator[None]:
    """Hold this machine's measurement lock, so that two measured runs are never concurrent.

    The lock is the file `path`, else the file of the variable SPU_BENCH_LOCK, else one in /run/lock. The context waits
    for another holder and calls `on_wait` once; a holder that dies releases the lock. A caller that already holds the
    lock keeps it: a run lies within the preparation of its cell. With `shared`, holders that share it can run at the
    same time, but no measured run: for work that would disturb a measurement.
    Raises SpuBenchError: "walltime" after `timeout_s`, "environment" under pytest-xdist.
    """
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        raise SpuBenchError(
            f"A latency cannot be measured under pytest-xdist (worker {worker}): other workers use the same cores.",
            "run pytest without -n.",
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
    reported = False
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise SpuBenchError(
                    f"Another measured run has held {path} for {timeout_s:.0f} s.",
                    "wait until it ends, or stop it.",
                    "walltime",
                ) from None
            if not reported and on_wait is not None:
                on_wait(f"waiting until another measured run on this machine ends ({path})")
            reported = True
            time.sleep(_POLL_S)


def _default_path() -> Path:
    if named := os.environ.get("SPU_BENCH_LOCK"):
        return Path(named)
    shared = Path("/run/lock")
    directory = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    return directory / "spu-bench-measurement.lock"


def _open(path: Path) -> int:
    """Open for reading, which flock accepts: a sticky directory refuses O_CREAT on another user's file."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
