"""Which machine and which code a record comes from. No host names, users or paths: records are public."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from spu_bench.source_files import source_hash


def machine() -> dict[str, Any]:
    """The machine: processor, cores, memory in bytes, kernel, and how busy it was (load, swap used in bytes)."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "system": platform.system(),
        "load_1min": os.getloadavg()[0],
        "swap_used_bytes": psutil.swap_memory().used,
    }


def machine_name() -> str:
    """A folder name for this kind of machine: processor, cores and memory in GiB."""
    words = "".join(c if c.isalnum() else "-" for c in _cpu_model().lower()).strip("-")
    gib = round(psutil.virtual_memory().total / 2**30)
    return f"{words}-{len(os.sched_getaffinity(0))}c-{gib}g"


def code(directory: Path | None = None) -> dict[str, Any]:
    """The hash of this package's source; in a git tree also its commit, and whether it has changes outside results/."""
    where = directory or Path(__file__).parent
    found: dict[str, Any] = {"source": source_hash()}
    try:
        commit = _git(where, "rev-parse", "HEAD")
        dirty = bool(_git(where, "status", "--porcelain", "--", ":/", ":!/results"))
    except (OSError, subprocess.CalledProcessError):
        return found
    return {**found, "commit": commit, "dirty": dirty}


def _git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
