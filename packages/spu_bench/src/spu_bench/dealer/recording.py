"""The requests of one inference, with counters from its start: they are the same in every inference of one Program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from spu_bench.dealer.requests import METHODS, Method, Operand, Permutation, Request
from spu_bench.errors import SpuBenchError

_LARGEST = 64 << 20  # bytes of a recording's text
_MOST = 1_000_000  # requests


@dataclass(frozen=True)
class Recording:
    """The requests (without seeds, counters from 0), and by how much the counter moves in all."""

    world_size: int
    requests: tuple[Request, ...]
    owners: tuple[int, ...]
    span: int

    @classmethod
    def of(cls, requests: Iterable[Request]) -> Recording:
        """The recording of what was asked during one inference. Raises SpuBenchError where it does not repeat."""
        asked = list(dict.fromkeys(requests))
        if not asked:
            raise SpuBenchError("No request was recorded.", "run one inference with the dealer first.", "bad_input")
        start, seeds = asked[0].start, asked[0].operands[0].seeds
        ends, owners = [start], []
        for request in asked:
            ends += [operand.end for operand in request.operands]
            owner = 0
            if (permutation := request.permutation) is not None:
                ends.append(permutation.end)
                owner = seeds.index(permutation.seed)
            owners.append(owner)
            if request.start < start or request.operands[0].seeds != seeds:
                raise SpuBenchError(
                    "The recorded inference uses masks of an earlier one.",
                    "export the Program without weights opened once.",
                    "bad_input",
                )
        without = tuple(_without_seeds(request.shifted(-start)) for request in asked)
        return cls(len(seeds), without, tuple(owners), max(ends) - start)

    def at(self, start: int, seeds: tuple[bytes, ...]) -> Iterator[Request]:
        """The requests of an inference that starts at counter `start` with these encrypted seeds."""
        for request, owner in zip(self.requests, self.owners, strict=True):
            yield request.shifted(start, seeds, owner)

    @property
    def answer_bytes(self) -> int:
        """Bytes of all answers, without frames."""
        return sum(request.answer_bytes for request in self.requests)

    def to_json(self) -> str:
        """As text: one list a request."""
        rows = [_row(request, owner) for request, owner in zip(self.requests, self.owners, strict=True)]
        return json.dumps({"schema": 1, "world_size": self.world_size, "span": self.span, "requests": rows})

    @classmethod
    def from_json(cls, text: str | bytes) -> Recording:
        """Read `to_json`'s text. Raises SpuBenchError where it is none."""
        try:
            if len(text) > _LARGEST:
                raise ValueError("it is too long")
            data: Any = json.loads(text)
            if data["schema"] != 1 or len(data["requests"]) > _MOST:
                raise ValueError("it has another schema, or too many requests")
            read = [_read(row) for row in data["requests"]]
            return cls(
                int(data["world_size"]),
                tuple(request for request, _ in read),
                tuple(owner for _, owner in read),
                int(data["span"]),
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise SpuBenchError(
                f"The recording of a Program's requests cannot be read: {error}.", "record it again.", "bad_input"
            ) from error


def _without_seeds(request: Request) -> Request:
    operands = tuple(replace(operand, seeds=()) for operand in request.operands)
    permutation = request.permutation and replace(request.permutation, seed=b"")
    return replace(request, operands=operands, permutation=permutation)


def _row(request: Request, owner: int) -> list[object]:
    ranges = [[o.start, o.length, int(o.transpose)] for o in request.operands]
    p = request.permutation
    return [
        request.method, request.field_size, int(request.gfmp), request.bits, request.m, request.n, request.k, ranges,
        [p.start, p.size, owner] if p else [],
    ]  # fmt: skip


def _read(row: list[Any]) -> tuple[Request, int]:
    method, size, gfmp, bits, m, n, k, ranges, drawn = row
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}")
    operands = tuple(Operand(int(start), int(length), (), bool(turned)) for start, length, turned in ranges)
    permutation = Permutation(int(drawn[0]), int(drawn[1])) if drawn else None
    numbers = (int(size), bool(gfmp), int(bits), int(m), int(n), int(k))
    return Request(cast(Method, method), operands, *numbers, permutation), int(drawn[2]) if drawn else 0
