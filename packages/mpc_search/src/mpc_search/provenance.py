"""The machine, code and versions that a record comes from. Records are public: no host names, users or paths."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from importlib import metadata, resources
from pathlib import Path

import jax
import psutil

from mpc_search.strict import StrictModel

_PACKAGES = ("jax", "jaxlib", "optax", "orbax-checkpoint", "numpy", "vit_models", "mpc_search")


class Machine(StrictModel):
    """A machine: its processor, the cores this process may use, memory in bytes, kernel, load, and JAX's devices."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    system: str
    load_1min: float
    devices: list[str]


class Code(StrictModel):
    """Code: SHA-256 of the source of mpc_search and vit_models; in a git tree its commit, and if it has changes.

    Changes below results/ do not count.
    """

    source: str
    commit: str | None = None
    dirty: bool | None = None


def machine() -> Machine:
    """This machine, now."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
        system=platform.system(),
        load_1min=os.getloadavg()[0],
        devices=[device.device_kind for device in jax.devices()],
    )


def machine_name() -> str:
    """The folder name of this kind of machine: processor, cores and memory in GiB, as the harness names it."""
    cpu, memory = re.sub(r"[^a-z0-9]", "-", _cpu().lower()).strip("-"), psutil.virtual_memory().total
    return f"{cpu}-{len(os.sched_getaffinity(0))}c-{round(memory / 2**30)}g"


def code() -> Code:
    """The code that is running."""
    digest = hashlib.sha256()
    roots = [Path(str(resources.files(package))) for package in ("mpc_search", "vit_models")]
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".toml"):
                digest.update(f"{root.name}/{path.relative_to(root)}\0".encode() + path.read_bytes())
    status = ["git", "-C", str(roots[0]), "status", "--porcelain=v2", "--branch", "--", ":/", ":!/results"]
    try:
        lines = subprocess.run(status, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return Code(source=digest.hexdigest())
    commit = lines[0].removeprefix("# branch.oid ")
    return Code(source=digest.hexdigest(), commit=commit, dirty=any(not line.startswith("#") for line in lines))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()
