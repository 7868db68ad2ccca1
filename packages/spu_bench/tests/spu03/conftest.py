"""SPU 0.3.1b0 on this host: its environment, and the cores that it wants."""

from __future__ import annotations

import os

import pytest
from requirements_of_tests import require

from spu_bench import runtimes


@pytest.fixture(scope="session")
def old() -> str:
    """The version of the old runtime, which is installed here."""
    require(runtimes.missing(runtimes.get("0.3.1b0")))
    require(None if len(os.sched_getaffinity(0)) > 1 else "two cores, which a party of SPU 0.3.1b0 has to see")
    return "0.3.1b0"
