"""Which machine and which code a record comes from. No host names, users or paths: records are public."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import psutil

from spu_bench.source_files import source_hash
from spu_bench.strict import Strict


class Machine(Strict):
    """A machine: processor, cores that this process may use, memory and swap in bytes, kernel, load over a minute."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    system: str
    load_1min: float
    swap_used_bytes: int


class SourceVersion(Strict):
    """A version of spu_bench: the hash of its source files; in a git tree the commit, and whether there are changes.

    Changes below results/ do not count. The hash says where a number comes from; it does not decide about reuse
    (`spu_bench.measurement_version`).
    """

    source: str
    commit: str | None = None
    dirty: bool | None = None


class CodeVersion(SourceVersion):
    """The code that made a record; `recounted_by` is the code that counted bytes and messages, where that was later."""

    recounted_by: SourceVersion | None = None


def machine() -> Machine:
    """This machine as it is now."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
        system=platform.system(),
        load_1min=os.getloadavg()[0],
        swap_used_bytes=psutil.swap_memory().used,
    )


def machine_name() -> str:
    """A folder name for this kind of machine: processor, cores and memory in GiB."""
    words = "".join(c if c.isalnum() else "-" for c in _cpu_model().lower()).strip("-")
    gib = round(psutil.virtual_memory().total / 2**30)
    return f"{words}-{len(os.sched_getaffinity(0))}c-{gib}g"


def code(directory: Path | None = None) -> CodeVersion:
    """The version of this package, with the commit of the git tree that `directory` (default: this file) is in."""
    where = directory or Path(__file__).parent
    try:
        commit = _git(where, "rev-parse", "HEAD")
        dirty = bool(_git(where, "status", "--porcelain", "--", ":/", ":!/results"))
    except (OSError, subprocess.CalledProcessError):
        return CodeVersion(source=source_hash())
    return CodeVersion(source=source_hash(), commit=commit, dirty=dirty)


def _git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    with open("/proc/cpuinfo") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
