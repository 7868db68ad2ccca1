"""The log of draws: which ranges of the parties' streams were used, and a check that no range was used twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class DrawnRange:
    """Counters `start` up to `end` of the streams of `parties`. `replay`: an earlier factor, drawn again as SPU may."""

    parties: tuple[int, ...]
    start: int
    end: int
    replay: bool = False


@dataclass(frozen=True)
class Draw:
    """One request. `retry`: identical in every field to an earlier one. `refused`: the rule that it broke."""

    method: str
    ranges: tuple[DrawnRange, ...]
    retry: bool = False
    refused: str | None = None


@dataclass(frozen=True)
class Overlap:
    """Two draws (their places in the log) that have counters `start` up to `end` of one party's stream in common."""

    party: int
    first: int
    second: int
    start: int
    end: int


def overlaps(draws: Iterable[Draw]) -> list[Overlap]:
    """Every overlap in a log, refused requests included: SPU's parties have drawn those ranges anyway.

    A retry overlaps nothing, and neither does a factor that the guard admitted as an exact replay.
    """
    used: dict[int, list[tuple[int, int, int]]] = {}
    for index, draw in enumerate(draws):
        for drawn in draw.ranges:
            for party in () if draw.retry or drawn.replay else drawn.parties:
                used.setdefault(party, []).append((drawn.start, drawn.end, index))
    found = []
    for party, ranges in used.items():
        open_ranges: list[tuple[int, int, int]] = []
        for start, end, index in sorted(ranges):
            open_ranges = [other for other in open_ranges if other[1] > start]
            found += [
                Overlap(party, min(other[2], index), max(other[2], index), start, min(end, other[1]))
                for other in open_ranges
            ]
            open_ranges.append((start, end, index))
    return found
