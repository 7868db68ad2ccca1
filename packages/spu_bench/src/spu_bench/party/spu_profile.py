"""SPU's log as data: time, bytes, messages and calls of each operation, and the totals of the link.

SPU has no Python interface to its statistics. With `enable_pphlo_profile` it prints them after each run (0.9.5:
libspu/device/api.cc, 0.3.1b0: spu/device/executor.cc). Bytes and messages are those of the party that printed them.
"""

from __future__ import annotations

import operator
import re
from dataclasses import astuple, dataclass
from typing import Iterable, Optional

LAYERS = {"HLO": "pphlo", "HAL": "hal", "MPC": "mpc"}

_START = re.compile(r"\[Profiling\] SPU execution \S* completed, input processing took \S+s, execution took (\S+)s,")
_LAYER = re.compile(r"(?P<layer>HLO|HAL|MPC) profiling: total time")
_TRAFFIC = (
    r"send bytes (?P<sent_bytes>\d+),? recv bytes (?P<received_bytes>\d+), "
    r"send actions (?P<sent_messages>\d+), recv actions (?P<received_messages>\d+)"
)
_CALLS = r"(?P<name>\S+), executed (?P<calls>\d+) times, duration (?P<seconds>[^s]+)s"
_OPERATION = re.compile(rf"- {_CALLS}, {_TRAFFIC}")
_LINK = re.compile(rf"Link details: total {_TRAFFIC}")

_START_03 = re.compile(r"\[Profiling\] SPU execution \S* completed")
_OPERATION_03 = re.compile(rf"- pphlo\.{_CALLS}")


@dataclass(frozen=True)
class Traffic:
    """What one party sent and received: bytes of payload, and messages."""

    sent_bytes: int = 0
    received_bytes: int = 0
    sent_messages: int = 0
    received_messages: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(*map(operator.sub, astuple(self), astuple(other)))


@dataclass(frozen=True)
class OperationStats:
    """One kind of operation in one run of one party: calls, seconds of wall time, traffic as in `Traffic`.

    A version of SPU that does not count an operation's traffic leaves None.
    """

    layer: str
    name: str
    calls: int
    seconds: float
    sent_bytes: Optional[int] = None
    received_bytes: Optional[int] = None
    sent_messages: Optional[int] = None
    received_messages: Optional[int] = None


@dataclass(frozen=True)
class RunProfile:
    """One run of one party as SPU saw it: seconds of execution, each operation, the link's totals."""

    execution_s: float
    operations: list[OperationStats]
    link: Traffic


def parse_profiles(lines: Iterable[str]) -> list[RunProfile]:
    """All complete profiles in a log of SPU 0.9.5, in order. A block that was cut off is left out."""
    profiles: list[RunProfile] = []
    execution_s: Optional[float] = None
    layer = ""
    operations: list[OperationStats] = []
    for line in lines:
        start, block = _START.search(line), _LAYER.search(line)
        operation, link = _OPERATION.search(line), _LINK.search(line)
        if start:
            execution_s, layer, operations = float(start[1]), "", []
        elif execution_s is None:
            continue
        elif block:
            layer = LAYERS[block["layer"]]
        elif operation:
            operations.append(_operation(operation, layer))
        elif link:
            profiles.append(RunProfile(execution_s, operations, Traffic(**_counts(link))))
            execution_s = None
    return profiles


def parse_profiles_03(lines: Iterable[str]) -> list[list[OperationStats]]:
    """The operations of each run in a log of SPU 0.3.1b0, in order. It counts neither bytes nor messages."""
    runs: list[list[OperationStats]] = []
    for line in lines:
        operation = _OPERATION_03.search(line)
        if _START_03.search(line):
            runs.append([])
        elif runs and operation:
            runs[-1].append(_operation(operation, "pphlo"))
    return runs


def _operation(match: re.Match[str], layer: str) -> OperationStats:
    counts = _counts(match) if "sent_bytes" in match.re.groupindex else {}
    return OperationStats(layer, match["name"], int(match["calls"]), float(match["seconds"]), **counts)


def _counts(match: re.Match[str]) -> dict[str, int]:
    names = ("sent_bytes", "received_bytes", "sent_messages", "received_messages")
    return {name: int(match[name]) for name in names}
