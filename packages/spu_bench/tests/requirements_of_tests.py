"""What a test needs from the machine: where that is missing it is skipped with the reason, under CI it fails."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def require(lack: str | None) -> None:
    """Skip this test because of `lack`; fail it under CI, where nothing may be missing. None: the test runs."""
    if lack is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"this machine lacks {lack}", pytrace=False)
    pytest.skip(lack)


def lacks_root() -> str | None:
    """The right to make network namespaces."""
    if os.geteuid() != 0:
        return "root"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "the right to make network namespaces" if probe.returncode else None


def lacks_commands(*names: str) -> str | None:
    """The first command that is not installed."""
    return next((f"the command {name}" for name in names if shutil.which(name) is None), None)


def lacks_engine() -> str | None:
    """A Docker engine that answers, and Docker's SDK for Python."""
    docker = pytest.importorskip("docker") if os.environ.get("CI") != "true" else __import__("docker")
    try:
        docker.from_env(timeout=10).ping()
    except (docker.errors.DockerException, OSError):
        return "a Docker engine that answers (docker/start-engine starts one)"
    return None
