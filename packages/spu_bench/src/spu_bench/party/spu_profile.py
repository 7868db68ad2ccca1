"""SPU's log as data: time, bytes, messages and calls of each operation, and the totals of the link.

SPU has no Python interface to its statistics; with `enable_pphlo_profile` it prints them after each run (SPU 0.9.5,
libspu/device/api.cc). Bytes and messages are those of the party that printed them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel

LAYERS = {"HLO": "pphlo", "HAL": "hal", "MPC": "mpc"}

_START = re.compile(
    r"\[Profiling\] SPU execution (?P<name>\S*) completed, input processing took (?P<infeed>\S+)s, "
    r"execution took (?P<execution>\S+)s, output processing took (?P<outfeed>\S+)s"
)
_LAYER = re.compile(r"(?P<layer>HLO|HAL|MPC) profiling: total time")
_OPERATION = re.compile(
    r"- (?P<name>\S+), executed (?P<calls>\d+) times, duration (?P<seconds>\S+)s, send bytes (?P<sent_bytes>\d+) "
    r"recv bytes (?P<received_bytes>\d+), send actions (?P<sent_messages>\d+), recv actions (?P<received_messages>\d+)"
)
_LINK = re.compile(
    r"Link details: total send bytes (?P<sent_bytes>\d+), recv bytes (?P<received_bytes>\d+), "
    r"send actions (?P<sent_messages>\d+), recv actions (?P<received_messages>\d+)"
)


class Traffic(BaseModel):
    """What one party sent and received: bytes of payload, and messages."""

    sent_bytes: int
    received_bytes: int
    sent_messages: int
    received_messages: int


class OperationStats(BaseModel):
    """One kind of operation in one run of one party: calls, seconds of wall time, traffic as in `Traffic`.

    A version of SPU that does not count an operation's traffic leaves None.
    """

    sent_bytes: int | None = None
    received_bytes: int | None = None
    sent_messages: int | None = None
    received_messages: int | None = None
    layer: str
    name: str
    calls: int
    seconds: float


class RunProfile(BaseModel):
    """One run of one party as SPU saw it: seconds of execution, each operation, the link's totals."""

    execution_s: float
    operations: list[OperationStats]
    link: Traffic


def parse_profiles(lines: Iterable[str]) -> list[RunProfile]:
    """All complete profiles in a log of SPU 0.9.5, in order. A block that was cut off is left out."""
    profiles: list[RunProfile] = []
    execution_s: float | None = None
    layer = ""
    operations: list[OperationStats] = []
    for line in lines:
        if match := _START.search(line):
            execution_s, layer, operations = float(match["execution"]), "", []
        elif execution_s is None:
            continue
        elif match := _LAYER.search(line):
            layer = LAYERS[match["layer"]]
        elif match := _OPERATION.search(line):
            operations.append(OperationStats.model_validate({"layer": layer, **match.groupdict()}))
        elif match := _LINK.search(line):
            link = Traffic.model_validate(match.groupdict())
            profiles.append(RunProfile(execution_s=execution_s, operations=operations, link=link))
            execution_s = None
    return profiles
