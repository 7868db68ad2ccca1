"""Scratch directories, and names that contain the process that made a thing, so that a later run can clean up."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "spub"
_NAME = re.compile(rf"{PREFIX}-(\d+)-(\d+)-\d+(?:-\w+)?")
_openings = itertools.count()


def new_name() -> str:
    """A new name that belongs to this process: `spub-<pid>-<start time>-<count>`."""
    return f"{PREFIX}-{os.getpid()}-{start_time(os.getpid())}-{next(_openings)}"


def is_orphan(name: str) -> bool:
    """Whether `name`, with any suffix, belongs to a process that has ended."""
    if (parts := _NAME.fullmatch(name)) is None:
        return False
    return start_time(int(parts[1])) != int(parts[2])


@contextmanager
def scratch_directory(name: str | None = None) -> Iterator[Path]:
    """A temporary directory that belongs to this process; first removes those of processes that have ended."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        if is_orphan(directory.name):
            shutil.rmtree(directory, ignore_errors=True)
    directory = Path(tempfile.gettempdir()) / f"{name or new_name()}-state"
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


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
