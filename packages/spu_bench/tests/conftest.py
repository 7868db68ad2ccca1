"""Fixtures of spu_bench's tests: small Programs, made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import write_program


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
