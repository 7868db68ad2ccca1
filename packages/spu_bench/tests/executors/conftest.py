"""The Docker engine of this machine, and the image of this very source in it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from requirements_of_tests import lacks_commands, lacks_engine, lacks_root, require

from spu_bench.executors import source

BUILD = Path(__file__).resolve().parents[4] / "docker" / "build"


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """The Docker engine of this machine."""
    require(lacks_engine())
    docker = importlib.import_module("docker")
    client = docker.from_env(timeout=60)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: Any) -> str:
    """The reference image of this very source, made unless it is there."""
    docker = importlib.import_module("docker")
    name = f"spu-bench:{source.source_hash()}"
    try:
        engine.images.get(name)
    except docker.errors.ImageNotFound:
        require(lacks_commands("debootstrap") or lacks_root())
        done = subprocess.run([sys.executable, BUILD, "--tag", name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return name
