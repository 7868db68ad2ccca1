"""Which machine, code and versions a record comes from. No host names, users or paths: records are public."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import psutil

import mpc_search
import vit_models

_PACKAGES = ("jax", "jaxlib", "optax", "orbax-checkpoint", "numpy", "vit_models", "mpc_search")


def machine() -> dict[str, Any]:
    """The machine: processor, cores, memory in bytes, kernel, load, JAX's devices."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "system": platform.system(),
        "load_1min": os.getloadavg()[0],
        "devices": [device.device_kind for device in jax.devices()],
    }


def machine_name() -> str:
    """A folder name for this kind of machine, as the harness names it: processor, cores and memory in GiB."""
    words = "".join(c if c.isalnum() else "-" for c in _cpu_model().lower()).strip("-")
    gib = round(psutil.virtual_memory().total / 2**30)
    return f"{words}-{len(os.sched_getaffinity(0))}c-{gib}g"


def code() -> dict[str, Any]:
    """The hash of the source of mpc_search and vit_models; in a git tree also commit and uncommitted changes."""
    digest = hashlib.sha256()
    for package in (mpc_search, vit_models):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*")):
            if path.suffix in (".py", ".toml"):
                digest.update(f"{root.name}/{path.relative_to(root)}\0".encode() + path.read_bytes())
    found: dict[str, Any] = {"source": digest.hexdigest()}
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        dirty = bool(_git(here, "status", "--porcelain", "--", ":/", ":!/results"))
    except (OSError, subprocess.CalledProcessError):
        return found
    return {**found, "commit": commit, "dirty": dirty}


def versions() -> dict[str, str]:
    """Versions of Python and of what computes."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _PACKAGES}}


def _git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
