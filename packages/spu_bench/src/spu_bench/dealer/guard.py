"""What the dealer refuses, so that it tells nobody a stream that is not theirs.

A dealer that answers everything is an oracle. With a request to truncate "my seed" less "the other party's seed" it
returns the other party's masks; with two requests over one range it returns their difference. The rules:

- seeds: every operand names the seeds of all parties, each of them once, as they were registered by the first request
  of the session. A key serves one session.
- overlap: a range of a stream is drawn once. Counters only grow.
- replay: what may come twice is a request that is identical in every field (a retry: it gets the identical answer), and
  as a factor of Mul, Square and Dot an identical range that an earlier request drew as such a factor (SPU's cached
  operands).
- program: where the session's Programs were given in advance, only their requests, in their order.
- size, rate: bounds on one request, on all of a session and on requests a second.

The rule "overlap" also finds the leak of SPU 0.9.5's cached operands of matrix products: their first use draws a mask
without moving the counter, so the draws that follow use the same range.

Without the rule "program" an adjusting party that leaves the protocol can ask for another method over the ranges that
its peer really draws. SEMI2K is secure against parties that follow the protocol, and so is this dealer.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from spu_bench.dealer.answers import Answerer
from spu_bench.dealer.draws import Draw, DrawnRange
from spu_bench.dealer.programs import Place, beginning, follow
from spu_bench.dealer.recording import Recording
from spu_bench.dealer.requests import Operand, Request
from spu_bench.dealer.sm2 import DecryptionError, KeyPair
from spu_bench.dealer.streams import SEED, Stream
from spu_bench.errors import SpuBenchError

Rule = Literal["request", "seeds", "session", "overlap", "replay", "program", "size", "rate"]
_Key = TypeVar("_Key")
_Factor = tuple[int, int, int, bool]  # start, length, size of an element, whether of the prime field
_FACTORS = {"Mul": 2, "Square": 1, "Dot": 2}  # operands that SPU may draw again
_KEPT_REQUESTS = 1 << 14
_KEPT_RANGES = 1 << 15


class Refusal(SpuBenchError):
    """A request that the dealer does not answer, with the rule that it breaks."""

    def __init__(self, rule: Rule, problem: str, fix: str, *, decryption: bool = False) -> None:
        super().__init__(f"The dealer refuses a request (rule: {rule}): {problem}.", fix, "bad_input")
        self.rule = rule
        self.decryption = decryption


@dataclass(frozen=True)
class Limits:
    """Bounds of one session. answer_bytes and products (m * n * k of a matrix product) bound one request."""

    answer_bytes: int = 1 << 28
    products: int = 1 << 40
    session_bytes: int = 1 << 50
    requests_per_second: int = 20_000
    stream_sets: int = 1
    """How often the parties may register seeds. SPU registers a second set where it works on operations in parallel."""


@dataclass
class StreamSet:
    """The parties' seeds of one session, and what was drawn of them."""

    encrypted: tuple[bytes, ...]
    seeds: tuple[bytes, ...] = field(repr=False)
    own: bytes = field(repr=False, default_factory=lambda: secrets.token_bytes(SEED))
    cursor: int = 0
    places: tuple[Place, ...] = ()
    factors: OrderedDict[_Factor, None] = field(default_factory=OrderedDict)
    answered: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def answerer(self) -> Answerer:
        """A fresh answerer for one thread."""
        return Answerer([Stream(seed) for seed in self.seeds], Stream(self.own))


@dataclass(frozen=True)
class Admitted:
    """A request that may be answered: from which seeds, and whose stream permutes."""

    request: Request
    streams: StreamSet
    owner: int | None
    retry: bool


