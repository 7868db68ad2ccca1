"""Fixtures of spu_bench's tests: small Programs, made once."""

from __future__ import annotations

import importlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from programs import write_program
from requirements_of_tests import lacks_engine, require


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Program that runs in milliseconds. Do not write to it."""
    return write_program(tmp_path_factory.mktemp("small") / "program")


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Program that runs for many seconds. Do not write to it."""
    return write_program(tmp_path_factory.mktemp("long") / "program", hidden=32768, depth=120)


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Callable[[], Path]:
    """Make a copy of the small Program that a test may spoil."""

    def make() -> Path:
        return Path(shutil.copytree(small, tmp_path / "spoiled"))

    return make


@pytest.fixture
def no_orphans() -> Iterator[None]:
    """After the test no party of it may be alive."""
    before = {process.pid for process in psutil.process_iter()}
    yield
    deadline = time.monotonic() + 5
    while left := [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and _is_party(p)]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


def _is_party(process: psutil.Process) -> bool:
    if not any(word.startswith("spu_bench") for word in process.info["cmdline"] or []):
        return False
    try:
        return os.getsid(process.pid) == os.getsid(0)  # others may measure on this machine
    except ProcessLookupError:
        return False


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """The Docker engine of this machine."""
    require(lacks_engine())
    client = importlib.import_module("docker").from_env(timeout=60)
    yield client
    client.close()
