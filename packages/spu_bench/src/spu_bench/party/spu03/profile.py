"""The log of SPU 0.3.1b0 as data: calls and seconds of each operation. It counts neither bytes nor messages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from spu_bench.party.spu_profile import OperationStats

_START = re.compile(r"\[Profiling\] SPU execution \S* completed")
_OPERATION = re.compile(r"- pphlo\.(?P<name>\S+), executed (?P<calls>\d+) times, duration (?P<seconds>[^s]+)s")


def parse_profiles(lines: Iterable[str]) -> list[list[OperationStats]]:
    """The operations of each run in a log, in order (SPU 0.3.1b0, spu/device/executor.cc)."""
    runs: list[list[OperationStats]] = []
    for line in lines:
        if _START.search(line):
            runs.append([])
        elif runs and (match := _OPERATION.search(line)):
            runs[-1].append(OperationStats.model_validate({"layer": "pphlo", **match.groupdict()}))
    return runs
