"""The Programs of a session: where the parties have told the dealer in advance what they will run.

The rules about seeds and ranges do not stop an adjusting party that asks for another method over ranges which its peer
draws for something else. With the recordings of all Programs of the session the dealer answers their requests only, in
their order. The peer then relies on the dealer in place of the adjusting party.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spu_bench.dealer.recording import Recording
from spu_bench.dealer.requests import Request


class Place(NamedTuple):
    """Where a session may stand: a Program, the counter at its start, and which of its requests comes next."""

    program: int
    start: int
    next: int


def beginning(programs: Sequence[Recording]) -> tuple[Place, ...]:
    """Before the first request: at the end of nothing, so that any Program may follow."""
    return tuple(Place(index, 0, len(program.requests)) for index, program in enumerate(programs))[:1]


def follow(
    programs: Sequence[Recording], places: tuple[Place, ...], request: Request, cursor: int, seeds: tuple[bytes, ...]
) -> tuple[Place, ...]:
    """The places after `request`, which comes at counter `cursor`; none where no Program asks for it there."""
    candidates = []
    for place in places:
        if place.next < len(programs[place.program].requests):
            candidates.append(place)
        else:
            candidates += [Place(index, cursor, 0) for index in range(len(programs))]
    found = []
    for place in dict.fromkeys(candidates):
        program = programs[place.program]
        expected = program.requests[place.next].shifted(place.start, seeds, program.owners[place.next])
        if expected == request:
            found.append(place._replace(next=place.next + 1))
    return tuple(found)
