"""The dealer's answers: ten methods of SPU 0.9.5, each a function of the parties' streams.

The parties draw their own halves of a triple from their seeds. The adjusting party lacks one correction: the product
(or shift, or permutation) of the sums of the parties' draws, less the sum of the draws that mask it. The answer is that
correction, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from spu_bench.dealer.requests import Method, Operand, Request
from spu_bench.dealer.rings import Array, PrimeField, Ring, ring
from spu_bench.dealer.streams import Stream


class Answerer:
    """Computes answers for one set of seeds. One thread at a time.

    streams: one a party, by rank. own: the dealer's stream, from which the bits of RandBit come. They depend on the
    request's counters only: the same request has the same answer, so that two answers never tell a bit.
    """

    def __init__(self, streams: Sequence[Stream], own: Stream) -> None:
        self._streams = streams
        self._own = own

    def answer(self, request: Request, owner: int | None = None) -> list[bytes | memoryview]:
        """The buffers of the answer: two for TruncPr, otherwise one. `owner`: whose stream a permutation comes from."""
        if request.gfmp:
            return [self._prime(request)]
        if request.method == "And":
            return [self._and(request)]
        return [_bytes(made) for made in _METHODS[request.method](self, request, ring(request.field_size), owner)]

    def _sum(self, operand: Operand, kind: Ring) -> Array:
        draws = (kind.read(stream.ring(operand.start, operand.length)) for stream in self._streams)
        return reduce(kind.add, draws)

    def _xor(self, operand: Operand) -> Array:
        draws = (np.frombuffer(stream.ring(operand.start, operand.length), np.uint8) for stream in self._streams)
        return reduce(np.bitwise_xor, draws)

    def _sums(self, request: Request, kind: Ring) -> list[Array]:
        return [self._sum(operand, kind) for operand in request.operands]

    def _multiply(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        a, b, c = self._sums(request, kind)
        return [kind.subtract(kind.multiply(a, b), c)]

    def _multiply_private(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        """The first operand is not shared: each party's draw is its own factor."""
        first, second = request.operands
        factors = (kind.read(stream.ring(first.start, first.length)) for stream in self._streams)
        return [kind.subtract(reduce(kind.multiply, factors), self._sum(second, kind))]

    def _square(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        a, b = self._sums(request, kind)
        return [kind.subtract(kind.multiply(a, a), b)]

    def _dot(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        m, n, k = request.m, request.n, request.k
        a, b, c = (
            kind.shaped(total, *shape, operand.transpose)
            for total, operand, shape in zip(
                self._sums(request, kind), request.operands, [(m, k), (k, n), (m, n)], strict=True
            )
        )
        return [kind.subtract(kind.matmul(a, b), c)]

    def _truncate(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        a, b = self._sums(request, kind)
        return [kind.subtract(kind.shift_signed(a, request.bits), b)]

    def _truncate_exact(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        r, low, top = self._sums(request, kind)
        shifted = kind.shift_right(kind.shift_left(r, 1), request.bits + 1)
        return [kind.subtract(shifted, low), kind.subtract(kind.shift_right(r, kind.bits - 1), top)]

    def _random_bits(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        (operand,) = request.operands
        drawn = kind.read(self._own.ring(operand.start, operand.length))
        top = kind.shift_right(drawn, kind.bits - 1)
        return [kind.subtract(top, self._sum(operand, kind))]

    def _equal_to_zero(self, request: Request, kind: Ring, _owner: int | None) -> list[Array]:
        first, second = request.operands
        return [np.frombuffer(_bytes(self._sum(first, kind)), np.uint8) ^ self._xor(second)]

    def _permute(self, request: Request, kind: Ring, owner: int | None) -> list[Array]:
        permutation = request.permutation
        assert permutation is not None and owner is not None
        order = self._streams[owner].permutation(permutation.start, permutation.size)
        a, b = self._sums(request, kind)
        moved = np.empty_like(a)
        moved[order] = a
        return [kind.subtract(moved, b)]

    def _and(self, request: Request) -> bytes:
        a, b, c = (self._xor(operand) for operand in request.operands)
        made: Array = (a & b) ^ c
        return made.tobytes()

    def _prime(self, request: Request) -> bytes:
        """Mul and MulPriv modulo a Mersenne prime."""
        field = PrimeField(request.field_size)
        prime = field.prime
        drawn = [
            [field.read(stream.counted(operand.start, operand.length)) for stream in self._streams]
            for operand in request.operands
        ]
        masks = [sum(parts) for parts in zip(*drawn[-1], strict=True)]
        if request.method == "Mul":
            a, b = ([sum(parts) for parts in zip(*draws, strict=True)] for draws in drawn[:2])
            products = [x * y for x, y in zip(a, b, strict=True)]
        else:
            products = [reduce(lambda x, y: x * y % prime, parts) for parts in zip(*drawn[0], strict=True)]
        return field.write([p - m for p, m in zip(products, masks, strict=True)])


def frame(buffers: Sequence[bytes | memoryview]) -> bytes:
    """An answer as SPU reads it: a zero, the length (8 bytes, little-endian), the data; one such frame a buffer."""
    parts: list[bytes | memoryview] = []
    for buffer in buffers:
        parts += [b"\x00", len(buffer).to_bytes(8, "little"), buffer]
    return b"".join(parts)


def error_frame(text: str, *, decryption: bool = False) -> bytes:
    """An error as SPU reads it: 1 (2 where a seed cannot be decrypted), the length, the text."""
    data = text.encode()
    return bytes([2 if decryption else 1]) + len(data).to_bytes(8, "little") + data


def _bytes(array: Array) -> bytes | memoryview:
    return np.ascontiguousarray(array).data.cast("B")


_METHODS: dict[Method, Callable[[Answerer, Request, Ring, int | None], list[Array]]] = {
    "Mul": Answerer._multiply,
    "MulPriv": Answerer._multiply_private,
    "Square": Answerer._square,
    "Dot": Answerer._dot,
    "Trunc": Answerer._truncate,
    "TruncPr": Answerer._truncate_exact,
    "RandBit": Answerer._random_bits,
    "Eqz": Answerer._equal_to_zero,
    "Perm": Answerer._permute,
}
