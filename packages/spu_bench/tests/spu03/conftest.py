"""The environment of SPU 0.3.1b0 on this host."""

from __future__ import annotations

import pytest
from requirements_of_tests import require

from spu_bench import runtimes


@pytest.fixture(scope="session")
def old() -> str:
    """The version of the old runtime, which is installed here."""
    require(runtimes.missing(runtimes.get("0.3.1b0")))
    return "0.3.1b0"
