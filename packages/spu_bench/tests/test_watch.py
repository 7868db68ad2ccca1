"""The watch tells the run's own load from that of others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from spu_bench.watch import Watch

A_SECOND = "import os\nwhile sum(os.times()[:2]) < 1.0: pass\n"


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    """The watch looks at the cores that this process may use: here at one, which all its children keep to."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)


def test_a_childs_load_is_the_runs_own() -> None:
    with Watch() as watch:
        subprocess.run([sys.executable, "-c", A_SECOND], check=True)
    seen = watch.report()
    assert seen.own_cores * seen.seconds >= 1.0
    assert seen.watching_cpu_s < 0.05 * max(1.0, seen.seconds)


def test_the_load_of_what_is_no_child_is_anothers() -> None:
    """Unless the run says that it is its own, as of an engine's containers."""
    with Watch() as watch:
        # the shell ends at once, and leaves its child to init; the pipe stays open until that has ended too
        orphan = f"'{sys.executable}' -c '{A_SECOND}' &"
        subprocess.run(["sh", "-c", orphan], stdout=subprocess.PIPE, check=True)
    alone, told = watch.report(), watch.report(elsewhere_s=1.0)
    assert alone.other_cores * alone.seconds >= 0.8
    assert told.own_cores > alone.own_cores and told.other_cores < alone.other_cores
