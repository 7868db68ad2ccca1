"""Scratch directories, and names that contain the process that made a thing, so that a later run can clean up."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "spub"
_NAME = re.compile(rf"(?P<base>{PREFIX}-(?P<pid>\d+)-(?P<start>\d+)-\d+)(?:-\w+)?")
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_openings = itertools.count()


def new_name() -> str:
    """A new name that belongs to this process: `spub-<pid>-<start time>-<count>`."""
    return f"{PREFIX}-{os.getpid()}-{start_time(os.getpid())}-{next(_openings)}"


def is_orphan(name: str) -> bool:
    """Whether `name`, with any suffix, belongs to a process that has ended.

    A process in another PID namespace is not seen, but the lock that it holds on its scratch directory is.
    """
    if (parts := _NAME.fullmatch(name)) is None:
        return False
    if start_time(int(parts["pid"])) == int(parts["start"]):
        return False
    return not _is_locked(_state_directory(parts["base"]))


@contextmanager
def scratch_directory(name: str | None = None) -> Iterator[Path]:
    """A temporary directory that only its owner reads; first removes those of processes that have ended.

    It belongs to this process as long as this process holds the directory's lock, which the kernel frees at its end.
    """
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        if is_orphan(directory.name) and (held := _try_lock(directory)) is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(held)
    directory = _state_directory(name or new_name())
    lock = _make_locked(directory)
    try:
        yield directory
    finally:
        try:
            shutil.rmtree(directory, ignore_errors=True)
        except BaseException:  # a signal in the middle: the next one is ignored
            shutil.rmtree(directory, ignore_errors=True)
            raise
        finally:
            os.close(lock)


def _state_directory(name: str) -> Path:
    return Path(tempfile.gettempdir()) / f"{name}-state"


def _make_locked(directory: Path) -> int:
    """Make `directory` and lock it; returns the descriptor that holds the lock."""
    while True:
        directory.mkdir(mode=0o700)
        try:
            lock = os.open(directory, _OPEN)
        except FileNotFoundError:
            continue  # another process has removed it before it was locked
        fcntl.flock(lock, fcntl.LOCK_EX)
        if directory.is_dir() and os.path.samestat(os.fstat(lock), directory.stat()):
            return lock
        os.close(lock)


def _is_locked(directory: Path) -> bool:
    """Whether a process holds the lock of `directory`. One of another user counts as held: it is not ours to remove."""
    if not os.path.lexists(directory):
        return False
    if (lock := _try_lock(directory)) is None:
        return True
    os.close(lock)
    return False


def _try_lock(directory: Path) -> int | None:
    """A descriptor that holds the lock of `directory`; None where another process has it, or it cannot be opened."""
    try:
        lock = os.open(directory, _OPEN)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def machine() -> str:
    """An identifier of the process numbers' scope: this boot of this kernel, and this PID namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.readlink('/proc/self/ns/pid')}"


def start_time(pid: int) -> int | None:
    """Start time of a running process in clock ticks since boot; None where there is no such process."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else int(after_name[19])