class Guard:
    """Admits requests of one session, under one key. Safe to use from several threads."""

    def __init__(
        self,
        world_size: int,
        key: KeyPair,
        limits: Limits,
        *,
        programs: Sequence[Recording] = (),
        kept_draws: int = 0,
    ) -> None:
        self.world_size = world_size
        self._programs = programs
        self._key = key
        self._limits = limits
        self._sets: dict[tuple[bytes, ...], StreamSet] = {}
        self._lock = threading.Lock()
        self._tokens, self._refilled = float(limits.requests_per_second), time.monotonic()
        self._bytes = 0
        self.draws: deque[Draw] = deque(maxlen=kept_draws)
        """The last requests, the refused ones too."""
        self.requests = 0
        self.refused = 0

    def admit(self, request: Request) -> Admitted:
        """Register what `request` draws. Raises Refusal where it breaks a rule; then no range is registered."""
        with self._lock:
            self._rate()
            return self._admit(request)

    def reserve(self, requests: Sequence[Request]) -> Iterator[Admitted]:
        """Register what all of `requests` draw, or none: raises Refusal before the first one is given."""
        kept = max(_KEPT_REQUESTS, 2 * len(requests))  # a retry of one that was answered ahead may come late
        with self._lock:
            found = self.registered()
            before = (found.cursor, found.places, found.factors.copy(), found.answered.copy(), self._bytes)
            try:
                admitted = [self._admit(request, kept=kept) for request in requests]
            except Refusal:
                found.cursor, found.places, found.factors, found.answered, self._bytes = before
                raise
        return iter(admitted)

    def registered(self) -> StreamSet:
        """The seeds of the session. Raises Refusal before the parties' first request."""
        if len(self._sets) != 1:
            raise Refusal(
                "session",
                "answers can be prepared only for one registered set of seeds",
                "let the parties compute something small first, so that their seeds are known.",
            )
        return next(iter(self._sets.values()))

    def _admit(self, request: Request, *, kept: int = _KEPT_REQUESTS) -> Admitted:
        self.requests += 1
        try:
            self._size(request)
            streams = self._streams(request)
            owner = self._owner(request, streams)
            digest = request.digest()
            if digest in streams.answered:
                self.draws.append(Draw(request.method, _ranges(request, (), owner, self.world_size), retry=True))
                return Admitted(request, streams, owner, retry=True)
            if self._bytes + request.answer_bytes > self._limits.session_bytes:
                raise Refusal("size", "the session has drawn all that it may", "start a new session.")
            cursor, replayed = self._place(request, streams)
            places = self._follow(request, streams)
        except Refusal as refusal:
            self.refused += 1
            ranges = _ranges(request, (), None, self.world_size)
            self.draws.append(Draw(request.method, ranges, refused=refusal.rule))
            raise
        self.draws.append(Draw(request.method, _ranges(request, replayed, owner, self.world_size)))
        streams.cursor, streams.places = cursor, places
        self._bytes += request.answer_bytes
        for index, operand in enumerate(request.operands[: _FACTORS.get(request.method, 0)]):
            if index not in replayed:
                _keep(streams.factors, _factor(request, operand), _KEPT_RANGES)
        _keep(streams.answered, digest, kept)
        return Admitted(request, streams, owner, retry=False)

    def _rate(self) -> None:
        now, rate = time.monotonic(), self._limits.requests_per_second
        self._tokens = min(float(rate), self._tokens + (now - self._refilled) * rate)
        self._refilled = now
        if self._tokens < 1:
            raise Refusal("rate", f"more than {rate} requests a second", "raise Limits.requests_per_second.")
        self._tokens -= 1

    def _size(self, request: Request) -> None:
        limits = self._limits
        largest = max(operand.length for operand in request.operands)
        if largest > limits.answer_bytes or request.m * request.n * request.k > limits.products:
            raise Refusal("size", f"{request.method} over {largest} bytes is too large", "raise Limits.answer_bytes.")

    def _streams(self, request: Request) -> StreamSet:
        seeds = request.operands[0].seeds
        if any(operand.seeds != seeds for operand in request.operands):
            raise Refusal("seeds", "the operands name different seeds", _HONEST)
        found = self._sets.get(seeds)
        return found or self._register(seeds)

    def _register(self, encrypted: tuple[bytes, ...]) -> StreamSet:
        if len(encrypted) != self.world_size or len(set(encrypted)) != self.world_size:
            raise Refusal("seeds", f"an operand requires {self.world_size} different seeds, one a party", _HONEST)
        if len(self._sets) >= self._limits.stream_sets:
            raise Refusal(
                "session", "the key already serves other seeds", "give every session a key of its own (Dealer.renew)."
            )
        try:
            seeds = tuple(self._key.decrypt(seed) for seed in encrypted)
        except DecryptionError as error:
            raise Refusal("seeds", str(error), "give all parties this session's public key.", decryption=True) from None
        known = {seed for streams in self._sets.values() for seed in streams.seeds}
        if any(len(seed) != SEED for seed in seeds) or len(set(seeds) - known) != self.world_size:
            raise Refusal("seeds", "two parties have one seed, or a seed has not 16 bytes", _HONEST)
        made = self._sets[encrypted] = StreamSet(encrypted, seeds, places=beginning(self._programs))
        return made

    def _owner(self, request: Request, streams: StreamSet) -> int | None:
        if request.permutation is None:
            return None
        if request.permutation.seed not in streams.encrypted:
            raise Refusal("seeds", "the permutation is of a seed that is not registered", _HONEST)
        return streams.encrypted.index(request.permutation.seed)

    def _place(self, request: Request, streams: StreamSet) -> tuple[int, tuple[int, ...]]:
        """Where the counter stands after `request`, and which of its operands are drawn again."""
        cursor, replayed = streams.cursor, []
        for index, operand in enumerate(request.operands):
            if operand.start >= cursor and not operand.transpose:
                cursor = operand.end
                continue
            self._replay(request, index, operand, streams)
            replayed.append(index)
        if (permutation := request.permutation) is not None:
            if permutation.start < cursor:
                raise Refusal("overlap", "a permutation over a range that was drawn", _OVERLAP)
            cursor = permutation.end
        return cursor, tuple(replayed)

    def _follow(self, request: Request, streams: StreamSet) -> tuple[Place, ...]:
        if not self._programs:
            return ()
        places = follow(self._programs, streams.places, request, streams.cursor, streams.encrypted)
        if not places:
            raise Refusal(
                "program",
                f"{request.method} at counter {request.start} is not what the session's Programs ask for",
                "run only the Programs that were given to the dealer.",
            )
        return places

    def _replay(self, request: Request, index: int, operand: Operand, streams: StreamSet) -> None:
        """Raise Refusal unless the operand is a factor that an earlier request drew over exactly this range."""
        where = f"operand {index + 1} of {request.method} (counter {operand.start}, next free {streams.cursor})"
        if index >= _FACTORS.get(request.method, 0):
            raise Refusal("overlap", f"{where} uses a range of the streams again", _OVERLAP)
        if _factor(request, operand) not in streams.factors:
            raise Refusal("replay", f"{where} is not a factor that was drawn before", _OVERLAP)


_HONEST = "run the parties with unmodified SPU and one dealer key; if they are, a party is not honest."
_OVERLAP = "export the Program without cached operands (weights opened once): SPU 0.9.5 leaks them."


def _factor(request: Request, operand: Operand) -> _Factor:
    return operand.start, operand.length, request.field_size, request.gfmp


def _keep(known: OrderedDict[_Key, None], value: _Key, most: int) -> None:
    """Add a value; beyond `most` the oldest are forgotten."""
    known[value] = None
    while len(known) > most:
        known.popitem(last=False)


def _ranges(request: Request, replayed: Sequence[int], owner: int | None, world_size: int) -> tuple[DrawnRange, ...]:
    everyone = tuple(range(world_size))
    made = [DrawnRange(everyone, o.start, o.end, i in replayed) for i, o in enumerate(request.operands)]
    if (permutation := request.permutation) is not None and owner is not None:
        made.append(replace(made[0], parties=(owner,), start=permutation.start, end=permutation.end, replay=False))
    return tuple(made)
