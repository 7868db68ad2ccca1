"""A party's own process: what it opens, what it uses, and what ends it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Optional

from spu_bench.errors import SpuBenchError

PARENT = "SPU_BENCH_PARENT"
"""The environment variable with the number of the process that started a party, where both are in one PID namespace."""

DIE_WITH_PARENT = "--die-with-parent"
"""The option of `spu-bench party` that ends the party when its parent ends."""

_DATA_FILES = {".npz", ".npy", ".json", ".toml", ".hlo"}
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: Optional[int] = None) -> None:
    """Let the kernel end this process when the process that started it ends, also by SIGKILL.

    The number of that process is `parent`, else in the environment variable PARENT. Where it is known and that process
    has already ended, this process ends now. Call this before anything that takes time.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is None and PARENT in os.environ:
        parent = int(os.environ[PARENT])
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def delay_abort() -> None:
    """Let abort() wait before it ends this process.

    A runtime may abort when its link breaks. The exchange sees the lost peer at the same moment and can report it: the
    thread that aborts first sleeps, for as many seconds as the number of the signal.
    """
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def watch_opened_files() -> set[str]:
    """Collect the data files that this process opens from now on, by their paths from its working directory."""
    opened: set[str] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            path = os.fspath(arguments[0])
            if isinstance(path, str) and os.path.splitext(path)[1] in _DATA_FILES:
                opened.add(os.path.relpath(path))

    sys.addaudithook(note)
    return opened


def interface_bytes(interface: str) -> tuple[int, int]:
    """Bytes (sent, received) that the kernel counted on `interface` in this process's network namespace.

    Raises SpuBenchError where there is no such interface.
    """
    with open("/proc/self/net/dev") as stream:
        for line in stream:
            name, _, counters = line.partition(":")
            if name.strip() == interface:
                values = counters.split()
                return int(values[8]), int(values[0])
    raise SpuBenchError(f"There is no network interface {interface!r}.", "give one that `ip link` shows.", "bad_input")


def peak_memory_bytes() -> int:
    """The most memory that this process had at a time."""
    # VmHWM and not ru_maxrss: the latter starts at the size of the process that forked this one
    with open("/proc/self/status") as stream:
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
